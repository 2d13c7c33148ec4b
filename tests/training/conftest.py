"""A run of a few seconds: a network of a few thousand parameters and real pictures."""

import functools

import keras
import pytest
import tensorflow as tf

from efficientlab_tf.checkpoint import files
from efficientlab_tf.checkpoint.run import RunConfig, build_functions
from efficientlab_tf.config import DataConfig, LearnerConfig, ModelConfig, TrainConfig
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.training import loop
from efficientlab_tf.training.devices import Devices
from efficientlab_tf.training.learner import build_run_learner
from tests.models.tiny import tiny_network


@functools.cache
def _network(image_size: int, dropout: float) -> Network:
    return Network(tiny_network(image_size, dropout=dropout))


@functools.cache
def _learner(network: Network, config: LearnerConfig, meta_steps: int, seed: int):
    train = TrainConfig(meta_steps=meta_steps, seed=seed)
    learner = build_run_learner(RunConfig(learner=config, train=train), network)
    init, slots = learner.init, learner.init().optimizer
    # The optimizer's own variables hold what was last computed with them.
    learner.init = lambda: init()._replace(optimizer=slots)
    return learner


@functools.cache
def _traced(meta_step, jit: bool):
    return tf.function(meta_step, jit_compile=jit)


_functions = functools.cache(build_functions)


@pytest.fixture
def tiny_models(monkeypatch):
    """Runs build a tiny network, and trace what they compute once in this process.

    A network's variables are drawn anew for each run, and a run's state goes through
    its functions.
    """

    def fresh(config: ModelConfig, seed: int = 0) -> Network:
        keras.utils.set_random_seed(seed)
        return Network(tiny_network(config.image_size, dropout=config.final_dropout))

    def build(config: ModelConfig, seed: int = 0) -> Network:
        network = _network(config.image_size, config.final_dropout)
        network.model.set_weights(fresh(config, seed).model.get_weights())
        return network

    def learner(config: RunConfig, network: Network):
        train = config.train
        return _learner(network, config.learner, train.meta_steps, train.seed)

    monkeypatch.setattr(loop, "build_network", build)
    monkeypatch.setattr(loop, "build_run_learner", learner)
    monkeypatch.setattr(loop, "build_functions", _functions)
    monkeypatch.setattr(
        Devices, "meta_step", lambda _, learner, jit: _traced(learner.meta_step, jit)
    )
    monkeypatch.setattr(files, "build_network", fresh)


@pytest.fixture
def config(tmp_path, sample_classes, tiny_models):
    """A run of six meta-steps on a few real pictures."""
    train, val = sample_classes
    (tmp_path / "train.txt").write_text("\n".join(train[:4]) + "\n")
    (tmp_path / "val.txt").write_text("\n".join(val[:2]) + "\n")
    splits = f"train={tmp_path / 'train.txt'},val={tmp_path / 'val.txt'}"
    return RunConfig(
        DataConfig(dataset_dir="sample:icons", splits=splits, cache_gb=0.1),
        ModelConfig(image_size=32, final_dropout=0.2),
        LearnerConfig(
            inner_learning_rate=0.05,
            inner_steps=3,
            meta_optimizer="adam",
            meta_learning_rate=1e-2,
        ),
        TrainConfig(
            run_dir=str(tmp_path / "run"),
            meta_steps=6,
            meta_batch=2,
            validate_every=3,
            val_episodes=2,
            log_every=1,
            save_every=2,
        ),
    )


@pytest.fixture(scope="session")
def sample_classes():
    manifest = Manifest.load("sample:icons")
    return manifest.split("train"), manifest.split("val")
