"""Every method at every layer by every measure, on any networks, and the report: one command.

    python -m eval benchmark --output runs/benchmark --networks tiny20 cifar10_resnet56 squeezenet

Each network's maps are made once (`python -m eval explain`) and measured by every protocol that the
data allow. Some explain again: methods of hundreds of forward passes do so in a run of their own,
of fewer photos and with a few others to compare with, `OUTPUT/NETWORK/PROTOCOL_costly`. SS-CAM and
IS-CAM, of thousands, have fewer photos and runs of their own everywhere,
`OUTPUT/NETWORK/PROTOCOL_dear`, and none of what explains a dozen times. ARCC is a run of
its own too, of all methods and as few photos as the perturbations have. Each run is a folder
`OUTPUT/NETWORK/PROTOCOL` and a command of its own, printed before it starts and again in the
network's report, `OUTPUT/NETWORK/report`. With `--paper NAME` it is the tables of a paper, its
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
from eval.run.settings import Settings as Common
from eval.studies import paper
from eval.studies.commands import Run, carry_out
from eval.studies.setups import PAPERS
from eval.subjects import smoothed
from eval.subjects.methods import COSTLY, DEAR, METHODS, OF_TRANSFORMERS
from jaxcam._ground.errors import ArgumentError

_OPTIONS = ("rise.num_masks=256", "lime.num_samples=128", "mask.steps=60")  # what two cores can do
# of a CBAM network
_ATTENTION = ("cbam_attention", "stage_attention", "layerwise_grad_cam", "attention_grad_cam")
# only where they are named: published variants of one paper's table, and what smooths others
_ASKED = (*_ATTENTION, "grad_cam_rest", "grad_cam_plus_plus_rest", *smoothed.ROWS)
_ASKED += ("grad_cam_plus_plus_torchcam", "random_weights", *OF_TRANSFORMERS)
_ALL = "all"  # names them too
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
    perturbed: int = 0  # photos of the perturbations and of ARCC; 0: a quarter of the games'
    dear: int = 0  # photos that the dear methods explain; 0: they are left out unless named
    dear_again: int = 0  # and those that they explain again


PLANS: dict[str, Plan] = {
    "tiny20": Plan("tiny20", 200, 100, 20, 50, 100, 20, boxes=True),
    "cifar10_resnet56": Plan("cifar10_test1000", 200, 100, 20, 50, 100, 20),
    "tiny20_vit": Plan("tiny20", 100, 50, 10, 50, 10, 0, boxes=True),  # a transformer
    "squeezenet": Plan("imagenet100", 50, 20, 10, 10, 10, 0),  # 20 ms a forward pass
    "efficientnet_lite0": Plan("imagenet100", 50, 50, 10, 5, 10, 0),  # 11 ms
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure.

    Args:
        output: folder of all runs and reports.
        paper: whose tables are made instead: one of relevance_cam, shapley_cam, torchcam, kang,
            schoettl (eval/studies/setups.py).
        networks: names of the table in eval/studies/benchmark.py.
        methods: names of the table in eval/subjects/methods.py; none means all but published
            variants and, where a network's plan has no photos for them, SS-CAM and IS-CAM; "all"
            means the whole table: the report says what does not apply.
        protocols: none means all that the data allow.
        layers: to explain; none means the ends of the networks' stages.
        options: of methods, as METHOD.OPTION=VALUE, in the place of what two cores can do.
        settings: of protocols, as PROTOCOL.NAME=VALUE: games.variant=rise_coarse.
        photos: how many, in the place of the table's, as KIND=NUMBER. Kinds: photos, of most
            protocols; played, of the games; perturbed, of the perturbations and ARCC; checked, of
            what explains a dozen times (sanity, sensitivity); costly and costly_checked, of methods
            of hundreds of forward passes where they explain again, and a dozen times; dear and
            dear_again, of those of thousands; batch, at a time. 0 of what is costly or dear: no
            such run.
        scale: times as many photos as that.
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
    settings: tuple[str, ...] = ()
    photos: tuple[str, ...] = ()
    scale: float = 1.0
    dry_run: bool = False
    root: Path | None = None


PROTOCOLS: dict[str, Protocol] = programs.protocols()
_MAPS = "explain"  # the protocol that makes maps for the others
# Runs of a protocol beside its first one, at the end of their folders' names.
_ARCC = "_arcc"
_COSTLIER = "_costly"
_DEARER = "_dear"


def runs(settings: Settings) -> Iterator[Run]:
    """The runs in their order: each network's maps, then what measures, then what explains again.

    Raises:
        ValueError: an unknown network, method or protocol; photos or settings that are none.
    """
    _check("networks", settings.networks, PLANS)
    if settings.methods != (_ALL,):
        _check("methods", settings.methods, METHODS)
    _check("protocols", settings.protocols, [name for name in PROTOCOLS if name != _MAPS])
    words = _settings_of(settings.settings)
    for network in settings.networks:
        plan = _planned(PLANS[network], settings.photos)
        for protocol in PROTOCOLS.values():
            wanted = not settings.protocols or protocol.name in (_MAPS, *settings.protocols)
            if wanted and (plan.boxes or not protocol.boxes):
                for tier in _tiers(protocol, plan, _names(settings, plan)):
                    yield _run(settings, network, protocol, tier, words.get(protocol.name, []))


def _check(name: str, chosen: Sequence[str], known: Collection[str]) -> None:
    if unknown := [each for each in chosen if each not in known]:
        raise ArgumentError(name, ", ".join(unknown), f"any of {', '.join(known)}")


def _names(settings: Settings, plan: Plan) -> list[str]:
    """The methods of a network's runs."""
    if settings.methods == (_ALL,):
        return list(METHODS)
    if settings.methods:
        return list(settings.methods)
    left = {*_ASKED}
    if not plan.dear:
        left.update(DEAR)
    return [name for name in METHODS if name not in left]


