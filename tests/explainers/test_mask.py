"""MASK: its loss and its steps against float64 literals, pieces against SciPy, what it finds."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxcam._explainers import masking
from jaxcam._explainers.black_box import BlackBox
from jaxcam._explainers.mask import START, mask
from jaxcam._explainers.masking import MASK_VARIANTS
from jaxcam._ground import filters
from jaxcam._program import eager

SIZE = 24
OFFICIAL = MASK_VARIANTS["official"]._replace(cell=4, blur=2.0, steps=60)
JACOBGIL = MASK_VARIANTS["jacobgil"]._replace(cell=4, steps=60)
PLAIN = JACOBGIL._replace(noise=0.0, baseline="constant")


@pytest.fixture(scope="module")
def planted():
    """Sees one bright square, elsewhere in each of two images: class 0 or 1; class 2 is neither."""
    images = jnp.asarray(0.1 * np.random.default_rng(0).random((2, SIZE, SIZE, 3)), jnp.float32)
    images = images.at[0, 4:12, 12:20].set(1.0).at[1, 12:20, 4:12].set(1.0)
    squares = lambda x: jnp.stack(
        [x[:, 4:12, 12:20].mean((1, 2, 3)), x[:, 12:20, 4:12].mean((1, 2, 3))], 1
    )
    forward = lambda x: jnp.pad(7 * squares(x) - 3, ((0, 0), (0, 1)))
    return forward, images, np.asarray(images.mean(-1) == 1)


@pytest.fixture(scope="module")
def linear():
    """Y = sum of w x, its images and its w in float64."""
    rng = np.random.default_rng(1)
    images, weights = rng.normal(size=(2, SIZE, SIZE, 3)), 0.02 * rng.normal(size=(SIZE, SIZE, 3))
    forward = lambda x: (x * jnp.asarray(weights, jnp.float32)[None]).sum((1, 2, 3))[:, None]
    return forward, images, weights


def literal_penalties(m, rules):
    """Cell by cell, in float64."""
    l1, tv, (rows, cols) = 0.0, 0.0, m.shape
    for i in range(rows):
        for j in range(cols):
            dy = m[i + 1, j] - m[i, j] if i + 1 < rows else 0.0
            dx = m[i, j + 1] - m[i, j] if j + 1 < cols else 0.0
            l1 += abs(1 - m[i, j])
            if rules.penalty == "sum":
                tv += np.sqrt(dx**2 + dy**2) ** rules.beta
            else:
                tv += abs(dy) ** rules.beta / ((rows - 1) * cols) + abs(dx) ** rules.beta / (
                    rows * (cols - 1)
                )
    return rules.l1 * (l1 if rules.penalty == "sum" else l1 / m.size) + rules.tv * tv


def literal_gradient(function, m, eps=1e-6):
    """Central differences."""
    steps = eps * np.eye(m.size).reshape(-1, *m.shape)
    return np.array([(function(m + d) - function(m - d)) / (2 * eps) for d in steps]).reshape(
        m.shape
    )


def literal_enlarged(m, rules):
    """A mask at the size of the image: NumPy's repeat or interp, SciPy's blur."""
    if rules.upsampling == "nearest":
        large = np.kron(m, np.ones((rules.cell, rules.cell)))[:SIZE, :SIZE]
    else:
        at = np.linspace(0, len(m) - 1, SIZE)
        large = np.stack([np.interp(at, np.arange(len(m)), row) for row in m])
        large = np.stack([np.interp(at, np.arange(len(m)), col) for col in large.T]).T
    return ndimage.gaussian_filter(large, rules.blur, mode="nearest") if rules.blur else large


@pytest.mark.parametrize("beta", [3.0, 1.5])
@pytest.mark.parametrize("rules", [OFFICIAL, JACOBGIL], ids=["official", "jacobgil"])
def test_penalties_and_their_gradient_equal_the_literal_form(rng, rules, beta):
    rules, m = rules._replace(beta=beta, l1=0.3, tv=0.7), rng.random((2, 5, 4))
    gradient = jax.jit(
        lambda cells, pull: jax.vjp(partial(masking.penalties, rules=rules), cells)[1](pull)[0]
    )
    cells = jnp.asarray(m, jnp.float32)
    found = masking.penalties(cells, rules)
    np.testing.assert_allclose(found, [literal_penalties(each, rules) for each in m], rtol=1e-5)
    expected = [literal_gradient(partial(literal_penalties, rules=rules), each) for each in m]
    np.testing.assert_allclose(gradient(cells, jnp.ones(2)), expected, rtol=1e-3, atol=1e-5)
    # flat, nothing hidden
    np.testing.assert_array_equal(gradient(jnp.ones_like(cells), jnp.ones(2)), 0)


@pytest.mark.parametrize("rules", [OFFICIAL, JACOBGIL], ids=["official", "jacobgil"])
def test_loss_equals_its_literal_form(rng, linear, rules):
    """lambda_1 |1 - m| + lambda_2 TV + softmax probability of m x + (1 - m) x_0, in float64."""
    forward, images, weights = linear
    rules, m, null = (
        rules._replace(jitter=0, noise=0.0),
        rng.random((2, 6, 6)),
        rng.normal(size=images.shape),
    )
    box = BlackBox(lambda x: jnp.pad(forward(x), ((0, 0), (0, 1))), jnp.array([0, 1]), None)
    cells, x, x_0 = (jnp.asarray(each, jnp.float32) for each in (m, images, null))

    @jax.jit
    def loss(cells):
        mixed = masking.perturb(
            x, x_0, masking.enlarge(cells, (SIZE, SIZE), rules), jax.random.key(0), rules
        )
        return masking.penalties(cells, rules) + box.scores(mixed[None])[0]

    found = loss(cells)
    for i in range(2):
        large = literal_enlarged(m[i], rules)[..., None]
        logit = ((large * images[i] + (1 - large) * null[i]) * weights).sum()
        probability = 1 / (1 + np.exp(-logit if i == 0 else logit))
        np.testing.assert_allclose(
            found[i], literal_penalties(m[i], rules) + probability, rtol=1e-4
        )


@pytest.mark.parametrize("rules", [OFFICIAL, PLAIN], ids=["official", "jacobgil"])
def test_steps_are_those_of_adam_clipped(linear, rules):
    """Eight steps in float64: moments by hand, the mask's gradient through upsampling, not blur."""
    forward, images, weights = linear
    price = 0.05 if rules.penalty == "sum" else 1.8  # large enough to be seen beside the scores
    rules = rules._replace(
        steps=8, jitter=0, init="ones", learning_rate=0.15, baseline="constant", l1=price, tv=price
    )
    spread = lambda n: np.stack(
        [literal_enlarged(d, rules._replace(blur=0)) for d in np.eye(n * n).reshape(-1, n, n)]
    )
    basis, expected = spread(6), []
    for image in images:
        m, first, second = np.ones((6, 6)), 0.0, 0.0
        pull = np.einsum("khw,hw->k", basis, (weights * image).sum(-1)).reshape(6, 6)
        for t in range(1, 9):
            # Central differences do not see that |1 - m| has gradient 0 at 1.
            hidden = rules.l1 * (m < 1) / (1 if rules.penalty == "sum" else m.size)
            gradient = (
                pull
                - hidden
                + literal_gradient(partial(literal_penalties, rules=rules._replace(l1=0)), m)
            )
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            m = m - 0.15 * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
            m = np.clip(m, 0, 1)
        expected.append(1 - literal_enlarged(m, rules))
    found = jax.jit(lambda x: mask(forward, x, 0, variant=rules, activation="identity"))(
        jnp.asarray(images, jnp.float32)
    )
    assert 0.1 < np.mean(expected) < 0.9
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_the_gradient_passes_around_the_smoothing(rng):
    """As in the official code: forwards smoothed, backwards sums over each cell's pixels."""
    cells, pull = jnp.asarray(rng.random((1, 6, 6)), jnp.float32), rng.normal(size=(1, SIZE, SIZE))
    value, back = jax.vjp(lambda c: masking.enlarge(c, (SIZE, SIZE), OFFICIAL), cells)
    np.testing.assert_allclose(
        value[0], literal_enlarged(np.asarray(cells[0], np.float64), OFFICIAL), atol=1e-5
    )
    expected = pull.reshape(1, 6, 4, 6, 4).sum((2, 4))
    np.testing.assert_allclose(
        back(jnp.asarray(pull, jnp.float32))[0], expected, rtol=1e-4, atol=1e-5
    )


