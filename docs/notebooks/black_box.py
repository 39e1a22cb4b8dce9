# %% [markdown]
# # Explain a black box
#
# Of a black box only answers are known: an ONNX file, a server, a binary. Two ways to ask it: hide
# superpixels and fit a line to what it answers (LIME), or hide random halves and average (RISE).
# Here with few samples, so that the page runs quickly.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import skimage

import jaxcam

SIDE = 64
MASKS = 400
SAMPLES = 300

model, variables = jaxcam.models.load("tiny20")
about = jaxcam.models.describe("tiny20")
photo = jnp.asarray(skimage.data.cat()[:, 75:375] / 255, jnp.float32)[None]
small = jax.image.resize(photo, (1, SIDE, SIDE, 3), "lanczos3").clip(0, 1)
inside = jax.jit(lambda x: model.apply(variables, about.preprocess(x)))


def box(images: np.ndarray) -> np.ndarray:
    """What the world sees: photos in [0, 1] to logits, NumPy in and out."""
    return np.asarray(inside(jnp.asarray(images, jnp.float32)))


print("answers:", about.classes[box(small)[0].argmax()])

# %% [markdown]
# ## RISE
#
# The mean of random masks, each weighed by the probability of the class under it. `host=True`: the
# model runs outside of JAX, mask after mask.

# %%
maps = jaxcam.rise(box, small, host=True, num_masks=MASKS)
again = jaxcam.rise(box, small, host=True, num_masks=MASKS, key=jax.random.key(1))
print("rank correlation of two maps:", np.asarray(jaxcam.metrics.spearman(maps, again)).round(2))

# %% [markdown]
# RISE's noise falls with the root of the number of masks. Two maps with different seeds say how
# much of one is noise: what does not repeat is. The paper takes 4000 to 8000 masks; `tolerance=`
# draws until the map has settled.
#
# ## LIME
#
# Superpixels first, here by quickshift. The linear model says how well it fits: an R^2 far below 1
# means that the coefficients explain little of what the box does.

# %%
segments = jaxcam.quickshift(np.asarray(small), kernel_size=2, max_dist=10)
found = jaxcam.lime_surrogate(box, small, segments=segments, num_samples=SAMPLES, host=True)
print(f"{segments.max() + 1} superpixels, R^2 {float(found.r2[0]):.2f}")

# %%
large = lambda maps: jaxcam.maps.resize(maps, (300, 300), "nearest")
columns = {
    f"RISE, {MASKS} masks": jaxcam.maps.normalize(jaxcam.maps.resize(maps, (300, 300))),
    "another seed": jaxcam.maps.normalize(jaxcam.maps.resize(again, (300, 300))),
    "LIME, for the class": jaxcam.maps.normalize(large(found.saliency), "positive"),
}
# A cat: two maps of RISE, alike but for their noise, and the superpixels that LIME finds for it
jaxcam.maps.figure(photo, columns, panel=2.2)

# %% [markdown]
# ## If it is a JAX function after all
#
# Then no host is needed: the same call without `host=True` runs where the model does, in batches,
# and goes through `jit`.

# %%
inner = lambda images: model.apply(variables, about.preprocess(images))
same = jaxcam.rise(inner, small, num_masks=MASKS)
print(f"largest difference: {float(np.abs(same - maps).max() / np.abs(maps).max()):.0e}")
