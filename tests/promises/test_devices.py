"""Training on several devices is training on one."""

import dataclasses
import signal
import time

import numpy as np
import pytest

from benchmarks.workers import cluster
from efficientlab_tf.config import TrainConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.training.devices import Place, open_devices, place
from tests.forked import CONTEXT
from tests.promises.meta_steps import LEARNERS, TASKS, take
from tests.promises.runs import PATIENCE, config_of, finished, kill, started
from tests.promises.test_kills import WHOLE
from tests.training.runs import saved
from tests.training.test_run_folder import events

MEETING = 120
"""Seconds after which a worker that waits for a dead one must have ended."""


def taken(folder, configs) -> None:
    """Takes the meta-steps in a process for each of some arguments of `take`."""
    processes = []
    for number, arguments in enumerate(configs):
        out = folder / str(number)
        out.mkdir()
        processes.append(CONTEXT.Process(target=take, args=(out, *arguments)))
        processes[-1].start()
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """What one device comes to."""
    folder = tmp_path_factory.mktemp("one")
    taken(folder, [(TrainConfig(meta_batch=TASKS),)])
    return folder / "0"


def same_steps(one, other) -> None:
    for name in LEARNERS:
        with np.load(one / f"{name}.npz") as a, np.load(other / f"{name}.npz") as b:
            assert a.files == b.files
            for key in a.files:
                np.testing.assert_allclose(
                    b[key], a[key], rtol=1e-5, atol=1e-5, err_msg=f"{name} {key}"
                )


@pytest.mark.parametrize("replicas", [1, 4])
def test_replicas_take_the_meta_step_of_one(one, tmp_path, replicas):
    config = TrainConfig(meta_batch=TASKS, strategy="mirrored", cpu_replicas=replicas)
    taken(tmp_path, [(config,)])
    same_steps(one, tmp_path / "0")


def test_workers_take_the_meta_step_of_one(one, tmp_path):
    config = TrainConfig(meta_batch=TASKS, strategy="multi_worker")
    taken(tmp_path, [(config, text) for text in cluster(2)])
    for index in ("0", "1"):
        same_steps(one, tmp_path / index)


def test_workers_that_are_ended_go_on_together(tmp_path):
    """SIGTERM to one stops all; SIGKILL of one stops the other with a sentence."""

    def config(run, **changes):
        whole = config_of(tmp_path, run, meta_batch=2, meta_steps=10, **changes)
        # Adam would make much of the rounding of gradients that are nearly zero.
        learner = dataclasses.replace(whole.learner, meta_optimizer="sgd", momentum=0.9)
        return dataclasses.replace(whole, learner=learner)

    spread = config("spread", strategy="multi_worker")

    def start(resume):
        # The second worker's folder, to which it must not write, is another.
        elsewhere = dataclasses.replace(
            spread, train=dataclasses.replace(spread.train, run_dir=str(tmp_path / "x"))
        )
        errors = [tmp_path / f"error{i}" for i in range(2)]
        pairs = [
            started(c, resume, None, text, error)
            for c, text, error in zip(
                (spread, elsewhere), cluster(2), errors, strict=True
            )
        ]
        (chief, step), (worker, _) = pairs
        return chief, worker, step, errors

    def wait_for(process, step, least):
        deadline = time.monotonic() + PATIENCE
        while step.value < least:
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)

    chief, worker, step, errors = start(resume=False)
    wait_for(chief, step, 2)
    kill(worker, signal.SIGTERM)
    chief.join(MEETING)
    assert (chief.exitcode, worker.exitcode) == (2, 0)
    assert "another of the 2 workers was asked to; all is" in errors[0].read_text()
    chief, worker, step, errors = start(resume=True)
    wait_for(chief, step, 5)
    kill(worker, signal.SIGKILL)
    chief.join(MEETING)
    assert chief.exitcode == 2
    assert "worker 0 stops, since another of the 2 workers" in errors[0].read_text()
    chief, worker, step, _ = start(resume=True)
    for process in (chief, worker):
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert not (tmp_path / "x").exists()

    finished(config("one"))
    expected, found = (saved(tmp_path / run, WHOLE) for run in ("one", "spread"))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(
            found[name], value, rtol=1e-4, atol=1e-4, err_msg=name
        )
    expected, found = (events(tmp_path / run) for run in ("one", "spread"))
    assert found.keys() == expected.keys()
    assert {len(values) for values in found.values()} == {1}


@pytest.mark.parametrize("text", ["", "{", '{"cluster": {"worker": ["a:1"]}}', "[1]"])
def test_a_cluster_that_is_none(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="environment variable TF_CONFIG, as in"):
        place(TrainConfig(strategy="multi_worker"))


def test_places_in_a_cluster(monkeypatch):
    jobs = '"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}'
    for task, index in (("chief", 0), ("worker", 1)):
        monkeypatch.setenv(
            "TF_CONFIG", f'{{{jobs}, "task": {{"type": "{task}", "index": {index}}}}}'
        )
        assert place(TrainConfig(strategy="multi_worker")) == Place(3, 2 * index)
    with pytest.raises(UserError, match="multiple of the 3 workers .* take 6, for"):
        open_devices(TrainConfig(strategy="multi_worker", meta_batch=5))
    with pytest.raises(UserError, match="`cpu_replicas`=2 needs `strategy`=mirrored"):
        open_devices(TrainConfig(cpu_replicas=2))
