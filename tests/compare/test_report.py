"""The numbers of a comparison's table, and their intervals."""

import json

import numpy as np
import pytest

from efficientlab_tf.config.points import DENSE
from efficientlab_tf.evaluation.measure import Measured
from efficientlab_tf.evaluation.report import Row, fb_iou_interval, markdown
from efficientlab_tf.metrics import Summary, TaskResult


def result_of(name, draw, truth, predicted):
    probabilities = np.stack([1.0 - predicted, predicted], axis=-1)
    return TaskResult.of(name, draw, truth, probabilities)


def some_results(tasks=6, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(
        result_of(
            f"class{i % 3}",
            i // 3,
            rng.integers(0, 2, (2, 8, 8)).astype(np.uint8),
            rng.integers(0, 2, (2, 8, 8)).astype(np.float64),
        )
        for i in range(tasks)
    )


def test_fb_iou_interval_is_that_of_a_bootstrap_over_tasks():
    results = some_results(12)
    interval = fb_iou_interval(results)
    assert interval.mean == Summary.of(results).fb_iou
    assert interval == fb_iou_interval(results[::-1])
    rng = np.random.default_rng(1)
    values = [
        Summary.of([results[i] for i in rng.integers(0, 12, 12)]).fb_iou
        for _ in range(400)
    ]
    spread = np.percentile(values, [2.5, 97.5])
    assert interval.half_width == pytest.approx(np.diff(spread)[0] / 2, rel=0.15)


def test_mean_of_folds_and_table():
    measured = [Measured(some_results(seed=i), 0.5 + i, 3, 2**30, 0) for i in (0, 1)]
    rows = [Row.of("x", 1, DENSE, str(i), m) for i, m in enumerate(measured)]
    mean = Row.mean(rows)
    for name in ("class_iou", "fb_iou", "per_image_iou"):
        own = [getattr(row, name) for row in rows]
        assert getattr(mean, name).mean == pytest.approx(np.mean([o.mean for o in own]))
        assert getattr(mean, name).half_width == pytest.approx(
            np.hypot(own[0].half_width, own[1].half_width) / 2
        )
    assert (mean.tasks, mean.seconds, mean.peak_bytes) == (12, 1.0, 2**30)
    head, _, line = markdown([*rows, mean]).splitlines()
    assert head.startswith("| method | shots | fold 0 | fold 1 | class-wise mIoU |")
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[:4] == [
        *("x", "1"),
        *(f"{100 * row.class_iou.mean:.2f}" for row in rows),
    ]
    assert cells[-3:] == ["1.000", "1.00", ""]


def test_measured_survives_json():
    measured = Measured(some_results(), 0.5, 3, 2**30, 2**20, 4)
    again = Measured.from_dict(json.loads(json.dumps(measured.to_dict())))
    assert again.skipped == 4
    assert Summary.of(again.results) == Summary.of(measured.results)
    assert again.seconds == 0.5 and again.peak_bytes == 2**30
