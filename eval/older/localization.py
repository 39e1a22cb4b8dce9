"""`python -m eval localization`, by its older name."""

from eval.programs import older

older(__name__, "localization")
