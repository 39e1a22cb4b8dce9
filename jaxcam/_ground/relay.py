"""A way to process 0 that says when its other end is gone.

JAX ends a process at once, with a stack of C++, when the connection to the process that coordinates
all breaks. Through a relay the connection stays, and we can say who is gone.
"""

import contextlib
import socket
import threading
from collections.abc import Callable

_PIECE = 1 << 16  # bytes


class Relay:
    """Connections to an address of this machine go on to another's.

    Args:
        host: of process 0.
        port: likewise.
    """

    gone: Callable[[], None] | None = None  # called when the other end has closed a connection

    def __init__(self, host: str, port: int) -> None:
        """Listens from now on, until the process ends."""
        self._there = (host, port)
        self._kept: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        _thread(self._accept)

    def _accept(self) -> None:
        while True:
            here, _ = self._listener.accept()
            try:
                there = socket.create_connection(self._there)
            except OSError:
                self._refused(here)
                continue
            for each in (here, there):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _thread(lambda pair=(here, there): self._pump(*pair, back=False))
            _thread(lambda pair=(there, here): self._pump(*pair, back=True))

    def _refused(self, here: socket.socket) -> None:
        """Nobody is there: not yet, and JAX tries again; or no more, which JAX is not to notice."""
        if self.gone is None:
            here.close()
            return
        self._kept.append(here)
        self.gone()

    def _pump(self, source: socket.socket, sink: socket.socket, *, back: bool) -> None:
        """Passes on what one end says until it says no more, or the other hears no more."""
        left = not back  # whether it is the nearer end that has closed the connection
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                left = back
                sink.sendall(piece)
                left = not back
        if not left and self.gone is not None:
            self.gone()
            return  # and leave the nearer end open: JAX is not to notice
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()
