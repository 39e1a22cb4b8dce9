"""`python -m eval foster_effect`, by its older name."""

from eval.programs import older

older(__name__, "foster_effect")