def test_a_mask_that_only_costs_stays_all_ones(planted):
    """With lambda_1 alone nothing is worth hiding, nor for a model that never changes its mind."""
    _, images, _ = planted
    rules = PLAIN._replace(tv=0.0, steps=10)
    np.testing.assert_array_equal(
        mask(lambda x: jnp.ones((len(x), 2)), images, 0, variant=rules), 0
    )


@pytest.mark.parametrize(
    ("rules", "baseline"),
    [
        (OFFICIAL._replace(l1=3e-3, jitter=2, blur=1.0, steps=300), None),
        (OFFICIAL._replace(l1=3e-3, jitter=2, blur=1.0, steps=300), 0.0),
        (JACOBGIL._replace(l1=0.2, steps=150), "constant"),
        (JACOBGIL._replace(l1=0.2, steps=150), "noise"),
    ],
    ids=["official", "official-constant", "jacobgil", "jacobgil-noise"],
)
def test_planted_evidence_is_found(planted, rules, baseline):
    """The score falls, little is hidden, and what is hidden is the evidence.

    A 6 x 6 mask takes a higher lambda_1.
    """
    forward, images, evidence = planted
    saliency = np.asarray(
        jax.jit(lambda x: mask(forward, x, variant=rules, baseline=baseline))(images)
    )
    assert saliency.min() >= 0
    assert saliency.max() <= 1
    for i in range(2):
        assert saliency[i][evidence[i]].mean() > 0.8
        assert saliency[i][~evidence[i]].mean() < 0.35
        assert evidence[i].ravel()[saliency[i].argmax()]
    score = lambda x: jax.nn.softmax(forward(x))[jnp.arange(2), jnp.arange(2)]
    assert (score(images) > 0.9).all()
    assert (score(images * (1 - saliency[..., None])) < 0.15).all()


