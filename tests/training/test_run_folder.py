"""A run's folder: one run, one process, and nothing lost to kills and damage."""

import dataclasses
import errno
import os
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from efficientlab_tf.checkpoint.series import Series
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners import MetaState
from efficientlab_tf.training import lock, loop
from efficientlab_tf.training.checkpoints import Checkpoints
from efficientlab_tf.training.summaries import Summaries
from tests.training.runs import saved, stop_after


class Killed(BaseException):
    """In place of a SIGKILL: nothing of the loop's own runs after it."""


def state(value: float) -> MetaState:
    """A state of one parameter that says which it is."""
    return MetaState((tf.fill([300], value),), (), (), tf.constant(1.0))


def value_of(restored) -> tuple[float, int]:
    return float(restored[0].theta[0][0]), restored[1]


@pytest.fixture
def run_dir(tmp_path):
    """A folder with checkpoints of the steps 2, 4 and 6, each with the step's state."""
    checkpoints = Checkpoints(tmp_path, state(0.0))
    for step in (2, 4, 6):
        checkpoints.save(state(float(step)), step)
    return tmp_path


def events(run_dir) -> dict[tuple[str, int], list]:
    """What TensorBoard's own reader finds, by tag and step."""
    found: dict[tuple[str, int], list] = {}
    reader = event_accumulator.EventAccumulator(
        str(run_dir / "logs"),
        {event_accumulator.TENSORS: 0},
        purge_orphaned_data=False,
    )
    reader.Reload()
    for tag in reader.Tags()["tensors"]:
        for event in reader.Tensors(tag):
            value = tf.make_ndarray(event.tensor_proto)
            found.setdefault((tag, event.step), []).append(value.tolist())
    return found


def other_folder(config, name):
    folder = str(config.train.run_dir) + name
    return dataclasses.replace(
        config, train=dataclasses.replace(config.train, run_dir=folder)
    )


def same_states(one, two):
    one, two = saved(one), saved(two)
    assert one.keys() == two.keys() and len(one) > 20
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_a_killed_run_goes_on_as_if_nothing_had_been(config, tmp_path, monkeypatch):
    loop.train(config)
    killed, run_dir = other_folder(config, "2"), tmp_path / "run2"
    scalars = Summaries.scalars

    def last_words(self, values, step):
        scalars(self, values, step)
        if step == 5:
            self.flush()
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Summaries, "scalars", last_words)
        with pytest.raises(Killed):
            loop.train(killed)
    # The kill came while a checkpoint, an event and the model were being written.
    (run_dir / "checkpoints" / "ckpt-6_partial").mkdir()
    (run_dir / "checkpoints" / "ckpt-6_temp").mkdir()
    (run_dir / "checkpoints" / "ckpt-6.data-00000-of-00001").write_bytes(b"half")
    (run_dir / ".model.partial-1.keras").write_bytes(b"half")
    (log,) = (run_dir / "logs").iterdir()
    with open(log, "ab") as file:
        file.write(b"\x20\0\0\0")
    assert loop.train(killed, resume=True)
    same_states(tmp_path / "run", run_dir)
    expected, got = events(tmp_path / "run"), events(run_dir)
    assert got.keys() == expected.keys()
    for (tag, step), values in got.items():
        assert len(values) == 1, (tag, step)
        if "per_second" not in tag and "hparams" not in tag:
            assert values == expected[tag, step], (tag, step)
    assert {step for _, step in got} == set(range(7))
    assert sorted(os.listdir(run_dir)) == sorted(os.listdir(tmp_path / "run"))
    folders = [
        sorted(os.listdir(r / "checkpoints")) for r in (tmp_path / "run", run_dir)
    ]
    assert folders[0] == folders[1]


def test_a_run_killed_before_its_first_checkpoint_is_not_mixed_with_another(
    config, tmp_path, monkeypatch
):
    loop.train(config)
    killed = other_folder(config, "2")

    def kill(*_):
        raise Killed

    train = dataclasses.replace(killed.train, save_every=4)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", kill)
        with pytest.raises(Killed):
            loop.train(dataclasses.replace(killed, train=train))
    run_dir = tmp_path / "run2"
    assert not list(run_dir.glob("checkpoints/*.index"))
    assert list(run_dir.glob("best/best-3.index"))
    other = dataclasses.replace(
        killed,
        data=dataclasses.replace(killed.data, val_split=""),
        train=dataclasses.replace(killed.train, seed=2),
    )
    with pytest.raises(UserError, match="already holds a run at step 3; continue it"):
        loop.train(other)
    assert loop.train(killed, resume=True)
    same_states(tmp_path / "run", run_dir)
    assert events(run_dir).keys() == events(tmp_path / "run").keys()


