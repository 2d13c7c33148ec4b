"""Baselines: their rules against brute force, and what none may depend on."""

import functools

import keras
import numpy as np
import pytest

from efficientlab_tf.data.episodes import fixed_episodes
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import evaluate
from efficientlab_tf.models import efficientlab, fcn
from efficientlab_tf.models.backbones import build_encoder
from efficientlab_tf.segmenters.baselines import (
    BASELINES,
    AllBackground,
    AllForeground,
    CoSegmentation,
    FeatureExtractor,
    LogisticRegression,
    NearestNeighbour,
    build_baseline,
    features,
    labels,
    needs_extractor,
    upsample,
)
from efficientlab_tf.segmenters.baselines.cosegmentation import (
    cluster_scores,
    foreground_clusters,
    otsu,
)
from efficientlab_tf.segmenters.baselines.support import labelled_cells
from tests.learners.contract import episodes
from tests.models.tiny import tiny_network

SIZE = 32
LEARNED = ("nearest_neighbour", "logistic_regression")
SEEING = (*LEARNED, "cosegmentation")


def tiny_model(name: str = "tiny") -> keras.Model:
    keras.utils.set_random_seed(5)
    network = tiny_network(SIZE)
    return keras.Model(network.input, network.get_layer("decoder_bn").output, name=name)


@pytest.fixture(scope="module")
def tiny():
    return FeatureExtractor(tiny_model())


@pytest.fixture(scope="module")
def lite0():
    return FeatureExtractor(image_size=160)


@pytest.fixture(scope="module")
def task():
    batch = episodes(1, shots=3, queries=4)
    return tuple(np.asarray(field[0]) for field in batch[:4])


def two_classes(task):
    """The task with a disc in the middle of each object called class 2."""
    images, masks, queries, _ = task
    masks = masks.copy()
    for mask in masks:
        y, x = (int(axis.mean()) for axis in np.nonzero(mask))
        mask[y - 4 : y + 4, x - 4 : x + 4] = 2
    return images, masks, queries


def colours(image_size: int = SIZE, cell: int = 4) -> keras.Model:
    """Features that are each cell's mean colour: tasks whose answer is plain."""
    images = keras.Input((image_size, image_size, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    return keras.Model(images, keras.layers.AveragePooling2D(cell)(x), name="colours")


# Features, labels, and the way back.


def test_features_are_the_stages_of_the_encoder(lite0):
    images = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), np.uint8)
    encoder = build_encoder("EfficientNetLite0", (160, 160), 0.0, "imagenet")
    network = keras.Model(encoder.images, encoder.stages)
    stages = network(images.astype(np.float32), training=False)
    fine, coarse = (np.asarray(stages[s], np.float64) for s in (4, 6))
    coarse = np.asarray(keras.ops.image.resize(coarse, (20, 20), "bilinear"))
    both = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (fine, coarse)]
    features = lite0(images)
    assert features.dtype == np.float32
    assert (lite0.grid, lite0.channels) == ((20, 20), 152)
    np.testing.assert_allclose(features, np.concatenate(both, -1), atol=1e-5)
    np.testing.assert_allclose(lite0(images.astype(np.float64)), features, atol=1e-6)
    plain = FeatureExtractor(image_size=160, stages=6, normalize=False)
    scale = np.abs(stages[6]).max()
    np.testing.assert_allclose(plain(images), stages[6], atol=1e-5 * scale)


