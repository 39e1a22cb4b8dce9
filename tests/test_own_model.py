"""`FILE.py:function`: a user's own model becomes a classifier, or is refused in one line."""

import functools
import pathlib
import re
import textwrap
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxcam
from eval.protocols import faithfulness
from eval.run.runner import run as carry_out
from eval.run.settings import Settings
from jaxcam import classifier, cli, metrics
from jaxcam.methods import METHODS

DOCS = (pathlib.Path(__file__).parents[1] / "docs" / "own_model.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
NAMES = ("chest", "birds", "edges")

# Linear in the mean colour: every number can be had by hand.
PLAIN = """
import dataclasses
import jax
import jax.numpy as jnp
import jaxcam
WEIGHTS = jnp.arange(3.0)[:, None] - jnp.array([[1.0, 0.5]])

def forward(images):
    return jaxcam.tag(images * 2, "twice").mean((1, 2)) @ WEIGHTS[: images.shape[-1]]

def grey(images):
    assert images.shape[-1] == 1
    return forward(images)[:, :1] * 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The document's three templates as files, and grey photos in two classes."""
    path = tmp_path_factory.mktemp("own")
    for name, block in zip(NAMES, BLOCKS, strict=True):
        (path / f"{name}.py").write_text(block)
    rng = np.random.default_rng(0)
    for number in range(4):
        photo = path / "scans" / ("healthy", "ill")[number % 2] / f"{number}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (50, 40), dtype=np.uint8)).save(photo)
    return path


@pytest.fixture
def own(tmp_path):
    """Loads a function `model` of these lines behind `PLAIN`."""

    def load(lines, name="model", **options):
        path = tmp_path / "mine.py"
        path.write_text(PLAIN + textwrap.dedent(lines))
        return classifier.load(f"{path}:{name}", **options)

    return load


def returned(text):
    return f"def model():\n    return {text}\n"


# The document ---------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "classes", "stages", "default"),
    [
        ("chest", (64, 48, 1), ("healthy", "ill"), ("norm", "conv2"), "conv2"),
        ("birds", (32, 32, 3), ("robin", "wren", "tit"), ("stem", "top"), "top"),
        ("edges", (24, 24, 3), ("cat", "dog"), ("edges",), "edges"),
    ],
)
def test_the_templates_of_the_document(folder, name, shape, classes, stages, default):
    found = classifier.load(f"{folder}/{name}.py:{name}")
    assert (found.shape, found.classes, found.stages) == (shape, classes, stages)
    assert found.layers.default == default and found.num_logits == len(classes)
    assert found.name == f"{name}:{name}"
    assert jax.tree.leaves(found.params)  # which the sanity check replaces


