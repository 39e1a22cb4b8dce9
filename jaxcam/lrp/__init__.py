"""Layer-wise relevance propagation: rules, composites, and the transformation that applies them."""

from jaxcam.lrp import rules as rules
from jaxcam.lrp._conservation import Conservation as Conservation
from jaxcam.lrp._conservation import conservation as conservation
from jaxcam.lrp._initial import initial as initial
from jaxcam.lrp._propagation import Relevance as Relevance
from jaxcam.lrp._propagation import propagate as propagate
from jaxcam.lrp._propagation import relevance as relevance
from jaxcam.lrp._transform import transform as transform
from jaxcam.lrp.composites import COMPOSITES as COMPOSITES
from jaxcam.lrp.composites import Composite as Composite
from jaxcam.lrp.composites import Place as Place
from jaxcam.lrp.composites import attnlrp as attnlrp
from jaxcam.lrp.composites import epsilon as epsilon
from jaxcam.lrp.composites import epsilon_alpha2_beta1 as epsilon_alpha2_beta1
from jaxcam.lrp.composites import epsilon_gamma_box as epsilon_gamma_box
from jaxcam.lrp.composites import epsilon_plus_flat as epsilon_plus_flat
from jaxcam.lrp.composites import mobile as mobile
from jaxcam.lrp.composites import z_plus as z_plus

__all__ = [
    "COMPOSITES",
    "Composite",
    "Conservation",
    "Place",
    "Relevance",
    "attnlrp",
    "conservation",
    "epsilon",
    "epsilon_alpha2_beta1",
    "epsilon_gamma_box",
    "epsilon_plus_flat",
    "initial",
    "mobile",
    "propagate",
    "relevance",
    "rules",
    "transform",
    "z_plus",
]
