"""Distillation: the divergence's formula, a teacher in the step, a black box asked only once."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import Distillation
from configs.common import as_kind
from configs.smoke import config as smoke
from jaxcam import blackbox, models
from train import distill, loop, pipeline, teacher
from train.augment import augment

PLAIN = dataclasses.replace(smoke, crop_sizes=((0, 12),), epochs=2)
FUNCTION = '''
import pathlib
import numpy as np

def brightness(images):
    """Logits that grow towards the class of the image's brightness."""
    log = pathlib.Path(__file__).with_suffix(".log")
    log.write_text((log.read_text() if log.exists() else "") + f"{len(images)} ")
    levels = (np.arange(4) * 60 + 32) / 255
    return -50 * (images.mean((1, 2, 3))[:, None] - levels) ** 2
'''


def test_divergence_is_the_papers_and_zero_of_equals(rng):
    teachers, students = rng.normal(size=(2, 5, 3))
    soft = lambda x, t: np.exp(x / t) / np.exp(x / t).sum(1, keepdims=True)
    for t in (1.0, 4.0):
        p, q = soft(teachers, t), soft(students, t)
        expected = t**2 * (p * np.log(p / q)).sum(1).mean()
        got = distill.divergence(jnp.asarray(teachers), jnp.asarray(students), t)
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert abs(distill.divergence(jnp.asarray(teachers), jnp.asarray(teachers) + 7)) < 1e-6


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A trained smoke network: the teacher."""
    path = tmp_path_factory.mktemp("teacher")
    config = dataclasses.replace(
        PLAIN, workdir=str(path / "run"), export=str(path / "net.safetensors"), epochs=4
    )
    loop.fit(config, devices=jax.devices()[:1])
    return config.export


def _config(tmp_path, **changes):
    files = {"workdir": str(tmp_path / "run"), "export": str(tmp_path / "student.safetensors")}
    return as_kind(Distillation, PLAIN, **{**files, **changes})


def _batch(config):
    return next(pipeline.batches(loop.data(config, "train"), config))


def test_a_networks_answers_are_its_logits_on_the_students_images(taught, tmp_path, rng):
    config = _config(
        tmp_path, teacher=taught, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), ce_weight=0.0
    )
    objective = distill.distillation(config, ("a", "b", "c", "d"))
    images = jnp.asarray(rng.normal(size=(4, 16, 16, 3)), jnp.float32)
    network, variables = models.load(taught)
    rgb = images * np.array(config.std) + np.array(config.mean)
    theirs = network.apply(variables, models.describe(taught).preprocess(rgb))
    mine = jnp.asarray(rng.normal(size=(4, 4)), jnp.float32)
    forward = lambda x: (mine, {})
    value, (_, metrics) = objective.loss(
        forward, images, jnp.eye(4), {"constants": objective.constants}
    )
    np.testing.assert_allclose(value, distill.divergence(theirs, mine), rtol=1e-4)
    assert metrics["agreement"] == (theirs.argmax(1) == mine.argmax(1)).mean()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kd_weight": 0.0},
        {"kd_weight": 2.5},
        {"ce_weight": 0.0},
        {"ce_weight": 0.25},
        {"temperature": 4.0, "kd_weight": 0.5, "ce_weight": 3.0},
        {"auxiliary_weight": 0.5},
    ],
    ids=str,
)
def test_the_loss_is_its_formula(black_box, rng, changes):
    """kd T^2 KL + ce CE of the student, and a network's auxiliary CE, in float64."""
    config = dataclasses.replace(black_box, **changes)
    loss = distill.distillation(config, ("a", "b", "c", "d")).loss
    mine, theirs, beside = rng.normal(size=(3, 6, 4)).astype(np.float32)
    targets = np.full((6, 4), 0.1) + 0.6 * np.eye(4)[[0, 1, 2, 3, 0, 1]]
    collections = {"auxiliary": {"logits": beside}}
    value, (kept, metrics) = loss(
        lambda images: (jnp.asarray(mine), collections),
        jnp.zeros((6, 2, 2, 3)),
        jnp.asarray(targets, jnp.float32),
        {"teacher": jnp.asarray(theirs)},
    )
    kl = _kl(theirs, mine, config.temperature)
    expected = config.kd_weight * kl + config.ce_weight * _cross_entropy(mine, targets)
    expected += config.auxiliary_weight * _cross_entropy(beside, targets)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["divergence"], kl, rtol=1e-5)
    hits = mine.argmax(1) == targets.argmax(1)
    assert 0 < hits.mean() != (theirs.argmax(1) == targets.argmax(1)).mean()
    np.testing.assert_allclose(metrics["accuracy"], hits.mean(), rtol=1e-6)
    assert kept is collections


def _log_softmax(x):
    x = x.astype(np.float64)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def _cross_entropy(logits, targets):
    return -(targets * _log_softmax(logits)).sum(1).mean()


def _kl(teachers, students, t):
    log_p, log_q = _log_softmax(teachers / t), _log_softmax(students / t)
    return t**2 * (np.exp(log_p) * (log_p - log_q)).sum(1).mean()


def test_the_teachers_answers_are_constants_of_the_gradient(taught, tmp_path, rng):
    """Where the images come from parameters, say."""
    config = _config(tmp_path, teacher=taught)
    objective = distill.distillation(config, ("a", "b", "c", "d"))
    mine = jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)

    def value(images):
        batch = {"constants": objective.constants}
        return objective.loss(lambda _: (mine, {}), images, jnp.eye(4)[:2], batch)[0]

    images = jnp.asarray(rng.normal(size=(2, 16, 16, 3)), jnp.float32)
    assert (jax.grad(value)(images) == 0).all()


def test_a_student_learns_from_a_network_alone(taught, tmp_path):
    config = _config(
        tmp_path, teacher=taught, ce_weight=0.0, epochs=4, crop_sizes=((0, 16),), color_jitter=0.0
    )
    loop.fit(config, distill.distillation, devices=jax.devices()[:1])
    assert loop.evaluate(config, loop.data(config, "val"), jax.devices()[:1]) > 0.8


@pytest.fixture
def black_box(tmp_path):
    (tmp_path / "box.py").write_text(FUNCTION)
    options = {"teacher": f"{tmp_path}/box.py:brightness", "teacher_kind": "python"}
    options |= {"answers": str(tmp_path / "answers")}
    return _config(tmp_path, **options, views=2, epochs=3)


def test_a_black_box_is_asked_once_about_each_view(black_box, tmp_path):
    loop.fit(black_box, distill.distillation, devices=jax.devices()[:1])
    assert (tmp_path / "box.log").read_text() == "64 64 "  # two views of 64 photos
    again = dataclasses.replace(black_box, workdir=str(tmp_path / "again"))
    distill.distillation(again, ("a", "b", "c", "d"))
    assert (tmp_path / "box.log").read_text() == "64 64 "


def test_its_answers_are_to_the_images_that_the_student_sees(black_box):
    objective = distill.distillation(black_box, ("a", "b", "c", "d"))
    # the second epoch: view 1
    batches = pipeline.batches(loop.data(black_box, "train"), black_box, first_step=8)
    batch = objective.prepare(next(batches))
    assert set(batch["key"][:, 1]) == {1}
    images, _ = augment(batch, black_box, 4, 12)
    rgb = np.asarray(images) * 0.25 + 0.5
    levels = (np.arange(4) * 60 + 32) / 255
    np.testing.assert_allclose(
        batch["teacher"], -50 * (rgb.mean((1, 2, 3))[:, None] - levels) ** 2, atol=1e-3
    )


def test_a_black_box_gets_its_own_normalisation(black_box):
    """(x - mean) / std of the pixels in [0, 1] that the student sees."""
    mean, std = (0.1, 0.2, 0.6), (0.5, 0.25, 2.0)
    config = dataclasses.replace(black_box, teacher_mean=mean, teacher_std=std)
    objective = distill.distillation(config, ("a", "b", "c", "d"))
    batch = objective.prepare(_batch(config))
    images, _ = augment(batch, config, 4, 12)
    rgb = np.asarray(images) * 0.25 + 0.5
    levels = (np.arange(4) * 60 + 32) / 255
    seen = ((rgb - np.array(mean)) / np.array(std)).mean((1, 2, 3))
    np.testing.assert_allclose(batch["teacher"], -50 * (seen[:, None] - levels) ** 2, rtol=1e-3)


def test_a_black_box_gets_its_options(black_box, monkeypatch):
    asked = []

    def opened(*words, **options):
        asked.append((words, options))
        return lambda images: np.zeros((len(images), 4))

    monkeypatch.setitem(blackbox.KINDS, "onnx", opened)
    config = dataclasses.replace(
        black_box, teacher="net.onnx", teacher_kind="onnx", teacher_options={"layout": "NHWC"}
    )
    teacher.answers(config, loop.data(config, "train"))
    assert asked == [(("net.onnx",), {"layout": "NHWC"})]


def test_views_come_again_in_the_third_epoch(black_box):
    each = [
        batch["key"]
        for batch, _ in zip(pipeline.batches(loop.data(black_box, "train"), black_box), range(24))
    ]
    views = [sorted(set(key[:, 1])) for key in each]
    assert views == [[0]] * 8 + [[1]] * 8 + [[0]] * 8


def test_a_stopped_run_asks_only_for_the_missing_views(black_box, tmp_path):
    photos = loop.data(black_box, "train")
    first = [np.array(a) for a in teacher.answers(black_box, photos)]
    # as a kill in mid-write leaves it
    (tmp_path / "answers/1.npy").rename(tmp_path / "answers/.1.npy.0.part")
    second = teacher.answers(black_box, photos)
    assert (tmp_path / "box.log").read_text() == "64 64 64 "
    np.testing.assert_array_equal(first, second)
    assert sorted(p.name for p in (tmp_path / "answers").iterdir()) == [
        ".1.npy.0.part",
        "0.npy",
        "0.sha256",
        "1.npy",
        "1.sha256",
        "settings.json",
    ]


def test_probabilities_become_logits(black_box, tmp_path):
    (tmp_path / "box.py").write_text(
        "import numpy as np\ndef brightness(x):\n    return np.full((len(x), 4), 0.25)\n"
    )
    config = dataclasses.replace(black_box, teacher_probabilities=True)
    np.testing.assert_allclose(
        teacher.answers(config, loop.data(config, "train"))[0], np.log(0.25), rtol=1e-6
    )


def test_a_probability_of_zero_is_a_finite_logit(black_box, tmp_path):
    (tmp_path / "box.py").write_text(
        "import numpy as np\ndef brightness(x):\n    return np.eye(4)[[0] * len(x)]\n"
    )
    config = dataclasses.replace(black_box, teacher_probabilities=True)
    found = teacher.answers(config, loop.data(config, "train"))[0]
    smallest = np.log(np.finfo(np.float32).tiny)
    np.testing.assert_allclose(found[0], [0, smallest, smallest, smallest], rtol=1e-6)


def test_answers_to_other_questions_are_refused(black_box, tmp_path):
    photos = loop.data(black_box, "train")
    teacher.answers(black_box, photos)
    with pytest.raises(
        ValueError,
        match=r"answers: got .*answers, expected answers to the same questions: seed 0 there, 1",
    ):
        teacher.answers(dataclasses.replace(black_box, seed=1), photos)
    assert json.loads((tmp_path / "answers/settings.json").read_text())["seed"] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "elsewhere"},
        {"train_split": "all"},
        {"seed": 1},
        {"image_size": 8},
        {"crop_on": "host"},
        {"crop_sizes": ((0, 8),)},
        {"crop_area": (0.1, 1.0)},
        {"crop_ratio": 1.0},
        {"color_jitter": 0.4},
        {"teacher": "another"},
        {"teacher_kind": "onnx"},
        {"teacher_options": {"threads": 1}},
        {"teacher_mean": (0.5, 0.5, 0.5)},
        {"teacher_std": (0.5, 0.5, 0.5)},
        {"teacher_probabilities": True},
    ],
    ids=str,
)
def test_all_that_answers_depend_on_is_compared(black_box, tmp_path, changes):
    """And nothing else: other numbers of the student's training find the same answers."""
    (field,) = changes
    photos = range(64)  # whose number counts
    teacher._claim(tmp_path, black_box, photos)
    teacher._claim(tmp_path, dataclasses.replace(black_box, learning_rate=7.0, epochs=9), photos)
    with pytest.raises(
        ValueError, match=f"answers to the same questions: {field} .* there, .* here"
    ):
        teacher._claim(tmp_path, dataclasses.replace(black_box, **changes), photos)
    with pytest.raises(ValueError, match="the same questions: photos 64 there, 63 here"):
        teacher._claim(tmp_path, black_box, photos[1:])


def test_answers_of_another_network_in_the_same_file_are_refused(black_box, tmp_path):
    network = tmp_path / "net.onnx"
    config = dataclasses.replace(black_box, teacher=str(network), teacher_kind="onnx")
    network.write_bytes(b"one")
    teacher._claim(tmp_path, config, range(64))
    network.write_bytes(b"two")
    message = "the same questions: teacher_sha256 '7692.* there, '3fc4"
    with pytest.raises(ValueError, match=message):
        teacher._claim(tmp_path, config, range(64))


def _changed(content):
    return content[:700] + bytes([content[700] ^ 1]) + content[701:]


@pytest.mark.parametrize(
    "damage", [lambda x: b"", lambda x: x[:900], _changed], ids=["empty", "cut", "one bit"]
)
def test_damaged_answers_are_named_and_asked_for_again(black_box, tmp_path, capsys, damage):
    """1152 bytes: 128 of header, and 64 photos' 4 logits."""
    photos = loop.data(black_box, "train")
    first = [np.array(a) for a in teacher.answers(black_box, photos)]
    broken = tmp_path / "answers/1.npy"
    broken.write_bytes(damage(broken.read_bytes()))
    again = teacher.answers(black_box, photos)
    assert (tmp_path / "box.log").read_text() == "64 64 64 "
    np.testing.assert_array_equal(first, again)
    assert f"{broken}: damaged (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("np.zeros((len(x), 3))", r"teacher: got answers of shape \(64, 3\), expected \(64, 4\)"),
        ("np.full((len(x), 4), np.nan)", "teacher: got NaN or infinite answers"),
    ],
)
def test_answers_that_are_none(black_box, tmp_path, body, message):
    (tmp_path / "box.py").write_text(f"import numpy as np\ndef brightness(x):\n    return {body}\n")
    with pytest.raises(ValueError, match=message):
        teacher.answers(black_box, loop.data(black_box, "train"))
    assert not list((tmp_path / "answers").glob("*.npy"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": ""}, "answers: got '', expected a folder"),
        ({"cutmix": 0.5}, "cutmix: got 0.5, expected 0"),
        ({"crop_sizes": ((0, 12), (1, 16))}, "crop_sizes: got .*, expected one size"),
        ({"loss": "sigmoid"}, "loss: got 'sigmoid', expected 'softmax'"),
    ],
)
def test_configs_that_do_not_fit(black_box, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(black_box, **changes)


def test_a_teacher_of_other_classes_is_refused(taught, tmp_path):
    with pytest.raises(ValueError, match=r"teacher: got .* of 4 classes, expected one of 2"):
        distill.distillation(_config(tmp_path, teacher=taught), ("a", "b"))


def test_a_teacher_of_yes_and_no_is_refused(taught, tmp_path):
    _, variables = models.load(taught)
    path = tmp_path / "several.safetensors"
    about = models.describe(taught)
    models.save(
        path, about.architecture, dict(about.options), variables, extra_metadata={"loss": "sigmoid"}
    )
    config = _config(tmp_path, teacher=str(path))
    with pytest.raises(
        ValueError, match=r"teacher: got .*several.*, trained with loss 'sigmoid', exp"
    ):
        distill.distillation(config, ("a", "b", "c", "d"))


def test_a_config_of_another_kind_is_one_line():
    from configs import smoke as module

    with pytest.raises(
        SystemExit, match=r"--config: got .*, a Classification, expected a Distillation"
    ):
        distill.main(["--config", module.__file__])
