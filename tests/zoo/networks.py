"""Small networks that other people wrote, unmodified, at random weights: what jaxcam meets outside.

Each makes `(forward, images)`; a library that is not installed skips its networks visibly.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam


class Family(NamedTuple):
    """A network, and what is known of it: the tests hold each of these, the page shows them."""

    title: str
    library: str
    make: Callable[[], tuple[Callable, jax.Array]]
    default: str  # the default layer
    grid: tuple[int, ...]  # its cells
    # Where what entered is conserved: at every cut and at the "pixels", or at the "last" cut and
    # the default layer.
    conserved: str = "pixels"
    why: str = ""  # the reason, a key of WHY, where it is not conserved to the pixels


WHY = {
    "units": "z+ loses what units without a positive contribution have",
    "tokens": "class token and positions take their share",
}


def photos(side: int, channels: int = 3) -> jax.Array:
    """Two images of noise, the same whatever was asked for before."""
    rng = np.random.default_rng(side)
    return jnp.asarray(rng.normal(size=(2, side, side, channels)), jnp.float32)


def shaken(variables: Any) -> Any:
    """Variables moved a little, so that nothing is zero that a trained network would not have."""
    rng = np.random.default_rng(1)

    def move(leaf: Any) -> Any:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            return leaf
        by = rng.normal(size=(2, *jnp.shape(leaf)))
        return jnp.asarray(leaf * (1 + 0.1 * by[0]) + 0.02 * by[1], leaf.dtype)

    return jax.tree.map(move, variables)


def bound(model: Any, images: jax.Array, **options: Any) -> tuple[Callable, jax.Array]:
    """A Linen module with variables of its own."""
    variables = jax.jit(lambda: model.init(jax.random.key(0), images, **options))()
    return jaxcam.linen(model, shaken(variables), **options), images


def jax_resnet() -> tuple:
    """ResNet-18 of jax-resnet, cut to what matters by its own function."""
    import jax_resnet as library

    return bound(library.ResNet18(n_classes=5), photos(32))


def flaxmodels() -> tuple:
    """ResNet-18 of flaxmodels."""
    import flaxmodels as library

    model = library.ResNet18(output="logits", pretrained=None, num_classes=5)
    return bound(model, photos(32), train=False)


def keras_mobilenet() -> tuple:
    """MobileNetV2 of Keras."""
    import keras

    make = keras.applications.MobileNetV2
    return _keras(make(input_shape=(64, 64, 3), weights=None, classes=5, alpha=0.35), 64)


def keras_convnext() -> tuple:
    """ConvNeXt of Keras, one block a stage: layer norms, and sums that no layer makes."""
    from keras.src.applications.convnext import ConvNeXt

    model = ConvNeXt(
        depths=[1, 1, 1, 1],
        projection_dims=[8, 16, 24, 32],
        include_preprocessing=False,
        weights=None,
        classes=5,
        input_shape=(64, 64, 3),
        name="convnext",
    )
    return _keras(model, 64)


def keras_sequential() -> tuple:
    """A Sequential with a functional model inside."""
    import keras

    inner = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(6, 3, activation="relu", name="conv"),
            keras.layers.MaxPool2D(name="pool"),
        ],
        name="backbone",
    )
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            inner,
            keras.layers.Conv2D(8, 3, activation="relu", name="top"),
            keras.layers.GlobalAveragePooling2D(name="mean"),
            keras.layers.Dense(5, activation="softmax", name="head"),
        ]
    )
    return _keras(model, 16)


def _keras(model: Any, side: int) -> tuple:
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(shaken(variable.value))
    return jaxcam.keras(model), photos(side)


def haiku_mobilenet() -> tuple:
    """MobileNet of Haiku."""
    import haiku as hk

    net = lambda x: hk.nets.MobileNetV1(num_classes=5, use_bn=False)(x, is_training=False)
    transformed = hk.transform(net)
    images = photos(64)
    params = jax.jit(transformed.init)(jax.random.key(0), images)
    return jaxcam.haiku(transformed, shaken(params)), images


def haiku_resnet() -> tuple:
    """A small ResNet of Haiku, with state."""
    import haiku as hk

    def net(x: jax.Array, is_training: bool = False) -> jax.Array:
        model = hk.nets.ResNet(
            (1, 1, 1, 1),
            5,
            bottleneck=False,
            channels_per_group=(8, 8, 16, 16),
            use_projection=(True, True, True, True),
            logits_config={"w_init": hk.initializers.RandomNormal(0.1)},
        )
        return model(x, is_training=is_training)

    images = photos(64)
    training = hk.transform_with_state(functools.partial(net, is_training=True))
    params, state = jax.jit(training.init)(jax.random.key(0), images)
    return jaxcam.haiku(hk.transform_with_state(net), shaken(params), state), images


def equinox_cnn() -> tuple:
    """Convolutions, a group norm and a pool of Equinox: single examples, channels first."""
    import equinox as eqx

    keys = jax.random.split(jax.random.key(0), 3)
    model = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(3, 4, 3, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Conv2d(4, 6, 3, key=keys[1]),
            eqx.nn.GroupNorm(2, 6),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.AdaptiveAvgPool2d(1),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(6, 5, key=keys[2]),
        ]
    )
    return jaxcam.equinox(model), photos(16)


def nnx_attention() -> tuple:
    """Attention of NNX on patches, with a class token."""
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.patches = nnx.Conv(3, 8, (4, 4), (4, 4), rngs=rngs)
            self.token = nnx.Param(jax.random.normal(rngs.params(), (1, 1, 8)))
            self.norms = nnx.List([nnx.LayerNorm(8, rngs=rngs) for _ in range(2)])
            self.attention = nnx.List(
                [nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs) for _ in range(2)]
            )
            self.head = nnx.Linear(8, 5, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            x = self.patches(x)
            x = x.reshape(x.shape[0], -1, 8)
            first = jnp.broadcast_to(self.token[...], (x.shape[0], 1, 8))
            x = jaxcam.tag(jnp.concatenate([first, x], 1), "stream")
            for norm, attention in zip(self.norms, self.attention, strict=True):
                x = jaxcam.tag(x + attention(norm(x)), "stream")
            return self.head(x[:, 0])

    return jaxcam.nnx(Net(nnx.Rngs(0))), photos(16)


def bridged() -> tuple:
    """A Linen module bridged into NNX."""
    from flax import nnx

    from tests.nets import TinyNet

    images = photos(16)
    return jaxcam.nnx(nnx.bridge.ToNNX(TinyNet(), rngs=nnx.Rngs(0)).lazy_init(images)), images


def bundled(name: str, side: int, **options: Any) -> tuple:
    """A network of `jaxcam.models`."""
    from jaxcam import models

    return bound(models.create(name, num_classes=5, **options), photos(side))


FAMILIES = {
    "jax_resnet": Family("ResNet-18", "jax-resnet", jax_resnet, "layers_7", (2, 2)),
    "flaxmodels": Family("ResNet-18", "flaxmodels", flaxmodels, "BasicBlock_5", (2, 2)),
    "keras_mobilenet": Family(
        "MobileNetV2", "keras", keras_mobilenet, "out_relu", (2, 2), "last", "units"
    ),
    "keras_convnext": Family("ConvNeXt", "keras", keras_convnext, "add_3", (2, 2)),
    "keras_sequential": Family("Sequential, nested", "keras", keras_sequential, "top", (5, 5)),
    "haiku_mobilenet": Family(
        "MobileNetV1",
        "dm-haiku",
        haiku_mobilenet,
        "mobile_net_v1/mobile_net_v1_block_12",
        (2, 2),
        "last",
        "units",
    ),
    "haiku_resnet": Family(
        "ResNet", "dm-haiku", haiku_resnet, "res_net/~/block_group_3", (2, 2), "last", "units"
    ),
    "equinox_cnn": Family("CNN, group norm", "equinox", equinox_cnn, "layers.5", (5, 5)),
    "nnx_attention": Family(
        "attention, class token",
        "flax (NNX)",
        nnx_attention,
        "stream@2",
        (4, 4),
        "last",
        "tokens",
    ),
    "bridged": Family("Linen in NNX (ToNNX)", "flax (NNX)", bridged, "top", (8, 8)),
    "vit": Family(
        "ViT, class token",
        "jaxcam.models",
        lambda: bundled("vit_compact", 16, size=16, patch=4, width=16, depth=3, heads=2),
        "blocks.1",
        (4, 4),
        "last",
        "tokens",
    ),
    "vit_mean": Family(
        "ViT, mean of patches",
        "jaxcam.models",
        lambda: bundled(
            "vit_compact", 16, size=16, patch=4, width=16, depth=2, heads=2, pool="avg"
        ),
        "norm",
        (4, 4),
    ),
    "efficientnet_lite": Family(
        "EfficientNet-Lite",
        "jaxcam.models",
        lambda: bundled("efficientnet_lite0", 64, width=0.25, depth=0.5),
        "head",
        (2, 2),
        "last",
        "units",
    ),
}
