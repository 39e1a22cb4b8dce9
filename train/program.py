"""The command line that all training programs share."""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

import configs
from configs import Config
from jaxcam._ground import watch
from jaxcam._ground.devices import join
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.files import homed
from jaxcam._ground.stops import CODE, INTERRUPTED, Stopped
from train import fields, loop, objectives
from train.history import OPTION

_ECHO = "Event loop is closed"


def main(
    name: str,
    about: str | None,
    factory: objectives.Factory[Config],
    kind: type[Config],
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs `python -m NAME ...`.

    Its exit status is 0; 1 and a line for what is wrong; 143 after SIGTERM, when the state has been
    saved after the step under way (a second SIGTERM ends at once); 130 after Ctrl-C.

    Args:
        name: of the program.
        about: its docstring, whose first line the help says.
        factory: config and classes -> what is minimised.
        kind: of the configs that it takes.
        arguments: of the command line; None takes the process's.
    """
    words = sys.argv[1:] if arguments is None else arguments
    chosen = _parser(name, about, kind).parse_args(homed(words))
    # Orbax's threads log what they then raise: 300 lines of a full disk.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    sys.unraisablehook = _without_echoes
    try:
        if chosen.distributed is not None:
            join(chosen.distributed)
        config = configs.override(configs.load(chosen.config), chosen.set)
        if not isinstance(config, kind):
            raise ArgumentError(
                "--config", f"{chosen.config}, a {type(config).__name__}", f"a {kind.__name__}"
            )
        _dispatch(config, factory, chosen)
    except (ValueError, OSError, FloatingPointError) as error:
        watch.failed(error)
        watch.fail(f"{name}: {' '.join(str(error).split())}")
    except RuntimeError as error:
        watch.failed(error)
        raise
    except Stopped as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        sys.exit(CODE)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; --resume goes on after the latest checkpoint", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _without_echoes(unraisable: Any) -> None:
    """Says what nobody can catch, but not what TensorStore's threads say after a full disk."""
    if _ECHO not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def _parser(name: str, about: str | None, kind: type[Config]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        f"python -m {name}",
        description=_first_line(about),
        epilog=f"fields of a config, which --set replaces:\n{fields.listing(kind)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", required=True, help="a Python file that defines `config`: configs/NAME.py"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="replace fields, see below",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the latest checkpoint in the workdir"
    )
    parser.add_argument(
        OPTION,
        action="store_true",
        help=(
            "with --resume: go on though the config is not what the run was trained with; the "
            "report says what has changed, and after which step"
        ),
    )
    parser.add_argument(
        "--evaluate", action="store_true", help="only print the accuracy of the exported network"
    )
    parser.add_argument(
        "--export-only", action="store_true", help="only export the latest checkpoint"
    )
    parser.add_argument(
        "--distributed",
        nargs="*",
        metavar="",
        help=(
            "one of several processes, each started with the same command and folders: nothing "
            "more on a TPU pod, under Slurm, Open MPI or Kubernetes, or with "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in the environment; "
            "else HOST:PORT of process 0, the number of processes and own index"
        ),
    )
    return parser


def _first_line(text: str | None) -> str:
    """Python started with -OO has no docstrings."""
    return (text or "").partition("\n")[0]


def _dispatch(
    config: Config, factory: objectives.Factory[Config], chosen: argparse.Namespace
) -> None:
    if chosen.evaluate:
        loop.evaluate(config, loop.data(config, "val"))
    elif chosen.export_only:
        loop.export(config, factory)
    else:
        loop.fit(config, factory, chosen.resume, allow_changes=chosen.allow_changes)
