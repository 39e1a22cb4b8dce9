"""What is compared: each call here, and how each of PyTorch's libraries spells the same.

No package is imported: all processes read this, and so does the page of docs/migrating.md.
"""

from collections.abc import Mapping
from typing import NamedTuple

OURS = "jaxcam"
TORCH = "torch"  # written by hand, as one would without a library
# jaxcam without XLA's fusions by YNNPACK, which slow convolutions down (jaxlib 0.10.2, CPUs).
FASTER = "jaxcam-without-ynnpack"
FLAGS = {FASTER: "--xla_cpu_experimental_ynn_fusion_type="}
FRAMEWORKS = (OURS, FASTER, TORCH, "pytorch-grad-cam", "torchcam", "captum", "zennit")
# What a process imports, and the distributions of which a report says the versions.
PACKAGES = {
    OURS: ("jaxcam", "jax", "jaxlib", "flax"),
    FASTER: ("jaxcam", "jax", "jaxlib", "flax"),
    TORCH: ("torch", "torchvision"),
    "pytorch-grad-cam": ("torch", "grad-cam"),
    "torchcam": ("torch", "torchcam"),
    "captum": ("torch", "captum"),
    "zennit": ("torch", "zennit"),
}
SIDE = "torch"  # the module of all but ours
MODULES = {
    OURS: "eval.costs.peers.ours",
    FASTER: "eval.costs.peers.ours",
    SIDE: "eval.costs.peers.theirs",
}

# Forms of a forward pass; the fastest of each side is its unit.
FORMS = {
    OURS: ("arguments", "constants"),
    FASTER: ("arguments", "constants"),
    TORCH: ("inference_mode", "channels_last"),
}
FORWARD = "forward"
MASKS = 64  # of RISE
STEPS = 28  # of the games
IG_STEPS = 20


class Call(NamedTuple):
    """A call, whatever the layer.

    Args:
        here: how it is written with jaxcam.
        there: how the others write it.
        layered: whether it explains a layer.
        sign: what is compared: "positive" parts, each scaled by its own maximum, "signed" maps by
            their largest size, "values" as they are, or "" for nothing, since it is random.
        slow: one forward pass a channel.
        training: whether the network is trained.
    """

    here: str
    there: Mapping[str, str]
    layered: bool = True
    sign: str = "positive"
    slow: bool = False
    training: bool = False


_CAM = "GradCAM(model, [model.layer4])(images, targets)"
_ZENNIT = 'Gradient(model, {}(zero_params="bias", canonizers=[ResNetCanonizer()]))(images, one_hot)'


def _cam(name: str) -> str:
    return _CAM.replace("GradCAM", name)


def _torchcam(name: str) -> str:
    return f'{name}(model, "layer4")(classes, model(images))'


