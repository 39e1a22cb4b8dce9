"""Meaningful perturbation: learns the smallest mask that takes the evidence from an image."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam import loops
from jaxcam._explainers.black_box import BlackBox, Progress, black_box
from jaxcam._explainers.masking import (
    MASK_VARIANTS,
    PENALTIES,
    UPSAMPLING,
    MaskVariant,
    centres,
    enlarge,
    magnify,
    make_baseline,
    penalties,
    perturb,
    smooth,
)
from jaxcam._ground.errors import ArgumentError, check_at_least, check_choice
from jaxcam._ground.randomness import check_key
from jaxcam._ground.units import unit
from jaxcam._program import eager
from jaxcam._program.signature import Explanation, one_answer
from jaxcam.targets import Activation, Targets

if TYPE_CHECKING:
    from optax import GradientTransformation

_STRIDE = 10  # steps between calls of `progress`, at most
_RADII = range(0, 175, 5)  # of the first circles, in pixels of images of 224
_CIRCLE_SIDE = 224
_CIRCLE_BLUR = 10.0
_CIRCLE_SCORE = 1e-2
_LARGE = 2.0**40  # a score whose gradients' squares may overflow


@one_answer(jax.Array)
def mask(
    forward: Callable,
    images: jax.Array,
    targets: Targets = None,
    *,
    variant: str | MaskVariant = "official",
    baseline: Any = None,
    key: jax.Array | None = None,
    activation: Activation = None,
    has_aux: bool = False,
    progress: Progress | None = None,
) -> Explanation:
    """MASK: S = 1 - m, m = argmin lambda_1 |1 - m|_1 + lambda_2 sum |grad m|^beta + y(Phi).

    Phi = m x + (1 - m) x_0. The mask m, of one cell for every 8 x 8 pixels, is optimised by Adam
    and clipped to [0, 1] after each step; y is the class probability, x_0 the baseline, in which
    there is no evidence. All images, and all their targets, are optimised at once in one compiled
    loop, each for itself. Costs a forward and a backward pass for each step, and in the official
    variant 36 forward passes to begin with.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, in JAX: its gradient is needed.
        images: `[B, H, W, C]`, or with one or three spatial axes, normalised as the model expects.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints (a mask for each), or a function of
            what `forward` returns -> y `[B]`, taken as it is.
        variant: "official", "jacobgil", or a `MaskVariant` of one's own, such as
            `MASK_VARIANTS["official"]._replace(steps=100)`. The prices are meant for probabilities
            and 28 x 28 cells: of small images "official" hides too much, and l1=1e-3 or more is
            better. To localise, its authors take l1=1e-3, beta=2 and as `targets` a function, the
            sum of the 5 highest probabilities.
        baseline: x_0: "blur" (a Gaussian of 10 pixels), "median" (of 11 x 11 pixels), "constant"
            (0, the mean colour of normalised images), "noise" (standard normal, new at every step),
            or a number, `[C]` or whole images; None for the variant's own.
        key: of jitter and noise, which all images share; None is `jax.random.key(0)`.
        activation: as in `jaxcam.rise`.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.
        progress: a function of (steps done, steps), called after every few steps from a Python loop
            over compiled ones, which then takes the place of the compiled one; the result is the
            same.

    Returns:
        S `[B, H, W]` float32 in [0, 1], `[B, K, H, W]` for K targets per image: 1 where the
        evidence had to be hidden.

    Raises:
        ValueError: bad images or targets, `forward` returns no `[B, N]`, an unknown variant or
            baseline, or `progress` inside a transformation.

    References:
        Fong and Vedaldi, Interpretable explanations of black boxes by meaningful perturbation, ICCV
        2017, eq. 3 to 5; github.com/ruthcfong/perturb_explanations;
        github.com/jacobgil/pytorch-explain-black-box.

    Example:
        >>> maps = jaxcam.mask(forward, images)
        >>> maps.shape
        (2, 8, 8)
    """
    rules = check_variant(variant)
    key = check_key(key)
    given = {"has_aux": has_aux, "progress": progress}
    images, box, aux = black_box(forward, images, targets, activation, **given)
    if baseline is None:
        baseline = rules.baseline
    batch, *size, _ = images.shape
    null = make_baseline(images, baseline)
    kinds = box.kinds
    if kinds:  # a copy of the batch for each target
        images = _copies(images, *kinds)
        if null is not None:
            null = _copies(null, *kinds)
    cells = optimize(box, images, null, rules, key, progress)
    saliency = jnp.clip(1 - enlarge(cells, tuple(size), rules), 0, 1)
    if kinds:
        saliency = jnp.moveaxis(saliency.reshape(*kinds, batch, *size), 0, 1)
    if has_aux:
        return saliency, aux
    return saliency


def _copies(images: jax.Array, count: int) -> jax.Array:
    """The batch so many times, one behind the other."""
    return jnp.tile(images, (count, *[1] * (images.ndim - 1)))


def check_variant(variant: str | MaskVariant) -> MaskVariant:
    """The rules of a variant by name, or given; raises a ValueError unless they can be followed."""
    if isinstance(variant, str):
        check_choice("variant", variant, MASK_VARIANTS)
        return MASK_VARIANTS[variant]
    if not isinstance(variant, MaskVariant):
        expected = f"one of {', '.join(map(repr, MASK_VARIANTS))} or a MaskVariant"
        raise ArgumentError("variant", repr(variant), expected)
    check_choice("variant.penalty", variant.penalty, PENALTIES)
    check_choice("variant.upsampling", variant.upsampling, UPSAMPLING)
    check_choice("variant.init", variant.init, START)
    for name, least in {"steps": 1, "cell": 1, "jitter": 0, "blur": 0, "noise": 0}.items():
        check_at_least(f"variant.{name}", getattr(variant, name), least)
    return variant


# Optimisation --------------------------------------------------------


def optimize(
    box: BlackBox,
    images: jax.Array,
    null: jax.Array | None,
    rules: MaskVariant,
    key: jax.Array,
    progress: Progress | None = None,
) -> jax.Array:
    """The masks m `[B, h, w]` after `rules.steps` steps of Adam, each clipped to [0, 1]."""
    for_start, for_steps = jax.random.split(key)
    keys = jax.random.split(for_steps, rules.steps)
    scene = (magnify(images, rules.jitter), null, _size_of_scores(box, images))
    if null is not None:
        scene = (scene[0], magnify(null, rules.jitter), scene[2])
    if progress is None:
        cells = START[rules.init](box, images, null, rules, for_start)
        return _descend(box, scene, (cells, _adam(rules).init(cells)), keys, rules)[0]

    # The classes are an argument: of the next photo's the program is the same.
    @eager.held
    def start(classes: Any, images: Any, null: Any, key: jax.Array) -> jax.Array:
        return START[rules.init](_asking(box, classes), images, null, rules, key)

    @eager.held
    def descend(classes: Any, scene: tuple, carry: tuple, keys: jax.Array) -> tuple:
        return _descend(_asking(box, classes), scene, carry, keys, rules)

    classes = None
    if not callable(box.targets):
        classes = box.targets
    cells = start(classes, images, null, for_start)
    carry = (cells, _adam(rules).init(cells))
    stride = _stride(rules.steps)
    for done in range(0, rules.steps, stride):
        carry = descend(classes, scene, carry, keys[done : done + stride])
        progress(done + stride, rules.steps)
    return carry[0]


def _stride(steps: int) -> int:
    """How many steps are compiled as one program: a divisor, so that all strides are equal."""
    stride = min(_STRIDE, steps)
    while steps % stride:
        stride -= 1
    return stride


def _descend(
    box: BlackBox, scene: tuple, carry: tuple, keys: jax.Array, rules: MaskVariant
) -> tuple:
    """A step for each key; `carry` is the masks `[B, h, w]` and Adam's state."""
    images, null, size_of_scores = scene
    size = tuple(side - rules.jitter for side in images.shape[1:-1])

    def losses(cells: jax.Array, key: jax.Array) -> jax.Array:
        perturbed = perturb(images, null, enlarge(cells, size, rules), key, rules)
        return ((penalties(cells, rules) + _scores(box, perturbed)) / size_of_scores).sum()

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        cells, state = carry
        slope = jax.grad(losses)(cells, key)
        with jax.numpy_dtype_promotion("standard"):  # optax takes powers of floats to its count
            updates, state = _adam(rules).update(slope, state)
        return (jnp.clip(cells + cast(jax.Array, updates), 0, 1), state), None

    return loops.scan(step, carry, keys)[0]


