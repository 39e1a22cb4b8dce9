"""Maps of zennit's own code, kept: what our rules have to say of the same network and images.

    python -m tests.golden_zennit --write    # with torch and zennit installed

The network has what zennit's composites tell apart: convolutions, batch norms (which it merges into
them), ReLUs, both poolings and a dense layer. Images, kernels and noise are those of
tests/golden.npz and of `jaxcam.smooth`.
"""

import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tests import golden

FILE = pathlib.Path(__file__).with_suffix(".npz")
TARGETS = np.array([0, 1])
LOW, HIGH = -3.0, 3.0
SAMPLES, SIGMA = 3, 0.1
EPSILON = 1e-5  # of a batch norm
NO_BIAS = {"zero_params": "bias"}
COMPOSITES: dict[str, dict[str, Any]] = {
    "EpsilonPlus": NO_BIAS,
    "EpsilonPlusFlat": NO_BIAS,
    "EpsilonAlpha2Beta1": NO_BIAS,
    "EpsilonAlpha2Beta1Flat": NO_BIAS,
    "EpsilonGammaBox": {"low": LOW, "high": HIGH, **NO_BIAS},
    "ExcitationBackprop": {"stabilizer": 1e-9, **NO_BIAS},  # its 1e-6 takes half a percent
    "GuidedBackprop": {},
    "DeconvNet": {},
}

# its gamma rule asks for the sign of a unit with its bias, ours for that of what its inputs give
OFFSETS = {"EpsilonGammaBox": 0.0}


def norms(given: dict[str, np.ndarray], offset: float = 0.1) -> list[dict[str, np.ndarray]]:
    """Two batch norms of positive scales: scale, shift, mean and variance, each `[c]`."""
    rng = np.random.default_rng(0)
    found = []
    for name in ("conv1", "conv2"):
        c = given[name].shape[3]
        norm = {"mean": rng.normal(size=c) * offset, "variance": rng.uniform(0.5, 1.5, c)}
        norm |= {"scale": rng.uniform(0.5, 1.5, c), "shift": rng.normal(size=c) * offset}
        found.append({key: value.astype(np.float32) for key, value in norm.items()})
    return found


def network(
    given: dict[str, np.ndarray], *, merged: bool, offset: float = 0.1
) -> Callable[[jax.Array], jax.Array]:
    """Ours; `merged` has the batch norms in the kernels, as zennit has."""
    first, second = norms(given, offset)

    def block(x: jax.Array, kernel: np.ndarray, norm: dict[str, np.ndarray]) -> jax.Array:
        slope = (norm["scale"] / np.sqrt(norm["variance"] + EPSILON))[None, None, None]
        added = norm["shift"] - slope * norm["mean"]
        weights = jnp.asarray(kernel * slope if merged else kernel, x.dtype)
        dims = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, weights, (1, 1), "SAME", dimension_numbers=dims)
        if not merged:
            x = x * jnp.asarray(slope, x.dtype)
        return jax.nn.relu(x + jnp.asarray(added, x.dtype))

    def forward(images: jax.Array) -> jax.Array:
        x = nn.max_pool(block(images, given["conv1"], first), (2, 2), (2, 2))
        x = block(x, given["conv2"], second)
        x = x.reshape(-1, 3, 4, 3, 4, 8).mean((2, 4))
        x = x.transpose(0, 3, 1, 2).reshape(-1, 72)
        return x @ jnp.asarray(dense(given), x.dtype)

    return forward


def dense(given: dict[str, np.ndarray]) -> np.ndarray:
    """The last layer's matrix `[72, 5]`: the head at each of nine places, by turns weaker."""
    places = np.linspace(1, 0.5, 9, dtype=np.float32)
    return (given["head"][:, None] * places[:, None]).reshape(72, 5)


def theirs(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Zennit's maps `[B, H, W]`, summed over colours, by composite."""
    import torch

    with mock.patch.dict(sys.modules, _torchvision()):
        from zennit import attribution, canonizers, composites
    x = torch.tensor(given["images"].transpose(0, 3, 1, 2).copy())
    start = torch.eye(5)[TARGETS]
    found = {"logits": twin(given)(x)}
    for name, options in COMPOSITES.items():
        options = dict(options)
        model = twin(given, OFFSETS.get(name, 0.1))
        for edge in ("low", "high"):
            if edge in options:
                options[edge] = torch.full(x.shape[1:], options[edge])[None]
        merge = [canonizers.SequentialMergeBatchNorm()]
        made = getattr(composites, name)(canonizers=merge, **options)
        with attribution.Gradient(model, made) as attributor:
            found[name] = attributor(x, start)[1].sum(1)
    draws = iter(noise(given["images"]))
    with mock.patch.object(torch, "randn_like", lambda like: torch.tensor(next(draws))):
        smooth = attribution.SmoothGrad(twin(given), noise_level=SIGMA, n_iter=SAMPLES + 1)
        found["SmoothGrad"] = smooth(x, start)[1].sum(1)
    return {name: value.detach().numpy().astype(np.float32) for name, value in found.items()}


def noise(images: np.ndarray) -> list[np.ndarray]:
    """Of `jaxcam.smooth`, the same for all images: `[B, C, H, W]` a sample."""
    found = []
    for key in jax.random.split(jax.random.key(0), SAMPLES):
        draw = np.asarray(jax.random.normal(key, images.shape[1:]))
        found.append(np.broadcast_to(draw.transpose(2, 0, 1), (len(images), 3, 24, 24)).copy())
    return found


def twin(given: dict[str, np.ndarray], offset: float = 0.1) -> Any:
    """`network` in torch, its batch norms apart."""
    import torch

    layers = []
    for name, norm, pool in zip(
        ("conv1", "conv2"),
        norms(given, offset),
        (torch.nn.MaxPool2d(2), torch.nn.AvgPool2d(4)),
        strict=True,
    ):
        kernel = torch.tensor(given[name].transpose(3, 2, 0, 1).copy())
        conv = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, bias=False)
        conv.weight.data = kernel
        apart = torch.nn.BatchNorm2d(len(kernel), eps=EPSILON)
        apart.weight.data, apart.bias.data = map(torch.tensor, (norm["scale"], norm["shift"]))
        apart.running_mean = torch.tensor(norm["mean"])
        apart.running_var = torch.tensor(norm["variance"])
        layers += [conv, apart, torch.nn.ReLU(), pool]
    head = torch.nn.Linear(72, 5, bias=False)
    head.weight.data = torch.tensor(dense(given).T.copy())
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), head).eval()


def _torchvision() -> dict[str, types.ModuleType]:
    """What zennit names of torchvision when it is imported: classes of networks not used here."""
    try:
        import torchvision

        return {"torchvision": torchvision}
    except (ImportError, RuntimeError):  # the latter beside a torch of another build
        names = ("torchvision", "torchvision.models", "torchvision.models.resnet")
        found = {name: types.ModuleType(name) for name in names}
        for name in ("Bottleneck", "BasicBlock"):
            setattr(found[names[-1]], name, type(name, (), {}))
        return found


if __name__ == "__main__":
    sys.exit(golden.write(FILE, theirs, __doc__, sys.argv[1:]))