def test_features_of_a_network_are_those_of_its_encoder():
    network = efficientlab(
        image_size=64, backbone="EfficientNetLite0", weights="imagenet"
    )
    of_network = FeatureExtractor.of_network(network, (3, 4, 6))
    of_name = FeatureExtractor(image_size=64, stages=(3, 4, 6))
    by_layer = FeatureExtractor.of_network(
        network, ("block2b_add", "block3b_add", "block5c_add"), batch=1
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    assert of_network.grid == (16, 16)
    np.testing.assert_allclose(of_network(images), of_name(images), atol=1e-5)
    np.testing.assert_allclose(of_network(images), by_layer(images), atol=1e-5)
    # Shared, not copied: what is learned later is seen.
    before = of_network(images)
    stem = network.get_layer("stem_conv").kernel
    stem.assign(2 * stem)
    assert np.abs(of_network(images) - before).max() > 1e-3


def test_features_do_not_depend_on_the_batch(task):
    images = np.concatenate([task[0], task[2]])
    whole = FeatureExtractor(tiny_model(), batch=7)(images)
    for batch in (1, 3):
        parts = FeatureExtractor(tiny_model(), batch=batch)(images)
        np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert FeatureExtractor(tiny_model())(images[:0]).shape == (0, 16, 16, 12)


def test_a_model_of_any_size_takes_that_of_the_extractor():
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=4, padding="same")(images)
    model = keras.Model(images, {"a": x, "b": keras.layers.AveragePooling2D(2)(x)})
    extractor = FeatureExtractor(model, (32, 48))
    assert (extractor.grid, extractor.channels) == ((8, 12), 8)
    assert extractor(np.zeros((1, 32, 48, 3), np.uint8)).shape == (1, 8, 12, 8)
    with pytest.raises(
        UserError, match="takes images of any size; expected image_size"
    ):
        FeatureExtractor(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "VGG99"}, "`backbone` must be one of"),
        ({"stages": 9}, "stages: expected some of"),
        ({"stages": ()}, "stages: expected some of"),
        ({"image_size": 100}, "divisible by 32"),
        ({"weights": "mine"}, 'expected None or "imagenet"'),
        ({"batch": 0}, "batch: expected at least 1"),
        ({"backbone": tiny_network(32), "image_size": 64}, "built for; received"),
        (
            {
                "backbone": keras.Sequential(
                    [keras.Input((8, 8, 3)), keras.layers.Flatten()]
                )
            },
            "expected features",
        ),
        (
            {"backbone": keras.Sequential([keras.Input((9,)), keras.layers.Dense(1)])},
            "expected one input of images",
        ),
    ],
)
def test_an_extractor_that_cannot_be_built(arguments, message):
    with pytest.raises(UserError, match=message):
        FeatureExtractor(**arguments)


def test_an_unknown_layer_or_stage():
    for layer in ("fc7", 4):
        with pytest.raises(UserError, match=f"{layer!r}, found none; .* decoder_bn"):
            FeatureExtractor.of_network(tiny_network(32), layer)


