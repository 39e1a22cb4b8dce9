"""Every method of signals, volumes and segmentations; models that close over the batch's size."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import targets
from jaxcam._explainers import mask as masks
from jaxcam._explainers import masking, rise
from jaxcam.methods import METHODS

RNG = np.random.default_rng(21)
SIZES = {"signal": (12,), "picture": (6, 8), "volume": (4, 4, 6)}
# Options without which a method asks for more than so small images have.
OPTIONS = {
    "rise": {"num_masks": 4, "grid": 3},
    "occlusion": {"window": 2, "stride": 2},
    "ss_cam": {"samples": 2},
    "is_cam": {"samples": 2},
    "finer_cam": {"count": 2},
    "mask": {"variant": masking.MASK_VARIANTS["official"]._replace(steps=2)},
}
# Of networks that these have not.
OTHERS = {"cbam_attention", "attention_grad_cam", "attention_rollout", "legrad"}


def network(kind, dense=False):
    """Two convolutions and a pooled head, or a head at every position; images."""
    rank = len(SIZES[kind])
    letters = "DHW"[-rank:]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    kernels = []
    for channels in ((2, 3), (3, 4)):
        kernels.append(jnp.asarray(RNG.normal(size=(*[2] * rank, *channels)), jnp.float32))
    head = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)

    def forward(x):
        for i, kernel in enumerate(kernels):
            stride = [1 + i] * rank
            conv = partial(jax.lax.conv_general_dilated, dimension_numbers=numbers)
            x = jaxcam.tag(jax.nn.relu(conv(x, kernel, stride, "SAME")), f"layer{i + 1}")
        if not dense:
            x = x.mean(tuple(range(1, rank + 1)))
        return x @ head

    images = RNG.normal(size=(2, *SIZES[kind], 2))
    return forward, jnp.asarray(images, jnp.float32)


def options_of(name, kind):
    if name != "lime":
        return OPTIONS.get(name, {})
    segments = np.arange(np.prod(SIZES[kind])).reshape(1, *SIZES[kind]) // 7
    segments = jnp.asarray(np.repeat(segments, 2, 0))
    return {"segments": segments, "num_segments": int(segments.max()) + 1, "num_samples": 4}


@pytest.mark.parametrize("kind", ["signal", "volume"])
@pytest.mark.parametrize("name", sorted(set(METHODS) - OTHERS))
def test_every_method_takes_signals_and_volumes(name, kind):
    """Two classes of each image; a map at the layer's size, or at the images'."""
    forward, images = network(kind)
    options = options_of(name, kind)
    method = METHODS[name]
    explain = lambda x: method.function(forward, x, jnp.array([[0, 2], [1, 0]]), **options)
    size = images.shape[1:-1]
    if method.layered:
        size = jaxcam.layers(forward, images).grids["layer2"]
    assert jax.eval_shape(explain, images).shape == (2, 2, *size)


@pytest.mark.parametrize("kind", ["picture", "volume"])
@pytest.mark.parametrize("name", sorted(set(METHODS) - OTHERS - {"cam", "finer_cam"}))
def test_every_method_takes_a_segmentation(name, kind):
    forward, images = network(kind, dense=True)
    options = options_of(name, kind)
    region = jnp.ones(jax.eval_shape(forward, images).shape[1:-1])
    explain = lambda x: METHODS[name].function(forward, x, targets.region(region, 1), **options)
    assert jax.eval_shape(explain, images).shape[:1] == (2,)


def test_what_needs_a_pooled_head_or_classes_refuses_a_segmentation():
    forward, images = network("picture", dense=True)
    region = targets.region(jnp.ones((3, 4)), 1)
    with pytest.raises(ValueError, match="layer: got 'layer2', above which there is dot_general"):
        jaxcam.cam(forward, images, region)
    with pytest.raises(ValueError, match="targets: got a function, expected classes"):
        jaxcam.finer_cam(forward, images, region)
    for name in ("rise", "occlusion", "lime", "mask"):
        with pytest.raises(ValueError, match=r"forward: got an output of shape \(2, 3, 4, 3\)"):
            METHODS[name].function(forward, images, 1, **options_of(name, "picture"))


@pytest.mark.parametrize("kind", ["signal", "volume"])
def test_methods_that_need_attention_name_what_they_miss(kind):
    forward, images = network(kind)
    for name in ("cbam_attention", "attention_grad_cam"):
        with pytest.raises(ValueError, match="forward: got a network without CBAM blocks"):
            METHODS[name].function(forward, images, 1)
    for name in ("attention_rollout", "legrad"):
        with pytest.raises(ValueError, match=r"attention among the|expected tokens"):
            METHODS[name].function(forward, images, 1)


def test_medians_turns_and_windows_are_of_pictures():
    forward, images = network("signal")
    with pytest.raises(ValueError, match="baseline: got 'median' for images of shape"):
        jaxcam.mask(forward, images, 1, variant="jacobgil")
    with pytest.raises(
        ValueError, match=r"images: got shape \(2, 12, 2\), expected \[B, H, W, C\]"
    ):
        jaxcam.aug_smooth(jaxcam.grad_cam)(forward, images, 1)
    with pytest.raises(
        ValueError, match=r"window: got .*, expected a whole number or one for each"
    ):
        jaxcam.occlusion(forward, images, 1, window=(2, 2))


# Numbers -------------------------------------------------------------


def linear(kind, seed=0):
    """One layer and a softmax, in JAX and in NumPy; images."""
    rng = np.random.default_rng(seed)
    size = SIZES[kind]
    weights = rng.normal(size=(np.prod(size) * 2, 3)) * 0.4
    images = rng.normal(size=(2, *size, 2)).astype(np.float32)
    forward = lambda x: x.reshape(len(x), -1) @ weights.astype(np.float32)

    def confidence(image):
        z = image.astype(np.float64).ravel() @ weights
        return np.exp(z - z.max()) / np.exp(z - z.max()).sum()

    return forward, confidence, images


@pytest.mark.parametrize("kind", ["signal", "volume"])
def test_occlusion_equals_its_literal_form(kind):
    forward, confidence, images = linear(kind)
    size = SIZES[kind]
    window, stride = (3, 2)
    starts = []
    for side in size:
        starts.append(sorted({*range(0, side - window, stride), side - window}))
    expected = np.zeros((2, *size))
    for b, image in enumerate(images):
        total, count = np.zeros(size), np.zeros(size)
        for corner in itertools.product(*starts):
            inside = tuple(slice(i, i + window) for i in corner)
            hidden = image.copy()
            hidden[inside] = 0
            total[inside] += confidence(image)[1] - confidence(hidden)[1]
            count[inside] += 1
        expected[b] = total / count
    explain = jax.jit(partial(jaxcam.occlusion, forward, window=window, stride=stride))
    np.testing.assert_allclose(explain(images, 1), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["signal", "volume"])
def test_rise_equals_its_literal_form(kind):
    """The cells and shifts are JAX's; the masks are written out: a cell's value between middles."""
    forward, confidence, images = linear(kind)
    size, grid, count = SIZES[kind], 3, 6
    cells, shifts = map(np.asarray, rise.draw(jax.random.key(3), 6, grid, 0.5, size))
    expected = np.zeros((2, *size))
    for cell, shift in zip(cells.astype(np.float64), shifts, strict=True):
        drawn = np.zeros(size)
        for place in np.ndindex(*size):
            value = np.pad(cell, 1, "reflect")
            for side, at in zip(size, np.add(place, shift), strict=True):
                pixels = -(-side // grid) * (grid + 1)
                position = (at + 0.5) * grid / pixels - 0.5 + 1  # in the padded cells
                low = int(np.floor(position))
                value = (low + 1 - position) * value[low] + (position - low) * value[low + 1]
            drawn[place] = value
        for b, image in enumerate(images):
            expected[b] += confidence(image * drawn[..., None])[1] * drawn / (count * 0.5)
    options = {"num_masks": count, "grid": grid, "key": jax.random.key(3)}
    explain = jax.jit(partial(jaxcam.rise, forward, **options))
    np.testing.assert_allclose(explain(images, 1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["signal", "volume"])
def test_masks_prices_cells_and_circles_equal_their_literal_form(kind):
    rng = np.random.default_rng(1)
    size = SIZES[kind]
    cells = rng.random((1, *size)).astype(np.float32)
    one = cells[0].astype(np.float64)
    official = masking.MASK_VARIANTS["official"]._replace(l1=0.3, tv=0.7, cell=2, blur=0.0)
    total, mean = 0.0, 0.3 * (1 - one).mean()
    for place in np.ndindex(*size):
        squared = 0.0
        for axis in range(len(size)):
            beside = np.add(place, np.eye(len(size), dtype=int)[axis])
            if beside[axis] < size[axis]:
                squared += (one[tuple(beside)] - one[place]) ** 2
        total += 0.3 * (1 - one[place]) + 0.7 * squared**1.5
    for axis in range(len(size)):
        mean += 0.7 * (np.abs(np.diff(one, axis=axis)) ** 3).mean()
    np.testing.assert_allclose(masking.penalties(cells, official), [total], rtol=1e-5)
    by_means = official._replace(penalty="mean")
    np.testing.assert_allclose(masking.penalties(cells, by_means), [mean], rtol=1e-5)
    large = np.asarray(masking.enlarge(cells, tuple(2 * side for side in size), official))[0]
    for place in np.ndindex(*large.shape):
        np.testing.assert_allclose(large[place], one[tuple(i // 2 for i in place)], rtol=1e-6)
    from scipy.ndimage import gaussian_filter

    squares = sum(x**2 for x in np.ogrid[tuple(slice(-(n // 2), n - n // 2) for n in size)])
    disc = gaussian_filter((squares <= 4).astype(float), 10, mode="reflect", truncate=4)
    np.testing.assert_allclose(masks.circle(jnp.float32(2), size), disc, rtol=1e-4)


def test_a_signal_is_a_picture_of_one_row():
    """Where both are defined: LIME by the same segments, FullGrad, integrated gradients."""
    forward, _, images = linear("signal")
    picture = lambda x: forward(x[:, 0])
    segments = jnp.asarray(np.repeat(np.arange(12)[None] // 3, 2, 0))
    for method, how, twin in (
        (jaxcam.lime, {"segments": segments}, {"segments": segments[:, None]}),
        (jaxcam.fullgrad, {}, {}),
        (jaxcam.integrated_gradients, {"steps": 3}, {"steps": 3}),
        (jaxcam.gradient, {}, {}),
    ):
        found = method(forward, images, 1, **how)
        expected = method(picture, images[:, None], 1, **twin)[:, 0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_callbacks_of_signals():
    forward, confidence, images = linear("signal")
    model = lambda x: np.stack([confidence(each) for each in x])
    outside = jaxcam.blackbox.callback(model, 3)
    np.testing.assert_allclose(outside(images), model(images), rtol=1e-5)
    how = {"window": 3, "stride": 3}
    found = jaxcam.occlusion(outside, images, 1, activation="identity", **how)
    np.testing.assert_allclose(found, jaxcam.occlusion(forward, images, 1, **how), atol=1e-5)


# A second input that the model closes over ---------------------------


CLOSED = sorted(set(METHODS) - OTHERS - {"cam"})


@pytest.mark.parametrize("name", CLOSED)
def test_a_second_input_of_the_batchs_size_is_taken(name):
    """Versions of the images are asked for batch by batch, so what belongs to them still fits."""
    forward, images = network("picture")
    more = jnp.asarray(RNG.normal(size=(2, 3)), jnp.float32)
    classes = jnp.array([[0, 2], [1, 0]])
    options = options_of(name, "picture")
    method = METHODS[name].function

    def explained(images, more, classes):
        joined = lambda x: forward(x) * (1 + more**2) + more
        return method(joined, images, classes, **options)

    found = jax.eval_shape(explained, images, more, classes)
    assert found.shape[:2] == (2, 2)


@pytest.mark.parametrize("name", ["rise", "occlusion", "mask", "score_cam", "ablation_cam"])
def test_a_second_input_belongs_to_its_image(name):
    forward, images = network("picture")
    more = jnp.asarray(RNG.normal(size=(2, 3)), jnp.float32)
    options = options_of(name, "picture")

    def explained(images, more, classes):
        joined = lambda x: forward(x) * (1 + more**2) + more
        return METHODS[name].function(joined, images, classes, **options)

    together = jax.jit(explained)(images, more, jnp.array([[0, 2], [1, 0]]))
    alone = jax.jit(explained)
    for b, (first, second) in enumerate([(0, 2), (1, 0)]):
        found = alone(images[b : b + 1], more[b : b + 1], jnp.array([[first, second]]))
        np.testing.assert_allclose(together[b], found[0], rtol=1e-3, atol=1e-5)


def test_a_model_outside_jax_that_closes_over_the_batch_is_told_how():
    _, confidence, images = linear("picture")
    more = np.random.default_rng(2).random((2, 3)).astype(np.float32)
    model = lambda x: np.stack([confidence(each) for each in x]) + more
    with pytest.raises(ValueError, match="forward: got an error of 8 images, 4 versions of each"):
        jaxcam.rise(model, images, 1, host=True, activation="identity", num_masks=4, chunk=4)


# Several targets -----------------------------------------------------


def test_mask_of_several_targets_is_that_of_each_alone():
    forward, images = network("picture")
    rules = masking.MASK_VARIANTS["official"]._replace(steps=3, cell=2, noise=0.1)
    explain = jax.jit(partial(jaxcam.mask, forward, variant=rules, baseline="noise"))
    classes = jnp.array([[0, 2], [1, 0]])
    together = explain(images, classes)
    for k in range(2):
        alone = explain(images, classes[:, k])
        np.testing.assert_allclose(together[:, k], alone, rtol=1e-4, atol=1e-5)
    assert np.abs(together[:, 0] - together[:, 1]).max() > 1e-3
