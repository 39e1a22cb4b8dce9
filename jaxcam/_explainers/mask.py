"""Meaningful perturbation: learns the smallest mask that takes the evidence from an image."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcam import loops
from jaxcam._explainers.black_box import BlackBox, Progress, black_box
from jaxcam._ground.dtypes import cast_like
from jaxcam.targets import Activation, Targets

_einsum = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


class MaskVariant(NamedTuple):
    """What the published codes differ in. Lengths are in pixels; change some with `_replace`."""

    steps: int
    learning_rate: float
    l1: float  # lambda_1, the price of hiding
    tv: float  # lambda_2, the price of an uneven mask
    beta: float
    # "sum": sums over the cells, of the gradient's length; "mean": means, of its components
    penalty: str
    cell: int  # pixels per cell of the mask and side
    upsampling: str  # "nearest", or "aligned": linear, corner cells onto corner pixels
    # sigma by which the upsampled mask is smoothed; the gradient passes as if it were not
    blur: float
    init: str  # "ones", or "circle": the smallest circle that takes the score
    baseline: str  # what a hidden pixel becomes, one of BASELINES
    jitter: int  # the images are magnified by so many pixels and shifted by fewer than that
    noise: float  # standard deviation of what is added to the perturbed images


MASK_VARIANTS = {
    "official": MaskVariant(
        steps=300, learning_rate=0.1, l1=1e-4, tv=1e-2, beta=3.0, penalty="sum", cell=8,
        upsampling="nearest", blur=5.0, init="circle", baseline="blur", jitter=4, noise=0.0,
    ),
    "jacobgil": MaskVariant(
        steps=500, learning_rate=0.1, l1=0.01, tv=0.2, beta=3.0, penalty="mean", cell=8,
        upsampling="aligned", blur=0.0, init="ones", baseline="median", jitter=0, noise=0.2,
    ),
}  # fmt: skip

_STRIDE = 10  # steps between calls of `progress`, at most
_BLUR, _MEDIAN = 10.0, 11  # sigma, and side of the window, of the baselines
_CIRCLES, _CIRCLE_SIDE, _CIRCLE_BLUR, _CIRCLE_SCORE = range(0, 175, 5), 224, 10.0, 1e-2


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
) -> Any:
    """MASK: S = 1 - m, m = argmin lambda_1 |1 - m|_1 + lambda_2 sum |grad m|^beta + y(Phi).

    Phi = m x + (1 - m) x_0. The mask m, of one cell for every 8 x 8 pixels, is optimised by Adam
    and clipped to [0, 1] after each step; y is the class probability, x_0 the baseline, in which
    there is no evidence. All images, and all their targets, are optimised at once in one compiled
    loop, each for itself. Costs a forward and a backward pass for each step, and in the official
    variant 36 forward passes to begin with.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, in JAX: its gradient is needed.
        images: `[B, H, W, C]`, normalised as the model expects.
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
    """
    rules = check_variant(variant)
    given = {"has_aux": has_aux, "progress": progress}
    images, box, aux = black_box(forward, images, targets, activation, **given)
    null = make_baseline(images, rules.baseline if baseline is None else baseline)
    batch, kinds = images.shape[0], box.kinds
    if kinds:  # a copy of each image for each of its targets
        images, null = (x if x is None else jnp.repeat(x, kinds[0], 0) for x in (images, null))
        box = box._replace(targets=box.targets.ravel())
    key = jax.random.key(0) if key is None else key
    # Not the one that `black_box` compiled: compiled functions are cached by the function they are
    # given.
    cells = optimize(box._replace(forward=forward), images, null, rules, key, progress)
    saliency = jnp.clip(1 - enlarge(cells, images.shape[1:3], rules), 0, 1)
    saliency = saliency.reshape(batch, *kinds, *saliency.shape[1:])
    if has_aux:
        return saliency, aux
    return saliency


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
    scene = tuple(magnify(x, rules.jitter) for x in (images, null))
    if progress is None:
        cells = START[rules.init](box, images, null, rules, for_start)
        return _descend(box, scene, (cells, _adam(rules).init(cells)), keys, rules)[0]
    classes, model = (
        (None, box) if callable(box.targets) else (box.targets, box._replace(targets=None))
    )
    cells = _compiled_start(model, rules, classes, images, null, for_start)
    carry = cells, _adam(rules).init(cells)
    stride = next(n for n in range(min(_STRIDE, rules.steps), 0, -1) if rules.steps % n == 0)
    for done in range(0, rules.steps, stride):
        carry = _compiled_descend(model, rules, classes, scene, carry, keys[done : done + stride])
        progress(done + stride, rules.steps)
    return carry[0]


def _descend(
    box: BlackBox, scene: tuple, carry: tuple, keys: jax.Array, rules: MaskVariant
) -> tuple:
    """A step for each key; `carry` is the masks `[B, h, w]` and Adam's state."""
    size = tuple(side - rules.jitter for side in scene[0].shape[1:3])

    def losses(cells: jax.Array, key: jax.Array) -> jax.Array:
        perturbed = perturb(*scene, enlarge(cells, size, rules), key, rules)
        return (penalties(cells, rules) + box.scores(perturbed[None])[0]).sum()

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        cells, state = carry
        updates, state = _adam(rules).update(jax.grad(losses)(cells, key), state)
        return (jnp.clip(optax.apply_updates(cells, updates), 0, 1), state), None

    return loops.scan(step, carry, keys)[0]


