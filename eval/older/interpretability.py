"""`python -m eval interpretability`, by its older name."""

from eval.programs import older

older(__name__, "interpretability")
