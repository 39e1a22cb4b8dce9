"""ARCC: its literal form, its parts, what it says of maps that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import metrics
from tests.metrics import literal

PERCENT = (20, 60)


def test_arcc_equals_its_literal_form(rng):
    """In float64; one map that is the model's own, one whose ROAD is negative."""
    weights = rng.normal(size=(5 * 6 * 2, 3))
    images, again = rng.normal(size=(2, 5, 6, 2)), rng.normal(size=(2, 5, 6))
    targets = [2, 0]
    evidence = [(images[i] * weights[:, t].reshape(5, 6, 2)).sum(-1) for i, t in enumerate(targets)]
    saliency = np.stack([evidence[0], -evidence[1]])
    forward = lambda x: x.reshape(len(x), -1) @ jnp.asarray(weights, x.dtype)
    with jax.enable_x64(True):
        call = (forward, jnp.asarray(images), saliency, again, targets)
        found = metrics.arcc_of_maps(*call, percent=PERCENT, noise=0)
    for i, target in enumerate(targets):
        model = lambda x: x.ravel() @ weights
        morf, lerf = literal.road(model, images[i], saliency[i], target, PERCENT)
        faithful = min(1, max(0, 2 * np.mean(lerf - morf) / 2))
        coherency = (1 + literal.pearson(saliency[i], again[i])) / 2
        complexity = literal.min_max(saliency[i]).mean()
        assert (faithful > 0) == (i == 0)
        expected = 0.0
        if faithful > 0:
            expected = 3 / (1 / coherency + 1 / (1 - complexity) + 1 / faithful)
        got = [np.asarray(part)[i] for part in found]
        np.testing.assert_allclose(got, [expected, faithful, coherency, complexity], rtol=1e-8)


def test_what_is_explained_is_the_image_and_what_its_map_leaves(rng):
    images = jnp.asarray(rng.uniform(size=(2, 6, 6, 1)), jnp.float32)
    forward = lambda x: jnp.stack([x[:, 2, 3, 0], x[:, 4, 4, 0]], 1) * 4
    explain = lambda f, x, t: (x[..., 0] + 0.1 * f(x)[:, :1, None])[:, ::2, ::2]
    found = metrics.arcc(forward, images, explain, 0, percent=PERCENT)
    first = metrics.adcc(forward, images, explain, 0)
    np.testing.assert_allclose(found.coherency, first.coherency, rtol=1e-5)
    np.testing.assert_allclose(found.complexity, first.complexity, rtol=1e-5)
    with pytest.raises(TypeError, match="explain: got a float, expected a function"):
        metrics.arcc(forward, images, 0.5)
