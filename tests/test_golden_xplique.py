"""Our maps and metrics against xplique's kept ones, also where TensorFlow is not installed."""

import importlib.util
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import metrics
from jaxcam._explainers import rise, superpixels, surrogates
from tests import golden, golden_peers, golden_xplique
from tests.golden_peers import TARGETS, heat

KEPT = dict(np.load(golden_xplique.FILE))
GIVEN = dict(np.load(golden.FILE))
IMAGES = jnp.asarray(GIVEN["images"])
SMOOTH = {"samples": golden_xplique.SAMPLES, "sigma": golden_xplique.SIGMA}
WINDOWS = {"window": golden_xplique.PATCH, "stride": golden_xplique.PATCH}


def forward(x):
    return golden.convolutional(GIVEN)(x)


def close(found, name, rtol=1e-4):
    expected = KEPT[name]
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * size, err_msg=name)


def variance(forward, images, targets):
    """Of each colour's gradient, unbiased, summed: by E |g|^2 - |E g|^2."""
    by_colour = 0
    for colour in range(3):
        one = lambda x, g, colour=colour: g[..., colour]
        method = jaxcam.smooth(partial(jaxcam.explain, one), statistic="variance", **SMOOTH)
        by_colour += method(forward, images, targets, layer="pixels")
    return by_colour * SMOOTH["samples"] / (SMOOTH["samples"] - 1)


summed = partial(jaxcam.gradient, reduction="sum")
OF_PIXELS = {
    "Saliency": jaxcam.gradient,
    "GradientInput": jaxcam.gradient_input,
    "IntegratedGradients": partial(
        jaxcam.integrated_gradients, steps=golden_xplique.POINTS - 1, rule="trapezoid"
    ),
    "GuidedBackprop": partial(jaxcam.guided_backprop, reduction="sum"),
    "DeconvNet": partial(jaxcam.deconvnet, reduction="sum"),
    "Occlusion": partial(jaxcam.occlusion, activation="identity", **WINDOWS),
    "SmoothGrad": jaxcam.smooth(summed, **SMOOTH),
    "SquareGrad": jaxcam.smooth(
        partial(jaxcam.gradient, reduction="norm"), statistic="square", **SMOOTH
    ),
    "VarGrad": variance,
}
OF_LAYERS = {
    "GradCAM": jaxcam.grad_cam,
    "GradCAMPP": partial(jaxcam.grad_cam_plus_plus, variant="xplique"),
    "FEM": jaxcam.fem,
}


# Black boxes, asked for logits.
LOGIT = {"activation": "identity"}
SIZE = IMAGES.shape[1:3]
SQUARES = golden_xplique.squares(IMAGES, 6)
STRIPES = golden_xplique.stripes(IMAGES)
SAMPLED = LOGIT | {"hide_color": golden_xplique.HIDE}
HALVES = SAMPLED | {"segments": SQUARES, "num_samples": golden_xplique.ROWS, "num_segments": 16}
ALIKE = {"kernel_width": 1e4, "alpha": 0.0}  # every sample weighs 1
MASKS = {"num_masks": golden_xplique.MASKS, "grid": golden_xplique.GRID}


def risen(forward, images, targets):
    """Divided by how often a pixel was shown, and not by how often it is on average."""
    drawn = rise.draw(jax.random.key(0), golden_xplique.MASKS, golden_xplique.GRID, 0.5, SIZE)
    shown = rise.masks(*drawn, SIZE).sum(0)
    maps = jaxcam.rise(forward, images, targets, **MASKS, **LOGIT)
    return maps * golden_xplique.MASKS * 0.5 / (shown + 1e-4)[None]


OF_BOXES = {
    "Rise": risen,
    "Lime/ours": partial(jaxcam.lime, **HALVES),
    "KernelShap/halves": partial(jaxcam.lime, **HALVES, **ALIKE),
}
# Compared in tests of their own.
APART = {"Lime", "Lime/likeness", "KernelShap/stripes", "Rise masks"}

DROPS = {
    "AverageDropMetric": metrics.average_drop,
    "AverageIncreaseMetric": metrics.average_increase,
    "AverageGainMetric": metrics.average_gain,
}
FIDELITY = {
    "subset": golden_peers.SUBSET,
    "grid": golden_peers.GRID,
    "num_samples": golden_peers.SETS,
    "ranked": True,
}
STEP = GIVEN["images"][0, :, :, 0].size // golden_xplique.STEPS


