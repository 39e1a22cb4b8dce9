"""`python -m eval adcc`, by its older name."""

from eval.programs import older

older(__name__, "adcc")
