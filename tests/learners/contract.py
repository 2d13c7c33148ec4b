"""What every gradient-based meta-learner must do; each learner's test inherits it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.graphs import graph
from efficientlab_tf.learners import build_learner
from efficientlab_tf.segmenters.network import Network
from tests.models.tiny import tiny_network

SIZE = 32
CONFIG = LearnerConfig(
    inner_learning_rate=0.1,
    inner_steps=4,
    inner_batch=4,
    l2=1e-4,
    augment_rate=0.0,
    meta_optimizer="interpolate",
    meta_learning_rate=1.0,
    meta_learning_rate_final=1.0,
)


def episodes(
    tasks: int, seed: int = 0, shots: int = 3, queries: int = 3, size: int = SIZE
) -> Episode:
    """Discs of one random colour a task, over noise of the others' colours."""
    rng = np.random.default_rng(seed)
    count = shots + queries
    y, x = np.mgrid[:size, :size]
    images = np.zeros((tasks, count, size, size, 3), np.uint8)
    masks = np.zeros((tasks, count, size, size), np.uint8)
    for task in range(tasks):
        colour = rng.integers(0, 256, 3)
        for i in range(count):
            cy, cx = rng.integers(size * 5 // 16, size - size * 5 // 16, 2)
            disc = (y - cy) ** 2 + (x - cx) ** 2 < (size // 4) ** 2
            picture = rng.integers(0, 256, (size, size, 3)) // 3
            picture[disc] = colour
            images[task, i], masks[task, i] = picture, disc
    tensors = [tf.constant(a) for a in (images, masks)]
    return Episode(
        tensors[0][:, :shots],
        tensors[1][:, :shots],
        tensors[0][:, shots:],
        tensors[1][:, shots:],
        tf.constant([f"task{i}" for i in range(tasks)]),
    )


def assert_learns(learner, steps: int) -> None:
    """Meta-trains, and compares the losses on new tasks before and after.

    Each is taken twice: of the tasks as they are, and with each other's masks. The
    second is what calibration and the size of objects are worth; a learner that sees
    which pixels belong together gains on the first alone.

    Args:
      learner: as it was built.
      steps: meta-steps of two tasks each.
    """
    step = graph(learner.meta_step)

    def losses(state) -> tuple[float, float]:
        own, others = [], []
        for seed in range(1000, 1006):
            new = episodes(2, seed)
            swapped = new._replace(
                support_masks=new.support_masks[::-1], query_masks=new.query_masks[::-1]
            )
            for batch, values in ((new, own), (swapped, others)):
                values.append(step(state, batch, tf.constant(0))[1]["loss"])
        return float(np.mean(own)), float(np.mean(others))

    state = learner.init()
    before, before_others = losses(state)
    for i in range(steps):
        state, metrics = step(state, episodes(2, i), tf.constant(i))
        assert metrics["bad_step"] == 0
    after, after_others = losses(state)
    assert after < 0.6 * before
    assert after / after_others < 0.4 * before / before_others


class LearnerContract:
    """Subclasses set `name`, and `changes` to `CONFIG` where they need them."""

    name: str
    changes: dict = {}

    def learner(self, dropout: float = 0.0, **changes):
        config = dataclasses.replace(
            CONFIG, learner=self.name, **(self.changes | changes)
        )
        # One set of initial weights for all learners of a test.
        tf.keras.utils.set_random_seed(7)
        network = Network(tiny_network(SIZE, dropout=dropout))
        return build_learner(network, config, meta_steps=100, seed=3)

    def test_loss_is_finite_and_at_chance_at_initialisation(self):
        learner = self.learner(l2=0.0, loss="cross_entropy")
        _, metrics = learner.meta_step(learner.init(), episodes(2), tf.constant(0))
        assert set(learner.metric_names) <= set(metrics)
        for name, value in metrics.items():
            assert np.isfinite(value), name
        # Two classes: log 2, give or take what random features do to it.
        assert 0.3 < float(metrics["support_loss"]) < 1.3

    @pytest.mark.learned
    def test_improves_with_meta_steps(self):
        assert_learns(self.learner(), steps=30)

    def test_adaptation_leaves_theta_untouched(self):
        learner = self.learner()
        before = [v.numpy().copy() for v in learner.network.model.variables]
        state = learner.init()
        theta = [t.numpy().copy() for t in state.theta]
        learner.meta_step(state, episodes(2), tf.constant(0))
        for old, variable in zip(before, learner.network.model.variables, strict=True):
            np.testing.assert_array_equal(old, variable.numpy())
        for old, tensor in zip(theta, state.theta, strict=True):
            np.testing.assert_array_equal(old, tensor.numpy())

    def test_an_episode_of_which_the_frozen_part_is_done_teaches_the_same(self):
        tf.keras.utils.set_random_seed(7)
        model = tiny_network(SIZE)
        for name in ("stem", "stem_bn", "dwconv", "dwconv_bn"):
            model.get_layer(name).trainable = False
        config = dataclasses.replace(CONFIG, learner=self.name, **self.changes)
        learner = build_learner(Network(model), config, meta_steps=100, seed=3)
        batch = episodes(1)
        prepare, weights = learner.preparation(), learner.initial_weights()
        one = Episode(*(field[0] for field in batch))
        prepared = prepare(tf.constant(0), one)
        assert prepared.query_images.keys() == prepared.support_images.keys()
        seed = tf.constant([1, 2])
        found, expected = (
            learner.task_update(weights, x, seed) for x in (prepared, one)
        )
        assert any(np.abs(d).max() > 1e-4 for d in expected.displacement)
        # In half precision.
        for a, b in zip(found.displacement, expected.displacement, strict=True):
            np.testing.assert_allclose(a, b, atol=0.02 * np.abs(b).max() + 1e-6)
        # As the training loop sees them: a batch of prepared episodes.
        several = tf.nest.map_structure(lambda x: tf.stack([x, x]), prepared)
        state, metrics = learner.meta_step(learner.init(), several, tf.constant(0))
        assert metrics["bad_step"] == 0
        assert len(state.theta) == len(weights.theta)

    @pytest.fixture(scope="class")
    def traced(self):
        """A learner that draws dropout, and its compiled step: traced once."""
        learner = self.learner(dropout=0.3)
        return learner, graph(learner.meta_step)

    def test_update_is_a_function_of_seed_and_step(self, traced):
        learner, step = traced
        state, batch = learner.init(), episodes(2)
        first, _ = step(state, batch, tf.constant(5))
        again, _ = step(state, batch, tf.constant(5))
        other, _ = step(state, batch, tf.constant(6))
        for a, b in zip(first.theta, again.theta, strict=True):
            np.testing.assert_array_equal(a, b)
        assert any(
            np.any(a != b) for a, b in zip(first.theta, other.theta, strict=True)
        )

    def test_graph_and_eager_agree(self, traced):
        learner, step = traced
        state, batch = learner.init(), episodes(2)
        eager, _ = learner.meta_step(state, batch, tf.constant(1))
        compiled, _ = step(state, batch, tf.constant(1))
        for a, b in zip(eager.theta, compiled.theta, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)

    def test_displacement_is_the_mean_over_tasks(self):
        learner = self.learner()
        state, both = learner.init(), episodes(2)
        together = learner.displacement(state, both, tf.constant(0)).displacement
        # In training mode a task's update does not read the running averages,
        # so tasks are independent but for their seeds.
        step_seed = _step_seed(3, 0)
        single = [
            learner.task_update(
                state.weights,
                Episode(*(field[i] for field in both)),
                tf.random.experimental.stateless_fold_in(step_seed, i),
            ).displacement
            for i in range(2)
        ]
        for mean, a, b in zip(together, *single, strict=True):
            np.testing.assert_allclose(mean, (a + b) / 2, atol=1e-5)

    def test_running_averages_pass_from_task_to_task(self):
        learner = self.learner()
        state, batch = learner.init(), episodes(3)
        one = Episode(*(field[:1] for field in batch))
        after_one = learner.displacement(state, one, tf.constant(0)).statistics
        after_all = learner.displacement(state, batch, tf.constant(0)).statistics
        distance = [
            sum(
                float(tf.norm(s - s0))
                for s, s0 in zip(stats, state.statistics, strict=True)
            )
            for stats in (after_one, after_all)
        ]
        assert 0 < distance[0] < distance[1]

    def test_a_step_that_is_not_finite_changes_nothing(self):
        learner = self.learner(inner_learning_rate=1e30, meta_optimizer="adam")
        state = learner.init()
        new, metrics = learner.meta_step(state, episodes(1), tf.constant(0))
        assert float(metrics["bad_step"]) == 1.0
        assert float(metrics["meta_step_norm"]) == 0.0
        old, new = tf.nest.flatten(state), tf.nest.flatten(new)
        assert len(old) > len(state.theta) + len(state.statistics)
        for a, b in zip(old, new, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_a_keras_meta_optimizer_gets_the_meta_gradient(self):
        learner = self.learner(
            meta_optimizer="sgd", meta_learning_rate=0.2, meta_learning_rate_final=0.2
        )
        state, batch, step = learner.init(), episodes(1), tf.constant(0)
        way = learner.displacement(state, batch, step)
        new, _ = learner.meta_step(state, batch, step)
        rate = 0.2 / learner.displacement_scale
        for field, ways in (("theta", way.displacement), ("rates", way.rates)):
            moved = zip(getattr(new, field), getattr(state, field), ways, strict=True)
            for n, o, d in moved:
                np.testing.assert_allclose(n, o + rate * d, atol=2e-5)

    def test_interpolation_follows_linear_annealing(self):
        learner = self.learner(meta_learning_rate=0.5, meta_learning_rate_final=0.0)
        state, batch = learner.init(), episodes(1)
        for step, rate in ((0, 0.5), (50, 0.25), (100, 0.0), (150, 0.0)):
            moved, metrics = learner.meta_step(state, batch, tf.constant(step))
            assert abs(float(metrics["meta_learning_rate"]) - rate) < 1e-6
            if not rate:
                tf.nest.map_structure(
                    np.testing.assert_array_equal, moved.theta, state.theta
                )
                continue
            update = learner.displacement(state, batch, tf.constant(step))
            for new, old, d in zip(
                moved.theta, state.theta, update.displacement, strict=True
            ):
                np.testing.assert_allclose(new, old + rate * d, atol=1e-5)


def _step_seed(seed: int, step: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(tf.constant([seed, 0]), step)
