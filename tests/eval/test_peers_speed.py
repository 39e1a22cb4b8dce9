"""jaxcam beside PyTorch's libraries: the turns with made-up frameworks, ours alone, and torch's."""

import json

import numpy as np
import pytest

from eval.costs import speed
from eval.costs.peers import cases, measures, migrating, reasons, report, turns

FAKE = dict.fromkeys(cases.FRAMEWORKS, "tests.eval.fake_peer")


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    """A run of two made-up frameworks and one that is not installed."""
    output = tmp_path_factory.mktemp("peers") / "deep" / "run.json"
    request = turns.Request(
        frameworks=("torch", "captum"),
        methods=("grad_cam/layer4", "gradient", "rise", "training"),
        rounds=3,
        batch=2,
    )
    with pytest.raises(SystemExit, match=r"from jaxcam:\n(?s:.*)\ngradient, torch: 2e-01$"):
        report.report(request, output, FAKE)
    return output, json.loads(output.read_text())


def entries(found, name):
    return next(row["entries"] for row in found["rows"] if row["name"] == name)


def test_all_calls_are_timed_in_turn_beside_the_fastest_forward_passes(fake):
    found = fake[1]
    assert found["rows"][0]["name"] == "forward"
    assert set(entries(found, "forward")) == {
        *("jaxcam, arguments", "jaxcam, constants"),
        *("torch, inference_mode", "torch, channels_last"),
    }
    assert found["units"] == {"jaxcam": "jaxcam, arguments", "torch": "torch, inference_mode"}
    both = entries(found, "grad_cam/layer4")
    assert both["jaxcam"]["rounds"] == both["torch"]["rounds"] == 3
    assert 0.002 <= both["jaxcam"]["seconds"]["median"] < both["torch"]["seconds"]["median"]
    for each in both.values():
        assert each["forwards"]["low"] <= each["forwards"]["median"] <= each["forwards"]["high"]
        assert each["first_seconds"] > 0


def test_maps_must_agree_up_to_their_scale_before_they_are_set_side_by_side(fake):
    output, found = fake
    assert entries(found, "grad_cam/layer4")["torch"]["agrees"] is True
    wrong = entries(found, "gradient")["torch"]
    # of the first image, m from -1 to 2: (3 m + 1) / 7 against m / 2, at m = -1
    assert wrong["difference"] == pytest.approx(-2 / 7 + 1 / 2)
    assert wrong["agrees"] is False
    (line,) = [x for x in report.text(found).splitlines() if x.startswith("| gradient | torch")]
    assert "| not the same |" in line
    known = reasons.REASONS["gradient"]
    assert line.endswith(f"2e-01: UNEXPLAINED, more than the 1e-01 of: {known.text} |")
    assert output.with_suffix(".md").read_text() == report.text(found) + "\n"
    assert output.with_suffix(".png").stat().st_size > 1000


def test_without_any_other_there_is_nothing_to_stand_beside():
    """It is said before a minute is spent on ours, and a package that breaks gives no traceback."""
    request = turns.Request(frameworks=("captum", "zennit"), methods=("gradient",))
    expected = "none can run: captum: captum is not installed; zennit: RuntimeError: operator torch"
    with pytest.raises(ChildProcessError, match=expected):
        list(turns.Turns(request, FAKE).rows())


