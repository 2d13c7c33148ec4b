"""The siamese network's learner: pairs of cells, half of them at a time."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners import build_learner
from efficientlab_tf.learners.siamese import half
from efficientlab_tf.losses import cross_entropy
from efficientlab_tf.models.siamese import downsample_labels, pair_model
from efficientlab_tf.segmenters.inner_loop import fold_in
from tests.learners.contract import episodes
from tests.learners.forward import CONFIG, learner_of, network, task


def test_siamese_loss_is_that_of_half_of_all_pairs():
    net = network("siamese")
    learner = learner_of(net, learner="siamese")
    episode = task(episodes(1, shots=2, queries=2))
    masks = episode.support_masks.numpy()
    masks[0, :12] = IGNORE
    episode = episode._replace(support_masks=tf.constant(masks))
    pairs = pair_model(net.model)(
        {
            "support_images": tf.cast(episode.support_images, tf.float32),
            "support_masks": tf.cast(masks, tf.float32),
            "query_images": tf.cast(episode.query_images, tf.float32),
        }
    )
    s = pairs["similarity"].numpy().astype(np.float64)
    cells = pairs["labels"].shape[1:]
    query = downsample_labels(episode.query_masks, *cells).numpy().reshape(2, -1, 1)
    support = pairs["labels"].numpy().reshape(-1)
    known = np.broadcast_to(support != IGNORE, s.shape)
    same = query == support
    entropy = np.log1p(np.exp(np.where(same, -s, s)))
    right = (s > 0) == same
    losses = set()
    for number in range(4):
        seed = tf.constant([number, 2])
        columns = half(len(support), fold_in(seed, 1)).numpy()
        rows = half(query.shape[1], fold_in(seed, 2)).numpy()
        seen = np.zeros(s.shape, bool)
        seen[np.ix_(range(len(s)), rows, columns)] = True
        loss, metrics, _ = learner.loss(net.weights(), episode, seed)
        np.testing.assert_allclose(loss, entropy[seen & known].mean(), rtol=1e-5)
        expected = right[seen & known].mean()
        np.testing.assert_allclose(metrics["accuracy"], expected, rtol=1e-5)
        losses.add(float(loss))
    assert len(losses) == 4


def test_halves_are_drawn_uniformly_without_replacement():
    drawn = np.stack([half(9, tf.constant([seed, 0])) for seed in range(400)])
    assert drawn.shape == (400, 5)
    assert all(len(set(row)) == 5 for row in drawn.tolist())
    counts = np.bincount(drawn.flatten(), minlength=9)
    # Each is in a draw with probability 5/9; five standard deviations.
    assert np.all(np.abs(counts - 400 * 5 / 9) < 5 * np.sqrt(400 * 20 / 81))


def test_the_loss_of_siamese_cannot_be_replaced():
    config = dataclasses.replace(CONFIG, learner="siamese")
    with pytest.raises(UserError, match="`loss` must be .*, received an objective"):
        build_learner(network("siamese"), config, meta_steps=1, objective=cross_entropy)