def _adam(rules: MaskVariant) -> optax.GradientTransformation:
    return optax.adam(rules.learning_rate)


# Compiled once for a model, whatever the images: `model` and `rules` are compared, classes and
# images are arguments.
@partial(jax.jit, static_argnums=(0, 1))
def _compiled_start(
    model: BlackBox,
    rules: MaskVariant,
    classes: jax.Array | None,
    images: jax.Array,
    null: jax.Array | None,
    key: jax.Array,
) -> jax.Array:
    box = model if classes is None else model._replace(targets=classes)
    return START[rules.init](box, images, null, rules, key)


@partial(jax.jit, static_argnums=(0, 1))
def _compiled_descend(
    model: BlackBox,
    rules: MaskVariant,
    classes: jax.Array | None,
    scene: tuple,
    carry: tuple,
    keys: jax.Array,
) -> tuple:
    box = model if classes is None else model._replace(targets=classes)
    return _descend(box, scene, carry, keys, rules)


def penalties(cells: jax.Array, rules: MaskVariant) -> jax.Array:
    """`[B, h, w]` -> `[B]`: lambda_1 |1 - m|_1 + lambda_2 sum |grad m|^beta, by differences."""
    # Not jnp.abs, whose gradient at 0 is 1: at m = 1 nothing is hidden, and the published codes
    # have 0.
    hidden = (1 - cells) * jax.lax.stop_gradient(jnp.sign(1 - cells))
    down, right = jnp.diff(cells, axis=1), jnp.diff(cells, axis=2)
    if rules.penalty == "mean":
        uneven = sum(_mean(_power(jnp.abs(d), rules.beta)) for d in (down, right))
        return rules.l1 * _mean(hidden) + rules.tv * uneven
    squared = jnp.pad(down**2, ((0, 0), (0, 1), (0, 0))) + jnp.pad(
        right**2, ((0, 0), (0, 0), (0, 1))
    )
    return rules.l1 * hidden.sum((1, 2)) + rules.tv * _power(squared, rules.beta / 2).sum((1, 2))


def perturb(
    images: jax.Array,
    null: jax.Array | None,
    weights: jax.Array,
    key: jax.Array,
    rules: MaskVariant,
) -> jax.Array:
    """Phi = m x + (1 - m) x_0, of shifted x and x_0, with noise.

    Weights m `[B, H, W]`, images larger by the jitter.
    """
    for_shift, for_null, for_noise = jax.random.split(key, 3)
    if null is None:
        null = jnp.broadcast_to(jax.random.normal(for_null, images.shape[1:]), images.shape)
    if rules.jitter:
        row, col = jax.random.randint(for_shift, (2,), 0, rules.jitter)
        crop = lambda x: jax.lax.dynamic_slice(x, (0, row, col, 0), (*weights.shape, x.shape[3]))
        images, null = crop(images), crop(null)
    mixed = weights[..., None] * images + (1 - weights[..., None]) * null
    if rules.noise:
        mixed = mixed + rules.noise * jax.random.normal(for_noise, mixed.shape[1:])
    return cast_like(mixed, images)


