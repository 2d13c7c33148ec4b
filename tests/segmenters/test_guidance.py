"""Guided networks as segmenters: features first, annotations later."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.graphs import graph
from efficientlab_tf.learners import build_learner
from efficientlab_tf.models import build_model
from efficientlab_tf.models.guided import FUSIONS
from efficientlab_tf.segmenters.forward import (
    ForwardFunctions,
    LateFusionFunctions,
    forward_functions,
)
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.segmenters.segmenter import Features
from tests.learners.contract import SIZE
from tests.learners.forward import CONFIG, NARROW, blue, two_discs

LATE = [fusion for fusion in FUSIONS if fusion.startswith("late")]
POINTS = [(3, 4, 1), (20, 9, 1), (30, 31, 0), (0, 17, 0), (11, 12, 2)]


def network(fusion: str = "late_global") -> Network:
    keras.utils.set_random_seed(7)
    options = {**NARROW, "dropout": 0.0, "channels": 16, "fusion": fusion}
    return Network(build_model("guided", **options))


@pytest.fixture(scope="module", params=FUSIONS)
def segmenter(request):
    net = network(request.param)
    return forward_functions(net).segmenter(net.weights())


def images(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, [count, SIZE, SIZE, 3]).astype(np.uint8)


def masks_of(count: int, points) -> np.ndarray:
    """Masks of (image, row, column, label) and nothing else."""
    masks = np.full([count, SIZE, SIZE], 255, np.uint8)
    for image, row, column, label in points:
        masks[image, row, column] = label
    return masks


def test_what_was_read_is_as_good_as_the_images(segmenter):
    pictures, queries = images(3), images(5, 1)
    masks = masks_of(3, [(0, *p) for p in POINTS] + [(2, 7, 7, 3), (1, 6, 6, 2)])
    read, read_queries = segmenter.read(pictures), segmenter.read(queries)
    expected = segmenter.adapt(pictures, masks).predict(queries)
    given = segmenter.adapt(read, masks).predict(read_queries)
    assert given.shape == (5, SIZE, SIZE, 4) and given.dtype == np.float32
    np.testing.assert_allclose(given, expected, atol=1e-5)
    np.testing.assert_allclose(given.sum(-1), 1, atol=1e-5)


def test_late_fusion_reads_images_before_they_are_annotated(segmenter):
    assert segmenter.live == isinstance(segmenter.functions, LateFusionFunctions)
    read = segmenter.read(images(2)).values
    if segmenter.live:
        assert read.shape[:3] == (2, 4, 4)
    else:
        np.testing.assert_array_equal(read, images(2))


@pytest.mark.parametrize("fusion", LATE)
def test_unlabelled_pixels_have_no_influence(fusion):
    net = network(fusion)
    segmenter = forward_functions(net).segmenter(net.weights())
    pictures = images(2)
    masks = masks_of(2, [(0, 1, 1, 1), (0, 30, 30, 0)])
    (guide,) = segmenter.adapt(pictures, masks).guides
    # Another shot without annotations, and other features where nothing is known.
    other = np.stack([pictures[0], pictures[1] // 2])
    np.testing.assert_array_equal(guide, segmenter.adapt(other, masks).guides[0])
    known = np.zeros([2, 4, 4, 1], bool)
    known[0, 0, 0] = known[0, 3, 3] = True
    features = np.where(known, segmenter.read(pictures).values, np.float32(1e3))
    (changed,) = segmenter.adapt(Features(features), masks).guides
    np.testing.assert_array_equal(guide, changed)


def test_the_mean_is_over_the_shots_that_carry_annotations():
    net = network()
    segmenter = forward_functions(net).segmenter(net.weights())
    pictures = images(4)
    points = [(0, 1, 1, 1), (0, 30, 30, 0), (1, 9, 9, 1), (2, 20, 20, 0)]
    masks = masks_of(4, points)
    masks[0, :10, :10] = 1  # A dense part beside points, and a shot without any.
    guide = segmenter.adapt(pictures, masks).guides[0].numpy()[0]
    features = segmenter.read(pictures).values
    signs = []
    for sign in (1, 0):
        counts = (masks == sign).reshape(4, 4, 8, 4, 8).sum((2, 4))[..., np.newaxis]
        shots = [
            (f * c).sum((0, 1)) / c.sum()
            for f, c in zip(features, counts, strict=True)
            if c.any()
        ]
        assert len(shots) == 2
        signs.append(np.mean(shots, axis=0))
    np.testing.assert_allclose(guide, np.concatenate(signs), rtol=1e-4, atol=1e-6)


def test_it_predicts_what_the_whole_network_predicts(segmenter):
    """The pieces of late fusion are the network that is cut at its guide."""
    pictures, queries = images(3), images(5, 1)
    masks = masks_of(3, [(0, *p) for p in POINTS] + [(2, 7, 7, 3), (1, 6, 6, 2)])
    net = segmenter.functions.network
    whole = ForwardFunctions(net).segmenter(segmenter.weights)
    expected = whole.adapt(pictures, masks).predict(queries)
    given = segmenter.adapt(pictures, masks, seed=3)
    np.testing.assert_allclose(given.predict(queries), expected, atol=1e-5)
    np.testing.assert_allclose(given.predict(queries, batch=2), expected, atol=1e-5)


def test_it_is_a_function_of_the_weights_that_were_given(segmenter):
    weights = segmenter.weights
    other = weights._replace(theta=tuple(t * 1.5 for t in weights.theta))
    moved = dataclasses.replace(segmenter, weights=other)
    masks = masks_of(1, [(0, 1, 1, 1)])
    a, b = (s.adapt(images(1), masks).predict(images(1, 3)) for s in (segmenter, moved))
    assert np.abs(a - b).max() > 1e-4


def test_other_statistics_are_refused(segmenter):
    with pytest.raises(UserError, match="`batch_norm` must be running"):
        segmenter.functions.segmenter(segmenter.weights, batch_norm="support")


def red_or_blue() -> Episode:
    """Two tasks of the same pictures: one asks for red discs, the other for blue."""
    rng = np.random.default_rng(0)
    pictures = [two_discs(rng, 0) for _ in range(2)]
    images, red = (np.stack(x)[:, ::2, ::2] for x in zip(*pictures, strict=True))
    images, masks = np.stack([images, images]), np.stack([red, blue(images)])
    fields = (images[:, :1], masks[:, :1], images[:, 1:], masks[:, 1:])
    return Episode(*map(tf.constant, fields), name=None)


@pytest.mark.learned
@pytest.mark.parametrize("fusion", FUSIONS)
def test_learns_to_follow_the_support(fusion):
    # The queries are the same, so nothing but the support tells what to find.
    learner = build_learner(network(fusion), CONFIG, meta_steps=160, seed=3)
    step = graph(learner.meta_step)
    state, batch = learner.init(), red_or_blue()
    swapped = batch._replace(query_masks=batch.query_masks[::-1])
    for i in range(160):
        state, _ = step(state, batch, tf.constant(i))
        if i % 10 == 9:
            both = (batch, swapped)
            own, other = (step(state, b, tf.constant(0))[1]["loss"] for b in both)
            if own < 0.4 * other:
                break
    assert own < 0.4 * other
