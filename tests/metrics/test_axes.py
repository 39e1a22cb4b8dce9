"""Metrics of signals, of volumes, and of a segmentation: their literal forms, in float64 loops."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

import jaxcam
from jaxcam import fostering, maps, metrics, targets

RNG = np.random.default_rng(12)
BATCH = 2
SIZES = {"signal": (13,), "volume": (3, 4, 5), "segmentation": (6, 5)}
# A class `[B]` of each, or a function of the output.
CLASSES = np.array([2, 0])
REGION = (RNG.random((BATCH, 6, 5)) > 0.4).astype(np.float32)


class Case:
    """A network of two channels, in JAX and in NumPy, and its images and saliency."""

    def __init__(self, name):
        self.size = SIZES[name]
        self.space = tuple(range(1, len(self.size) + 1))
        self.dense = name == "segmentation"
        pixels = int(np.prod(self.size))
        self.weights = RNG.normal(size=(pixels * 2, 6)) * 0.4
        self.head = RNG.normal(size=(6, 3 * (pixels if self.dense else 1))) * 0.7
        self.images = RNG.normal(size=(BATCH, *self.size, 2)).astype(np.float32)
        self.saliency = RNG.normal(size=(BATCH, *self.size)).astype(np.float32)
        self.targets = CLASSES
        if self.dense:
            self.targets = lambda z: jax.nn.sigmoid(targets.region(REGION, CLASSES)(z) / 9)

    def forward(self, images):
        hidden = jnp.tanh(images.reshape(len(images), -1) @ self.weights.astype(np.float32))
        found = hidden @ self.head.astype(np.float32)
        return found.reshape(len(images), *self.size, 3) if self.dense else found

    def confidence(self, image, b):
        """Of one image, in NumPy."""
        found = np.tanh(np.asarray(image, np.float64).ravel() @ self.weights) @ self.head
        if not self.dense:
            exp = np.exp(found - found.max())
            return (exp / exp.sum())[CLASSES[b]]
        total = 0.0
        for place in np.ndindex(*self.size):
            total += REGION[(b, *place)] * found.reshape(*self.size, 3)[(*place, CLASSES[b])]
        return 1 / (1 + np.exp(-total / 9))

    def each(self, literal):
        """A literal form of every image."""
        found = []
        for b in range(BATCH):
            image = self.images[b].astype(np.float64)
            saliency = self.saliency[b].astype(np.float64)
            found.append(literal(image, saliency, lambda x, b=b: self.confidence(x, b)))
        return np.array(found)

    def measured(self, metric, *between, **options):
        """The metric, compiled."""
        between = between or (self.saliency,)
        call = lambda images: metric(self.forward, images, *between, self.targets, **options)
        return jax.jit(call)(self.images)


@pytest.fixture(scope="module", params=SIZES)
def case(request):
    return Case(request.param)


def close(found, expected, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def ordered(saliency):
    """Places, most salient first."""
    return sorted(np.ndindex(*saliency.shape), key=lambda place: -saliency[place])


def unit(saliency):
    return (saliency - saliency.min()) / (saliency.max() - saliency.min())


def blurred(image):
    """11 along every axis, zeros outside."""
    from scipy.ndimage import gaussian_filter

    rank = image.ndim - 1
    delta = np.zeros((11,) * rank)
    delta[(5,) * rank] = 1
    kernel = gaussian_filter(delta, 5)
    padded = np.pad(image, [*[(5, 5)] * rank, (0, 0)])
    out = np.zeros_like(image)
    for place in np.ndindex(*image.shape[:-1]):
        window = padded[tuple(slice(i, i + 11) for i in place)]
        out[place] = (window * kernel[..., None]).sum(tuple(range(rank)))
    return out


def test_blur(case):
    expected = np.stack([blurred(image.astype(np.float64)) for image in case.images])
    close(metrics.blur(case.images), expected)


@pytest.mark.parametrize("name", ["deletion", "insertion"])
def test_games(case, name):
    def literal(image, saliency, confidence):
        start, end = image.copy(), np.zeros_like(image)
        if name == "insertion":
            start, end = blurred(image), image
        curve = [confidence(start)]
        places = ordered(saliency)
        for i in range(0, len(places), 4):
            for place in places[i : i + 4]:
                start[place] = end[place]
            curve.append(confidence(start))
        return curve

    close(case.measured(getattr(metrics, name), step=4), case.each(literal))


def test_drops_and_gains(case):
    def literal(image, saliency, confidence):
        full = confidence(image)
        masked = confidence(image * unit(saliency)[..., None])
        deleted = confidence(image * (1 - unit(saliency))[..., None])
        marked = np.zeros(image.shape)
        for place in ordered(saliency)[: round(0.3 * saliency.size)]:
            marked[place] = 1
        return [
            100 * max(0, full - masked) / full,
            100 * (full < masked),
            100 * max(0, masked - full) / (1 - full),
            100 * (full - deleted) / full,
            100 * max(0, full - confidence(image * marked)) / full,
        ]

    found = [
        case.measured(metrics.average_drop),
        case.measured(metrics.average_increase),
        case.measured(metrics.average_gain),
        case.measured(metrics.drop_in_deletion),
        case.measured(metrics.average_drop, top=0.3, strict=False),
    ]
    close(np.stack(found, 1), case.each(literal), rtol=1e-3)


@pytest.mark.parametrize("square", [None, 2])
def test_infidelity(case, square):
    """The samples are JAX's, drawn as `infidelity` draws them."""
    keys = jax.random.split(jax.random.key(0), 5)
    rank = len(case.size)

    def change(image, key):
        if square is None:
            return 0.2 * np.asarray(jax.random.normal(key, (1, *image.shape), jnp.float32)[0])
        limits = jnp.array([side - square + 1 for side in case.size])
        corner = np.asarray(jax.random.randint(key, (rank,), 0, limits))
        out = np.zeros_like(image)
        for offset in itertools.product(range(square), repeat=rank):
            out[tuple(corner + offset)] = image[tuple(corner + offset)]
        return out

    def literal(image, saliency, confidence):
        told, lost = [], []
        for key in keys:
            step = change(image, key)
            told.append((saliency * step.sum(-1)).sum())
            lost.append(confidence(image) - confidence(image - step))
        told, lost = np.array(told), np.array(lost)
        scale = (told * lost).mean() / (told**2).mean()
        return ((scale * told - lost) ** 2).mean()

    found = case.measured(metrics.infidelity, num_samples=5, square=square)
    close(found, case.each(literal), rtol=2e-3, atol=1e-7)


