"""LIME and KernelSHAP: against closed forms, scikit-learn, lime, and exact Shapley values."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam._explainers import superpixels, surrogates
from jaxcam._explainers.lime import _samples, lime, lime_surrogate
from jaxcam._explainers.superpixels import quickshift

SEGMENTS = np.stack(
    [np.arange(64).reshape(8, 8) // 8, np.kron(np.arange(4).reshape(2, 2), np.ones((4, 4), int))]
)


@pytest.fixture(scope="module")
def tiny():
    """A perceptron, which compiles in no time, and two images."""
    rng = np.random.default_rng(4)
    first, last = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((192, 16), (16, 5))
    )
    forward = lambda x: jnp.tanh(x.reshape(len(x), -1) @ first / 6) @ last
    return forward, jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32)


@pytest.fixture(scope="module")
def design():
    """Samples, answers and weights of a regression that has noise."""
    rng = np.random.default_rng(3)
    samples = rng.random((60, 7)) < 0.5
    samples[0] = True
    answers = samples @ rng.normal(size=(7, 2)) + 0.3 + 0.2 * rng.normal(size=(60, 2))
    return samples.astype(np.float64), answers, literal_weights(samples, 0.25)


def literal_weights(samples, width):
    # cosine, as sklearn: 1 from nothing
    distance = [1 - z.sum() / (math.sqrt(z.sum() * len(z)) or 1) for z in samples]
    return np.sqrt(np.exp(-(np.array(distance) ** 2) / width**2))


def literal_ridge(samples, answers, weights, alpha):
    """Ridge with the intercept as one more column that costs nothing."""
    x = np.concatenate([samples, np.ones((len(samples), 1))], 1)
    price = np.diag([alpha] * samples.shape[1] + [0])
    solution = np.linalg.solve(x.T @ np.diag(weights) @ x + price, x.T @ np.diag(weights) @ answers)
    return solution[:-1].T, solution[-1]


def single(samples):
    return jnp.asarray(samples, jnp.float32)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 10.0])
def test_ridge_equals_its_closed_form(design, alpha):
    samples, answers, weights = design
    found = surrogates.weighted_ridge(*map(single, design), alpha)
    coefficients, intercept = literal_ridge(samples, answers, weights, alpha)
    np.testing.assert_allclose(found[0], coefficients, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], intercept, rtol=1e-4, atol=1e-5)


def test_ridge_equals_scikit_learns(design):
    linear = pytest.importorskip("sklearn.linear_model")
    samples, answers, weights = design
    coefficients, intercept, r2 = surrogates.weighted_ridge(*map(single, design), 1.0)
    for k in range(2):
        theirs = linear.Ridge(alpha=1).fit(samples, answers[:, k], sample_weight=weights)
        np.testing.assert_allclose(coefficients[k], theirs.coef_, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(intercept[k], theirs.intercept_, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(r2[k], theirs.score(samples, answers[:, k], weights), rtol=1e-4)


def test_weights_are_those_of_the_cosine_kernel():
    samples = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 1]])
    found = surrogates.cosine_weights(single(samples), jnp.ones(4, bool), 0.25)
    np.testing.assert_allclose(found, literal_weights(samples, 0.25), rtol=1e-5)
    assert found[0] == 1  # the whole image
    padded = surrogates.cosine_weights(
        single(np.pad(samples, ((0, 0), (0, 3)))), jnp.arange(7) < 4, 0.25
    )
    np.testing.assert_array_equal(padded, found)


def test_the_lime_package_gets_the_same_coefficients_from_the_same_samples(tiny):
    """Its samples and its pictures of them, our answers: our fit of our pictures is its fit."""
    package = pytest.importorskip("lime.lime_image")
    forward, images = tiny
    compiled = jax.jit(forward)
    model = lambda x: np.asarray(jax.nn.softmax(compiled(jnp.asarray(x, jnp.float32))), np.float64)
    explainer, pictures = package.LimeImageExplainer(random_state=0), []
    recorded = {}
    draw = explainer.data_labels

    def record(*args, **kwargs):
        recorded["data"], recorded["answers"] = draw(*args, **kwargs)
        return recorded["data"], recorded["answers"]

    explainer.data_labels = record
    image = np.asarray(images[0], np.float64)
    explanation = explainer.explain_instance(
        image, lambda x: pictures.append(x) or model(x), labels=(2,), top_labels=None,
        num_samples=60, segmentation_fn=lambda _: SEGMENTS[0], batch_size=20,
    )  # fmt: skip
    samples = jnp.asarray(recorded["data"], bool)[:, None]
    segments = jnp.asarray(SEGMENTS[:1])
    ours = superpixels.show(
        images[:1], superpixels.hide(images[:1], segments, 8, None), segments, samples
    )
    np.testing.assert_allclose(ours[:, 0], np.concatenate(pictures), atol=1e-5)
    fit = surrogates.KERNELS["cosine"].fit
    found = fit(
        single(recorded["data"]), single(recorded["answers"][:, [2]]), jnp.ones(8, bool), 0.25, 1.0
    )
    theirs = dict(explanation.local_exp[2])
    np.testing.assert_allclose(found[0][0], [theirs[s] for s in range(8)], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found[1][0], explanation.intercept[2], rtol=1e-4)
    np.testing.assert_allclose(found[2][0], explanation.score, rtol=1e-3)


def literal_lime(forward, image, segments, samples, target):
    """Picture by picture in float64."""
    pictures = []
    for z in samples:
        picture = image.copy()
        for s in np.flatnonzero(~z):
            picture[segments == s] = image[segments == s].mean(0)
        pictures.append(picture)
    odds = np.exp(np.asarray(forward(jnp.asarray(pictures, jnp.float32)), np.float64))
    answers = odds[:, target] / odds.sum(1)
    return literal_ridge(samples.astype(float), answers, literal_weights(samples, 0.25), 1.0)


def test_lime_equals_its_literal_form(tiny):
    """Images with 8 and 4 segments in one batch: padding changes nothing."""
    forward, images = tiny
    fit = jax.jit(partial(lime_surrogate, forward, num_samples=50, chunk=16, num_segments=9))
    found = fit(images, np.array([1, 2]), segments=jnp.asarray(SEGMENTS))
    present = jnp.arange(9)[None] < jnp.array([[8], [4]])
    samples = np.asarray(surrogates.halves(jax.random.key(0), 50, present))
    assert samples[0, 0, :8].all()
    for i, (target, count) in enumerate(((1, 8), (2, 4))):
        shown = samples[:, i, :count]
        coefficients, intercept = literal_lime(
            forward, np.array(images[i], float), SEGMENTS[i], shown, target
        )
        np.testing.assert_allclose(
            found.coefficients[i, :count], coefficients, rtol=1e-3, atol=1e-6
        )
        np.testing.assert_array_equal(found.coefficients[i, count:], 0)
        np.testing.assert_allclose(found.intercept[i], intercept, rtol=1e-4)
        np.testing.assert_allclose(
            found.saliency[i], coefficients[SEGMENTS[i]], rtol=1e-3, atol=1e-6
        )


def test_samples_are_fair_coins():
    samples = np.asarray(surrogates.halves(jax.random.key(1), 4001, jnp.ones((1, 6), bool)))[1:, 0]
    np.testing.assert_allclose(samples.mean(0), 0.5, atol=0.03)
    assert np.abs(np.corrcoef(samples.T) - np.eye(6)).max() < 0.06


def test_a_linear_model_is_recovered():
    """y = sum of a segment's pixels, hidden at 0: the coefficients are those sums, and R^2 is 1."""
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 1)), jnp.float32)
    forward = lambda x: x.sum((1, 2))
    for kernel in ("cosine", "shap"):
        options = {
            "segments": SEGMENTS,
            "hide_color": 0,
            "activation": "identity",
            "alpha": 0.0,
            "num_samples": 80,
        }
        found = lime_surrogate(forward, images, 0, kernel=kernel, **options)
        for i, count in enumerate((8, 4)):
            sums = [float(images[i, ..., 0][SEGMENTS[i] == s].sum()) for s in range(count)]
            np.testing.assert_allclose(found.coefficients[i, :count], sums, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found.intercept, 0, atol=1e-3)
        np.testing.assert_allclose(found.r2, 1, atol=1e-4)


