"""The baselines at the pixels: against literal forms, and their laws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam._explainers import guided, pixels
from tests import nets
from tests.explainers import literal

close = partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6)
CLASSES = [1, 2]


@pytest.fixture(scope="module")
def tiny():
    model, variables, images = nets.tiny(batch=2)
    forward = jax.jit(jaxcam.linen(model, variables))
    gradients = jax.jit(jax.grad(lambda x, c: (forward(x) * jax.nn.one_hot(c, 5)).sum()))
    return forward, images, lambda x, c=CLASSES: np.asarray(gradients(x, jnp.asarray(c)), float)


REDUCED = {
    "sum": lambda g: sum(g[..., k] for k in range(3)),
    "abs_max": lambda g: np.maximum(np.maximum(abs(g[..., 0]), abs(g[..., 1])), abs(g[..., 2])),
    "abs_sum": lambda g: abs(g[..., 0]) + abs(g[..., 1]) + abs(g[..., 2]),
    "norm": lambda g: (g[..., 0] ** 2 + g[..., 1] ** 2 + g[..., 2] ** 2) ** 0.5,
}


@pytest.mark.parametrize("reduction", pixels.REDUCTIONS)
def test_gradients_equal_their_literal_form(tiny, reduction):
    forward, images, gradients = tiny
    slope = gradients(images)
    reduced = REDUCED[reduction]
    close(jaxcam.gradient(forward, images, CLASSES, reduction=reduction), reduced(slope))
    times = jaxcam.gradient_input(forward, images, CLASSES, reduction=reduction)
    close(times, reduced(slope * np.asarray(images)), atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 9])
@pytest.mark.parametrize("rule", pixels.RULES)
def test_integrated_gradients_equal_their_literal_form(tiny, rule, chunk):
    forward, images, gradients = tiny
    baseline = np.array([0.5, -0.5, 0.1])
    total = np.zeros(images.shape)
    shares = {
        "midpoint": [(i + 0.5) / 4 for i in range(4)],
        "left": [i / 4 for i in range(4)],
        "right": [(i + 1) / 4 for i in range(4)],
    }
    start = np.broadcast_to(baseline, images.shape)
    for share in shares.get(rule, [*shares["left"], *shares["right"]]):
        total += gradients(jnp.asarray(start + share * (images - start), jnp.float32))
    total /= 8 if rule == "trapezoid" else 4
    options = {"steps": 4, "baseline": baseline, "rule": rule, "chunk": chunk}
    found = jaxcam.integrated_gradients(forward, images, CLASSES, **options)
    close(found, ((np.asarray(images) - start) * total).sum(-1), rtol=1e-3, atol=1e-5)


def test_integrated_gradients_are_complete(tiny):
    """sum L = Y(x) - Y(x'), the better the more steps; exact in one where Y is linear."""
    forward, images, _ = tiny
    best = np.argmax(forward(images), 1)
    rows = np.arange(2)
    gain = np.asarray(forward(images) - forward(images * 0))[rows, best]
    errors = []
    for steps in (2, 64):
        maps = jaxcam.integrated_gradients(forward, images, steps=steps)
        errors.append(np.abs(maps.sum((1, 2)) - gain).max())
    assert errors[1] < 0.01 * np.abs(gain).max()
    assert errors[1] < errors[0]
    linear = lambda x: x.mean((1, 2))
    once = jaxcam.integrated_gradients(linear, images, 1, steps=1, baseline=images[::-1])
    close(once.sum((1, 2)), linear(images)[:, 1] - linear(images[::-1])[:, 1])


def test_occlusion_equals_its_literal_form(tiny):
    forward, images, _ = tiny
    options = {"window": (3, 4), "stride": (2, 3), "baseline": 0.2, "chunk": 5}
    found = jaxcam.occlusion(forward, images, CLASSES, **options)
    confidence = lambda x: [
        literal.softmax(np.asarray(z, float))[c] for z, c in zip(forward(x), CLASSES, strict=True)
    ]
    whole = np.array(confidence(images))
    total, times = np.zeros((2, 8, 8)), np.zeros((8, 8))
    for top in (0, 2, 4, 5):
        for left in (0, 3, 4):
            place = np.s_[top : top + 3, left : left + 4]
            hidden = np.array(images)
            hidden[:, *place] = 0.2
            total[:, *place] += (whole - confidence(jnp.asarray(hidden)))[:, None, None]
            times[place] += 1
    assert times.min() == 1
    close(found, total / times, atol=1e-5)
    logits = jaxcam.occlusion(forward, images, CLASSES, window=8, stride=1, activation="identity")
    drop = np.asarray(forward(images) - forward(images * 0))[np.arange(2), CLASSES]
    close(logits, np.broadcast_to(drop[:, None, None], (2, 8, 8)), atol=1e-5)


# ReLUs of another derivative ---------------------------------------------


def dense(relu):
    """Two layers of ReLU at each pixel, by `relu`."""
    rng = np.random.default_rng(6)
    first, second, head = (rng.normal(size=s) for s in ((3, 7), (7, 6), (6, 4)))

    def forward(x):
        shapes = (jnp.asarray(w, x.dtype) for w in (first, second, head))
        a, b, c = shapes
        return relu(jaxcam.tag(relu(x @ a), "a") @ b).mean((1, 2)) @ c

    return forward, (first, second, head)


def backwards(x, weights, target, rule, top=np.inf):
    """The gradient of one image as the papers have it, by `rule(input, gradient)` at each ReLU."""
    first, second, head = weights
    h, w, _ = x.shape
    found = np.zeros(x.shape)
    for i in range(h):
        for j in range(w):
            one = x[i, j] @ first
            two = np.minimum(literal.relu(one), top) @ second
            back = rule(two, head[:, target] / (h * w))
            found[i, j] = first @ rule(one, second @ back)
    return found


RULES = {
    "gradient": lambda x, r: (x > 0) * r,
    "guided_backprop": lambda x, r: (x > 0) * (r > 0) * r,
    "deconvnet": lambda x, r: (r > 0) * r,
}
RELUS = {
    "jax.nn.relu": jax.nn.relu,
    "jnp.maximum": lambda x: jnp.maximum(x, 0),
    "jnp.maximum, turned": lambda x: jnp.maximum(0.0, x),
    "jitted": jax.jit(jax.nn.relu),
    "remat": jax.checkpoint(lambda x: jax.nn.relu(x) * 1.0),
}


PAIRS = [(name, "jax.nn.relu") for name in RULES] + [("guided_backprop", relu) for relu in RELUS]


@pytest.mark.parametrize(("name", "relu"), sorted(set(PAIRS)))
def test_rules_at_relus_equal_their_literal_form(rng, name, relu):
    forward, weights = dense(RELUS[relu])
    images = rng.normal(size=(2, 2, 3, 3))
    with jax.enable_x64(True):
        x = jnp.asarray(images)
        found = getattr(jaxcam, name)(forward, x, [0, 3], reduction="sum")
    expected = np.zeros(found.shape)
    for i, target in enumerate((0, 3)):
        expected[i] = backwards(images[i], weights, target, RULES[name]).sum(-1)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


CLIPPED = {
    "guided_backprop": lambda x, r: (x > 0) * (x < 2) * (r > 0) * r,
    "deconvnet": lambda x, r: (r > 0) * r,
}
# the other half: guided without the ceiling, deconvnet with it
OTHERWISE = {"guided_backprop": RULES["guided_backprop"]}
OTHERWISE["deconvnet"] = lambda x, r: (x < 2) * (r > 0) * r
CEILINGS = {
    "jnp.clip": lambda x: jnp.clip(x, 0, 2),
    "max, then min": lambda x: jnp.minimum(jnp.maximum(x, 0), 2),
    "min, then max": lambda x: jnp.maximum(jnp.minimum(2.0, x), 0.0),
    "lax.clamp": lambda x: jax.lax.clamp(0.0, x, 2.0),
    "relu6 of thrice": lambda x: jax.nn.relu6(3 * x) / 3,
}


@pytest.mark.parametrize(
    ("name", "relu"),
    [("guided_backprop", each) for each in CEILINGS] + [("deconvnet", "relu6 of thrice")],
)
def test_rules_at_clipped_relus_equal_their_literal_form(rng, name, relu):
    forward, weights = dense(CEILINGS[relu])
    images = rng.normal(size=(2, 2, 3, 3))
    with jax.enable_x64(True):
        found = getattr(jaxcam, name)(forward, jnp.asarray(images), [0, 3], reduction="sum")
    expected = np.zeros(found.shape)
    otherwise = np.zeros(found.shape)
    for i, target in enumerate((0, 3)):
        call = (images[i], weights, target)
        expected[i] = backwards(*call, CLIPPED[name], top=2).sum(-1)
        otherwise[i] = backwards(*call, OTHERWISE[name], top=2).sum(-1)
    assert not np.allclose(expected, otherwise)  # values beyond the ceiling are there
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_guided_grad_cam_is_their_product(tiny):
    forward, images, _ = tiny
    found = jaxcam.guided_grad_cam(forward, images, CLASSES, layer="top")
    coarse = jaxcam.grad_cam(forward, images, CLASSES, layer="top")
    large = np.stack([literal.bilinear(np.asarray(each), 8, 8) for each in coarse])
    fine = jaxcam.guided_backprop(forward, images, CLASSES, reduction="sum")
    close(found, fine * large)
    assert np.ptp(found) > 0


def test_a_network_with_another_relu_has_the_same_values(tiny):
    forward, images, _ = tiny
    clipped = lambda x: jax.nn.relu6(9 * x).mean((1, 2))
    for rule in (guided.GUIDED, guided.DECONVNET):
        model = guided.with_relu(forward, rule, images)
        np.testing.assert_array_equal(jax.jit(model)(images), forward(images))
        np.testing.assert_array_equal(
            guided.with_relu(clipped, rule, images)(images), clipped(images)
        )


GATES = {
    "hard_swish": jax.nn.hard_swish,
    "by hand": lambda x: x * jnp.minimum(jnp.maximum(x + 3, 0), 6) / 6,
    "turned": lambda x: x * jnp.maximum(jnp.minimum(x + 3, 6), 0) / 6,
    "clamp": lambda x: x * jax.lax.clamp(0.0, x + 3, 6.0) / 6,
}


@pytest.mark.parametrize("gate", GATES)
def test_a_hard_swish_keeps_its_derivative(rng, gate):
    """Its ReLU6 is a gate: guided backpropagation is the gradient of what lies before the ReLU."""
    images = jnp.asarray(rng.normal(size=(2, 3, 3, 3)), jnp.float32)
    both = lambda relu: lambda x: -relu(GATES[gate](3 * x)).mean((1, 2))
    # a ReLU whose gradient is negative passes nothing; the gates alone would pass some
    assert not np.any(jaxcam.guided_backprop(both(jax.nn.relu), images, 0))
    with pytest.raises(ValueError, match="forward: got a model without a ReLU, expected one of"):
        jaxcam.guided_backprop(both(lambda x: x), images, 0)


def test_where_there_is_no_relu_to_replace_it_is_said():
    images = jnp.ones((1, 4, 4, 3))
    smooth = lambda x: jax.nn.gelu(x).mean((1, 2))
    with pytest.raises(ValueError, match="forward: got a model without a ReLU, expected one of"):
        jaxcam.guided_backprop(smooth, images)

    soft = lambda x: jax.nn.softplus(x).mean((1, 2))  # a max is in it, with a derivative by hand
    with pytest.raises(ValueError, match="forward: got a model without a ReLU, expected one of"):
        jaxcam.guided_backprop(soft, images)

    def looped(x):
        return jax.lax.fori_loop(0, 2, lambda i, y: jax.nn.relu(y) - 0.1, x).mean((1, 2))

    with pytest.raises(ValueError, match="forward: got a model with a ReLU inside a loop"):
        jaxcam.deconvnet(looped, images)


def test_options_are_checked(tiny):
    forward, images, _ = tiny
    with pytest.raises(ValueError, match="reduction: got 'max', expected one of"):
        jaxcam.gradient(forward, images, reduction="max")
    with pytest.raises(ValueError, match="rule: got 'simpson', expected one of"):
        jaxcam.integrated_gradients(forward, images, rule="simpson")
    with pytest.raises(ValueError, match="steps: got 0, expected a whole number, at least 1"):
        jaxcam.integrated_gradients(forward, images, steps=0)
    with pytest.raises(ValueError, match="chunk: got 0, expected at least 1"):
        jaxcam.integrated_gradients(forward, images, chunk=0)
    with pytest.raises(ValueError, match=r"baseline: got shape \(2,\), expected one that fits"):
        jaxcam.integrated_gradients(forward, images, baseline=np.zeros(2))
    with pytest.raises(ValueError, match="window: got 9, expected 1 to 8, the image's side"):
        jaxcam.occlusion(forward, images, window=9)
    with pytest.raises(ValueError, match="stride: got 4, expected 1 to 3, the window's side"):
        jaxcam.occlusion(forward, images, window=3, stride=4)
    with pytest.raises(ValueError, match=r"layer: got \['top'\], expected one name or None"):
        jaxcam.guided_grad_cam(forward, images, layer=["top"])
