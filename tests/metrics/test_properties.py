"""What holds for every metric: jit = eager, examples apart, NaN for what is unknown or left out."""

import inspect
from functools import partial

import jax
import numpy as np
import pytest

from jaxcam import metrics

BATCH, SIZE = 3, (16, 18)
WEIGHTS = np.random.default_rng(5).normal(size=(SIZE[0] * SIZE[1] * 2, 3)).astype(np.float32) * 0.2
TARGETS = np.array([2, 0, 1])
BOXES = np.array([[2, 3, 9, 8], [0, 0, 4, 4], [5, 5, 17, 15]], np.float32)


def forward(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def of_model(metric, **options):
    return lambda images, saliency, targets, boxes, mask: metric(
        forward, images, saliency, targets, mask=mask, **options
    )


def of_maps(metric):
    return lambda images, saliency, targets, boxes, mask: metric(saliency, mask=mask)


def of_boxes(metric):
    return lambda images, saliency, targets, boxes, mask: metric(saliency, boxes, mask=mask)


def of_objects(metric):
    return lambda images, saliency, targets, boxes, mask: metric(
        saliency, metrics.box_mask(boxes, SIZE), mask=mask
    )


def of_pairs(metric, **options):
    return lambda images, saliency, targets, boxes, mask: metric(
        saliency, images[..., 0], mask=mask, **options
    )


METRICS = {
    "average_drop": of_model(metrics.average_drop),
    "average_drop top": of_model(metrics.average_drop, top=0.5),
    "average_increase": of_model(metrics.average_increase),
    "average_increase ties": of_model(metrics.average_increase, top=0.5, strict=False, ties=True),
    "confidences": of_model(metrics.confidences),
    "deletion": of_model(metrics.deletion, step=60),
    "insertion": of_model(metrics.insertion, step=60),
    "average_gain": of_model(metrics.average_gain),
    "drop_in_deletion": of_model(metrics.drop_in_deletion),
    "faithfulness_correlation": of_model(metrics.faithfulness_correlation, num_samples=9),
    "faithfulness_correlation grid": of_model(
        metrics.faithfulness_correlation, num_samples=9, grid=5, ranked=True
    ),
    "infidelity": of_model(metrics.infidelity, num_samples=3),
    "infidelity square": of_model(metrics.infidelity, num_samples=3, square=5, scaled=False),
    "region_perturbation": of_model(metrics.region_perturbation, side=5, steps=4),
    "road": of_model(metrics.road, percent=(30, 80)),
    "max_sensitivity": lambda images, saliency, targets, boxes, mask: metrics.max_sensitivity(
        forward, images, lambda f, x, t: saliency * x[..., 0], targets, mask=mask, num_samples=2
    ),
    "max_sensitivity_of_maps": lambda images, saliency, targets, boxes, mask: (
        metrics.max_sensitivity_of_maps(saliency, (saliency * images[..., 0])[None], mask=mask)
    ),
    "adcc": lambda images, saliency, targets, boxes, mask: metrics.adcc(
        forward, images, lambda f, x, t: saliency * x[..., 0], targets, mask=mask
    ),
    "arcc": lambda images, saliency, targets, boxes, mask: metrics.arcc(
        *(forward, images, lambda f, x, t: saliency * x[..., 0], targets),
        percent=(30, 80),
        mask=mask,
    ),
    "arcc_of_maps": lambda images, saliency, targets, boxes, mask: metrics.arcc_of_maps(
        forward, images, saliency, images[..., 0], targets, percent=(30, 80), mask=mask
    ),
    "adcc_of_maps": lambda images, saliency, targets, boxes, mask: metrics.adcc_of_maps(
        forward, images, saliency, images[..., 0], targets, mask=mask
    ),
    "selectivity": lambda images, saliency, targets, boxes, mask: metrics.selectivity(
        saliency[:, 0], mask=mask
    ),
    "top_share": lambda images, saliency, targets, boxes, mask: metrics.top_share(
        saliency[:, 0], mask=mask
    ),
    "sim": lambda images, saliency, targets, boxes, mask: metrics.sim(
        saliency[:, 0], images[:, 0, :, 0], mask=mask
    ),
    "class_sensitivity": lambda images, saliency, targets, boxes, mask: metrics.class_sensitivity(
        saliency, images[..., 0], boxes, boxes + np.array([[1, 1, 2, 2]], np.float32), mask=mask
    ),
    "hog_similarity": of_pairs(metrics.hog_similarity, cell=5),
    "similarity": of_pairs(metrics.similarity, cell=5),
} | {
    name: of(getattr(metrics, name))
    for of, names in {
        of_maps: (
            "entropy",
            "area",
            "dispersion",
            "complexity",
            "relative_difference",
            "box_from_map",
        ),
        of_boxes: ("mask_iou", "loc", "pointing_game", "energy_in_box"),
        of_objects: ("mass_accuracy", "rank_accuracy", "pointing_at"),
        of_pairs: ("coherency", "spearman", "ssim"),
    }.items()
    for name in names
}
# Run without jit too: one of each kind of program; the literal tests run the others so.
EAGER = {"average_drop top", "deletion", "box_from_map", "mask_iou", "spearman", "adcc"}
# Functions without saliency of their own, tested where they are defined.
OTHERS = {
    "auc",
    "blur",
    "box_iou",
    "box_mask",
    "cascade",
    "confidence",
    "drop",
    "harmonic",
    "hog",
    "increase",
}
OTHERS |= {"aopc", "gain", "impute", "mask_images", "resize_boxes", "shuffled", "win_rate"}


@pytest.fixture
def arguments(rng):
    images, saliency = (rng.normal(size=(BATCH, *SIZE, *c)).astype(np.float32) for c in ((2,), ()))
    return images, saliency, TARGETS, BOXES, np.ones(BATCH, bool)


def leaves(value):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(value)]