def test_shap_kernel_gives_shapley_values():
    """Of a game with interactions, the exact values from every order of the players' arrival."""
    rng = np.random.default_rng(5)
    pairs = jnp.asarray(rng.normal(size=(4, 4)), jnp.float32)
    game = lambda z: jnp.einsum("ni,ij,nj->n", z, pairs, z) + jnp.prod(z[:, :3], 1)
    forward = lambda x: game(
        jnp.stack([x[:, :4, :4], x[:, :4, 4:], x[:, 4:, :4], x[:, 4:, 4:]], 1)[:, :, 0, 0, 0]
    )[:, None]
    options = {
        "segments": SEGMENTS[1:],
        "hide_color": 0,
        "activation": "identity",
        "kernel": "shap",
    }
    found = lime_surrogate(
        forward, jnp.ones((1, 8, 8, 1)), 0, num_samples=6000, chunk=2000, **options
    )
    exact = np.zeros(4)
    for order in itertools.permutations(range(4)):
        z = np.zeros((5, 4), np.float32)
        for i, player in enumerate(order):
            z[i + 1 :, player] = 1
        exact[list(order)] += np.diff(game(jnp.asarray(z))) / 24
    np.testing.assert_allclose(found.coefficients[0], exact, atol=0.06)
    assert np.abs(exact).max() > 0.5
    whole = game(jnp.ones((1, 4)))[0] - game(jnp.zeros((1, 4)))[0]
    np.testing.assert_allclose(found.coefficients.sum(), whole, rtol=1e-4)  # efficiency, exactly


