# %% [markdown]
# # Sharpen a network with CAM fostering
#
# An explanation is a function that can be differentiated. The CAM-fostering loss adds the entropy
# of a layer's Grad-CAM to the cross-entropy, so that training itself asks for maps that are compact
# (Schoettl 2020). Here on a toy, in seconds; `python -m train.foster` does it on real data.

# %%
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcam

STEPS = 300


class Net(nn.Module):
    """Two convolutions, and a linear layer on their mean."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), (2, 2), name="stem")(x))
        x = nn.relu(nn.Conv(16, (3, 3), name="top")(x))
        x = jaxcam.tag(x, "features")
        return nn.Dense(3, name="head")(x.mean((1, 2)))


def shapes(rng, count, side=24):
    """A bar, a cross or a square, somewhere in noise."""
    images = rng.normal(0, 0.2, (count, side, side, 1)).astype(np.float32)
    labels = rng.integers(0, 3, count)
    for image, label in zip(images, labels, strict=True):
        y, x = rng.integers(4, side - 4, 2)
        image[y - 3 : y + 4, x] += 1
        if label == 1:
            image[y, x - 3 : x + 4] += 1
        if label == 2:
            image[y - 3 : y + 4, x - 3] += 1
            image[[y - 3, y + 3], x - 3 : x + 1] += 1
    return images, labels


# %% [markdown]
# The loss is an ordinary function of the parameters: the map's own gradient is differentiated with
# the rest.

# %%
model = Net()
optimizer = optax.adam(3e-3)


def train(params, beta, steps, seed):
    """Parameters after so many steps on fresh pictures."""

    @jax.jit
    def step(params, state, images, labels):
        def loss(params):
            forward = lambda x: model.apply(params, x)
            return jaxcam.fostering.fostering_loss(
                forward, images, labels, layer="features", beta=beta
            )

        grads, _ = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state

    rng = np.random.default_rng(seed)
    state = optimizer.init(params)
    for _ in range(steps):
        params, state = step(params, state, *shapes(rng, 64))
    return params


images, labels = shapes(np.random.default_rng(9), 256)
start = model.init(jax.random.key(0), images)
plain = train(start, 0.0, STEPS, seed=0)

# %% [markdown]
# Foster what has been trained: a network that has learnt nothing yet gets rid of the entropy the
# easy way, by maps that are empty. Every beta below starts from the same network and takes the same
# steps; beta 0 is the control.

# %%
columns = {}
print("beta  accuracy  empty maps  entropy  area, cells")
for beta in (0.0, 0.03, 3.0):
    params = train(plain, beta, STEPS * 2 // 3, seed=1)
    forward = lambda x, params=params: model.apply(params, x)
    accuracy = (forward(images).argmax(1) == labels).mean()
    maps = jaxcam.grad_cam(forward, images, labels, layer="features")
    entropy, area = jaxcam.metrics.entropy(maps), jaxcam.metrics.area(maps)
    empty = jnp.isnan(entropy).mean()  # and such maps are no part of the means
    print(
        f"{beta:4}{accuracy:10.0%}{empty:12.0%}{jnp.nanmean(entropy):9.2f}{jnp.nanmean(area):13.1f}"
    )
    large = jaxcam.maps.resize(maps[:4], (24, 24))
    columns[f"beta {beta}"] = jaxcam.maps.normalize(large, "positive")

# %%
names = [("bar", "cross", "square")[label] for label in labels[:4]]
shown = np.repeat(np.clip(images[:4], 0, 1), 3, axis=-1)
# Four shapes and their maps: narrower at beta 0.03 than at beta 0, and gone at beta 3
jaxcam.maps.figure(shown, columns, titles=names, panel=1.5)

# %% [markdown]
# Sharper is not better: too large a beta empties the maps, as an empty map costs nothing. Look at
# the share of empty maps and at the accuracy beside the entropy, as `python -m eval foster_effect`
# reports them; and ask whether the small map is still the right one (boxes, deletion), for a
# network may also look at less than it should.