def test_region_perturbation(case):
    side = 2
    rank = len(case.size)

    def literal(image, saliency, confidence):
        corners = list(itertools.product(*(range(0, length, side) for length in case.size)))
        inside = lambda corner: tuple(slice(i, i + side) for i in corner)
        corners.sort(key=lambda corner: -saliency[inside(corner)].sum())
        changed = image.copy()
        curve = [confidence(image)]
        for corner in corners[:3]:
            changed[inside(corner)] = 0.5
            curve.append(confidence(changed))
        return curve

    assert rank == case.saliency.ndim - 1
    found = case.measured(metrics.region_perturbation, side=side, steps=3, baseline=0.5)
    close(found, case.each(literal))


def neighbours(place, size):
    """Places beside one and their weights: 2 where a coordinate stays, 1 where it moves."""
    rank = len(size)
    whole = 4**rank - 2**rank
    for move in itertools.product((-1, 0, 1), repeat=rank):
        other = tuple(np.add(place, move))
        if any(move) and all(0 <= i < n for i, n in zip(other, size, strict=True)):
            yield other, 2 ** move.count(0) / whole


def imputed(image, missing):
    """The linear system, written out."""
    gaps = list(map(tuple, np.argwhere(missing)))
    matrix = np.zeros((len(gaps), len(gaps)))
    right = np.zeros((len(gaps), image.shape[-1]))
    for i, place in enumerate(gaps):
        for other, weight in neighbours(place, missing.shape):
            matrix[i, i] += weight
            if missing[other]:
                matrix[i, gaps.index(other)] -= weight
            else:
                right[i] += weight * image[other]
    out = image.copy()
    for place, value in zip(gaps, np.linalg.solve(matrix, right), strict=True):
        out[place] = value
    return out


def test_road(case):
    def literal(image, saliency, confidence):
        places = ordered(saliency)
        found = []
        for percent in (30, 60):
            count = round(percent / 100 * saliency.size)
            for gone in (places[:count], places[-count:]):
                missing = np.zeros(saliency.shape, bool)
                for place in gone:
                    missing[place] = True
                found.append(confidence(imputed(image, missing)))
        return found

    found = case.measured(metrics.road, percent=(30, 60), noise=0)
    expected = case.each(literal)
    close(found.morf, expected[:, ::2], rtol=1e-3)
    close(found.lerf, expected[:, 1::2], rtol=1e-3)
    close(found.combined, (expected[:, 1::2] - expected[:, ::2]).mean(1) / 2, atol=1e-4)


