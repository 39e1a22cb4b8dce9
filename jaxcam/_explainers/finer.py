"""Finer-CAM: Grad-CAM of what sets a class apart from those most like it."""

import jax

from jaxcam._explainers.formulas import check_relu, grad_cam_map
from jaxcam._ground.errors import ArgumentError
from jaxcam._program.grids import Layout
from jaxcam._program.layers import Forward, Layer
from jaxcam._program.question import ask, gradients, mapped
from jaxcam._program.signature import Explanation, explainer
from jaxcam.targets import Targets
from jaxcam.targets import finer as contrast


@explainer
def finer_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    count: int = 3,
    strength: float = 1.0,
    weighting: str = "probability",
    relu: str | None = "sum",
    has_aux: bool = False,
) -> Explanation:
    """Finer-CAM: Grad-CAM of Y = sum_d w_d (z_c - strength z_d), d the classes most like c.

    Any other explainer does the same with `targets=jaxcam.targets.finer(classes)`. Costs as
    Grad-CAM.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, of at least two classes.
        images: as in `grad_cam`.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints.
        layer: as in `grad_cam`.
        layout: as in `grad_cam`.
        count: how many classes c is set against, those whose logits are nearest to its own.
        strength: alpha, of the other classes' share: 0 is Grad-CAM.
        weighting: "probability" or "mean", as in `jaxcam.targets.finer`.
        relu: as in `grad_cam`; the paper's is "sum".
        has_aux: as in `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: bad input, as in `explain` and `jaxcam.targets.finer`; targets that are a
            function: it has no class to set against others.

    References:
        Zhang et al., Finer-CAM, CVPR 2025; github.com/Imageomics/Finer-CAM.

    Example:
        >>> peaks(jaxcam.finer_cam(forward, images, count=1))
        [(0, 2), (2, 1)]
    """
    check_relu(relu)
    if callable(targets):
        raise ArgumentError("targets", "a function", "classes: it is they that are set apart")
    question = ask(forward, images, targets, layer=layer, layout=layout, has_aux=has_aux)
    options = {"count": count, "strength": strength, "weighting": weighting}
    score = contrast(question.within, **options)
    _, acts, grads, aux = gradients(question, score=score)
    formula = lambda a, g: grad_cam_map(a, g, relu)
    maps = {}
    for name in question.names:
        maps[name] = mapped(question, formula, name, acts, grads)
    return question.answer(maps, aux)
