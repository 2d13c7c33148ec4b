"""A small network to tune, and values that tuning found."""

from pathlib import Path

import keras

from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.checkpoint.tuned import Tuned, fingerprint
from efficientlab_tf.config import (
    DataConfig,
    LearnerConfig,
    ModelConfig,
)
from efficientlab_tf.segmenters.network import Network, Weights
from tests.models.tiny import tiny_network

RUN = RunConfig(
    DataConfig(dataset_dir="sample:icons", shots=3),
    ModelConfig(image_size=32, final_dropout=0.2),
    LearnerConfig(inner_learning_rate=0.05, inner_steps=2, augment_rate=0.0),
)


def untuned_network(seed: int = 0) -> Network:
    keras.utils.set_random_seed(seed)
    return Network(tiny_network(32, dropout=0.2))


def write_model(folder: Path, run: RunConfig = RUN, rates: bool = False) -> Path:
    network = untuned_network()
    weights = network.weights()
    if rates:
        weights = weights._replace(rates=tuple(0 * t + 0.05 for t in weights.theta))
    save_keras(folder / "model.keras", network, weights, run)
    return folder / "model.keras"


def tuned_values(weights: Weights, **values) -> Tuned:
    return Tuned(
        values=values or {"inner_learning_rate": 0.125, "inner_steps": 7},
        initialization=fingerprint(weights),
        dataset="icons",
        split="val",
        tasks=4,
        shots=3,
        batch_norm="support",
        trials=6,
        score=0.5,
        untuned_score=0.25,
    )
