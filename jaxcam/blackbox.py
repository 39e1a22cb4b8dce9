"""Models outside JAX, as functions of NumPy arrays: an ONNX file, or whatever Python can call.

`jaxcam.rise` and `jaxcam.lime` explain such a function (`host=True`), `train.distill` learns from
its answers, and `callback` makes it a function of JAX arrays, for `jaxcam.metrics` and whatever
else needs no gradient.

Many such models answer with probabilities. What asks for confidence (`jaxcam.rise`, `jaxcam.lime`,
`jaxcam.metrics`) takes them with `activation="identity"`, `train.distill` with
`teacher_probabilities`.
"""

import importlib
import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._ground.errors import ArgumentError, ArgumentFileError, check_choice

__all__ = ["KINDS", "SIZE", "Model", "callback", "onnx", "onnx_size", "python"]

Model = Callable[[np.ndarray], np.ndarray]  # images [B, H, W, C] -> outputs [B, N]
_LAYOUTS = {"NCHW": (0, 3, 1, 2), "NHWC": (0, 1, 2, 3)}
SIZE = "image_size"  # metadata of an ONNX file that takes any size: the one it was trained with


def onnx(path: str | Path, *, layout: str = "NCHW", threads: int = 0) -> Model:
    """The model in an ONNX file, run by onnxruntime on the CPU.

    Args:
        path: the file. Its first input takes the images, its first output is returned.
        layout: how the file wants its images, "NCHW" or "NHWC". A file of a fixed batch size is run
            as often as needed, the last time on repeated images.
        threads: of onnxruntime; 0 takes one per core.

    Returns:
        A function of images `[B, H, W, C]`, prepared as the model expects, to its outputs `[B, N]`
        float32, whatever the file ends with: logits, or probabilities. Of the latter see this
        module's page.

    Raises:
        FileNotFoundError: no such file.
        ImportError: onnxruntime is not installed.
        ValueError: an unknown `layout`, or a file that onnxruntime cannot read.

    Example:
        >>> import pathlib
        >>> from onnx import parser
        >>> text = '<ir_version: 8, opset_import: ["": 13]> mean (float[b,3,8,8] x) => '
        >>> text += "(float[b,3] y) { y = ReduceMean <axes = [2, 3], keepdims = 0> (x) }"
        >>> path = pathlib.Path("mean.onnx")
        >>> _ = path.write_bytes(parser.parse_model(text).SerializeToString())
        >>> jaxcam.blackbox.onnx(path)(images).shape
        (2, 3)
    """
    session = _opened(path, layout, threads)
    name, fixed = session.get_inputs()[0].name, session.get_inputs()[0].shape[0]

    def run(images: np.ndarray) -> np.ndarray:
        images = np.ascontiguousarray(np.asarray(images, np.float32).transpose(_LAYOUTS[layout]))
        return np.asarray(session.run(None, {name: images})[0], np.float32)

    model = _in_pieces(run, fixed) if isinstance(fixed, int) else run
    model.__name__ = model.__qualname__ = f"onnx({Path(path).name!r})"
    return model


def onnx_size(path: str | Path, *, layout: str = "NCHW") -> tuple[int, int]:
    """Height and width that an ONNX file takes: of its input, else its metadata `image_size`.

    Args:
        path: the file.
        layout: as in `onnx`.

    Raises:
        FileNotFoundError, ImportError: as `onnx`.
        ValueError: as `onnx`, or the file does not say.

    Example:
        >>> import pathlib
        >>> from onnx import parser
        >>> text = '<ir_version: 8, opset_import: ["": 13]> mean (float[b,3,8,8] x) => '
        >>> text += "(float[b,3] y) { y = ReduceMean <axes = [2, 3], keepdims = 0> (x) }"
        >>> path = pathlib.Path("mean.onnx")
        >>> _ = path.write_bytes(parser.parse_model(text).SerializeToString())
        >>> jaxcam.blackbox.onnx_size(path)
        (8, 8)
    """
    session = _opened(path, layout, threads=1)
    shape = session.get_inputs()[0].shape
    height = shape[_LAYOUTS[layout].index(1)]
    width = shape[_LAYOUTS[layout].index(2)]
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    noted = session.get_modelmeta().custom_metadata_map.get(SIZE, "")
    if not noted.isdecimal():
        got = f"{path}, which takes images {shape}"
        raise ArgumentError("path", got, f"a fixed size or the metadata {SIZE!r}")
    return int(noted), int(noted)


