"""The same student as tiny20_distill, its teacher outside JAX: the bundled network as an ONNX file.

Command: python -m eval.onnx_export --model tiny20 --output runs/tiny20.onnx
    python -m train.distill --config configs/tiny20_distill_onnx.py
Cost: see tiny20_distill; the teacher is asked about 5 x 10,000 photos before.
Reached: 68.6 % top-1 after 10 epochs; Sim-1 to Sim-5 0.715 0.283 0.068 0.016 0.001.
Choices: no label smoothing, in the hope of a better order behind the first class (Sim-2 to Sim-5),
    which it did not bring; no CutMix, since the answers are kept for single photos.
"""

import dataclasses

from configs.common import named
from configs.tiny20_distill import config as tiny20_distill

config = dataclasses.replace(
    named(tiny20_distill, "tiny20_distill_onnx"),
    teacher="runs/tiny20.onnx",
    teacher_kind="onnx",
    answers="runs/tiny20_onnx_answers",
    views=5,
    crop_sizes=((0, 44),),
    label_smoothing=0.0,
    epochs=10,
)