def test_shared_properties(planted):
    """Batch = singles, targets = one by one, a function = its class, probabilities = logits."""
    forward, images, _ = planted
    rules = PLAIN._replace(steps=6, jitter=2)
    explain = lambda images, targets, model=forward, **options: jax.jit(
        lambda x: mask(model, x, targets, variant=rules, **options)
    )(images)
    maps = explain(images, [0, 1])
    assert maps.shape == (2, SIZE, SIZE)
    assert maps.dtype == jnp.float32
    assert np.ptp(maps, (1, 2)).min() > 0.1
    close = partial(np.testing.assert_allclose, atol=1e-4)
    several = explain(images[1:], np.array([[2, 1]]))
    assert several.shape == (1, 2, SIZE, SIZE)
    close(several[0, 1], maps[1])
    close(explain(images, lambda logits: jax.nn.softmax(logits)[:, 1])[1], maps[1])
    close(explain(images, None, lambda x: jax.nn.softmax(forward(x)), activation="identity"), maps)
    close(mask(forward, images, [0, 1], variant=rules), maps)
    moved = explain(images, [0, 1], key=jax.random.key(1))
    assert np.abs(moved - maps).max() > 1e-3  # other shifts


@pytest.mark.parametrize(
    "targets",
    [[0, 1], [[2, 1], [0, 0]], lambda z: jax.nn.softmax(z)[:, 1]],
    ids=["B", "B K", "function"],
)
def test_progress_is_told_between_compiled_steps_and_changes_nothing(planted, targets):
    forward, images, _ = planted
    rules, told = OFFICIAL._replace(steps=12), []
    expected = jax.jit(lambda x: mask(forward, x, targets, variant=rules))(images)
    found = mask(forward, images, targets, variant=rules, progress=lambda *now: told.append(now))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert told == [(6, 12), (12, 12)]  # equal strides: one program


def test_progress_needs_no_new_program_for_the_next_photo(planted):
    forward, images, _ = planted
    rules = PLAIN._replace(steps=4)
    explain = lambda x, target: mask(forward, x, target, variant=rules, progress=lambda *now: None)
    first = explain(images[:1], [0])
    before = list(eager._compiled)
    second = explain(images[1:], [1])
    assert set(eager._compiled) == set(before)
    assert np.abs(first - second).max() > 0.1


def test_circle_start_hides_the_smallest_circle_that_is_enough(planted):
    """The official code's search, in float64 with SciPy's blur."""
    forward, images, _ = planted
    null = masking.BASELINES["blur"](images)
    box = BlackBox(forward, jnp.array([0, 1]), None)
    start = jax.jit(lambda: START["circle"](box, images, null, OFFICIAL, jax.random.key(0)))
    found = start()
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    circles = []
    for radius in np.arange(0, 175, 5) * SIZE / 224:
        circles.append(1 - ndimage.gaussian_filter((x**2 + y**2 <= radius**2).astype(float), 10))
    shares = lambda pictures: jax.nn.softmax(forward(jnp.asarray(pictures, jnp.float32)))
    for i in range(2):
        scores = shares(
            [m[..., None] * images[i] + (1 - m[..., None]) * null[i] for m in circles] + [images[i]]
        )[:, i]  # fmt: skip
        left = np.asarray((scores[:-1] - scores[-2]) / (scores[-1] - scores[-2]))
        chosen = circles[np.flatnonzero(left < 1e-2)[0]]
        stretched = (
            (chosen - chosen.min()) / np.ptp(chosen) if np.ptp(chosen) > 1e-4 else 0 * chosen
        )
        np.testing.assert_allclose(found[i], stretched[2::4, 2::4], atol=2e-3)


def test_circle_start_that_never_is_enough_takes_the_largest():
    images = jnp.ones((1, 16, 16, 1))
    box = BlackBox(lambda x: jnp.ones((len(x), 2)), jnp.array([0]), None)
    start = jax.jit(lambda: START["circle"](box, images, 0 * images, OFFICIAL, jax.random.key(0)))
    np.testing.assert_array_equal(start(), 0)  # 0 / 0: the circle that covers everything


