"""Kin of the gradient CAMs and smoothing of any method: against literal forms, and their laws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import targets
from jaxcam._explainers import activation, formulas, smooth_plus_plus, smoothing
from tests import nets
from tests.explainers import literal

close = partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6)


@pytest.fixture(scope="module")
def tiny():
    model, variables, images = nets.tiny(batch=2)
    return jaxcam.linen(model, variables), images


def acts_and_grads(rng):
    acts = np.maximum(rng.normal(size=(2, 4, 5, 6)), 0)
    acts[0, :, :, 2] = 0  # a dead channel
    return acts, rng.normal(size=acts.shape)


WITHOUT_CLASS = {
    "fem": (activation.fem_map, literal.fem),
    "fem jacobgil": (
        partial(activation.fem_map, k=1.0, variant="jacobgil"),
        partial(literal.fem, k=1.0, jacobgil=True),
    ),
    "kpca": (activation.kpca_cam_map, literal.kpca_cam),
    "kpca rbf": (
        partial(activation.kpca_cam_map, kernel="rbf", gamma=0.3),
        partial(literal.kpca_cam, kernel="rbf", gamma=0.3),
    ),
    "kpca linear": (
        partial(activation.kpca_cam_map, kernel="linear"),
        partial(literal.eigen_cam, center=True),
    ),
}


@pytest.mark.parametrize("name", WITHOUT_CLASS)
def test_maps_of_activations_equal_their_literal_form(name, rng):
    formula, slow = WITHOUT_CLASS[name]
    acts, _ = acts_and_grads(rng)
    expected = np.stack([slow(a) for a in acts])
    assert np.abs(expected).max() > 0
    with jax.enable_x64(True):
        np.testing.assert_allclose(formula(jnp.asarray(acts)), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kernel", activation.KERNELS)
def test_kpca_cam_by_products_equals_its_literal_form(kernel, rng, monkeypatch):
    monkeypatch.setattr(activation, "WHOLE", 19)
    acts, _ = acts_and_grads(rng)
    acts[0] = np.roll(acts[0], 1, -1)  # the dead channel elsewhere
    expected = np.stack([literal.kpca_cam(a, kernel, 0.3) for a in acts])
    found = activation.kpca_cam_map(jnp.asarray(acts, jnp.float32), kernel, 0.3)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())
    equal = jnp.full((1, 6, 6, 4), 0.7)
    np.testing.assert_array_equal(activation.kpca_cam_map(equal, kernel), 0)


def test_kpca_cam_by_products_has_the_gradient_of_the_whole_decomposition(rng, monkeypatch):
    acts = jnp.asarray(acts_and_grads(rng)[0], jnp.float32)
    weights = jnp.asarray(rng.normal(size=acts.shape[:3]), jnp.float32)
    score = lambda a: (weights * activation.kpca_cam_map(a)).sum()
    whole = jax.jit(jax.grad(score))(acts)
    monkeypatch.setattr(activation, "WHOLE", 19)
    found = jax.jit(jax.grad(lambda a: score(a)))(acts)
    np.testing.assert_allclose(found, whole, atol=1e-4 * np.abs(whole).max())


def test_a_layer_of_equal_positions_has_no_component_and_no_strong_place():
    acts = jnp.full((1, 6, 6, 4), 0.7)
    for kernel in activation.KERNELS:
        np.testing.assert_array_equal(activation.kpca_cam_map(acts, kernel), 0)
    np.testing.assert_array_equal(activation.fem_map(acts), 0)


@pytest.mark.parametrize("variant", smooth_plus_plus.VARIANTS)
def test_smooth_grad_cam_plus_plus_equals_its_literal_form(tiny, variant):
    forward, images = tiny
    key = jax.random.key(3)
    options = {"samples": 3, "sigma": 0.2, "variant": variant, "key": key, "layer": "stem"}
    maps = jaxcam.smooth_grad_cam_plus_plus(forward, images, [1, 2], **options)
    _, acts, _ = jaxcam.activations_and_gradients(forward, images, layer="stem")
    acts = np.asarray(acts, np.float64)
    grads = []
    for each in jax.random.split(key, 3):
        shown = smoothing.noisy(images, each, 0.2)
        found = jaxcam.activations_and_gradients(forward, shown, [1, 2], layer="stem")[2]
        grads.append(np.asarray(found, np.float64))
    for i in range(2):
        of_image = [g[i] for g in grads]
        expected = literal.smooth_grad_cam_plus_plus(acts[i], of_image, variant)
        assert expected.max() > 0
        np.testing.assert_allclose(maps[i], expected, rtol=1e-3, atol=1e-5 * expected.max())


def curved(x):
    """A head of which the Hessian is known: Y_c = sum_k W_kc (mean A_k)^2."""
    weights = jnp.asarray(np.random.default_rng(4).normal(size=(3, 2)), x.dtype)
    return (jaxcam.tag(x * x, "a").mean((1, 2)) ** 2) @ weights


def test_shapley_cam_equals_its_literal_form(rng):
    images = rng.normal(size=(2, 4, 4, 3))
    acts = images**2
    weights = np.random.default_rng(4).normal(size=(3, 2))
    means = acts.mean((1, 2))
    with jax.enable_x64(True):
        maps = jaxcam.shapley_cam(curved, jnp.asarray(images), [0, 1], layer="a")
    for i, target in enumerate((0, 1)):
        # dY/dA_ijk = 2 W m_k / 16, and (H A)_ijk = 2 W / 16 (sum A_k) / 16
        gradient = np.broadcast_to(2 * weights[:, target] * means[i] / 16, (4, 4, 3))
        expected = literal.shapley_cam(acts[i], gradient, gradient)
        assert np.ptp(expected) > 0 or expected.max() == 0
        np.testing.assert_allclose(maps[i], expected, rtol=1e-9)


def test_shapley_values_hold_the_score_to_the_second_order():
    """sum A (G - 1/2 H A) = Y(A) - Y(0) where Y is of degree 2."""
    images = jnp.asarray(np.random.default_rng(2).normal(size=(2, 4, 4, 3)), jnp.float32)
    from jaxcam._explainers.shapley import shapley_values
    from jaxcam._program.question import ask

    acts, values, _ = shapley_values(ask(curved, images, 1, layer="a"))
    np.testing.assert_allclose(
        (acts["a"] * values["a"]).sum((1, 2, 3)), curved(images)[:, 1], rtol=1e-4
    )


def test_shapley_cam_is_grad_cam_where_the_score_is_linear(tiny):
    forward, images = tiny
    close(jaxcam.shapley_cam(forward, images, 1), jaxcam.grad_cam(forward, images, 1))
    residual = targets.residual_softmax([1, 2])
    own = jaxcam.shapley_cam(forward, images, residual, relu=None)
    assert np.abs(own - jaxcam.grad_cam(forward, images, residual, relu=None)).max() > 1e-5


@pytest.mark.parametrize("weighting", ["probability", "mean"])
def test_finer_cam_equals_its_literal_form(tiny, weighting):
    """The score, by the literal formula; its map by Grad-CAM of numerical gradients of logits."""
    forward, images = tiny
    logits = np.asarray(forward(images), np.float64)
    options = {"count": 2, "strength": 0.6, "weighting": weighting}
    found = targets.finer([1, 2], **options)(jnp.asarray(logits))
    expected = [literal.finer_score(z, t, **options) for z, t in zip(logits, (1, 2), strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    slopes = np.zeros_like(logits)  # dY/dz, by differences
    for i, target in enumerate((1, 2)):
        for n in range(logits.shape[1]):
            step = 1e-6 * np.eye(logits.shape[1])[n]
            high = literal.finer_score(logits[i] + step, target, **options)
            low = literal.finer_score(logits[i] - step, target, **options)
            slopes[i, n] = (high - low) / 2e-6
    every = np.tile(np.arange(logits.shape[1]), (2, 1))
    signed = jaxcam.grad_cam(forward, images, every, relu=None)
    expected = np.maximum(np.einsum("bnhw,bn->bhw", signed, slopes), 0)
    close(jaxcam.finer_cam(forward, images, [1, 2], **options), expected)


def test_finer_cam_of_no_strength_is_grad_cam(tiny):
    forward, images = tiny
    found = jaxcam.finer_cam(forward, images, strength=0.0)
    close(found, jaxcam.grad_cam(forward, images))
    with pytest.raises(ValueError, match="targets: got a function, expected classes"):
        jaxcam.finer_cam(forward, images, lambda z: z[:, 0])
    with pytest.raises(ValueError, match="count: got 5, expected 1 to 4, the other classes"):
        jaxcam.finer_cam(forward, images, count=5)
    with pytest.raises(ValueError, match="weighting: got 'all', expected one of"):
        jaxcam.finer_cam(forward, images, weighting="all")


def test_residual_softmax_is_the_logit_and_its_log_probability():
    logits = np.array([[1.0, 3.0, -2.0], [0.5, 0.1, 0.2]])
    expected = [z[c] + np.log(literal.softmax(z)[c]) for z, c in zip(logits, (1, 0), strict=True)]
    np.testing.assert_allclose(targets.residual_softmax()(jnp.asarray(logits)), expected, rtol=1e-6)
    np.testing.assert_allclose(targets.residual_softmax([1, 0])(logits), expected, rtol=1e-6)
    single = targets.residual_softmax(0)(jnp.array([[2.0]]))
    np.testing.assert_allclose(single, 2 + np.log(1 / (1 + np.exp(-2))), rtol=1e-6)


# Smoothing -----------------------------------------------------------


@pytest.mark.parametrize("statistic", smoothing.STATISTICS)
def test_smooth_is_a_statistic_of_maps_of_noisy_images(tiny, statistic):
    forward, images = tiny
    key = jax.random.key(1)
    options = {"samples": 3, "sigma": 0.1, "statistic": statistic, "key": key}
    method = jaxcam.smooth(partial(jaxcam.grad_cam, relu=None), **options)
    best = np.argmax(forward(images), 1)
    found = jax.jit(lambda x: method(forward, x, layer=["top", "stem"]))(images)
    each = []
    for one in jax.random.split(key, 3):
        shown = smoothing.noisy(images, one, 0.1)
        each.append(jaxcam.grad_cam(forward, shown, best, layer="top", relu=None))
    stack = np.asarray(jnp.stack(each), np.float64)
    expected = {"mean": stack.mean(0), "square": (stack**2).mean(0), "variance": stack.var(0)}
    np.testing.assert_allclose(found["top"], expected[statistic], rtol=1e-3, atol=1e-7)
    assert found["stem"].shape == (2, 8, 8)


def test_noise_is_a_share_of_each_images_range():
    ramp = np.linspace(0, 1, 300).reshape(10, 10, 3)
    images = jnp.asarray(np.stack([ramp, 10 * ramp]), jnp.float32)
    noise = smoothing.noisy(images, jax.random.key(0), 0.1) - images
    np.testing.assert_allclose(noise.std((1, 2, 3)), [0.1, 1.0], rtol=0.15)
    np.testing.assert_allclose(noise[1], 10 * noise[0], rtol=1e-3, atol=1e-5)


def test_smooth_of_no_noise_is_the_method_with_its_aux(tiny):
    forward, images = tiny
    both = lambda x: (forward(x), x.mean((1, 2, 3)))
    maps, aux = jaxcam.smooth(jaxcam.grad_cam, samples=2, sigma=0)(both, images, has_aux=True)
    close(maps, jaxcam.grad_cam(forward, images))
    close(aux, images.mean((1, 2, 3)))


def test_aug_smooth_is_the_mean_over_flips_and_factors(tiny):
    forward, images = tiny
    plain = partial(jaxcam.grad_cam, forward, targets=[1, 2], relu=None)
    found = jaxcam.aug_smooth(jaxcam.grad_cam)(forward, images, [1, 2], relu=None)
    total = np.zeros((2, 4, 4))
    for factor in (0.9, 1.0, 1.1):
        total += plain(images=images * factor)
        total += plain(images=images[:, :, ::-1] * factor)[:, :, ::-1]
    close(found, total / 6)
    once = jaxcam.aug_smooth(jaxcam.grad_cam, flip=False, factors=[2])
    close(once(forward, images, [1, 2], relu=None), plain(images=images * 2))


def test_eigen_smooth_is_the_first_component_of_the_terms(tiny):
    forward, images = tiny
    found = jaxcam.eigen_smooth(jaxcam.grad_cam)(forward, images, [1, 2], layer="top")
    _, acts, grads = jaxcam.activations_and_gradients(forward, images, [1, 2], layer="top")
    terms = np.asarray(acts * grads.mean((1, 2), keepdims=True), np.float64)
    expected = np.stack([literal.eigen_cam(each, center=True) for each in terms])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    cells = jaxcam.eigen_smooth(jaxcam.hires_cam)(forward, images, [1, 2], layer="stem")
    close(cells, jaxcam.eigen_grad_cam(forward, images, [1, 2], layer="stem", center=True))
    by_score = jaxcam.eigen_smooth(jaxcam.ablation_cam)(forward, images, [[1, 2]] * 2)
    assert by_score.shape == (2, 2, 4, 4)


def test_what_cannot_be_smoothed_is_refused(tiny):
    with pytest.raises(ValueError, match="method: got rise, expected a class-activation map"):
        jaxcam.eigen_smooth(jaxcam.rise)
    for method in (jaxcam.eigen_cam, jaxcam.eigen_grad_cam, jaxcam.kpca_cam):
        expected = "eigen_smooth: got a method whose map is a principal component already, no sum "
        with pytest.raises(ValueError, match=expected):
            jaxcam.eigen_smooth(method)(*tiny)
    with pytest.raises(ValueError, match="relu: got 'sum', expected none with eigen_smooth"):
        jaxcam.eigen_smooth(jaxcam.grad_cam)(*tiny, relu="sum")
    with pytest.raises(ValueError, match="samples: got 0, expected a whole number, at least 1"):
        jaxcam.smooth(jaxcam.grad_cam, samples=0)
    with pytest.raises(ValueError, match="statistic: got 'sum', expected one of"):
        jaxcam.smooth(jaxcam.grad_cam, statistic="sum")
    with pytest.raises(ValueError, match="factors: got none, expected at least one number"):
        jaxcam.aug_smooth(jaxcam.grad_cam, factors=[])
    with pytest.raises(ValueError, match="sigma: got -1, expected at least 0"):
        jaxcam.smooth_grad_cam_plus_plus(*tiny, sigma=-1)
    with pytest.raises(ValueError, match="kernel: got 'cubic', expected one of"):
        jaxcam.kpca_cam(*tiny, kernel="cubic")
    with pytest.raises(ValueError, match="k: got -1, expected at least 0"):
        jaxcam.fem(*tiny, k=-1)
    assert formulas.EIGEN not in formulas.RELU
