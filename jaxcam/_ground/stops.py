"""Being asked to end: SIGTERM, as schedulers send it some time before they kill."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

CODE = 128 + signal.SIGTERM  # 143: the exit status of what SIGTERM ended, as schedulers know it
INTERRUPTED = 128 + signal.SIGINT  # 130


class Stopped(Exception):
    """A run that was asked to end has done so, with nothing lost; the text says how to go on."""


class Notice:
    """Whether this process has been asked to end."""

    asked = False

    def check(self, done: str) -> None:
        """Ends the run if that was asked.

        Args:
            done: what has been done, and how to go on.

        Raises:
            Stopped: it was.
        """
        if self.asked:
            raise Stopped(f"SIGTERM: {done}")


@contextlib.contextmanager
def noticed(soon: str) -> Iterator[Notice]:
    """Within the block SIGTERM is noticed, and said; a second one ends the process at once.

    In a thread that is not the main one nothing can be noticed.

    Args:
        soon: what will be done, such as "saving after this step".
    """
    notice = Notice()
    if threading.current_thread() is not threading.main_thread():
        yield notice
        return

    def handle(number: int, frame: object) -> None:
        notice.asked = True
        signal.signal(number, signal.SIG_DFL)
        # Not by print: what was interrupted may be printing.
        os.write(2, f"\nSIGTERM: {soon}; a second one ends at once\n".encode())

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield notice
    finally:
        signal.signal(signal.SIGTERM, before)


def end_at_once() -> None:
    """SIGTERM from now on ends the process."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
