"""`python -m eval games`, by its older name."""

from eval.programs import older

older(__name__, "games")
