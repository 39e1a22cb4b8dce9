"""Writes a residual network of ours as an ONNX file: a black box to explain and learn from.

    python -m eval onnx_export --model tiny20 --output runs/tiny20.onnx

The file takes RGB images `[B, 3, H, W]` in [0, 1] (the normalisation is inside) and returns logits
`[B, N]`. It takes any H and W, and names those of the network in its metadata. Batch norm is folded
into the convolutions. Needs the package onnx (`pip install 'jaxcam-xai[onnx]'`).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcam import models
from jaxcam._ground import files
from jaxcam._ground.errors import ArgumentError
from jaxcam.blackbox import SIZE
from jaxcam.models.resnet import BLOCKS, STEMS, ResNet

EPSILON = 1e-5  # of our batch norms


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to write.

    Args:
        output: the ONNX file.
        model: a residual network that `jaxcam.models.load` reads.
    """

    output: Path
    model: str = "tiny20"


class _Graph:
    """Nodes and weights; each method adds what it says and returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, value: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"weight{len(self.weights)}"
        self.weights.append(
            numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name)
        )
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def convolution(
        self, x: str, params: Mapping, stats: Mapping, conv: str, norm: str, stride: int
    ) -> str:
        """A convolution and its batch norm, which is folded into weight and bias."""
        scale = params[norm]["scale"] / np.sqrt(stats[norm]["var"] + EPSILON)
        kernel = (params[conv]["kernel"] * scale).transpose(3, 2, 0, 1)
        weights = (
            self.constant(kernel),
            self.constant(params[norm]["bias"] - stats[norm]["mean"] * scale),
        )
        pads = [side // 2 for side in kernel.shape[2:]] * 2
        return self.node("Conv", x, *weights, strides=[stride, stride], pads=pads)


def export(model: Any, variables: Mapping, preprocess: Any, path: Path) -> None:
    """Writes the network; see the module for what the file holds.

    Args:
        model: one of our residual networks.
        variables: its parameters and batch statistics.
        preprocess: its normalisation, with `mean`, `std` and `size`.
        path: of the file.

    Raises:
        ValueError: another architecture.
    """
    import jax
    import onnx

    if type(model) is not ResNet or getattr(model, "attention", None):
        raise ArgumentError("model", f"a {type(model).__name__}", "a plain residual network")
    params = jax.tree.map(np.asarray, variables["params"])
    stats = jax.tree.map(np.asarray, variables["batch_stats"])
    graph = _Graph()
    mean = np.asarray(preprocess.mean, np.float32).reshape(1, 3, 1, 1)
    std = np.asarray(preprocess.std, np.float32).reshape(1, 3, 1, 1)
    x = graph.node("Div", graph.node("Sub", "images", graph.constant(mean)), graph.constant(std))
    logits = _network(graph, model, params, stats, x)
    graph.nodes.append(onnx.helper.make_node("Identity", [logits], ["logits"]))
    value = lambda name, *shape: onnx.helper.make_tensor_value_info(
        name, onnx.TensorProto.FLOAT, shape
    )
    inputs = [value("images", "batch", 3, "height", "width")]
    whole = onnx.helper.make_graph(
        graph.nodes, "jaxcam", inputs, [value("logits", "batch", model.num_classes)], graph.weights
    )
    proto = onnx.helper.make_model(
        whole, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9
    )
    onnx.helper.set_model_props(proto, {SIZE: str(preprocess.size)})
    onnx.checker.check_model(proto)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, proto.SerializeToString())


def _network(graph: _Graph, model: ResNet, params: Mapping, stats: Mapping, x: str) -> str:
    stem = STEMS[model.stem]
    x = graph.node("Relu", graph.convolution(x, params, stats, "conv1", "bn1", stem.stride))
    if stem.pool:
        x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, (blocks, stride) in enumerate(
        zip(model.stage_sizes, model.strides, strict=True), start=1
    ):
        for index in range(blocks):
            name = f"layer{stage}.{index}"
            x = _block(graph, model.block, params[name], stats[name], x, stride)
            stride = 1
    x = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    head = params[model.classifier]
    return graph.node("Gemm", x, graph.constant(head["kernel"]), graph.constant(head["bias"]))


def _block(graph: _Graph, block: str, params: Mapping, stats: Mapping, x: str, stride: int) -> str:
    y = x
    for index, (_, strided, _) in enumerate(BLOCKS[block], start=1):
        steps = 1
        if strided:
            steps = stride
        y = graph.convolution(y, params, stats, f"conv{index}", f"bn{index}", steps)
        if index < len(BLOCKS[block]):
            y = graph.node("Relu", y)
    if "downsample.0" in params:
        x = graph.convolution(x, params, stats, "downsample.0", "downsample.1", stride)
    return graph.node("Relu", graph.node("Add", y, x))


def main(settings: Settings) -> None:
    """Writes the file."""
    model, variables = models.load(settings.model)
    export(model, variables, models.describe(settings.model).preprocess, settings.output)
    print(f"{settings.output} ({settings.output.stat().st_size / 1e6:.2f} MB)")
