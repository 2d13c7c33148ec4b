"""Guidance as a value, and the training that makes it."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners import build_learner
from efficientlab_tf.models import build_model
from efficientlab_tf.models.guided import FUSIONS
from efficientlab_tf.segmenters.forward import ForwardFunctions
from efficientlab_tf.segmenters.guided import GuidedFunctions
from efficientlab_tf.segmenters.network import Network
from tests.learners.contract import SIZE
from tests.learners.test_feedforward import CONFIG, NARROW, blue, two_discs
from tests.models.tiny import tiny_network

LATE = [fusion for fusion in FUSIONS if fusion != "early"]
POINTS = [(3, 4, 1), (20, 9, 1), (30, 31, 0), (0, 17, 0), (11, 12, 2)]


def network(fusion: str = "late_global") -> Network:
    keras.utils.set_random_seed(7)
    options = {**NARROW, "dropout": 0.0, "channels": 16, "fusion": fusion}
    return Network(build_model("guided", **options))


class Counting(GuidedFunctions):
    """Counts the images that went through the feature network."""

    count = 0

    def __init__(self, net):
        super().__init__(net)
        features = self.features

        def counted(weights, images):
            self.count += len(images)
            return features(weights, images)

        self.features = counted


@pytest.fixture(scope="module", params=FUSIONS)
def segmenter(request):
    net = network(request.param)
    return Counting(net).segmenter(net.weights())


@pytest.fixture(scope="module")
def late():
    net = network()
    return Counting(net).segmenter(net.weights())


def images(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, [count, SIZE, SIZE, 3]).astype(np.uint8)


def masks_of(count: int, points) -> np.ndarray:
    """Masks of (image, row, column, label) and nothing else."""
    masks = np.full([count, SIZE, SIZE], 255, np.uint8)
    for image, row, column, label in points:
        masks[image, row, column] = label
    return masks


def assert_same(a, b) -> None:
    np.testing.assert_array_equal(a.masks, b.masks)
    np.testing.assert_allclose(a.guides, b.guides, rtol=1e-6, atol=1e-6)
    queries = images(2, 9)
    np.testing.assert_allclose(a.predict(queries), b.predict(queries), atol=1e-6)


def test_updates_are_adapting_from_scratch_with_all_points(segmenter):
    pictures = images(3)
    guide = segmenter.adapt(pictures[:2], masks_of(2, [(1, 5, 6, 1)]))
    first = guide.guides.numpy()
    updated = guide.update(0, POINTS[:3]).update(1, POINTS[3:])
    joined = updated.update(pictures[2], [(2, 2, 2), (9, 9, 0)])
    points = [(1, 5, 6, 1), (2, 2, 2, 2), (2, 9, 9, 0)]
    points += [(0, *p) for p in POINTS[:3]] + [(1, *p) for p in POINTS[3:]]
    assert_same(joined, segmenter.adapt(pictures, masks_of(3, points)))
    assert joined.classes == 2 and len(joined.guides) == 2
    assert np.abs(joined.guides[0] - first[0]).max() > 1e-4
    # The values before are as they were.
    np.testing.assert_array_equal(guide.guides, first)
    np.testing.assert_array_equal(guide.masks, masks_of(2, [(1, 5, 6, 1)]))
    with pytest.raises(ValueError, match="read-only"):
        updated.masks[0, 0, 0] = 1


def test_late_updates_make_no_features(late):
    pictures, functions = images(2), late.functions
    guide = late.adapt(pictures, masks_of(2, [(0, 1, 1, 1)]))
    queries = late.read(pictures)
    before = functions.count
    for point in POINTS:
        guide = guide.update(1, [point])
        guide.predict(queries)
    assert functions.count == before
    # A new image costs its own features and no others.
    guide.update(images(1, 5)[0], POINTS[:1])
    assert functions.count == before + 1
    guide.predict(pictures)
    assert functions.count == before + 3


def test_the_order_of_points_does_not_matter(segmenter):
    guide = segmenter.adapt(images(1), masks_of(1, [(0, 1, 1, 1)]))
    expected = guide.update(0, POINTS)
    for order in itertools.islice(itertools.permutations(POINTS), 0, 120, 50):
        assert_same(guide.update(0, order), expected)
        # One by one, class 2 after class 1.
        step = guide
        for point in order:
            step = step.update(0, [point])
        assert_same(step, expected)


def test_a_point_on_an_annotated_pixel_corrects_it(late):
    guide = late.adapt(images(1), masks_of(1, [(0, 1, 1, 1), (0, 8, 8, 1)]))
    corrected = guide.update(0, [(8, 8, 0), (8, 8, 0)])
    expected = late.adapt(images(1), masks_of(1, [(0, 1, 1, 1), (0, 8, 8, 0)]))
    assert_same(corrected, expected)


@pytest.mark.parametrize("fusion", LATE)
def test_unlabelled_pixels_have_no_influence(fusion):
    net = network(fusion)
    functions = GuidedFunctions(net)
    pictures = images(2)
    masks = masks_of(2, [(0, 1, 1, 1), (0, 30, 30, 0)])
    segmenter = functions.segmenter(net.weights())
    guide = segmenter.adapt(pictures, masks)
    # Another shot without annotations, and other features where nothing is known.
    other = segmenter.adapt(np.stack([pictures[0], pictures[1] // 2]), masks)
    np.testing.assert_array_equal(guide.guides, other.guides)
    known = np.zeros([2, 4, 4, 1], bool)
    known[0, 0, 0] = known[0, 3, 3] = True
    features = tf.where(known, guide.support, 1e3)
    changed = functions.guides(net.weights(), features, masks)
    np.testing.assert_array_equal(guide.guides, changed)


def test_the_mean_is_over_the_shots_that_carry_annotations(late):
    pictures = images(4)
    points = [(0, 1, 1, 1), (0, 30, 30, 0), (1, 9, 9, 1), (2, 20, 20, 0)]
    masks = masks_of(4, points)
    masks[0, :10, :10] = 1  # A dense part beside points, and a shot without any.
    guide = late.adapt(pictures, masks).guides.numpy()[0]
    features = late.functions.features(late.weights, tf.constant(pictures)).numpy()
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


def test_it_predicts_what_the_other_segmenter_predicts(segmenter):
    pictures, queries = images(3), images(5, 1)
    masks = masks_of(3, [(0, *p) for p in POINTS] + [(2, 7, 7, 3), (1, 6, 6, 2)])
    guide = segmenter.adapt(pictures, masks, seed=3)
    net = segmenter.functions.network
    other = ForwardFunctions(net).segmenter(segmenter.weights)
    expected = other.adapt(pictures, masks).predict(queries)
    given = guide.predict(queries)
    assert given.shape == (5, SIZE, SIZE, 4) and given.dtype == np.float32
    np.testing.assert_allclose(given, expected, atol=1e-5)
    np.testing.assert_allclose(
        guide.predict(segmenter.read(queries), batch=2), given, atol=1e-5
    )
    np.testing.assert_allclose(given.sum(-1), 1, atol=1e-5)


def test_it_is_a_function_of_the_weights_that_were_given(late):
    weights = late.weights
    other = weights._replace(theta=tuple(t * 1.5 for t in weights.theta))
    moved = dataclasses.replace(late, weights=other)
    masks = masks_of(1, [(0, 1, 1, 1)])
    a, b = (s.adapt(images(1), masks).predict(images(1, 3)) for s in (late, moved))
    assert np.abs(a - b).max() > 1e-4


BAD_UPDATES = [
    (0, [(32, 0, 1)], "rows from 0 to 31 and columns from 0 to 31, received .32, 0."),
    (0, [(0, -1, 1)], "received .0, -1."),
    (0, [(1, 1, 255)], "labels from 0 to 254, received 255"),
    (0, [(1, 1, -1)], "labels from 0 to 254, received -1"),
    (0, [(5, 5, 1), (6, 6, 0), (5, 5, 0)], "one label .* two for .5, 5."),
    (0, [(5, 5, 3)], "each class from 1 to 3, received none of 2"),
    (0, [(1, 1, 0)], "received background alone; mark what is to be found"),
    (0, [(1, 2)], "expected .row, column, label. each"),
    (0, [(1.5, 2, 1)], "whole numbers"),
    (0, "here", "expected .row, column, label. each"),
    (1, [(5, 5, 1)], "a number from 0 to 0, of a support image, received 1"),
    (-1, [(5, 5, 1)], "a number from 0 to 0"),
    (np.zeros([16, 16, 3], np.uint8), [], "image: expected uint8 .n, 32, 32, 3."),
    (np.zeros([32, 32, 3]), [], "received float64 .1, 32, 32, 3."),
]


@pytest.mark.parametrize("image,points,message", BAD_UPDATES)
def test_bad_updates(late, image, points, message):
    guide = late.adapt(images(1), masks_of(1, [(0, 1, 1, 1)]))
    with pytest.raises(UserError, match=message) as caught:
        guide.update(image, points)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "support,masks,message",
    [
        (images(1), masks_of(1, []), "at least one pixel of a class, received none"),
        (images(1), masks_of(1, [(0, 1, 1, 0)]), "received background alone"),
        (images(1), masks_of(1, [(0, 1, 1, 2)]), "received none of 1"),
        (images(2), masks_of(1, [(0, 1, 1, 1)]), "2 images and 1 masks"),
        (images(1)[:, :16], masks_of(1, []), "support images: expected uint8"),
        (images(1), masks_of(1, [])[:, :16], "support masks: expected uint8"),
        (images(0), masks_of(0, []), "support images: expected uint8"),
        (images(1) / 2, masks_of(1, []), "received float64"),
    ],
)
def test_bad_support_sets(late, support, masks, message):
    with pytest.raises(UserError, match=message):
        late.adapt(support, masks)


def test_what_is_no_guided_network():
    with pytest.raises(UserError, match="expected a guided network"):
        GuidedFunctions(Network(tiny_network(SIZE)))
    net = network()
    with pytest.raises(UserError, match="batch_norm must be running"):
        GuidedFunctions(net).segmenter(net.weights(), batch_norm="support")


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
    step = tf.function(learner.meta_step)
    state, batch = learner.init(), red_or_blue()
    for i in range(160):
        state, _ = step(state, batch, tf.constant(i))
    swapped = batch._replace(query_masks=batch.query_masks[::-1])
    own, other = (step(state, b, tf.constant(0))[1]["loss"] for b in (batch, swapped))
    assert own < 0.4 * other
