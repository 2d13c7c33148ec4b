import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import build_model, split
from efficientlab_tf.models.siamese import (
    NEVER,
    L1Similarity,
    MostSimilar,
    downsample_labels,
    pair_model,
    weighted_l1,
)
from tests.models.narrow import NARROW, random_inputs, without_memory


def build(**options) -> keras.Model:
    """A narrow network; a and b of the similarity are not those of the start."""
    keras.utils.set_random_seed(0)
    model = build_model("siamese", **{**NARROW, "image_size": 96, **options})
    random = np.random.default_rng(0)
    for variable in model.get_layer("similarity").weights:
        variable.assign(random.normal(size=variable.shape))
    return model


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return build()


def by_loops(model: keras.Model, inputs: dict[str, tf.Tensor]):
    """Similarity [q, h w, k h w] and labels [k, h, w], pair after pair."""
    encode = model.get_layer("features")
    support, query = (
        encode(inputs[f"{name}_images"]).numpy() for name in ("support", "query")
    )
    a, b = (v.numpy() for v in model.get_layer("similarity").weights)
    masks = inputs["support_masks"].numpy()
    k, h, w, _ = support.shape
    cell = masks.shape[1] // h, masks.shape[2] // w
    similarity = np.zeros([len(query), h * w, k * h * w])
    labels = np.zeros([k, h, w])
    for n in range(k):
        for y in range(h):
            for x in range(w):
                middle = int((y + 0.5) * cell[0]), int((x + 0.5) * cell[1])
                labels[n, y, x] = masks[(n, *middle)]
                j = (n * h + y) * w + x
                for m in range(len(query)):
                    for i in range(h * w):
                        difference = query[m, i // w, i % w] - support[n, y, x]
                        similarity[m, i, j] = a @ np.abs(difference) / len(a) ** 0.5 + b
    return similarity, labels


def test_similarity_and_labels_are_those_of_a_loop(network):
    inputs = random_inputs(2, 2, size=96)
    similarity, labels = by_loops(network, inputs)
    pairs = pair_model(network)(inputs)
    assert pairs["similarity"].shape == (2, 9, 18)
    scale = np.abs(similarity).max()
    np.testing.assert_allclose(
        pairs["similarity"] / scale, similarity / scale, atol=1e-6
    )
    np.testing.assert_array_equal(pairs["labels"], labels)
    assert similarity.std() > 1e-3
    assert {0, 1} <= set(labels.flat)


def test_logits_are_the_most_similar_positions(network):
    inputs = random_inputs(2, 2, size=96)
    similarity, labels = by_loops(network, inputs)
    best = np.stack(
        [similarity[..., labels.flatten() == label].max(axis=-1) for label in (0, 1)],
        axis=-1,
    )
    expected = tf.image.resize(best.reshape(2, 3, 3, 2), (96, 96))
    np.testing.assert_allclose(network(inputs), expected, rtol=1e-4, atol=1e-4)
    guide_model, _ = split(network)
    support = {n: v for n, v in inputs.items() if "support" in n}
    guide = guide_model(support).numpy()
    np.testing.assert_array_equal(guide[..., -1], labels)
    # Splitting leaves it fit for training.
    np.testing.assert_allclose(
        pair_model(network)(inputs)["similarity"], similarity, rtol=1e-4, atol=1e-4
    )


def test_untrained_it_is_a_nearest_neighbour_matcher():
    model = build_model("siamese", **{**NARROW, "image_size": 96}, num_classes=3)
    inputs = random_inputs(1, 1, size=96)
    masks = np.kron([[0, 1, 2], [3, 0, 1], [2, 2, 3]], np.ones([32, 32]))
    inputs["support_masks"] = tf.constant(masks[None], tf.float32)
    similarity, labels = by_loops(model, inputs)
    encode = model.get_layer("features")
    support = encode(inputs["support_images"]).numpy().reshape(9, -1)
    query = encode(inputs["query_images"]).numpy().reshape(9, -1)
    distances = np.abs(query[:, None] - support).sum(axis=-1)
    np.testing.assert_allclose(
        similarity[0], 4 - 4 * distances / 256**0.5, rtol=1e-4, atol=1e-6
    )
    lengths = np.linalg.norm(query, axis=-1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    low = keras.Model(model.input, model.get_layer("most_similar").output)
    best = low(inputs)
    assert best.shape == (1, 3, 3, 4)
    nearest = labels.flatten()[distances.argmin(axis=-1)]
    np.testing.assert_array_equal(np.argmax(best[0], -1).flatten(), nearest)
    # The support image itself is segmented as its mask.
    itself = {**inputs, "query_images": inputs["support_images"]}
    np.testing.assert_array_equal(np.argmax(low(itself), -1), labels)


def test_unknown_positions_never_win(network):
    inputs = random_inputs(1, 1, size=96)
    masks = np.kron([[0, 1, 255], [1, 0, 255], [255, 255, 255]], np.ones([32, 32]))
    inputs["support_masks"] = tf.constant(masks[None], tf.float32)
    # The query is the support: every cell is most like itself, known or not.
    inputs["query_images"] = inputs["support_images"]
    logits = network(inputs)
    other = random_inputs(1, 1, size=96, seed=1)["support_images"]
    encode = network.get_layer("features")
    features = encode(inputs["support_images"]).numpy()
    labels = downsample_labels(masks[None], 3, 3)
    guide = np.concatenate([features, labels[..., None]], axis=-1)
    replaced = guide.copy()
    replaced[..., :-1][labels == 255] = encode(other).numpy()[labels == 255]
    _, segment_model = split(network)
    both = [
        segment_model(
            {
                "guide": tf.constant(g, tf.float32),
                "query_images": inputs["query_images"],
            }
        )
        for g in (guide, replaced)
    ]
    np.testing.assert_array_equal(both[0], both[1])
    np.testing.assert_allclose(both[0], logits, rtol=1e-5, atol=1e-5)
    assert np.abs(guide - replaced).max() > 1e-3


@pytest.mark.parametrize("value", [0, 1])
def test_a_label_that_the_support_lacks_is_never_chosen(network, value):
    inputs = random_inputs(2, 1, size=96)
    inputs["support_masks"] = tf.fill([2, 96, 96], float(value))
    logits = network(inputs).numpy()
    probabilities = tf.nn.softmax(logits).numpy()
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[..., 1 - value], NEVER, rtol=1e-6)
    np.testing.assert_array_equal(probabilities[..., value], 1)
    inputs["support_masks"] = tf.fill([2, 96, 96], 255.0)
    np.testing.assert_allclose(tf.nn.softmax(network(inputs)), 0.5)


def test_labels_are_those_of_the_middle_pixel():
    masks = np.arange(2 * 64 * 96).reshape(2, 64, 96)
    nearest = tf.image.resize(masks[..., None], (2, 3), "nearest")[..., 0]
    np.testing.assert_array_equal(downsample_labels(masks, 2, 3), nearest)
    assert downsample_labels(tf.constant(masks), 2, 3)[0, 0, 0] == 16 * 96 + 16


def test_distances_and_their_gradient_are_the_plain_formulas():
    random = np.random.default_rng(0)
    at = [tf.constant(random.normal(size=s)) for s in ([6, 5], [4, 5], [5])]
    above = tf.constant(random.normal(size=[6, 4]))

    def plain(query, support, weights):
        return tf.reduce_sum(weights * tf.abs(query[:, None] - support), axis=-1)

    @tf.function
    def value_and_gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(at)
            value = function(*at)
        return value, tape.gradient(value, at, above)

    (value, gradient), (expected, truth) = map(value_and_gradient, (weighted_l1, plain))
    np.testing.assert_allclose(value, expected, atol=1e-13)
    for ours, theirs in zip(gradient, truth, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-13)


def test_the_differences_of_all_pairs_are_never_in_memory():
    features = tf.TensorSpec([1, 28, 28, 64])
    guide = tf.TensorSpec([1, 28, 28, 65])
    layer = L1Similarity()
    layer.build([guide.shape, features.shape])

    @tf.function(input_signature=[guide, features])
    def gradient(guide, features):
        with tf.GradientTape() as tape:
            tape.watch([guide, features])
            similarity = layer([guide, features])
        return similarity, tape.gradient(similarity, [guide, features])

    graph = gradient.get_concrete_function().graph
    sizes = [
        output.shape.num_elements() or 0
        for operation in graph.get_operations()
        for output in operation.outputs
        if output.shape.rank is not None
    ]
    assert max(sizes) == 784 * 784
    # The loops keep nothing of a row for their gradients.
    loops = graph.as_graph_def().library.function
    kinds = {node.op for function in loops for node in function.node_def}
    assert "Abs" in kinds
    assert "TensorListPushBack" not in kinds


def test_most_similar_sees_every_label_of_its_own():
    similarity = tf.constant([[[1.0, 5.0, 3.0, 9.0]]])
    guide = tf.constant([0.0, 1.0, 2.0, 255.0])
    guide = tf.stack([tf.zeros(4), guide], axis=-1)[:, None, None]
    layer = MostSimilar(4)
    np.testing.assert_array_equal(layer([similarity, guide])[0, 0, 0], [1, 5, 3, NEVER])


@pytest.mark.parametrize(
    "options,cells",
    [
        ({"width": 1 / 16}, 2),
        ({"width": 1 / 16, "dilated": True}, 8),
        ({"backbone": "EfficientNetLite0", "num_classes": 4}, 4),
    ],
    ids=["stride32", "stride8", "lite0"],
)
def test_sizes_of_the_features(options, cells):
    model = build_model("siamese", image_size=64, **options)
    positions = cells * cells
    assert model.get_layer("similarity").output.shape == (None, positions, None)
    assert model.get_layer("guide").output.shape[1:3] == (cells, cells)
    assert model.output.shape == (None, 64, 64, options.get("num_classes", 1) + 1)


def test_parameters_at_width_one():
    with without_memory():
        model = build_model("siamese")
        assert model.count_params() == 134_264_641
        assert model.get_layer("guide").output.shape == (None, 7, 7, 4097)


def test_gradient_of_the_pairs_is_that_of_finite_differences():
    model = build(image_size=64, dropout=0.0, dtype="float64")
    pairs = pair_model(model)
    inputs = random_inputs(2, 1, dtype="float64")
    theta = [tf.convert_to_tensor(v) for v in pairs.trainable_variables]
    assert len(theta) == len(model.trainable_variables)
    same = tf.constant(np.random.default_rng(0).integers(0, 2, [1, 4, 8]), tf.float64)

    @tf.function
    def loss(theta):
        outputs, _ = pairs.stateless_call(theta, [], inputs, training=True)
        return tf.reduce_mean(
            tf.nn.sigmoid_cross_entropy_with_logits(same, outputs["similarity"])
        )

    with tf.GradientTape() as tape:
        tape.watch(theta)
        value = loss(theta)
    gradient = tape.gradient(value, theta)
    random = np.random.default_rng(1)
    direction = [random.normal(size=t.shape) for t in theta]
    ahead, behind = (
        loss([t + sign * 1e-7 * d for t, d in zip(theta, direction, strict=True)])
        for sign in (1, -1)
    )
    slope = sum(tf.reduce_sum(g * d) for g, d in zip(gradient, direction, strict=True))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-7, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 100},
        {"backbone": "LeNet"},
        {"num_classes": 0},
        {"weights": "coco"},
        {"width": 0.5, "weights": "imagenet"},
        {"dilated": True, "backbone": "EfficientNetB0"},
        {"dropout": 1.0},
        {"dtype": "float16"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_an_impossible_option_is_named(options):
    (name, value), *_ = options.items()
    with pytest.raises(UserError) as raised:
        build_model("siamese", **options)
    message = str(raised.value)
    assert message.startswith(f"`{name}` must be ")
    assert message.endswith(f"received {value!r}")
    assert "\n" not in message
