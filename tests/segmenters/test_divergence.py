"""An adaptation whose loss has no bound says so, and is never taken for one."""

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.checkpoint.run import build_inner_loop
from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import evaluate
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.segmenters.segmenter import Diverged
from tests.models.tiny import tiny_network

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
MASKS = (IMAGES[..., 0] > 99).astype(np.uint8)


@pytest.fixture(scope="module")
def segmenter():
    network = Network(tiny_network(32))
    functions = AdaptFunctions(
        build_inner_loop(
            LearnerConfig(loss="cross_entropy", augment_rate=0.0, l2=0.0), network
        )
    )

    def build(rate, steps, batch_norm="running", rates=()):
        weights = network.weights()._replace(rates=rates)
        return functions.segmenter(
            weights, learning_rate=rate, steps=steps, batch_norm=batch_norm
        )

    return build


@pytest.mark.parametrize("rate", [1e8, 1e30, float("inf"), float("nan")])
def test_a_learning_rate_without_sense(segmenter, rate):
    diverging = segmenter(rate, 4)
    with pytest.raises(Diverged, match=r"`learning_rate` .* loss went from [01]\.\d"):
        diverging.adapt(IMAGES, MASKS)
    with pytest.raises(Diverged, match="within 2 steps"):
        list(diverging.walk(IMAGES, MASKS))
    assert issubclass(Diverged, UserError)


def test_learned_rates_without_sense(segmenter):
    theta = segmenter(0.1, 3).weights.theta
    rates = tuple(tf.fill(t.shape, 1e8) for t in theta)
    with pytest.raises(Diverged, match="with the learned rates the loss went"):
        segmenter(0.1, 3, rates=rates).adapt(IMAGES, MASKS)


def test_a_single_step_is_known_by_its_predictions(segmenter):
    # The loss is that before the step.
    adapted = segmenter(1e38, 1).adapt(IMAGES, MASKS)
    assert np.isfinite(adapted.losses).all()
    with pytest.raises(Diverged, match="predicts numbers that are not finite"):
        adapted.predict(IMAGES)


def test_a_large_rate_that_is_bounded_is_none_of_this(segmenter):
    adapted = segmenter(0.5, 10).adapt(IMAGES, MASKS)
    assert len(adapted.losses) == 10
    assert np.isfinite(adapted.predict(IMAGES)).all()
    assert len(list(segmenter(0.5, 3).walk(IMAGES, MASKS))) == 4
    assert not len(segmenter(float("inf"), 0).adapt(IMAGES, MASKS).losses)


def test_a_meta_test_names_the_task(segmenter):
    other = 255 - IMAGES
    episode = Episode(*map(tf.constant, (IMAGES, MASKS, other, MASKS)), None)
    with pytest.raises(Diverged, match="^bear: adaptation diverged"):
        evaluate(segmenter(1e8, 3), [(episode, "bear", 0)])
