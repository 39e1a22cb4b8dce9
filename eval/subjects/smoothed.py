"""Grad-CAM smoothed, fused and by concepts: what the library does to any method, as methods.

Each is `(forward, images, targets, *, layer) -> maps`, layer a list of names, maps a dict by name;
those of several layers at once are of the whole network. What they are made of is made when they
are called: keys of randomness are computations, before which processes have to have joined.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

import jaxcam
from jaxcam._explainers.fusion import stages
from jaxcam.methods import Method

Maps = dict[str, jax.Array]


def smooth_grad(
    forward: Callable, images: jax.Array, targets: jax.Array, *, samples: int = 25
) -> jax.Array:
    """SmoothGrad, `jaxcam.smooth` of the gradient."""
    return jaxcam.smooth(jaxcam.gradient, samples=samples)(forward, images, targets)


def smooth(
    forward: Callable,
    images: jax.Array,
    targets: jax.Array,
    *,
    layer: Sequence[str],
    samples: int = 25,
    sigma: float = 0.15,
) -> Maps:
    """`jaxcam.smooth` of Grad-CAM: its mean over noise."""
    made = jaxcam.smooth(jaxcam.grad_cam, samples=samples, sigma=sigma)
    return made(forward, images, targets, layer=layer)


def aug_smooth(
    forward: Callable, images: jax.Array, targets: jax.Array, *, layer: Sequence[str]
) -> Maps:
    """`jaxcam.aug_smooth` of Grad-CAM: its mean over flips and factors."""
    return jaxcam.aug_smooth(jaxcam.grad_cam)(forward, images, targets, layer=layer)


def eigen_smooth(
    forward: Callable, images: jax.Array, targets: jax.Array, *, layer: Sequence[str]
) -> Maps:
    """`jaxcam.eigen_smooth` of Grad-CAM: the first component of its terms."""
    return jaxcam.eigen_smooth(jaxcam.grad_cam)(forward, images, targets, layer=layer)


def fused(
    forward: Callable,
    images: jax.Array,
    targets: jax.Array,
    *,
    how: str = "mean",
    layers: Sequence[str] = (),
) -> jax.Array:
    """`jaxcam.fuse` of Grad-CAM's maps.

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`.
        targets: as in `grad_cam`.
        how: as in `fuse`.
        layers: names; none: the last of each size that everything passes through, as RefineCAM
            has them.
    """
    names = list(layers) or stages(forward, images)
    found = jaxcam.grad_cam(forward, images, targets, layer=names)
    return jaxcam.fuse(found, images.shape[1:-1], how=how)


def concept(
    forward: Callable,
    images: jax.Array,
    targets: jax.Array,
    *,
    layer: Sequence[str],
    components: int = 5,
) -> Maps:
    """The mask of the photo's concept that the network, seeing it alone, scores highest.

    Each photo is factorised by itself (`jaxcam.deep_feature_factorization`), so that its map does
    not depend on the others of its batch. What the network says of a concept is its score of the
    class where every position of the layer has that concept's activations.
    """
    found = {}
    for name in layer:
        one = lambda image, target, name=name: _mask(forward, image, target, name, components)
        found[name] = jax.vmap(one)(images, targets)
    return found


def _mask(
    forward: Callable, image: jax.Array, target: jax.Array, layer: str, components: int
) -> jax.Array:
    """Of one image `[H, W, C]`, `[h, w]`."""
    images = jnp.broadcast_to(image[None], (components, *image.shape))
    factors = jaxcam.deep_feature_factorization(
        forward, images[:1], layer=layer, components=components
    )
    tapped = jaxcam.tap(forward, layer)
    _, activations = tapped(images)
    shape = (components, *[1] * (activations.ndim - 2), activations.shape[-1])
    logits, _ = tapped(images, factors.concepts.reshape(shape) - activations)
    return factors.masks[0, logits[:, target].argmax()]


ROWS = {
    "smooth_grad": Method(
        "SmoothGrad", smooth_grad, "gradients averaged over noisy photos", layered=False
    ),
    "grad_cam_smooth": Method(
        "Grad-CAM, smooth", smooth, "averaged over noisy photos, as SmoothGrad"
    ),
    "grad_cam_aug_smooth": Method(
        "Grad-CAM, aug_smooth", aug_smooth, "averaged over flips and contrasts"
    ),
    "grad_cam_eigen_smooth": Method(
        "Grad-CAM, eigen_smooth", eigen_smooth, "the first component of its terms; signed"
    ),
    "grad_cam_fused": Method(
        "Grad-CAM, fused", fused, "the mean of the last three stages'", layered=False
    ),
    "dff": Method("DFF, the class's concept", concept, "deep feature factorisation of each photo"),
}