def test_constrained_ridge_equals_its_limit(design):
    """The literal form: the first two samples weigh a million times as much."""
    samples, answers, _ = design
    samples = np.concatenate([samples[:1], np.zeros((1, 7)), samples[1:]])
    answers = np.concatenate([answers[:1], [[0.3, 0.1]], answers[1:]])
    weights = np.concatenate([[1e8, 1e8], 0.5 + np.arange(59) / 59])
    coefficients, intercept = literal_ridge(samples, answers, weights, 0.0)
    rows = single(samples), single(answers)
    found = surrogates.constrained_ridge(*rows, single(weights), jnp.ones(7, bool), 0.0)
    np.testing.assert_allclose(found[0], coefficients, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[1], intercept, atol=1e-5)


def test_coalitions_have_shapley_sizes():
    """Sizes go as 1 / (k (S - k)), segments of a size are alike, and absent segments stay out."""
    present = jnp.arange(8)[None] < jnp.array([[5], [8], [1]])
    samples = np.asarray(surrogates.coalitions(jax.random.key(0), 6002, present))
    np.testing.assert_array_equal(samples[0], present)
    assert not samples[1].any()
    assert not samples[:, 0, 5:].any()
    np.testing.assert_array_equal(
        samples[3::2], np.asarray(present) & ~samples[2::2]
    )  # complements
    np.testing.assert_array_equal(samples[2:18:2, 1], np.eye(8, dtype=bool))  # each one alone
    np.testing.assert_allclose(samples[2:, 1].mean(0), 0.5, atol=0.025)
    for image, total in ((0, 5), (1, 8)):
        own = samples[:, image, :total]
        sizes = own.sum(1)
        weights = np.asarray(surrogates.coalition_weights(single(own), jnp.ones(total, bool)))
        np.testing.assert_array_equal(weights[:2], 0)
        np.testing.assert_allclose(weights[2:].mean(), 1, rtol=1e-4)
        shares = np.array([1 / (k * (total - k)) for k in range(1, total)])
        heard = np.bincount(sizes, weights, minlength=total)[1:total] / 6000
        np.testing.assert_allclose(heard, shares / shares.sum(), atol=0.025)
    alone = np.asarray(surrogates.coalition_weights(single(samples[:, 2]), present[2]))
    np.testing.assert_array_equal(alone, 0)


@pytest.mark.parametrize(("count", "more"), [(2, 0), (5, 5), (64, 0)])
def test_shap_of_an_additive_model_is_exact_from_the_least_number_of_samples(count, more):
    """A black box of which nothing is known but that segments add up; fewer samples are refused."""
    size = 8
    segments = np.arange(size * size).reshape(1, size, size) * count // (size * size)
    sums = np.random.default_rng(count).normal(size=count)
    worth = (sums[segments[0]] / np.bincount(segments.ravel())[segments[0]])[..., None]
    asked = []

    def box(photos):
        asked.append(len(photos))
        return (photos * worth).sum((1, 2, 3), dtype=np.float64)[:, None] + 0.5

    options = {"segments": segments, "hide_color": 0, "activation": "identity", "host": True}
    explain = partial(lime_surrogate, box, np.ones((1, size, size, 1), np.float32), 0, **options)
    least = 2 * count + 2
    found = explain(kernel="shap", num_samples=least + more)
    np.testing.assert_allclose(found.coefficients[0], sums, atol=5e-5)
    np.testing.assert_allclose(found.intercept, 0.5, atol=1e-5)
    words = (
        f"num_samples: got {least - 1}, expected a whole number, at least {least}, for {count} s"
    )
    with pytest.raises(ValueError, match=words):
        explain(kernel="shap", num_samples=least - 1)
    if more:
        found = explain(kernel="shap", num_samples=least - 3, alpha=0.1)
        assert np.isfinite(found.coefficients).all()


