"""A run: every method explains the photos that count, in groups, and what is measured is recorded.

A run's folder holds `settings.json`, one `parts/METHOD.npz` of per-example values for each finished
method (groups of photos in `parts/METHOD/` for one under way), and at the end `values.npz` (all of
them, `METHOD/LAYER/METRIC`) and `NAME.json`: command, versions, settings, seed, means and 95 %
bootstrap intervals. Started again with the same settings, a run takes up after the last finished
group. Several processes share one folder and the photos; each decodes its own, group by group.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from eval.run import cases, parts
from eval.run.cases import Cases
from eval.run.parts import Values
from eval.run.plan import Plan, make
from eval.run.protocol import Protocol
from eval.run.record import record, save_npz, write_json
from eval.run.work import Bench, Work
from eval.subjects import applies
from jaxcam._ground.progress import told
from jaxcam._ground.stops import noticed

_SKIPPED = "skipped/"  # in a part: why a layer has no values


def run(settings: Any, protocol: Protocol) -> dict[str, Any]:
    """Carries a protocol out.

    Args:
        settings: of the protocol's kind.
        protocol: what is measured.

    Returns:
        The record, as written to `settings.output / f"{protocol.name}.json"`.

    Raises:
        FileNotFoundError: no such data or model.
        ValueError: an unknown method or layer; data without the boxes or labels that are needed; a
            folder that holds another run, or in which one is at work.
        Stopped: SIGTERM; the groups of photos that are done are stored.
    """
    start = time.time()
    plan = make(settings, protocol)
    with plan.folder.held(), noticed("ending after this group of photos") as notice:
        plan = dataclasses.replace(plan, notice=notice)
        return _carried_out(plan, start)


def _carried_out(plan: Plan, start: float) -> dict[str, Any]:
    """What a run does in its folder."""
    plan.folder.claim()
    bench = Bench(plan)
    found = cases.find(plan, bench.params)
    earlier = []
    parts.remove_damaged(map(plan.folder.part, plan.methods))
    for name in told(plan.methods, plan.protocol.name, "method", len(plan.methods)):
        if plan.folder.part(name).exists():
            earlier.append(name)
        else:
            _store(bench, name, found)
    return _finish(plan, found, start, earlier)


def _store(bench: Bench, name: str, found: Cases) -> None:
    """A method's part of the folder."""
    plan = bench.plan
    if plan.maps is None:
        layers, skipped = applies.usable(plan.methods[name], plan.explainer, plan.layers)
    else:
        layers, skipped = plan.maps.places(name, plan.layers)
    why = {f"{_SKIPPED}{layer}": np.array(reason) for layer, reason in skipped.items()}
    if not layers:
        cases.keep_part(plan, name, len(found), None, why)
        return
    work = Work(bench, name, layers)

    def compute(groups: Iterable[slice]) -> Iterator[Values]:
        return work.values(parts.ahead(found.batch, groups))

    cases.keep_part(plan, name, len(found), compute, why)


def _finish(plan: Plan, found: Cases, start: float, earlier: list[str]) -> dict[str, Any]:
    """Gathers the parts and writes the record; process 0 writes for all."""
    values, skipped = gather(plan)
    settings = dict(plan.folder.settings)
    recorded = record(settings, values, found.about, start)
    recorded["unreadable"] = list(found.unreadable)
    recorded |= {"skipped": skipped, "earlier": earlier, **plan.protocol.finish(values)}
    if jax.process_index() == 0:
        path = plan.folder.path
        save_npz(path / "values.npz", itertools.chain(found.about.items(), values.items()))
        write_json(path / f"{plan.protocol.name}.json", recorded)
    return recorded


def gather(plan: Plan) -> tuple[Mapping[str, np.ndarray], dict[str, str]]:
    """The finished methods: values by `METHOD/LAYER/METRIC`, skips' reasons by `METHOD/LAYER`.

    Each array is read when it is asked for.
    """
    places = {}
    skipped = {}
    for name in plan.methods:
        path = plan.folder.part(name)
        for key in parts.names_in([path]):
            if key.startswith(_SKIPPED):
                layer = key.removeprefix(_SKIPPED)
                skipped[f"{name}/{layer}"] = str(parts.load_array(path, key))
            else:
                places[f"{name}/{key}"] = (path, key)
    return parts.Stored(places), skipped