@jax.jit  # one program: compiling many costs more
def ours(images):
    found = {"logits": forward(images)}
    for name, method in (OF_PIXELS | OF_BOXES).items():
        found[name] = method(forward, images, TARGETS)
    for name, method in OF_LAYERS.items():
        maps = method(forward, images, TARGETS, layer=golden_xplique.LAYERS)
        found |= {f"{name}/{layer}": each for layer, each in maps.items()}
    maps = jnp.asarray(heat(GIVEN["images"]))
    call = (forward, images, maps, TARGETS)
    found["Deletion"] = metrics.deletion(*call, step=STEP, chunk=3)
    found["Insertion"] = metrics.insertion(*call, step=STEP, chunk=3, baseline=0.0)
    for name, drop in DROPS.items():
        found[name] = drop(*call) / 100
    found["MuFidelity"] = metrics.faithfulness_correlation(*call, **FIDELITY)
    found["Complexity"] = metrics.entropy(maps)
    found["Sparseness"] = metrics.selectivity(maps.reshape(len(maps), -1))
    return found


def test_ours_are_xpliques():
    found = ours(IMAGES)
    assert set(found) | APART == set(KEPT)
    for name, value in found.items():
        close(value, name)
    assert golden_xplique.FILE.stat().st_size < 60_000


def test_masks_differ_at_the_border():
    """Half a cell within it they are the same; outside, xplique goes on, the authors mirror."""
    grids, _ = rise.draw(jax.random.key(0), golden_xplique.MASKS, golden_xplique.GRID, 0.5, SIZE)
    matrix = rise.magnifier(SIZE[0], golden_xplique.GRID)
    masks = np.einsum("Hh,nhw,Ww->nHW", matrix, grids[:3], matrix)
    away = np.abs(masks - KEPT["Rise masks"][..., 0])
    half = -(-SIZE[0] // golden_xplique.GRID) // 2 + 1
    np.testing.assert_allclose(away[:, half:-half, half:-half], 0, atol=1e-5)
    assert 0.3 < away.max() < 0.5


def test_lime_with_the_distance_in_pixels():
    """xplique's own weights, exp(-|x - x'|^2 / 45^2), and twice the ridge: the same line."""
    segments = jnp.asarray(SQUARES)
    present = superpixels.present(segments, 16)
    samples = surrogates.halves(jax.random.key(0), golden_xplique.ROWS, present)
    hidden = superpixels.hide(IMAGES, segments, 16, golden_xplique.HIDE)
    shown = superpixels.show(IMAGES, hidden, segments, samples)
    for b, target in enumerate(TARGETS):
        answers = forward(shown[:, b])[:, target : target + 1]
        weights = jnp.exp(-((shown[:, b] - IMAGES[b][None]) ** 2).sum((1, 2, 3)) / 45**2)
        rows = samples[:, b].astype(jnp.float32)
        line, *_ = surrogates.weighted_ridge(rows, answers, weights, 2.0)
        expected = KEPT["Lime"][b]
        np.testing.assert_allclose(line[0][segments[b]], expected, rtol=1e-4, atol=1e-6)


def test_xpliques_cosine_is_turned_round():
    """Weights exp(-(1 + cos)^2): the image itself counts least, its negative most."""
    np.testing.assert_allclose(KEPT["Lime/likeness"], [np.exp(-4), 1], rtol=1e-5)


def test_kernel_shap_without_its_constraints():
    """Of three segments all coalitions are drawn: Shapley's values; theirs but for the sum."""
    segments = jnp.asarray(STRIPES)
    ours = jaxcam.lime_surrogate(
        *(forward, IMAGES, TARGETS),
        **SAMPLED | {"segments": segments, "num_samples": 8, "kernel": "shap"},
    ).coefficients
    hidden = superpixels.hide(IMAGES, segments, 3, golden_xplique.HIDE)
    game = {}
    for shown in itertools.product([False, True], repeat=3):
        rows = jnp.broadcast_to(jnp.array(shown), (1, 2, 3))
        (mixed,) = superpixels.show(IMAGES, hidden, segments, rows)
        game[shown] = np.asarray(forward(mixed), np.float64)[[0, 1], TARGETS]
    np.testing.assert_allclose(ours, shapley(game), rtol=1e-4, atol=1e-6)
    theirs = KEPT["KernelShap/stripes"][:, 0:6:2, 0]
    free = ours - ours.mean(1, keepdims=True)
    np.testing.assert_allclose(theirs - theirs.mean(1, keepdims=True), free, rtol=1e-4, atol=1e-6)
    assert (np.abs(theirs.sum(1) - ours.sum(1)) > 0.01).all()


def shapley(game):
    """`[B, S]`: the mean over orders of what each adds to the value of a coalition."""
    orders = list(itertools.permutations(range(3)))
    values = np.zeros((2, 3))
    for order in orders:
        shown = np.zeros(3, bool)
        for segment in order:
            before = game[tuple(shown.tolist())]
            shown[segment] = True
            values[:, segment] += (game[tuple(shown.tolist())] - before) / len(orders)
    return values


def test_xplique_says_so_still():
    """Where it is installed: what is kept is what its code computes."""
    for name in ("tensorflow", "xplique"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    for name, value in golden_xplique.theirs(GIVEN).items():
        close(value, name)
