"""The CAM-fostering loss: closed form, finite differences, batch norms, devices, classes, cost."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam.fostering import TERMS, cam_entropy, fostering_loss
from tests.metrics import literal

LABELS = np.array([2, 0, 1, 2])


def pooled(params, images):
    """Convolution, ReLU, mean, linear: its Grad-CAM is ReLU(A W_c) / (h w)."""
    acts = jax.nn.relu(jax.lax.conv(images.transpose(0, 3, 1, 2), params["kernel"], (1, 1), "SAME"))
    acts = jaxcam.tag(acts.transpose(0, 2, 3, 1), "features")
    return acts.mean((1, 2)) @ params["head"]


def closed_form(params, images, labels, beta):
    """Cross-entropy and entropy of ReLU(A W_c) / (h w), written out."""
    acts = jax.nn.relu(jax.lax.conv(images.transpose(0, 3, 1, 2), params["kernel"], (1, 1), "SAME"))
    acts = acts.transpose(0, 2, 3, 1)
    logits = acts.mean((1, 2)) @ params["head"]
    chosen = params["head"].T[labels]
    maps = jax.nn.relu(jnp.einsum("bhwc,bc->bhw", acts, chosen)) / (acts.shape[1] * acts.shape[2])
    p = maps / maps.sum((1, 2), keepdims=True)
    entropy = -jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0).sum((1, 2))
    return (
        -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels].mean() + beta * entropy.mean()
    )


@pytest.fixture
def net(rng):
    with jax.enable_x64(True):
        params = {"kernel": rng.normal(size=(5, 3, 3, 3)), "head": rng.normal(size=(5, 3))}
        yield jax.tree.map(jnp.asarray, params), jnp.asarray(rng.normal(size=(4, 6, 5, 3)))


def loss(params, images, labels=LABELS, **options):
    return fostering_loss(lambda x: pooled(params, x), images, labels, **options)[0]


def test_nested_gradient_equals_the_closed_form(net):
    params, images = net
    ours, grads = jax.jit(jax.value_and_grad(partial(loss, beta=3.0)))(params, images)
    expected, closed = jax.jit(jax.value_and_grad(closed_form))(params, images, LABELS, 3.0)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    for name in params:
        np.testing.assert_allclose(
            grads[name], closed[name], rtol=1e-10, atol=1e-10 * np.abs(closed[name]).max()
        )


def test_stopping_the_weights_would_change_the_heads_gradient(net):
    """The head's only way to the entropy is alpha: what the nested gradient is there for."""
    params, images = net

    def stopped(params):
        _, a, g = jaxcam.activations_and_gradients(lambda x: pooled(params, x), images, LABELS)
        return cam_entropy(
            jaxcam._explainers.formulas.grad_cam_map(a, jax.lax.stop_gradient(g))
        ).mean()

    only_term = lambda p: loss(p, images, beta=1.0) - loss(p, images, beta=0.0)
    assert np.abs(jax.grad(stopped)(params)["head"]).max() == 0
    assert np.abs(jax.grad(only_term)(params)["head"]).max() > 1e-3


class Net(nn.Module):
    """Batch norms below and above the layer `middle`, a smooth activation: differences converge."""

    @nn.compact
    def __call__(self, x, train=True):
        norm = lambda: nn.BatchNorm(use_running_average=not train, momentum=0.9)
        x = jaxcam.tag(nn.softplus(norm()(nn.Conv(4, (3, 3))(x))), "middle")
        x = nn.softplus(norm()(nn.Conv(5, (3, 3), strides=2)(x)))
        return nn.Dense(3)(jaxcam.tag(x, "last").mean((1, 2)))


def trained(model, variables):
    def forward(images):
        logits, updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return logits, updated["batch_stats"]

    return forward