@pytest.mark.parametrize("name", METRICS)
def test_metric(name, arguments):
    images, saliency, targets, boxes, everyone = arguments
    jitted = jax.jit(METRICS[name])
    values = leaves(jitted(*arguments))

    for value in values:
        assert value.shape[0] == BATCH
        assert value.dtype == np.float32
        assert np.isfinite(value).all()
    if name in EAGER:
        for value, eager in zip(values, leaves(METRICS[name](*arguments)), strict=True):
            np.testing.assert_allclose(value, eager, rtol=1e-4, atol=1e-5)

    # An example's value is its own: the others may be anything, unknown or left out.
    others = saliency.copy()
    others[0, 3, 3], others[2, 1, 0] = np.nan, np.inf
    others[:, 0, 5] = np.where(
        [True, False, True], others[:, 3, 3] + others[:, 1, 0], others[:, 0, 5]
    )
    shuffled_images = images[[2, 1, 0]]
    for alone, value in zip(
        leaves(jitted(shuffled_images, others, targets, boxes, everyone)), values, strict=True
    ):
        np.testing.assert_allclose(alone[1], value[1], rtol=1e-4, atol=1e-5)
        assert np.isnan(alone[[0, 2]]).all()
    for left, value in zip(
        leaves(jitted(images, saliency, targets, boxes, TARGETS != 1)), values, strict=True
    ):
        np.testing.assert_array_equal(left[:2], value[:2])
        assert np.isnan(left[2]).all()


