# %% [markdown]
# # Explain your NNX model
#
# A model is a function from images to logits, and a layer is a named activation in it.
# `jaxcam.nnx` makes that function of an NNX module as it is: nothing in it is changed. All of this
# runs offline, in less than a minute on a laptop.

# %%
import jax
import numpy as np
import optax
from flax import nnx

import jaxcam

STEPS = 60


class Block(nnx.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, features_in, features_out, rngs):
        self.conv = nnx.Conv(features_in, features_out, (3, 3), 2, rngs=rngs)
        self.norm = nnx.BatchNorm(features_out, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.norm(self.conv(x)))


class Net(nnx.Module):
    """Says whether the spot in a picture is red (yes) or green (no): one logit."""

    def __init__(self, rngs):
        self.stem = Block(3, 8, rngs)
        self.body = Block(8, 16, rngs)
        self.head = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x):
        return self.head(self.body(self.stem(x)).mean((1, 2)))


# %% [markdown]
# A few seconds of training, on coloured spots in noise: the label says which colour the spot has.


# %%
def spots(rng, count, side=32):
    """Pictures `[count, side, side, 3]` and labels: 1 for red."""
    images = rng.normal(0, 0.1, (count, side, side, 3)).astype(np.float32)
    labels = rng.integers(0, 2, count)
    for image, label in zip(images, labels, strict=True):
        y, x = rng.integers(4, side - 4, 2)
        image[y - 3 : y + 3, x - 3 : x + 3, 1 - label] += 1
    return images, labels


model = Net(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)


@nnx.jit
def step(model, optimizer, images, labels):
    def loss(model):
        return optax.sigmoid_binary_cross_entropy(model(images)[:, 0], labels).mean()

    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value


rng = np.random.default_rng(0)
for _ in range(STEPS):
    loss = step(model, optimizer, *spots(rng, 64))
print(f"loss {loss:.3f}")

# %% [markdown]
# ## Which layers there are
#
# `model.eval()` first: in training mode a batch norm joins the images of a batch, and a map would
# depend on its neighbours (jaxcam warns if you forget).

# %%
model.eval()
forward = jaxcam.nnx(model)
images, labels = spots(rng, 4)
print(jaxcam.layers(forward, images))

# %% [markdown]
# ## Maps
#
# One logit: `jaxcam.targets.binary()` asks for yes, `binary(False)` for no. Wrap explainers in
# `jax.jit`; several layers cost one pass. Maps come at the layer's resolution, and `centers` says
# where its cells lie in the image.

# %%
layers = ["stem", "body"]
known = jaxcam.layers(forward, images)


def heat(maps, layer):
    large = jaxcam.maps.resize(maps, images.shape[1:3], centers=known.centers[layer])
    return large / large.max()  # one scale for all images


yes = jax.jit(lambda x: jaxcam.grad_cam(forward, x, jaxcam.targets.binary(), layer=layers))(images)
no = jax.jit(lambda x: jaxcam.grad_cam(forward, x, jaxcam.targets.binary(False), layer="body"))
columns = {
    "for red, stem": heat(yes["stem"], "stem"),
    "for red, body": heat(yes["body"], "body"),
    "for green, body": heat(no(images), "body"),
}
shown = np.clip(images * 0.5 + 0.3, 0, 1)
names = ["red" if label else "green" for label in labels]
# Four spots: the maps for red lie on the red ones and are dark for the green ones, and the reverse
jaxcam.maps.figure(shown, columns, titles=names, panel=1.5)

# %% [markdown]
# One scale for all images, the maximum of the batch, shows where there is little evidence.
# `jaxcam.maps.normalize` scales every map to its own maximum, be it ever so small: fine for one
# photo and its class, misleading for classes that are not there.
#
# ## A map of your own
#
# Every class-activation map is a function of the activations and the gradients, `[B, h, w, c]`
# each. `jaxcam.explain` does the rest: layers, targets, tokens, checks.

# %%
mine = lambda a, g: jax.nn.relu(a * jax.nn.relu(g)).sum(-1)
own = jaxcam.explain(mine, forward, images, jaxcam.targets.binary(), layer="body")
theirs = jaxcam.layer_cam(forward, images, jaxcam.targets.binary(), layer="body")
print(own.shape, "as Layer-CAM:", np.allclose(own, theirs, atol=1e-5))