def test_what_a_framework_lacks_or_dies_of_is_said(fake):
    found = fake[1]
    assert found["left_out"] == {"captum": "captum is not installed"}
    assert entries(found, "rise")["jaxcam"]["error"] == "no such method"
    assert entries(found, "training")["torch"]["error"] == "the process of torch ended, see above"
    text = report.text(found)
    assert "captum is left out: captum is not installed" in text
    assert "| training | torch |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert found["versions"]["jaxcam"] == "1.0"
    assert found["machine"]["device"] == "paper"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frameworks": ("captun",)}, r"peers: got 'captun', expected one of .*'captum'"),
        ({"methods": ("gradcam",)}, r"methods: got 'gradcam', expected .*'grad_cam'"),
        ({"model": "resnet7"}, r"model: got 'resnet7', expected one of 'resnet18'"),
        ({"dtype": "float8"}, r"dtype: got 'float8', expected one of 'float32', 'bfloat16'"),
        ({"threads": 0}, r"threads: got 0, expected a whole number, at least 1"),
        ({"rounds": 0}, r"rounds: got 0, expected a whole number, at least 1"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest(options, message):
    with pytest.raises(ValueError, match=message):
        turns.Turns(turns.Request(**options))


def test_differences_by_hand():
    ours = np.array([[[-1.0, 2.0]], [[0.0, 0.0]]])
    assert measures.difference(ours, 5 * ours, "signed") == 0
    assert measures.difference(ours, np.abs(ours), "signed") == 1  # -1/2 against 1/2
    assert measures.difference(ours, np.abs(ours), "positive") == 0.5
    assert measures.difference(ours, ours + 0.5, "values") == 0.5  # of 1: at most 1 counts as 1
    assert np.isnan(measures.difference(ours, ours[:1], "signed"))


def test_ratios_are_of_the_same_round():
    took = lambda *seconds: [{"seconds": s, "processor": s, "memory": 7} for s in seconds]
    found = measures.summary(took(2.0, 40.0, 6.0), took(1.0, 20.0, 3.0))
    assert found["forwards"] == {"low": 2, "median": 2, "high": 2}
    assert (found["seconds"]["median"], found["rounds"], found["memory"]) == (6, 3, 7)
    less = measures.summary(took(2.0, 5.0), took(1.0, 1.0), less=True)
    assert less["seconds"]["median"] == 2.5


def test_when_compiling_has_paid_off():
    entry = lambda first, later: {"first_seconds": first, "seconds": {"median": later}}
    assert report.paid_off(entry(5.0, 0.1), entry(1.0, 0.5), 8) == "80 images"
    assert report.paid_off(entry(5.0, 0.5), entry(1.0, 0.1), 8) == "never"
    assert report.paid_off(entry(1.0, 0.1), entry(5.0, 0.5), 8) == "at once"


def test_jaxcam_alone_needs_no_torch(tmp_path, capsys):
    output = tmp_path / "alone.json"
    settings = speed.Settings(
        peers=("jaxcam",),
        methods=("layer_cam",),
        model="resnet18",
        image_size=64,
        rounds=1,
        output=output,
    )
    speed.main(settings)
    found = json.loads(output.read_text())
    assert found["left_out"] == {}
    assert set(entries(found, "layer_cam/layer4")) == {"jaxcam"}
    assert "| layer_cam/layer4 | jaxcam | " in capsys.readouterr().out


def test_every_call_is_built_and_spelled():
    from eval.costs.peers import ours

    for name, call in cases.CALLS.items():
        assert name in ours.EXPLAINERS or call.training, name
        assert set(call.there) <= set(cases.FRAMEWORKS), name
    known = {*reasons.REASONS, *(name for name, _ in reasons.REASONS_OF)}
    assert known <= set(cases.CALLS)
    names = [case.name for case in cases.cases("vgg16_bn")]
    assert "grad_cam/features.13" in names
    assert "lrp_epsilon" in names


def test_a_reason_holds_up_to_its_bound():
    """Of a framework's own before those of the call; NaN, of other shapes, has no reason."""
    known = reasons.REASONS["gradient"]
    assert reasons.text("gradient", "captum", known.most).endswith(f": {known.text}")
    over = np.nextafter(known.most, 1)
    assert reasons.explained("gradient", "captum", known.most)
    assert not reasons.explained("gradient", "captum", over)
    assert "UNEXPLAINED, more than the" in reasons.text("gradient", "captum", over)
    assert reasons.text("rise", "torch", 0.3) == "3e-01: UNEXPLAINED, no reason is known"
    assert not reasons.explained("lrp_epsilon_gamma_box", "zennit", float("nan"))
    assert reasons.explained("lrp_epsilon_gamma_box", "zennit", 1.1)
    assert not reasons.explained("lrp_epsilon_gamma_box", "captum", 1e-3)


def test_what_is_unexplained_is_found_in_the_rows():
    entry = lambda size: {"difference": size, "agrees": size <= 1e-4}
    rows = [
        {"name": "gradient", "call": "gradient", "entries": {"torch": entry(0.1), "jaxcam": {}}},
        {"name": "rise", "call": "rise", "entries": {"torch": entry(1e-5), "captum": entry(1e-3)}},
    ]
    assert report.unexplained({"rows": rows}) == ["rise, captum: 1e-03"]


def test_the_page_for_migrants_is_what_the_committed_runs_say():
    page = migrating.RESULTS.parents[2] / "docs" / "migrating.md"
    assert page.read_text() == migrating.page()


def test_pytorchs_libraries_agree_with_ours(tmp_path):
    pytest.importorskip("torchvision")
    pytest.importorskip("captum")
    request = turns.Request(
        frameworks=("torch", "captum"), methods=("grad_cam/layer4", "gradient"), rounds=1
    )
    rows = list(turns.Turns(request).rows())
    for row in rows[1:]:
        for name in ("torch", "captum"):
            assert row["entries"][name]["agrees"], row
