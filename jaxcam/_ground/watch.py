"""Whether the other processes of a run live, and the end of this one when one of them is gone.

Each says every few seconds, in the store that JAX keeps for all of them, that it lives. Who waits
in a sum over all devices for one that is gone would wait for ever, or until JAX aborts it.
"""

import atexit
import contextlib
import os
import sys
import threading
import time
from typing import Any, NoReturn

EVERY = 3.0  # seconds between two signs of life
SILENCE = 40.0  # seconds without one, after which a process is gone
BROKEN = 12.0  # the same, where what all do together has failed in this process
TOGETHER = 5.0  # seconds that a process which has failed waits for the others to fail, too
CODE = 75  # EX_TEMPFAIL: the run can be started again
_FOLDER = "jaxcam/alive/"
_FAILED = "failed: "
_ENDED = "ended"


class Watch:
    """The signs of life of this process and of the others.

    Args:
        client: of JAX's store.
        index: this process's.
        count: of all.
    """

    def __init__(self, client: Any, index: int, count: int) -> None:
        """Signs and looks from now on, in threads, until `end`."""
        self._client = client
        self._index = index
        self._count = count
        self._ended = threading.Event()
        self._saying = threading.Lock()
        self._signing = threading.Lock()
        self._limit = SILENCE
        self._status = 0
        self._signs = dict.fromkeys(set(range(count)) - {index}, "")
        self._since = dict.fromkeys(self._signs, 0.0)  # when the last sign came
        self._answered = 0.0  # when the store, which process 0 keeps, last did
        self._forgive()
        for work in (self._sign, self._look):
            threading.Thread(target=work, daemon=True).start()
        atexit.register(self.end)  # before JAX takes leave, which was registered earlier

    def end(self) -> None:
        """Tells the others that this process is about to end as it should."""
        self._end(_ENDED)

    def lost_process_0(self) -> None:
        """Ends this process: the connection to process 0 is closed."""
        if self._status:
            _leave(self._status)
        if not self._ended.is_set():
            self._end_for(0, "is gone (its connection is closed)")

    def wait_for_verdict(self) -> None:
        """Ends this process if another is gone, which it may take `BROKEN` seconds to know."""
        self._limit = BROKEN
        self._ended.wait(BROKEN + 2 * EVERY)

    def all_fail(self, status: int, why: str) -> bool:
        """Tells the others that this process has failed; whether they all have.

        Args:
            status: with which it ends if process 0 ends meanwhile.
            why: what is told.
        """
        self._status = status
        self._end(_FAILED + why)
        try:
            self._client.wait_at_barrier("jaxcam/failed", round(1000 * TOGETHER))
        except Exception:  # of JAX's runtime: not all came
            return False
        return True

    def _end(self, sign: str) -> None:
        """The last sign; nothing after it."""
        with self._signing:
            if self._ended.is_set():
                return
            self._ended.set()
            with contextlib.suppress(Exception):  # of JAX's runtime: process 0 does not answer
                self._say(sign)

    def _say(self, sign: str) -> None:
        self._client.key_value_set(f"{_FOLDER}{self._index}", sign, allow_overwrite=True)

    def _sign(self) -> None:
        beat = 0
        while not self._ended.wait(EVERY):
            beat += 1
            try:
                with self._signing:
                    if self._ended.is_set():
                        return
                    self._say(str(beat))
                found = self._client.key_value_dir_get(_FOLDER)
            except Exception:  # of JAX's runtime: process 0 does not answer
                continue
            self._answered = time.monotonic()
            for key, sign in found:
                self._hear(int(key.rpartition("/")[2]), sign)

    def _hear(self, other: int, sign: str) -> None:
        if sign.startswith(_FAILED) and not self._ended.is_set():
            self._end_for(other, f"has {sign}")
        if sign == _ENDED:
            self._since.pop(other, None)
        elif self._signs.get(other, sign) != sign:
            self._signs[other] = sign
            self._since[other] = self._answered

    def _look(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(EVERY / 3):
            now = time.monotonic()
            if now - last > 3 * EVERY:  # it was this process that stood still
                self._forgive()
            last = now
            why = f"is gone (not heard of for {self._limit:.0f} s)"
            if now - self._answered > self._limit:
                self._end_for(0, why)
            for other, since in list(self._since.items()):
                if self._answered - since > self._limit:
                    self._end_for(other, why)

    def _forgive(self) -> None:
        self._answered = time.monotonic()
        for other in self._since:
            self._since[other] = self._answered

    def _end_for(self, other: int, why: str) -> NoReturn:
        """Ends this process since another has; not through JAX, which would wait for it."""
        self._saying.acquire()  # for good: one line
        said = (
            f"process {self._index} of {self._count}: process {other} {why}; start them all again "
            "(training with --resume), or this one alone: what was saved is whole"
        )
        print(said, file=sys.stderr, flush=True)
        _leave(CODE)


_WATCHES: list[Watch] = []


def start(index: int, count: int) -> Watch | None:
    """Watches the others of a run that this process has just joined."""
    client = _store()
    if client is None or count < 2:
        return None
    watch = Watch(client, index, count)
    _WATCHES.append(watch)
    return watch


def _store() -> Any:
    """JAX's store for all processes of a run, which it does not yet make public; None without."""
    from jax._src import distributed

    state = getattr(distributed, "global_state", None)
    client = getattr(state, "client", None)
    if hasattr(client, "key_value_set") and hasattr(client, "key_value_dir_get"):
        return client
    return None


def failed(error: BaseException) -> None:
    """Before a failure is reported: ends this process if it is another one that is gone."""
    if isinstance(error, OSError | RuntimeError):
        for watch in _WATCHES:
            watch.wait_for_verdict()


def fail(line: str) -> NoReturn:
    """Ends this process, which has failed: with status 1 and a line, which the others hear of.

    Where they have not all failed, without taking leave, which would be to wait for them.
    """
    for watch in _WATCHES:
        print(line, file=sys.stderr, flush=True)
        if not watch.all_fail(1, line):
            _leave(1)
        sys.exit(1)
    sys.exit(line)


def _leave(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
