"""Class-activation maps from activations and gradients of one layer, one formula each.

Every explainer is the same line: its formula, given to `jaxcam.explain`. So each takes one or
several layers, one or several targets per image, and `has_aux`. Formulas are computed in float32,
whatever the model's dtype (float64 stays float64).
"""

from functools import partial

import jax

from jaxcam._explainers import formulas
from jaxcam._explainers.formulas import PLUS_PLUS, check_relu
from jaxcam._explainers.heads import check_pooled_linear
from jaxcam._ground.errors import check_choice
from jaxcam._program.grids import Layout
from jaxcam._program.layers import Forward, Layer
from jaxcam._program.question import ask, by_formula, explain
from jaxcam._program.signature import Explanation, explainer
from jaxcam.targets import Targets


@explainer
def cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    relu: str | None = None,
    has_aux: bool = False,
) -> Explanation:
    """Class activation mapping: L_ij = sum_k W_kc A_ijk, signed.

    W is the weight matrix of the linear head above a global average pool; its bias does not enter.
    W is found from the program: above such a layer dY/dA_ijk is W_kc / (h w) at every position.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, in which nothing but a global average
            pool and linear maps lies above the layer.
        images: `[B, H, W, C]`, or with one or three spatial axes.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints, or a linear function of the logits.
        layer: a name, several, or None for the default layer.
        layout: as in `grad_cam`.
        relu: None (the paper, signed), "sum" or "channel", as in `grad_cam`.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Raw maps `[B, h, w]` float32, `[B, K, h, w]` for K targets per image; a dict of them for
        several layers.

    Raises:
        ValueError: something else than a pooled linear head lies above the layer (the message names
            the first such operation); or bad input, as in `explain`.

    References:
        Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, eq. 2.

    Example:
        >>> maps = jaxcam.cam(forward, images)
        >>> peaks(maps)
        [(0, 2), (2, 1)]
        >>> print(maps.mean((1, 2)), forward(images).max(1))  # the logit is the map's mean
        [1.58 1.75] [1.58 1.75]
    """
    check_relu(relu)
    question = ask(forward, images, targets, layer=layer, layout=layout, has_aux=has_aux)
    check_pooled_linear(question)
    return by_formula(question, partial(formulas.cam_map, relu=relu))


@explainer
def grad_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    relu: str | None = "sum",
    has_aux: bool = False,
) -> Explanation:
    """Grad-CAM: L = ReLU(sum_k alpha_k A_k), alpha_k = 1/(h w) sum_ij dY/dA_ijk.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, parameters closed over; any output if
            `targets` is a function of it.
        images: `[B, H, W, C]`, or with one or three spatial axes.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints, or a function of what `forward`
            returns -> scores `[B]`.
        layer: a name, several, or None for the default layer (`jaxcam.layers`).
        layout: what the layers' axes are, where the program does not say: "channels_last",
            "channels_first", `(h, w)` of tokens `[B, T, c]`, or `jaxcam.Tokens`.
        relu: "sum" (the paper), "channel" (ReLU before the sum over channels, as Relevance-CAM's
            code did for its Grad-CAM baseline), None (signed), or "eigen" (`eigen_smooth`).
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Raw maps `[B, h, w]` float32, `[B, K, h, w]` for K targets per image; a dict of them for
        several layers.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `relu`.

    References:
        Selvaraju et al., Grad-CAM, ICCV 2017, eq. 1 and 2.

    Example:
        >>> maps = jaxcam.grad_cam(forward, images)
        >>> maps.shape, peaks(maps)
        ((2, 4, 4), [(0, 2), (2, 1)])
        >>> pair = jaxcam.grad_cam(forward, images, [[0, 1], [0, 1]])  # two classes of each image
        >>> pair.shape
        (2, 2, 4, 4)
    """
    check_relu(relu)
    formula = partial(formulas.grad_cam_map, relu=relu)
    options = {"layer": layer, "layout": layout, "has_aux": has_aux}
    return explain(formula, forward, images, targets, **options)


@explainer
def grad_cam_plus_plus(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    variant: str = "paper",
    relu: str | None = "sum",
    has_aux: bool = False,
) -> Explanation:
    """Grad-CAM++: L = ReLU(sum_k w_k A_k), w_k = sum_ij G^2 / (2 G^2 + (sum A) G^3) ReLU(G).

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`.
        targets: as in `grad_cam`.
        layer: as in `grad_cam`.
        layout: as in `grad_cam`.
        variant: "paper" (eq. 19); "official" (the authors' code: alpha normalised over positive
            positions); "rcam" (the Relevance-CAM code: sum_ab A G^3 in the denominator, which is
            not eq. 19 and can explode); "jacobgil" (pytorch-grad-cam: 1e-6 in the denominator);
            "xplique" (mean of A, mean over positions); "torchcam" (its division is done on a copy
            and lost: w_k = sum_ij ReLU(G)^3, of degree 3 in G, so that gradients below 1e-12
            vanish and above 1e12 overflow in float32, there as here).
        relu: as in `grad_cam`; the paper's is "sum".
        has_aux: as in `grad_cam`.

    Returns:
        As `grad_cam`. The paper's factor exp(S) is left out (see `grad_cam_plus_plus_weights`).

    Raises:
        ValueError: bad input, as in `explain`; an unknown `variant` or `relu`.

    References:
        Chattopadhay et al., Grad-CAM++, WACV 2018, eq. 5, 19 and 20.

    Example:
        >>> peaks(jaxcam.grad_cam_plus_plus(forward, images))
        [(0, 2), (2, 1)]
    """
    check_choice("variant", variant, PLUS_PLUS)
    check_relu(relu)
    formula = partial(formulas.grad_cam_plus_plus_map, variant=variant, relu=relu)
    options = {"layer": layer, "layout": layout, "has_aux": has_aux}
    return explain(formula, forward, images, targets, **options)


