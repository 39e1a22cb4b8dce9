"""Every method at every layer by every measure, on any networks, and the report: one command.

    python -m eval benchmark --output runs/benchmark --networks tiny20 cifar10_resnet56 squeezenet

Each network's maps are made once (`python -m eval explain`) and measured by every protocol that the
data allow. Some explain again: methods of hundreds of forward passes do so in a run of their own,
of fewer photos and with a few others to compare with, `OUTPUT/NETWORK/PROTOCOL_costly`. ARCC is a
run of its own too, of all methods and as few photos as the perturbations have. Each run is
a folder `OUTPUT/NETWORK/PROTOCOL` and a command of its own, printed before it starts and again in
the network's report, `OUTPUT/NETWORK/report`. With `--paper NAME` it is the tables of a paper, its
numbers beside ours, `OUTPUT/NAME/paper.md`: on its networks and photos where they are here, else on
the bundled network and a few photos, which are named as what they are. Started again, finished runs
are skipped and others go on where they stopped; methods that have come since are added.
"""

import dataclasses
import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from eval import programs
from eval.run.protocol import Protocol
from eval.studies import paper
from eval.studies.commands import Run, carry_out
from eval.studies.setups import PAPERS
from eval.subjects.methods import METHODS
from jaxcam._ground.errors import ArgumentError

_OPTIONS = ("rise.num_masks=256", "lime.num_samples=128", "mask.steps=60")  # what two cores can do
# of a CBAM network
_ATTENTION = ("cbam_attention", "stage_attention", "layerwise_grad_cam", "attention_grad_cam")
# hundreds of forward passes a map
_COSTLY = ("score_cam", "ablation_cam", "rise", "lime", "mask", "occlusion")
# Only where they are named: thousands of passes a map; published variants of one paper's table.
_ASKED = (*_ATTENTION, "ss_cam", "is_cam")
_ASKED += ("grad_cam_rest", "grad_cam_plus_plus_rest", "grad_cam_plus_plus_torchcam")
_ASKED += ("random_weights",)
# for each group of parameters, and on each noisy photo
_OFTEN = ("sanity", "sensitivity")
# what these are compared with where there are fewer photos
_BESIDE = ("grad_cam", "relevance_cam", "noise", "centre")


class Plan(NamedTuple):
    """What a network is measured on, and how much of it is affordable."""

    data: str
    photos: int
    played: int  # photos of the games, which cost 56 forward passes a map
    checked: int  # photos of what explains them anew a dozen times: see _OFTEN
    batch: int
    # photos that the costly methods explain again, and those that they explain a dozen times
    costly: int
    costly_checked: int
    boxes: bool = False


