"""Guided networks: the rules of section 4 against plain NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import build_model, guided, oslsm
from efficientlab_tf.models.conditioned import GUIDE
from efficientlab_tf.models.guided import (
    FUSIONS,
    AnnotatedMean,
    AnnotatedPlaces,
    AnnotationMaps,
    GlobalGuide,
    LocalGuide,
    RelateGuide,
    TileGuide,
    parts,
)
from efficientlab_tf.segmenters.forward import LateFusionFunctions
from efficientlab_tf.segmenters.network import Network
from tests.models.narrow import NARROW, random_inputs, without_memory

OPTIONS = {**NARROW, "dilated": True, "channels": 8}


PRODUCTS = [("late_global", "product"), ("late", "product")]


@pytest.fixture(
    scope="module", params=[*((fusion, "stack") for fusion in FUSIONS), *PRODUCTS]
)
def network(request) -> keras.Model:
    keras.utils.set_random_seed(1)
    fusion, relation = request.param
    return guided(fusion=fusion, relation=relation, **OPTIONS)


def mixed_masks(size: int = 32) -> np.ndarray:
    """A dense shot, points, positives alone, negatives alone, an unlabelled shot."""
    random = np.random.default_rng(4)
    masks = np.full([5, size, size], 255)
    masks[0] = random.integers(0, 2, [size, size])
    masks[1, 3, 9], masks[1, 20, 30], masks[1, 21, 30] = 1, 0, 1
    masks[2, 5:8, 11] = 1
    masks[3, 25, :17] = 0
    return masks


def cells_of(masks: np.ndarray, sign: int, cells: int) -> np.ndarray:
    """Pixels of a sign in each cell, [k, cells, cells], by counting."""
    side = masks.shape[1] // cells
    counts = np.zeros([len(masks), cells, cells])
    for k, row, column in zip(*np.nonzero(masks == sign), strict=True):
        counts[k, row // side, column // side] += 1
    return counts


def features_and_maps(masks: np.ndarray, cells: int = 4):
    features = np.random.default_rng(5).normal(size=[len(masks), cells, cells, 3])
    maps = AnnotationMaps(cells, cells)(tf.constant(masks, tf.float64))
    return features, maps


def global_guide(features: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Section 4.1 with loops over shots and cells."""
    guides = []
    for sign in (1, 0):
        counts = cells_of(masks, sign, features.shape[1])
        shots = [
            (f * c[..., np.newaxis]).sum((0, 1)) / c.sum()
            for f, c in zip(features, counts, strict=True)
            if c.sum()
        ]
        guides.append(sum(shots) / len(shots) if shots else 0 * features[0, 0, 0])
    return np.concatenate(guides)[np.newaxis]


def test_annotation_maps_are_parts_of_cells():
    masks = mixed_masks()
    maps = AnnotationMaps(4, 8, scale=3.0)(tf.constant(masks, tf.float32))
    assert maps.shape == (5, 4, 8, 2)
    for channel, sign in enumerate((1, 0)):
        expected = (masks == sign).reshape(5, 4, 8, 8, 4).mean((2, 4))
        np.testing.assert_allclose(maps[..., channel], 3 * expected, rtol=1e-6)
    # One point is enough to be seen.
    assert np.count_nonzero(maps[1, ..., 0]) == 2


@pytest.mark.parametrize("chosen", [[0], [1], [2], [0, 2], [3, 1], [0, 1, 2, 3, 4]])
def test_the_global_guide_is_the_mean_over_shots_that_have_the_sign(chosen):
    masks = mixed_masks()[chosen]
    features, maps = features_and_maps(masks)
    guide = GlobalGuide(dtype="float64")([features, maps])
    np.testing.assert_allclose(guide, global_guide(features, masks), atol=1e-12)


def test_a_sign_without_annotations_has_a_guide_of_zero():
    masks = mixed_masks()[[2, 4]]
    features, maps = features_and_maps(masks)
    guide = GlobalGuide(dtype="float64")([features, maps]).numpy()
    assert np.any(guide[0, :3] != 0) and np.all(guide[0, 3:] == 0)


def test_the_local_guide_keeps_places():
    masks = mixed_masks()
    features, maps = features_and_maps(masks)
    guide = LocalGuide(dtype="float64")([features, maps]).numpy()
    assert guide.shape == (1, 4, 4, 6)
    counts = np.stack([cells_of(masks, sign, 4) for sign in (1, 0)], axis=-1)
    for row in range(4):
        for column in range(4):
            for sign in (0, 1):
                terms = [
                    features[k, row, column]
                    * counts[k, row, column, sign]
                    / counts[k, row, column].sum()
                    for k in range(5)
                    if counts[k, row, column, sign]
                ]
                expected = np.mean(terms, axis=0) if terms else np.zeros(3)
                given = guide[0, row, column, 3 * sign : 3 * sign + 3]
                np.testing.assert_allclose(given, expected, atol=1e-12)