def _scores(box: BlackBox, images: jax.Array) -> jax.Array:
    """The confidences `[K B]` of K copies of the batch, each in its own of K targets; or `[B]`.

    The model is asked about the batch as it came, copy by copy: it may close over something of the
    batch's size.
    """
    if not box.kinds:
        return box.scores(images[None])[0]
    (kinds,) = box.kinds
    return box.scores(images.reshape(kinds, -1, *images.shape[1:]), each=True).ravel()


def _size_of_scores(box: BlackBox, images: jax.Array) -> jax.Array:
    """In what unit `[B]` the loss of an image is, of which Adam takes the square.

    1 for probabilities, and as long as float32 holds the square; else the power of two next to the
    score, since Adam's steps do not know the loss's unit.
    """
    if not callable(box.targets) and box.activation in (None, "softmax", "sigmoid"):
        return jnp.ones(len(images))
    found = jax.lax.stop_gradient(_scores(box, images))
    return jnp.where(jnp.abs(found) < _LARGE, 1, unit(found[:, None], 1)[:, 0])


def _adam(rules: MaskVariant) -> "GradientTransformation":
    import optax  # takes long to import, and the other methods do without

    return optax.adam(rules.learning_rate)


def _asking(model: BlackBox, classes: jax.Array | None) -> BlackBox:
    if classes is None:
        return model
    return model._replace(targets=classes)