def test_samples_by_default_grow_with_the_segments():
    there = jnp.ones((1, 400), bool)
    assert _samples(None, "shap", there, 0.0) == 1602
    assert _samples(None, "shap", there[:, :9], 0.0) == 1000
    assert _samples(None, "cosine", there, 1.0) == 1000
    with pytest.raises(ValueError, match="num_samples: got 20, expected a whole number, at least"):
        jax.jit(lambda there: _samples(20, "shap", there, 0.0))(there)


def test_one_segment_takes_it_all(tiny):
    forward, images = tiny
    options = {
        "segments": np.zeros((2, 8, 8), int),
        "num_samples": 6,
        "kernel": "shap",
        "hide_color": 0.0,
    }
    found = lime_surrogate(forward, images, 1, **options)
    change = jax.nn.softmax(forward(images))[:, 1] - jax.nn.softmax(forward(0 * images))[:, 1]
    np.testing.assert_allclose(found.coefficients[:, 0], change, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kernel", ["cosine", "shap"])
def test_shared_properties(tiny, kernel):
    """The chunk does not matter, batch = singles, targets = one by one, a function = its class."""
    forward, images = tiny
    explain = partial(lime, jax.jit(forward), num_samples=30, kernel=kernel)
    maps = explain(images, [0, 1], segments=SEGMENTS, chunk=7)
    assert maps.shape == (2, 8, 8)
    assert maps.dtype == jnp.float32
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6)
    close(explain(images, [0, 1], segments=SEGMENTS, chunk=100), maps)
    # numbered as they like
    several = explain(images[1:], np.array([[2, 1]]), segments=SEGMENTS[1:] * 10 - 5)
    assert several.shape == (1, 2, 8, 8)
    close(several[0, 1], maps[1])
    close(
        explain(images, lambda logits: jax.nn.softmax(logits)[:, 1], segments=SEGMENTS)[1], maps[1]
    )


def test_a_model_outside_jax_gives_the_same_map_and_progress_is_told(tiny):
    forward, images = tiny
    compiled, told, asked = jax.jit(forward), [], []

    def outside(x):
        assert type(x) is np.ndarray
        asked.append(len(x))
        return np.asarray(compiled(x))

    options = {"segments": SEGMENTS, "num_samples": 30, "chunk": 12}
    tell = lambda done, total: told.append((done, total))
    found = lime(outside, images, 1, host=True, progress=tell, **options)
    np.testing.assert_allclose(found, lime(forward, images, 1, **options), rtol=1e-3, atol=1e-6)
    assert told == [(10, 30), (20, 30), (30, 30)]
    assert asked == [20, 20, 20]


def test_hidden_segments_take_their_mean_or_a_colour(tiny):
    _, images = tiny
    segments = jnp.asarray(SEGMENTS)
    means = superpixels.hide(images, segments, 8, None)
    np.testing.assert_allclose(
        means[1, :4, :4], np.broadcast_to(images[1, :4, :4].mean((0, 1)), (4, 4, 3)), rtol=1e-4
    )
    np.testing.assert_array_equal(
        superpixels.hide(images, segments, 8, [1, 2, 3])[0, 0, 0], [1, 2, 3]
    )
    np.testing.assert_array_equal(superpixels.hide(images, segments, 8, 0.5), 0.5)
    shown = superpixels.show(
        images, means, segments, jnp.zeros((1, 2, 8), bool).at[0, 1, 2].set(True)
    )[0]
    np.testing.assert_array_equal(shown[1, 4:, :4], images[1, 4:, :4])
    np.testing.assert_array_equal(shown[1, :4], means[1, :4])


