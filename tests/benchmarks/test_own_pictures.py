"""What `benchmarks.own_pictures` says of its measurements."""

import pytest

from benchmarks.own_pictures import sentence, summarized

SETTINGS = {"data": "/somewhere/photos", "method": "linear", "shots": 5}


def result(name, iou, expected=None):
    own = {"class": name, "draw": 0, "iou": iou, "seconds": 2.0}
    return own | ({"expected": expected} if expected else {})


def test_means_are_over_classes_and_estimates_are_judged():
    results = [
        result("cat", [0.2, 0.4], [0.35, 0.25, 0.45]),
        result("dog", [0.6], [0.5, 0.4, 0.55]),
        result("owl", [0.9, 0.9], [0.8, 0.7, 0.95]),
    ]
    summary = summarized({"settings": SETTINGS, "results": results}, "photographs")
    assert summary["settings"]["data"] == "photos"
    assert summary["tasks"] == 3
    assert summary["iou"]["mean"] == pytest.approx(0.6)
    assert summary["expected"] == pytest.approx(0.55)
    assert summary["inside"] == pytest.approx(2 / 3)
    assert summary["correlation"] > 0.98
    assert summary["by_class"] == {"cat": 0.3, "dog": 0.6, "owl": 0.9}
    line = sentence(summary)
    assert line.startswith("60.00 ± 33.95 % IoU of 3 tasks; expected 55.0 %, ")
    assert "inside the interval 67 %" in line
    assert line.endswith("; 2.0 s to adapt (median)")


def test_without_estimates_there_is_nothing_to_judge():
    document = {"settings": SETTINGS, "results": [result("cat", [0.5])]}
    summary = summarized(document, "photographs")
    assert summary["expected"] is summary["inside"] is summary["correlation"] is None
    assert sentence(summary) == "50.00 ± 0.00 % IoU of 1 tasks; 2.0 s to adapt (median)"


def test_candidates_alone_and_the_best_of_each_task():
    own = {"few": 0.5, "many": 0.7}, {"few": 0.6, "many": 0.2, "large": 0.9}
    results = [result("cat", [0.5]) | {"alone": one} for one in own]
    summary = summarized({"settings": SETTINGS, "results": results}, "photographs")
    assert summary["alone"] == {"few": 0.55, "many": pytest.approx(0.45)}
    assert summary["best_of_each_task"] == pytest.approx(0.8)