# Starting points -----------------------------------------------------


def _ones(
    box: BlackBox, images: jax.Array, null: jax.Array | None, rules: MaskVariant, key: jax.Array
) -> jax.Array:
    del box, null, key
    batch, *size, _ = images.shape
    return jnp.ones((batch, *(len(centres(side, rules.cell)) for side in size)))


def _circle(
    box: BlackBox, images: jax.Array, null: jax.Array | None, rules: MaskVariant, key: jax.Array
) -> jax.Array:
    """The smallest of 35 smooth circles that leaves at most 1 % of what the largest takes away."""
    size = images.shape[1:-1]
    still = rules._replace(jitter=0, noise=0.0)
    radii = jnp.asarray(np.array(_RADII) * (min(size) / _CIRCLE_SIDE), jnp.float32)

    def ask(weights: jax.Array) -> jax.Array:
        weights = jnp.broadcast_to(weights, images.shape[:-1])
        return _scores(box, perturb(images, null, weights, key, still))

    scores = loops.map(lambda radius: ask(1 - circle(radius, size)), radii)
    least = scores[-1:]
    full = ask(jnp.ones(size))[None]
    enough = (scores - least) / (full - least) < _CIRCLE_SCORE
    first = jnp.where(enough.any(0), jnp.argmax(enough, 0), len(radii) - 1)
    cells = np.ix_(*(centres(side, rules.cell) for side in size))
    return jax.vmap(lambda i: _stretch(1 - circle(radii[i], size))[cells])(first)


START = {"ones": _ones, "circle": _circle}


def circle(radius: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """A centred disc of ones (an interval, a ball), smoothed, `[H, W]`."""
    lines = []
    for side in size:
        lines.append((jnp.arange(side, dtype=jnp.float32) - side // 2) ** 2)
    squared = functools.reduce(jnp.add, jnp.ix_(*lines))
    disc = (squared <= radius**2).astype(jnp.float32)
    return smooth(disc[None, ..., None], _CIRCLE_BLUR, "symmetric")[0, ..., 0]


def _stretch(weights: jax.Array) -> jax.Array:
    """Min-max scaled, as the official imresize does; 0 where it is constant but for rounding."""
    span = jnp.ptp(weights)
    return jnp.where(span > 1e-4, (weights - weights.min()) / jnp.where(span > 0, span, 1), 0)
