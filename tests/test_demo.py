"""`demo`: the first thing that somebody new sees."""

import json

import numpy as np
from PIL import Image

from efficientlab_tf.data.samples import PHOTOGRAPHS, SHOTS, read_sample
from efficientlab_tf.demo import DemoConfig, demo


def test_the_demo_segments_photographs_and_names_the_sheet(tmp_path, capsys):
    assert demo(DemoConfig(output=str(tmp_path))) == 0
    out = capsys.readouterr().out
    assert "\nexpected IoU on new pictures: " in out
    results = tmp_path / "results"
    assert out.splitlines()[-1] == f"look at: {results}/contact_sheet.png"
    assert Image.open(results / "contact_sheet.png").width > 600
    summary = json.loads((results / "summary.json").read_text())
    new = list(read_sample(PHOTOGRAPHS))[SHOTS:]
    assert summary["scores"]["queries"] == len(new)
    # Everything marked would be 0.28.
    assert summary["scores"]["mean_iou"] > 0.6
    for record in summary["queries"]:
        mask = np.asarray(Image.open(results / record["mask"]))
        assert mask.shape == (record["height"], record["width"])
        assert set(np.unique(mask)) == {0, 1}
