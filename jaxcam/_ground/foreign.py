"""What is no function of JAX's, though it is a model: known without importing its library."""

from typing import Any, NamedTuple

_BLACK_BOX = (
    "jaxcam.rise(ask, images, host=True) and kin with ask a function of NumPy images -> logits"
)


class Foreign(NamedTuple):
    """A kind of model: what it is called, and what is done with it.

    Args:
        title: with the article.
        advice: what is to be given instead.
        traced: whether JAX can trace a call of it.
    """

    title: str
    advice: str
    traced: bool = False


# By the beginnings of modules' names.
_KINDS = {
    "flax.nnx": Foreign("the Flax NNX module", "jaxcam.nnx(model)", traced=True),
    "flax.linen": Foreign("the Flax Linen module", "jaxcam.linen(model, variables)", traced=True),
    "equinox": Foreign("the Equinox module", "jaxcam.equinox(model)", traced=True),
    "keras": Foreign("the Keras model", "jaxcam.keras(model), of Keras 3 on JAX", traced=True),
    "haiku": Foreign("what hk.transform returned", "jaxcam.haiku(transformed, params)"),
    "torch": Foreign(
        "the PyTorch module",
        f"a function of JAX arrays; PyTorch's weights are read by jaxcam.models.from_torchvision, "
        f"and a network outside JAX is explained as a black box: {_BLACK_BOX}",
    ),
    "onnxruntime": Foreign(
        "the ONNX session",
        "jaxcam.rise(jaxcam.blackbox.onnx(path), images, host=True) and kin: a network outside JAX "
        "is explained as a black box, by methods that only ask it",
    ),
    "onnx": Foreign(
        "the ONNX graph", "its file's path in jaxcam.blackbox.onnx(path), for rise and kin"
    ),
    "tensorflow": Foreign(
        "the TensorFlow function",
        f"a function of JAX arrays; what is outside JAX is explained as a black box: {_BLACK_BOX}",
    ),
}


def kind(model: Any) -> Foreign | None:
    """What kind of another library's model this is, or None."""
    for base in type(model).__mro__:
        module = base.__module__.replace("flaxlib.", "")
        for beginning, found in _KINDS.items():
            if module == beginning or module.startswith(f"{beginning}."):
                return found
    return None
