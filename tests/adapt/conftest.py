"""A network that knows squares, and the arguments of a small run."""

import pytest

from efficientlab_tf import quiet  # noqa: F401  (imports TensorFlow, before others do)
from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import ModelConfig
from tests.adapt.labelled_squares import LEARNER, learned, pairs
from tests.data.annotations.making import write
from tests.models.test_heads import SIZE


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    network, weights = learned()
    path = tmp_path_factory.mktemp("model") / "model.keras"
    config = RunConfig(model=ModelConfig(image_size=SIZE), learner=LEARNER)
    save_keras(path, network, weights, config)
    return path


@pytest.fixture
def paths(tmp_path, model):
    """Arguments of a small run: red squares are the object."""
    write(tmp_path / "support", pairs(4, 1))
    write(tmp_path / "query", pairs(3, 2, size=(50, 90)))
    return {
        "model": str(model),
        **{n: str(tmp_path / n) for n in ("support", "query", "output")},
    }
