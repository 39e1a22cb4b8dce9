import io
import json
import socket
from pathlib import Path

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.numpy import load_file, save_file

from jaxcam import models
from jaxcam._ground import files
from jaxcam.models import pretrained
from jaxcam.models.convert import expected_shapes

OPTIONS = {"stage_sizes": (1, 1), "widths": (4, 8), "strides": (1, 2), "stem": "small"}
CLASSES = ("cat", "coffee", "bus")
PREPROCESS = models.Preprocess(64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


@pytest.fixture(scope="module")
def variables():
    model = models.create("resnet_compact", num_classes=3, **OPTIONS)
    return jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory):
    """A resnet18 for 4 classes as torchvision or timm would write it: no metadata of ours."""
    path = tmp_path_factory.mktemp("weights") / "downloaded.safetensors"
    shapes = expected_shapes(models.create("resnet18", num_classes=4))
    state = {key: np.full(shape, 0.5, np.float16) for key, shape in shapes.items()}
    save_file(state | {"bn1.num_batches_tracked": np.array(7)}, path, metadata={"format": "pt"})
    return path


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """A hub that nobody answers, and an empty folder for files placed by hand."""

    def nothing(*args, **kwargs):
        raise LocalEntryNotFoundError("not in the cache")

    def no_network(*args, **kwargs):
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", nothing)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setenv("JAXCAM_WEIGHTS", str(tmp_path))
    return tmp_path


def equal(a, b):
    return jax.tree.all(
        jax.tree.map(lambda x, y: bool((np.asarray(x) == np.asarray(y)).all()), a, b)
    )


def test_what_is_saved_is_loaded(tmp_path, variables, rng):
    path = tmp_path / "new" / "net.safetensors"
    notes = {"accuracy": "0.75", "epochs": 12}
    options = {**OPTIONS, "dtype": jnp.bfloat16, "axis_name": "devices"}
    models.save(
        path, "resnet_compact", options, variables, CLASSES, PREPROCESS, extra_metadata=notes
    )
    model, loaded = models.load(path)
    # how it was run is not part of what it is
    assert model == models.create("resnet_compact", num_classes=3, **OPTIONS)
    assert equal(loaded, variables)
    about = models.describe(path)
    assert (about.architecture, about.classes, about.preprocess) == (
        "resnet_compact",
        CLASSES,
        PREPROCESS,
    )
    assert about.options["num_classes"] == 3
    assert (about.metadata["accuracy"], about.metadata["epochs"]) == ("0.75", "12")
    images = rng.normal(size=(1, 8, 8, 3)).astype(np.float32)
    assert model.apply(loaded, images).shape == (1, 3)


def test_file_holds_torchvision_keys_in_pytorch_layout(tmp_path, variables):
    models.save(tmp_path / "net.safetensors", "resnet_compact", OPTIONS, variables)
    state = load_file(tmp_path / "net.safetensors")
    kernel = np.asarray(variables["params"]["layer2.0"]["conv1"]["kernel"])
    np.testing.assert_array_equal(state["layer2.0.conv1.weight"], kernel.transpose(3, 2, 0, 1))
    assert state["fc.weight"].shape == (3, 8)


def test_float16_halves_the_file_and_loads_as_float32(tmp_path, variables):
    for dtype in ("float16", "float32"):
        models.save(
            tmp_path / f"{dtype}.safetensors", "resnet_compact", OPTIONS, variables, dtype=dtype
        )
    state = load_file(tmp_path / "float16.safetensors")
    assert {value.dtype for value in state.values()} == {np.dtype("float16")}
    _, loaded = models.load(tmp_path / "float16.safetensors")
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {jnp.dtype("float32")}
    assert jax.tree.all(
        jax.tree.map(lambda a, b: bool(np.allclose(a, b, rtol=1e-3, atol=1e-6)), loaded, variables)
    )


@pytest.mark.lenient  # flax normalises bfloat16 by float32 means
def test_options_of_load_go_to_create(tmp_path, variables):
    models.save(tmp_path / "net.safetensors", "resnet_compact", OPTIONS, variables)
    model, _ = models.load(tmp_path / "net.safetensors", dtype="bfloat16")
    assert model == models.create("resnet_compact", num_classes=3, dtype="bfloat16", **OPTIONS)


