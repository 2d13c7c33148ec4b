"""A run of a few seconds: a network of a few thousand parameters and real pictures."""

import keras
import pytest

from efficientlab_tf.checkpoint import files
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import DataConfig, LearnerConfig, ModelConfig, TrainConfig
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.training import loop
from tests.models.tiny import tiny_network


@pytest.fixture
def tiny_models(monkeypatch):
    def build(config: ModelConfig, seed: int = 0) -> Network:
        keras.utils.set_random_seed(seed)
        return Network(tiny_network(config.image_size, dropout=config.final_dropout))

    monkeypatch.setattr(loop, "build_network", build)
    monkeypatch.setattr(files, "build_network", build)


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
