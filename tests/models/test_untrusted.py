"""Weights files and class names that are not what they should be: one line with file and key."""

import json
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxcam import models
from jaxcam.models import _header, convert

OPTIONS = {"stage_sizes": (1,), "widths": (4,), "strides": (1,), "stem": "small"}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small network, saved."""
    path = tmp_path_factory.mktemp("weights") / "good.safetensors"
    model = models.create("resnet_compact", num_classes=3, **OPTIONS)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    preprocess = models.Preprocess(8)
    models.save(path, "resnet_compact", OPTIONS, variables, ("a", "b", "c"), preprocess)
    return path


@pytest.fixture
def changed(good, tmp_path):
    """Writes the network with other arrays or metadata, and gives the path."""

    def write(arrays=None, **metadata):
        about = {
            "architecture": json.dumps({"name": "resnet_compact", "options": OPTIONS}),
            "classes": json.dumps(["a", "b", "c"]),
            "preprocess": json.dumps({"size": 8}),
        }
        path = tmp_path / "changed.safetensors"
        save_file(load_file(good) | (arrays or {}), path, metadata=about | metadata)
        return path

    return write


VAR = "layer1.0.bn1.running_var"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fc.bias", np.full(3, np.nan, np.float32), "fc.bias with 3 of 3 values that are NaN"),
        ("bn1.weight", np.array([1, np.inf, 1, 1], np.float16), "bn1.weight with 1 of 4 values"),
        ("bn1.bias", np.full(4, 1e300), "bn1.bias with 4 of 4 values that are NaN or infinite"),
        (VAR, np.array([1, -0.5, 1, 1], np.float32), f"{VAR} with variances down to -0.5"),
        ("fc.bias", np.zeros(3, np.int64), "fc.bias is I64, expected one of F16, F32, F64"),
        ("fc.bias", np.zeros(3, bool), "fc.bias is BOOL, expected one of F16, F32, F64"),
        ("fc.bias", np.zeros(4, np.float32), r"fc.weight \(3, 4\) instead of \(4, 4\)"),
        ("odd.bias", np.zeros(4, np.float32), "1 unused: odd.bias"),
    ],
)
def test_weights_that_are_none_are_refused_with_file_and_key(changed, key, value, message):
    with pytest.raises(ValueError, match=message) as error:
        models.load(changed({key: value}))
    assert "changed.safetensors" in str(error.value) and "\n" not in str(error.value)


def test_variances_of_0_and_small_numbers_load(changed):
    small = np.full(4, 1e-45, np.float32)
    _, variables = models.load(changed({VAR: np.zeros(4, np.float32), "bn1.bias": small}))
    assert float(variables["batch_stats"]["layer1.0"]["bn1"]["var"].max()) == 0


def test_a_state_dict_is_checked_likewise(good):
    state = load_file(good)
    with pytest.raises(ValueError, match=r"state_dict: got fc\.bias of int64, expected floats in"):
        models.from_torchvision("resnet_compact", state | {"fc.bias": np.zeros(3, int)}, **OPTIONS)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"architecture": "[1]"}, r"whose header says \[1\], expected an architecture"),
        ({"architecture": '{"name": 7}'}, r'says {"name": 7}, expected an architecture'),
        ({"architecture": '{"name": "nosuch"}'}, "name: got 'nosuch', expected"),
        (
            {"architecture": '{"name": "resnet_compact", "options": [1]}'},
            "expected an architecture",
        ),
        (
            {"architecture": '{"name": "resnet_compact", "options": {"stage_sizes": [1000000]}}'},
            r'says {"stage_sizes": \[1000000\]}, expected numbers up to 65536',
        ),
        (
            {"architecture": '{"name": "resnet_compact", "options": {"stage_sizes": [60000]}}'},
            r"expected a network of the \d+ arrays that it holds",
        ),
        (
            {"architecture": '{"name": "resnet_compact", "options": {"stem_width": "x"}}'},
            r"options: got .*, of which no network can be made \(.*from .*changed",
        ),
        ({"classes": '{"a": 1}'}, r'says {"a": 1}, expected classes that are a list of names'),
        ({"classes": "[1, 2, 3]"}, r"says \[1, 2, 3\], expected classes that are a list of names"),
        ({"classes": '["a", "b"]'}, "classes: got 2 names, expected one for each of the 3 logits"),
        (
            {"classes": json.dumps(["a", "b", "c" * 3000])},
            "classes: got 3000 characters for class 2, expected a name of 1 to 500",
        ),
        ({"classes": "[" * 100_000}, "expected valid JSON under 'classes'"),
        ({"preprocess": "7"}, 'says 7, expected a preprocess {"size", "resize", "mean", "std"}'),
        ({"preprocess": "[8]"}, "expected a preprocess"),
        ({"preprocess": '{"size": "8"}'}, r'says {"size": "8"}, expected a size of 1 to 4096'),
        ({"preprocess": '{"size": 1000000}'}, "expected a size of 1 to 4096 pixels"),
        ({"preprocess": '{"size": 8, "resize": 0}'}, "expected a resize of 1 to 4096 pixels"),
        ({"preprocess": '{"size": 8, "std": [1, 0, 1]}'}, "expected a std of three numbers above"),
        ({"preprocess": '{"size": 8, "mean": [NaN, 0, 1]}'}, "expected a mean of three numbers"),
        ({"preprocess": '{"size": 8, "mean": [0]}'}, "expected a mean of three numbers"),
        ({"preprocess": '{"size": 8, "crop": 1}'}, "expected a preprocess"),
    ],
)
def test_metadata_of_a_wrong_type_is_one_line(changed, metadata, message):
    with pytest.raises(ValueError, match=message) as error:
        models.load(changed(**metadata))
    assert len(str(error.value)) < 400 and "\n" not in str(error.value)


class _Dangerous:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_a_pickle_is_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.safetensors"
    path.write_bytes(pickle.dumps(_Dangerous()))
    with pytest.raises(ValueError, match=r"x\.safetensors, a pickle or an archive .* never opened"):
        models.load(path)
    np.savez(path.with_suffix(".npz"), a=np.zeros(3))
    with pytest.raises(ValueError, match=r"x\.npz, a pickle or an archive"):
        models.load(path.with_suffix(".npz"))
    assert not (tmp_path / "unpickled").exists()


def test_what_is_no_whole_file_is_named(tmp_path, good):
    path = tmp_path / "x.safetensors"
    content = good.read_bytes()
    for cut in (content[:-1], content[:5], content[:100], b"", content + b"more"):
        path.write_bytes(cut)
        with pytest.raises(ValueError, match=r"name_or_path: got .*x\.safetensors.* a complete"):
            models.load(path)
    path.write_bytes((2**40).to_bytes(8, "little") + content[8:])
    with pytest.raises(ValueError, match=r"whose header says that it has 1099511627776"):
        models.load(path)
    lying = b'{"fc.bias":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}'
    path.write_bytes(len(lying).to_bytes(8, "little") + lying + b"1234")
    with pytest.raises(ValueError, match="expected a complete safetensors file"):
        models.load(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"x\.safetensors, a pipe or a device, not a file, expect"):
        models.load(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=r"x\.safetensors, a folder, not a file, expected a file"):
        models.load(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", b"index,name\n0,a\n1,b\n3,c\n", "c.csv with the index '3', expected 0 to 2"),
        ("c.csv", b"index,name\n0,a\n1,b\n1,c\n", "c.csv with the index 1 twice, expected 0 to"),
        ("c.csv", b"index,name\n0,a\n1,b\n,c\n", "c.csv with the index '', expected 0 to 2"),
        ("c.csv", b"index,name\n0,a\n1,b,x\n", "c.csv with 3 fields in line 3, expected 2: "),
        ("c.csv", b"name\na\nb\n", "2 names, expected one for each of the 3 logits"),
        ("c.csv", b'name,index\na,0\n"",1\nc,2\n', "0 characters for class 1, expected a na"),
        ("c.txt", b"a\n\nb\n", "0 characters for class 1, expected a name of 1 to 500"),
        ("c.txt", b"\xff\xfea\n", "c.txt with bytes that are no UTF-8"),
    ],
)
def test_names_that_are_incomplete_are_refused(good, tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"classes: got .*{message}"):
        models.describe(good, classes=path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.CSV", b"\xef\xbb\xbfindex,name\r\n2,c\r\n0,a\r\n1,b\r\n"),
        ("c.csv", b"\xef\xbb\xbfname\na\nb\nc\n\n"),
        ("c.csv", b" name , index \nb,1\nc,2\na,0"),
        ("c.txt", b"\xef\xbb\xbfa\r\nb\r\nc\r\n\r\n"),
    ],
)
def test_names_as_programs_write_them_are_read_right(good, tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert models.describe(good, classes=path).classes == ("a", "b", "c")


def test_a_file_of_names_that_is_none_is_refused(good, tmp_path):
    os.mkfifo(tmp_path / "names")
    for name, what in (("names", "a pipe or a device"), ("", "a folder, not a file")):
        with pytest.raises(ValueError, match=f"classes: got .*, {what}"):
            models.describe(good, classes=tmp_path / name)


def test_stand_ins_take_no_memory():
    """What a header promises is checked against the network before any of it is read."""
    model = models.create("resnet_compact", num_classes=10**6, widths=(4,) * 3 + (2**16,))
    assert convert.expected_shapes(model)["fc.weight"] == (10**6, 2**16)
    assert _header.LARGEST_INPUT == 4096
