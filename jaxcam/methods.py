"""The one table of explanation methods: what the command line and experiments know of each."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import jaxcam
from jaxcam.targets import Activation


class Method(NamedTuple):
    """A row of the table."""

    title: str  # in pictures
    function: (
        Callable  # (forward, images, targets, *, layer) -> maps; without `layer` if not `layered`
    )
    about: str  # one line of --help
    layered: bool = True  # False: explains the network as a whole
    jit: bool = True  # False: works on the host, as segmentation does, and compiles its own parts
    signed: bool = (
        False  # of methods that are not layered: its maps speak for the class and against it
    )
    # never among "all" methods: thousands of forward passes, or kin of one that is among them
    on_request: bool = False
    confidence: bool = False  # asks for probabilities: takes `activation`
    of_score: bool = False  # divides the score z_t: where that is negative, so is what supports it

    def options(self, activation: Activation) -> dict[str, Any]:
        """The keywords that a network's `activation` becomes."""
        return {"activation": activation} if self.confidence else {}

    def evidence(self, raw: np.ndarray, score: float) -> np.ndarray:
        """A map above 0 where the image speaks for the class, as a picture's key says.

        Relevance shares out the logit z_t: the share of what supports the class has its sign.

        Args:
            raw: of this method, `[h, w]`.
            score: z_t.
        """
        return -raw if self.of_score and score < 0 else raw


