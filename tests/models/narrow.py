"""Conditioned networks of little width and their inputs, for tests."""

import contextlib
import gc
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

NARROW = {"image_size": 64, "width": 1 / 16}
"""Options of VGG-16 with half a million parameters."""


@contextlib.contextmanager
def without_memory():
    """Variables made in this context have shapes and no values."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    # Else the next call of a model without state would give them values.
    forget_layers()


def forget_layers() -> None:
    """Makes Keras forget every layer that it made.

    Its own function also looks through all memory for garbage, which takes seconds in a
    process that ran many tests.
    """
    with mock.patch.object(gc, "collect"):
        keras.utils.clear_session()


def random_inputs(
    k: int = 2, q: int = 3, size: int = 64, dtype: str = "float32", seed: int = 0
) -> dict[str, tf.Tensor]:
    """Images of noise; each mask is a random half-plane with a border of 255."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    slopes = random.uniform(-1, 1, [k, 2, 1, 1])
    height = slopes[:, 0] * (x - 0.5) + slopes[:, 1] * (y - 0.5)
    masks = np.where(np.abs(height) < 0.03, 255, height > 0)
    arrays = {
        "support_images": random.integers(0, 256, [k, size, size, 3]),
        "support_masks": masks,
        "query_images": random.integers(0, 256, [q, size, size, 3]),
    }
    return {name: tf.constant(a, dtype) for name, a in arrays.items()}
