"""`python -m eval report`, by its older name."""

from eval.programs import older

older(__name__, "report")
