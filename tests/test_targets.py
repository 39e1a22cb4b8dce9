"""Named targets against their literal values, and through explainers, metrics and perturbation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import targets

RNG = np.random.default_rng(2)
Z = RNG.normal(size=(3, 5))
IMAGES = jnp.asarray(RNG.normal(size=(3, 6, 6, 4)), jnp.float32)
WEIGHTS = jnp.asarray(RNG.normal(size=(4, 5)), jnp.float32)


def value(function, output):
    with jax.enable_x64(True):
        return np.asarray(function(jax.tree.map(jnp.asarray, output)))


def test_targets_of_logits():
    p = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
    classes = np.array([4, 0, 2])
    own = p[np.arange(3), classes]
    assert np.allclose(value(targets.logit(classes), Z), Z[np.arange(3), classes])
    assert np.allclose(value(targets.probability(classes), Z), own)
    assert np.allclose(value(targets.log_probability(classes), Z), np.log(own))
    assert np.allclose(value(targets.log_odds(classes), Z), np.log(own / (1 - own)))
    assert np.allclose(value(targets.difference(1, classes), Z), Z[:, 1] - Z[np.arange(3), classes])
    sigmoid = targets.probability(2, activation="sigmoid")
    assert np.allclose(value(sigmoid, Z), 1 / (1 + np.exp(-Z[:, 2])))


def test_targets_of_a_single_logit():
    z = Z[:, :1]
    p = 1 / (1 + np.exp(-z[:, 0]))
    assert np.allclose(value(targets.probability(0), z), p)
    assert np.allclose(value(targets.log_probability(0), z), np.log(p))
    assert np.allclose(value(targets.log_odds(0), z), np.log(p / (1 - p)))
    assert np.allclose(value(targets.binary(), z), z[:, 0])
    assert np.allclose(value(targets.binary(positive=False), z), -z[:, 0])


def test_targets_of_embeddings():
    vectors = RNG.normal(size=(3, 5))
    dots = np.array([a @ b for a, b in zip(Z, vectors, strict=True)])
    norms = np.linalg.norm(Z, axis=1) * np.linalg.norm(vectors, axis=1)
    assert np.allclose(value(targets.similarity(vectors), Z), dots / norms)
    assert np.allclose(value(targets.similarity(vectors, kind="dot"), Z), dots)
    one = targets.similarity(vectors[0], kind="dot")
    assert np.allclose(value(one, Z), Z @ vectors[0])


def test_targets_of_a_segmentation():
    output = RNG.normal(size=(3, 4, 5, 2))
    mask = RNG.integers(0, 2, (3, 4, 5))
    expected = (output[..., 1] * mask).sum((1, 2))
    assert np.allclose(value(targets.region(mask, 1), output), expected)
    first = targets.region(mask[0], 1, axis=1)
    assert np.allclose(
        value(first, np.moveaxis(output, -1, 1)), (output[..., 1] * mask[0]).sum((1, 2))
    )


def literal_iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area = lambda c: (c[2] - c[0]) * (c[3] - c[1])
    return width * height / (area(a) + area(b) - width * height)


def test_targets_of_a_detector():
    corners = RNG.uniform(0, 5, (3, 7, 2))
    boxes = np.concatenate([corners, corners + RNG.uniform(1, 5, (3, 7, 2))], -1)
    found = RNG.uniform(size=(3, 7, 4))
    wanted = np.array([1.0, 1.0, 6.0, 7.0])
    got = value(targets.box(wanted, 2), (boxes, found))
    for image in range(3):
        each = [
            literal_iou(b, wanted) * s
            for b, s in zip(boxes[image], found[image, :, 2], strict=True)
        ]
        assert np.isclose(got[image], max(each))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: targets.logit(5)(Z), "targets: got class 5, expected 0 to 4"),
        (
            lambda: targets.logit(0)(Z[0]),
            r"forward: got an output of shape \(5,\), expected logits",
        ),
        (lambda: targets.binary()(Z), "targets: got 5 logits for binary, expected one"),
        (
            lambda: targets.similarity(Z, kind="l2"),
            "kind: got 'l2', expected one of 'cosine', 'dot'",
        ),
        (lambda: targets.similarity(Z[0, :4])(Z), r"vector: got a vector of shape \(4,\) for an"),
        (lambda: targets.region(Z, 0)(np.ones((3, 4, 5, 2))), r"mask: got shape \(3, 5\) for an"),
        (lambda: targets.box([0, 0, 1, 1], 0)(Z), "targets: got a ndarray for box, expected"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def segmenter(images):
    """Logits of five classes at every cell: what no class alone explains."""
    return jaxcam.tag(jnp.tanh(images), "features") @ WEIGHTS


def test_an_output_that_is_no_logits_is_explained_through_its_region():
    mask = np.zeros((6, 6))
    mask[1:3, 2:5] = 1
    region = targets.region(mask, 3)
    with pytest.raises(ValueError, match=r"forward: got an output of shape \(3, 6, 6, 5\)"):
        jaxcam.grad_cam(segmenter, IMAGES, 3)
    maps = jaxcam.hires_cam(segmenter, IMAGES, region)
    expected = (np.tanh(IMAGES) @ np.asarray(WEIGHTS)[:, 3]) * mask
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)
    relevance = jaxcam.lrp_map(segmenter, IMAGES, region, composite=jaxcam.lrp.epsilon(0.0))
    np.testing.assert_allclose(relevance, expected, rtol=1e-3, atol=1e-5)


def test_functions_of_the_output_go_through_perturbation_and_metrics():
    """One model for classes and one for an embedding: the same score, the same numbers."""
    classifier = lambda images: segmenter(images).mean((1, 2))
    vector = jax.nn.one_hot(2, 5)
    by_class = lambda z: z[:, 2]
    by_vector = targets.similarity(vector, kind="dot")
    explainers = {
        "score_cam": lambda t: jaxcam.score_cam(classifier, IMAGES, t),
        "ablation_cam": lambda t: jaxcam.ablation_cam(classifier, IMAGES, t),
        "rise": lambda t: jaxcam.rise(classifier, IMAGES, t, num_masks=10, grid=2),
        "drop": lambda t: jaxcam.metrics.average_drop(classifier, IMAGES, IMAGES[..., 0], t),
        "deletion": lambda t: jaxcam.metrics.deletion(
            classifier, IMAGES, IMAGES[..., 0], t, step=0.25
        ),
    }
    for name, explain in explainers.items():
        np.testing.assert_allclose(explain(by_class), explain(by_vector), rtol=1e-4, err_msg=name)
    mask = np.ones((6, 6)) / 36
    region = targets.region(mask, 2)
    for name, explain in {
        "score_cam": lambda f, t: jaxcam.score_cam(f, IMAGES, t, variant="paper"),
        "ablation_cam": lambda f, t: jaxcam.ablation_cam(f, IMAGES, t),
        "rise": lambda f, t: jaxcam.rise(f, IMAGES, t, num_masks=10, grid=2),
    }.items():
        one, two = explain(classifier, by_class), explain(segmenter, region)
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5, err_msg=name)


def test_what_the_model_closes_over_may_have_the_batchs_size():
    """A second input of each image, as a text or an age: perturbations keep them together."""
    extra = jnp.asarray(RNG.normal(size=(3, 5)), jnp.float32)
    both = lambda images, more: segmenter(images).mean((1, 2)) * more
    forward = lambda images: both(images, extra)
    for explain in (
        lambda f, x: jaxcam.score_cam(f, x, 1),
        lambda f, x: jaxcam.ablation_cam(f, x, 1),
        lambda f, x: jaxcam.rise(f, x, 1, num_masks=6, grid=2),
        lambda f, x: jaxcam.lime(
            f, x, 1, segments=np.zeros(x.shape[:3], int) + np.arange(6) // 3, num_samples=10
        ),
    ):
        together = np.asarray(explain(forward, IMAGES))
        for i in range(3):
            alone = explain(lambda x, i=i: both(x, extra[i : i + 1]), IMAGES[i : i + 1])
            np.testing.assert_allclose(together[i], alone[0], rtol=1e-3, atol=1e-5)


def test_a_contrast_is_of_logits():
    """An output of another rank has no other classes to tell the target from."""
    for output in (jnp.ones((2, 3, 4)), jnp.ones(3)):
        with pytest.raises(ValueError, match=r"forward: got an output of shape .*logits \[B, N\]"):
            targets.finer(0)(output)
