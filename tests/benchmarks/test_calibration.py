"""The figure of expected and measured IoU."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.calibration import main, points
from efficientlab_tf.errors import UserError


def test_a_panel_for_each_set(tmp_path):
    files = []
    for name, count in (("one", 3), ("two", 1)):
        told = {"expected": [0.7, 0.6, 0.8], "iou": [0.5, 0.7]}
        results = [told] * count + [{"iou": [0.1]}]
        (tmp_path / name).write_text(json.dumps({"results": results}))
        files.append(f"{name}={tmp_path / name}")
    found = points(tmp_path / "one")
    np.testing.assert_allclose(found, [[70, 60, 80, 60]] * 3)
    widths = []
    for chosen in (files, files[:1]):
        output = tmp_path / "calibration.png"
        main([*chosen, f"--output={output}"])
        with Image.open(output) as figure:
            widths.append(figure.width)
    assert widths[0] > 1.5 * widths[1]


def test_results_without_estimates(tmp_path):
    (tmp_path / "none.json").write_text(json.dumps({"results": [{"iou": [0.1]}]}))
    with pytest.raises(UserError, match="must hold tasks with an estimate"):
        main([str(tmp_path / "none.json"), f"--output={tmp_path / 'x.png'}"])