def test_quickshift_is_scikit_images_with_limes_parameters():
    from skimage.data import astronaut
    from skimage.segmentation import quickshift as theirs

    photo = astronaut()[:128:4, :128:4]
    expected = theirs(photo, kernel_size=4, max_dist=200, ratio=0.2)
    found = quickshift(photo[None])
    np.testing.assert_array_equal(found[0], expected)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(quickshift(photo[None] / 255)[0], expected)
    scaled = photo / 255 * 4 - 2
    low, high = scaled.min(), scaled.max()
    np.testing.assert_array_equal(
        quickshift(scaled[None])[0],
        theirs((scaled - low) / (high - low), kernel_size=4, max_dist=200, ratio=0.2),
    )
    assert quickshift(photo[None, ..., :1]).shape == (1, 32, 32)


def test_segments_come_from_quickshift_or_any_function(tiny):
    forward, images = tiny
    found = lime_surrogate(forward, images, 1, num_samples=30)
    np.testing.assert_array_equal(found.segments, quickshift(images))
    stripes = lambda image: np.arange(64).reshape(image.shape[:2]) // 16
    found = lime_surrogate(forward, images, 1, segments=stripes, num_samples=30)
    np.testing.assert_array_equal(found.segments[1], stripes(images[1]))
    assert found.coefficients.shape == (2, 4)


def test_signals_fall_into_pieces_and_volumes_into_blocks():
    """Of a linear model each piece gets what its places add to the score."""
    rng = np.random.default_rng(2)
    signals = rng.normal(size=(2, 100, 3))
    weights = rng.normal(size=(1, 100, 3))
    forward = lambda x: (x * jnp.asarray(weights, jnp.float32)).sum((1, 2))
    options = {"kernel": "shap", "hide_color": 0.0, "num_samples": 198}
    explain = jax.jit(lambda x: lime(forward, x, lambda scores: scores, num_segments=49, **options))
    found = explain(jnp.asarray(signals, jnp.float32))
    pieces = np.arange(100) * 49 // 100
    adds = (signals * weights).sum(-1)
    expected = np.stack([np.bincount(pieces, each)[pieces] for each in adds])
    np.testing.assert_allclose(found, expected, atol=1e-3)
    blocks = superpixels.grid((8, 3, 12))
    assert blocks.shape == (8, 3, 12)
    np.testing.assert_array_equal(np.unique(blocks, return_counts=True)[1], [6] * 48)
    assert np.all(blocks[:2, 0, :3] == 0) and blocks[2, 0, 0] == 12
    assert np.all(superpixels.grid((5,)) == np.arange(5))


def test_bad_input_is_named(tiny):
    forward, images = tiny
    explain = partial(lime, forward, images, 0, segments=SEGMENTS)
    with pytest.raises(ValueError, match="kernel: got 'mine', expected one of 'cosine', 'shap'"):
        explain(kernel="mine")
    with pytest.raises(ValueError, match="num_samples: got 2, expected a whole number, at"):
        explain(kernel="shap", num_samples=2)
    with pytest.raises(ValueError, match="kernel_width: got 0, expected a number above 0"):
        explain(kernel_width=0)
    with pytest.raises(ValueError, match="alpha: got -1, expected at least 0"):
        explain(alpha=-1)
    with pytest.raises(ValueError, match="chunk: got 0, expected at least 1"):
        explain(chunk=0)
    with pytest.raises(
        ValueError, match=r"hide_color: got shape \(2,\), expected None, a number, \[3\] or"
    ):
        explain(hide_color=[1, 2])
    with pytest.raises(
        ValueError, match=r"segments: got float64 values of shape \(2, 8, 8\), expected integers"
    ):
        explain(segments=SEGMENTS / 2)
    with pytest.raises(
        ValueError,
        match=r"segments: got int64 values of shape \(1, 8, 8\), expected integers \[2, 8",
    ):
        explain(segments=SEGMENTS[:1])
    with pytest.raises(
        ValueError, match="num_segments: got 5, expected at least 8, as an image has"
    ):
        explain(num_segments=5)
    with pytest.raises(ValueError, match="segments: got none inside a transformation"):
        jax.jit(lambda i: lime(forward, i, 0))(images)
    with pytest.raises(ValueError, match="num_segments: got None inside a transformation"):
        jax.jit(lambda s: lime(forward, images, 0, segments=s))(SEGMENTS)
    with pytest.raises(ValueError, match="targets: got class 9, expected 0 to 4"):
        lime(forward, images, 9, segments=SEGMENTS)
    with pytest.raises(ValueError, match=r"images: got shape \(8, 8, 3\), expected \[B, H, W, C\]"):
        quickshift(images[0])
