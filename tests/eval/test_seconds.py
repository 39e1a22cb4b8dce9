"""Seconds a map: medians of timed calls, beside the papers' numbers."""

import itertools
import json

import numpy as np
import pytest

import jaxcam
from eval.costs import seconds


def test_medians_of_the_calls_after_the_first(network, photos, tmp_path, monkeypatch, capsys):
    ticks = itertools.accumulate([0, 100, 0, 2, 0, 1, 0, 9])  # the calls take 100, 2, 1, 9
    monkeypatch.setattr(seconds.time, "perf_counter", lambda: next(ticks))
    used = itertools.accumulate([0, 50, 0, 1, 0, 0.5, 0, 8])
    monkeypatch.setattr(seconds.time, "process_time", lambda: next(used))
    settings = seconds.SecondsSettings(
        tmp_path, "tiny", "tiny20", ("rise",), ("rise.num_masks=6", "mask.steps=2"), root=photos[1]
    )
    seconds.main(settings)
    out = capsys.readouterr().out
    assert "| RISE | 6 masks | 2 | 1 | 5 |" in out
    assert out.startswith("tiny at 16 x 16 on one ") and seconds.NOTE in out
    assert out in (tmp_path / "seconds.md").read_text()
    found = json.loads((tmp_path / "seconds.json").read_text())
    assert found["seconds"] == {"rise": 2} and found["settings"]["repeats"] == 3
    assert found["made_of"] == {"rise": "6 masks"}
    with pytest.raises(ValueError, match="methods: got risee"):
        seconds.main(seconds.SecondsSettings(None, "tiny", "tiny20", ("risee",), root=photos[1]))


def test_what_a_map_is_made_of(network, photos, monkeypatch):
    """The usual number where none is said, of the library; channels of the last stage."""
    monkeypatch.setattr(seconds, "_explained", lambda row, network: lambda photos: photos)
    names = ("grad_cam", "score_cam", "rise", "lime", "mask")
    chosen = ("lime.num_samples=800", "mask.steps=7")
    settings = seconds.SecondsSettings(None, "tiny", "tiny20", names, chosen, root=photos[1])
    found = seconds.seconds(settings, network)
    forward = network.forward(network.params)
    channels = jaxcam.layers(forward, np.zeros((1, 16, 16, 3)))["top"].shape[-1]
    assert {name: timed.made_of for name, timed in found.items()} == {
        "grad_cam": "",
        "score_cam": f"{channels} channels",
        "rise": "8000 masks",
        "lime": "800 samples",
        "mask": "7 steps",
    }


def test_the_papers_numbers():
    usual = seconds.SecondsSettings()
    assert usual.options == ("rise.num_masks=8000", "lime.num_samples=1000", "mask.steps=300")
    assert seconds.THEIRS == {"rise": 5, "lime": 9, "score_cam": 16.67, "relevance_cam": 0.031}
