"""Does a map depend on what the network learnt? Relevance-CAM's figure 8 by Adebayo's measures.

The network's parameters are replaced by untrained ones group by group, from the logits down. Every
photo is explained after each step for the class that the trained network predicts, and compared
with its explanation by that network. Untrained parameters come from the architecture's own
initialisers, and are the trained ones with each array's entries permuted where there are none;
batch statistics are kept, as in the original. A method that still agrees when the whole network is
replaced explains the photo, not the network.

    python -m eval.sanity --model tiny20 --data tiny20 -n 200 --output runs/sanity
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import tyro

from eval import models, variants
from eval.command import command
from eval.common import Protocol, Settings, Values, begin, load_photos
from eval.parallel import replicate
from eval.record import table
from eval.settings import BEFORE
from jaxcam import metrics

_KEPT = re.compile(r"^batch_stats\.|\.running_(mean|var)$|\.num_batches_tracked$")
_HOG_CELL = 16
PROTOCOL = Protocol("sanity")


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


def groups(network: models.Network) -> dict[str, list[str]]:
    """The trainable parameters of a network: names by module, the module used last first."""
    images = jax.ShapeDtypeStruct((1, network.size, network.size, 3), jnp.float32)
    program = jax.make_jaxpr(network.apply)(network.params, images).jaxpr
    paths = [_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(network.params)[0]]
    uses: dict[Any, int] = {}
    for number, equation in enumerate(program.eqns):
        for variable in equation.invars:
            if not hasattr(variable, "val"):  # no literal
                uses.setdefault(variable, number)
    found: dict[str, list[str]] = {}
    order = sorted(range(len(paths)), key=lambda i: uses.get(program.invars[i], -1), reverse=True)
    for path in (paths[i] for i in order):
        if not _KEPT.search(path):
            found.setdefault(_module(path), []).append(path)
    return found


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _module(path: str) -> str:
    return re.split(r"[./]", path.removeprefix("params."))[0]


def chosen_groups(network: models.Network, names: tuple[str, ...]) -> dict[str, list[str]]:
    """Parameter names by group: all modules, or the groups that are asked for.

    Raises:
        ValueError: a group, or a network, without a trainable parameter.
    """
    everything = groups(network)
    if not everything:
        raise ValueError(
            "model: got a network without parameters, expected one with some to replace"
        )
    if not names:
        return everything
    paths = [path for members in everything.values() for path in members]
    inside = lambda path, name: re.match(rf"(params\.)?{re.escape(name)}([./]|$)", path)
    found = {name: [path for path in paths if inside(path, name)] for name in names}
    for name, members in found.items():
        if not members:
            raise ValueError(
                f"groups: got {name!r}, expected the first parts of names such as "
                f"{', '.join(everything)}"
            )
    return found


def resolved(network: models.Network, settings: SanitySettings) -> SanitySettings:
    """The settings without `auto`.

    Raises:
        ValueError: initialisers are asked for where there are none.
    """
    if settings.untrained == "initialised" and network.init is None:
        raise ValueError(
            f"untrained: got 'initialised', expected 'shuffled': {settings.model} has no "
            "initialisers"
        )
    usual = "shuffled" if network.init is None else "initialised"
    return (
        dataclasses.replace(settings, untrained=usual) if settings.untrained == "auto" else settings
    )


def untrained(network: models.Network, settings: SanitySettings) -> Any:
    """Untrained parameters of the network, with resolved settings."""
    key = jax.random.key(settings.seed)
    return (
        network.init(key)
        if settings.untrained == "initialised"
        else metrics.shuffled(network.params, key)
    )


def randomised(
    network: models.Network, fresh: Any, settings: SanitySettings
) -> Iterator[variants.Variant]:
    """The network with more and more of it replaced by untrained parameters."""
    rules = {
        name: lambda path, members=frozenset(members): path in members
        for name, members in chosen_groups(network, settings.groups).items()
    }
    for name, params in metrics.cascade(
        network.params, rules, fresh, independent=settings.independent
    ):
        yield variants.Variant(name, replicate(params), {})


def compare(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Spearman of maps and of magnitudes, SSIM, and HOG where the photo is large enough."""
    first, second = batch["first"], batch["second"]
    values = {
        "spearman_abs": metrics.spearman(first, second, absolute=True),
        "spearman": metrics.spearman(first, second),
        "ssim": metrics.ssim(first, second),
    }
    if min(first.shape[1:]) >= 3 * _HOG_CELL:
        values["hog"] = metrics.hog_similarity(first, second, cell=_HOG_CELL)
    return values


def run(settings: SanitySettings) -> dict[str, Any]:
    """Carries the sanity check out; returns its record."""
    network = begin(settings)
    settings = resolved(network, settings)
    chosen_groups(network, settings.groups)
    fresh = untrained(network, settings)
    photos = load_photos(settings, PROTOCOL, network)

    def replaced(params: Any, batch: Values) -> Iterator[variants.Variant]:
        del params, batch
        return randomised(network, fresh, settings)

    return variants.run(settings, PROTOCOL, network, photos, replaced, compare)


def main(settings: SanitySettings) -> None:
    """The sanity check."""
    record = run(settings)
    names = {
        name: None
        for by_layer in record["results"].values()
        for found in by_layer.values()
        for name in found
    }
    print(table(record, [name for name in names if name.endswith(("/spearman_abs", "/ssim"))]))


if __name__ == "__main__":
    command(main, SanitySettings, __doc__)
