"""What other libraries call our metrics, and what ours cost: for the page of `jaxcam.peers`."""

PEERS = ("pytorch-grad-cam", "torchcam", "captum", "Quantus", "xplique")

# Name, what it costs, and PEERS; F is a forward pass, E an explanation.
METRICS = [
    (
        *("average_drop", "2 F"),
        *("`CamMultImageConfidenceChange` is a kin", "`ClassificationMetric`"),
        *("", "", "`AverageDropMetric`"),
    ),
    (
        *("average_increase", "2 F"),
        *("`CamMultImageConfidenceChange` is a kin", "`ClassificationMetric`"),
        *("", "", "`AverageIncreaseMetric`"),
    ),
    ("average_gain", "2 F", "", "", "", "", "`AverageGainMetric`"),
    ("drop_in_deletion", "2 F"),
    ("adcc", "2 F + 2 E"),
    ("arcc", "(2 p + 2) F + 2 E, p percentages", "`ARCC`"),
    (
        "deletion",
        "(n + 1) F, n steps",
        "",
        "`DeletionInsertionMetric`",
        "",
        "`PixelFlipping`",
        "`Deletion`",
    ),
    ("insertion", "(n + 1) F", "", "`DeletionInsertionMetric`", "", "", "`Insertion`"),
    (
        *("road", "(2 p + 1) F, and p linear systems"),
        *("`ROADCombined`, `ROADMostRelevantFirst`", "", "", "`ROAD`, of accuracies"),
    ),
    ("region_perturbation", "(n + 1) F", "", "", "", "`RegionPerturbation`"),
    (
        *("infidelity", "(n + 1) F, n samples", "", "", "`infidelity`"),
        "`Infidelity`, of squares that pile up",
    ),
    (
        *("faithfulness_correlation", "(n + 1) F, n sets", "", "", ""),
        *("`FaithfulnessCorrelation`", "`MuFidelity`, of ranks"),
    ),
    (
        *("max_sensitivity", "(n + 1) E", "", "", "`sensitivity_max`"),
        *("`MaxSensitivity`", "`AverageStability` is a kin"),
    ),
    ("mask_iou", "-"),
    ("box_iou", "-"),
    ("loc", "-"),
    ("energy_in_box", "-", "", "", "", "`AttributionLocalisation` is a kin"),
    ("pointing_game", "-", "", "", "", "`PointingGame`, of masks"),
    ("pointing_at", "-", "", "", "", "`PointingGame`"),
    ("mass_accuracy", "-", "", "", "", "`RelevanceMassAccuracy`"),
    ("rank_accuracy", "-", "", "", "", "`RelevanceRankAccuracy`"),
    ("entropy", "-", "", "", "", "`Complexity`"),
    ("complexity", "-", "`Complexity`"),
    ("coherency", "1 E", "`Coherency`"),
    ("area", "-"),
    ("dispersion", "-"),
    ("relative_difference", "-"),
    ("cascade", "an E for each group of parameters", "", "", "", "`MPRT`"),
    ("class_sensitivity", "1 E", "", "", "", "`RandomLogit` is a kin"),
    ("sim", "2 F, of two networks"),
    ("selectivity", "-, of a map's cells or a layer's weights", "", "", "", "`Sparseness`"),
]
ABSENT = """Left out: F-Fidelity (Zheng et al. 2024) fine-tunes the network on randomly masked
photos before it asks anything, so that its number is one of another network than the one explained,
at the cost of a training; ROAD answers the same objection without one. ROAR retrains once for each
method and percentage. Of Quantus and xplique also

* `SensitivityN`, `FaithfulnessEstimate`, `Monotonicity` and `MonotonicityCorrelation`: kin of
  `faithfulness_correlation`, of sets of several sizes, of single steps, or without their size.
* `IROF`, `Selectivity`, `Sufficiency`: deletion by segment or region, as `region_perturbation`.
* `AvgSensitivity`, `LocalLipschitzEstimate`, `Consistency`, `Continuity`, `Relative*Stability`,
  `AverageStability`: kin of `max_sensitivity` with a mean or another norm.
* `EfficientMPRT`, `SmoothMPRT`: the cascade with another number at its end.
* `TopKIntersection`, `AUC`, `Focus`: kin of `rank_accuracy` and `class_sensitivity`.
* `Completeness`, `NonSensitivity`, `InputInvariance`: axioms, which are tests of ours and no
  numbers; `EffectiveComplexity`: a count above a threshold, as `area`.
* `MeGe`, `ReCo`: train the network several times.
"""
MEASURED = """Against the peers' own code on two small photos and a network of three layers, with
their random perturbations replaced by ours; the numbers are kept in `tests/golden_peers.npz`, and
ours are held to them where no peer is installed. Of captum 0.9.0, pytorch-grad-cam 1.5.7 and
Quantus 0.6.0; xplique's are with its maps, above.
"""
AGREEMENT = [
    ("`infidelity`, scaled and not", "captum `infidelity`", "8e-7"),
    ("`max_sensitivity`", "captum `sensitivity_max`, photo by photo", "1e-7"),
    (
        "`road(noise=0)`, each percentage",
        "pytorch-grad-cam `ROADMostRelevantFirst`, `...Least...`",
        "1e-7",
    ),
    (
        "`arcc(noise=0)`",
        "pytorch-grad-cam `ARCC`",
        "3e-3: it removes the pixels beyond a percentile, ours a count",
    ),
    ("`mass_accuracy`", "Quantus `RelevanceMassAccuracy`", "3e-7"),
    ("`rank_accuracy`, `pointing_at`", "Quantus `RelevanceRankAccuracy`, `PointingGame`", "0"),
    ("`region_perturbation(baseline=0.0)`", "Quantus `RegionPerturbation`", "8e-7"),
    (
        "`faithfulness_correlation`",
        "Quantus `FaithfulnessCorrelation`",
        "3e-6, of the same pixels; it draws colours of pixels",
    ),
]
