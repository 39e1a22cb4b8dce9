"""`python -m eval sanity`, by its older name."""

from eval.programs import older

older(__name__, "sanity")
