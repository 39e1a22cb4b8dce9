"""Published networks that `jaxcam.models` lacks, as JAX functions: SqueezeNet, CIFAR ResNets.

Parameters are a dict of arrays by the file's own names; a forward function closes over them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxcam

Params = Mapping[str, jax.Array]

_CAFFE_MEAN = (104.0, 117.0, 123.0)  # of blue, green, red, 0..255
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_FIRES_BEFORE_POOL = {"fire4", "fire8"}
_WIDTHS = (16, 32, 64)


def load_squeezenet(path: str | Path) -> Params:
    """SqueezeNet v1.0's parameters from an `.npz` in Caffe's layout: kernels OIHW -> HWIO.

    Raises:
        FileNotFoundError: no such file.
    """
    params = {}
    with np.load(path) as arrays:
        for name, value in arrays.items():
            if value.ndim == 4:
                value = value.transpose(2, 3, 1, 0)
            params[name] = jnp.asarray(value)
    return params


def squeezenet(params: Params, images: jax.Array) -> jax.Array:
    """SqueezeNet v1.0 (Iandola et al. 2016): images `[B, H, W, 3]` -> logits `[B, N]`.

    The images are BGR minus the mean, 0..255. Layers: conv1, fire2 ... fire9, conv_final.
    """
    x = jaxcam.tag(jax.nn.relu(_conv(params, "conv1", images, 2, 0)), "conv1")
    x = _pool(x)
    for number in range(2, 10):
        name = f"fire{number}"
        x = jaxcam.tag(_fire(params, name, x), name)
        if name in _FIRES_BEFORE_POOL:
            x = _pool(x)
    x = jaxcam.tag(jax.nn.relu(_conv(params, "conv_final", x, 1, 1)), "conv_final")
    return x.mean((1, 2))


def squeezenet_preprocess(images: jax.Array) -> jax.Array:
    """RGB in [0, 1] -> BGR, 0..255, minus the mean."""
    return images[..., ::-1] * 255.0 - along(_CAFFE_MEAN, images)


def load_cifar_resnet(path: str | Path) -> Params:
    """A CIFAR ResNet from a `.safetensors` in torch's layout: kernels OIHW -> HWIO, OI -> IO.

    Raises:
        FileNotFoundError: no such file.
    """
    from safetensors.numpy import load_file

    order = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    params = {}
    for name, value in load_file(path).items():
        if value.ndim in order:
            params[name] = jnp.asarray(value.transpose(order[value.ndim]))
    return params


def cifar_resnet(params: Params, images: jax.Array) -> jax.Array:
    """CIFAR-10's ResNet-20, -56, ... (He et al., 4.2): images `[B, 32, 32, 3]` -> logits `[B, 10]`.

    Shortcuts that change the shape have no parameters: every second pixel, zero channels on both
    sides. Layers: stem, layer1, layer2, layer3.
    """
    x = jaxcam.tag(jax.nn.relu(_norm(params, "bn1", _conv(params, "conv1", images, 1, 1))), "stem")
    stride = 1
    for stage, planes in enumerate(_WIDTHS, start=1):
        for block in range(_blocks(params, stage)):
            x = _residual(params, f"layer{stage}.{block}", x, planes, stride)
            stride = 1
        stride = 2  # of the next stage's first block
        x = jaxcam.tag(x, f"layer{stage}")
    return x.mean((1, 2)) @ params["linear.weight"] + params["linear.bias"][None]


def imagenet_normalize(images: jax.Array) -> jax.Array:
    """RGB in [0, 1] minus ImageNet's mean, over its standard deviation."""
    return (images - along(IMAGENET_MEAN, images)) / along(IMAGENET_STD, images)


def along(channels: Any, like: jax.Array) -> jax.Array:
    """A number for each channel, `[c]`, for arrays `[..., c]` like another."""
    return jnp.asarray(channels, like.dtype).reshape(*[1] * (like.ndim - 1), -1)


def _conv(params: Params, name: str, x: jax.Array, stride: int, padding: int) -> jax.Array:
    kernel = params[f"{name}.weight"]
    pads = ((padding, padding),) * 2
    y = lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    if f"{name}.bias" in params:
        y = y + along(params[f"{name}.bias"], y)
    return y


def _fire(params: Params, name: str, x: jax.Array) -> jax.Array:
    conv: Callable = partial(_conv, params, stride=1)
    squeezed = jax.nn.relu(conv(f"{name}/conv1x1_1", x, padding=0))
    small = jax.nn.relu(conv(f"{name}/conv1x1_2", squeezed, padding=0))
    large = jax.nn.relu(conv(f"{name}/conv3x3_2", squeezed, padding=1))
    return jnp.concatenate([small, large], axis=-1)


def _pool(x: jax.Array) -> jax.Array:
    """3 x 3 max pool of stride 2; the last window may pass the edge (Caffe rounds up)."""
    over = [(0, 0), *((0, (side - 3) % 2) for side in x.shape[1:3]), (0, 0)]
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), over)


def _blocks(params: Params, stage: int) -> int:
    return len({name.split(".")[1] for name in params if name.startswith(f"layer{stage}.")})


def _residual(params: Params, name: str, x: jax.Array, planes: int, stride: int) -> jax.Array:
    y = jax.nn.relu(_norm(params, f"{name}.bn1", _conv(params, f"{name}.conv1", x, stride, 1)))
    y = _norm(params, f"{name}.bn2", _conv(params, f"{name}.conv2", y, 1, 1))
    if stride != 1:
        sides = (planes - x.shape[-1]) // 2
        x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (sides, sides)))
    return jax.nn.relu(y + x)


def _norm(params: Params, name: str, x: jax.Array) -> jax.Array:
    scale = params[f"{name}.weight"] * lax.rsqrt(params[f"{name}.running_var"] + 1e-5)
    centred = x - along(params[f"{name}.running_mean"], x)
    return centred * along(scale, x) + along(params[f"{name}.bias"], x)
