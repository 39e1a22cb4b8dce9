"""Runs `train.classify` and kills the process, as `kill -9` does, while it writes a checkpoint.

    python -m tests.train.killed

Takes a start from each line of standard input, JSON of the step, the milliseconds and the command's
words; answers with its exit status and what it printed. A step of 0 kills nothing. Each start is a
process forked from this one, which has imported everything and started nothing.
"""

import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from train import checkpoint, classify


def killed(step: int, milliseconds: float, arguments: list[str]) -> None:
    """Dies so long after the unfinished folder of the first checkpoint from `step` on appears."""
    save = checkpoint.save

    def save_and_die(checkpoints, state, at, *words):
        if at >= step:
            checkpoints.wait_until_finished()  # with the one before, which is not to be lost
            threading.Thread(
                target=_die, args=(Path(checkpoints.directory), milliseconds), daemon=True
            ).start()
        save(checkpoints, state, at, *words)
        if at >= step:
            threading.Event().wait()  # the writing goes on behind

    if step:
        checkpoint.save = save_and_die
    classify.main(arguments)


def _die(folder: Path, milliseconds: float) -> None:
    while not list(folder.glob("*-tmp*")):
        time.sleep(1e-4)
    time.sleep(milliseconds / 1000)
    os.kill(os.getpid(), signal.SIGKILL)


def _started(*words) -> tuple[int, str]:
    """Exit status and output of a process of its own."""
    with tempfile.TemporaryFile("w+") as log:
        pid = os.fork()
        if not pid:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            status = 1
            try:
                killed(*words)
                status = 0
            except SystemExit as error:
                print(error, file=sys.stderr)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        log.seek(0)
        return os.waitstatus_to_exitcode(status), log.read()


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_started(*json.loads(line))), flush=True)
