"""Model files of somebody else, damaged or made to do harm: one sentence, no code."""

import io
import json
import os
import resource
import shutil
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.api.loading import load
from efficientlab_tf.checkpoint import files
from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import LearnerConfig, ModelConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners import build_learner
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.training.checkpoints import Checkpoints
from tests.loading import load_model
from tests.models.tiny import tiny_network

CONFIG, METADATA = "config.json", "efficientlab_tf.json"
RATES, TUNED = "efficientlab_tf_rates.npz", "efficientlab_tf_tuned.json"
RUN = RunConfig(model=ModelConfig(image_size=32), learner=LearnerConfig())


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """The members of a sound file by name."""
    path = tmp_path_factory.mktemp("sound") / "model.keras"
    network = Network(tiny_network(32))
    save_keras(path, network, network.weights(), RUN)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return str(path)


def arrays(*values):
    buffer = io.BytesIO()
    np.savez(buffer, *values)
    return buffer.getvalue()


def changed(data, **changes):
    """Some JSON with other values in its group "learner"."""
    document = json.loads(data)
    document["learner"] |= changes
    return json.dumps(document).encode()


def layer(**changes):
    """A change of a network's second layer."""

    def change(data):
        document = json.loads(data)
        document["config"]["layers"][1] |= changes
        return json.dumps(document).encode()

    return change


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def foreign(module, name, **config):
    return layer(module=module, class_name=name, config=config, registered_name=None)