def test_logs_of_a_run_without_a_state_are_not_the_next_ones(
    config, tmp_path, monkeypatch
):
    stop_after(monkeypatch, 2)
    for _ in range(2):
        loop.train(config)
        assert {step for _, step in events(tmp_path / "run")} == {0, 1, 2}
        assert all(len(values) == 1 for values in events(tmp_path / "run").values())
        for name in ("checkpoints", "best"):
            shutil.rmtree(tmp_path / "run" / name, ignore_errors=True)
        with pytest.raises(UserError, match="already holds a model.keras, which"):
            loop.train(config)
        (tmp_path / "run" / "model.keras").unlink()
        monkeypatch.undo()
        stop_after(monkeypatch, 2)


def test_the_best_of_another_run_is_never_taken(run_dir, tmp_path, capsys):
    foreign = Checkpoints(tmp_path / "other", state(0.0))
    foreign.save_if_best(state(99.0), 5, 0.9)
    shutil.copytree(tmp_path / "other" / "best", run_dir / "best")
    checkpoints = Checkpoints(run_dir, state(0.0))
    assert value_of(checkpoints.restore()) == (6.0, 6)
    assert checkpoints.best_score == -1
    assert value_of(checkpoints.restore_best()) == (6.0, 6)
    assert "best-5 is of another run and is not used" in capsys.readouterr().err
    assert checkpoints.save_if_best(state(7.0), 7, 0.1)
    checkpoints = Checkpoints(run_dir, state(0.0))
    checkpoints.restore()
    assert value_of(checkpoints.restore_best()) == (7.0, 7)
    assert not capsys.readouterr().err


def test_a_best_of_what_is_done_again_gives_way(run_dir):
    checkpoints = Checkpoints(run_dir, state(0.0))
    checkpoints.restore()
    assert checkpoints.save_if_best(state(8.0), 8, 0.9)
    # Killed before it was saved, and resumed with validations at other steps.
    checkpoints = Checkpoints(run_dir, state(0.0))
    assert value_of(checkpoints.restore()) == (6.0, 6)
    assert checkpoints.save_if_best(state(7.0), 7, 0.2)
    assert value_of(checkpoints.restore_best()) == (7.0, 7)
    assert [path.name for path in run_dir.glob("best/*.index")] == ["best-7.index"]


def test_a_damaged_best_is_named_and_looked_for_again(run_dir, capsys):
    checkpoints = Checkpoints(run_dir, state(0.0))
    checkpoints.restore()
    assert checkpoints.save_if_best(state(5.0), 5, 0.9)
    checkpoints.save(state(7.0), 7)
    flip(run_dir / "best" / "best-5.data-00000-of-00001")
    checkpoints = Checkpoints(run_dir, state(0.0))
    assert value_of(checkpoints.restore()) == (7.0, 7)
    assert "best-5 cannot be read (" in capsys.readouterr().err
    assert checkpoints.save_if_best(state(8.0), 8, 0.1)
    assert value_of(checkpoints.restore_best()) == (8.0, 8)


def test_checkpoints_of_the_version_before_are_this_runs(tmp_path):
    content = {
        "theta": [tf.Variable(state(3.0).theta[0])],
        "rate_scale": tf.Variable(1.0),
        "step": tf.Variable(3, dtype=tf.int64),
        "best_score": tf.Variable(0.5, dtype=tf.float64),
        "waited": tf.Variable(0, dtype=tf.int64),
    }
    former = tf.train.Checkpoint(**content, statistics=[], optimizer=[], rates=[])
    for folder, name in (("checkpoints", "ckpt"), ("best", "best")):
        tf.train.CheckpointManager(
            former, str(tmp_path / folder), 1, checkpoint_name=name
        ).save(checkpoint_number=3)
    checkpoints = Checkpoints(tmp_path, state(0.0))
    assert checkpoints.last_step == 3
    assert value_of(checkpoints.restore()) == (3.0, 3)
    assert checkpoints.best_score == 0.5
    assert value_of(checkpoints.restore_best()) == (3.0, 3)
    checkpoints.save(state(4.0), 4)
    assert value_of(Checkpoints(tmp_path, state(0.0)).restore()) == (4.0, 4)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


DATA, INDEX = "ckpt-6.data-00000-of-00001", "ckpt-6.index"


