"""The correlation of sums of a map with what the score loses: its literal form, and laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

import jaxcam
from jaxcam import metrics
from jaxcam.metrics import _correlation
from tests.metrics.test_axes import SIZES, Case

SIZE = (5, 6, 2)
FIRST = lambda logits: logits[:, 0]


@pytest.fixture
def case(rng):
    weights = rng.normal(size=(60, 3)) * 0.3
    forward = lambda x: jnp.tanh(x.reshape(len(x), -1) @ jnp.asarray(weights, x.dtype))
    images = rng.normal(size=(2, *SIZE))
    return forward, images, rng.normal(size=(2, *SIZE[:2])), weights


def sets(size, grid, subset, count, key):
    """Which pixels go: `count` lists of places, as the metric draws their cells."""
    sides = size if grid is None else (grid,) * len(size)
    cell = lambda place: tuple(
        int((i + 0.5) * n / length) for i, n, length in zip(place, sides, size, strict=True)
    )
    draw = _correlation._subsets(int(np.prod(sides)), subset)
    found = []
    for each in jax.random.split(key, count):
        gone = np.asarray(draw(each)).reshape(sides)
        found.append([place for place in np.ndindex(*size) if gone[cell(place)]])
    return found


def literal(model, image, other, saliency, drawn, correlation):
    """Bhatt et al., definition 3, a set at a time."""
    told, lost = [], []
    for places in drawn:
        changed = image.copy()
        total = 0.0
        for place in places:
            changed[place] = other[place]
            total += saliency[place]
        told.append(total)
        lost.append(model(image) - model(changed))
    return correlation(told, lost)[0]


@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize(("grid", "subset"), [(None, 0.3), (None, 4), (3, 0.25), (4, 5)])
def test_it_equals_its_literal_form(case, grid, subset, ranked):
    forward, images, saliency, weights = case
    key = jax.random.key(3)
    logit = jaxcam.targets.logit([2, 0])
    options = {"grid": grid, "subset": subset, "ranked": ranked, "baseline": 0.5, "num_samples": 9}
    with jax.enable_x64(True):
        found = metrics.faithfulness_correlation(
            forward, jnp.asarray(images), saliency, logit, key=key, chunk=2, **options
        )
        drawn = sets(SIZE[:2], grid, subset, 9, key)
    for i, target in enumerate((2, 0)):
        model = lambda x, target=target: np.tanh(x.ravel() @ weights)[target]
        correlation = spearmanr if ranked else pearsonr
        other = np.full(SIZE, 0.5)
        expected = literal(model, images[i], other, saliency[i], drawn, correlation)
        np.testing.assert_allclose(found[i], expected, rtol=1e-9)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("grid", [None, 2])
def test_signals_volumes_and_a_segmentation(name, grid):
    case = Case(name)

    def literal(image, saliency, confidence):
        told, lost = [], []
        for places in sets(case.size, grid, 0.4, 6, jax.random.key(0)):
            changed = image.copy()
            for place in places:
                changed[place] = 0
            told.append(sum(saliency[place] for place in places))
            lost.append(confidence(image) - confidence(changed))
        return np.corrcoef(told, lost)[0, 1]

    options = {"grid": grid, "subset": 0.4, "num_samples": 6}
    found = case.measured(metrics.faithfulness_correlation, **options)
    np.testing.assert_allclose(found, case.each(literal), rtol=1e-3, atol=1e-4)


def test_sets_are_of_one_size_and_of_all_cells_alike():
    draw = jax.vmap(_correlation._subsets(25, 0.2))
    drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 400)))
    np.testing.assert_array_equal(drawn.sum(1), 5)
    often = drawn.mean(0)
    assert (abs(often - 0.2) < 4 * np.sqrt(0.16 / 400)).all()
    assert len({tuple(each) for each in drawn}) > 390


def test_a_linear_model_is_told_by_its_weights(rng):
    """Whatever the unit or the level of the map; what is constant has no correlation."""
    weights = rng.normal(size=(6, 6)).astype(np.float32)
    image = rng.normal(size=(6, 6)).astype(np.float32)
    forward = lambda x: (x[..., 0] * weights[None]).sum((1, 2))[:, None]
    right = weights * image
    maps = np.stack([right, -1e30 * right, right + 100, np.zeros((6, 6)), np.full((6, 6), 0.1)])
    images = np.tile(image[None, ..., None], (len(maps), 1, 1, 1))
    for options in ({}, {"grid": 3}, {"ranked": True}):
        found = metrics.faithfulness_correlation(
            forward, images, maps.astype(np.float32), FIRST, num_samples=20, **options
        )
        np.testing.assert_allclose(found[:3], [1, -1, 1], atol=1e-3)
        assert np.isnan(found[3:]).all()


def test_cells_of_two_sizes_do_not_order_a_constant_map(case):
    """5 x 6 pixels in 4 x 4 cells."""
    forward, images, saliency, _ = case
    found = metrics.faithfulness_correlation(
        forward, images.astype(np.float32), np.full_like(saliency, 0.1), grid=4, num_samples=8
    )
    assert np.isnan(found).all()


def test_rounding_of_the_score_is_no_evidence(rng):
    """A score that a set moves by a unit in its last place at most, as batches do."""
    saliency = rng.normal(size=(2, 6, 6)).astype(np.float32)
    images = rng.normal(size=(2, 6, 6, 1)).astype(np.float32)
    for size, known in ((1e-8, False), (1e-3, True)):
        score = lambda x, size=size: 1 + size * x.sum((1, 2))
        found = metrics.faithfulness_correlation(score, images, saliency, FIRST, num_samples=20)
        assert (np.isfinite(found) == known).all()


def test_a_map_that_knows_nothing_has_none_on_average(rng):
    weights = rng.normal(size=(8, 8)).astype(np.float32)
    forward = lambda x: (x[..., 0] * weights[None]).sum((1, 2))[:, None]
    images = rng.normal(size=(200, 8, 8, 1)).astype(np.float32)
    noise = rng.normal(size=(200, 8, 8)).astype(np.float32)
    found = metrics.faithfulness_correlation(forward, images, noise, FIRST, num_samples=100)
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(200)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": 0.01}, "subset: got 0.01, expected a share or a number of 30, neither"),
        ({"subset": 30}, "subset: got 30"),
        ({"subset": True}, "subset: got True"),
        ({"subset": 1.0}, "subset: got 1.0"),
        ({"subset": 9, "grid": 3}, "subset: got 9, expected a share or a number of 9"),
        ({"grid": 6}, "grid: got 6, expected 1 to 5, the images' shorter side"),
        ({"grid": 1}, "subset: got 0.2, expected a share or a number of 1"),
        ({"num_samples": 1}, "num_samples: got 1"),
        ({"ranked": "yes"}, "ranked: got 'yes'"),
        ({"baseline": "red"}, "baseline: got 'red', expected 'blur', a number"),
        ({"chunk": 0}, "chunk: got 0"),
    ],
)
def test_refusals(case, options, message):
    forward, images, saliency, _ = case
    with pytest.raises(ValueError, match=message):
        metrics.faithfulness_correlation(forward, images.astype(np.float32), saliency, **options)