@pytest.mark.parametrize("layer", [GlobalGuide, LocalGuide])
def test_features_of_unlabelled_cells_have_no_influence(layer):
    masks = mixed_masks()[1:]
    features, maps = features_and_maps(masks)
    labelled = maps.numpy().sum(-1, keepdims=True) > 0
    assert 0 < labelled.mean() < 0.5
    other = np.where(labelled, features, 100.0)
    pool = layer(dtype="float64")
    np.testing.assert_array_equal(pool([features, maps]), pool([other, maps]))


def test_the_mean_of_early_fusion_is_over_annotated_shots():
    masks = mixed_masks()
    features, maps = features_and_maps(masks)
    mean = AnnotatedMean(dtype="float64")([features, maps])
    np.testing.assert_allclose(mean, features[:4].mean((0, 1, 2))[np.newaxis])
    np.testing.assert_array_equal(
        AnnotatedMean(dtype="float64")([features[4:], maps[4:]]), np.zeros([1, 3])
    )


def test_a_batch_of_guides_is_as_many_queries():
    random = np.random.default_rng(0)
    features = random.normal(size=[2, 4, 4, 3])
    tile = TileGuide(dtype="float64")
    for shape in ([5], [4, 4, 5]):
        guides = random.normal(size=[2, *shape])
        together = tile([guides, features]).numpy()
        assert together.shape == (2, 4, 4, 8)
        for i in range(2):
            alone = tile([guides[i : i + 1], features])
            np.testing.assert_array_equal(together[i], alone[i])
        np.testing.assert_array_equal(together[..., :3], features)


def test_products_see_likeness_alone():
    random = np.random.default_rng(0)
    features = random.normal(size=[2, 4, 4, 3])
    relate = RelateGuide(dtype="float64")
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    for places in ((), (4, 4)):
        guides = random.normal(size=[2, *places, 6])
        together = relate([guides, features]).numpy()
        assert together.shape == (2, 4, 4, 6)
        for i in range(2):
            for sign in (0, 3):
                z = guides[i, ..., sign : sign + 3]
                z = z / np.linalg.norm(z, axis=-1, keepdims=True)
                own = together[i, ..., sign : sign + 3]
                np.testing.assert_allclose(own, 3 * unit[i] * z, rtol=1e-9)
        # How long a vector is says nothing; a guide of nothing gives nothing.
        scaled = relate([7 * guides, 3 * features])
        np.testing.assert_allclose(scaled, together, rtol=1e-9)
        assert not relate([0 * guides, features]).numpy().any()


def test_frozen_features_stay(tmp_path):
    model = guided(relation="product", freeze_features=True, **OPTIONS)
    names = {v.path.split("/")[0] for v in model.trainable_variables}
    assert names == {"head_fuse", "head_context", "head_score"}
    inputs = random_inputs(3, 2)
    before = Network(model).weights()
    network = Network(model)
    logits, statistics = network(
        *network.weights()[:2], inputs, training=True, seed=tf.constant([1, 2])
    )
    assert logits.shape == (2, 64, 64, 2)
    kept = tf.nest.map_structure(tf.convert_to_tensor, statistics)
    for a, b in zip(kept, network.weights().statistics, strict=True):
        np.testing.assert_array_equal(a, b)
    # The parts do without a variable that could be trained, and so does a copy.
    assert not parts(model).features.trainable_variables
    features = LateFusionFunctions(network).read(before, inputs["query_images"])
    np.testing.assert_allclose(
        features, model.get_layer("features")(inputs["query_images"]), atol=1e-6
    )
    model.save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    assert len(copy.trainable_variables) == len(model.trainable_variables) == 6
    tf.nest.map_structure(
        np.testing.assert_array_equal, before, Network(copy).weights()
    )