def _power(x: jax.Array, exponent: float) -> jax.Array:
    """Of x >= 0, with gradient 0 at 0 whatever the exponent."""
    return jnp.where(x > 0, jnp.where(x > 0, x, 1) ** exponent, 0)


def _mean(x: jax.Array) -> jax.Array:
    """Over the cells; 0 of none."""
    return x.sum((1, 2)) / max(x.shape[1] * x.shape[2], 1)


# Starting points -----------------------------------------------------


def _ones(
    box: BlackBox, images: jax.Array, null: jax.Array | None, rules: MaskVariant, key: jax.Array
) -> jax.Array:
    return jnp.ones(
        (images.shape[0], *(len(_centres(side, rules.cell)) for side in images.shape[1:3]))
    )


def _circle(
    box: BlackBox, images: jax.Array, null: jax.Array | None, rules: MaskVariant, key: jax.Array
) -> jax.Array:
    """The smallest of 35 smooth circles that leaves at most 1 % of what the largest takes away."""
    size, still = images.shape[1:3], rules._replace(jitter=0, noise=0.0)
    radii = jnp.array(_CIRCLES) * (min(size) / _CIRCLE_SIDE)

    def ask(weights: jax.Array) -> jax.Array:
        weights = jnp.broadcast_to(weights, images.shape[:3])
        return box.scores(perturb(images, null, weights, key, still)[None])[0]

    scores, full = (
        loops.map(lambda radius: ask(1 - circle(radius, size)), radii),
        ask(jnp.ones(size)),
    )
    enough = (scores - scores[-1]) / (full - scores[-1]) < _CIRCLE_SCORE
    first = jnp.where(enough.any(0), jnp.argmax(enough, 0), len(radii) - 1)
    rows, cols = (_centres(side, rules.cell) for side in size)
    return jax.vmap(lambda i: _stretch(1 - circle(radii[i], size))[rows[:, None], cols])(first)


START = {"ones": _ones, "circle": _circle}


