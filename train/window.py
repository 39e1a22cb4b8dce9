"""Steps between two lines of the log."""

import time
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np

from train import objectives

# Steps that are queued before the loop waits; more could hold every thread of a small host.
_AHEAD = 2
Thing = TypeVar("Thing")


class Window:
    """Such steps. Metrics stay on the devices until it is closed."""

    def __init__(self, last: int) -> None:
        self.first = last + 1
        self.last = last
        self.metrics: list[objectives.Metrics] = []
        self.means: dict[str, float] = {}  # from `close` on
        self.waited = 0.0
        self.seconds = 0.0
        self.began = time.perf_counter()

    def waiting(self, get: Callable[[], Thing]) -> Thing:
        """What `get` returns; the time is counted as waiting for the input pipeline."""
        began = time.perf_counter()
        found = get()
        self.waited += time.perf_counter() - began
        return found

    def add(self, metrics: objectives.Metrics) -> None:
        """Counts a step, and waits for an earlier one if too many are queued."""
        self.metrics.append(metrics)
        self.last += 1
        if len(self.metrics) > _AHEAD:
            jax.block_until_ready(self.metrics[-1 - _AHEAD])

    def close(self) -> list[float]:
        """Takes the means over the steps, and the share of waiting; the loss of each."""
        metrics = jax.device_get(self.metrics)
        self.seconds = time.perf_counter() - self.began
        together = jax.tree.map(lambda *values: np.array(values, np.float64), *metrics)
        self.means = {key: float(values.mean()) for key, values in together.items()}
        self.means["waiting"] = self.waited / self.seconds
        return together["loss"].tolist()
