"""`python -m eval throughput`, by its older name."""

from eval.programs import older

older(__name__, "throughput")