def test_the_parts_are_the_whole(network):
    inputs = {
        **random_inputs(5, 2),
        "support_masks": tf.constant(mixed_masks(64), "float32"),
    }
    pieces = parts(network)
    fusion = type(network.get_layer("fusion"))
    assert pieces.late == (fusion not in (AnnotatedMean, AnnotatedPlaces))
    support = {name: inputs[name] for name in ("support_images", "support_masks")}
    if pieces.late:
        assert not pieces.guide.variables
        features = pieces.features(support["support_images"])
        support = {
            "support_features": features,
            "annotations": support["support_masks"],
        }
    guide = pieces.guide(support)
    if fusion is GlobalGuide:
        expected = global_guide(features.numpy(), mixed_masks(64))
        np.testing.assert_allclose(guide, expected, rtol=1e-4, atol=1e-6)
    query = pieces.features(inputs["query_images"])
    logits = pieces.score({GUIDE: guide, "query_features": query})
    np.testing.assert_allclose(logits, network(inputs), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(logits[..., 0], np.zeros([2, 64, 64]))


def test_without_annotations_all_is_finite(network):
    inputs = random_inputs(2, 1)
    inputs["support_masks"] = tf.fill([2, 64, 64], 255.0)
    with tf.GradientTape() as tape:
        logits = network(inputs)
        loss = tf.reduce_mean(tf.square(logits))
    assert np.isfinite(logits).all()
    gradient = tape.gradient(
        loss,
        network.trainable_variables,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    assert all(np.isfinite(g).all() for g in gradient)


def test_an_unlabelled_shot_changes_nothing(network):
    inputs = random_inputs(2, 1)
    masks = inputs["support_masks"].numpy()
    masks[1] = 255
    both = network({**inputs, "support_masks": tf.constant(masks)})
    alone = {
        **inputs,
        "support_images": inputs["support_images"][:1],
        "support_masks": tf.constant(masks[:1]),
    }
    np.testing.assert_allclose(both, network(alone), rtol=1e-4, atol=1e-6)


def test_early_fusion_with_places_averages_annotated_shots_there():
    features = np.random.default_rng(0).normal(size=(3, 2, 2, 4)).astype(np.float32)
    maps = np.zeros((3, 8, 8, 2), np.float32)
    maps[0, 3, 3, 1] = maps[2, 0, 0, 0] = 1
    found = AnnotatedPlaces()([features, maps])
    np.testing.assert_allclose(found, features[[0, 2]].mean(0)[None], atol=1e-6)
    np.testing.assert_array_equal(AnnotatedPlaces()([features, 0 * maps]), 0)


@pytest.mark.parametrize("backbone", ["VGG16", "EfficientNetLite0"])
def test_early_fusion_stacks_both_maps_behind_the_image(backbone):
    options = OPTIONS if backbone == "VGG16" else {"image_size": 64}
    model = guided(fusion="early", backbone=backbone, **options)
    encoder = model.get_layer("conditioning_encoder")
    assert encoder.input_shape == (None, 64, 64, 5)
    first = next(layer for layer in encoder.layers if layer.weights)
    assert first.kernel.shape[2] == 5
    # Without what looks at the maps, it is the plain network on the image.
    kernel = first.kernel.numpy()
    assert np.abs(kernel[:, :, 3:]).max() > 0
    kernel[:, :, 3:] = 0
    first.kernel.assign(kernel)
    features = model.get_layer("features")
    for ours, theirs in zip(encoder.layers[1:], features.layers[2:], strict=True):
        assert ours.name == f"conditioning_{theirs.name}"
        values = [v.numpy() for v in ours.weights]
        if ours is first:
            values[0] = values[0][:, :, :3]
        theirs.set_weights(values)
    inputs = random_inputs(2)
    mean = features(inputs["support_images"]).numpy().mean((0, 1, 2))
    guide = parts(model).guide(
        {name: inputs[name] for name in ("support_images", "support_masks")}
    )
    np.testing.assert_allclose(guide[0], mean, rtol=1e-3, atol=1e-5)


def test_early_fusion_starts_from_the_same_pretrained_weights():
    options = {"backbone": "EfficientNetLite0", "image_size": 64}
    model = guided(fusion="early", weights="imagenet", **options)
    encoder, features = (
        model.get_layer(name) for name in ("conditioning_encoder", "features")
    )
    for ours in encoder.layers[1:]:
        theirs = features.get_layer(ours.name.removeprefix("conditioning_"))
        for a, b in zip(ours.weights, theirs.weights, strict=True):
            a = a[:, :, :3] if a.shape != b.shape else a
            np.testing.assert_array_equal(a, b)
        assert ours.trainable == theirs.trainable


@pytest.mark.parametrize(
    "fusion,expected",
    [("late_global", 137_996_865), ("late", 137_996_865), ("early", 271_209_985)],
)
def test_number_of_parameters(fusion, expected):
    with without_memory():
        assert guided(fusion=fusion).count_params() == expected


@pytest.mark.parametrize(
    "options,message",
    [
        ({"fusion": "middle"}, "`fusion` must be one of late_global, late, early"),
        ({"relation": "sum"}, "`relation` must be one of stack, product"),
        (
            {"fusion": "early", "relation": "product"},
            r"`relation` must be one of stack \(fusion early\)",
        ),
        ({"channels": 0}, "`channels` must be a whole number from 1"),
        ({"backbone": "ResNet50"}, "`backbone` must be one of"),
        ({"image_size": 50}, "image_size"),
        ({"backbone": "EfficientNetLite0", "dilated": True}, "dilated"),
        ({"dtype": "float16"}, "`dtype` must be one of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        build_model("guided", **options)


def test_other_networks_have_no_such_parts():
    with pytest.raises(UserError, match="expected a guided network"):
        parts(oslsm(hashed=20, **NARROW))