# What comes between images and targets, of each metric that asks a model.
BETWEEN = {
    "confidence": (),
    "adcc": (lambda f, x, t: x[..., 0] + f(x).sum(1)[:, None, None],),
    "adcc_of_maps": ("saliency", "again"),
    "arcc": (lambda f, x, t: x[..., 0] + f(x).sum(1)[:, None, None],),
    "arcc_of_maps": ("saliency", "again"),
    "average_drop": ("saliency",),
    "average_increase": ("saliency",),
    "confidences": ("saliency",),
    "deletion": ("saliency",),
    "insertion": ("saliency",),
    "average_gain": ("saliency",),
    "drop_in_deletion": ("saliency",),
    "faithfulness_correlation": ("saliency",),
    "infidelity": ("saliency",),
    "max_sensitivity": (lambda f, x, t: x[..., 0] + f(x).sum(1)[:, None, None],),
    "region_perturbation": ("saliency",),
    "road": ("saliency",),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_aux_is_not_looked_at(name, arguments):
    images, saliency, targets, *_ = arguments
    maps = {"saliency": saliency, "again": images[..., 0]}
    between = [maps.get(each, each) for each in BETWEEN[name]]
    measure = lambda model, **how: leaves(
        getattr(metrics, name)(model, images, *between, targets, **how)
    )
    with_aux = lambda x: (forward(x), {"batch_stats": x})
    for plain, aside in zip(measure(forward), measure(with_aux, has_aux=True), strict=True):
        np.testing.assert_array_equal(plain, aside)
    with pytest.raises(ValueError, match="forward: got a function that returned a tuple, expected"):
        measure(with_aux)
    with pytest.raises(ValueError, match=r"returned a .*, expected \(logits, aux\), as"):
        measure(forward, has_aux=True)


def test_has_aux_is_everywhere_where_a_model_is():
    takes_a_model = {
        name
        for name in metrics.__all__
        if "forward" in inspect.signature(getattr(metrics, name)).parameters
    }
    assert takes_a_model == set(BETWEEN)


def test_options_are_given_by_name():
    for name in metrics.__all__:
        for parameter in inspect.signature(getattr(metrics, name)).parameters.values():
            if parameter.default not in (parameter.empty, None):
                assert parameter.kind is parameter.KEYWORD_ONLY, (name, parameter.name)


def test_every_public_metric_is_in_the_table():
    public = {name for name, value in vars(metrics).items() if inspect.isfunction(value)}
    assert public == {name.split()[0] for name in METRICS} | OTHERS


@pytest.mark.parametrize("name", [n for n, v in vars(metrics).items() if inspect.isfunction(v)])
def test_public_functions_document_themselves(name):
    doc = inspect.getdoc(getattr(metrics, name))
    assert ("Returns" in doc) or ("Yields" in doc)
    assert "Raises" in doc


def test_metrics_under_pmap(arguments):
    """Two examples a device, padded to a full batch: the same values."""
    images, saliency, targets, _, _ = (np.concatenate([a, a[:1]]) for a in arguments)
    mask = np.array([True, True, True, False])
    split = lambda a: a.reshape(2, 2, *a.shape[1:])
    game = partial(metrics.deletion, forward, step=60)
    mapped = jax.pmap(lambda x, s, t, m: game(x, s, t, mask=m), devices=jax.devices()[:2])
    values = np.asarray(mapped(*map(split, (images, saliency, targets, mask)))).reshape(4, -1)
    np.testing.assert_allclose(values[:3], game(images[:3], saliency[:3], targets[:3]), rtol=1e-5)
    assert np.isnan(values[3]).all()


# Parts of them are of maps alone, or what they explain is.
PARTED = {"adcc", "adcc_of_maps", "arcc", "arcc_of_maps", "max_sensitivity"}


@pytest.mark.parametrize("name", sorted(set(BETWEEN) - PARTED))
def test_a_target_out_of_range_is_nan_under_jit(name, arguments):
    """A metric of maps alone, as parts of ADCC are, knows no class."""
    images, saliency, *_ = arguments
    between = [saliency] * len(BETWEEN[name])
    measure = jax.jit(lambda t: getattr(metrics, name)(forward, images, *between, t))
    for value in leaves(measure(np.array([1, 3, 2]))):
        assert np.isnan(value[1]).all()
        assert np.isfinite(value[[0, 2]]).all()
