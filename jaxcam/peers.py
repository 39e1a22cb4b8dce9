"""The table of methods as a page: what each costs, and what other libraries call it.

python -m jaxcam.peers > docs/methods.md
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxcam import _agreement as agreement
from jaxcam import _metric_peers as metrics
from jaxcam.methods import METHODS

PEERS = ("pytorch-grad-cam", "torchcam", "captum", "zennit", "xplique")

HEAD = """# Methods

Made from the table in the code by `python -m jaxcam.peers > docs/methods.md`; a test holds it.

Costs are in forward passes F of the model. B is the backward pass of what lies above the layer, B0
that of the whole model; c are the channels of the layer, n the method's own number of samples,
steps or windows, L the attention blocks. A call is `jaxcam.NAME(forward, images, targets,
layer=...)`; methods at the image's size take no `layer`. The peers are pytorch-grad-cam 1.5.7,
torchcam 0.5.0, captum 0.9.0, zennit 1.0.0 and xplique 2.0.2.
"""
_NOISE = "`NoiseTunnel` (`smoothgrad`, `smoothgrad_sq`, `vargrad`)"
# What it does here, what it is, and PEERS.
ANY_METHOD = [
    (
        "`jaxcam.smooth(method)`",
        "mean, square or variance over noise",
        *("", "", _NOISE, "`SmoothGrad`", "`SmoothGrad`, `SquareGrad`, `VarGrad`"),
    ),
    ("`jaxcam.aug_smooth(method)`", "mean over flips and factors", "`aug_smooth=True`"),
    ("`jaxcam.eigen_smooth(method)`", "first component of the terms", "`eigen_smooth=True`"),
    (
        "`jaxcam.fuse(maps, size, how=...)`",
        "several layers as one map",
        *("several `target_layers` (mean)", "`fuse_cams`"),
    ),
    (
        "`jaxcam.deep_feature_factorization`",
        "concepts and their masks",
        "`DeepFeatureFactorization`",
    ),
    ("`jaxcam.explain(formula, ...)`", "a formula of one's own", "a subclass of `BaseCAM`"),
]
TARGETS = [
    ("a class, or `jaxcam.targets.logit(c)`", "`ClassifierOutputTarget(c)`"),
    ("`jaxcam.targets.probability(c)`", "`ClassifierOutputSoftmaxTarget(c)`"),
    ("`jaxcam.targets.residual_softmax(c)`", "`ClassifierOutputReST(c)`"),
    ("`jaxcam.targets.finer(c)`", "`FinerWeightedTarget(c, others, alpha)`"),
    ("`jaxcam.targets.binary(positive)`", "`BinaryClassifierOutputTarget(category)`"),
    ("`jaxcam.targets.region(mask, c)`", "`SemanticSegmentationTarget(c, mask)`"),
    ("`jaxcam.targets.box(box, c)`", "`FasterRCNNBoxScoreTarget(labels, boxes)`, of one box"),
]
_METRICS = """All are in `jaxcam.metrics`. E is an explanation of the images; "-" asks no network.
What each rewards is on the page on [measuring](measuring.md).
"""
CLIPPED = """A ReLU6, `clip(x, 0, c)` or `clamp(0, x, c)` is a ReLU to guided backpropagation, with
its own derivative (0 beyond c) and the rectified gradient, and to the deconvnet, which rectifies
what comes back and asks nothing of what went forward. captum and zennit hook `torch.nn.ReLU` alone:
a network of ReLU6 gets its plain gradient there, under the name of either method.
"""
LEFT_OUT = [
    (
        "`DeepLift`, `DeepLiftShap`, their layer and neuron forms",
        "captum",
        "of ReLU networks without biases and a baseline of 0 its rescale rule is LRP-epsilon "
        "(Ancona et al. 2018), which is here",
    ),
    (
        "`GradientShap`, its layer and neuron forms",
        "captum",
        "a mean of `integrated_gradients` over baselines of one's own, with noise",
    ),
    (
        "`FeatureAblation`, `FeaturePermutation`, `ShapleyValueSampling`",
        "captum",
        "of columns of a table; of images `occlusion` and KernelSHAP on segments stand for them",
    ),
    (
        "`LayerConductance`, `InternalInfluence`, `LayerIntegratedGradients`, neurons",
        "captum",
        "paths through a layer: `lrp` has relevance at any layer, and a model that returns a "
        "neuron has it for a target",
    ),
    (
        "`SESS`",
        "pytorch-grad-cam",
        "a method about cropped and scaled copies, over a hundred explanations each; "
        "`aug_smooth` and `fuse` are the cheap part of it",
    ),
    (
        "`SegEigenCAM`",
        "pytorch-grad-cam",
        "Eigen-CAM of abs(G) A: a formula for `jaxcam.explain`",
    ),
    ("`RandomCAM`", "pytorch-grad-cam", "a control of the benchmark, `random_weights`"),
    (
        "`SobolAttributionMethod`, `HsicAttributionMethod`",
        "xplique",
        "black boxes by designed masks: `rise`, `lime` and `occlusion` are here",
    ),
    (
        "TCAV, CRAFT, feature visualisation, influence of training examples",
        "captum, xplique",
        "of concepts, networks and data sets, no map of an image; "
        "`deep_feature_factorization` is the nearest",
    ),
    ("`forgrad`", "xplique", "a low-pass filter of the magnitude of a map that is there"),
    ("`BetaSmooth`", "zennit", "a surrogate gradient for second derivatives, no explanation"),
]


class Kin(NamedTuple):
    """What a method costs, and what the peers call it; "" where they have none."""

    cost: str
    grad_cam: str = ""
    torchcam: str = ""
    captum: str = ""
    zennit: str = ""
    xplique: str = ""


KIN = {
    "grad_cam": Kin(
        "F + B", "GradCAM", "GradCAM", "LayerGradCam(relu_attributions=True)", "", "GradCAM"
    ),
    "grad_cam_plus_plus": Kin(
        'F + B; `variant="jacobgil"`, "torchcam", "xplique"',
        "GradCAMPlusPlus",
        "GradCAMpp",
        "",
        "",
        "GradCAMPP",
    ),
    "hires_cam": Kin(
        "F + B",
        '`HiResCAM`, `GradCAMElementWise` by `relu="channel"`',
        "",
        "LayerGradientXActivation, summed over channels",
    ),
    "xgrad_cam": Kin("F + B", "XGradCAM", "XGradCAM"),
    "layer_cam": Kin("F + B", "LayerCAM", "LayerCAM"),
    "cam": Kin("F + B", "", "CAM"),
    "eigen_cam": Kin("F, and a decomposition; `center=True`", "EigenCAM"),
    "eigen_grad_cam": Kin("F + B, and a decomposition; `center=True`", "EigenGradCAM"),
    "relevance_cam": Kin("F + 1.5 B or so"),
    "score_cam": Kin('(1 + c) F; `variant="jacobgil"`', "ScoreCAM", "ScoreCAM"),
    "ablation_cam": Kin(
        'F + c times what is above the layer; `variant="jacobgil"`',
        "AblationCAM",
        "",
        "LayerFeatureAblation is a kin",
    ),
    "cbam_attention": Kin("F"),
    "layerwise_grad_cam": Kin("F + B"),
    "attention_grad_cam": Kin("F + B"),
    "lrp": Kin("F + 1.5 B0 or so", "", "", "LRP, LayerLRP", "Gradient with any composite"),
    "clrp": Kin("F + 1.5 B0 or so"),
    "rise": Kin("n F", "", "", "", "", "Rise"),
    "lime": Kin("n F; KernelSHAP by `kernel`", "", "", "Lime, KernelShap", "", "Lime, KernelShap"),
    "mask": Kin("n (F + B0)"),
    "shapley_cam": Kin("F + 3 B at most", "ShapleyCAM"),
    "finer_cam": Kin("F + B", "FinerCAM", "FinerCAM"),
    "smooth_grad_cam_plus_plus": Kin('F + n (F + B); `variant="torchcam"`', "", "SmoothGradCAMpp"),
    "kpca_cam": Kin("F, and a decomposition", "KPCA_CAM"),
    "fem": Kin('F; `variant="jacobgil"`', "FEM", "", "", "", "FEM"),
    "ss_cam": Kin('(1 + n c) F; `scale="before"`', "", "SSCAM"),
    "is_cam": Kin('(1 + n c) F; `path="running_sum"`, `scale="before"`', "", "ISCAM"),
    "fullgrad": Kin('F + B0; `rescale="channel"`', "FullGrad"),
    "refine_cam": Kin("F + B", "RefineCAM", "RefineCAM"),
    "gradient": Kin("F + B0", "", "", "Saliency", "Gradient", "Saliency"),
    "gradient_input": Kin("F + B0", "", "", "InputXGradient", "", "GradientInput"),
    "integrated_gradients": Kin(
        "n (F + B0)",
        "",
        "",
        "IntegratedGradients",
        "IntegratedGradients",
        "IntegratedGradients",
    ),
    "guided_backprop": Kin(
        "F + B0",
        "GuidedBackpropReLUModel",
        "",
        "GuidedBackprop",
        "composite GuidedBackprop",
        "GuidedBackprop",
    ),
    "deconvnet": Kin("F + B0", "", "", "Deconvolution", "composite DeconvNet", "DeconvNet"),
    "guided_grad_cam": Kin("2 F + B + B0", "", "", "GuidedGradCam"),
    "occlusion": Kin("(1 + n) F", "", "", "Occlusion", "Occlusion", "Occlusion"),
    "attention_rollout": Kin("F"),
    "legrad": Kin("F + L backward passes of a block and the head", "", "LeGrad"),
}


def page() -> str:
    """The page of the documentation."""
    rows = []
    for name, method in METHODS.items():
        kin = KIN[name]
        size = "layer"
        if not method.layered:
            size = "image"
        rows.append((f"`{name}`", method.title, size, kin.cost, *map(_code, kin[1:])))
    named = [(f"`{name}`", *rest) for name, *rest in metrics.METRICS]
    parts = [
        HEAD,
        *_table(("here", "name", "size", "cost", *PEERS), rows),
        "\n## Any method, otherwise\n",
        *_table(("here", "what it does", *PEERS), ANY_METHOD),
        "\n## Targets\n",
        *_table(("here", "pytorch-grad-cam"), TARGETS),
        "\n## Agreement\n",
        agreement.MEASURED,
        *_table(("here", "there", "relative difference"), agreement.AGREEMENT),
        "",
        agreement.TORCH,
        *_table(("here", "there", "relative difference"), agreement.OF_TORCH),
        "",
        agreement.ZENNIT,
        *_table(("here", "zennit", "relative difference"), agreement.OF_ZENNIT),
        "",
        agreement.XPLIQUE,
        *_table(("here", "xplique", "relative difference"), agreement.OF_XPLIQUE),
        "",
        CLIPPED,
        "## Methods left out\n",
        *_table(("there", "whose", "why"), LEFT_OUT),
        "\n## Metrics\n",
        _METRICS,
        *_table(("here", "cost", *metrics.PEERS), named),
        "",
        metrics.ABSENT,
        metrics.MEASURED,
        *_table(("here", "there", "relative difference"), metrics.AGREEMENT),
    ]
    return "\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [_row(head), _row(["---"] * len(head))]
    for row in rows:
        lines.append(_row([*row, *[""] * (len(head) - len(row))]))
    return lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _code(text: str) -> str:
    """A peer's name for it as code, what is said of it as text."""
    if not text:
        return ""
    name, space, rest = text.partition(" ")
    if name.startswith("composite"):
        return f"composite `{rest}`"
    if "," in name:
        return text
    return f"`{name}`{space}{rest}"


if __name__ == "__main__":
    print(page(), end="")
