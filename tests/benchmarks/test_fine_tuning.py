"""Adapting beside Keras's `fit`: both learn the same."""

import re

from benchmarks import fine_tuning
from tests.models.tiny import tiny_network


def test_both_learn_the_same(monkeypatch, capsys):
    def tiny(name, image_size, **_):
        return tiny_network(image_size)

    monkeypatch.setattr(fine_tuning, "build_model", tiny)
    options = ["--image_size=32", "--shots=2", "--steps=3", "--repeats=1"]
    assert fine_tuning.main([*options, "--learning_rate=0.05"]) == 0
    out = capsys.readouterr().out
    assert "32x32, 2 pictures, 3 steps" in out
    assert float(re.search(r"ratio, median of 1 pairs: (\S+);", out)[1]) > 0
    assert float(re.search(r"differ by at most (\S+)", out)[1]) < 1e-3
