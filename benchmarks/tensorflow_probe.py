"""Second-order steps of this package and an unrolled tape, for `probe`."""

from efficientlab_tf import quiet  # noqa: F401  (imports TensorFlow, before others do)

# isort: split
import keras
import numpy as np
import tensorflow as tf

from benchmarks.probe import serve
from benchmarks.tasks import random_task
from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.learners import Learner, build_learner
from efficientlab_tf.models import build_model
from efficientlab_tf.segmenters.network import Network, Weights

SEED = (3, 4)


class TensorFlowWorkload:
    """One learner on one random task.

    Args:
      step: "meta_step" for `Learner.meta_step`, "gradient" for one task's
        meta-gradient by the learner, "unrolled" for the same through a tape.
      network: name and options of `build_model`.
      learner: fields of `LearnerConfig`.
      shots: support examples.
      queries: query examples.
      threads: that one operation may use; 0 leaves TensorFlow's choice.

    Raises:
      UserError: a network or a learner that cannot be.
    """

    def __init__(
        self,
        step: str,
        network: tuple[str, dict],
        learner: dict,
        shots: int,
        queries: int,
        threads: int = 0,
    ):
        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        keras.utils.set_random_seed(0)
        name, options = network
        self._network = Network(build_model(name, **options))
        self._learner = build_learner(
            self._network, LearnerConfig(**learner), meta_steps=100
        )
        size = self._network.image_shape[0]
        task = Episode(*map(tf.constant, random_task(shots, queries, size)), name=None)
        weights = self._learner.initial_weights()
        if step == "meta_step":
            batch = Episode(*(field[tf.newaxis] for field in task[:4]), name=None)
            self._arguments = self._learner.init(), batch, tf.constant(0)
            self._function = tf.function(self._learner.meta_step)
        else:
            self._arguments = weights, task
            gradient = {"gradient": by_the_learner, "unrolled": unrolled}[step]
            self._function = tf.function(
                lambda weights, task: gradient(self._learner, weights, task),
                autograph=False,
            )
        self._weights, self._task = weights, task

    def trace(self) -> dict:
        """Traces the step; "nodes": of its graph and all functions in it."""
        concrete = self._function.get_concrete_function(*self._arguments)
        graph = concrete.graph.as_graph_def()
        functions = graph.library.function
        return {"nodes": len(graph.node) + sum(len(f.node_def) for f in functions)}

    def step(self) -> None:
        """Takes the step from the initial state, always the same."""
        self._result = self._function(*self._arguments)
        # On a CPU a function returns when it is done; reading makes sure of it.
        tf.nest.flatten(self._result)[-1].numpy()

    def save(self, path: str) -> None:
        """Writes theta, its meta-gradient, and the query's logits at theta.

        Keys: theta/PATH and gradient/PATH with Keras's path of each variable, logits.
        """
        paths = [v.path for v in self._network.model.trainable_variables]
        logits, _ = self._network(
            *self._weights[:2],
            self._task.query_images,
            training=True,
            seed=tf.constant(SEED),
        )
        arrays = {"logits": logits.numpy()}
        for key, tensors in (
            ("theta", self._weights.theta),
            ("gradient", self._result),
        ):
            for name, tensor in zip(paths, tensors, strict=True):
                arrays[f"{key}/{name}"] = tensor.numpy()
        np.savez(path, **arrays)


def by_the_learner(learner: Learner, weights: Weights, task: Episode):
    """The learner's meta-gradient of one task: one tensor for each of theta."""
    update = learner.task_update(weights, task, tf.constant(SEED))
    return tuple(-d for d in update.displacement)


def unrolled(learner: Learner, weights: Weights, task: Episode):
    """MAML's meta-gradient as one writes it first: a tape around the whole inner loop.

    The loop is a Python loop, so each step has its own piece of graph, and the outer
    tape keeps every activation of every step. Nothing of the learner but its network,
    its loss and its constants is used. The network must have no dropout.

    Args:
      learner: a MAML with the whole support set in each step.
      weights: the initialization.
      task: one task.

    Returns:
      d L(theta_K; query) / d theta_0, one tensor for each of theta.
    """
    network, objective = learner.network, learner.inner.objective

    def loss(theta, images, masks):
        logits, _ = network(
            theta, weights.statistics, images, training=True, seed=tf.constant(SEED)
        )
        return objective(logits, masks, theta, network.decayed)[0]

    with tf.GradientTape() as outer:
        outer.watch(weights.theta)
        theta = weights.theta
        for _ in range(learner.config.inner_steps):
            with tf.GradientTape() as inner:
                inner.watch(theta)
                support = loss(theta, task.support_images, task.support_masks)
            gradient = inner.gradient(support, theta)
            alpha = learner.config.inner_learning_rate
            theta = tuple(t - alpha * g for t, g in zip(theta, gradient, strict=True))
        query = loss(theta, task.query_images, task.query_masks)
    return outer.gradient(query, weights.theta)


if __name__ == "__main__":
    serve(TensorFlowWorkload)