def test_max_sensitivity_and_adcc(case):
    """Of an explainer that is a formula: the image's first channel, squared, and its confidence."""
    explain = lambda forward, images, chosen: images[..., 0] ** 2
    deltas = []
    for key in jax.random.split(jax.random.key(0), 3):
        shape = (1, *case.size, 2)
        deltas.append(np.asarray(jax.random.uniform(key, shape, jnp.float32, -0.1, 0.1)[0]))

    def literal(image, saliency, confidence):
        raw = image[..., 0] ** 2
        change = max(np.linalg.norm((image + d)[..., 0] ** 2 - raw) for d in deltas)
        mask = unit(raw)[..., None]
        again = (image * mask)[..., 0] ** 2
        coherency = (1 + np.corrcoef(raw.ravel(), again.ravel())[0, 1]) / 2
        drop = max(0, confidence(image) - confidence(image * mask)) / confidence(image)
        complexity = unit(raw).mean()
        adcc = 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))
        return [change / np.linalg.norm(raw), adcc, coherency, complexity, 100 * drop]

    options = {"radius": 0.1, "num_samples": 3}
    sensitivity = case.measured(metrics.max_sensitivity, explain, **options)
    absolute = case.measured(metrics.max_sensitivity, explain, relative=False, **options)
    size = np.linalg.norm(case.images[..., 0].reshape(BATCH, -1).astype(np.float64) ** 2, axis=1)
    close(absolute, sensitivity * size)
    found = case.measured(metrics.adcc, explain)
    close(np.stack([sensitivity, *found], 1), case.each(literal), rtol=1e-3)


@pytest.mark.parametrize("kind", ["signal", "volume"])
def test_measures_of_maps(kind):
    case = Case(kind)
    other = case.saliency**2 + 0.3 * case.saliency
    objects = case.saliency + other > 0.5
    spatial = len(case.size)

    def literal(b):
        first, second = (x[b].astype(np.float64) for x in (case.saliency, other))
        positive = np.maximum(first, 0)
        share = positive / positive.sum()
        active = positive > positive.mean()
        high, low = positive[active].mean(), positive[~active].mean()
        top = ordered(first)[: objects[b].sum()]
        return [
            -sum(p * np.log(p) for p in share.ravel() if p),
            positive.var() / positive.mean() ** 2,
            100 * (high - low) / ((high + low) / 2),
            unit(first).mean(),
            (1 + np.corrcoef(first.ravel(), second.ravel())[0, 1]) / 2,
            spearmanr(first.ravel(), second.ravel())[0],
            positive[objects[b]].sum() / positive.sum(),
            np.mean([objects[b][place] for place in top]),
            float(objects[b][ordered(first)[0]]),
        ]

    one = ("entropy", "dispersion", "relative_difference", "complexity")
    two = ("coherency", "spearman")
    three = ("mass_accuracy", "rank_accuracy", "pointing_at")
    found = [getattr(metrics, name)(case.saliency, spatial=spatial) for name in one]
    found += [getattr(metrics, name)(case.saliency, other, spatial=spatial) for name in two]
    found += [getattr(metrics, name)(case.saliency, objects, spatial=spatial) for name in three]
    close(np.stack(found, 1), [literal(b) for b in range(BATCH)], rtol=1e-3)
    softmax = fostering.cam_entropy(case.saliency, norm="softmax", spatial=spatial)
    exp = np.exp(case.saliency.astype(np.float64)).reshape(BATCH, -1)
    p = exp / exp.sum(1, keepdims=True)
    close(softmax, -(p * np.log(p)).sum(1))


@pytest.mark.parametrize("size", [(30,), (12, 11, 13)])
def test_ssim_equals_scikit_images(size):
    first, second = RNG.random((2, 2, *size)).astype(np.float32)
    options = {"gaussian_weights": True, "data_range": 1}
    expected = [
        structural_similarity(unit(x), unit(y), **options)
        for x, y in zip(first, second, strict=True)
    ]
    rank = len(size)
    # scikit-image takes the mean over all windows within the map, whose side is 11.
    close(metrics.ssim(first, second, spatial=rank), expected, rtol=1e-3, atol=1e-4)


def test_ssim_of_a_signal_that_is_too_short():
    short = jnp.ones((2, 5))
    with pytest.raises(ValueError, match=r"got maps of \(5,\) pixels, expected at least 11$"):
        metrics.ssim(short, short, spatial=1)


