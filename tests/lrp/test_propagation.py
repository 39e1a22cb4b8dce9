"""A whole network against float64 NumPy, and relevance's laws, frameworks, transformations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam import lrp
from jaxcam.lrp import rules
from tests import nets
from tests.lrp import literal


@pytest.fixture(scope="module")
def tiny():
    """(forward, variables, images) of the tiny net: two convs, a batch norm, relu, pool, dense."""
    model, variables, images = nets.tiny()
    return jaxcam.linen(model, variables), variables, images


def explain(forward, images, *args, **kwargs):
    return jax.jit(lambda x: lrp.relevance(forward, x, *args, **kwargs))(images)


def test_a_network_equals_its_literal_form(tiny):
    forward, variables, images = tiny
    got = explain(forward, images, 3, layer=["stem", "top"])
    got["pixels"] = explain(forward, images, 3)
    for b, image in enumerate(np.asarray(images)):
        want, logits = literal.network(variables, image, lambda z: np.eye(5)[3] * z)
        for name, expected in want.items():
            assert np.allclose(got[name][b], expected, atol=1e-4 * abs(logits[3])), name


def test_vjp_of_the_transform_is_relevance(tiny):
    forward, _, images = tiny

    @jax.jit
    def both(x):
        logits, pull = jax.vjp(lrp.transform(forward), x)
        return logits, x * pull(jax.nn.one_hot(jnp.full(len(x), 2), 5))[0]

    logits, rel = both(images)
    assert np.allclose(logits, forward(images), atol=1e-5)
    assert np.allclose(rel, explain(forward, images, 2), atol=1e-5)


def test_transform_keeps_what_else_forward_returns(tiny):
    forward, _, images = tiny
    logits, aux = lrp.transform(lambda x: (forward(x), {"mean": x.mean()}))(images)
    assert logits.shape == (3, 5)
    assert np.allclose(aux["mean"], images.mean())


@pytest.mark.parametrize("composite", list(lrp.COMPOSITES))
def test_linear_in_relevance(tiny, composite):
    forward, _, images = tiny
    a, b = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)

    @jax.jit
    def three(x):
        run = lambda init: lrp.relevance(forward, x, init=init, composite=composite)
        return run(a), run(b), run(2 * a - b)

    of_a, of_b, of_both = three(images)
    scale = np.abs(of_a).max() + np.abs(of_b).max()
    assert np.allclose(of_both, 2 * of_a - of_b, atol=1e-5 * scale)


def test_inits(tiny):
    forward, _, images = tiny
    z = np.asarray(forward(images))
    t = z.argmin(1)  # negative logits: contrastive keeps the class positive
    at = np.arange(3)
    hot = np.eye(5)[t]
    expected = {
        "one_hot": hot * z,
        "contrastive": np.abs(z[at, t])[:, None] * (hot - (1 - hot) / 4),
        "official": hot - (1 - hot) / 5,
    }
    for name, start in expected.items():
        assert np.allclose(lrp.initial(z, t, name), start, atol=1e-6), name
        assert np.allclose(
            explain(forward, images, t, init=name, layer="top"),
            explain(forward, images, init=start.astype(np.float32), layer="top"),
            atol=1e-6,
        )
    assert np.allclose(lrp.initial(z, t, "contrastive").sum(1), 0, atol=1e-5)


def test_targets_in_all_forms(tiny):
    forward, _, images = tiny
    of = lambda targets: explain(forward, images, targets, layer="top")
    single = of(np.array([1, 4, 0]))
    several = of(np.array([[1, 2], [4, 4], [0, 3]]))
    assert several.shape == (3, 2, *single.shape[1:])
    assert np.allclose(several[:, 0], single, atol=1e-6)
    assert np.array_equal(of(2), of(np.full(3, 2)))
    assert np.array_equal(of(None), of(np.asarray(forward(images)).argmax(1)))
    many = explain(forward, images, np.array([[1, 2]] * 3), layer=["stem", "top"])
    assert {k: v.shape[:2] for k, v in many.items()} == {"stem": (3, 2), "top": (3, 2)}


def test_several_layers_in_one_pass_are_those_of_one_each(tiny):
    forward, _, images = tiny
    together = explain(forward, images, 1, layer=["conv2", "stem", "conv1"])
    assert set(together) == {"conv2", "stem", "conv1"}
    for name, rel in together.items():
        assert np.allclose(rel, explain(forward, images, 1, layer=name), atol=1e-6)


def test_conservation_reports_every_layer(tiny):
    forward, _, images = tiny
    sums = jax.jit(lambda x: lrp.conservation(forward, x, 1, composite="epsilon"))(images)
    assert set(sums.layers) == set(jaxcam.layers(forward, images))
    assert np.allclose(sums.entered, forward(images)[:, 1], atol=1e-5)
    rel = explain(forward, images, 1, composite="epsilon", layer=["stem", "top"])
    for name, values in rel.items():
        assert np.allclose(sums.layers[name], values.sum((1, 2, 3)), rtol=1e-3, atol=1e-5)


def test_conservation_prints_a_line_per_layer(tiny):
    forward, _, images = tiny
    sums = jax.jit(lambda x: lrp.conservation(forward, x, 1, composite="epsilon"))(images)
    assert sums.cuts == jaxcam.layers(forward, images).cuts
    lines = str(sums).splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["entered", *sums.layers, "pixels"]
    assert {line.split()[0] for line in lines[:-1] if line.split()[1] == "*"} == sums.cuts | {
        "pixels"
    }
    np.testing.assert_allclose(
        np.array(lines[0].split("[")[1].strip("]").split(), float), sums.entered, rtol=1e-3
    )
    # inside a transformation too
    jax.eval_shape(lambda x: print(lrp.conservation(forward, x, 1)), images)


def test_a_layer_inside_a_branch_gets_its_share_only():
    """Tapped in the branch, the shortcut depends on the images, not the layer: it is no bias."""
    w, v, head = (
        jnp.asarray(np.random.default_rng(i).normal(size=(4, 4)), jnp.float32) for i in range(3)
    )
    x = jnp.asarray(np.random.default_rng(9).normal(size=(2, 1, 1, 4)), jnp.float32)

    def forward(x):
        x = jaxcam.tag(x[:, 0, 0] @ w, "below")
        return (x + jaxcam.tag(x @ v, "branch")) @ head

    alone = lrp.relevance(forward, x, 0, layer="branch", composite="epsilon")
    among = lrp.relevance(forward, x, 0, layer=["below", "branch"], composite="epsilon")
    assert np.allclose(alone, among["branch"], atol=1e-6)
    assert not np.allclose(alone.sum(-1), among["below"].sum(-1))


def test_frameworks_agree(tiny):
    """Linen, NNX, Equinox and plain JAX write the same net; relevance is the same."""
    _, variables, images = tiny
    p, s = variables["params"], variables["batch_stats"]["bn"]

    class Nnx(nnx.Module):
        def __init__(self, rngs):
            self.conv1, self.conv2 = (
                nnx.Conv(3, 4, (3, 3), rngs=rngs),
                nnx.Conv(4, 6, (3, 3), rngs=rngs),
            )
            self.bn, self.head = nnx.BatchNorm(4, rngs=rngs), nnx.Linear(6, 5, rngs=rngs)

        def __call__(self, x):
            x = nnx.max_pool(nnx.relu(self.bn(self.conv1(x))), (2, 2), (2, 2))
            return self.head(nnx.relu(self.conv2(x)).mean((1, 2)))

    model = Nnx(nnx.Rngs(0))
    for name in ("conv1", "conv2", "head", "bn"):
        for leaf, value in p[name].items():
            getattr(getattr(model, name), leaf)[...] = value
    model.bn.mean[...], model.bn.var[...] = s["mean"], s["var"]
    model.eval()

    class Eqx(eqx.Module):
        convs: list
        head: eqx.nn.Linear

        def __call__(self, x):  # one image, channels first, as Equinox has it
            x = self.convs[0](x.transpose(2, 0, 1))
            scale = p["bn"]["scale"] / jnp.sqrt(s["var"] + 1e-5)
            x = (x - s["mean"][:, None, None]) * scale[:, None, None] + p["bn"]["bias"][
                :, None, None
            ]
            x = eqx.nn.MaxPool2d(2, 2)(jax.nn.relu(x))
            return self.head(jax.nn.relu(self.convs[1](x)).mean((1, 2)))

    keys = jax.random.split(jax.random.key(0), 3)
    net = Eqx(
        [
            eqx.nn.Conv2d(3, 4, 3, padding=1, key=keys[0]),
            eqx.nn.Conv2d(4, 6, 3, padding=1, key=keys[1]),
        ],
        eqx.nn.Linear(6, 5, key=keys[2]),
    )
    where = lambda n: [
        n.convs[0].weight,
        n.convs[0].bias,
        n.convs[1].weight,
        n.convs[1].bias,
        n.head.weight,
        n.head.bias,
    ]
    oihw = lambda a: a.transpose(3, 2, 0, 1)
    values = [
        oihw(p["conv1"]["kernel"]),
        p["conv1"]["bias"][:, None, None],
        oihw(p["conv2"]["kernel"]),
    ]
    values += [p["conv2"]["bias"][:, None, None], p["head"]["kernel"].T, p["head"]["bias"]]
    net = eqx.tree_at(where, net, values)

    expected = explain(tiny[0], images, 1)
    # Equinox works on one image: vmap makes it a forward function.
    for forward in (jaxcam.nnx(model), jax.vmap(net)):
        assert np.allclose(explain(forward, images, 1), expected, atol=1e-5)


def test_jit_vmap_pmap_and_one_image_at_a_time_agree(tiny):
    forward, _, images = tiny
    one = lambda x: lrp.relevance(forward, x[None], 1)[0]
    expected = explain(forward, images, 1)
    for mapping in (jax.vmap, lambda f: lambda x: jax.lax.map(f, x)):
        assert np.allclose(jax.jit(mapping(one))(images), expected, atol=1e-5)
    four = jnp.concatenate([images, images[:1]])[:, None]
    mapped = jax.pmap(lambda x: lrp.relevance(forward, x, 1))(four)
    assert np.allclose(mapped[:3, 0], expected, atol=1e-5)


def test_relevance_can_be_differentiated(tiny):
    """With respect to the parameters, as a loss needs; checked by a finite difference."""
    model, (variables, images) = nets.TinyNet(dtype=jnp.float64), jax.tree.map(np.asarray, tiny[1:])

    def loss(step, wide, direction, images):
        moved = jax.tree.map(lambda a, d: a + step * d, wide, direction)
        return (lrp.relevance(jaxcam.linen(model, moved), images, 1, layer="stem") ** 2).sum()

    with jax.enable_x64(True):
        wide, images = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (variables, images))
        direction = jax.tree.map(
            lambda a: jnp.asarray(np.random.default_rng(a.size).normal(size=a.shape)), wide
        )
        slope, run = jax.jit(jax.grad(loss))(0.0, wide, direction, images), jax.jit(loss)
        up, down = (run(step, wide, direction, images) for step in (1e-6, -1e-6))
    assert np.isclose(slope, (up - down) / 2e-6, rtol=1e-4)
    assert abs(slope) > 1e-3


@pytest.mark.lenient  # Flax mixes float32 into a bfloat16 model
def test_a_bfloat16_model_is_explained_in_float32(tiny):
    _, variables, images = tiny
    rounded = jax.tree.map(lambda a: a.astype(jnp.bfloat16).astype(jnp.float32), variables)
    rounded["batch_stats"] = variables["batch_stats"]
    half = jaxcam.linen(nets.TinyNet(dtype=jnp.bfloat16), rounded)
    full = jaxcam.linen(nets.TinyNet(), rounded)
    result = jax.jit(lambda x: lrp.propagate(half, x, 1))(images)
    assert half(images).dtype == jnp.bfloat16
    assert {result.logits.dtype, result.relevance["pixels"].dtype} == {jnp.dtype(jnp.float32)}
    want = explain(full, images, 1)
    error = np.linalg.norm(result.relevance["pixels"] - want) / np.linalg.norm(want)
    # batch norm's own constants are rounded by the model; its activations are not
    assert error < 2e-2
    assert explain(half, images, 1, layer="top").dtype == jnp.float32
    assert explain(half, images.astype(jnp.bfloat16), 1).dtype == jnp.float32


def equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jax.extend.core.jaxprs_in_params(eqn.params):
            yield from equations(inner)


@pytest.mark.parametrize("precision", ["highest", "high", "default"])
@pytest.mark.parametrize(("layer", "below"), [("pixels", 0), ("top", 2)])
def test_linear_layers_run_at_the_precision_of_the_composite(tiny, layer, below, precision):
    """Forwards and backwards, from the explained layer on; what lies below runs as it is."""
    forward, _, images = tiny
    composite = lrp.z_plus(precision=precision)
    if precision == "highest":  # which is that of a name
        composite = "z_plus"
    run = lambda x: lrp.relevance(forward, x, 1, layer=layer, composite=composite)
    found = []
    for eqn in equations(jax.make_jaxpr(run)(images).jaxpr):
        if eqn.primitive.name in ("conv_general_dilated", "dot_general"):
            found.append(eqn.params["precision"])
    wanted = found.count((jax.lax.Precision(precision),) * 2)
    assert len(found) - wanted == below
    # y, the denominator and its transpose, of each layer that relevance passes
    assert wanted >= 3 * (3 - below)


def test_a_precision_is_one_of_three():
    with pytest.raises(ValueError, match="precision: got 'low', expected one of"):
        lrp.epsilon(precision="low")


def test_float64_stays(tiny):
    _, variables, images = tiny
    with jax.enable_x64(True):
        variables = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), variables)
        x = jnp.asarray(np.asarray(images, np.float64))
        forward = jaxcam.linen(nets.TinyNet(dtype=jnp.float64), variables)
        got = explain(forward, x, 3)
        assert got.dtype == jnp.float64
        want, _ = literal.network(variables, np.asarray(x[0]), lambda z: np.eye(5)[3] * z)
        assert np.allclose(got[0], want["pixels"], atol=1e-10)


def test_dead_images_give_finite_zeros(tiny):
    forward, _, images = tiny
    got = explain(lambda x: jax.nn.relu(forward(x) - 1e6), images, 1)
    assert np.array_equal(got, np.zeros_like(got))


def test_uint8_images(tiny):
    forward, _, _ = tiny
    photos = jnp.asarray(np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3)), jnp.uint8)
    got = explain(lambda x: forward(x.astype(jnp.float32) / 255), photos, 1, composite=rules.lrp_0)
    assert np.allclose(got.sum((1, 2, 3)), forward(photos / 255)[:, 1], rtol=1e-3)


BAD = {
    "function": (dict(targets=lambda z: z), r"targets: got shape \(3, 5\) from the function"),
    "function_and_init": (
        dict(targets=lambda z: z[:, 0], init=np.ones((3, 5))),
        r"init: got shape \(3, 5\) beside a function as targets, expected one of them",
    ),
    "range": (dict(targets=9), "targets: got class 9, expected 0 to 4"),
    "init": (
        dict(init="hot"),
        "init: got 'hot', expected one of 'one_hot', 'contrastive', 'official' or an array",
    ),
    "init_shape": (
        dict(init=np.ones((3, 4))),
        r"init: got shape \(3, 4\), expected \(3, 5\), as the logits",
    ),
    "layer": (dict(layer="tops"), "layer: got 'tops', expected one of the model's"),
}


def test_relevance_of_a_function_of_the_output_enters_as_gradient_times_output(tiny):
    forward, _, images = tiny
    difference = lambda z: z[:, 1] - z[:, 3]
    z = np.asarray(forward(images))
    start = np.zeros_like(z)
    start[:, 1] = z[:, 1]
    start[:, 3] = -z[:, 3]
    found = explain(forward, images, difference)
    np.testing.assert_allclose(found, explain(forward, images, init=start), rtol=1e-4, atol=1e-6)
    sums = lrp.conservation(forward, images, difference, composite=lrp.epsilon(0.0))
    np.testing.assert_allclose(sums.entered, z[:, 1] - z[:, 3], rtol=1e-4)
    np.testing.assert_allclose(sums.pixels, sums.entered, rtol=1e-3)


def test_relevance_of_a_model_that_returns_more_than_logits(tiny):
    """A dict of outputs, of which the function takes two; aux is beside it as ever."""
    forward, _, images = tiny
    several = lambda x: {"a": forward(x)[:, :2], "b": (forward(x) * 2,)}
    score = lambda out: out["a"][:, 1] + out["b"][0][:, 4]
    found = explain(several, images, score)
    z = np.asarray(forward(images))
    start = np.zeros_like(z)
    start[:, 1] = z[:, 1]
    start[:, 4] = 2 * z[:, 4]
    np.testing.assert_allclose(found, explain(forward, images, init=start), rtol=1e-4, atol=1e-6)
    with_aux = lambda x: (several(x), x.sum())
    again, aux = lrp.relevance(with_aux, images, score, has_aux=True)
    np.testing.assert_allclose(again, found, rtol=1e-5, atol=1e-7)  # fused otherwise
    assert np.isclose(aux, images.sum(), rtol=1e-4)


@pytest.mark.parametrize("name", BAD)
def test_bad_input(tiny, name):
    forward, _, images = tiny
    options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        lrp.relevance(forward, images, **options)


def test_conservation_takes_one_class_per_image(tiny):
    forward, _, images = tiny
    with pytest.raises(
        ValueError, match=r"targets: got shape \(3, 2\), expected one class per image"
    ):
        lrp.conservation(forward, images, np.ones((3, 2), int))


def test_images_must_be_images(tiny):
    with pytest.raises(ValueError, match=r"images: got shape \(8, 8, 3\)"):
        lrp.transform(tiny[0])(tiny[2][0])