CALLS: dict[str, Call] = {
    "gradient": Call(
        'gradient(f, x, t, reduction="sum")',
        {
            TORCH: "torch.autograd.grad",
            "captum": "Saliency(model).attribute(images, classes, abs=False).sum(1)",
            "zennit": "Gradient(model)(images, one_hot)[1].sum(1)",
        },
        layered=False,
        sign="signed",
    ),
    "gradient_input": Call(
        "gradient_input(f, x, t)",
        {"captum": "InputXGradient(model).attribute(images, classes).sum(1)"},
        layered=False,
        sign="signed",
    ),
    "integrated_gradients": Call(
        f"integrated_gradients(f, x, t, steps={IG_STEPS})",
        {
            "captum": f"IntegratedGradients(model).attribute(images, 0, classes, "
            f'n_steps={IG_STEPS}, method="riemann_middle").sum(1)',
        },
        layered=False,
        sign="signed",
    ),
    "guided_backprop": Call(
        'guided_backprop(f, x, t, reduction="sum")',
        {
            "captum": "GuidedBackprop(model).attribute(images, classes).sum(1)",
            "zennit": "Gradient(model, GuidedBackprop())(images, one_hot)[1].sum(1)",
        },
        layered=False,
        sign="signed",
    ),
    "grad_cam": Call(
        'grad_cam(f, x, t, layer="layer4")',
        {
            TORCH: "torch.autograd.grad(score, activation)",
            "pytorch-grad-cam": _CAM,
            "torchcam": _torchcam("GradCAM"),
            "captum": "LayerGradCam(model, model.layer4).attribute(images, classes, "
            "relu_attributions=True)",
        },
    ),
    "grad_cam_plus_plus_torchcam": Call(
        'grad_cam_plus_plus(f, x, t, layer="layer4", variant="torchcam")',
        {"torchcam": _torchcam("GradCAMpp")},
    ),
    "grad_cam_plus_plus_jacobgil": Call(
        'grad_cam_plus_plus(f, x, t, layer="layer4", variant="jacobgil")',
        {"pytorch-grad-cam": _cam("GradCAMPlusPlus")},
    ),
    "layer_cam": Call(
        'layer_cam(f, x, t, layer="layer4")',
        {"pytorch-grad-cam": _cam("LayerCAM"), "torchcam": _torchcam("LayerCAM")},
    ),
    "hires_cam": Call(
        'hires_cam(f, x, t, layer="layer4")',
        {
            "pytorch-grad-cam": _cam("HiResCAM"),
            "captum": "LayerGradientXActivation(model, model.layer4).attribute(images, "
            "classes).sum(1)",
        },
        sign="signed",
    ),
    "xgrad_cam": Call(
        'xgrad_cam(f, x, t, layer="layer4")',
        {"pytorch-grad-cam": _cam("XGradCAM"), "torchcam": _torchcam("XGradCAM")},
    ),
    "score_cam": Call(
        'score_cam(f, x, t, layer="layer4", variant="paper")',
        {"torchcam": _torchcam("ScoreCAM")},
        slow=True,
    ),
    "score_cam_jacobgil": Call(
        'score_cam(f, x, t, layer="layer4", variant="jacobgil")',
        {"pytorch-grad-cam": _cam("ScoreCAM")},
        slow=True,
    ),
    "ablation_cam": Call(
        'ablation_cam(f, x, t, layer="layer4", variant="jacobgil")',
        {"pytorch-grad-cam": _cam("AblationCAM")},
        slow=True,
    ),
    "relevance_cam": Call(
        'relevance_cam(f, x, t, layer="layer4")',
        {
            "zennit": "ZPlus(stabilizer=1e-9, zero_params='bias') for convolutions and linear "
            "layers, contrastive relevance; torch.autograd.grad(logits, activation, relevance), "
            "summed, times the activation",
        },
        sign="signed",
    ),
    "lrp_epsilon_plus": Call(
        'lrp_map(f, x, t, composite={"conv_general_dilated": rules.z_plus, "dot_general": '
        "rules.epsilon(1e-6)})",
        {"zennit": _ZENNIT.format("EpsilonPlus")},
        layered=False,
        sign="signed",
    ),
    "lrp_epsilon_plus_flat": Call(
        'lrp_map(f, x, t, composite="epsilon_plus_flat")',
        {"zennit": _ZENNIT.format("EpsilonPlusFlat")},
        layered=False,
        sign="signed",
    ),
    "lrp_epsilon_alpha2_beta1": Call(
        'lrp_map(f, x, t, composite="epsilon_alpha2_beta1")',
        {"zennit": _ZENNIT.format("EpsilonAlpha2Beta1")},
        layered=False,
        sign="signed",
    ),
    "lrp_epsilon_gamma_box": Call(
        "lrp_map(f, x, t, composite=lrp.epsilon_gamma_box(-6, 6))",
        {"zennit": _ZENNIT.format("EpsilonGammaBox").replace("(zero", "(low=-6, high=6, zero")},
        layered=False,
        sign="signed",
    ),
    "lrp_epsilon": Call(
        'lrp_map(f, x, t, composite=lrp.epsilon(1e-9, bias="absorb"))',
        {"captum": "LRP(model).attribute(images, classes).sum(1)"},
        layered=False,
        sign="signed",
    ),
    "rise": Call(
        f"rise(f, x, t, num_masks={MASKS})",
        {TORCH: f"{MASKS} masked forward passes, 32 at once"},
        layered=False,
        sign="",
    ),
    "deletion": Call(
        "metrics.deletion(f, x, saliency, t)",
        {TORCH: f"{STEPS + 1} forward passes, 4 at once"},
        layered=False,
        sign="values",
    ),
    "insertion": Call(
        "metrics.insertion(f, x, saliency, t, baseline=0.0)",
        {TORCH: f"{STEPS + 1} forward passes, 4 at once"},
        layered=False,
        sign="values",
    ),
    "training": Call(
        "jax.value_and_grad of the cross-entropy",
        {TORCH: "loss.backward()"},
        layered=False,
        sign="values",
        training=True,
    ),
    "fostering": Call(
        'jax.value_and_grad of fostering_loss(..., layer="layer4")',
        {TORCH: "torch.autograd.grad(score, activation, create_graph=True); loss.backward()"},
        sign="values",
        training=True,
    ),
    # torchcam's own protocol (scripts/eval_latency.py): the extractor's call alone is timed, with
    # its normalisation and without the forward pass before it.
    "latency_grad_cam": Call(
        "grad_cam and maps.normalize, less a forward pass",
        {"torchcam": "GradCAM, the extractor's call alone"},
    ),
    "latency_layer_cam": Call(
        "layer_cam and maps.normalize, less a forward pass",
        {"torchcam": "LayerCAM, the extractor's call alone"},
    ),
}
LESS_FORWARD = "latency_"  # of ours, the forward pass of the same round is taken off


class Case(NamedTuple):
    """A call at a layer."""

    call: str
    layer: str | None = None

    @property
    def name(self) -> str:
        """As `--methods` takes it."""
        if self.layer is None:
            return self.call
        return f"{self.call}/{self.layer}"


_RESNET = ("layer4", "layer3", "layer2", "layer1")
_VGG16_BN = ("features.43", "features.33", "features.23", "features.13")
STAGES = {
    "resnet18": _RESNET,
    "resnet34": _RESNET,
    "resnet50": _RESNET,
    "vgg16_bn": _VGG16_BN,
}
_EVERYWHERE = ("grad_cam", "relevance_cam", "fostering")
_VGG_ONLY = ("lrp_epsilon",)  # captum's LRP refuses a module that is called twice


def cases(model: str) -> list[Case]:
    """All cases of a model, the stages from the last to the first."""
    stages = STAGES[model]
    found = []
    for name, call in CALLS.items():
        if name in _VGG_ONLY and stages is _RESNET:
            continue
        if call.training and stages is not _RESNET:  # its dropout is random
            continue
        layers: tuple[str | None, ...] = (None,)
        if name in _EVERYWHERE:
            layers = stages
        elif call.layered:
            layers = stages[:1]
        for layer in layers:
            found.append(Case(name, layer))
    return found