BAD = [
    ("not JSON", {METADATA: lambda _: b"{"}),
    ("no group", {METADATA: lambda _: b"{}"}),
    ("a list", {METADATA: lambda _: b"[]"}),
    ("a list of pairs", {METADATA: lambda _: b'{"data": 1, "model": 2}'}),
    ("not UTF-8", {METADATA: lambda _: b"\xff\xfe\0"}),
    ("deep", {METADATA: lambda _: b"[" * 200_000}),
    ("unknown name", {METADATA: lambda d: changed(d, nope=1)}),
    ("wrong kind", {METADATA: lambda d: changed(d, inner_steps="x")}),
    ("beyond bounds", {METADATA: lambda d: changed(d, inner_steps=10**9)}),
    ("no number", {METADATA: lambda d: changed(d, inner_learning_rate=float("nan"))}),
    ("unknown choice", {METADATA: lambda d: changed(d, loss="nope")}),
    ("deep network", {CONFIG: lambda _: b"[" * 200_000}),
    ("no network", {CONFIG: lambda _: b"{}"}),
    ("no network at all", {CONFIG: None}),
    ("foreign class", {CONFIG: foreign("os", "mkdir", path="harm")}),
    ("builtins", {CONFIG: foreign("builtins", "exec")}),
    ("another backend", {CONFIG: foreign("keras.layers", "TorchModuleWrapper")}),
    ("a file", {CONFIG: foreign("keras.layers", "StringLookup", vocabulary="/etc")}),
    ("an odd layer", {CONFIG: layer(config={"filters": "x"})}),
    ("no weights", {"model.weights.h5": None}),
    ("half the weights", {"model.weights.h5": lambda d: d[: len(d) // 2]}),
    ("too few rates", {RATES: lambda _: arrays(np.zeros(3))}),
    ("rates with code", {RATES: lambda _: arrays(np.array([Harm()], object))}),
    ("rates no archive", {RATES: lambda _: b"x"}),
    ("bomb", {"efficientlab_tf_x.npz": lambda _: b"\0" * 2**27}),
    ("tuned deep", {TUNED: lambda _: b"[" * 200_000}),
    ("tuned not UTF-8", {TUNED: lambda _: b"\xff\xfe"}),
    ("tuned lacking", {TUNED: lambda _: b'{"values": {"inner_steps": 1}}'}),
]


@pytest.mark.parametrize(("what", "changes"), BAD, ids=[what for what, _ in BAD])
def test_files_of_somebody_else(members, tmp_path, monkeypatch, what, changes):
    monkeypatch.chdir(tmp_path)
    members = dict(members)
    for name, change in changes.items():
        data = members.pop(name, b"")
        if change is not None:
            members[name] = change(data)
    path = write(tmp_path / "x.keras", members)
    for read in (load_model, load):
        with pytest.raises(UserError) as caught:
            read(path)
        text = str(caught.value)
        assert "x.keras" in text and text.isprintable() and len(text) < 600
    assert not (tmp_path / "harm").exists()


def test_another_kind_of_network(tmp_path, members):
    values = keras.Input((5,))
    dense = keras.Model(values, keras.layers.Dense(1)(values))
    dense.save(tmp_path / "dense.keras")
    with pytest.raises(UserError, match="without this package's settings"):
        load_model(str(tmp_path / "dense.keras"))
    with zipfile.ZipFile(tmp_path / "dense.keras", "a") as archive:
        archive.writestr(METADATA, members[METADATA])
    with pytest.raises(UserError, match="does not map images to labels"):
        load_model(str(tmp_path / "dense.keras"))


def test_a_full_disk_keeps_the_file_that_was_there(tmp_path):
    path = tmp_path / "model.keras"
    network = Network(tiny_network(32))
    save_keras(path, network, network.weights(), RUN)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot write .*model.keras"):
            save_keras(path, network, network.weights(), RUN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["model.keras"]
    assert path.read_bytes() == before


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    """A run of two steps, all of whose weights are 1 and 2, and 3 in the best."""
    network = Network(tiny_network(32))
    monkeypatch.setattr(files, "build_network", lambda config: network)
    RUN.save(tmp_path)
    state = build_learner(network, RUN.learner, meta_steps=9).init()
    checkpoints = Checkpoints(tmp_path, state)

    def filled(value):
        return state._replace(theta=tuple(t * 0 + value for t in state.theta))

    checkpoints.save(filled(1.0), 1)
    checkpoints.save_if_best(filled(3.0), 2, 0.5)
    checkpoints.save(filled(2.0), 2)
    return tmp_path


def loaded(path):
    return float(load_model(str(path))[1].theta[0].numpy().flat[0])


def damage(path):
    path.write_bytes(path.read_bytes()[:100])


def test_a_damaged_best_checkpoint_is_never_replaced_in_silence(run_dir):
    assert loaded(run_dir) == 3.0
    damage(run_dir / "best" / "best-2.data-00000-of-00001")
    with pytest.raises(UserError, match="best-2 cannot be read .* delete .*best to"):
        load_model(str(run_dir))
    # Following the advice helps.
    shutil.rmtree(run_dir / "best")
    assert loaded(run_dir) == 2.0


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(run_dir, capsys):
    shutil.rmtree(run_dir / "best")
    damage(run_dir / "checkpoints" / "ckpt-2.data-00000-of-00001")
    assert loaded(run_dir) == 1.0
    note = capsys.readouterr().err
    assert "ckpt-2 cannot be read" in note and "the one before" in note
    damage(run_dir / "checkpoints" / "ckpt-1.index")
    with pytest.raises(UserError, match="none before it that can"):
        load_model(str(run_dir))


def test_a_list_of_checkpoints_that_is_garbage(run_dir):
    for folder in ("best", "checkpoints"):
        (run_dir / folder / "checkpoint").write_bytes(b"\xff\0garbage")
    assert loaded(run_dir) == 3.0


def test_the_best_of_another_run_is_not_loaded(run_dir, tmp_path, capsys):
    state = build_learner(Network(tiny_network(32)), RUN.learner, meta_steps=9).init()
    shutil.rmtree(run_dir / "best")
    other = Checkpoints(tmp_path / "other", state)
    other.save_if_best(state, 5, 0.9)
    shutil.copytree(tmp_path / "other" / "best", run_dir / "best")
    assert loaded(run_dir) == 2.0
    assert "best-5 is of another run and is not used" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[" * 200_000, "{", "\0", '{"data": []}', "[]"])
def test_a_run_with_settings_that_are_none(run_dir, text):
    (run_dir / "config.json").write_text(text)
    with pytest.raises(UserError, match="config.json"):
        load_model(str(run_dir))


def test_learned_rates_fit_their_parameters(members, tmp_path):
    theta = Network(tiny_network(32)).weights().theta
    for rates in (
        [np.full(t.shape, 0.1, np.float32) for t in theta],
        [np.full((4, *[1] * len(t.shape)), 0.1, np.float32) for t in theta],
    ):
        path = write(tmp_path / "x.keras", members | {RATES: arrays(*rates)})
        assert len(load_model(path)[1].rates) == len(theta)
        rates[1] = tf.zeros([2, 2, 2]).numpy()
        path = write(tmp_path / "x.keras", members | {RATES: arrays(*rates)})
        with pytest.raises(UserError, match="learned rates"):
            load_model(path)
