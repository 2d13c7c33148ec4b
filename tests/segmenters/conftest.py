"""What baselines see with, and a task."""

import numpy as np
import pytest

from efficientlab_tf.segmenters.baselines import FeatureExtractor
from tests.learners.contract import episodes
from tests.segmenters.extractors import tiny_model


@pytest.fixture(scope="package")
def tiny():
    return FeatureExtractor(tiny_model())


@pytest.fixture(scope="package")
def lite0():
    return FeatureExtractor(image_size=160)


@pytest.fixture(scope="package")
def task():
    batch = episodes(1, shots=3, queries=4)
    return tuple(np.asarray(field[0]) for field in batch[:4])
