"""Numbers as tables show them: with their intervals, as many decimals as their neighbours."""

from collections.abc import Sequence

from eval.reporting.pages import Cell
from eval.reporting.records import Summary, mean


class Scale:
    """Numbers that stand together; None where there is none."""

    def __init__(self, values: Sequence[float | None]) -> None:
        """Takes the numbers in."""
        self.known = [value for value in values if value is not None]

    @property
    def form(self) -> str:
        """A format for all of them."""
        largest = max(map(abs, self.known), default=0)
        if largest >= 20:
            return ".1f"
        if largest >= 2:
            return ".2f"
        if largest >= 0.01:
            return ".3f"
        return ".2g"

    def is_best(self, value: float, better: int) -> bool:
        """Whether a value is the best of at least two; higher is better for 1, lower for -1."""
        if better == 0 or len(self.known) < 2:
            return False
        return better * value == max(better * each for each in self.known)

    def shade(self, value: float, better: int) -> float | None:
        """From 0 for the worst to 1 for the best; None where neither way is better."""
        low = min(self.known)
        high = max(self.known)
        if better == 0 or low == high:
            return None
        share = (value - low) / (high - low)
        if better > 0:
            return share
        return 1 - share


def cell(
    found: Summary | None, scale: Scale, column: Scale | None = None, better: int = 0
) -> str | Cell:
    """`mean [low, high]`, of few photos `mean (of n)`, with how many have no value.

    Args:
        found: a metric's summary.
        scale: for decimals and shade.
        column: in which it may be the best.
        better: which way.
    """
    value = mean(found)
    if found is None or value is None:
        return "-"
    if found["low"] is None:
        rest = f"(of {found['n']})"
    else:
        rest = f"[{found['low']:{scale.form}}, {found['high']:{scale.form}}]"
    if found.get("undefined"):
        rest = f"{rest}, {found['undefined']} undefined"
    best = column is not None and column.is_best(value, better)
    return Cell(f"{value:{scale.form}}", rest, best, scale.shade(value, better))
