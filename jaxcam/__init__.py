"""Class-activation explanations for JAX: where a model looks, for any function images -> output.

Explainers are functions of this module; `jaxcam.maps`, `jaxcam.metrics`, `jaxcam.lrp`,
`jaxcam.fostering`, `jaxcam.targets`, `jaxcam.blackbox` and `jaxcam.loops` are modules beside them,
`jaxcam.models` and `jaxcam.datasets` are imported when they are asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxcam import blackbox as blackbox
from jaxcam import fostering as fostering
from jaxcam import loops as loops
from jaxcam import lrp as lrp
from jaxcam import maps as maps
from jaxcam import metrics as metrics
from jaxcam import targets as targets
from jaxcam._explainers.activation import fem as fem
from jaxcam._explainers.activation import kpca_cam as kpca_cam
from jaxcam._explainers.attention import attention_grad_cam as attention_grad_cam
from jaxcam._explainers.attention import cbam_attention as cbam_attention
from jaxcam._explainers.attention import layerwise_grad_cam as layerwise_grad_cam
from jaxcam._explainers.factors import Factors as Factors
from jaxcam._explainers.factors import deep_feature_factorization as deep_feature_factorization
from jaxcam._explainers.finer import finer_cam as finer_cam
from jaxcam._explainers.fullgrad import fullgrad as fullgrad
from jaxcam._explainers.fusion import fuse as fuse
from jaxcam._explainers.fusion import refine_cam as refine_cam
from jaxcam._explainers.gradient import cam as cam
from jaxcam._explainers.gradient import eigen_cam as eigen_cam
from jaxcam._explainers.gradient import eigen_grad_cam as eigen_grad_cam
from jaxcam._explainers.gradient import grad_cam as grad_cam
from jaxcam._explainers.gradient import grad_cam_plus_plus as grad_cam_plus_plus
from jaxcam._explainers.gradient import hires_cam as hires_cam
from jaxcam._explainers.gradient import layer_cam as layer_cam
from jaxcam._explainers.gradient import xgrad_cam as xgrad_cam
from jaxcam._explainers.guided import deconvnet as deconvnet
from jaxcam._explainers.guided import guided_backprop as guided_backprop
from jaxcam._explainers.guided import guided_grad_cam as guided_grad_cam
from jaxcam._explainers.lime import lime as lime
from jaxcam._explainers.lime import lime_surrogate as lime_surrogate
from jaxcam._explainers.mask import mask as mask
from jaxcam._explainers.masked_scores import is_cam as is_cam
from jaxcam._explainers.masked_scores import ss_cam as ss_cam
from jaxcam._explainers.perturbation import ablation_cam as ablation_cam
from jaxcam._explainers.perturbation import score_cam as score_cam
from jaxcam._explainers.pixels import gradient as gradient
from jaxcam._explainers.pixels import gradient_input as gradient_input
from jaxcam._explainers.pixels import integrated_gradients as integrated_gradients
from jaxcam._explainers.pixels import occlusion as occlusion
from jaxcam._explainers.relevance import channel_weights as channel_weights
from jaxcam._explainers.relevance import clrp_map as clrp_map
from jaxcam._explainers.relevance import lrp_map as lrp_map
from jaxcam._explainers.relevance import relevance_cam as relevance_cam
from jaxcam._explainers.relevance import top_channels as top_channels
from jaxcam._explainers.rise import rise as rise
from jaxcam._explainers.rollout import attention_rollout as attention_rollout
from jaxcam._explainers.rollout import legrad as legrad
from jaxcam._explainers.shapley import shapley_cam as shapley_cam
from jaxcam._explainers.smooth_plus_plus import (
    smooth_grad_cam_plus_plus as smooth_grad_cam_plus_plus,
)
from jaxcam._explainers.smoothing import aug_smooth as aug_smooth
from jaxcam._explainers.smoothing import eigen_smooth as eigen_smooth
from jaxcam._explainers.smoothing import smooth as smooth
from jaxcam._explainers.superpixels import quickshift as quickshift
from jaxcam._ground.extras import wanted as _wanted
from jaxcam._program.adapters import equinox as equinox
from jaxcam._program.adapters import haiku as haiku
from jaxcam._program.adapters import keras as keras
from jaxcam._program.adapters import linen as linen
from jaxcam._program.adapters import nnx as nnx
from jaxcam._program.centers import Centers as Centers
from jaxcam._program.cuts import split as split
from jaxcam._program.grids import Tokens as Tokens
from jaxcam._program.layers import layers as layers
from jaxcam._program.layers import tag as tag
from jaxcam._program.layers import tap as tap
from jaxcam._program.question import activations_and_gradients as activations_and_gradients
from jaxcam._program.question import explain as explain
from jaxcam._version import __version__ as __version__

if TYPE_CHECKING:
    from jaxcam import datasets as datasets
    from jaxcam import models as models

# Imported when they are asked for: flax takes as long to import as all the rest, and explaining a
# model of one's own does without it.
_LAZY = ("datasets", "models")

__all__ = [
    "Centers",
    "Factors",
    "Tokens",
    "ablation_cam",
    "activations_and_gradients",
    "attention_grad_cam",
    "attention_rollout",
    "aug_smooth",
    "blackbox",
    "cam",
    "cbam_attention",
    "channel_weights",
    "clrp_map",
    "datasets",
    "deconvnet",
    "deep_feature_factorization",
    "eigen_cam",
    "eigen_grad_cam",
    "eigen_smooth",
    "equinox",
    "explain",
    "fem",
    "finer_cam",
    "fostering",
    "fullgrad",
    "fuse",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "gradient_input",
    "guided_backprop",
    "guided_grad_cam",
    "haiku",
    "hires_cam",
    "integrated_gradients",
    "is_cam",
    "keras",
    "kpca_cam",
    "layer_cam",
    "layers",
    "layerwise_grad_cam",
    "legrad",
    "lime",
    "lime_surrogate",
    "linen",
    "loops",
    "lrp",
    "lrp_map",
    "maps",
    "mask",
    "metrics",
    "models",
    "nnx",
    "occlusion",
    "quickshift",
    "refine_cam",
    "relevance_cam",
    "rise",
    "score_cam",
    "shapley_cam",
    "smooth",
    "split",
    "ss_cam",
    "tag",
    "tap",
    "targets",
    "top_channels",
    "xgrad_cam",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'jaxcam' has no attribute {name!r}")
    with _wanted(f"jaxcam.{name}"):
        return importlib.import_module(f"jaxcam.{name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