def test_a_doctors_pictures(folder, tmp_path, capsys):
    """Grey photos, one logit: the predicted class is explained, with its own probability."""
    photos = sorted(map(str, (folder / "scans").rglob("*.png")))
    model = f"{folder}/chest.py:chest"
    code = cli.main(["explain", *photos[:2], "--model", model, "-o", str(tmp_path), "--save-maps"])
    printed, errors = capsys.readouterr()
    assert code == 0, errors
    network = classifier.load(model)
    for path, line in zip(photos, printed.splitlines(), strict=False):
        image = Image.open(path).convert("RGB").resize((48, 64), Image.Resampling.LANCZOS)
        images = network.prepare(np.asarray(image)[None])
        no, yes = np.asarray(network.forward()(images))[0]
        assert no == -yes
        p = 1 / (1 + np.exp(-yes))
        named = f"ill {p:.1%}" if yes > 0 else f"healthy {1 - p:.1%}"
        assert f": {named} ->" in line
        saved = np.load(tmp_path / f"{pathlib.Path(path).stem}_explain.npz")
        logit = lambda x: network.forward()(x)[:, 1]
        sign = 1 if yes > 0 else -1
        expected = jaxcam.grad_cam(logit, images, lambda z: sign * z, layer="conv2")[0]
        np.testing.assert_allclose(saved["grad_cam/conv2"], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("name", ["relevance_cam", "clrp"])
def test_one_logit_is_explained_as_its_twin(folder, name, target):
    """Relevance of z against -z would cancel in z: it is that of [0, z] or [-z, 0]."""
    network = classifier.load(f"{folder}/chest.py:chest")
    forward = network.forward()
    images = network.prepare(np.full((1, 64, 48, 3), 200, np.uint8))
    row = METHODS[name]

    def twin(images):
        own = forward(images)[:, target : target + 1]
        pair = [jnp.zeros((1, 1)), jnp.zeros((1, 1))]
        pair[target] = own
        return jnp.concatenate(pair, axis=1)

    classes = jnp.array([target])
    expected = classifier.explain(row, twin, images, classes, ["conv2"])
    maps = classifier.explain(row, forward, images, classes, ["conv2"])
    assert maps.keys() == expected.keys()
    for layer, found in maps.items():
        assert np.abs(found).max() > 0
        np.testing.assert_allclose(found, expected[layer], rtol=1e-4, atol=1e-6)
    asked = row._replace(function=functools.partial(row.function, init="contrastive"))
    with pytest.raises(ValueError, match="init: got 'contrastive' of a network of one logit"):
        classifier.explain(asked, forward, images, classes, ["conv2"])


def test_a_doctors_numbers(folder, tmp_path):
    """A protocol on grey photos of another shape than the network's is the metric by hand."""
    model = f"{folder}/chest.py:chest"
    chosen = Settings(
        output=tmp_path / "run", model=model, data=f"{folder}/scans", methods=("grad_cam",),
        layers=("conv2",), batch=1,
    )  # fmt: skip
    record = carry_out(chosen, faithfulness.PROTOCOL)
    network = classifier.load(model)
    values = np.load(tmp_path / "run/values.npz")
    drops = []
    for name in values["ids"]:
        photo = Image.open(folder / "scans" / str(name)).convert("RGB")
        photo = photo.resize((48, 64), Image.Resampling.BILINEAR)
        images = network.prepare(np.asarray(photo)[None])
        target = np.asarray(network.forward()(images)).argmax(1)
        raw = jaxcam.grad_cam(network.forward(), images, target, layer="conv2")
        saliency = jaxcam.maps.resize(raw, (64, 48))
        full, left = metrics.confidences(
            network.forward(), images, saliency, target, activation="sigmoid"
        )
        drops.append(100 * max(float(full[0] - left[0]), 0) / float(full[0]))
    found = record["results"]["grad_cam"]["conv2"]["drop_soft"]["mean"]
    assert found == pytest.approx(np.mean(drops), rel=1e-3)


# What is understood ---------------------------------------------------


def test_grey_is_a_weighted_mean_and_preprocessing_is_as_said(own):
    text = 'grey, {"size": (2, 3), "preprocess": (0.25, 0.5)}'
    found = own(returned(text))
    photos = np.random.default_rng(1).integers(0, 256, (2, 2, 3, 3), dtype=np.uint8)
    levels = photos.astype(np.float64) @ [0.299, 0.587, 0.114] / 255
    np.testing.assert_allclose(found.prepare(photos)[..., 0], (levels - 0.25) / 0.5, rtol=1e-5)
    mean = 2 * ((levels - 0.25) / 0.5).mean((1, 2))
    yes = 3 * mean * (0 - 1.0)
    np.testing.assert_allclose(
        found.forward()(found.prepare(photos)), np.stack([-yes, yes], 1), rtol=1e-4, atol=1e-5
    )
    assert found.activation == "sigmoid" and found.classes == ("0", "1")


def test_one_output_that_is_a_probability_is_two(own):
    text = "lambda images: jax.nn.sigmoid(forward(images)[:, :1])"
    found = own(returned(f'{text}, {{"size": 4, "activation": "identity", "classes": ["ill"]}}'))
    outputs = found.forward()(jnp.ones((1, 4, 4, 3)))
    assert outputs.shape == (1, 2) and found.classes == ("not ill", "ill")
    np.testing.assert_allclose(found.probabilities(outputs).sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(found.probabilities(outputs), outputs)


def test_a_dataclass_and_an_adapter_alone(own, folder):
    lines = """
    @dataclasses.dataclass
    class About:
        size: int = 8
        loss: str = "sigmoid"
        classes: tuple = ("a", "b")
        stages: str = "twice"

    def model():
        return forward, About()
    """
    found = own(lines)
    assert (found.shape, found.activation, found.stages) == ((8, 8, 3), "sigmoid", ("twice",))
    alone = "import birds\ndef alone():\n    return birds.birds()[0]\n"
    (folder / "alone.py").write_text(alone)  # a module beside it is found
    with pytest.warns(UserWarning, match="about: says no size, so photos are shown .* 224 x 224"):
        found = classifier.load(f"{folder}/alone.py:alone")
    assert found.shape == (224, 224, 3) and found.classes == ("0", "1", "2")


# What is refused ------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("def model(x): return x", "cannot be called without arguments .missing a required arg"),
        ("def model():\n    return [][1]", r"which raised IndexError: .* at .*mine.py:1\d, exp"),
        ("def other(): pass", "has no function 'model', expected one of 'forward', 'grey', 'o"),
        ("def model(:", r"which raised SyntaxError: .* at .*mine.py:1\d"),
        ("raise SystemExit(3)", "which raised SystemExit: 3 at"),
        (returned("None"), "returned a NoneType for a model, expected .forward, about."),
        (returned("forward, {}, 3"), "returned 3 things, expected .forward, about."),
        (returned("forward, 3"), "about: got a int, expected a dict or dataclass with any of cla"),
        (returned('forward, {"clases": []}'), "about: got 'clases' in it, expected one of 'class"),
        (returned('forward, {"size": "big"}'), r"about\['size'\]: got 'big', expected .height, w"),
        (returned('forward, {"size": 0}'), r"about\['size'\]: got \(0, 0\), expected"),
        (
            returned('forward, {"size": 4, "classes": ["a"]}'),
            r"about\['classes'\]: got 1 name, expected one for each of the 2 outputs",
        ),
        (
            returned('grey, {"size": 4, "classes": ["a", "b", "c"]}'),
            r"about\['classes'\]: got 3 names, expected two for the one output",
        ),
        (returned('forward, {"size": 4, "classes": 3}'), r"about\['classes'\]: got a int"),
        (returned('forward, {"size": 4, "loss": "hinge"}'), r"about\['loss'\]: got 'hinge'"),
        (returned('grey, {"size": 4, "loss": "softmax"}'), r"about\['loss'\]: got 'softmax', exp"),
        (
            returned('forward, {"size": 4, "loss": "sigmoid", "activation": "sigmoid"}'),
            "about: got both a loss and an activation",
        ),
        (returned('forward, {"size": 4, "activation": "x"}'), r"about\['activation'\]: got 'x'"),
        (returned('forward, {"size": 4, "channels": 4}'), r"about\['channels'\]: got 4, expected"),
        (returned('forward, {"size": 4, "stages": ["twce"]}'), "got 'twce', expected layers of"),
        (returned('forward, {"size": 4, "preprocess": 3}'), r"about\['preprocess'\]: got 3, exp"),
        (returned('forward, {"size": 4, "preprocess": {"mean": 0}}'), r"got keys \['mean'\]"),
        (returned('forward, {"size": 4, "preprocess": (0.0, 0.0)}'), "every std above 0"),
        (
            returned('forward, {"size": 4, "preprocess": ([0.5, 0.5], 1.0)}'),
            r"about\['preprocess'\]: got 2 numbers for mean, expected one, or one for each of 3",
        ),
        (returned('forward, {"size": 4, "init": 3}'), r"about\['init'\]: got a int"),
        (returned('lambda x: x, {"size": 4}'), r"forward: got an output of shape \(2, 4, 4, 3\)"),
        (returned('lambda x: (x, x), {"size": 4}'), r"forward: got a tuple, expected logits"),
        (
            returned('lambda x: x @ jnp.ones((9, 2)), {"size": 4}'),
            r"whose forward raised TypeError: .* at .*mine.py:1\d",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(own, lines, message):
    with pytest.raises(ValueError, match=message):
        own(lines)


def test_modules_of_other_libraries_are_refused_with_their_adapter(folder):
    (folder / "bare.py").write_text(
        "from chest import Chest, nnx\ndef bare(): return Chest(nnx.Rngs(0))"
    )
    with pytest.raises(ValueError, match=r"returned the Flax NNX module Chest, expected jaxcam\.n"):
        classifier.load(f"{folder}/bare.py:bare")


def test_files_and_options(own, folder, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="there is no file nowhere"):
        classifier.load("nowhere.py:model")
    with pytest.raises(ValueError, match="FUNCTION one of 'birds', 'norm"):
        classifier.load(f"{folder}/birds.py")
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    text = returned('forward, {"size": 4}')
    assert own(text, classes=str(names)).classes == ("cat", "dog")
    with pytest.raises(ValueError, match="architecture: got 'resnet18', expected none for"):
        own(text, architecture="resnet18")
    assert cli.main(["layers", "--model", f"{folder}/birds.py:bird"]) == 2
    assert "--model: got" in capsys.readouterr().err
    assert cli.main(["layers", "--model", f"{folder}/chest.py:chest"]) == 0
    assert "chest:chest: 2 classes, input 64 x 48, grey" in capsys.readouterr().out


def test_the_users_folder_shadows_nothing_later(folder):
    import sys

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.load(f"{folder}/edges.py:edges")
    assert sys.path[0] != str(folder) and str(folder.resolve()) in sys.path
