"""Any method smoothed: over noise, over flips and contrasts, or by its first component.

Each takes a method, `(forward, images, targets, ...) -> maps`, and returns one.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam import loops
from jaxcam._explainers.formulas import EIGEN
from jaxcam._ground.dtypes import at_least_float32, cast_like, floating
from jaxcam._ground.errors import (
    ArgumentError,
    check_at_least,
    check_choice,
    check_flag,
    check_whole,
)
from jaxcam._ground.randomness import check_key
from jaxcam._program.checks import check_images, check_output, check_planar
from jaxcam._program.question import traced
from jaxcam._program.signature import Explainer, explainer
from jaxcam.targets import Targets, resolve

# Of the maps [n, ...] of n noisy images.
STATISTICS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "mean": lambda maps: maps.mean(0),
    "square": lambda maps: (maps**2).mean(0),
    "variance": lambda maps: maps.var(0),
}


def smooth(
    method: Callable,
    *,
    samples: int = 25,
    sigma: float = 0.15,
    statistic: str = "mean",
    key: jax.Array | None = None,
) -> Explainer:
    """SmoothGrad of any method: L = 1/n sum_i M(x + sigma (max x - min x) e_i), e_i ~ N(0, 1).

    The class is that of the images without noise. All images share the noise, so that a map does
    not depend on what else is in the batch. Costs n times the method.

    Args:
        method: an explainer, such as `jaxcam.gradient` (SmoothGrad itself).
        samples: n, at least 1.
        sigma: standard deviation of the noise, as a share of each image's range.
        statistic: of the maps: "mean", "square" (SmoothGrad-Squared, of M^2; of every value, summed
            over colours, with `gradient(reduction="norm")`) or "variance" (VarGrad).
        key: of the noise; None is `jax.random.key(0)`.

    Returns:
        An explainer, with the method's arguments and answers.

    Raises:
        ValueError: an unknown `statistic`, less than 1 sample or a negative `sigma`; when called,
            as the method.

    References:
        Smilkov et al., SmoothGrad, 2017, section 3; Hooker et al., ROAR, NeurIPS 2019 (squared);
        Adebayo et al., Local explanation methods for deep neural networks lack sensitivity to
        parameter values, 2018 (variance).

    Example:
        >>> smoothed = jaxcam.smooth(jaxcam.grad_cam, samples=2)
        >>> peaks(smoothed(forward, images))
        [(0, 2), (2, 1)]
    """
    check_whole("samples", samples, 1)
    check_at_least("sigma", sigma, 0)
    check_choice("statistic", statistic, STATISTICS)
    keys = jax.random.split(check_key(key), samples)

    def versions(images: jax.Array) -> Callable:
        return lambda index: noisy(images, keys[index], sigma)

    def summed(maps: jax.Array) -> jax.Array:
        return STATISTICS[statistic](maps)

    return _over(method, versions, samples, summed)


def noisy(images: jax.Array, key: jax.Array, sigma: float) -> jax.Array:
    """Returns x + sigma (max x - min x) e, e the same for all images `[B, *spatial, C]`."""
    wide = at_least_float32(images)
    axes = tuple(range(1, wide.ndim))
    spread = wide.max(axes, keepdims=True) - wide.min(axes, keepdims=True)
    noise = jax.random.normal(key, wide.shape[1:], wide.dtype)[None]
    return cast_like(wide + sigma * spread * noise, images)


def aug_smooth(
    method: Callable, *, flip: bool = True, factors: Sequence[float] = (0.9, 1.0, 1.1)
) -> Explainer:
    """Test-time augmentation of any method: L = the mean of M(T x) turned back, over all T.

    T multiplies the images as the model gets them by each factor, as they are and flipped left to
    right. The class is that of the images as they are. Costs 6 times the method by default.
    pytorch-grad-cam averages normalised heatmaps where this averages raw maps.

    Args:
        method: an explainer.
        flip: whether flipped images are among the versions.
        factors: what images are multiplied by, at least one.

    Returns:
        An explainer of `[B, H, W, C]` (of any images without `flip`), with the method's arguments
        and answers.

    Raises:
        ValueError: no factors; when called, as the method.

    References:
        github.com/jacobgil/pytorch-grad-cam, `aug_smooth=True`.

    Example:
        >>> smoothed = jaxcam.aug_smooth(jaxcam.grad_cam, factors=(1.0,))
        >>> maps = smoothed(forward, images, layer="features")
        >>> maps.shape
        (2, 4, 4)
    """
    scales = tuple(map(float, factors))
    if not scales:
        raise ArgumentError("factors", "none", "at least one number")
    check_flag("flip", flip)
    turns = 1 + bool(flip)

    def versions(images: jax.Array) -> Callable:
        shown_as = [images]
        if flip:
            check_planar(images)
            shown_as.append(images[:, :, ::-1])
        both = jnp.stack(shown_as)

        def version(index: jax.Array) -> jax.Array:
            shown = at_least_float32(both[index % turns])
            return cast_like(shown * jnp.asarray(scales, shown.dtype)[index // turns], images)

        return version

    def averaged(maps: jax.Array) -> jax.Array:
        if not flip:
            return maps.mean(0)
        return (maps[::2].mean(0) + maps[1::2, ..., ::-1].mean(0)) / 2

    return _over(method, versions, turns * len(scales), averaged)


def eigen_smooth(method: Callable) -> Explainer:
    """The first principal component of a method's terms w_k A_k, in place of their sum.

    The terms are centred over positions; the component's sign is that for which sum_ij L_ij
    mean_k (w_k A_k)_ij >= 0. Costs a singular value decomposition more than the method.

    Args:
        method: a class-activation map, that is an explainer which takes `relu`.

    Returns:
        An explainer, with the method's arguments (but `relu`) and answers; signed.

    Raises:
        ValueError: the method takes no `relu`; when called, as the method; its map is no sum of
            terms, as Eigen-CAM's.

    References:
        github.com/jacobgil/pytorch-grad-cam, `eigen_smooth=True`; Muhammad and Yeasin, Eigen-CAM,
        IJCNN 2020.

    Example:
        >>> maps = jaxcam.eigen_smooth(jaxcam.grad_cam)(forward, images)
        >>> peaks(maps)
        [(0, 2), (2, 1)]
    """
    name = getattr(method, "__name__", repr(method))
    if "relu" not in inspect.signature(method).parameters:
        raise ArgumentError("method", name, "a class-activation map, which takes relu")

    def smoothed(
        forward: Callable, images: jax.Array, targets: Targets = None, **options: Any
    ) -> Any:
        if "relu" in options:
            raise ArgumentError("relu", repr(options["relu"]), "none with eigen_smooth")
        return method(forward, images, targets, relu=EIGEN, **options)

    return explainer(smoothed)


def _over(method: Callable, versions: Callable, count: int, summed: Callable) -> Explainer:
    """A method of `count` versions of the images, its maps summed up.

    Args:
        method: an explainer.
        versions: images -> (index -> a version of them).
        count: how many versions.
        summed: maps `[count, ...]` -> maps.
    """

    def smoothed(
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        has_aux: bool = False,
        **options: Any,
    ) -> Any:
        check_images(images)
        images = floating(images)
        chosen, aux = as_they_are(forward, images, targets, has_aux)
        plain = forward
        if has_aux:
            plain = lambda x: forward(x)[0]
        version = versions(images)
        one = lambda index: method(plain, version(index), chosen, **options)
        maps = loops.map(one, jnp.arange(count))
        found = jax.tree.map(summed, maps)
        if has_aux:
            return found, aux
        return found

    return explainer(smoothed)


def as_they_are(
    forward: Callable, images: jax.Array, targets: Targets, has_aux: bool
) -> tuple[Any, Any]:
    """The targets, None resolved by the images as they are, and aux of these (or None)."""
    check_flag("has_aux", has_aux)
    if targets is not None and not has_aux:
        return targets, None
    program = traced(forward, images)
    check_output(program, len(images), has_aux, classes=targets is None)
    outputs = forward(images)
    aux = None
    if has_aux:
        outputs, aux = outputs
    if targets is None:
        return resolve(outputs), aux
    return targets, aux
