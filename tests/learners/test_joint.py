"""Plain training on all examples of a batch."""

import numpy as np
import tensorflow as tf

from efficientlab_tf.losses import cross_entropy
from efficientlab_tf.segmenters.network import Network
from tests.learners.contract import SIZE, LearnerContract, episodes
from tests.learners.forward import learner_of, task
from tests.models.tiny import tiny_network


class TestJoint(LearnerContract):
    name = "joint"
    # Its displacement is a whole gradient, not one times an inner learning rate.
    changes = {"meta_learning_rate": 0.1, "meta_learning_rate_final": 0.1}

    def test_loss_is_finite_and_at_chance_at_initialisation(self):
        learner = self.learner(l2=0.0, loss="cross_entropy")
        _, metrics = learner.meta_step(learner.init(), episodes(2), tf.constant(0))
        assert 0.3 < float(metrics["loss"]) < 1.3

    def test_interpolation_follows_linear_annealing(self):
        learner = self.learner(meta_learning_rate=0.5, meta_learning_rate_final=0.0)
        assert float(learner.schedule(50)) == 0.25

    def test_a_step_that_is_not_finite_changes_nothing(self):
        learner = self.learner(meta_optimizer="adam")
        state = learner.init()
        state = state._replace(theta=tuple(t * np.inf for t in state.theta))
        new, metrics = learner.meta_step(state, episodes(1), tf.constant(0))
        assert float(metrics["bad_step"]) == 1.0
        for a, b in zip(state.optimizer, new.optimizer, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_the_displacement_is_minus_the_gradient_on_all_examples(self):
        net = Network(tiny_network(SIZE))
        learner = learner_of(net, learner="joint")
        episode = task(episodes(1))
        update = learner.task_update(net.weights(), episode, tf.constant([1, 2]))
        images = tf.concat([episode.support_images, episode.query_images], 0)
        masks = tf.concat([episode.support_masks, episode.query_masks], 0)
        with tf.GradientTape() as tape:
            logits = net.model(tf.cast(images, tf.float32), training=True)
            loss = cross_entropy(logits, masks)
        gradient = tape.gradient(loss, net.model.trainable_variables)
        for d, g in zip(update.displacement, gradient, strict=True):
            np.testing.assert_allclose(d, -g, atol=1e-5)


def test_momentum_of_sgd():
    net = Network(tiny_network(SIZE))
    rate = {"meta_learning_rate": 0.01, "meta_learning_rate_final": 0.01}
    learner = learner_of(
        net, learner="joint", meta_optimizer="sgd", momentum=0.9, **rate
    )
    state, batch = learner.init(), episodes(1)
    velocity = [np.zeros(t.shape) for t in state.theta]
    for i in range(3):
        update = learner.displacement(state, batch, tf.constant(i))
        new, _ = learner.meta_step(state, batch, tf.constant(i))
        for j, d in enumerate(update.displacement):
            velocity[j] = 0.9 * velocity[j] + 0.01 * d.numpy()
            np.testing.assert_allclose(
                new.theta[j], state.theta[j] + velocity[j], atol=1e-5
            )
        state = new