@pytest.mark.lenient  # Flax mixes float32 into a float64 model
@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("layer", ["middle", "last"])
def test_gradient_equals_finite_differences_in_training_mode(rng, term, layer):
    with jax.enable_x64(True):
        model, images = Net(), jnp.asarray(rng.normal(size=(4, 8, 8, 3)))
        variables = jax.tree.map(
            lambda x: x.astype(jnp.float64), jax.jit(model.init)(jax.random.key(0), images)
        )
        stats = {"batch_stats": variables["batch_stats"]}

        @jax.jit
        def value(params):
            forward = trained(model, {"params": params, **stats})
            return fostering_loss(
                forward, images, LABELS, layer=layer, beta=2.0, term=term, has_aux=True
            )[0]

        params = variables["params"]
        direction = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), params)
        moved = lambda t: jax.tree.map(lambda p, d: p + t * d, params, direction)
        numeric = (value(moved(1e-6)) - value(moved(-1e-6))) / 2e-6
        exact = sum(
            jax.tree.leaves(
                jax.tree.map(lambda g, d: (g * d).sum(), jax.grad(value)(params), direction)
            )
        )
        np.testing.assert_allclose(exact, numeric, rtol=1e-6)


def test_batch_statistics_and_logits_are_those_of_one_plain_pass(rng):
    model, images = Net(), jnp.asarray(rng.normal(size=(4, 8, 8, 3)), jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    forward = trained(model, variables)
    loss = lambda x: fostering_loss(forward, x, LABELS, layer="last", has_aux=True)[1]
    seen, (logits, statistics) = jax.jit(lambda x: (loss(x), forward(x)))(images)
    np.testing.assert_allclose(seen.logits, logits, rtol=1e-6)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), seen.aux, statistics)


def test_parts_add_up_and_the_maps_are_grad_cams(net):
    params, images = net
    total, seen = fostering_loss(lambda x: pooled(params, x), images, LABELS, beta=7.0)
    np.testing.assert_allclose(total, seen.classification + 7 * seen.penalty, rtol=1e-12)
    np.testing.assert_allclose(
        seen.maps, jaxcam.grad_cam(lambda x: pooled(params, x), images, LABELS)
    )
    np.testing.assert_allclose(seen.penalty, cam_entropy(seen.maps).mean(), rtol=1e-12)


def silent_head(params):
    """No class-0 evidence anywhere: the map of image 1 is empty."""
    return {**params, "head": params["head"].at[:, 0].set(-jnp.abs(params["head"][:, 0]) - 1)}


def softmax_entropy(m):
    p = np.exp(m - m.max())
    p = p / p.sum()
    return -(p * np.log(p)).sum()


@pytest.mark.parametrize(
    ("term", "measure", "sign"),
    [
        ("entropy", literal.entropy, 1),
        ("entropy_softmax", softmax_entropy, 1),
        ("area", literal.area, 1),
        ("dispersion", literal.dispersion, -1),
    ],
)
def test_terms_are_the_literal_measures_and_dispersion_is_subtracted(net, term, measure, sign):
    params, images = net
    _, seen = fostering_loss(lambda x: pooled(params, x), images, LABELS, term=term)
    np.testing.assert_allclose(
        seen.penalty, sign * np.mean([measure(each) for each in seen.maps]), rtol=1e-9
    )


def test_an_empty_map_does_not_count_and_leaves_gradients_finite(net):
    params, images = silent_head(net[0]), net[1]
    _, seen = fostering_loss(lambda x: pooled(params, x), images, LABELS)
    counted = cam_entropy(seen.maps)[np.array([0, 2, 3])]
    assert seen.maps[1].max() == 0
    np.testing.assert_allclose(seen.penalty, counted.mean(), rtol=1e-12)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(jax.grad(loss)(params, images)))


def test_no_map_at_all_leaves_the_cross_entropy(net):
    params = silent_head(net[0])
    zeros = np.zeros(4, int)
    grads = jax.grad(partial(loss, beta=5.0))(params, net[1], zeros)
    plain = jax.grad(partial(loss, beta=0.0))(params, net[1], zeros)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12), grads, plain)


def test_mean_over_devices_is_the_whole_batchs_also_with_empty_maps(net):
    params, images = silent_head(net[0]), net[1]

    def step(params, images, labels):
        each = lambda p: fostering_loss(
            lambda x: pooled(p, x), images, labels, beta=2.0, axis_name="device"
        )[0]
        return jax.lax.pmean(jax.value_and_grad(each)(params), "device")

    shards = images.reshape(2, 2, *images.shape[1:])
    mapped = jax.pmap(
        step, "device", in_axes=(None, 0, 0), out_axes=None, devices=jax.devices()[:2]
    )
    got = mapped(params, shards, LABELS.reshape(2, 2))
    expected = jax.value_and_grad(partial(loss, beta=2.0))(params, images)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12), got, expected)