def test_maps_are_stretched_scaled_and_cut_along_their_axes(case):
    rank = len(case.size)
    found = np.asarray(maps.normalize(case.saliency, spatial=rank))
    for b in range(BATCH):
        close(found[b], unit(case.saliency[b]))
        above = case.saliency[b] > case.saliency[b].mean() + 0.5 * case.saliency[b].std()
        np.testing.assert_array_equal(maps.threshold(case.saliency, k=0.5, spatial=rank)[b], above)
        most = case.saliency[b] > 0.4 * case.saliency[b].max()
        cut = maps.threshold_of_max(case.saliency, fraction=0.4, spatial=rank)
        np.testing.assert_array_equal(cut[b], most)
    half = np.asarray(maps.normalize(case.saliency, "max", percentile=50, spatial=rank))
    for b in range(BATCH):
        limit = np.percentile(np.abs(case.saliency[b]), 50)
        close(half[b], np.maximum(np.clip(case.saliency[b], -limit, limit), 0) / limit)
    twice = tuple(2 * side for side in case.size)
    large = np.asarray(maps.resize(case.saliency, twice))
    expected = case.saliency.astype(np.float64)
    for axis, side in enumerate(case.size, start=1):
        places = np.clip((np.arange(2 * side) + 0.5) / 2 - 0.5, 0, side - 1)
        line = lambda row, places=places: np.interp(places, np.arange(len(row)), row)
        expected = np.apply_along_axis(line, axis, expected)
    close(large, expected)
    fused = jaxcam.fuse({"a": case.saliency, "b": case.saliency[:]}, twice, how="max")
    close(fused, maps.normalize(large, "positive", spatial=rank))


FLAT = {
    "area": lambda s: metrics.area(s),
    "box_from_map": lambda s: metrics.box_from_map(s),
    "hog": lambda s: metrics.hog(s),
    "hog_similarity": lambda s: metrics.hog_similarity(s, s),
    "similarity": lambda s: metrics.similarity(s, s),
    "mask_iou": lambda s: metrics.mask_iou(s, np.ones((BATCH, 4))),
    "loc": lambda s: metrics.loc(s, np.ones((BATCH, 4))),
    "pointing_game": lambda s: metrics.pointing_game(s, np.ones((BATCH, 4))),
    "energy_in_box": lambda s: metrics.energy_in_box(s, np.ones((BATCH, 4))),
    "class_sensitivity": lambda s: metrics.class_sensitivity(s, s, *np.ones((2, BATCH, 4))),
}


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("kind", ["signal", "volume"])
def test_what_is_of_pictures_refuses(name, kind):
    with pytest.raises(ValueError, match=r"got shape \(2, .*\), expected \[B, H, W\]$"):
        FLAT[name](jnp.ones((BATCH, *SIZES[kind])))


def test_axes_are_never_guessed():
    """A picture without its batch is no batch of signals, nor are maps of K targets volumes."""
    told = r"saliency: got shape \(4, 5\), expected \[B, H, W\] \(spatial=1 for \[B, L\], spatial=3"
    with pytest.raises(ValueError, match=told):
        metrics.entropy(jnp.ones((4, 5)))
    with pytest.raises(ValueError, match="spatial: got 4, expected 1, 2 or 3 axes of positions"):
        metrics.entropy(jnp.ones((4, 5)), spatial=4)
    with pytest.raises(ValueError, match=r"expected \[2, 13\], as the images"):
        metrics.average_drop(lambda x: x[:, 0], jnp.ones((2, 13, 2)), jnp.ones((2, 12)))


def test_an_output_that_is_no_logits_wants_a_function():
    case = Case("segmentation")
    expected = (
        r"forward: got an output of shape \(2, 6, 5, 3\), expected logits \[2, N\], or a func"
    )
    for chosen in (None, 1):
        with pytest.raises(ValueError, match=expected):
            metrics.deletion(case.forward, case.images, case.saliency, chosen)
    pair = lambda x: (x[:, :2, :, :1], {"more": x})  # a detector's, say
    chosen = lambda found: jax.nn.sigmoid(found[0].sum((1, 2, 3)))
    curve = metrics.deletion(pair, case.images, case.saliency, chosen, step=30)
    close(curve[:, 0], jax.nn.sigmoid(case.images[:, :2, :, 0].sum((1, 2))))
    close(curve[:, 1], 0.5)


@pytest.mark.parametrize(
    "name",
    [
        "deletion",
        "insertion",
        "infidelity",
        "region_perturbation",
        "road",
        "faithfulness_correlation",
    ],
)
def test_a_second_input_that_is_closed_over(name):
    """Of the batch's size, or in the images as a channel: the same."""
    case = Case("segmentation")
    more = jnp.asarray(RNG.normal(size=(BATCH, 3)), jnp.float32)
    weights = jnp.asarray(RNG.normal(size=(60, 3)), jnp.float32) * 0.3
    options = {"chunk": 2}
    if name == "region_perturbation":
        options["side"] = 3
    if name == "road":
        options["percent"] = (50,)

    def measured(second, index):
        forward = lambda x: x.reshape(len(x), -1) @ weights + second
        images, saliency = case.images[index], case.saliency[index]
        return getattr(metrics, name)(forward, images, saliency, 1, **options)

    together = measured(more, slice(None))
    alone = measured(more[1:], slice(1, 2))
    for both, each in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        close(both[1], each[0])
