"""Two made-up frameworks for tests: `jaxcam` and `torch`, the second of them wrong at times."""

import os
import time
from pathlib import Path

import numpy as np

from eval.costs.peers.child import Call, LeftOut


class Fake:
    def __init__(self, name):
        self.name = name

    def versions(self):
        return {self.name: "1.0"}

    def make(self, setup):
        Path(setup["weights"]).write_text(str(setup["seed"]))
        return {"device": "paper"}

    def load(self, setup):
        self.seed = int(Path(setup["weights"]).read_text())
        print("a library prints this")

    def call(self, case):
        if case["call"] == "rise":
            raise LeftOut("no such method")
        if case["call"] == "training" and self.name == "torch":
            os._exit(3)
        maps = np.arange(8.0).reshape(2, 2, 2) - 1
        if self.name == "torch":
            maps = maps * 3
            if case["call"] == "gradient":
                maps = maps + 1
        seconds = {"jaxcam": 0.002, "torch": 0.006}[self.name]
        if case["form"] in ("constants", "channels_last"):
            seconds *= 2
        return Call(lambda given: time.sleep(seconds) or maps, lambda result: result)


def opened(name):
    if name == "captum":
        raise ModuleNotFoundError("No module named 'captum'", name="captum")
    if name == "zennit":
        raise RuntimeError("operator torchvision::nms does not exist")
    return Fake(name)
