"""Early stopping, and the walk that it follows."""

import numpy as np
import pytest

from efficientlab_tf.data.augment import Augmenter
from efficientlab_tf.losses import Objective
from efficientlab_tf.segmenters.adaptation import choose_held_out
from efficientlab_tf.segmenters.early_stopping import early_stopping
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.inner_loop import InnerLoop
from efficientlab_tf.segmenters.network import Network
from tests.learners.contract import episodes
from tests.models.tiny import tiny_network


def _stop(scores, **options):
    return early_stopping(range(len(scores)), lambda k: scores[k], **options)


@pytest.mark.parametrize(
    ("scores", "options", "steps", "seen"),
    [
        ([0, 1, 2, 3, 3, 2, 4, 1], {"patience": 3}, 6, 8),
        ([0, 1, 2, 3, 3, 2, 1, 9], {"patience": 3}, 3, 7),
        ([0, 5, 1, 1, 6], {"patience": 1}, 1, 3),
        # Fewer than the minimum are not chosen, however good.
        ([9, 8, 1, 2, 1, 1], {"patience": 2, "min_steps": 2}, 3, 6),
        ([9, 8, 1], {"min_steps": 0, "patience": 2}, 0, 3),
        ([1, float("nan"), 2, float("nan")], {"patience": 3}, 2, 4),
    ],
)
def test_the_best_step_is_found_and_the_end_too(scores, options, steps, seen):
    stop = _stop(scores, **options)
    assert (stop.steps, stop.score, len(stop.scores)) == (steps, scores[steps], seen)


def test_too_few_steps_are_an_error():
    with pytest.raises(ValueError, match="at least 3 steps, received 1"):
        _stop([1, 2], min_steps=3)


@pytest.mark.parametrize("batch_norm", ["running", "support"])
def test_a_walk_passes_what_adapt_reaches(batch_norm):
    network = Network(tiny_network(32, dropout=0.3))
    inner = InnerLoop(network, Objective(), batch=2, augment=Augmenter(0.5))
    functions = AdaptFunctions(inner)
    task = episodes(1)
    support = task.support_images[0].numpy(), task.support_masks[0].numpy()
    query = task.query_images[0].numpy()
    walk = list(
        functions.segmenter(
            network.weights(), learning_rate=0.05, steps=3, batch_norm=batch_norm
        ).walk(*support, seed=4)
    )
    assert len(walk) == 4
    for steps, adapted in enumerate(walk):
        at_once = functions.segmenter(
            network.weights(), learning_rate=0.05, steps=steps, batch_norm=batch_norm
        ).adapt(*support, seed=4)
        np.testing.assert_allclose(
            adapted.predict(query), at_once.predict(query), atol=1e-5
        )
    assert not np.allclose(walk[1].predict(query), walk[3].predict(query), atol=1e-3)


def test_what_is_held_out_leaves_every_class():
    masks = np.zeros((10, 4, 4), np.uint8)
    masks[:7, 0], masks[7:9, 1], masks[9, 2] = 1, 2, 3
    for seed in range(20):
        chosen = choose_held_out(masks, seed)
        assert len(chosen) == 2 and 9 not in chosen
        assert not {7, 8} <= set(chosen)
    assert len(choose_held_out(masks[:2], 0)) == 1
    assert choose_held_out(masks[:1], 0) == [] == choose_held_out(masks[[0, 8, 9]], 0)
    assert len(choose_held_out(masks[:1].repeat(400, 0), 0)) == 64
