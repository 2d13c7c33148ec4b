"""The script of docs/second_order.md, and the measurement of wrong meta-gradients.

Nothing here demands that TensorFlow stays wrong: a variant must be off if, and only
if, `check_second_derivatives` finds a fault in it.
"""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import second_order_error as errors
from benchmarks import second_order_error_run as runs
from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners.differentiability import check_second_derivatives
from efficientlab_tf.losses import Objective
from efficientlab_tf.models.layers import Resize
from efficientlab_tf.segmenters.inner_loop import InnerLoop
from efficientlab_tf.segmenters.network import Network
from tests.learners.contract import episodes
from tests.learners.test_second_order import finite_difference_errors
from tests.models.tiny import tiny_network

SCRIPT = Path(__file__).parents[2] / "docs" / "second_derivatives.py"
RIGHT = ("reduce_variance", "matrix products", "Conv2D", "swish", "softmax")
SUSPECT = ("tf.image.resize", "UpSampling2D", "BatchNorm", "LayerNorm", "tf.nn.moments")
CONFIG = LearnerConfig(
    learner="maml",
    inner_learning_rate=0.05,
    inner_steps=2,
    inner_batch=0,
    augment_rate=0.0,
)


@pytest.fixture(autouse=True)
def _eager():
    """Tracing a graph takes far longer than one use of it on a tiny network."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def _network(dtype: str = "float32") -> Network:
    keras.utils.set_random_seed(1)
    return Network(tiny_network(16, dtype=dtype, dropout=0.3))


def _task() -> Episode:
    batch = episodes(1, shots=3, queries=2, size=16)
    return Episode(*(field[0] for field in batch[:4]), name=None)


def test_script_is_short_and_its_controls_are_right():
    assert len(SCRIPT.read_text().splitlines()) < 40
    done = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, text=True, check=True
    )
    printed = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines() if line)
    found = {name: float(value) for name, value in printed.items()}
    assert len(found) == len(RIGHT) + len(SUSPECT)
    for start in RIGHT + SUSPECT:
        (error,) = (e for name, e in found.items() if name.startswith(start))
        assert np.isfinite(error)
        assert error < 1e-6 or start in SUSPECT


def test_deviation_of_known_vectors():
    exact = np.array([2.0, 0.0])
    right_angle = errors.Deviation.of(np.array([0.0, 1.0]), exact)
    assert right_angle.angle == pytest.approx(90)
    assert right_angle.ratio == pytest.approx(0.5)
    assert right_angle.error == pytest.approx(np.sqrt(5) / 2)
    small = errors.Deviation.of(np.array([1.0, 1e-9]), exact)
    assert small.angle == pytest.approx(np.degrees(1e-9))
    assert errors.Deviation.of(-exact, exact).angle == pytest.approx(180)


def test_a_variant_is_wrong_where_a_fault_is_found_and_only_there():
    network, task, seed = _network("float64"), _task(), tf.constant([3, 5])
    weights = network.weights()
    exact = errors.meta_gradient(network, CONFIG)(weights, task, seed)
    for name in errors.VARIANTS:
        copy = errors.variant(network, name)
        try:
            check_second_derivatives(InnerLoop(copy, Objective()))
            sound = True
        except UserError:
            sound = False
        gradient = errors.meta_gradient(copy, CONFIG)(weights, task, seed)
        error = errors.Deviation.of(gradient, exact).error
        # TensorFlow's resize computes in float32.
        assert error < 1e-5 if sound else error > 1e-3, name
        assert sound or name != "rounding"


def test_the_exact_one_equals_finite_differences():
    learner = errors.build_learner(_network("float64"), CONFIG, meta_steps=1)
    assert finite_difference_errors(learner, _task())["theta"] < 1e-4


def test_variant_refuses_another_function(monkeypatch):
    class HalfPixel(Resize):
        def build(self, input_shape):
            self.align_corners = False
            super().build(input_shape)

    monkeypatch.setitem(errors.VARIANTS, "resize", {Resize: HalfPixel})
    with pytest.raises(ValueError, match="resize: logits differ"):
        errors.variant(_network(), "resize")


def test_measure_compares_task_by_task():
    network, done = _network(), []
    starts = {"here": network.weights(), "there": _network().weights()}
    tasks = [(_task(), "disc", 0), (_task(), "disc", 1)]
    rows = errors.measure(network, starts, tasks, CONFIG, [1], done.append)
    names = ["first order", *errors.VARIANTS]
    assert [(r.start, r.gradient) for r in rows] == [
        (start, name) for start in starts for name in names
    ]
    assert len(done) == 2 * 2 * (len(names) + 1)
    by_name = {r.gradient: r for r in rows if r.start == "here"}
    for rounding, first in zip(
        by_name["rounding"].deviations, by_name["first order"].deviations, strict=True
    ):
        assert rounding.angle < 0.1 < 1 < first.angle
    # Another draw has other dropout masks.
    assert len(set(by_name["first order"].deviations)) == 2
    assert rows[0].markdown().count("|") == errors.HEADER.splitlines()[0].count("|")


@pytest.mark.filterwarnings("ignore:Even though")  # tf.data's functions stay graphs.
def test_runs_start_alike_and_part():
    settings = runs.Settings("sample:icons", 32, 3, 2, 2, 1, CONFIG)
    keras.utils.set_random_seed(1)
    model = tiny_network(32, dropout=0.3)
    values, ends, firsts = model.get_weights(), {}, {}
    for gradient in runs.GRADIENTS:
        model.set_weights(values)
        state, soft_ious = runs.meta_train(Network(model), gradient, settings, seed=0)
        assert len(soft_ious) == 2
        firsts[gradient] = soft_ious[0]
        ends[gradient] = np.concatenate([np.ravel(t) for t in state.theta])
    assert firsts["wrong"] == pytest.approx(firsts["exact"], abs=1e-5)
    assert firsts["first order"] == pytest.approx(firsts["exact"], abs=1e-5)
    assert np.abs(ends["first order"] - ends["exact"]).max() > 1e-6


def _outcomes(steps: int = 30) -> list[runs.Outcome]:
    random = np.random.default_rng(0)
    return [
        runs.Outcome(gradient, seed, tuple(random.random(steps)), (0.5 + i / 10, 0.25))
        for i, gradient in enumerate(runs.GRADIENTS)
        for seed in (0, 1)
    ]


def test_table_pairs_each_task_with_the_exact_runs():
    lines = runs.table(_outcomes(), 10).splitlines()
    assert len(lines) == 2 + 3 * 3
    assert lines[4].startswith("| exact | mean |") and lines[4].endswith("|  |")
    # The tasks' differences are 10 and 0 points.
    assert lines[5].startswith("| wrong | 0 |")
    assert lines[5].endswith("| 5.00 ± 9.80 |")


def test_curves_are_a_line_a_run_in_its_gradients_colour():
    outcomes = _outcomes()
    (axes,) = runs.curves(outcomes, 10).axes
    assert len(axes.lines) == len(outcomes)
    for line, outcome in zip(axes.lines, outcomes, strict=True):
        assert line.get_color() == runs._COLORS[outcome.gradient]
        # Each mean stands in the middle of the ten steps that it is over.
        np.testing.assert_allclose(line.get_xdata()[[0, -1]], [5, 25])
        means = np.mean(outcome.soft_ious[:10]), np.mean(outcome.soft_ious[-10:])
        np.testing.assert_allclose(line.get_ydata()[[0, -1]], means)
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == list(runs.GRADIENTS)


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (errors.main, ["--tasks", "1"], "at least 2"),
        (runs.main, ["--output_dir", "x", "--gradients", "wrong"], "exact among"),
        (runs.main, ["--output_dir", "x", "--meta_steps", "9"], "must not exceed"),
    ],
    ids=["tasks", "gradients", "smooth"],
)
def test_bad_arguments_are_refused(main, arguments, message):
    with pytest.raises(UserError, match=message):
        main(arguments)
