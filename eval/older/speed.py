"""`python -m eval speed`, by its older name."""

from eval.programs import older

older(__name__, "speed")
