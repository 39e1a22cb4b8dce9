"""How far a loop is: a bar where a terminal shows it, else a line now and then, for a log file."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from jaxcam._ground.text import in_line

Item = TypeVar("Item")
EVERY = 60.0  # seconds between two lines


def told(
    items: Iterable[Item],
    what: str,
    unit: str,
    total: int,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Item]:
    """The items, one after another, while standard error says how far the loop is.

    Args:
        items: what the loop goes over.
        what: is being done.
        unit: of the items, in the singular.
        total: how many there are, >= 0.
        clock: seconds.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm  # slow to import, and needed only here

        yield from tqdm(items, in_line(what), total, unit=unit, leave=False)
        return
    began = said = clock()
    for done, item in enumerate(items):
        now = clock()
        if done and now - said >= EVERY:
            said = now
            line = f"{in_line(what)}: {_line(done, total, unit, now - began)}"
            print(line, file=sys.stderr, flush=True)
        yield item


def _line(done: int, total: int, unit: str, seconds: float) -> str:
    left = seconds / done * (total - done)
    return f"{done} of {total} {unit}s, {_minutes(seconds)}, {_minutes(left)} left"


def _minutes(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min"
    return f"{seconds} s"
