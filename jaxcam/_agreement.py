"""How far our maps are from other libraries' own, as measured: for the page of `jaxcam.peers`."""

MEASURED = """Of raw maps, |ours - theirs| / |theirs|, on a ResNet-20 trained on CIFAR-10 and four
photos of it, the larger of two stages; of heatmaps where a peer gives no raw map. Measured once, in
November 2026, with the versions above.
"""
AGREEMENT = [
    ("`shapley_cam`, `residual_softmax`", "pytorch-grad-cam `ShapleyCAM`", "7e-7"),
    ("`finer_cam`", "pytorch-grad-cam `FinerCAM`", "4e-4, its 1e-9 in a divisor"),
    ("`kpca_cam`", "pytorch-grad-cam `KPCA_CAM`", "9e-7"),
    ('`fem(variant="jacobgil")`', "pytorch-grad-cam `FEM`", "2e-7"),
    ("`eigen_smooth(grad_cam)`", "pytorch-grad-cam `eigen_smooth=True`", "8e-7"),
    ('`fullgrad(rescale="channel")`', "pytorch-grad-cam `FullGrad`", "6e-5"),
    ('`refine_cam(variant="jacobgil")`', "pytorch-grad-cam `RefineCAM`", "4e-7"),
    (
        "`aug_smooth(grad_cam)`",
        "pytorch-grad-cam `aug_smooth=True`",
        "0.16: it averages heatmaps, not raw maps",
    ),
    ("`gradient`", "captum `Saliency`", "4e-7"),
    ("`gradient_input`", "captum `InputXGradient`", "5e-7"),
    ("`integrated_gradients(steps=20)`", "captum `IntegratedGradients`", "2e-6"),
    ("`guided_backprop`", "captum `GuidedBackprop`", "3e-7"),
    ("`deconvnet`", "captum `Deconvolution`", "6e-7"),
    ("`guided_grad_cam`", "captum `GuidedGradCam`, bilinear", "5e-7"),
    ('`occlusion(activation="identity")`', "captum `Occlusion`", "1e-6"),
    ('`is_cam(path="running_sum", scale="before")`', "torchcam `ISCAM`", "8e-7"),
    ('`ss_cam(scale="before", sigma=0)`', "torchcam `SSCAM`", "1e-6"),
    (
        '`smooth_grad_cam_plus_plus(variant="torchcam", sigma=0)`',
        "torchcam `SmoothGradCAMpp`",
        "4e-4, its 1e-8 in a divisor",
    ),
]
ZENNIT = """Against zennit on two small photos and a network of two convolutions with batch norms
(which it merges; ours stand apart or merged, with the same result), both poolings and a dense
layer; its maps are kept in `tests/golden_zennit.npz`, and ours are held to them where it is not
installed. They were made by zennit 0.5.1; those of 1.0.0 differ from them by 1e-5 at most. It was
asked for `zero_params="bias"`, which is our `bias="pass"`.
"""
OF_ZENNIT = [
    ("`lrp`, z+ and epsilon by layer", "`EpsilonPlus`", "8e-6"),
    ('`lrp(composite="epsilon_plus_flat")`', "`EpsilonPlusFlat`", "8e-6"),
    ('`lrp(composite="epsilon_alpha2_beta1")`', "`EpsilonAlpha2Beta1`", "1e-5"),
    ("the same with `flat` first", "`EpsilonAlpha2Beta1Flat`", "8e-6"),
    (
        "`lrp(composite=epsilon_gamma_box(low, high))`",
        "`EpsilonGammaBox`",
        "1e-5 without biases; with them its gamma rule asks for the sign of a unit with its bias",
    ),
    (
        '`lrp(composite="z_plus")`',
        "`ExcitationBackprop(stabilizer=1e-9)`",
        "1e-5; its own 1e-6 takes half a percent",
    ),
    ("`guided_backprop`", "`GuidedBackprop`", "1e-5"),
    ("`deconvnet`", "`DeconvNet`", "1e-5"),
    (
        "`smooth(gradient)`",
        "`SmoothGrad`",
        "1e-7, of the same noise; its last sample has none",
    ),
]
XPLIQUE = """Against xplique 2.0.2 on two small photos and a network of three layers in Keras, its
noise, masks and samples replaced by ours, its maps of layers before they are enlarged; they are
kept in `tests/golden_xplique.npz`, and ours are held to them where TensorFlow is not installed.
Where its usual `reducer` is the mean over colours, it was asked for the sum; black boxes are asked
for logits, `activation="identity"`.
"""
OF_XPLIQUE = [
    ("`gradient`", "`Saliency`", "1e-7"),
    ("`gradient_input`", "`GradientInput`", "1e-7"),
    (
        '`integrated_gradients(steps=n - 1, rule="trapezoid")`',
        "`IntegratedGradients(steps=n)`",
        "9e-8",
    ),
    ('`guided_backprop(reduction="sum")`', "`GuidedBackprop`", "1e-7"),
    ('`deconvnet(reduction="sum")`', "`DeconvNet`", "2e-7"),
    (
        '`occlusion(activation="identity")`, windows side by side',
        "`Occlusion`",
        "7e-7; where windows overlap it adds up what ours averages",
    ),
    (
        '`smooth` of `gradient(reduction="sum")`',
        "`SmoothGrad`",
        "1e-7, of the same noise; its `noise` has the images' unit, `sigma` is a share of their "
        "range",
    ),
    ('`smooth(statistic="square")` of `gradient(reduction="norm")`', "`SquareGrad`", "1e-7"),
    (
        '`smooth(statistic="variance")` of each colour\'s `explain(..., layer="pixels")`',
        "`VarGrad`",
        "4e-7, once summed over colours and times n / (n - 1)",
    ),
    (
        "`rise`, times n p and divided by the sum of the masks",
        "`Rise(batch_size=1)`",
        "3e-7: it divides by how often a pixel was shown, the paper by how often it is on average; "
        "of masks enlarged as the authors do, which it does otherwise at the border, and it shifts "
        "the masks of a batch alike",
    ),
    (
        "`lime(hide_color=v)`",
        "`Lime(ref_value=v)` with our kernel and `Ridge(alpha=1)`",
        "7e-7; its own kernel takes the distance in pixels, and with "
        '`distance_mode="cosine"` a sample weighs the more, the less it is like the image',
    ),
    ("`lime(kernel_width=1e4, alpha=0.0)`", "`KernelShap`, of the same samples", "8e-7"),
    (
        '`lime(kernel="shap")`',
        "`KernelShap`, of all coalitions",
        "3e-7, but for a number that all segments share: its line is not held to the scores of the "
        "image and of nothing, so that its sum is not their difference",
    ),
    ("`grad_cam`", "`GradCAM`", "2e-6"),
    ('`grad_cam_plus_plus(variant="xplique")`', "`GradCAMPP`", "1e-6"),
    ("`fem`", "`FEM`", "2e-7"),
    (
        "`metrics.deletion`, `insertion(baseline=0.0)`",
        "`Deletion`, `Insertion`",
        "1e-7, the curves",
    ),
    (
        "`metrics.average_drop`, `average_increase`, `average_gain`",
        "`AverageDropMetric`, ...",
        "7e-6, of a map without negative values, whose magnitude it takes",
    ),
    (
        "`metrics.faithfulness_correlation(grid=..., ranked=True)`",
        "`MuFidelity`",
        "1e-7, of the same cells; it draws each by itself, so that their number varies",
    ),
    ("`metrics.entropy`, `selectivity`", "`Complexity`, `Sparseness`", "1e-6"),
]
TORCH = """Against torchcam 0.5.0, pytorch-grad-cam 1.5.7 and captum 0.9.0 on two small photos, a
small network of convolutions and a transformer of two blocks with two heads; their maps are kept in
`tests/golden_torch.npz`, and ours are held to them where torch is not installed. Samples and the
factors' start were ours; black boxes are asked for logits, `activation="identity"`.
"""
OF_TORCH = [
    ("`legrad`", "torchcam `LeGrad`, with the head's `score_projection`", "2e-7, of raw maps"),
    (
        '`fuse(how="max", normalize=None)` of `normalize(map, "min_max")`',
        "torchcam `fuse_cams`",
        "1e-5, its 1e-8 in a divisor",
    ),
    (
        "the same with the mean, as a heatmap",
        "pytorch-grad-cam, several `target_layers`",
        "3e-5, its 1e-7 in a divisor",
    ),
    (
        "`deep_feature_factorization(steps=30)`",
        "pytorch-grad-cam `DeepFeatureFactorization`, scikit-learn's multiplicative updates",
        "1e-7 of the concepts' directions, 4e-7 of the masks; it scales each mask of each image to "
        "[0, 1] and takes each channel's least value away also where that is above 0",
    ),
    (
        "`deep_feature_factorization`",
        "the same as it comes, by coordinate descent from its own start",
        "the error left is 0.2355 here, 0.2354 there",
    ),
    (
        "`lime(hide_color=v)`",
        "captum `Lime(baselines=v)` with our kernel and `Ridge(alpha=1)`",
        "7e-7; its own kernel is of pixels, its own line a lasso with 0.01",
    ),
    (
        '`lime(kernel="shap", hide_color=v)`',
        "captum `KernelShap(baselines=v)`, of all coalitions",
        "4e-7; of samples that it draws its weights are 1, ours make up for what was not drawn",
    ),
]
