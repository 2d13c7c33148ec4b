"""One worker of some that take meta-steps together, for `probe`."""

import os

from efficientlab_tf import quiet  # noqa: F401  (imports TensorFlow, before others do)

# isort: split
import tensorflow as tf

from benchmarks.meta_step import random_episodes
from benchmarks.probe import serve
from efficientlab_tf.checkpoint.run import build_network
from efficientlab_tf.config import LearnerConfig, ModelConfig, TrainConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.learners import build_learner
from efficientlab_tf.training.devices import open_devices


class WorkerWorkload:
    """A worker with one thread; its steps end when those of all workers do.

    Args:
      cluster: TF_CONFIG; empty for one that works alone.
      model: fields of `ModelConfig`.
      learner: fields of `LearnerConfig`.
      tasks: of a meta-batch, on all workers together.
      shots: support examples of a task, and as many queries.
    """

    def __init__(
        self, cluster: str, model: dict, learner: dict, tasks: int, shots: int
    ):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        strategy = "one"
        if cluster:
            os.environ["TF_CONFIG"] = cluster
            strategy = "multi_worker"
        self._devices = open_devices(TrainConfig(strategy=strategy, meta_batch=tasks))
        network = build_network(ModelConfig(**model))
        self._parameters = network.model.count_params()
        self._learner = build_learner(network, LearnerConfig(**learner), meta_steps=100)
        size = network.image_shape[0]
        own = self._devices.positions(tasks)
        batch = random_episodes(tasks, shots, shots, size)[:4]
        self._episodes = Episode(*(f[own.start : own.stop] for f in batch), None)

    def trace(self) -> dict:
        """Makes the state and the step, which is traced at its first call."""
        self._state = self._learner.init()
        self._step = self._devices.meta_step(self._learner, jit=False)
        return {"parameters": self._parameters}

    def step(self) -> None:
        """Takes the meta-step from the initial state, always the same."""
        _, metrics = self._step(self._state, self._episodes, tf.constant(0, tf.int64))
        float(metrics["loss"])


if __name__ == "__main__":
    serve(WorkerWorkload)
