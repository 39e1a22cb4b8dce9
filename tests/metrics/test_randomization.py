"""Randomised parameters, similarity of maps, class sensitivity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.stats import spearmanr
from skimage.feature import hog as skimage_hog
from skimage.metrics import structural_similarity

import jaxcam
from jaxcam import metrics
from tests import nets
from tests.metrics import literal

GROUPS = ["head", "conv2", "bn", "conv1"]


def same(first, second):
    return jax.tree.map(lambda a, b: bool((a == b).all()), first, second)


@pytest.mark.parametrize("independent", [False, True])
def test_cascade_replaces_group_after_group(independent):
    _, variables, _ = nets.tiny()
    params, fresh = variables["params"], jax.tree.map(lambda x: x + 1, variables["params"])
    steps = list(metrics.cascade(params, GROUPS, fresh, independent=independent))
    assert [name for name, _ in steps] == GROUPS
    for i, (name, mixed) in enumerate(steps):
        replaced = {name} if independent else set(GROUPS[: i + 1])
        for group in GROUPS:
            source = fresh if group in replaced else params
            assert all(jax.tree.leaves(same(mixed[group], source[group])))
    if not independent:
        assert all(jax.tree.leaves(same(steps[-1][1], fresh)))


def test_cascade_through_linen_nnx_and_plain_parameters(rng):
    """The top layer alone changes the logits; a randomised net's Grad-CAM differs."""
    model, variables, images = nets.tiny()
    fresh = jax.jit(model.init)(jax.random.key(1), images)["params"]
    (_, params), *_ = metrics.cascade(variables["params"], GROUPS, fresh)
    explain = lambda p: jaxcam.grad_cam(
        jaxcam.linen(model, variables | {"params": p}), images, 0, layer="top"
    )
    assert not np.allclose(explain(params), explain(variables["params"]))

    module = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 2, rngs=nnx.Rngs(1)))
    graph, state = nnx.split(module)
    (name, mixed), *_ = metrics.cascade(
        state, ["layers.1"], metrics.shuffled(state, jax.random.key(0))
    )
    merged = nnx.merge(graph, mixed)
    assert (merged.layers[0].kernel[...] == module.layers[0].kernel[...]).all()
    assert not (merged.layers[1].kernel[...] == module.layers[1].kernel[...]).all()

    plain = {"conv1.weight": np.ones(2), "conv10.weight": np.zeros(2), "fc.weight": np.ones(2)}
    by_name = dict(metrics.cascade(plain, ["conv1"], jax.tree.map(lambda x: x + 5, plain)))
    assert by_name["conv1"]["conv10.weight"].max() == 0  # a name ends at a dot
    groups = {"all convolutions": lambda path: path.startswith("conv")}
    ((name, mixed),) = metrics.cascade(plain, groups, jax.tree.map(lambda x: x + 5, plain))
    assert (name, mixed["conv1.weight"][0], mixed["conv10.weight"][0], mixed["fc.weight"][0]) == (
        *groups,
        6,
        5,
        1,
    )


def test_shuffled_keeps_the_values_of_each_array(rng):
    params = {"a": rng.normal(size=(3, 4)), "b": [rng.normal(size=20)]}
    mixed = metrics.shuffled(params, jax.random.key(0))
    assert jax.tree.structure(mixed) == jax.tree.structure(params)
    for old, new in zip(jax.tree.leaves(params), jax.tree.leaves(mixed), strict=True):
        np.testing.assert_allclose(np.sort(old.ravel()), np.sort(np.ravel(new)), rtol=1e-6)
        assert not np.allclose(old, new)
        assert old.shape == new.shape


def pairs(rng):
    """Unrelated, related, equal, opposite and tied maps of 64 x 80 pixels."""
    first = rng.normal(size=(5, 64, 80))
    second = np.stack(
        [
            rng.normal(size=(64, 80)),
            first[1] + rng.normal(size=(64, 80)),
            first[2],
            -first[3],
            first[4],
        ]
    )
    first[4], second[4] = np.maximum(first[4] - 1, 0), np.round(second[4])
    return first, second


def test_spearman_equals_scipy(rng):
    first, second = pairs(rng)
    for absolute in (False, True):
        form = np.abs if absolute else np.array
        expected = [
            spearmanr(form(a).ravel(), form(b).ravel())[0]
            for a, b in zip(first, second, strict=True)
        ]
        np.testing.assert_allclose(
            metrics.spearman(first, second, absolute=absolute), expected, atol=2e-5
        )


