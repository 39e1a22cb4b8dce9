"""`python -m eval onnx_export`, by its older name."""

from eval.programs import older

older(__name__, "onnx_export")
