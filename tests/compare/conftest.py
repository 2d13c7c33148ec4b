"""A small comparison, and a network to compare."""

import subprocess

import pytest

from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import (
    CompareConfig,
    DataConfig,
    LearnerConfig,
    ModelConfig,
)
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.evaluation import measure as measuring
from efficientlab_tf.evaluation import study
from efficientlab_tf.segmenters.network import Network
from tests.models.tiny import tiny_network


@pytest.fixture
def config(tmp_path):
    names = Manifest.load("sample:icons").split("val")[:2]
    (tmp_path / "test.txt").write_text("\n".join(names) + "\n")
    return CompareConfig(
        methods="all_foreground,all_background",
        dataset_dir="sample:icons",
        splits=f"test={tmp_path / 'test.txt'}",
        shots="1",
        eval_size=32,
        splits_per_task=1,
        eval_queries=2,
        timed_tasks=1,
    )


@pytest.fixture(scope="package")
def model(tmp_path_factory):
    """A network at 64 pixels with random weights; its inner loop takes one step."""
    config = RunConfig(
        DataConfig(),
        ModelConfig(image_size=64),
        LearnerConfig(inner_steps=1, augment_rate=0.0),
    )
    network = Network(tiny_network(64))
    path = tmp_path_factory.mktemp("model") / "model.keras"
    save_keras(path, network, network.weights(), config)
    return path


@pytest.fixture
def here(monkeypatch):
    """Units are measured in this process, as others of their own take longer."""

    def run(command, **options):
        with pytest.raises(SystemExit):
            study.unit_process(measuring._measure, command[-2:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(study.subprocess, "run", run)