def test_smoothed_labels_explain_the_largest(net):
    params, images = net
    smoothed = 0.9 * np.eye(3)[LABELS] + 0.1 / 3
    _, hard = fostering_loss(lambda x: pooled(params, x), images, LABELS)
    _, soft = fostering_loss(lambda x: pooled(params, x), images, smoothed)
    np.testing.assert_allclose(soft.maps, hard.maps)
    log_p = jax.nn.log_softmax(pooled(params, images))
    np.testing.assert_allclose(soft.classification, -(smoothed * log_p).sum(1).mean(), rtol=1e-12)


def test_several_present_classes_are_averaged(net):
    params, images = net
    present = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]], bool)
    total, seen = fostering_loss(lambda x: pooled(params, x), images, present, beta=1.0)
    logits = np.asarray(pooled(params, images))
    sigmoid = np.where(present, np.logaddexp(0, -logits), np.logaddexp(0, logits)).mean()
    each = [
        cam_entropy(jaxcam.grad_cam(lambda x: pooled(params, x), images, c)[b][None])[0]
        for b, c in zip(*np.nonzero(present), strict=True)
    ]
    np.testing.assert_allclose(
        [total, seen.penalty], [sigmoid + np.mean(each), np.mean(each)], rtol=1e-10
    )


def test_predicted_class_on_request(net):
    params, images = net
    _, seen = fostering_loss(lambda x: pooled(params, x), images, LABELS, explain="predicted")
    np.testing.assert_allclose(seen.maps, jaxcam.grad_cam(lambda x: pooled(params, x), images))


def test_bfloat16_networks_have_a_float32_loss(net):
    params, images = jax.tree.map(lambda x: x.astype(jnp.bfloat16), net)
    value, grads = jax.jit(jax.value_and_grad(loss))(params, images)
    assert value.dtype == jnp.float32
    assert all(
        g.dtype == jnp.bfloat16 and np.isfinite(np.float32(g)).all() for g in jax.tree.leaves(grads)
    )


def test_costs_one_forward_pass_and_the_head_once_more():
    """The step's FLOPs at the last layer are the plain step's: no second pass either way."""
    model, images = Net(), jnp.ones((4, 16, 16, 3))
    params = model.init(jax.random.key(0), images)["params"]
    stats = model.init(jax.random.key(0), images)["batch_stats"]

    def flops(beta_loss):
        return jax.jit(jax.grad(beta_loss)).lower(params).compile().cost_analysis()["flops"]

    def fostered(params):
        forward = trained(model, {"params": params, "batch_stats": stats})
        return fostering_loss(forward, images, LABELS, layer="last", has_aux=True)[0]

    def plain(params):
        logits, _ = trained(model, {"params": params, "batch_stats": stats})(images)
        return -jax.nn.log_softmax(logits)[jnp.arange(4), LABELS].mean()

    assert flops(fostered) < 1.1 * flops(plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": np.zeros(3, int)}, r"labels: got shape \(3,\)"),
        ({"labels": np.zeros(4)}, "labels: got shape .* of float"),
        ({"labels": np.zeros((4, 3), int)}, "booleans"),
        ({"labels": np.zeros((4, 2))}, r"labels: got 2 classes, expected 3"),
        ({"labels": np.array([0, 1, 2, 3])}, "targets: got class 3"),
        ({"labels": None}, r"labels: got None, expected \[4\] integers"),
        ({"labels": [[0], [1, 2], [0], [1]]}, r"labels: got \[\[0\], .*expected \[4\] integers"),
        ({"beta": "1"}, "beta: got '1', expected a number, 0 or more"),
        ({"beta": None}, "beta: got None, expected a number"),
        ({"beta": np.ones(2)}, r"beta: got array\(\[1., 1.\]\), expected a number"),
        ({"term": "sharpness"}, "term: got 'sharpness', expected one of 'entropy'"),
        ({"explain": "second"}, "explain: got 'second'"),
        (
            {"labels": np.ones((4, 3), bool), "explain": "predicted"},
            "explain: got 'predicted' with several classes",
        ),
        ({"layer": "nowhere"}, "layer: got 'nowhere'"),
    ],
)
def test_errors_name_the_argument(net, options, message):
    params, images = net
    with pytest.raises(ValueError, match=message):
        fostering_loss(lambda x: pooled(params, x), images, **{"labels": LABELS, **options})