@explainer
def hires_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    relu: str | None = None,
    has_aux: bool = False,
) -> Explanation:
    """HiResCAM: L = sum_k G_k * A_k, elementwise and signed; `relu="sum"` rectifies it.

    Args, Returns and Raises as `grad_cam`.

    References:
        Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations, 2020, eq. 5.

    Example:
        >>> maps = jaxcam.hires_cam(forward, images, layer=["colours", "features"])
        >>> {name: each.shape for name, each in maps.items()}
        {'colours': (2, 8, 8), 'features': (2, 4, 4)}
    """
    check_relu(relu)
    formula = partial(formulas.hires_cam_map, relu=relu)
    options = {"layer": layer, "layout": layout, "has_aux": has_aux}
    return explain(formula, forward, images, targets, **options)


@explainer
def xgrad_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    relu: str | None = "sum",
    has_aux: bool = False,
) -> Explanation:
    """XGrad-CAM: L = ReLU(sum_k alpha_k A_k), alpha_k = sum_ij A G / sum_ij A.

    Args, Returns and Raises as `grad_cam`.

    References:
        Fu et al., Axiom-based Grad-CAM, BMVC 2020, eq. 9.

    Example:
        >>> peaks(jaxcam.xgrad_cam(forward, images))
        [(0, 2), (2, 1)]
    """
    check_relu(relu)
    formula = partial(formulas.xgrad_cam_map, relu=relu)
    options = {"layer": layer, "layout": layout, "has_aux": has_aux}
    return explain(formula, forward, images, targets, **options)


@explainer
def layer_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    relu: str | None = "sum",
    has_aux: bool = False,
) -> Explanation:
    """LayerCAM: L = ReLU(sum_k ReLU(G_k) * A_k), elementwise.

    Args, Returns and Raises as `grad_cam`.

    References:
        Jiang et al., LayerCAM, IEEE TIP 2021, eq. 7 and 8.

    Example:
        >>> peaks(jaxcam.layer_cam(forward, images, layer="colours"))
        [(1, 5), (5, 3)]
    """
    check_relu(relu)
    formula = partial(formulas.layer_cam_map, relu=relu)
    options = {"layer": layer, "layout": layout, "has_aux": has_aux}
    return explain(formula, forward, images, targets, **options)


@explainer
def eigen_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    center: bool = False,
    relu: str | None = None,
    has_aux: bool = False,
) -> Explanation:
    """Eigen-CAM: L = A v, v the first right singular vector of A; it knows no class.

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`.
        targets: checked as in `grad_cam`; the map does not depend on them.
        layer: as in `grad_cam`.
        layout: as in `grad_cam`.
        center: subtract each channel's mean over positions first (pytorch-grad-cam).
        relu: None (the paper, signed), "sum" or "channel", as in `grad_cam`.
        has_aux: as in `grad_cam`.

    Returns:
        As `grad_cam`, signed; the sign is fixed by sum_ij L_ij mean_k A_ijk >= 0.

    Raises:
        ValueError: bad input, as in `explain`.

    References:
        Muhammad and Yeasin, Eigen-CAM, IJCNN 2020, eq. 4 and 5.

    Example:
        >>> peaks(jaxcam.eigen_cam(forward, images))
        [(0, 2), (2, 1)]
    """
    check_relu(relu, terms=False)

    def formula(activations: jax.Array, gradients: jax.Array) -> jax.Array:
        del gradients
        return formulas.eigen_cam_map(activations, center, relu)

    options = {"layer": layer, "layout": layout, "has_aux": has_aux}
    return explain(formula, forward, images, targets, **options)


@explainer
def eigen_grad_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    center: bool = False,
    relu: str | None = None,
    has_aux: bool = False,
) -> Explanation:
    """Eigen-CAM of G * A, elementwise, which makes it class-specific (as in pytorch-grad-cam).

    Args, Returns and Raises as `eigen_cam`.

    Example:
        >>> peaks(jaxcam.eigen_grad_cam(forward, images, targets=[0, 1]))
        [(0, 2), (2, 1)]
    """
    check_relu(relu, terms=False)
    formula = partial(formulas.eigen_grad_cam_map, center=center, relu=relu)
    options = {"layer": layer, "layout": layout, "has_aux": has_aux}
    return explain(formula, forward, images, targets, **options)
