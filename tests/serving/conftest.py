"""One small model, exported once by the command, for all tests of serving."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig, build_inner_loop
from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.segmenters.gradient import AdaptFunctions, GradientSegmenter
from efficientlab_tf.segmenters.network import Network
from tests.loading import load_model
from tests.models.tiny import tiny_network

NAME = "tiny"
SIZE = 32
LEARNER = LearnerConfig(inner_steps=3, inner_learning_rate=0.05, inner_batch=2)
ROOT = Path(__file__).parents[2]


class Export(NamedTuple):
    """An exported model beside the one that it was made of.

    Attributes:
      folder: NAME/1.
      printed: what the command said.
      segmenter: the same model in memory, with the defaults of the export.
    """

    folder: Path
    printed: str
    segmenter: GradientSegmenter


def run_export(*arguments: str) -> tuple[int, str, str]:
    """Runs the command in a process of its own."""
    process = subprocess.run(
        [sys.executable, "-m", "efficientlab_tf.export", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
    )
    return process.returncode, process.stdout, process.stderr


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Export:
    folder = tmp_path_factory.mktemp("export")
    path = folder / "model.keras"
    network = Network(tiny_network(SIZE, dropout=0.2))
    save_keras(path, network, network.weights(), RunConfig(learner=LEARNER))
    output = folder / NAME / "1"
    status, out, err = run_export(f"--model={path}", f"--output={output}")
    assert status == 0, err[-3000:]
    network, weights, run = load_model(str(path))
    segmenter = AdaptFunctions(build_inner_loop(run.learner, network)).segmenter(
        weights,
        learning_rate=run.learner.inner_learning_rate,
        steps=run.learner.inner_steps,
        batch_norm="support",
    )
    return Export(output, out, segmenter)


@pytest.fixture(scope="session")
def signatures(exported):
    """The exported signatures, loaded into this process."""
    model = tf.saved_model.load(str(exported.folder))
    yield model.signatures


def photos(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Images with structure at several scales: uint8 [count, height, width, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, [count, 6, 6, 3])
    coarse = coarse.repeat(-(-height // 6), 1).repeat(-(-width // 6), 2)
    images = coarse[:, :height, :width] + rng.normal(0, 20, [count, height, width, 3])
    return images.clip(0, 255).astype(np.uint8)


def task(
    seed: int = 0, shots: int = 3, size: tuple[int, int] = (SIZE, SIZE)
) -> dict[str, np.ndarray]:
    """A good request to adapt_and_segment."""
    masks = np.zeros([shots, *size], np.uint8)
    masks[:, size[0] // 4 : size[0] // 2, : size[1] // 2] = 1
    masks[:, -3:] = 255
    return {
        "support_images": photos(shots, *size, seed=seed).astype(np.float32),
        "support_masks": masks,
        "query_images": photos(2, *size, seed=seed + 100).astype(np.float32),
    }
