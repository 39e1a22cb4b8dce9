"""Why results of frameworks differ, and up to what difference a reason holds.

Bounds of float32 are twice or so what was seen of jaxcam itself: its maps in float32 beside those
in float64, by `python -m eval rounding`, at the weights and images of the committed runs.
"""

from typing import NamedTuple

UNEXPLAINED = "UNEXPLAINED"


class Reason(NamedTuple):
    """Why a result differs from ours.

    Args:
        text: as a table has it.
        most: the largest difference that it explains.
    """

    text: str
    most: float


_EDGES = "float32: units at the edge of their ReLU fall to the other side"
_BATCH = "float32: batch norm over the few values of a small batch"
_STABILIZER = "its 1e-6 in a divisor: with 1e-9 they differ by 1e-6"
ANY = 2.0  # two maps scaled to a largest value of 1 differ by no more
# Of a call, whoever makes it.
REASONS: dict[str, Reason] = {
    "gradient": Reason(_EDGES, 0.15),
    "grad_cam": Reason(_EDGES, 0.06),
    "lrp_epsilon_plus_flat": Reason(_EDGES, 4e-3),
    "lrp_epsilon": Reason(f"{_EDGES}, as in the gradient", 1e-2),
    "integrated_gradients": Reason(_EDGES, 0.04),
    "relevance_cam": Reason("float32: relevance of both signs cancels in the sums", 1e-3),
    "training": Reason(_BATCH, 1e-3),
    # jaxcam-without-ynnpack is as far from float64 at layer1 of a ResNet-18, batch 8: 7.1e-2
    "fostering": Reason(f"{_EDGES}, and batch norms over the few values of a small batch", 0.1),
}
# Of one framework's, before those.
REASONS_OF: dict[tuple[str, str], Reason] = {
    ("score_cam", "torchcam"): Reason(
        "there a channel is scaled before it is enlarged, here after", 1e-2
    ),
    ("lrp_epsilon_alpha2_beta1", "zennit"): Reason(_STABILIZER, 1e-3),
    ("lrp_epsilon_gamma_box", "zennit"): Reason(
        "another rule, of any difference: there the sign of a unit counts the folded mean of its "
        "batch norm, here not",
        ANY,
    ),
}


def reason(call: str, framework: str) -> Reason | None:
    """Why a framework's result may differ from ours, if that is known."""
    return REASONS_OF.get((call, framework)) or REASONS.get(call)


def explained(call: str, framework: str, difference: float) -> bool:
    """Whether a difference, NaN of results of two shapes, is within what is known."""
    known = reason(call, framework)
    return known is not None and difference <= known.most


def text(call: str, framework: str, difference: float) -> str:
    """The difference with its reason, or that it has none."""
    shown = f"{difference:.0e}"
    known = reason(call, framework)
    if known is None:
        return f"{shown}: {UNEXPLAINED}, no reason is known"
    if not explained(call, framework, difference):
        return f"{shown}: {UNEXPLAINED}, more than the {known.most:.0e} of: {known.text}"
    return f"{shown}: {known.text}"
