"""Errors about arguments: `argument: got X, expected Y`, the three as data, and common checks.

What refuses a value raises `ArgumentError`, or its kin for files and types. A caller whose user
knows the argument by another name (`--model`, say, for `name_or_path`) gives it that name by
`renaming`, and no text is taken apart.
"""

import contextlib
import difflib
import math
import operator
from collections.abc import Collection, Hashable, Iterable, Iterator
from typing import Any, Self

import numpy as np

from jaxcam._ground.text import printable

_LARGEST = float(np.finfo(np.float32).max)
_MOST = 2**31 - 1  # of what is counted: JAX counts in 32 bits
LISTED = 12  # an error lists so many names, of more of them the nearest


class ArgumentError(ValueError):
    """A value that an argument cannot take.

    Args:
        argument: whose value it is.
        got: what was given, as it is to be read: `repr(value)`, "shape (2, 3) for 4 images".
        expected: what would do.
    """

    def __init__(self, argument: str, got: object, expected: str) -> None:
        super().__init__(printable(f"{argument}: got {got}, expected {expected}"))
        self.argument = argument
        self.got = str(got)
        self.expected = expected

    def __reduce__(self) -> tuple:
        """Pickled as its three parts, so that it crosses processes."""
        return type(self), (self.argument, self.got, self.expected)

    def renamed(self, argument: str) -> Self:
        """The same error about `argument`."""
        return type(self)(argument, self.got, self.expected)


class ArgumentFileError(ArgumentError, FileNotFoundError):
    """An argument that names a file, folder or data set which is not there."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument that is another kind of thing altogether."""


@contextlib.contextmanager
def renaming(**names: str) -> Iterator[None]:
    """Errors about an argument become errors about what the caller calls it.

    Example:
        >>> with renaming(name="--data"):
        ...     raise ArgumentError("name", "'x'", "a folder")
        Traceback (most recent call last):
        jaxcam._ground.errors.ArgumentError: --data: got 'x', expected a folder
    """
    try:
        yield
    except ArgumentError as error:
        if error.argument not in names:
            raise
        raise error.renamed(names[error.argument]) from error


# Choices and names ----------------------------------------------------


def check_choice(
    argument: str, value: Any, allowed: Iterable, *, or_else: str = "", kind: str = "names"
) -> None:
    """ArgumentError unless `value` is one of `allowed`.

    True is not 1, and an array is no choice.

    Args:
        argument: whose value it is.
        value: the value.
        allowed: what it may be, names mostly.
        or_else: what else would have done and the caller has sorted out, such as "a number".
        kind: what they are, in the plural, if they are many.
    """
    choices = tuple(allowed)
    if not any(_same(value, choice) for choice in choices):
        expected = one_of(value, choices, kind)
        if or_else:
            expected = f"{expected} or {or_else}"
        raise ArgumentError(argument, repr(value), expected)


def one_of(wanted: object, known: Iterable, kind: str = "names") -> str:
    """What an error expects: "one of 'a', 'b'"; of many names their number and the nearest.

    Args:
        wanted: what was given instead.
        known: the names, or other values.
        kind: what they are, in the plural.
    """
    names = list(known)
    if len(names) <= LISTED:
        return f"one of {listing(names)}"
    return f"one of {len(names)} {kind}, such as {listing(nearest(wanted, names))}"


def nearest(wanted: object, known: Iterable, *, count: int = 4) -> list[str]:
    """The known names most like the wanted one, nearest first; the last ones if none is like it.

    Capitals do not matter.
    """
    names = list(map(str, known))
    return alike(wanted, names, count=count, cutoff=0.3) or names[-count:]


def alike(wanted: object, known: Iterable, *, count: int = 4, cutoff: float = 0.6) -> list[str]:
    """The known names that are like the wanted one, nearest first; none if none is.

    Capitals do not matter.

    Args:
        wanted: what was given instead.
        known: the names.
        count: how many, at most.
        cutoff: how much alike, 0 to 1: `difflib.SequenceMatcher.ratio`.
    """
    names = {str(name).casefold(): str(name) for name in known}
    close = difflib.get_close_matches(str(wanted).casefold(), names, n=count, cutoff=cutoff)
    return [names[name] for name in close]


def listing(names: Iterable) -> str:
    """The names as an error lists them: 'a', 'b'."""
    return ", ".join(map(repr, names))


