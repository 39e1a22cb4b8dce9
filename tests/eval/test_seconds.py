"""Seconds a map: medians of timed calls, beside the papers' numbers."""

import itertools
import json

import pytest

from eval.costs import seconds


def test_medians_of_the_calls_after_the_first(network, photos, tmp_path, monkeypatch, capsys):
    ticks = itertools.accumulate([0, 100, 0, 2, 0, 1, 0, 9])  # the calls take 100, 2, 1, 9
    monkeypatch.setattr(seconds.time, "perf_counter", lambda: next(ticks))
    settings = seconds.SecondsSettings(
        tmp_path, "tiny", "tiny20", ("rise",), ("rise.num_masks=6", "mask.steps=2"), root=photos[1]
    )
    seconds.main(settings)
    assert "| RISE | 2 | 5 |" in capsys.readouterr().out
    found = json.loads((tmp_path / "seconds.json").read_text())
    assert found["seconds"] == {"rise": 2} and found["settings"]["repeats"] == 3
    with pytest.raises(ValueError, match="methods: got risee"):
        seconds.seconds(seconds.SecondsSettings(None, "tiny", "tiny20", ("risee",), root=photos[1]))


def test_the_papers_numbers():
    usual = seconds.SecondsSettings()
    assert usual.options == ("rise.num_masks=8000", "lime.num_samples=1000", "mask.steps=300")
    assert seconds.THEIRS == {"rise": 5, "lime": 9, "score_cam": 16.67, "relevance_cam": 0.031}
