"""`python -m eval benchmark`, by its older name."""

from eval.programs import older

older(__name__, "benchmark")