def test_preprocess_may_be_given_by_its_fields(tmp_path, variables):
    fields = {"size": 64, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    models.save(
        tmp_path / "net.safetensors", "resnet_compact", OPTIONS, variables, preprocess=fields
    )
    assert models.describe(tmp_path / "net.safetensors").preprocess == PREPROCESS


def test_interrupted_save_leaves_the_old_file_and_no_other(tmp_path, variables, monkeypatch):
    path = tmp_path / "net.safetensors"
    models.save(path, "resnet_compact", OPTIONS, variables)
    before = path.read_bytes()

    class FullDisk(io.FileIO):
        def write(self, data):
            super().write(data[: len(data) // 2])
            raise OSError("No space left on device")

    monkeypatch.setattr(files, "open", FullDisk, raising=False)
    with pytest.raises(OSError, match="No space left"):
        models.save(path, "resnet_compact", OPTIONS, variables)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_saved_file_has_the_permissions_of_any_new_file(tmp_path, variables):
    models.save(tmp_path / "net.safetensors", "resnet_compact", OPTIONS, variables)
    (tmp_path / "other").touch()
    assert (tmp_path / "net.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_save_refuses_what_load_could_not_use(tmp_path, variables):
    def save(options=OPTIONS, state=variables, **kwargs):
        models.save(tmp_path / "net.safetensors", "resnet_compact", options, state, **kwargs)

    with pytest.raises(
        ValueError,
        match=(r"state_dict: got 17 misshapen: bn1.running_mean \(4,\) instead of \(5,\)"),
    ):
        save({**OPTIONS, "widths": (5, 8)})
    with pytest.raises(
        ValueError, match="classes: got 2 names, expected one for each of the 3 logits"
    ):
        save(classes=CLASSES[:2])
    with pytest.raises(ValueError, match="dtype: got 'int8', expected one of 'float16', 'float32'"):
        save(dtype="int8")
    with pytest.raises(ValueError, match="extra_metadata: got 'classes', expected other keys"):
        save(classes=CLASSES, extra_metadata={"classes": "x"})
    huge = jax.tree.map(lambda leaf: leaf * 0 + 1e6, variables)
    with pytest.raises(
        ValueError,
        match=r"variables: got bn1.running_mean, .* and 24 more, expected .* finite in float16",
    ):
        save(state=huge, dtype="float16")
    assert not list(tmp_path.iterdir())


def test_a_foreign_file_is_recognised_by_its_keys_and_shapes(resnet18_file):
    model, variables = models.load(resnet18_file)
    assert model == models.create("resnet18", num_classes=4)
    assert {float(leaf.min()) for leaf in jax.tree.leaves(variables)} == {0.5}
    about = models.describe(resnet18_file)
    assert about.classes == ("class 0", "class 1", "class 2", "class 3")
    assert about.preprocess.mean == (0.485, 0.456, 0.406) and about.preprocess.resize == 256


def test_another_architecture_is_not_blamed_on_the_class_names(tmp_path, variables):
    models.save(tmp_path / "net.safetensors", "resnet_compact", OPTIONS, variables, CLASSES)
    for ask in (models.load, models.describe):
        with pytest.raises(
            ValueError, match=r"got 22 missing: .* of vgg11 \(from .*net.safetensors\)$"
        ):
            ask(tmp_path / "net.safetensors", architecture="vgg11")


def test_a_foreign_file_of_unknown_shape_asks_for_its_architecture(tmp_path, variables):
    path = tmp_path / "weights.safetensors"
    save_file(
        {key: np.ascontiguousarray(v) for key, v in models.to_torchvision(variables).items()}, path
    )
    with pytest.raises(
        ValueError,
        match=r"weights.safetensors, which does not say what it is, .* give the architecture",
    ):
        models.load(path)
    model, loaded = models.load(path, architecture="resnet_compact", **OPTIONS)
    assert equal(loaded, variables) and model.num_classes == 3
    named = path.rename(tmp_path / "resnet50-19c8e357.safetensors")
    with pytest.raises(
        ValueError,
        match=r"missing: .* of resnet50 \(from .*resnet50-19c8e357.safetensors\)$",
    ):
        models.load(named)


def test_names_of_classes_from_a_file(tmp_path, resnet18_file):
    table, lines = tmp_path / "classes.csv", tmp_path / "classes.txt"
    table.write_text("index,wnid,name\n1,n1,dog\n0,n0,cat\n3,n3,cup\n2,n2,bus\n")
    lines.write_text("cat\ndog\nbus\ncup\n")
    for classes in (table, str(lines), ["cat", "dog", "bus", "cup"]):
        assert models.describe(resnet18_file, classes=classes).classes == (
            "cat",
            "dog",
            "bus",
            "cup",
        )
    with pytest.raises(
        ValueError, match="classes: got 3 names, expected one for each of the 4 logits"
    ):
        models.describe(resnet18_file, classes=CLASSES)
    with pytest.raises(
        FileNotFoundError, match=r"classes: got .*nowhere.txt, which is not there, expected a file"
    ):
        models.describe(resnet18_file, classes=tmp_path / "nowhere.txt")
    table.write_text("a,b\n1,2\n")
    with pytest.raises(
        ValueError,
        match=r"classes: got .*classes.csv with the columns a, b, expected a column 'name'",
    ):
        models.describe(resnet18_file, classes=table)


def test_files_that_cannot_be_read(tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(
        ValueError,
        match=r"name_or_path: got .*broken.safetensors, 9 bytes whose header says .* 16, exp",
    ):
        models.load(broken)
    save_file({"fc.bias": np.zeros(2)}, broken, metadata={"architecture": "resnet18"})
    with pytest.raises(
        ValueError, match=r"broken.safetensors, expected valid JSON under 'architecture'"
    ):
        models.describe(broken)
    with pytest.raises(
        FileNotFoundError,
        match=r"name_or_path: got .*nowhere.safetensors, which is not there, expected",
    ):
        models.load(tmp_path / "nowhere.safetensors")


def test_unknown_name_names_the_nearest():
    message = (
        r"name_or_path: got 'resnet50', expected a file or one of \d+ networks, such as "
        "'resnet50.tv_in1k'"
    )
    with pytest.raises(ValueError, match=message):
        models.load("resnet50")


@pytest.mark.parametrize("failure", ["no network", "refused"])
def test_offline_says_what_to_download_and_where_to_put_it(offline, monkeypatch, failure):
    if failure == "refused":  # the name resolves, the download fails
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [])
    with pytest.raises(FileNotFoundError) as caught:
        models.load("resnet50.tv_in1k")
    message = str(caught.value)
    assert "resnet50.tv_in1k, which could not be downloaded" in message and "\n" not in message
    assert "https://huggingface.co/timm/resnet50.tv_in1k/resolve/main/model.safetensors" in message
    assert f"save it as {offline / 'resnet50.tv_in1k.safetensors'}" in message


def test_a_file_placed_by_hand_is_found_by_its_name(offline, resnet18_file):
    (offline / "resnet18.tv_in1k.safetensors").write_bytes(resnet18_file.read_bytes())
    model, _ = models.load("resnet18.tv_in1k")
    assert model == models.create("resnet18", num_classes=4)


def test_published_networks_come_from_the_cache_else_the_hub(monkeypatch, tmp_path, resnet18_file):
    calls, cached = [], False

    def hub(repo_id, filename, local_files_only=False):
        calls.append((repo_id, filename, local_files_only))
        if local_files_only and not cached:
            raise LocalEntryNotFoundError("not in the cache")
        return str(resnet18_file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [])
    monkeypatch.setenv("JAXCAM_WEIGHTS", str(tmp_path))
    assert models.load("resnet18.tv_in1k")[0] == models.create("resnet18", num_classes=4)
    file = ("timm/resnet18.tv_in1k", "model.safetensors")
    assert calls == [(*file, True), (*file, False)]
    cached = True
    models.load("resnet18.tv_in1k")
    assert calls[2:] == [(*file, True)]


def test_published_networks_are_described_without_a_download(offline):
    about = models.describe("vgg16_bn.tv_in1k")
    assert (about.architecture, about.options, about.classes[281]) == (
        "vgg16_bn",
        {"num_classes": 1000},
        "class 281",
    )
    assert (about.preprocess.size, about.preprocess.resize) == (224, 256)
    assert models.describe("resnet50.tv2_in1k").preprocess.resize == 232


def test_preprocess_normalises(rng):
    images = rng.uniform(size=(2, 4, 5, 3)).astype(np.float32)
    expected = np.empty(images.shape)
    for channel in range(3):
        expected[..., channel] = (
            images[..., channel].astype(np.float64) - PREPROCESS.mean[channel]
        ) / PREPROCESS.std[channel]
    np.testing.assert_allclose(PREPROCESS(images), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(PREPROCESS)(images), expected, rtol=1e-5, atol=1e-6)
    assert PREPROCESS(images).dtype == np.float32


def test_preprocess_rejects_other_images():
    with pytest.raises(
        ValueError, match=r"images01: got uint8, expected an array of floats in \[0, 1\]"
    ):
        PREPROCESS(np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"images01: got shape \(1, 4, 4\), expected \[..., H, W, 3\]"
    ):
        PREPROCESS(np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match=r"std: got .* beside the mean \(0.5,\), expected as many"):
        models.Preprocess(64, mean=(0.5,))


@pytest.mark.parametrize(
    "name", [name for name in models.available() if name not in pretrained.PUBLISHED]
)
def test_bundled_networks_are_complete(name):
    """Class names, preprocessing, at most 4 MB, 8 x 8 or more last cells at its own image size."""
    from jaxcam._program.layers import layers

    assert (
        Path(pretrained.__file__).parent / "weights" / f"{name}.safetensors"
    ).stat().st_size <= 4_000_000
    about, (model, variables) = models.describe(name), models.load(name)
    assert {"architecture", "classes", "preprocess"} <= set(about.metadata)
    assert json.loads(about.metadata["classes"]) == list(about.classes)
    size = about.preprocess.size
    found = layers(
        lambda x: model.apply(variables, x), jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    )
    assert min(found[found.default].shape[1:3]) >= 8
