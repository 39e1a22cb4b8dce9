# %% [markdown]
# # Why is my map wrong?
#
# Three things to look at before you distrust the network: the layer, the target, and whether the
# map depends on the network at all.

# %%
import jax
import jax.numpy as jnp
import skimage

import jaxcam

SIDE = 64
SHUFFLES = 5

model, variables = jaxcam.models.load("tiny20")
about = jaxcam.models.describe("tiny20")
photo = jnp.asarray(skimage.data.cat()[:, 75:375] / 255, jnp.float32)[None]
small = jax.image.resize(photo, (1, SIDE, SIDE, 3), "lanczos3").clip(0, 1)
images = about.preprocess(small)
forward = jaxcam.linen(model, variables)
known = jaxcam.layers(forward, images)


def heat(maps, layer):
    large = jaxcam.maps.resize(maps, (300, 300), centers=known.centers[layer])
    return jaxcam.maps.normalize(large)


# %% [markdown]
# ## The layer
#
# Grad-CAM weighs channels by their mean gradient. Low in a network that mean says little, and its
# maps scatter. Relevance-CAM weighs them by their relevance and was made for such layers; its maps
# are signed, and broad. High in the network both agree.

# %%
layers = ["layer1", "layer2", "layer3", "layer4"]
grad = jax.jit(lambda x: jaxcam.grad_cam(forward, x, layer=layers))(images)
# Grad-CAM of a cat: on the forehead at the two upper layers, scattered over edges at the lower ones
jaxcam.maps.figure(photo, {f"Grad-CAM, {k}": heat(grad[k], k) for k in layers}, panel=1.8)

# %%
relevance = jax.jit(lambda x: jaxcam.relevance_cam(forward, x, layer=layers))(images)
# Relevance-CAM of the same cat at the same layers
jaxcam.maps.figure(photo, {f"Rel.-CAM, {k}": heat(relevance[k], k) for k in layers}, panel=1.8)

# %% [markdown]
# ## The target
#
# A map explains a score. The likeliest class is the default; ask for others by index, several at
# once, or for a difference of two.

# %%
cat, other = about.classes.index("tabby"), about.classes.index("golden retriever")
several = jaxcam.grad_cam(forward, images, [[cat, other]], layer="layer3")
between = jaxcam.grad_cam(forward, images, jaxcam.targets.difference(cat, other), layer="layer3")
columns = {
    "tabby": heat(several[:, 0], "layer3"),
    "golden retriever": heat(several[:, 1], "layer3"),
    "tabby rather than retriever": heat(between, "layer3"),
}
# The cat explained as a tabby, as a retriever, and by the difference of the two scores
jaxcam.maps.figure(photo, columns, panel=2)

# %% [markdown]
# ## The sanity check
#
# Shuffle the network's parameters. A map that stays the same shows edges, not what the network has
# learned (Adebayo et al. 2018). Two things spoil the check if one does it carelessly:
#
# * compare maps **before** their ReLU: a network of noise often has no evidence for the class, its
#   Grad-CAM is zero throughout, and a constant has no rank correlation (it is NaN);
# * one shuffle is an anecdote: take several and look at the spread.
#
# `python -m eval sanity` does it layer by layer, on many photos.

# %%
target = int(forward(images).argmax())
methods = {
    "Grad-CAM, signed": lambda f: jaxcam.grad_cam(f, images, target, layer="layer3", relu=None),
    "LRP": lambda f: jaxcam.lrp_map(f, images, target),
    "guided backprop": lambda f: jaxcam.guided_backprop(f, images, target),
    "Eigen-CAM": lambda f: jaxcam.eigen_cam(f, images, target, layer="layer3"),
}


@jax.jit
def explained(params):
    network = jaxcam.linen(model, variables | {"params": params})
    return {name: method(network) for name, method in methods.items()}


trained = explained(variables["params"])
found = {name: [] for name in methods}
for key in jax.random.split(jax.random.key(0), SHUFFLES):
    untrained = explained(jaxcam.metrics.shuffled(variables["params"], key))
    for name in methods:
        alike = jaxcam.metrics.spearman(trained[name], untrained[name], absolute=True)
        found[name].append(float(alike[0]))
for name, each in found.items():
    print(f"{name:24} rank correlation", *(f"{value:6.2f}" for value in each))

# %%
side = (300, 300)
scaled = lambda maps: jaxcam.maps.normalize(jaxcam.maps.resize(jnp.abs(maps), side))
columns = {}
for name in ("LRP", "guided backprop"):
    columns[f"{name}, trained"] = scaled(trained[name])
    columns[f"{name}, shuffled"] = scaled(untrained[name])
# Magnitudes of two methods' maps of the cat, by the trained network and by a shuffled one
jaxcam.maps.figure(photo, columns, panel=1.9)

# %% [markdown]
# Read it with care. LRP under z+ keeps a rank correlation of about 0.6 however the parameters are
# shuffled: each z+ layer mixes by positive weights only, and many of them in a row forget where the
# relevance came from (Sixt et al. 2020), so that what is left is much the same for any network:
# bright pixels, and the grid of the strides. Its map of the trained network still shows stripes and
# eyes; the number says how much of any such map you would have got for nothing.
