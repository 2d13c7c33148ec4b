"""Meta-steps of every learner on some devices, in a process of their own."""

import dataclasses
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from efficientlab_tf.config import TrainConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.learners import build_learner
from efficientlab_tf.models import build_model
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.training.devices import open_devices
from tests.learners.contract import CONFIG, SIZE, episodes
from tests.models.tiny import tiny_network

TASKS, STEPS = 4, 2
GRADIENT = {"inner_learning_rate": 0.05, "inner_steps": 2}
FORWARD = {"learner": "feedforward", "loss": "cross_entropy"}
LEARNERS = {
    "fomaml": GRADIENT | {"meta_optimizer": "sgd", "momentum": 0.9},
    "reptile": GRADIENT,
    "maml": GRADIENT,
    "meta_sgd": GRADIENT,
    "oslsm": FORWARD,
    "closed_form": FORWARD,
}


def network(name: str) -> Network:
    """A small one; all but that of OSLSM have running averages."""
    keras.utils.set_random_seed(1)
    if name == "closed_form":
        options = {"image_size": SIZE, "backbone": "EfficientNetLite0", "stages": "3"}
        return Network(build_model(name, **options))
    if name == "oslsm":
        options = {"image_size": SIZE, "width": 1 / 16, "dilated": True}
        return Network(build_model(name, **options))
    return Network(tiny_network(SIZE, dropout=0.2))


def take(out: Path, config: TrainConfig, cluster: str = "") -> None:
    """Writes NAME.npz with the state and metrics of each learner after `STEPS`.

    Args:
      out: the folder.
      config: its strategy is used.
      cluster: TF_CONFIG.
    """
    if cluster:
        os.environ["TF_CONFIG"] = cluster
    devices = open_devices(config)
    own = devices.positions(TASKS)
    for name, changes in LEARNERS.items():
        settings = dataclasses.replace(
            CONFIG,
            **{"learner": name, "meta_learning_rate": 0.1, "augment_rate": 0.0}
            | changes,
        )
        learner = build_learner(network(name), settings, meta_steps=10, seed=3)
        state, step = learner.init(), devices.meta_step(learner, jit=False)
        for number in range(STEPS):
            batch = episodes(TASKS, seed=number)[:4]
            part = Episode(*(field[own.start : own.stop] for field in batch), None)
            state, metrics = step(state, part, tf.constant(number, tf.int64))
        values = tf.nest.flatten((state, metrics))
        np.savez(out / f"{name}.npz", *(v.numpy() for v in values))
    assert devices.any(devices.chief)
