"""Runs `train.classify` and kills the process, as `kill -9` does, while it writes a checkpoint.

python -m tests.train.killed STEP MILLISECONDS ARGUMENTS
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from train import checkpoint, classify


def main(step, milliseconds, arguments):
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

    checkpoint.save = save_and_die
    classify.main(arguments)


def _die(folder, milliseconds):
    while not list(folder.glob("*-tmp*")):
        time.sleep(1e-4)
    time.sleep(milliseconds / 1000)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
