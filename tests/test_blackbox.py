"""Models outside JAX: an ONNX file gives what its network gives in JAX; functions go by name."""

import jax
import numpy as np
import pytest

import jaxcam
from eval.subjects import networks as eval_models
from eval.subjects import onnx_export
from jaxcam import blackbox, models

onnx = pytest.importorskip("onnx", reason="needs the extra [onnx]")
pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A residual network of two blocks with statistics of its own, and its ONNX file."""
    model = models.create(
        "resnet_compact",
        num_classes=4,
        stage_sizes=(1, 1),
        widths=(4, 6),
        strides=(1, 2),
        stem="imagenet",
    )
    rng = np.random.default_rng(0)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 16, 16, 3)))
    variables = jax.tree.map(
        lambda x: (x + rng.uniform(0.1, 0.5, x.shape)).astype(np.float32), variables
    )
    about = models.Preprocess(16, None, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    onnx_export.export(model, variables, about, path)
    return path, lambda images: model.apply(variables, about(images))


def test_the_file_gives_the_networks_logits(files, rng):
    path, network = files
    images = rng.uniform(size=(3, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(blackbox.onnx(path)(images), network(images), rtol=1e-4, atol=1e-5)


def test_the_function_is_called_as_the_file(files):
    assert "onnx('net.onnx')" in repr(blackbox.onnx(files[0]))


def test_the_logarithm_of_probabilities_is_logits(files, rng):
    path, network = files
    images = rng.uniform(size=(3, 16, 16, 3)).astype(np.float32)
    answers = lambda x: np.asarray(jax.nn.softmax(blackbox.onnx(path)(x)))
    forward = blackbox.callback(lambda x: np.log(answers(x) + 1e-30), 4)
    found = jaxcam.metrics.confidence(forward, images)
    np.testing.assert_allclose(found, jaxcam.metrics.confidence(network, images), rtol=1e-4)


def test_rise_explains_the_file_as_it_explains_the_network(files, rng):
    path, network = files
    images = rng.uniform(size=(2, 16, 16, 3)).astype(np.float32)
    options = {"num_masks": 20, "grid": 4}
    outside = jaxcam.rise(blackbox.onnx(path), images, host=True, **options)
    np.testing.assert_allclose(outside, jaxcam.rise(network, images, **options), rtol=1e-4)


def test_a_file_of_fixed_batch_and_other_layout(tmp_path, rng):
    value = lambda name, *shape: onnx.helper.make_tensor_value_info(
        name, onnx.TensorProto.FLOAT, shape
    )
    node = onnx.helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2], keepdims=0)
    graph = onnx.helper.make_graph([node], "mean", [value("x", 2, 4, 4, 3)], [value("y", 2, 3)])
    path = tmp_path / "mean.onnx"
    onnx.save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8
        ),
        path,
    )
    images = rng.uniform(size=(5, 4, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(
        blackbox.onnx(path, layout="NHWC")(images), images.mean((1, 2)), rtol=1e-6
    )


def test_a_function_by_its_name(tmp_path):
    (tmp_path / "mine.py").write_text("def brightness(images):\n    return images.mean((1, 2))\n")
    images = np.ones((2, 4, 4, 3))
    assert (blackbox.python(f"{tmp_path}/mine.py:brightness")(images) == 1).all()
    assert blackbox.python("numpy:squeeze")(images).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: blackbox.onnx("nowhere.onnx"),
            FileNotFoundError,
            "path: got 'nowhere.onnx', expected an ONNX file",
        ),
        (
            lambda: blackbox.onnx(__file__),
            ValueError,
            "path: got .*, expected an ONNX file that onnxruntime reads",
        ),
        (
            lambda: blackbox.onnx(__file__, layout="CHWN"),
            ValueError,
            "layout: got 'CHWN', expected one of 'NCHW'",
        ),
        (
            lambda: blackbox.python("numpy"),
            ValueError,
            "name: got 'numpy', expected 'package.module:function'",
        ),
        (
            lambda: blackbox.python("nopackage:f"),
            FileNotFoundError,
            "name: got 'nopackage', expected a module that can be imported",
        ),
        (
            lambda: blackbox.python("nofile.py:f"),
            FileNotFoundError,
            "name: got 'nofile.py', expected a Python file",
        ),
        (lambda: blackbox.python("numpy:pi"), ValueError, "expected a function 'pi' in numpy"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_only_plain_residual_networks_are_exported(tmp_path):
    vgg = models.create("vgg11", num_classes=3)
    with pytest.raises(ValueError, match="model: got a VGG, expected a plain residual network"):
        onnx_export.export(vgg, {}, None, tmp_path / "x.onnx")


def test_a_callback_is_the_network_under_jit_vmap_and_pmap(files, rng):
    path, network = files
    images = rng.uniform(size=(4, 16, 16, 3)).astype(np.float32)
    expected, forward = network(images), blackbox.callback(blackbox.onnx(path), 4)
    np.testing.assert_allclose(jax.jit(forward)(images), expected, rtol=1e-4, atol=1e-5)
    for mapped in (jax.vmap, jax.pmap):
        found = mapped(forward)(images.reshape(2, 2, 16, 16, 3))
        np.testing.assert_allclose(found.reshape(4, -1), expected, rtol=1e-4, atol=1e-5)


def test_metrics_of_a_callback_are_the_networks(files, rng):
    path, network = files
    images, heat = (
        rng.uniform(size=(3, 16, 16, 3)).astype(np.float32),
        rng.uniform(size=(3, 16, 16)),
    )
    forward = blackbox.callback(blackbox.onnx(path), 4)
    found = jax.jit(lambda x: jaxcam.metrics.insertion(forward, x, heat))(images)
    np.testing.assert_allclose(
        found, jaxcam.metrics.insertion(network, images, heat), rtol=1e-3, atol=1e-5
    )


def test_a_callback_of_another_shape_is_refused(files, rng):
    forward = blackbox.callback(blackbox.onnx(files[0]), 5)
    with pytest.raises(
        Exception, match=r"model: got a result of shape \(2, 4\), expected \(2, 5\)"
    ):
        jax.block_until_ready(forward(rng.uniform(size=(2, 16, 16, 3)).astype(np.float32)))


def test_the_size_of_a_file(files):
    assert blackbox.onnx_size(files[0]) == (16, 16)


def test_protocols_measure_on_a_file(files, rng):
    path, network = files
    found = eval_models.load(str(path))
    photos = rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    assert found.input_size == (16, 16)
    logits = found.apply(found.params, found.prepare(jax.numpy.asarray(photos)))
    np.testing.assert_allclose(
        logits, network(photos.astype(np.float32) / 255), rtol=1e-4, atol=1e-4
    )


def test_a_file_that_does_not_say_its_size_is_refused(tmp_path):
    value = lambda name, *shape: onnx.helper.make_tensor_value_info(
        name, onnx.TensorProto.FLOAT, shape
    )
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "r",
        [value("x", 1, 3, "h", "w")],
        [value("y", 1, 3, "h", "w")],
    )
    path = tmp_path / "any.onnx"
    onnx.save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8
        ),
        path,
    )
    with pytest.raises(ValueError, match=r"takes images \[1, 3, 'h', 'w'\], expected a fixed size"):
        blackbox.onnx_size(path)
    graph.input[0].CopyFrom(value("x", 1, 3, 8, 9))
    onnx.save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8
        ),
        path,
    )
    assert blackbox.onnx_size(path) == (8, 9)
