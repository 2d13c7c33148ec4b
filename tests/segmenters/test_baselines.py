"""Baselines: two rules against brute force, and what none may depend on."""

import numpy as np
import pytest

from efficientlab_tf.data.episodes import fixed_episodes
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import evaluate
from efficientlab_tf.segmenters.baselines import (
    BASELINES,
    AllBackground,
    AllForeground,
    CoSegmentation,
    FeatureExtractor,
    LogisticRegression,
    NearestNeighbour,
    build_baseline,
    labels,
    needs_extractor,
    upsample,
)
from efficientlab_tf.segmenters.baselines.support import labelled_cells
from tests.segmenters.extractors import SIZE, colours, tiny_model, two_classes

LEARNED = ("nearest_neighbour", "logistic_regression")
SEEING = (*LEARNED, "cosegmentation")


# The rules of the methods.


def test_nearest_neighbour_is_the_search_through_all_cells(tiny, task):
    images, masks, queries = two_classes(task)
    masks[0, :8] = 255
    adapted = NearestNeighbour(tiny, scale=0.2).adapt(images, masks)
    support = tiny(images).astype(np.float64).reshape(-1, 12)
    cells = labels(masks, 16, 16).ravel()
    features = tiny(queries).astype(np.float64)
    for image, probabilities in zip(features, adapted.predict(queries), strict=True):
        scores = np.zeros((16, 16, 3))
        for i, j in np.ndindex(16, 16):
            distances = np.sqrt(((support - image[i, j]) ** 2).sum(-1))
            distances[cells == 255] = np.inf
            # The label of the nearest cell is the likeliest one.
            of_label = [distances[cells == label].min() for label in range(3)]
            exponents = np.exp(-np.array(of_label) / 0.2)
            scores[i, j] = exponents / exponents.sum()
            assert scores[i, j].argmax() == cells[distances.argmin()]
        expected = upsample(scores[np.newaxis], (SIZE, SIZE))[0]
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_logistic_regression_minimizes_its_rule(task):
    extractor = FeatureExtractor(tiny_model())
    images, masks, queries = two_classes(task)
    adapted = LogisticRegression(extractor, C=2.0).adapt(images, masks)
    cells, _ = labelled_cells(masks, extractor.grid)
    x, y = extractor(images)[cells != 255].astype(np.float64), cells[cells != 255]
    weight = len(y) / (3 * np.bincount(y))[y]
    # At the minimum the gradient of the rule is zero, in the weights and the bias.
    logits = x @ adapted.kernel + adapted.bias
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    error = weight[:, np.newaxis] * (p - np.eye(3)[y])
    total = 2.0 * weight.sum()
    np.testing.assert_allclose(
        (adapted.kernel.T + 2.0 * error.T @ x) / total, 0, atol=3e-4
    )
    np.testing.assert_allclose(2.0 * error.sum(0) / total, 0, atol=3e-4)
    probabilities = adapted.predict(queries)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("classes", [1, 3])
def test_what_can_be_separated_is(name, classes):
    palette = np.array([[20, 20, 20], [250, 0, 0], [0, 250, 0], [0, 0, 250]])
    rng = np.random.default_rng(1)
    masks = rng.integers(0, classes + 1, (5, 8, 8)).astype(np.uint8)
    masks = masks.repeat(4, 1).repeat(4, 2)
    noise = rng.integers(-15, 6, (*masks.shape, 3))
    images = np.clip(palette[masks] + noise, 0, 255).astype(np.uint8)
    extractor = FeatureExtractor(colours(), normalize=False)
    options = {"C": 100.0} if name == "logistic_regression" else {}
    segmenter = build_baseline(name, extractor, **options)
    probabilities = segmenter.adapt(images[:2], masks[:2]).predict(images[2:])
    assert probabilities.shape == (3, SIZE, SIZE, classes + 1)
    # The middle of a cell of 4 pixels is between its second and third.
    found = probabilities.argmax(-1)[:, 1::4, 1::4]
    np.testing.assert_array_equal(found, masks[2:, 1::4, 1::4])


@pytest.mark.parametrize("label", [1, 2])
@pytest.mark.parametrize("name", LEARNED)
def test_a_support_of_one_label_gives_that_label(tiny, task, name, label):
    images, _, queries, _ = task
    masks = np.full(images.shape[:3], 255, np.uint8)
    masks[0, 3:6, 5] = 1
    masks[1, 20, 20] = label
    probabilities = build_baseline(name, tiny).adapt(images, masks).predict(queries)
    assert probabilities.shape[-1] == label + 1
    assert not probabilities[..., 0].any()
    if label == 1:
        np.testing.assert_allclose(probabilities[..., 1], 1, atol=1e-6)


# What every baseline must do.


@pytest.mark.parametrize("name", BASELINES)
def test_contract(tiny, task, name):
    images, masks, queries, _ = task
    segmenter = build_baseline(name, tiny)
    for support_masks, classes in (masks, 1), (two_classes(task)[1], 2):
        adapted = segmenter.adapt(images, support_masks, seed=3)
        whole = adapted.predict(queries)
        assert whole.shape == (4, SIZE, SIZE, classes + 1)
        assert whole.dtype == np.float32
        assert (whole >= 0).all()
        np.testing.assert_allclose(whole.sum(-1), 1, atol=1e-5)
        # Neither the batch, nor the order of queries or supports, nor what was
        # adapted to before, changes anything; nor does the type of a query.
        order = np.array([2, 0, 3, 1])
        segmenter.adapt(images[:1], support_masks[:1], seed=4).predict(queries)
        alone = np.concatenate([adapted.predict(queries[i : i + 1]) for i in order])
        np.testing.assert_array_equal(alone, whole[order])
        np.testing.assert_array_equal(adapted.predict(queries), whole)
        turned = segmenter.adapt(images[::-1], support_masks[::-1], seed=3)
        np.testing.assert_allclose(turned.predict(queries), whole, atol=1e-3)
        as_floats = adapted.predict(queries.astype(np.float32))
        np.testing.assert_array_equal(as_floats, whole)
        assert adapted.predict(queries[:0]).shape == (0, SIZE, SIZE, classes + 1)