def test_ssim_and_hog_equal_scikit_image(rng):
    first, second = pairs(rng)
    similar, hogs = [], []
    for a, b in zip(first, second, strict=True):
        a, b = literal.min_max(a), literal.min_max(b)
        similar.append(structural_similarity(a, b, gaussian_weights=True, data_range=1))
        hogs.append(spearmanr(*(skimage_hog(x, pixels_per_cell=(16, 16)) for x in (a, b)))[0])
    np.testing.assert_allclose(jax.jit(metrics.ssim)(first, second), similar, atol=2e-5)
    np.testing.assert_allclose(jax.jit(metrics.hog_similarity)(first, second), hogs, atol=1e-3)
    np.testing.assert_allclose(
        metrics.hog(first), [skimage_hog(x, pixels_per_cell=(16, 16)) for x in first], atol=1e-4
    )
    odd = [skimage_hog(x, pixels_per_cell=(8, 8)) for x in first[:, :30, :27]]
    np.testing.assert_allclose(metrics.hog(jnp.asarray(first[:, :30, :27]), cell=8), odd, atol=1e-4)


def test_similarity_of_equal_opposite_random_and_constant_maps(rng):
    first, second = pairs(rng)
    similarity = jax.jit(metrics.similarity)
    values = similarity(first, second)
    np.testing.assert_allclose([v[2] for v in values], [1, 1, 1, 1], atol=1e-6)
    np.testing.assert_allclose([values.spearman[3], values.spearman_abs[3]], [-1, 1], atol=1e-6)
    assert abs(values.spearman[0]) < 4 / np.sqrt(64 * 80)
    constant = metrics.Similarity(*(v[:1] for v in similarity(first, np.full((5, 64, 80), 0.3))))
    assert np.isnan([constant.spearman, constant.spearman_abs, constant.hog]).all()
    assert 0 <= constant.ssim < 0.1


def test_class_sensitivity_of_two_objects():
    left, right = np.array([[0, 0, 3, 7]]), np.array([[4, 0, 7, 7]])
    on = lambda box: literal.filled(box, 8, 8).astype(float)
    first = np.stack([on(left), on(left), on(left) + 1])
    second = np.stack([on(right), on(left), on(right) + 1])
    values = metrics.class_sensitivity(first, second, np.tile(left, (3, 1)), np.tile(right, (3, 1)))
    np.testing.assert_allclose(values.correlation, [-1, 1, -1], atol=1e-6)
    np.testing.assert_allclose(values.own, [1, 0.5, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(values.other, [0, 0.5, 1 / 3], rtol=1e-6)
    empty = metrics.class_sensitivity(
        first,
        second,
        left[None].repeat(3, 0),
        right[None].repeat(3, 0),
        second_boxes_mask=np.array([[1], [1], [0]]),
    )
    np.testing.assert_array_equal(np.isnan(empty.own), [False, False, True])
    np.testing.assert_array_equal(np.isnan(empty.correlation), [False] * 3)


def test_bad_input_is_named():
    params = {"conv": {"kernel": np.ones((2, 3))}, "head": {"bias": np.ones(3)}}
    first = lambda groups, fresh=params: next(metrics.cascade(params, groups, fresh))
    with pytest.raises(
        ValueError,
        match=r"groups: got 'haed', which no parameter is in, expected .*such as 'head\.bias'",
    ):
        first(["haed"])
    with pytest.raises(ValueError, match="groups: got 'head', expected one or more names"):
        first("head")
    with pytest.raises(ValueError, match=r"groups: got \[\]"):
        first([])
    with pytest.raises(
        ValueError,
        match=r"fresh: got another structure, which differs in 'conv.kernel', expected that",
    ):
        first(["head"], {"head": params["head"]})
    with pytest.raises(
        ValueError, match=r"fresh: got shape \(3, 2\) for conv.kernel, expected \(2, 3\)"
    ):
        first(["head"], params | {"conv": {"kernel": np.ones((3, 2))}})
    with pytest.raises(
        ValueError, match=r"second: got shape \(1, 9, 8\), expected \(1, 8, 8\), as first"
    ):
        metrics.spearman(np.ones((1, 8, 8)), np.ones((1, 9, 8)))
    with pytest.raises(
        ValueError, match=r"first: got maps of \(8, 8\) pixels, expected at least 11 x 11"
    ):
        metrics.ssim(np.ones((1, 8, 8)), np.ones((1, 8, 8)))
    with pytest.raises(ValueError, match=r"cell: got 16 for \(40, 64\) pixels, expected a third"):
        metrics.hog_similarity(np.ones((1, 40, 64)), np.ones((1, 40, 64)))