def test_baselines_equal_scipys(rng):
    images = rng.normal(size=(2, 14, 17, 3))
    blurred = ndimage.gaussian_filter(images, (0, 10, 10, 0), mode="nearest")
    median = ndimage.median_filter(images, size=(1, 11, 11, 1), mode="nearest")
    x = jnp.asarray(images, jnp.float32)
    np.testing.assert_allclose(masking.make_baseline(x, "blur"), blurred, atol=1e-5)
    np.testing.assert_allclose(masking.make_baseline(x, "median"), median, atol=1e-6)
    coarse = x.round(0).astype(jnp.bfloat16)  # ties, and both zeros
    median = ndimage.median_filter(
        np.asarray(coarse, np.float32), size=(1, 11, 11, 1), mode="nearest"
    )
    np.testing.assert_array_equal(
        masking.make_baseline(coarse, "median").astype(jnp.float32), median
    )
    np.testing.assert_array_equal(masking.make_baseline(x, "constant"), 0)
    np.testing.assert_array_equal(masking.make_baseline(x, [1, 2, 3])[1, 2, 3], [1, 2, 3])
    assert masking.make_baseline(x, "noise") is None


def test_gaussian_matrix_equals_scipys_at_both_borders():
    for border, theirs in (("edge", "nearest"), ("symmetric", "reflect")):
        expected = ndimage.gaussian_filter1d(np.eye(9), 4.0, axis=0, mode=theirs)
        np.testing.assert_allclose(filters.smoothing(9, 4.0, border), expected, atol=1e-14)


def test_jitter_and_noise_are_as_large_as_they_should_be():
    """Shifts of 0 to jitter - 1 pixels, alike for image and baseline; noise of given deviation."""
    ramp = jnp.arange(12.0)[:, None] * 100 + jnp.arange(12.0)[None]
    images = ramp[None, ..., None]
    rules = PLAIN._replace(jitter=4)
    shift = jax.jit(
        lambda k: masking.perturb(images, images + 5, jnp.full((1, 8, 8), 0.5), k, rules)[0, ..., 0]
    )
    seen = {
        tuple(map(int, divmod(float(shift(jax.random.key(k))[0, 0]) - 2.5, 100))) for k in range(80)
    }
    assert {row for row, _ in seen} == {col for _, col in seen} == {0, 1, 2, 3}
    assert len(seen) > 10
    noisy = masking.perturb(
        images, images, jnp.ones((1, 12, 12)), jax.random.key(0), PLAIN._replace(noise=0.2)
    )
    assert abs(float((noisy - images).std()) - 0.2) < 0.04
    null = masking.perturb(images, None, jnp.zeros((1, 12, 12)), jax.random.key(0), PLAIN)
    assert abs(float(null.std()) - 1) < 0.2
    assert masking.magnify(images, 4).shape == (1, 16, 16, 1)


def test_cells_that_do_not_fit_are_cut():
    cells = jnp.arange(6.0).reshape(1, 2, 3)
    for rules in (OFFICIAL._replace(blur=0.0), PLAIN):
        large = masking.enlarge(cells, (7, 10), rules)[0]
        assert large.shape == (7, 10)
        np.testing.assert_allclose([large[0, 0], large[-1, -1]], [0, 5], atol=1e-5)


def test_bad_input_is_named(planted):
    forward, images, _ = planted
    with pytest.raises(
        ValueError, match="variant: got 'mine', expected one of 'official', 'jacobgil'"
    ):
        mask(forward, images, variant="mine")
    with pytest.raises(
        ValueError, match=r"variant\.init: got 'zeros', expected one of 'ones', 'circle'"
    ):
        mask(forward, images, variant=OFFICIAL._replace(init="zeros"))
    with pytest.raises(ValueError, match=r"variant\.steps: got 0, expected at least 1"):
        mask(forward, images, variant=OFFICIAL._replace(steps=0))
    with pytest.raises(
        ValueError,
        match="baseline: got 'grey', expected one of 'blur', 'median', 'constant', 'noise'",
    ):
        mask(forward, images, baseline="grey")
    with pytest.raises(
        ValueError,
        match=r"baseline: got shape \(2,\), expected a number, \[3\] or \[2, 24, 24, 3\]",
    ):
        mask(forward, images, baseline=[0, 1])
    with pytest.raises(ValueError, match="targets: got class 3, expected 0 to 2"):
        mask(forward, images, 3)
    with pytest.raises(ValueError, match=r"progress: got .* inside a transformation"):
        jax.jit(lambda x: mask(forward, x, progress=print))(images)
    with pytest.raises(
        ValueError, match=r"forward: got an output of shape \(2, 24, 24, 3\) for 2 images"
    ):
        mask(lambda x: x, images)
