"""Tuned values are kept with a checkpoint and read from there."""

import dataclasses
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from efficientlab_tf.checkpoint import files, tuned
from efficientlab_tf.checkpoint.files import save_tuned
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners import build_learner
from efficientlab_tf.segmenters.network import Weights
from efficientlab_tf.training.checkpoints import Checkpoints
from tests.hyperparameters.tunable import (
    RUN,
    tuned_values,
    untuned_network,
    write_model,
)
from tests.loading import load_model


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_keras_file_keeps_the_values_beside_what_it_held(tmp_path):
    path = write_model(tmp_path)
    before = _members(path)
    _, weights, _ = load_model(str(path))
    values = {
        "inner_learning_rate": 0.125,
        "inner_steps": 7,
        "inner_batch": 3,
        "augment_rate": 0.75,
        "final_dropout": 0.5,
    }
    save_tuned(str(path), tuned_values(weights, inner_steps=3))
    # Once more: what is there is replaced.
    assert save_tuned(str(path), tuned_values(weights, **values)) == path
    after = _members(path)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1
    network, loaded, run = load_model(str(path))
    assert {k: getattr(run.learner, k) for k in list(values)[:4]} == dict(
        list(values.items())[:4]
    )
    assert run.model.final_dropout == 0.5
    assert network.model.get_layer("final_dropout").rate == 0.5
    assert run.data == RUN.data and run.train == RUN.train
    for a, b in zip(loaded.theta, weights.theta, strict=True):
        np.testing.assert_array_equal(a, b)
    network, _, run = load_model(str(path), tuned=False)
    assert run == RUN and network.model.get_layer("final_dropout").rate == 0.2


def test_a_run_keeps_the_values_until_it_is_trained_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "build_network", lambda config: untuned_network())
    RUN.save(tmp_path)
    state = build_learner(untuned_network(), RUN.learner, meta_steps=10).init()
    saved = Checkpoints(tmp_path, state)
    saved.save(state, 1)
    _, weights, run = load_model(str(tmp_path))
    assert run == RUN
    assert save_tuned(str(tmp_path), tuned_values(weights)) == tmp_path
    _, _, run = load_model(str(tmp_path))
    assert (run.learner.inner_learning_rate, run.learner.inner_steps) == (0.125, 7)
    assert run.learner == dataclasses.replace(
        RUN.learner, inner_learning_rate=0.125, inner_steps=7
    )
    # What meta-training reads has not changed.
    assert RunConfig.load(tmp_path) == RUN
    assert "another initialization" not in capsys.readouterr().err
    saved.save(state._replace(theta=tuple(t + 1 for t in state.theta)), 2)
    _, _, run = load_model(str(tmp_path))
    assert run == RUN
    assert "those of another initialization" in capsys.readouterr().err


def test_a_folder_with_nothing_but_a_keras_file_keeps_them_there(tmp_path):
    path = write_model(tmp_path)
    _, weights, _ = load_model(str(tmp_path))
    assert save_tuned(str(tmp_path), tuned_values(weights)) == path
    assert load_model(str(tmp_path))[2].learner.inner_steps == 7
    assert load_model(str(path))[2].learner.inner_steps == 7


def test_learned_rates_are_scaled(tmp_path):
    path = write_model(tmp_path, rates=True)
    _, weights, _ = load_model(str(path))
    save_tuned(str(path), tuned_values(weights, rates_factor=3.0, inner_steps=4))
    _, scaled, run = load_model(str(path))
    assert run.learner.inner_steps == 4
    for rate in scaled.rates:
        np.testing.assert_allclose(rate, 0.15, rtol=1e-6)
    # Still those of this initialization, for one who asks again.
    assert files.load_tuned(str(path), scaled) is not None


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_model(tmp_path)
    before = path.read_bytes()
    _, weights, _ = load_model(str(path))

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left.*finished trials are kept"):
        save_tuned(str(path), tuned_values(weights))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[1]",
        '{"values": {}}',
        json.dumps(
            {**dataclasses.asdict(tuned_values(Weights((), ()))), "values": {"a": 1}}
        ),
        json.dumps(
            {**dataclasses.asdict(tuned_values(Weights((), ()))), "values": {"l2": "0"}}
        ),
    ],
)
def test_tuned_values_that_cannot_be_read_say_so(tmp_path, text):
    (tmp_path / "tuned.json").write_text(text)
    with pytest.raises(UserError, match="tuned.json cannot be read.*tuned"):
        tuned.read_tuned(tmp_path)


def test_a_factor_on_learned_rates_is_no_flag_of_training():
    own = {"rates_factor": 2.0, "inner_steps": 3, "final_dropout": 0.25}
    text = tuned_values(untuned_network().weights(), **own).flagfile()
    assert text == "--inner_steps=3\n--final_dropout=0.25\n"
