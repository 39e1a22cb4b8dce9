"""Scans written out: a stack of blocks that one equation stands for becomes its blocks.

One equation of a scan's body stands for many activations, so nothing in it can be named, tapped or
given relevance. Written out step by step the same program has an equation for each: the k-th use
of a name is the layer `name@k`, as in a Python loop.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcam._program import trace

LONGEST = 128  # steps: a longer scan is no stack of layers


def unrolled(
    program: trace.Program, images: Any, wanted: Callable[[Any], bool] = lambda eqn: True
) -> trace.Program:
    """A program whose scans are written out.

    Args:
        program: a traced model.
        images: what it was traced with.
        wanted: which scans, by their equations. Those of more than `LONGEST` steps stay.

    Returns:
        A program of the same values; the same one if it has no such scan.
    """
    unroller = _Unroller(wanted)
    if not any(trace.contains(eqn, unroller.chosen) for eqn in program.closed.jaxpr.eqns):
        return program
    closed = jax.make_jaxpr(lambda images: unroller.run(program.closed, [images]))(images)
    return trace.Program(closed, program.shapes)


class _Unroller:
    """Evaluates programs with the chosen scans written out."""

    def __init__(self, wanted: Callable[[Any], bool]) -> None:
        self.wanted = wanted

    def chosen(self, eqn: Any) -> bool:
        """Whether an equation is a scan that is written out."""
        if eqn.primitive.name != "scan" or eqn.params["length"] > LONGEST:
            return False
        return self.wanted(eqn)

    def run(self, closed: Any, args: Sequence) -> list:
        opens = lambda path, eqn: trace.contains(eqn, self.chosen)
        return trace.evaluate(closed, args, self.visit, opens=opens)

    def visit(self, path: trace.Path, eqn: Any, values: list) -> list:
        if self.chosen(eqn):
            return self.steps(eqn, values)
        return trace.bind(eqn, values)

    def steps(self, eqn: Any, values: list) -> list:
        """The results of a scan, step by step."""
        first = eqn.params["num_consts"]
        carries = eqn.params["num_carry"]
        consts = values[:first]
        carry = values[first : first + carries]
        stacked = values[first + carries :]
        order = list(range(eqn.params["length"]))
        if eqn.params["reverse"]:
            order.reverse()
        made: dict[int, list] = {}
        for index in order:
            each = [lax.index_in_dim(values, index, keepdims=False) for values in stacked]
            results = self.run(eqn.params["jaxpr"], [*consts, *carry, *each])
            carry = results[:carries]
            made[index] = results[carries:]
        results = list(carry)
        for number, variable in enumerate(eqn.outvars[carries:]):
            column = [made[index][number] for index in sorted(made)]
            results.append(_stacked(column, variable.aval))
        return results


def _stacked(column: Sequence, aval: Any) -> jax.Array:
    if not column:
        return jnp.zeros(aval.shape, aval.dtype)
    return jnp.stack(column)
