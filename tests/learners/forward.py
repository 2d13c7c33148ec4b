"""Learners without an inner loop, on narrow networks; pictures of two discs."""

import dataclasses

import keras
import numpy as np

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.learners import build_learner
from efficientlab_tf.models import build_model
from efficientlab_tf.segmenters.network import Network
from tests.learners.contract import SIZE

NARROW = {"image_size": SIZE, "width": 1 / 16, "dilated": True}
CONFIG = LearnerConfig(
    learner="feedforward",
    loss="cross_entropy",
    l2=0.0,
    augment_rate=0.0,
    meta_optimizer="adam",
    meta_learning_rate=1e-3,
    meta_learning_rate_final=1e-3,
)


def network(model: str = "oslsm", **options) -> Network:
    keras.utils.set_random_seed(7)
    return Network(build_model(model, **(NARROW | {"dropout": 0.0} | options)))


def frozen() -> Network:
    """A network of which the decoder alone is trained."""
    keras.utils.set_random_seed(7)
    return Network(
        build_model(
            "closed_form",
            image_size=64,
            backbone="EfficientNetLite0",
            weights="imagenet",
            freeze_features=True,
            freeze_classifiers=True,
            stages="4,6",
        )
    )


def learner_of(net: Network, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    return build_learner(net, config, meta_steps=100, seed=3)


def task(batch: Episode, index: int = 0) -> Episode:
    return Episode(*(field[index] for field in batch))


def blue(picture: np.ndarray) -> np.ndarray:
    """The mask of a picture's blue disc."""
    return ((picture[..., 2] > 200) & (picture[..., 0] < 50)).astype(np.uint8)


def two_discs(rng, shown: int, both: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A picture of a red and a blue disc on noise, 64 pixels, and the mask of one."""
    y, x = np.mgrid[:64, :64]
    picture = rng.integers(90, 160, (64, 64, 3)).astype(np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    columns = rng.permutation([16, 48])
    for kind, colour in enumerate(((250, 10, 10), (10, 10, 250))):
        disc = (y - rng.integers(18, 46)) ** 2 + (x - columns[kind]) ** 2 < 14**2
        if kind == shown or both:
            picture[disc] = colour
        if kind == shown:
            mask[disc] = 1
    return picture, mask
