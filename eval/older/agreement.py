"""`python -m eval agreement`, by its older name."""

from eval.programs import older

older(__name__, "agreement")
