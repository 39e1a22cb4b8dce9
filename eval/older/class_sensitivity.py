"""`python -m eval class_sensitivity`, by its older name."""

from eval.programs import older

older(__name__, "class_sensitivity")