def python(name: str) -> Model:
    r"""The function that `name` names: "package.module:function", or "path/to/file.py:function".

    Returns:
        The function, called with NumPy images `[B, H, W, C]`; what it returns becomes a float32
        array.

    Raises:
        FileNotFoundError: no such file or module.
        ValueError: `name` has no colon, or what it names cannot be called.

    Example:
        >>> import pathlib
        >>> path = pathlib.Path("mine.py")
        >>> _ = path.write_text("def answer(images):\n    return images.mean((1, 2))\n")
        >>> jaxcam.blackbox.python(f"{path}:answer")(images).shape
        (2, 3)
    """
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute:
        expected = "'package.module:function' or 'file.py:function'"
        raise ArgumentError("name", repr(name), expected)
    function = getattr(_module(place), attribute, None)
    if not callable(function):
        raise ArgumentError("name", repr(name), f"a function {attribute!r} in {place}")
    return lambda images: np.asarray(function(np.asarray(images)), np.float32)


def callback(model: Model, num_outputs: int) -> Callable[[jax.Array], jax.Array]:
    """`model` on JAX arrays, also under `jit`, `vmap`, `pmap` and loops; the device asks the host.

    Args:
        model: images `[B, *spatial, C]` -> outputs `[B, N]`, NumPy arrays.
        num_outputs: N.

    Returns:
        A function of images `[B, H, W, C]` to `[B, N]` float32. It has no derivative. Of a model
        that answers with probabilities tell what takes it so, `activation="identity"`.

    Raises:
        ValueError: when called, if the model returns another shape.

    Example:
        >>> box = lambda photos: photos.mean((1, 2))  # NumPy to NumPy
        >>> asked = jaxcam.blackbox.callback(box, num_outputs=3)
        >>> jax.jit(asked)(images).shape
        (2, 3)
    """

    def ask(images: np.ndarray, *, axes: int) -> np.ndarray:
        flat = np.asarray(images).reshape(-1, *images.shape[-axes:])
        found = np.asarray(model(flat), np.float32)
        if found.shape != (len(flat), num_outputs):
            expected = str((len(flat), num_outputs))
            raise ArgumentError("model", f"a result of shape {found.shape}", expected)
        return found.reshape(*images.shape[:-axes], num_outputs)

    def forward(images: jax.Array) -> jax.Array:
        axes = images.ndim - 1  # all but the batch; vmap puts others in front
        result = jax.ShapeDtypeStruct((len(images), num_outputs), jnp.float32)
        call = partial(ask, axes=axes)
        return jax.pure_callback(call, result, images, vmap_method="expand_dims")

    return forward


KINDS: dict[str, Callable[..., Model]] = {"onnx": onnx, "python": python}


def _opened(path: str | Path, layout: str, threads: int) -> Any:
    check_choice("layout", layout, _LAYOUTS)
    if not Path(path).is_file():
        raise ArgumentFileError("path", repr(str(path)), "an ONNX file")
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "onnx: onnxruntime is not installed; pip install 'jaxcam-xai[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common base but this
        expected = f"an ONNX file that onnxruntime reads ({error})"
        raise ArgumentError("path", repr(str(path)), expected) from error


def _in_pieces(run: Model, size: int) -> Model:
    def pieces(images: np.ndarray) -> np.ndarray:
        count = len(images)
        index = np.minimum(np.arange(-(-count // size) * size), count - 1).reshape(-1, size)
        return np.concatenate([run(images[rows]) for rows in index])[:count]

    return pieces


def _module(place: str) -> Any:
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            expected = f"a module that can be imported ({error})"
            raise ArgumentFileError("name", repr(place), expected) from error
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    if not Path(place).is_file() or spec is None or spec.loader is None:
        raise ArgumentFileError("name", repr(place), "a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