@pytest.mark.parametrize("name", BASELINES)
def test_what_is_unknown_is_never_used(task, name):
    images, masks, queries, _ = task
    # Of a network that sees no further than one cell, what is unknown can be
    # replaced; the clusters of co-segmentation see every picture whole.
    segmenter = build_baseline(name, FeatureExtractor(colours()))
    masks, other = masks.copy(), images.copy()
    masks[:, 12:20] = 255
    if name != "cosegmentation":
        other[:, 12:20] = 255 - other[:, 12:20]
    adapted = segmenter.adapt(images, masks)
    replaced = segmenter.adapt(other, masks)
    np.testing.assert_array_equal(adapted.predict(queries), replaced.predict(queries))
    if name in LEARNED:
        known = segmenter.adapt(images, np.where(masks == 255, 0, masks))
        assert np.abs(known.predict(queries) - adapted.predict(queries)).max() > 1e-3


@pytest.mark.parametrize("name", BASELINES)
def test_support_and_queries_that_do_not_fit(tiny, task, name):
    images, masks, queries, _ = task
    segmenter = build_baseline(name, tiny)
    for bad_images, bad_masks in (
        (images.astype(np.float32), masks),
        (images, masks.astype(np.int64)),
        (images, masks[:2]),
        (images, masks[..., np.newaxis]),
        (images[..., :1], masks),
        (images[0], masks[0]),
        (images[:0], masks[:0]),
    ):
        with pytest.raises(UserError, match="support set: expected images uint8"):
            segmenter.adapt(bad_images, bad_masks)
    adapted = segmenter.adapt(images, masks)
    for bad in (queries[0], queries[:, :16], queries.astype(np.int32)):
        with pytest.raises(UserError, match="query images: expected .* resize them"):
            adapted.predict(bad)


@pytest.mark.parametrize("name", SEEING)
def test_pictures_of_another_size_than_the_features(tiny, name):
    images, masks = np.zeros((1, 64, 64, 3), np.uint8), np.ones((1, 64, 64), np.uint8)
    with pytest.raises(UserError, match=r"\[n, 32, 32, 3\]; received uint8 \[1, 64"):
        build_baseline(name, tiny).adapt(images, masks)


@pytest.mark.parametrize("name", LEARNED)
def test_labels_that_are_missing(tiny, task, name):
    images, masks, _, _ = task
    segmenter = build_baseline(name, tiny)
    with pytest.raises(UserError, match="each class 1 to 1; received none of class 1"):
        segmenter.adapt(images, np.zeros_like(masks))
    with pytest.raises(UserError, match="each class 1 to 3; received none of class 1"):
        segmenter.adapt(images, 3 * masks)
    with pytest.raises(UserError, match="received 255 .unknown. everywhere"):
        segmenter.adapt(images, np.full_like(masks, 255))
    one_cell = np.zeros_like(masks)
    one_cell[0, 0, :2] = 1, 2
    with pytest.raises(UserError, match="a cell of the features of each class 1 to 2"):
        segmenter.adapt(images, one_cell)


def test_building_by_name(tiny):
    assert {name for name in BASELINES if needs_extractor(name)} == set(SEEING)
    method = build_baseline("cosegmentation", tiny, clusters=3)
    assert method == CoSegmentation(tiny, clusters=3)
    assert isinstance(build_baseline("all_foreground"), AllForeground)
    assert isinstance(build_baseline("all_background", tiny), AllBackground)
    for arguments, message in (
        (("knn",), "baseline: expected one of nearest_neighbour, logistic"),
        (("nearest_neighbour",), "expected a feature extractor, received none"),
    ):
        with pytest.raises(UserError, match=message):
            build_baseline(*arguments)
    with pytest.raises(UserError, match="out of clusters, scale; received C"):
        build_baseline("cosegmentation", tiny, C=1)
    with pytest.raises(UserError, match="out of none; received scale"):
        build_baseline("all_foreground", scale=1.0)
    for scale in 0.0, float("nan"):
        with pytest.raises(UserError, match="above 0"):
            build_baseline("nearest_neighbour", tiny, scale=scale)
    with pytest.raises(UserError, match="clusters from 2"):
        build_baseline("cosegmentation", tiny, clusters=1)
    with pytest.raises(UserError, match="C above 0"):
        build_baseline("logistic_regression", tiny, C=-1.0)


@pytest.mark.learned
def test_every_method_beats_the_constant_masks(lite0):
    # The first six of the sample's test classes; nothing was chosen on them.
    classes = ("anchor", "bellhop_bell", "books", "chipmunk", "cloud", "dvd")
    tasks = list(
        fixed_episodes("sample:icons", classes, shots=5, seed=0, image_size=160)
    )
    iou = {
        name: np.mean([r.iou for r in evaluate(build_baseline(name, lite0), tasks)])
        for name in BASELINES
    }
    assert iou["all_background"] < 1e-6 < iou["all_foreground"]
    for name in SEEING:
        assert iou[name] > 1.2 * iou["all_foreground"], iou
