"""The table, the picture and TensorBoard's view of a search."""

import csv

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from efficientlab_tf.hyperparameters.report import (
    draw,
    log_trial,
    log_untuned,
    write_table,
)
from efficientlab_tf.hyperparameters.uho import FACTOR, RATE, STEPS, Result

UNTUNED = Result(-1, {RATE: 0.01, STEPS: 5}, 0.5)
RESULTS = [
    Result(slot, {RATE: rate, STEPS: steps}, score, (0.1, score))
    for slot, (rate, steps, score) in enumerate(
        [(0.001, 12, 0.4), (0.02, 7, 0.61), (0.09, 2, 0.2), (0.03, 6, 0.6)]
    )
]


def test_the_table_has_a_row_a_trial_and_one_of_the_untuned(tmp_path):
    write_table(tmp_path, RESULTS, 2, UNTUNED)
    with open(tmp_path / "trials.csv", newline="") as file:
        header, untuned, *rows = csv.reader(file)
    assert header == ["trial", "round", RATE, STEPS, "mean_iou"]
    assert untuned == ["untuned", "", "0.01", "5", "0.500000"]
    assert [row[:2] for row in rows] == [["1", "1"], ["2", "1"], ["3", "2"], ["4", "2"]]
    assert rows[1][2:] == ["0.02", "7", "0.610000"]


@pytest.mark.parametrize("name", [RATE, FACTOR])
def test_the_picture_shows_the_points(tmp_path, name):

    def renamed(result):
        return Result(
            result.slot, {name: result.values[RATE], STEPS: result.values[STEPS]}, 0.5
        )

    draw(
        tmp_path / "uho.png",
        [renamed(r) for r in RESULTS],
        renamed(UNTUNED),
        renamed(RESULTS[1]),
    )
    with Image.open(tmp_path / "uho.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    # The dashed line, the ring around the chosen one, the darkest and the brightest
    # point, and the same colours once more in the colour bar and the legend.
    for colour in ((31, 119, 180), (214, 39, 40), (68, 1, 84), (253, 231, 37)):
        assert np.sum(np.abs(pixels - colour).sum(-1) < 10) > 30, colour
    assert not list(tmp_path.glob("*partial*"))


def test_a_trial_is_a_run_with_hyperparameters_once(tmp_path):
    log_trial(tmp_path, RESULTS[1])
    log_trial(tmp_path, RESULTS[1])
    log_trial(tmp_path, RESULTS[2])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "trial_0002",
        "trial_0003",
    ]
    (events,) = (tmp_path / "trial_0002").iterdir()
    run = EventAccumulator(str(events), size_guidance={"tensors": 0})
    run.Reload()
    assert [e.step for e in run.Tensors("mean_iou_after_steps")] == [0, 1]
    (score,) = run.Tensors("mean_iou")
    assert tf.make_ndarray(score.tensor_proto) == pytest.approx(0.61)
    content = run.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    session = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert session.hparams[RATE].number_value == 0.02
    assert session.hparams[STEPS].number_value == 7


def test_hparams_know_what_is_searched_and_by_what_it_is_judged(tmp_path):
    log_untuned(tmp_path, UNTUNED, {RATE: (0.001, 0.1), STEPS: (1, 20)})
    (events,) = (tmp_path / "untuned").iterdir()
    run = EventAccumulator(str(events), size_guidance={"tensors": 0})
    run.Reload()
    content = run.SummaryMetadata("_hparams_/experiment").plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    ranges = {
        info.name: (info.domain_interval.min_value, info.domain_interval.max_value)
        for info in experiment.hparam_infos
    }
    assert ranges == {RATE: (0.001, 0.1), STEPS: (1, 20)}
    (metric,) = experiment.metric_infos
    (score,) = run.Tensors(metric.name.tag)
    assert tf.make_ndarray(score.tensor_proto) == pytest.approx(UNTUNED.score)
