"""Networks for tests: a trained ResNet as three twins (Linen, NNX, plain JAX), and a tiny one."""

import pathlib
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from safetensors.numpy import load_file

import jaxcam


def normalized(images: np.ndarray) -> jax.Array:
    """uint8 photos -> ImageNet-normalised float32, as the reference outputs were made."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return jnp.asarray((images / 255 - mean) / std, jnp.float32)


def _shortcut(x, planes):
    """Stride 2 and zero channels on both sides: no parameters."""
    return jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (planes // 4, planes // 4)))


class Block(nn.Module):
    planes: int
    stride: int

    @nn.compact
    def __call__(self, x):
        conv = lambda x, stride, name: nn.Conv(
            self.planes, (3, 3), stride, padding=((1, 1), (1, 1)), use_bias=False, name=name
        )(x)
        norm = lambda x, name: nn.BatchNorm(use_running_average=True, epsilon=1e-5, name=name)(x)
        y = nn.relu(norm(conv(x, self.stride, "conv1"), "bn1"))
        y = norm(conv(y, 1, "conv2"), "bn2")
        return nn.relu(y + (x if self.stride == 1 else _shortcut(x, self.planes)))


class Stage(nn.Module):
    planes: int
    blocks: int
    stride: int

    @nn.compact
    def __call__(self, x):
        for i in range(self.blocks):
            x = Block(self.planes, self.stride if i == 0 else 1, name=str(i))(x)
        return x


class CifarResNet(nn.Module):
    """No tag in it: layer1, layer2 and layer3 are submodules, all that the adapter needs."""

    blocks: int = 3

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(16, (3, 3), padding=((1, 1), (1, 1)), use_bias=False, name="conv1")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-5, name="bn1")(x))
        for i, planes in enumerate((16, 32, 64)):
            x = Stage(planes, self.blocks, 2 if i else 1, name=f"layer{i + 1}")(x)
        return nn.Dense(10, name="linear")(x.mean((1, 2)))


def load_cifar(shared: pathlib.Path, depth: int) -> dict:
    """Linen variables of the trained CIFAR-10 ResNet."""
    leaves = {"bias": "bias", "running_mean": "mean", "running_var": "var"}
    out: dict = {"params": {}, "batch_stats": {}}
    for key, value in load_file(shared / f"data/cifar10_resnet{depth}.safetensors").items():
        *modules, leaf = key.split(".")
        tree = out["batch_stats" if leaf.startswith("running") else "params"]
        for module in modules:
            tree = tree.setdefault(module, {})
        name = leaves.get(leaf, "scale" if value.ndim == 1 else "kernel")
        tree[name] = jnp.asarray(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T)
    return out


def plain(variables: dict, blocks: int = 3) -> Callable:
    """The same network as a plain JAX function, with tags."""
    params, stats = variables["params"], variables["batch_stats"]

    def conv(x, p, stride=1):
        return lax.conv_general_dilated(
            x,
            p["kernel"],
            (stride, stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def norm(x, p, s):
        wide = lambda channels: channels[None, None, None]
        scale = p["scale"] / jnp.sqrt(s["var"] + 1e-5)
        return (x - wide(s["mean"])) * wide(scale) + wide(p["bias"])

    def block(x, p, s, stride):
        y = jax.nn.relu(norm(conv(x, p["conv1"], stride), p["bn1"], s["bn1"]))
        y = norm(conv(y, p["conv2"]), p["bn2"], s["bn2"])
        return jax.nn.relu(y + (x if stride == 1 else _shortcut(x, y.shape[-1])))

    def forward(x):
        x = jax.nn.relu(norm(conv(x, params["conv1"]), params["bn1"], stats["bn1"]))
        for layer in ("layer1", "layer2", "layer3"):
            for i in range(blocks):
                stride = 2 if i == 0 and layer != "layer1" else 1
                x = block(x, params[layer][str(i)], stats[layer][str(i)], stride)
            x = jaxcam.tag(x, layer)
        return x.mean((1, 2)) @ params["linear"]["kernel"] + params["linear"]["bias"][None]

    return forward


class NnxBlock(nnx.Module):
    def __init__(self, inputs, planes, stride, rngs):
        conv = lambda i, s: nnx.Conv(
            i, planes, (3, 3), s, padding=((1, 1), (1, 1)), use_bias=False, rngs=rngs
        )
        self.stride, self.planes = stride, planes
        self.conv1, self.conv2 = conv(inputs, stride), conv(planes, 1)
        self.bn1, self.bn2 = (nnx.BatchNorm(planes, epsilon=1e-5, rngs=rngs) for _ in range(2))

    def __call__(self, x):
        y = self.bn2(self.conv2(nnx.relu(self.bn1(self.conv1(x)))))
        return nnx.relu(y + (x if self.stride == 1 else _shortcut(x, self.planes)))


class NnxCifarResNet(nnx.Module):
    def __init__(self, blocks, rngs):
        self.conv1 = nnx.Conv(3, 16, (3, 3), padding=((1, 1), (1, 1)), use_bias=False, rngs=rngs)
        self.bn1 = nnx.BatchNorm(16, epsilon=1e-5, rngs=rngs)
        inputs = 16
        for i, planes in enumerate((16, 32, 64)):
            stage = []
            for j in range(blocks):
                stage.append(NnxBlock(inputs, planes, 2 if i and not j else 1, rngs))
                inputs = planes
            setattr(self, f"layer{i + 1}", nnx.Sequential(*stage))
        self.linear = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((1, 2)))


def load_nnx(variables: dict, blocks: int = 3) -> nnx.Module:
    """The NNX twin with the same weights, in eval mode."""
    model = NnxCifarResNet(blocks, nnx.Rngs(0))
    for collection in variables.values():
        for path, value in jax.tree_util.tree_leaves_with_path(collection):
            module = model
            for key in path[:-1]:
                module = (
                    module.layers[int(key.key)] if key.key.isdigit() else getattr(module, key.key)
                )
            getattr(module, path[-1].key)[...] = value
    model.eval()
    return model


class TinyNet(nn.Module):
    """Two convolutions, batch norm and pool between, a pooled linear head: compiles in no time."""

    channels: int = 6
    classes: int = 5
    dtype: jnp.dtype = jnp.float32
    train: bool = False

    @nn.compact
    def __call__(self, x):
        conv = lambda n, name: nn.Conv(n, (3, 3), dtype=self.dtype, name=name)
        x = conv(4, "conv1")(x)
        x = nn.relu(
            nn.BatchNorm(use_running_average=not self.train, dtype=self.dtype, name="bn")(x)
        )
        x = nn.max_pool(jaxcam.tag(x, "stem"), (2, 2), (2, 2))
        x = jaxcam.tag(nn.relu(conv(self.channels, "conv2")(x)), "top")
        return nn.Dense(self.classes, dtype=self.dtype, name="head")(x.mean((1, 2)))


def tiny(
    seed: int = 4, batch: int = 3, size: int = 8, **options
) -> tuple[nn.Module, dict, jax.Array]:
    """(model, variables with non-trivial batch statistics, images)."""
    model = TinyNet(**options)
    rng = np.random.default_rng(seed)
    images = jnp.asarray(rng.normal(size=(batch, size, size, 3)), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    draw = lambda s: jnp.asarray(rng.normal(size=s.shape) * 0.4, jnp.float32)
    variables = jax.tree.map(draw, shapes)
    variables["batch_stats"] = jax.tree.map(lambda v: jnp.abs(v) + 0.5, variables["batch_stats"])
    return model, variables, images
