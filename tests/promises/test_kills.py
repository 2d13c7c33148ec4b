"""A training that is killed and resumed is the one that never was."""

import random
import signal
import time
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.checkpoint.run import MODEL_FILE
from tests.promises.runs import (
    PATIENCE,
    STEPS,
    config_of,
    finished,
    has_state,
    kill,
    started,
)
from tests.training.runs import saved
from tests.training.test_run_folder import events

WHOLE = (
    *("theta", "statistics", "optimizer", "rates", "rate_scale"),
    *("step", "best_score", "waited"),
)
"""What a state is, in a checkpoint."""


def same_runs(one, two):
    """Compares newest and best states, the model's file and TensorBoard's events."""
    for series in ("checkpoints", "best"):
        states = [saved(run, WHOLE, series) for run in (one, two)]
        assert states[0].keys() == states[1].keys()
        assert {name.split("/")[0] for name in states[0]} >= {*WHOLE} - {"rates"}
        for name, value in states[0].items():
            np.testing.assert_array_equal(value, states[1][name], err_msg=name)
    assert weights_of(one / MODEL_FILE) == weights_of(two / MODEL_FILE)
    expected, found = events(one), events(two)
    assert found.keys() == expected.keys()
    for (tag, step), values in found.items():
        assert len(values) == 1, (tag, step)
        if "per_second" not in tag and "hparams" not in tag:
            assert values == expected[tag, step], (tag, step)


def weights_of(path) -> bytes:
    """A model's weights; the other parts hold the run's folder and a time."""
    with zipfile.ZipFile(path) as file:
        return file.read("model.weights.h5")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run in one go."""
    folder = tmp_path_factory.mktemp("reference")
    finished(config_of(folder, "run"))
    return folder / "run"


def test_any_moment(reference, tmp_path, option):
    """SIGKILL and SIGTERM in turns, at random moments, each in what the last left."""
    kills, moments = option("kills", 20), random.Random(option("kill_seed", 0))
    config, seen = config_of(tmp_path, "run"), []
    for number in range(kills):
        process, step = started(config, resume=has_state(config))
        # The steps are spread over the kills; one in five falls into the start.
        ahead = moments.randrange(1, max(2, 2 * STEPS // kills))
        if moments.random() < 0.2:
            ahead = 0
        until = min(max(seen, default=0) + ahead, STEPS - 1) if ahead else 0
        deadline = time.monotonic() + PATIENCE
        while process.is_alive() and step.value < until:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(moments.random() * 0.1)
        seen.append(step.value)
        kill(process, (signal.SIGKILL, signal.SIGTERM)[number % 2])
    assert max(seen) > 0
    finished(config, resume=has_state(config))
    same_runs(reference, tmp_path / "run")


def test_same_seed_same_weights(reference, tmp_path):
    finished(config_of(tmp_path, "run", deterministic=True))
    same_runs(reference, tmp_path / "run")
    finished(config_of(tmp_path, "other", seed=1))
    one, other = (saved(run, ("theta",)) for run in (reference, tmp_path / "other"))
    assert all(np.any(one[name] != other[name]) for name in one if "kernel" in name)
    assert any(np.any(one[name] != other[name]) for name in one)


def test_the_reference_has_what_must_survive(reference):
    """Else nothing of it would be compared."""
    newest = saved(reference, WHOLE)
    (scale,) = (v for name, v in newest.items() if name.startswith("rate_scale"))
    assert 0 < scale < 1, "no plateau"
    best = tf.train.latest_checkpoint(f"{reference}/best")
    assert 0 < int(best.rsplit("-", 1)[1]) <= STEPS
