# %% [markdown]
# # Relevance that adds up
#
# Layer-wise relevance propagation divides a logit among the pixels, rule by rule, so that nothing
# is lost on the way. Whether that is so can be asked: `lrp.conservation`.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import skimage

import jaxcam
from jaxcam import lrp

SIDE = 64

model, variables = jaxcam.models.load("tiny20")
about = jaxcam.models.describe("tiny20")
crops = [skimage.data.cat()[:, 75:375], skimage.data.coffee()[:300, 150:450]]
photos = jnp.asarray(np.stack(crops) / 255, jnp.float32)
small = jax.image.resize(photos, (2, SIDE, SIDE, 3), "lanczos3").clip(0, 1)
images = about.preprocess(small)
forward = jaxcam.linen(model, variables)
logits = jax.jit(forward)(images)
names = [about.classes[row.argmax()] for row in logits]
print(names, logits.max(1))

# %% [markdown]
# ## The sum

# %%
relevance = jax.jit(lambda x: lrp.relevance(forward, x))(images)
print("pixels:", relevance.shape, "sum:", relevance.sum((1, 2, 3)))
print("logits:", logits.max(1))

# %% [markdown]
# ## Where it goes
#
# The sum at every layer that all paths go through. A sum that falls from one line to the next says
# which layer loses relevance, and how much. With z+ nothing falls.
#
# Epsilon keeps a part in every layer, which is its purpose: what is small against epsilon counts as
# noise.

# %%
stages = ("layer4", "layer3", "layer2", "layer1")
for name, composite in {"z+": "z_plus", "epsilon 0.1": lrp.epsilon(0.1)}.items():
    sums = jax.jit(lambda x, c=composite: lrp.conservation(forward, x, composite=c))(images)
    rows = {"logit": sums.entered, **{each: sums.layers[each] for each in stages}}
    rows["pixels"] = sums.pixels
    for row, values in rows.items():
        print(f"{name:12}{row:8}", *(f"{value:8.3f}" for value in values))

# %% [markdown]
# ## Rules are data
#
# A composite says which rule a layer gets, by its name, its kind or its place. z+ is the default.
# Epsilon alone keeps signs and is noisy. Mine below: flat at the pixels, where single weights mean
# little; gamma in the middle, which prefers what supports; epsilon at the top.

# %%
rules = lrp.rules
mine = lrp.Composite(
    {
        "first": rules.flat,
        "last": rules.epsilon(0.1),
        "layer4*": rules.epsilon(0.1),
        "*": rules.gamma(),
    }
)
columns = {}
for name, composite in {"z+": "z_plus", "epsilon 0.1": lrp.epsilon(0.1), "mine": mine}.items():
    found = jax.jit(lambda x, c=composite: lrp.relevance(forward, x, composite=c))(images)
    columns[name] = jaxcam.maps.normalize(found.sum(-1), "signed", percentile=99.5)
# The relevance of a cat and a cup under three composites: red speaks for the class, blue against it
jaxcam.maps.figure(small, columns, titles=names, signed=True, panel=2)

# %% [markdown]
# ## Against other classes
#
# Under z+ the relevance of one class looks much like that of any other: all go down through the
# same activations. The contrastive initialisation (CLRP) takes away what the others have; its sum
# is 0, and what is left speaks for this class and not for those.

# %%
contrast = jax.jit(lambda x: lrp.relevance(forward, x, init="contrastive"))(images)
print("sums:", contrast.sum((1, 2, 3)))
columns = {
    "LRP": jaxcam.maps.normalize(relevance.sum(-1), "signed", percentile=99.5),
    "CLRP": jaxcam.maps.normalize(contrast.sum(-1), "signed", percentile=99.5),
}
# The same photos: LRP is red throughout, CLRP blue where the photo speaks for other classes
jaxcam.maps.figure(small, columns, titles=names, signed=True, panel=2)