PLANS: dict[str, Plan] = {
    "tiny20": Plan("tiny20", 200, 100, 20, 50, 100, 20, boxes=True),
    "cifar10_resnet56": Plan("cifar10_test1000", 200, 100, 20, 50, 100, 20),
    "squeezenet": Plan("imagenet100", 50, 20, 10, 10, 10, 0),  # 20 ms a forward pass
    "efficientnet_lite0": Plan("imagenet100", 50, 50, 10, 5, 10, 0),  # 70 ms
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure.

    Args:
        output: folder of all runs and reports.
        paper: whose tables are made instead: one of relevance_cam, shapley_cam, torchcam, kang,
            schoettl (eval/studies/setups.py).
        networks: names of the table in eval/studies/benchmark.py.
        methods: names of the table in eval/subjects/methods.py; none means all that apply but
            SS-CAM and IS-CAM, of thousands of forward passes a map.
        protocols: none means all that the data allow.
        layers: to explain; none means the ends of the networks' stages.
        options: of methods, as METHOD.OPTION=VALUE, in the place of what two cores can do.
        scale: times as many photos as the table says.
        dry_run: prints the commands and carries none out.
        root: folder of the named data sets and nets; none means that of the variable JAXCAM_DATA.
    """

    output: Path
    paper: str = ""
    networks: tuple[str, ...] = tuple(PLANS)
    methods: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    scale: float = 1.0
    dry_run: bool = False
    root: Path | None = None


PROTOCOLS: dict[str, Protocol] = programs.protocols()
_MAPS = "explain"  # the protocol that makes maps for the others
# Runs of a protocol beside its first one, at the end of their folders' names.
_COSTLIER = "costly"
_ARCC = "arcc"


def runs(settings: Settings) -> Iterator[Run]:
    """The runs in their order: each network's maps, then what measures, then what explains again.

    Raises:
        ValueError: an unknown network, method or protocol.
    """
    _check("networks", settings.networks, PLANS)
    _check("methods", settings.methods, METHODS)
    _check("protocols", settings.protocols, [name for name in PROTOCOLS if name != _MAPS])
    for network in settings.networks:
        names = list(settings.methods) or [name for name in METHODS if name not in _ASKED]
        yield _run(settings, network, PROTOCOLS[_MAPS], names)
        for name, protocol in PROTOCOLS.items():
            if name == _MAPS or (settings.protocols and name not in settings.protocols):
                continue
            if PLANS[network].boxes or not protocol.boxes:
                yield from _runs(settings, network, protocol, names)


def _runs(settings: Settings, network: str, protocol: Protocol, names: list[str]) -> Iterator[Run]:
    costly = []
    cheap = []
    for name in names:
        if name in _COSTLY and protocol.again is not None:
            costly.append(name)
        else:
            cheap.append(name)
    if cheap:
        yield _run(settings, network, protocol, cheap)
    if protocol.name == "adcc":
        yield _run(settings, network, protocol, names, kind=_ARCC)
    if costly and (PLANS[network].costly_checked or protocol.name not in _OFTEN):
        beside = [name for name in _BESIDE if name in cheap]
        yield _run(settings, network, protocol, beside + costly, kind=_COSTLIER)


def _check(name: str, chosen: Sequence[str], known: Collection[str]) -> None:
    if unknown := [each for each in chosen if each not in known]:
        raise ArgumentError(name, ", ".join(unknown), f"any of {', '.join(known)}")


def _run(
    settings: Settings,
    network: str,
    protocol: Protocol,
    names: Sequence[str],
    kind: str = "",
) -> Run:
    folder = settings.output / network
    count = max(2, round(settings.scale * _photos(PLANS[network], protocol, kind)))
    words = ["--model", network, "--data", PLANS[network].data]
    words += ["-n", str(count), "--batch", str(min(PLANS[network].batch, count))]
    words += ["--methods", *names]
    options = _options(settings.options, names)
    if options:
        words += ["--options", *options]
    if settings.layers:
        words += ["--layers", *settings.layers]
    if protocol.stored and protocol.name != _MAPS:
        words += ["--maps", str(folder / _MAPS)]
    if protocol.name == "class_sensitivity":
        words += ["--pairs"]
    if kind == _ARCC:
        words += ["--arcc"]
    if settings.root is not None:
        words += ["--root", str(settings.root)]
    name = "_".join(filter(None, (protocol.name, kind)))
    return Run(network, protocol.name, folder / name, tuple(words))


def _options(asked: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of a run's methods: what is asked for, and ours of which nothing else is said."""
    known = {option.partition("=")[0]: option for option in (*_OPTIONS, *asked)}
    return [option for option in known.values() if option.partition(".")[0] in names]


def _photos(plan: Plan, protocol: Protocol, kind: str) -> int:
    """How many photos a run is of."""
    costly = kind == _COSTLIER
    # 219 forward passes a map where the games have 56; ARCC has the former's imputed photos
    if protocol.name == "perturbation" or kind == _ARCC:
        return max(1, plan.played // 4)
    if protocol.name == "games":
        return plan.played
    if protocol.name in _OFTEN:
        return plan.costly_checked if costly else plan.checked
    return plan.costly if costly else plan.photos


def benchmark(settings: Settings) -> list[Path]:
    """Carries all runs out, each in a process of its own, and writes the reports.

    Returns:
        The paths of the reports, none of a dry run.

    Raises:
        ValueError: an unknown network, method or protocol.
        ChildProcessError: a run failed, and has said why.
    """
    planned = list(runs(settings))
    reports = []
    for network in settings.networks:
        measured = []
        for run in planned:
            if run.network != network:
                continue
            carry_out(run.command, skip=run.finished(), dry=settings.dry_run)
            if run.protocol != _MAPS:
                measured.append(str(run.folder))
        folder = settings.output / network / "report"
        words = shlex.join(["python", "-m", "eval", "report", *measured, "--output", str(folder)])
        carry_out(words, skip=False, dry=settings.dry_run)
        if not settings.dry_run:
            reports.append(folder / "report.md")
    return reports


def main(settings: Settings) -> None:
    """The whole benchmark, or a paper's tables.

    Raises:
        ValueError: as `benchmark`; an unknown paper.
    """
    if settings.paper:
        _check("paper", (settings.paper,), PAPERS)
        wanted = paper.Wanted(
            settings.output,
            settings.paper,
            settings.methods,
            settings.scale,
            settings.dry_run,
            settings.root,
        )
        print(paper.study(wanted))
        return
    for report in benchmark(settings):
        print(report)