def test_labels_are_the_majority_of_the_known_pixels():
    rng = np.random.default_rng(3)
    # Large patches of equal labels, so that no label of an image needs a rescue.
    masks = rng.choice([0, 1, 3, 255], (4, 5, 5)).astype(np.uint8)
    masks = masks.repeat(10, 1).repeat(8, 2)
    masks[rng.random(masks.shape) < 0.2] = 255
    for height, width in (10, 10), (7, 9), (50, 40):
        found = labels(masks, height, width)
        assert found.dtype == np.uint8
        for k, i, j in np.ndindex(4, height, width):
            # Pixel y is in cell floor(y h / H).
            rows = [y for y in range(50) if y * height // 50 == i]
            columns = [x for x in range(40) if x * width // 40 == j]
            known = masks[k][np.ix_(rows, columns)]
            known = known[known != 255]
            expected = np.bincount(known).argmax() if len(known) else 255
            assert found[k, i, j] == expected


def test_no_label_vanishes_at_the_resolution_of_features():
    masks = np.zeros((3, 16, 16), np.uint8)
    masks[0, 0, :2] = 1  # Two of 16 pixels of a cell ...
    masks[0, 9, 8:11] = 1  # ... and three of another, which wins.
    masks[1, 4:8, 4:8] = 1  # Has the majority: nothing to rescue.
    masks[1, 0, 0] = 1
    masks[2, :8] = 255
    masks[2, 8:, :] = 1
    masks[2, 12, 12] = 0  # The background does not vanish either.
    masks[2, 0, 0] = 2  # The only known pixel of its cell.
    found = labels(masks, 4, 4)
    assert np.argwhere(found[0]).tolist() == [[2, 2]]
    assert np.argwhere(found[1]).tolist() == [[1, 1]]
    assert np.argwhere(found[2] == 0).tolist() == [[3, 3]]
    assert found[2, 0].tolist() == [2, 255, 255, 255]
    for mask, cells in zip(masks, found, strict=True):
        np.testing.assert_array_equal(labels(mask[np.newaxis], 4, 4)[0], cells)


def test_a_rescue_does_not_take_the_last_cell_of_another():
    masks = np.zeros((1, 8, 8), np.uint8)
    masks[0, :2, :4] = 1  # Ties with 0 in its cell and loses; 2 has less of it.
    masks[0, 2:4, 0] = 2
    masks[0, 0, 4] = 2
    found = labels(masks, 2, 2)[0]
    assert found.tolist() == [[1, 2], [0, 0]]
    assert (labels(np.full((1, 8, 8), 255, np.uint8), 2, 2) == 255).all()
    with pytest.raises(UserError, match="at least 9 x 2 pixels"):
        labels(masks, 9, 2)


def test_upsampling_is_that_of_half_pixel_centres():
    scores = np.random.default_rng(0).random((2, 5, 7, 3), np.float32)
    expected = keras.ops.image.resize(scores, (40, 21), "bilinear")
    result = upsample(scores, (40, 21))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


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


def _variance_within(values, weights, low):
    parts = [(values[part], weights[part]) for part in (low, ~low)]
    return sum(w @ (v - np.average(v, weights=w)) ** 2 for v, w in parts)


def test_otsu_is_the_best_of_all_splits():
    rng = np.random.default_rng(2)
    for _ in range(20):
        values, weights = rng.normal(size=6), rng.random(6)
        splits = [values < t for t in np.sort(values)[1:]]
        within = [_variance_within(values, weights, low) for low in splits]
        best = splits[int(np.argmin(within))]
        np.testing.assert_array_equal(values < otsu(values, weights), best)
    assert otsu(np.ones(3), np.ones(3)) == np.inf
    # What has no weight has no say.
    assert otsu(np.array([0.0, 1.0, 9.0]), np.array([1.0, 1.0, 0.0])) == 0.5


def test_foreground_is_what_recurs_in_the_middle():
    cells = np.zeros((3, 16, 16), np.int64)
    cells[:, :, 8:] = 1  # Two backgrounds, ...
    cells[:, 5:11, 5:11] = 2  # ... an object in the middle of all ...
    cells[:, 0] = 4  # ... and something at every border.
    assert np.flatnonzero(foreground_clusters(cells, 6)).tolist() == [2]
    assert not foreground_clusters(np.zeros((2, 4, 4), np.int64), 3).any()


@pytest.mark.parametrize(("height", "width"), [(20, 28), (4, 6), (1, 2)])
def test_scores_of_clusters_are_those_of_the_rule(height, width):
    rng = np.random.default_rng(4)
    cells = rng.choice(5, (3, height, width), p=[0.5, 0.2, 0.2, 0.095, 0.005])
    scores, sizes = cluster_scores(cells, 6)
    top, side = max(1, height // 8), max(1, width // 8)
    for cluster in range(6):
        differences, appearances = [], 0
        for image in cells:
            centre, border = [], []
            for (i, j), label in np.ndenumerate(image):
                if height // 4 <= i < height - height // 4:
                    if width // 4 <= j < width - width // 4:
                        centre.append(label == cluster)
                if not (top <= i < height - top and side <= j < width - side):
                    border.append(label == cluster)
            differences.append(np.mean(centre) - np.mean(border))
            appearances += (image == cluster).sum() >= 0.01 * image.size
        expected = np.mean(differences) * appearances / 3
        np.testing.assert_allclose(scores[cluster], expected, atol=1e-12)
        np.testing.assert_allclose(sizes[cluster], (cells == cluster).mean())


@pytest.mark.learned
def test_cosegmentation_finds_the_common_object_and_reads_no_mask(task):
    images, masks, queries, query_masks = task
    method = CoSegmentation(FeatureExtractor(colours()), clusters=4)
    adapted = method.adapt(images, masks, seed=1)
    probabilities = adapted.predict(queries)
    for p, truth in zip(probabilities[..., 1] > 0.5, query_masks, strict=True):
        assert (p & (truth == 1)).sum() / (p | (truth == 1)).sum() > 0.6
    for other in (np.full_like(masks, 255), np.zeros_like(masks), 1 - masks):
        blind = method.adapt(images, other, seed=1)
        np.testing.assert_array_equal(blind.predict(queries), probabilities)
    two = method.adapt(images, 2 * masks, seed=1).predict(queries)
    np.testing.assert_array_equal(two[..., :2], probabilities)
    assert not two[..., 2].any()


@pytest.mark.filterwarnings("error")
def test_cosegmentation_of_blank_pictures_is_background(tiny):
    images = np.full((2, SIZE, SIZE, 3), 128, np.uint8)
    adapted = CoSegmentation(FeatureExtractor(colours())).adapt(
        images, np.zeros(images.shape[:3], np.uint8)
    )
    np.testing.assert_array_equal(adapted.predict(images)[..., 0], 1)


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


def test_networks_with_vgg_give_their_fc7(monkeypatch):
    network = fcn(image_size=32, width=1 / 16)
    extractor = FeatureExtractor.of_network(network, normalize=False)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    expected = keras.Model(network.inputs, network.get_layer("fc7").output)(
        images.astype(np.float32), training=False
    )
    assert extractor.channels == 256
    np.testing.assert_allclose(extractor(images), expected, atol=1e-5)
    # By name the backbone has its full width, which is too large for a test.
    narrow = functools.partial(features.dense_features, width=1 / 16)
    monkeypatch.setattr(features, "dense_features", narrow)
    named = FeatureExtractor("VGG16", 64, weights=None)
    assert named.grid == (2, 2) and named.channels == 256
