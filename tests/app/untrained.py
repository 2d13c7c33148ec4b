"""Small untrained networks, and pictures with marks, for the page."""

import io
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from efficientlab_tf.app.annotations import (
    BACKGROUND,
    FOREGROUND,
)
from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import LearnerConfig, ModelConfig
from efficientlab_tf.models import build_model
from efficientlab_tf.segmenters.network import Network
from tests.models.tiny import tiny_network

ROOT = Path(__file__).parents[2]
SIZE = 32
GUIDED, STEPPED, EARLY = "tiny_guided", "tiny", "tiny_early"
LINEAR_SIZE = 224
STEPS = 3
LEARNER = LearnerConfig(
    inner_steps=STEPS, inner_learning_rate=0.1, inner_batch=0, augment_rate=0.0
)
SIZES = [(40, 60), (64, 32), (32, 32)]
POINTS = [(0, 4, 5, FOREGROUND), (0, 30, 50, BACKGROUND), (1, 50, 20, FOREGROUND)]


def write_models(folder: Path) -> list[str]:
    """Untrained networks, as files that the page takes."""
    keras.utils.set_random_seed(5)
    narrow = {"image_size": SIZE, "width": 1 / 16, "dilated": True, "dropout": 0.0}
    networks = {
        GUIDED: build_model("guided", **narrow, channels=16),
        EARLY: build_model("guided", **narrow, channels=16, fusion="early"),
        STEPPED: tiny_network(SIZE),
    }
    run = RunConfig(model=ModelConfig(image_size=SIZE), learner=LEARNER)
    paths = []
    for name, model in networks.items():
        network, path = Network(model), folder / f"{name}.keras"
        save_keras(path, network, network.weights(), run)
        paths.append(str(path))
    return paths


def picture(size, seed: int) -> np.ndarray:
    """Smooth noise, uint8 [height, width, 3]."""
    small = np.random.default_rng(seed).integers(0, 256, [4, 4, 3], np.uint8)
    return np.asarray(Image.fromarray(small).resize(size[::-1]))


def encoded(image: np.ndarray, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, form, **options)
    return file.getvalue()


def mark_all(workspace, points=POINTS) -> None:
    for index, row, column, label in points:
        workspace.mark(index, row, column, label)


def fitted(side: int = SIZE) -> np.ndarray:
    """The pictures at a model's size."""
    images = [Image.fromarray(picture(size, i)) for i, size in enumerate(SIZES)]
    how = Image.Resampling.BILINEAR
    return np.stack([np.asarray(image.resize((side, side), how)) for image in images])