METHODS = {
    "grad_cam": Method("Grad-CAM", jaxcam.grad_cam, "channels weighted by their mean gradient"),
    "grad_cam_plus_plus": Method(
        "Grad-CAM++", jaxcam.grad_cam_plus_plus, "channels weighted by positive gradients"
    ),
    "hires_cam": Method(
        "HiResCAM", jaxcam.hires_cam, "activation times gradient, cell by cell; signed"
    ),
    "xgrad_cam": Method(
        "XGrad-CAM", jaxcam.xgrad_cam, "as Grad-CAM, gradients weighted by activation"
    ),
    "layer_cam": Method(
        "Layer-CAM", jaxcam.layer_cam, "positive gradients cell by cell; for shallow layers too"
    ),
    "cam": Method("CAM", jaxcam.cam, "weights of a pooled linear head; last layer only, signed"),
    "eigen_cam": Method(
        "Eigen-CAM", jaxcam.eigen_cam, "first principal component; the same for every class"
    ),
    "eigen_grad_cam": Method(
        "Eigen-Grad-CAM", jaxcam.eigen_grad_cam, "the same of activation times gradient"
    ),
    "relevance_cam": Method(
        "Relevance-CAM",
        jaxcam.relevance_cam,
        "channels weighted by relevance; for any layer; signed",
    ),
    "score_cam": Method(
        "Score-CAM",
        jaxcam.score_cam,
        "a forward pass for each channel, no gradient; slow",
        confidence=True,
    ),
    "ablation_cam": Method(
        "Ablation-CAM", jaxcam.ablation_cam, "what the score loses without each channel; slow"
    ),
    "cbam_attention": Method(
        "CBAM attention",
        partial(jaxcam.cbam_attention, normalize="sum"),
        "what a CBAM network attends to, all blocks; no class",
        layered=False,
    ),
    "layerwise_grad_cam": Method(
        "Layer-wise Grad-CAM",
        partial(jaxcam.layerwise_grad_cam, normalize="sum"),
        "Grad-CAM summed over the last three stages",
        layered=False,
    ),
    "attention_grad_cam": Method(
        "MAL Grad-CAM",
        jaxcam.attention_grad_cam,
        "CBAM attention times layer-wise Grad-CAM",
        layered=False,
    ),
    "lrp": Method(
        "LRP",
        jaxcam.lrp_map,
        "relevance of each pixel for the class; signed",
        layered=False,
        signed=True,
        of_score=True,
    ),
    "clrp": Method(
        "CLRP",
        jaxcam.clrp_map,
        "the same, against all other classes; signed",
        layered=False,
        signed=True,
    ),
    "rise": Method(
        "RISE",
        jaxcam.rise,
        "mean of random masks, by their scores; on request",
        layered=False,
        on_request=True,
        confidence=True,
    ),
    "lime": Method(
        "LIME",
        jaxcam.lime,
        "a linear model of superpixels; signed; on request",
        layered=False,
        jit=False,
        signed=True,
        on_request=True,
        confidence=True,
    ),
    "mask": Method(
        "MASK",
        jaxcam.mask,
        "the smallest mask that takes the evidence; on request",
        layered=False,
        on_request=True,
        confidence=True,
    ),
    "shapley_cam": Method(
        "ShapleyCAM",
        jaxcam.shapley_cam,
        "Grad-CAM with the score's curvature; on request",
        on_request=True,
    ),
    "finer_cam": Method(
        "Finer-CAM",
        jaxcam.finer_cam,
        "Grad-CAM of the class against those most like it; on request",
        on_request=True,
    ),
    "smooth_grad_cam_plus_plus": Method(
        "Smooth Grad-CAM++",
        jaxcam.smooth_grad_cam_plus_plus,
        "Grad-CAM++ of gradients averaged over noise; on request",
        on_request=True,
    ),
    "kpca_cam": Method(
        "KPCA-CAM",
        jaxcam.kpca_cam,
        "first kernel principal component; the same for every class; on request",
        on_request=True,
    ),
    "fem": Method(
        "FEM",
        jaxcam.fem,
        "where channels are strong, by their means; the same for every class; on request",
        on_request=True,
    ),
    "ss_cam": Method(
        "SS-CAM",
        jaxcam.ss_cam,
        "Score-CAM over noise, 35 forward passes for each channel; on request",
        on_request=True,
    ),
    "is_cam": Method(
        "IS-CAM",
        jaxcam.is_cam,
        "Score-CAM along a path, 10 forward passes for each channel; on request",
        on_request=True,
    ),
    "fullgrad": Method(
        "FullGrad",
        jaxcam.fullgrad,
        "gradients of the images and of every bias; on request",
        layered=False,
        on_request=True,
    ),
    "refine_cam": Method(
        "RefineCAM",
        jaxcam.refine_cam,
        "Grad-CAM++ of the last three stages, multiplied; on request",
        layered=False,
        on_request=True,
    ),
    "gradient": Method(
        "Gradient",
        jaxcam.gradient,
        "the greatest gradient of each pixel's colours; on request",
        layered=False,
        on_request=True,
    ),
    "gradient_input": Method(
        "Gradient x input",
        jaxcam.gradient_input,
        "gradient times input; signed; on request",
        layered=False,
        signed=True,
        on_request=True,
    ),
    "integrated_gradients": Method(
        "Integrated gradients",
        jaxcam.integrated_gradients,
        "gradients on the way from 0 to the image, summed; signed; on request",
        layered=False,
        signed=True,
        on_request=True,
    ),
    "guided_backprop": Method(
        "Guided backprop",
        jaxcam.guided_backprop,
        "the gradient through ReLUs that pass what is positive; on request",
        layered=False,
        on_request=True,
    ),
    "deconvnet": Method(
        "Deconvnet",
        jaxcam.deconvnet,
        "the gradient through ReLUs of its own; on request",
        layered=False,
        on_request=True,
    ),
    "guided_grad_cam": Method(
        "Guided Grad-CAM",
        jaxcam.guided_grad_cam,
        "guided backpropagation times Grad-CAM; signed; on request",
        layered=False,
        signed=True,
        on_request=True,
    ),
    "occlusion": Method(
        "Occlusion",
        jaxcam.occlusion,
        "what the confidence loses under an occluder; signed; on request",
        layered=False,
        signed=True,
        on_request=True,
        confidence=True,
    ),
    "attention_rollout": Method(
        "Attention rollout",
        jaxcam.attention_rollout,
        "attention through all blocks of a transformer; no class; on request",
        layered=False,
        on_request=True,
    ),
    "legrad": Method(
        "LeGrad",
        jaxcam.legrad,
        "gradients of a transformer's attention, block by block; on request",
        layered=False,
        on_request=True,
    ),
}
WHOLE = "whole network"  # stands for the layer of a method that takes none