def circle(radius: jax.Array, size: tuple[int, int]) -> jax.Array:
    """A centred disc of ones, smoothed, `[H, W]`."""
    y, x = (jnp.arange(side) - side // 2 for side in size)
    disc = (x**2 + y[:, None] ** 2 <= radius**2).astype(jnp.float32)
    return _smooth(disc[None, ..., None], _CIRCLE_BLUR, "symmetric")[0, ..., 0]


def _stretch(weights: jax.Array) -> jax.Array:
    """Min-max scaled, as the official imresize does; 0 where it is constant but for rounding."""
    span = jnp.ptp(weights)
    return jnp.where(span > 1e-4, (weights - weights.min()) / jnp.where(span > 0, span, 1), 0)


# From cells to pixels, and baselines ---------------------------------


def enlarge(cells: jax.Array, size: tuple[int, int], rules: MaskVariant) -> jax.Array:
    """Masks `[B, h, w]` at the images' size `[B, H, W]`; the gradient passes by the smoothing."""
    rows, cols = (
        jnp.asarray(UPSAMPLING[rules.upsampling](side, rules.cell), jnp.float32) for side in size
    )
    weights = _einsum("Hh,bhw,Ww->bHW", rows, cells, cols)
    if not rules.blur:
        return weights
    return weights + jax.lax.stop_gradient(
        _smooth(weights[..., None], rules.blur, "edge")[..., 0] - weights
    )


def magnify(images: jax.Array | None, pixels: int) -> jax.Array | None:
    """Bilinear, to so many rows and columns more."""
    if images is None or not pixels:
        return images
    batch, height, width, channels = images.shape
    return jax.image.resize(
        images, (batch, height + pixels, width + pixels, channels), "bilinear", antialias=False
    )


def make_baseline(images: jax.Array, baseline: Any) -> jax.Array | None:
    """x_0 `[B, H, W, C]`, what hidden pixels become; None for noise, which is drawn in the loop."""
    if isinstance(baseline, str):
        if baseline not in BASELINES:
            raise ValueError(
                f"baseline: got {baseline!r}, expected one of {', '.join(map(repr, BASELINES))}, "
                "or values"
            )
        return BASELINES[baseline](images)
    baseline = jnp.asarray(baseline, images.dtype)
    try:
        return jnp.broadcast_to(baseline, images.shape)
    except ValueError:
        expected = f"a number, [{images.shape[-1]}] or {list(images.shape)}"
        raise ValueError(f"baseline: got shape {baseline.shape}, expected {expected}") from None


def _median(images: jax.Array) -> jax.Array:
    """Each window's median, borders repeated: the greatest v with at most half of it below.

    v is found bit by bit, so that no window is ever written out or sorted. As unsigned integers
    with their sign turned, floats keep their order.
    """
    bits = images.dtype.itemsize * 8
    unsigned = jnp.dtype(f"uint{bits}")
    one, sign = unsigned.type(1), unsigned.type(1 << (bits - 1))
    raw = jax.lax.bitcast_convert_type(images, unsigned)
    reach, (height, width) = _MEDIAN // 2, images.shape[1:3]
    keys = jnp.where(raw >= sign, ~raw, raw | sign)
    keys = jnp.pad(keys, ((0, 0), (reach, reach), (reach, reach), (0, 0)), "edge")

    def settle(step: jax.Array, found: jax.Array) -> jax.Array:
        higher = found | jnp.left_shift(one, (bits - 1 - step).astype(unsigned))
        shifts = [(i, j) for i in range(_MEDIAN) for j in range(_MEDIAN)]
        below = sum(
            (keys[:, i : i + height, j : j + width] < higher).astype(jnp.int32) for i, j in shifts
        )
        return jnp.where(below <= _MEDIAN**2 // 2, higher, found)

    found = jax.lax.fori_loop(0, bits, settle, jnp.zeros_like(raw))
    back = jnp.where(found >= sign, found & ~sign, ~found)
    return jax.lax.bitcast_convert_type(back, images.dtype)


def _smooth(images: jax.Array, sigma: float, border: str) -> jax.Array:
    """A Gaussian blur of `[B, H, W, C]`."""
    rows, cols = (
        jnp.asarray(gaussian(side, sigma, border), jnp.float32) for side in images.shape[1:3]
    )
    return _einsum("Hh,bhwc,Ww->bHWc", rows, images.astype(jnp.float32), cols).astype(images.dtype)


BASELINES = {
    "blur": partial(_smooth, sigma=_BLUR, border="edge"),
    "median": _median,
    "constant": jnp.zeros_like,
    "noise": lambda images: None,
}


def gaussian(side: int, sigma: float, border: str) -> np.ndarray:
    """Matrix `[side, side]` of a Gaussian filter cut at 4 sigma; `border` is a `numpy.pad` mode."""
    reach = int(4 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(np.eye(side), ((reach, reach), (0, 0)), border)
    return sum(tap * padded[k : k + side] for k, tap in enumerate(taps / taps.sum()))


def _nearest(side: int, cell: int) -> np.ndarray:
    return np.equal.outer(np.arange(side) // cell, np.arange(len(_centres(side, cell))))


def _aligned(side: int, cell: int) -> np.ndarray:
    cells = len(_centres(side, cell))
    position = np.linspace(0, cells - 1, side)
    return np.maximum(0, 1 - np.abs(np.subtract.outer(position, np.arange(cells))))


UPSAMPLING = {"nearest": _nearest, "aligned": _aligned}


def _centres(side: int, cell: int) -> np.ndarray:
    """The middle pixel of each cell; the last cell may be cut."""
    return np.minimum(np.arange(0, side, cell) + cell // 2, side - 1)


def check_variant(variant: str | MaskVariant) -> MaskVariant:
    """The rules of a variant by name, or given; raises a ValueError unless they can be followed."""
    if isinstance(variant, str):
        if variant not in MASK_VARIANTS:
            raise ValueError(
                f"variant: got {variant!r}, expected one of {', '.join(map(repr, MASK_VARIANTS))}"
            )
        return MASK_VARIANTS[variant]
    for name, choices in {
        "penalty": ("sum", "mean"),
        "upsampling": UPSAMPLING,
        "init": START,
    }.items():
        if getattr(variant, name) not in choices:
            expected = ", ".join(map(repr, choices))
            raise ValueError(
                f"variant.{name}: got {getattr(variant, name)!r}, expected one of {expected}"
            )
    for name, least in {"steps": 1, "cell": 1, "jitter": 0, "blur": 0, "noise": 0}.items():
        if not getattr(variant, name) >= least:
            raise ValueError(
                f"variant.{name}: got {getattr(variant, name)}, expected at least {least}"
            )
    return variant