def _same(value: Any, choice: Any) -> bool:
    if value is choice:
        return True
    if isinstance(value, bool) or isinstance(choice, bool) or not isinstance(value, Hashable):
        return False
    return value == choice


# Numbers --------------------------------------------------------------


def check_number(argument: str, value: Any) -> None:
    """ArgumentError unless `value` is a finite real number."""
    _check_number(argument, value, operator.ge, -math.inf, "a finite number")


def check_at_least(argument: str, value: Any, least: float) -> None:
    """ArgumentError unless `value >= least`."""
    _check_number(argument, value, operator.ge, least, f"at least {least}")


def check_above(argument: str, value: Any, bound: float) -> None:
    """ArgumentError unless `value > bound`."""
    _check_number(argument, value, operator.gt, bound, f"a number above {bound}")


def check_within(argument: str, value: Any, low: float, high: float, *, ends: str = "[]") -> None:
    """ArgumentError unless `value` lies in an interval.

    Args:
        argument: whose value it is.
        value: a number; NaN lies in no interval.
        low: the lower end.
        high: the upper end.
        ends: how it is written: "[]" with both ends, "[)" without the upper one, "(]", "()".
    """
    expected = f"a number in {ends[0]}{low}, {high}{ends[1]}"
    above = {"[": operator.ge, "(": operator.gt}[ends[0]]
    below = {"]": operator.le, ")": operator.lt}[ends[1]]
    _check_number(argument, value, above, low, expected)
    _check_number(argument, value, below, high, expected)


def check_whole(
    argument: str, value: Any, low: int, high: float = math.inf, *, what: str = ""
) -> None:
    """ArgumentError unless `value` is a whole number (an int, no bool) from `low` to `high`.

    Args:
        argument: whose value it is.
        value: an int or NumPy's.
        low: the least.
        high: the greatest.
        what: what the greatest is, such as "the number of classes".
    """
    expected = f"a whole number, at least {low}"
    if high < math.inf:
        expected = f"{low} to {high}"
    if what:
        expected = f"{expected}, {what}"
    if not is_whole(value) or not low <= value <= min(high, _MOST):
        raise ArgumentError(argument, shown(value), expected)


def is_whole(value: Any) -> bool:
    """Whether a value is an int or NumPy's, but no bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_flag(argument: str, value: Any) -> None:
    """ArgumentError unless `value` is True or False; 1 and 0 are."""
    known = isinstance(value, bool | np.bool_) or (is_whole(value) and value in (0, 1))
    if not known:
        raise ArgumentError(argument, shown(value), "True or False")


def check_unmasked(argument: str, value: Any) -> None:
    """ArgumentError for NumPy's masked arrays, whose hidden values would count."""
    if isinstance(value, np.ma.MaskedArray):
        raise ArgumentError(argument, "a masked array", "an array without a mask: filled(0), say")


def check_size(argument: str, size: Any) -> tuple[int, int]:
    """The size as (height, width), once it is that, in whole pixels."""
    good = isinstance(size, Collection) and len(size) == 2
    if not good or any(not _is_pixels(side) for side in size):
        raise ArgumentError(argument, shown(size), "(height, width) in whole pixels")
    height, width = map(int, size)
    return height, width


def check_sides(argument: str, size: Any) -> tuple[int, ...]:
    """As `check_size`, of one, two or three axes."""
    good = isinstance(size, Collection) and len(size) in (1, 2, 3)
    if not good or any(not _is_pixels(side) for side in size):
        expected = "(height, width) in whole pixels, or one or three such numbers"
        raise ArgumentError(argument, shown(size), expected)
    return tuple(map(int, size))


def shown(value: object) -> str:
    """A value as an error shows it: text in quotes, a NumPy number as a number."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return str(value)
    return repr(value)


def _is_pixels(side: Any) -> bool:
    try:
        return bool(side >= 1 and int(side) == side)
    except (TypeError, ValueError, OverflowError):  # text, NaN, infinity
        return False


def _check_number(argument: str, value: Any, holds: Any, bound: float, expected: str) -> None:
    if not _is_number(value) or not holds(value, bound):
        raise ArgumentError(argument, shown(value), expected)


def _is_number(value: Any) -> bool:
    """Whether a value is a finite real number of float32's range, and no bool."""
    if isinstance(value, bool | str | bytes) or np.ndim(value) != 0:
        return False
    try:
        return abs(float(value)) <= _LARGEST
    except (TypeError, ValueError, OverflowError):  # complex numbers, objects, tracers
        return False
