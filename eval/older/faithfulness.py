"""`python -m eval faithfulness`, by its older name."""

from eval.programs import older

older(__name__, "faithfulness")
