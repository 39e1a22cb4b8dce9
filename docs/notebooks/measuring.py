# %% [markdown]
# # Measure methods without fooling yourself
#
# Every number rewards something. Four habits keep a comparison honest: a control, more than one
# number, an interval, and a look at the pictures.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import skimage

import jaxcam
from jaxcam import metrics

SIDE = 64
STEP = 0.05

model, variables = jaxcam.models.load("tiny20")
about = jaxcam.models.describe("tiny20")
cat, coffee = skimage.data.cat(), skimage.data.coffee()
crops = []
for left in (0, 75, 150):
    crops.append(cat[:, left : left + 300])
    crops.append(coffee[left // 2 : left // 2 + 300, left + 100 : left + 400])
photos = jnp.asarray(np.stack(crops) / 255, jnp.float32)
small = jax.image.resize(photos, (len(crops), SIDE, SIDE, 3), "lanczos3").clip(0, 1)
images = about.preprocess(small)
forward = jaxcam.linen(model, variables)

# %% [markdown]
# ## A control
#
# Maps that know nothing of the network: a blob in the middle, where photographers put things, and
# noise. A method that does not beat them has shown nothing.

# %%
across = jnp.linspace(-1, 1, SIDE)
blob = jnp.exp(-2 * (across[:, None] ** 2 + across**2))
large = lambda maps: jaxcam.maps.normalize(jaxcam.maps.resize(maps, (SIDE, SIDE)))
explain = lambda method, **options: jax.jit(lambda x: large(method(forward, x, **options)))(images)
heats = {
    "Grad-CAM": explain(jaxcam.grad_cam),
    "Relevance-CAM, layer2": explain(jaxcam.relevance_cam, layer="layer2"),
    "centre": jnp.broadcast_to(blob, small.shape[:3]),
    "noise": jax.random.uniform(jax.random.key(0), small.shape[:3]),
}

# %% [markdown]
# ## More than one number, with an interval
#
# * **deletion** (low is good) rewards maps that find what breaks the prediction first, and so also
#   artefacts of hiding pixels;
# * **insertion** (high) rewards maps whose first pixels are recognised;
# * **average drop** (low, in percent) rewards large maps: the whole image drops nothing;
# * **complexity** (low) says how large the map is, and is to be read beside the drop.
#
# Intervals are by bootstrap over photos, 95 %.


# %%
@jax.jit
def measured(images, heat):
    """`[B]` of each number."""
    return {
        "deletion": metrics.auc(metrics.deletion(forward, images, heat, step=STEP)),
        "insertion": metrics.auc(metrics.insertion(forward, images, heat, step=STEP)),
        "drop": metrics.average_drop(forward, images, heat),
        "complexity": metrics.complexity(heat),
    }


def interval(values):
    """The mean and its 95 % interval."""
    values = np.asarray(values)
    means = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{values.mean():6.2f} [{low:5.2f}, {high:5.2f}]"


found = {name: measured(images, heat) for name, heat in heats.items()}
print(" " * 22 + "".join(f"{name:23}" for name in found["noise"]))
for name, numbers in found.items():
    print(f"{name:22}" + "".join(f"{interval(each):23}" for each in numbers.values()))

# %% [markdown]
# Intervals that overlap do not tell two methods apart. Differences photo by photo often do, for
# what makes a photo hard is hard for both:

# %%
for rival in ("centre", "noise"):
    difference = found["Grad-CAM"]["deletion"] - found[rival]["deletion"]
    print(f"deletion, Grad-CAM less {rival}: {interval(difference)}")

# %% [markdown]
# Grad-CAM beats the blob by deletion and has not been told from noise, which deletion rewards. And
# these are six crops of **two** photos: neighbouring crops are no independent examples, so that the
# true intervals are wider still.
#
# `python -m eval games` and `faithfulness` draw photos by seed, add both controls to every table
# and print these intervals.
#
# ## A look

# %%
every = slice(0, 4)
# Two crops of the cat and two of the cup under the maps that were measured
jaxcam.maps.figure(small[every], {name: heat[every] for name, heat in heats.items()}, panel=1.5)
