"""What is explained: targets, given in any of their forms, become scores; and confidence.

`targets` are None (the arg-max class), an int, `[B]` or `[B, K]` classes, or a function of what the
model returns -> scores `[B]`; the named ones (`difference(a, b)`, `region(mask, c)`, ...) are such
functions. Confidence is what metrics, perturbation methods and the command line show of logits,
`probabilities`: one notion for all of them.
"""

from jaxcam.targets._confidence import ACTIVATIONS as ACTIVATIONS
from jaxcam.targets._confidence import Activation as Activation
from jaxcam.targets._confidence import confidence as confidence
from jaxcam.targets._confidence import probabilities as probabilities
from jaxcam.targets._contrast import finer as finer
from jaxcam.targets._contrast import residual_softmax as residual_softmax
from jaxcam.targets._named import binary as binary
from jaxcam.targets._named import box as box
from jaxcam.targets._named import difference as difference
from jaxcam.targets._named import log_odds as log_odds
from jaxcam.targets._named import log_probability as log_probability
from jaxcam.targets._named import logit as logit
from jaxcam.targets._named import probability as probability
from jaxcam.targets._named import region as region
from jaxcam.targets._named import similarity as similarity
from jaxcam.targets._scores import Targets as Targets
from jaxcam.targets._scores import check as check
from jaxcam.targets._scores import concrete as concrete
from jaxcam.targets._scores import resolve as resolve
from jaxcam.targets._scores import scores as scores

__all__ = [
    "ACTIVATIONS",
    "binary",
    "box",
    "check",
    "confidence",
    "difference",
    "finer",
    "log_odds",
    "log_probability",
    "logit",
    "probabilities",
    "probability",
    "region",
    "residual_softmax",
    "resolve",
    "scores",
    "similarity",
]
