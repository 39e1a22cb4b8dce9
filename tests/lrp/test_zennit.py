"""Agreement with zennit (Anders et al. 2021) on a small VGG, where it and torch are installed."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import lrp
from jaxcam.lrp import rules

torch = pytest.importorskip("torch")
zennit = pytest.importorskip("zennit")

from zennit import composites as zc  # noqa: E402
from zennit import rules as zr  # noqa: E402

PLAN = (6, "pool", 8, 8, "pool")
UNITS = (10, 4)


class Vgg(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i, kind in enumerate(PLAN):
            if kind == "pool":
                x = nn.max_pool(x, (2, 2), (2, 2))
            else:
                x = nn.relu(nn.Conv(kind, (3, 3), padding=1, name=f"conv{i}")(x))
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        x = nn.relu(nn.Dense(UNITS[0], name="dense0")(x))
        return nn.Dense(UNITS[1], name="dense1")(x)


def torch_twin(variables):
    tensor = lambda a: torch.tensor(np.asarray(a), dtype=torch.float64)
    layers, inputs = [], 3
    for i, kind in enumerate(PLAN):
        if kind == "pool":
            layers.append(torch.nn.MaxPool2d(2))
            continue
        conv = torch.nn.Conv2d(inputs, kind, 3, padding=1).double()
        inputs, p = kind, variables[f"conv{i}"]
        conv.weight.data, conv.bias.data = (
            tensor(p["kernel"].transpose(3, 2, 0, 1)),
            tensor(p["bias"]),
        )
        layers += [conv, torch.nn.ReLU()]
    layers.append(torch.nn.Flatten())
    for i, units in enumerate(UNITS):
        p = variables[f"dense{i}"]
        dense = torch.nn.Linear(p["kernel"].shape[0], units).double()
        dense.weight.data, dense.bias.data = tensor(p["kernel"].T), tensor(p["bias"])
        layers += [dense, torch.nn.ReLU()] if i == 0 else [dense]
    return torch.nn.Sequential(*layers)


def twins(bias):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    shapes = {f"conv{i}": (3, 3, c, o) for i, c, o in ((0, 3, 6), (2, 6, 8), (3, 8, 8))}
    shapes |= {"dense0": (32, 10), "dense1": (10, 4)}
    draw = lambda s: rng.normal(size=s) * np.sqrt(2 / np.prod(s[:-1]))
    params = {
        k: {"kernel": draw(s), "bias": rng.normal(size=s[-1]) * bias} for k, s in shapes.items()
    }
    params = {k: {n: jnp.asarray(v, jnp.float32) for n, v in p.items()} for k, p in params.items()}
    return jaxcam.linen(Vgg(), {"params": params}), torch_twin(params), images


def zennits(model, composite, images, start):
    x = torch.tensor(images.transpose(0, 3, 1, 2), dtype=torch.float64, requires_grad=True)
    with composite.context(model) as changed:
        (grad,) = torch.autograd.grad(changed(x), x, torch.tensor(start, dtype=torch.float64))
    return grad.numpy().transpose(0, 2, 3, 1)


def everywhere(conv, dense):
    """One zennit rule per kind; biases are left out of the denominators, as bias='pass' does."""
    return zc.LayerMapComposite(
        [(torch.nn.Conv2d, conv), (torch.nn.Linear, dense), (torch.nn.ReLU, zr.Pass())]
    )


NO_BIAS = {"zero_params": "bias"}
CASES = {
    "epsilon": (0.0, lrp.epsilon(1e-3), everywhere(zr.Epsilon(1e-3), zr.Epsilon(1e-3))),
    "z_plus": (0.2, "z_plus", everywhere(zr.ZPlus(**NO_BIAS), zr.ZPlus(**NO_BIAS))),
    "alpha2_beta1": (
        0.2,
        lrp.Composite({"*": rules.alpha_beta(2, 1)}),
        everywhere(zr.AlphaBeta(2, 1, **NO_BIAS), zr.AlphaBeta(2, 1, **NO_BIAS)),
    ),
    "gamma": (
        0.2,
        lrp.Composite({"*": rules.gamma(0.25)}),
        everywhere(zr.Gamma(0.25, **NO_BIAS), zr.Gamma(0.25, **NO_BIAS)),
    ),
    "epsilon_plus_flat": (0.0, "epsilon_plus_flat", zc.EpsilonPlusFlat()),
    "epsilon_alpha2_beta1": (0.0, "epsilon_alpha2_beta1", zc.EpsilonAlpha2Beta1()),
    "epsilon_gamma_box": (
        0.0,
        lrp.epsilon_gamma_box(-4.0, 4.0),
        zc.EpsilonGammaBox(low=torch.tensor(-4.0).double(), high=torch.tensor(4.0).double()),
    ),
    "epsilon_absorbing_biases": (
        0.2,
        lrp.epsilon(1e-6, bias="absorb"),
        everywhere(zr.Epsilon(1e-6), zr.Epsilon(1e-6)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_zennit(name):
    bias, ours, theirs = CASES[name]
    forward, model, images = twins(bias)
    with torch.no_grad():
        expected = model(torch.tensor(images.transpose(0, 3, 1, 2), dtype=torch.float64)).numpy()
    assert np.allclose(forward(images), expected, atol=1e-5)
    start = expected * np.array([1, 0.5, 0, -0.2])
    got = lrp.relevance(forward, images, composite=ours, init=start.astype(np.float32))
    want = zennits(model, theirs, images, start)
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    assert np.linalg.norm(want) > 0.1
    assert error < 1e-4, error