@pytest.mark.parametrize("name", [DATA, INDEX])
@pytest.mark.parametrize("damage", [flip, cut, empty, os.remove])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    run_dir, name, damage, capsys
):
    path = run_dir / "checkpoints" / name
    damage(path)
    checkpoints = Checkpoints(run_dir, state(0.0))
    assert value_of(checkpoints.restore()) == (4.0, 4)
    if path.exists() or name == DATA:
        err = capsys.readouterr().err
        assert "ckpt-6 cannot be read (" in err and "going on with the one" in err
    # The run goes on and writes the damaged one again, and keeps what it may.
    for step in (5, 6):
        checkpoints.save(state(float(step)), step)
        restored = Checkpoints(run_dir, state(0.0)).restore()
        assert value_of(restored) == (float(step), step)
    assert not list(run_dir.glob("checkpoints/*-2.*"))
    assert sorted(p.name for p in run_dir.glob("checkpoints/*.index")) == [
        *("ckpt-4.index", "ckpt-5.index", "ckpt-6.index")
    ]


def test_the_list_of_checkpoints_may_be_garbage(run_dir):
    (run_dir / "checkpoints" / "checkpoint").write_bytes(b"\xff\0garbage")
    assert value_of(Checkpoints(run_dir, state(0.0)).restore()) == (6.0, 6)


def test_removing_the_newest_by_hand_does_what_it_should(run_dir):
    for path in run_dir.glob("checkpoints/ckpt-6.*"):
        path.unlink()
    assert value_of(Checkpoints(run_dir, state(0.0)).restore()) == (4.0, 4)


def test_no_readable_checkpoint(run_dir):
    for path in run_dir.glob("checkpoints/*.index"):
        cut(path)
    with pytest.raises(UserError, match="ckpt-2 cannot be read .* none before it"):
        Checkpoints(run_dir, state(0.0)).restore()


def test_a_full_disk_loses_nothing(run_dir):
    checkpoints = Checkpoints(run_dir, state(0.0))
    checkpoints.restore()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot save a checkpoint .* free some"):
            checkpoints.save(state(8.0), 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.stem for path in run_dir.glob("checkpoints/*") if path.suffix} == {
        *("ckpt-2", "ckpt-4", "ckpt-6")
    }
    checkpoints.save(state(8.0), 8)
    assert value_of(Checkpoints(run_dir, state(0.0)).restore()) == (8.0, 8)


def test_leftovers_of_kills_are_removed(run_dir):
    folder = run_dir / "checkpoints"
    (folder / "ckpt-16_temp").mkdir()
    (folder / "ckpt-16_temp" / "part-00000-of-00001.index").write_bytes(b"half")
    (folder / "ckpt-16_partial" / "ckpt-16_temp").mkdir(parents=True)
    (folder / "ckpt-16.data-00000-of-00001").write_bytes(b"half")
    (folder / "checkpoint.tmp0123").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    (run_dir / "best" / "best-15_temp").mkdir(parents=True)
    Checkpoints(run_dir, state(0.0))
    assert {path.stem for path in folder.iterdir()} == {
        *("ckpt-2", "ckpt-4", "ckpt-6", "checkpoint", "notes")
    }
    assert not list((run_dir / "best").iterdir())


def test_an_index_is_there_only_after_its_data(tmp_path, monkeypatch):
    moved = []
    replace = os.replace
    monkeypatch.setattr(
        os, "replace", lambda a, b: (moved.append(b.suffix), replace(a, b))
    )
    checkpoint = tf.train.Checkpoint(x=tf.Variable(1.0))
    Series(tmp_path, "ckpt").write(checkpoint, 1)
    assert moved == [".data-00000-of-00001", ".index", ""]


HOLDER = """
import errno, pathlib, sys, time
from efficientlab_tf.training import lock
def no_locks(*_, **__):
    raise OSError(errno.ENOLCK, "No locks available")
if sys.argv[2] == "soft":
    lock.FileLock = no_locks
with lock.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["native", "soft"])
def test_a_folder_is_for_one_process(tmp_path, monkeypatch, kind):
    def no_locks(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    if kind == "soft":
        monkeypatch.setattr(lock, "FileLock", no_locks)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), kind],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError) as caught, lock.locked(tmp_path):
            pass
        text = str(caught.value)
        assert f"is in use by process {holder.pid} on " in text
        assert ("delete" in text) == (kind == "soft")
    finally:
        holder.kill()
        holder.wait()
    # What it left is not taken for a process.
    for _ in range(2):
        with lock.locked(tmp_path):
            pass


def test_a_second_training_is_refused(config):
    with lock.locked(loop.Path(config.train.run_dir)):
        with pytest.raises(UserError, match="is in use by process"):
            loop.train(config)