def _planned(plan: Plan, photos: Sequence[str]) -> Plan:
    """A plan with what is asked for in its place.

    Raises:
        ValueError: no number of photos of the plan's kinds.
    """
    kinds = [name for name in Plan._fields if name not in ("data", "boxes")]
    for each in photos:
        name, _, number = each.partition("=")
        if name not in kinds or not number.isdecimal():
            expected = f"KIND=NUMBER, a kind of {', '.join(kinds)}"
            raise ArgumentError("photos", repr(each), expected)
        plan = plan._replace(**{name: int(number)})
    return plan


def _settings_of(asked: Sequence[str]) -> dict[str, list[str]]:
    """The words of each protocol's command for PROTOCOL.NAME=VALUE.

    Raises:
        ValueError: no setting of a protocol that the benchmark leaves free.
    """
    found: dict[str, list[str]] = {}
    for each in asked:
        place, equals, value = each.partition("=")
        protocol, _, name = place.partition(".")
        if protocol not in PROTOCOLS or not equals:
            expected = f"PROTOCOL.NAME=VALUE; the protocols are {', '.join(PROTOCOLS)}"
            raise ArgumentError("settings", repr(each), expected)
        free = _free(PROTOCOLS[protocol])
        if name not in free:
            expected = f"PROTOCOL.NAME=VALUE; {protocol} has {', '.join(free) or 'none'}"
            raise ArgumentError("settings", repr(each), expected)
        found.setdefault(protocol, []).extend([f"--{name}", value])
    return found


def _free(protocol: Protocol) -> list[str]:
    """The settings of its own that the benchmark does not choose."""
    common = {field.name for field in dataclasses.fields(Common)}
    found = []
    for field in dataclasses.fields(protocol.settings):
        if field.name not in common and field.type is not bool and field.type != "bool":
            found.append(field.name)
    return found


# Methods by what they cost ---------------------------------------------


class Tier(NamedTuple):
    """The methods of a run: the end of its folder's name, how many photos, which methods."""

    suffix: str
    count: int
    names: list[str]

    @property
    def maps(self) -> str:
        """The folder's name of the run that makes their maps."""
        if self.suffix == _DEARER:
            return f"{_MAPS}{_DEARER}"
        return _MAPS


def _tiers(protocol: Protocol, plan: Plan, names: Sequence[str]) -> Iterator[Tier]:
    """The runs of a protocol that have photos: the cheap methods', the costly ones', the dear."""
    cheap, costly, dear = _by_cost(protocol, plan, names)
    beside = [name for name in _BESIDE if name in cheap]
    if cheap:
        yield Tier("", _photos(plan, protocol), cheap)
    if protocol.name == "adcc" and cheap + costly:
        yield Tier(_ARCC, _perturbed(plan), cheap + costly)
    few = plan.costly
    fewer = plan.dear_again
    if protocol.again is None:
        fewer = plan.dear
    if protocol.name in _OFTEN:
        few = plan.costly_checked
        fewer = 0
    if costly and few:
        yield Tier(_COSTLIER, few, beside + costly)
    if dear and fewer:
        yield Tier(_DEARER, fewer, beside + dear)


def _by_cost(
    protocol: Protocol, plan: Plan, names: Sequence[str]
) -> tuple[list[str], list[str], list[str]]:
    """Methods that a protocol takes together, the costly ones of one that explains again, dear."""
    cheap = []
    costly = []
    dear = []
    for name in names:
        if name in DEAR and plan.dear:
            dear.append(name)
        elif name in COSTLY and protocol.again is not None:
            costly.append(name)
        else:
            cheap.append(name)
    return cheap, costly, dear


def _photos(plan: Plan, protocol: Protocol) -> int:
    """How many photos the cheap methods explain."""
    if protocol.name == "perturbation":
        return _perturbed(plan)
    if protocol.name == "games":
        return plan.played
    if protocol.name in _OFTEN:
        return plan.checked
    return plan.photos


def _perturbed(plan: Plan) -> int:
    """Photos of the perturbations, and of ARCC, which has their imputed photos."""
    return plan.perturbed or max(1, plan.played // 4)  # 219 forward passes a map; the games 56


def _run(
    settings: Settings, network: str, protocol: Protocol, tier: Tier, own: Sequence[str]
) -> Run:
    """A run's command; `own` are the words for the protocol's own settings."""
    folder = settings.output / network
    plan = _planned(PLANS[network], settings.photos)
    count = max(2, round(settings.scale * tier.count))
    words = ["--model", network, "--data", plan.data]
    words += ["-n", str(count), "--batch", str(min(plan.batch, count))]
    words += ["--methods", *tier.names]
    options = _options(settings.options, tier.names)
    if options:
        words += ["--options", *options]
    if settings.layers:
        words += ["--layers", *settings.layers]
    words += own
    if protocol.stored and protocol.name != _MAPS:
        words += ["--maps", str(folder / tier.maps)]
    if protocol.name == "class_sensitivity":
        words += ["--pairs"]
    if tier.suffix == _ARCC:
        words += ["--arcc"]
    if settings.root is not None:
        words += ["--root", str(settings.root)]
    return Run(network, protocol.name, folder / f"{protocol.name}{tier.suffix}", tuple(words))


def _options(asked: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of a run's methods: what is asked for, and ours of which nothing else is said."""
    known = {option.partition("=")[0]: option for option in (*_OPTIONS, *asked)}
    return [option for option in known.values() if option.partition(".")[0] in names]


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
