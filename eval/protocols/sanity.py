"""Does a map depend on what the network learnt? Relevance-CAM's figure 8 by Adebayo's measures.

The network's parameters are replaced by untrained ones group by group, from the logits down. Every
photo is explained after each step for the class that the trained network predicts, and compared
with its explanation by that network. Untrained parameters come from the architecture's own
initialisers, and are the trained ones with each array's entries permuted where there are none;
batch statistics are kept, as in the original. A method that still agrees when the whole network is
replaced explains the photo, not the network.

    python -m eval sanity --model tiny20 --data tiny20 -n 200 --output runs/sanity
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import jax
import tyro

from eval.run.parts import Values
from eval.run.plan import Plan
from eval.run.protocol import Change, Changes, Explained, Metric, Protocol
from eval.run.settings import BEFORE, Settings
from jaxcam import metrics
from jaxcam._ground.devices import replicate
from jaxcam._ground.errors import ArgumentError
from jaxcam.classifier import Classifier

_KEPT = re.compile(r"^batch_stats\.|\.running_(mean|var)$|\.num_batches_tracked$")
_HOG_CELL = 16


@dataclasses.dataclass(frozen=True)
class SanitySettings(Settings):
    """What a run of the sanity check explains, and what it replaces.

    Args:
        n: photos, drawn by seed.
        groups: parameter groups in the order of replacement, as the first parts of their names;
            none means all, from the logits to the first layer.
        independent: whether only one group at a time is replaced.
        untrained: where untrained parameters come from: the architecture's initialisers, or the
            trained parameters, shuffled; auto takes the first where it is there. The record says
            which.
    """

    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 200
    groups: tuple[str, ...] = ()
    independent: bool = False
    untrained: Literal["auto", "initialised", "shuffled"] = dataclasses.field(
        default="auto", metadata={BEFORE: "shuffled"}
    )


# What is replaced -----------------------------------------------------


def groups(network: Classifier) -> dict[str, list[str]]:
    """The trainable parameters of a network: names by module, the module used last first."""
    program = jax.make_jaxpr(network.apply)(network.params, network.image()).jaxpr
    uses: dict[Any, int] = {}
    for number, equation in enumerate(program.eqns):
        for variable in equation.invars:
            if not hasattr(variable, "val"):  # no literal
                uses.setdefault(variable, number)
    # Parameters come first among the program's arguments.
    used = []
    for (path, _), variable in zip(
        jax.tree.leaves_with_path(network.params), program.invars, strict=False
    ):
        used.append((uses.get(variable, -1), _name(path)))
    found: dict[str, list[str]] = {}
    for _, path in sorted(used, key=lambda pair: pair[0], reverse=True):
        if not _KEPT.search(path):
            found.setdefault(_module(path), []).append(path)
    return found


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _module(path: str) -> str:
    return re.split(r"[./]", path.removeprefix("params."))[0]


def chosen_groups(network: Classifier, names: tuple[str, ...]) -> dict[str, list[str]]:
    """Parameter names by group: all modules, or the groups that are asked for.

    Raises:
        ValueError: a group, or a network, without a trainable parameter.
    """
    everything = groups(network)
    if not everything:
        raise ArgumentError("model", "a network without parameters", "one with some to replace")
    if not names:
        return everything
    found = {}
    for name in names:
        inside = re.compile(rf"(params\.)?{re.escape(name)}([./]|$)")
        found[name] = []
        for members in everything.values():
            found[name] += filter(inside.match, members)
        if not found[name]:
            expected = f"the first parts of names such as {', '.join(everything)}"
            raise ArgumentError("groups", repr(name), expected)
    return found


def settle(settings: SanitySettings, network: Classifier) -> SanitySettings:
    """The settings without `auto`.

    Raises:
        ValueError: initialisers are asked for where there are none; no such group.
    """
    chosen_groups(network, settings.groups)
    if settings.untrained == "initialised" and network.init is None:
        expected = f"'shuffled': {network.name} has no initialisers"
        raise ArgumentError("untrained", "'initialised'", expected)
    if settings.untrained != "auto":
        return settings
    if network.init is None:
        return dataclasses.replace(settings, untrained="shuffled")
    return dataclasses.replace(settings, untrained="initialised")


def untrained(network: Classifier, settings: SanitySettings) -> Any:
    """Untrained parameters of the network, with settled settings."""
    key = jax.random.key(settings.seed)
    if settings.untrained == "initialised" and network.init is not None:
        return network.init(key)
    return metrics.shuffled(network.params, key)


def steps(network: Classifier, fresh: Any, settings: SanitySettings) -> Iterator[tuple[str, Any]]:
    """The network's parameters with more and more of them replaced, by the group's name."""
    rules = {}
    for name, members in chosen_groups(network, settings.groups).items():
        rules[name] = _among(members)
    return metrics.cascade(network.params, rules, fresh, independent=settings.independent)


def _among(members: list[str]) -> Callable[[str], bool]:
    known = frozenset(members)
    return lambda path: path in known


def replaced(plan: Plan) -> Changes:
    """The photos explained after each step."""
    fresh = untrained(plan.network, plan.settings)

    def changes(batch: Values, first: Values) -> Iterator[Change]:
        del batch, first
        for name, params in steps(plan.network, fresh, plan.settings):
            yield Change(name, params=replicate(params))

    return changes


# What is compared -----------------------------------------------------


def measure(case: Explained) -> dict[str, jax.Array]:
    """Spearman of maps and of magnitudes, SSIM, and HOG where the photo is large enough."""
    first = case.maps
    second = case.again
    values = {
        "spearman_abs": metrics.spearman(first, second, absolute=True),
        "spearman": metrics.spearman(first, second),
        "ssim": metrics.ssim(first, second),
    }
    if min(first.shape[1:]) >= 3 * _HOG_CELL:
        values["hog"] = metrics.hog_similarity(first, second, cell=_HOG_CELL)
    return values


PROTOCOL = Protocol(
    "sanity",
    measure,
    metrics={
        "spearman_abs": Metric("Spearman of the maps' magnitudes"),
        "ssim": Metric("SSIM of the maps"),
        "spearman": Metric("Spearman of the maps", shown=False),
        "hog": Metric("Spearman of the maps' HOG", shown=False),
    },
    settings=SanitySettings,
    stored=False,
    settle=settle,
    again=replaced,
)
