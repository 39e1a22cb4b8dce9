"""`python -m eval explain`, by its older name."""

from eval.programs import older

older(__name__, "explain")
