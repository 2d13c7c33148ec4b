"""Drawing scores to edges: the layer against `automatic.borders`, which it is for."""

import numpy as np
import tensorflow as tf

from efficientlab_tf.automatic.borders import refine
from efficientlab_tf.models.colors import DrawToEdges


def pictures(dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """Two pictures of a dark thing, colours 0..1, and a coarse score of where it is."""
    random = np.random.default_rng(0)
    colors = random.uniform(0.4, 1, [2, 40, 60, 3])
    colors[:, 10:30, 20:40] *= 0.3
    scores = 0.5 * random.normal(size=[2, 40, 60, 1]) - 1
    scores[:, 14:34, 24:44] += 2
    return colors.astype(dtype), scores.astype(dtype)


def test_scores_go_to_the_edges_of_what_is_of_one_colour():
    colors, scores = pictures()
    odds, drawn = np.moveaxis(DrawToEdges()([colors, scores]).numpy(), -1, 0)
    thing = np.zeros([40, 60], bool)
    thing[10:30, 20:40] = True
    assert ((scores[..., 0] > 0) == thing).mean() < 0.95
    assert ((drawn > 0) == thing).mean() > 0.97
    assert odds[:, thing].mean() > 1 and odds[:, ~thing].mean() < -1


def test_it_does_what_is_done_to_the_found_masks_of_one_class():
    colors, scores = pictures()
    drawn = tf.sigmoid(DrawToEdges()([colors, scores])[..., 1]).numpy()
    for i in range(2):
        p = tf.sigmoid(scores[i])
        expected = refine(255 * colors[i], tf.concat([1 - p, p], -1))[..., 1]
        np.testing.assert_allclose(drawn[i], expected, atol=1e-3)


def test_pictures_do_not_see_each_other():
    colors, scores = pictures("float64")
    layer = DrawToEdges(dtype="float64")
    both = layer([colors, scores])
    assert both.dtype == tf.float64
    alone = layer([colors[1:], scores[1:]])
    np.testing.assert_allclose(both[1:], alone, atol=1e-9)
    np.testing.assert_allclose(both, layer([colors, np.tile(scores, 3)]), atol=1e-9)
