"""Closed-form networks: the solve against scikit-learn and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn import linear_model

from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.models import closed_form, decoder_mask, split
from efficientlab_tf.models.closed_form import UnitFeatures, parse_stages
from efficientlab_tf.models.conditioned import between
from efficientlab_tf.models.newton import ScoreMap, SolveClassifier, solve
from efficientlab_tf.segmenters.forward import ForwardFunctions, forward_functions
from efficientlab_tf.segmenters.network import Network
from tests.models.narrow import random_inputs

LITE = {"image_size": 64, "backbone": "EfficientNetLite0"}


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = closed_form(weights="imagenet", stages="4,6,8/2,3,4,6", **LITE)
    # As if it were trained: nothing at the value that it starts from.
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if not variable.path.startswith(("stem", "block")):
            noise = random.normal(size=variable.shape)
            variable.assign(variable * (1 + 0.1 * noise) + 0.05 * noise)
    return model


def problem(m: int = 60, dimensions: int = 7):
    """Rows with a 1 behind them, and their two weights, balanced; some are zero."""
    random = np.random.default_rng(3)
    x = random.normal(size=[m, dimensions])
    part = np.clip(0.5 + x[:, :1] + 0.3 * random.normal(size=[m, 1]), 0, 1)
    known = random.uniform(size=[m, 1]) > 0.2
    positive, negative = part * known, (1 - part) * known
    x = np.concatenate([x, np.ones([m, 1])], axis=1)
    return x, positive / (2 * positive.sum()), negative / (2 * negative.sum())


def test_newton_reaches_the_regularised_logistic_regression():
    x, positive, negative = problem()
    found = solve(x, positive, negative, 0.01, steps=12).numpy()[:, 0]
    # Soft labels are a row of each label.
    rows, labels = np.concatenate([x, x]), np.repeat([1, 0], len(x))
    model = linear_model.LogisticRegression(
        C=1 / 0.01, fit_intercept=False, tol=1e-10, max_iter=1000
    )
    model.fit(rows, labels, np.concatenate([positive, negative])[:, 0])
    np.testing.assert_allclose(found, model.coef_[0], rtol=1e-5)


def test_one_step_is_ridge_regression():
    x, positive, negative = problem()
    weights, strength = positive + negative, 0.01
    hessian = x.T @ (weights / 4 * x) + strength * np.eye(x.shape[1])
    expected = np.linalg.solve(hessian, x.T @ (positive - negative) / 2)
    found = solve(x, positive, negative, strength, steps=1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_gradient_is_that_of_finite_differences(steps):
    x, positive, negative = (tf.constant(v) for v in problem())
    strength = tf.constant(0.02, tf.float64)
    random = np.random.default_rng(5)
    out = tf.constant(random.normal(size=[x.shape[1], 1]))
    direction = tf.constant(random.normal(size=x.shape))

    def value(x, strength):
        return tf.reduce_sum(out * solve(x, positive, negative, strength, steps))

    def along(x, strength):
        """The derivative by the features, along a direction."""
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = value(x, strength)
        return tf.reduce_sum(direction * tape.gradient(y, x))

    with tf.GradientTape() as tape:
        tape.watch([x, strength])
        y = value(x, strength)
    by_features, by_strength = tape.gradient(y, [x, strength])
    assert np.abs(by_features).max() > 1e-2
    step = 1e-5
    for row, column in [(0, 0), (7, 3), (20, 6), (41, 7), (59, 2)]:
        unit = np.zeros(x.shape)
        unit[row, column] = step
        numeric = (value(x + unit, strength) - value(x - unit, strength)) / (2 * step)
        np.testing.assert_allclose(by_features[row, column], numeric, atol=1e-8)
    numeric = value(x + step * direction, strength) - value(
        x - step * direction, strength
    )
    np.testing.assert_allclose(along(x, strength), numeric / (2 * step), rtol=1e-7)
    numeric = (value(x, strength + 1e-6) - value(x, strength - 1e-6)) / 2e-6
    np.testing.assert_allclose(by_strength, numeric, rtol=1e-6)
    # And so is the second derivative.
    with tf.GradientTape() as tape:
        tape.watch(x)
        first = along(x, strength)
    second = tf.reduce_sum(direction * tape.gradient(first, x))
    numeric = along(x + step * direction, strength) - along(
        x - step * direction, strength
    )
    assert abs(second) > 1e-2
    np.testing.assert_allclose(second, numeric / (2 * step), rtol=1e-6)


def test_the_gradient_of_the_layer_is_that_of_finite_differences():
    random = np.random.default_rng(2)
    maps = tf.constant(random.uniform(size=[2, 4, 4, 2]))
    features = tf.constant(random.normal(size=[2, 4, 4, 5]))
    direction = tf.constant(random.normal(size=features.shape))
    out = tf.constant(random.normal(size=[1, 6]))
    unit, layer = UnitFeatures(dtype="float64"), SolveClassifier(3, dtype="float64")

    def value(features):
        return tf.reduce_sum(out * layer([unit(features), maps]))

    value(features)
    unit.gamma.assign(random.uniform(0.5, 1.5, 5))
    layer.alpha.assign(0.3)
    layer.beta.assign(0.8)
    with tf.GradientTape() as tape:
        tape.watch(features)
        y = value(features)
    sources = [features, unit.gamma.value, layer.alpha.value, layer.beta.value]
    by_features, *by_variables = tape.gradient(y, sources)
    step = 1e-6
    numeric = value(features + step * direction) - value(features - step * direction)
    given = tf.reduce_sum(direction * by_features)
    np.testing.assert_allclose(given, numeric / (2 * step), rtol=1e-6)
    for variable, gradient in zip(
        (unit.gamma, layer.alpha, layer.beta), by_variables, strict=True
    ):
        kept, change = variable.numpy(), step * np.ones(variable.shape)
        both = []
        for sign in (1, -1):
            variable.assign(kept + sign * change)
            both.append(value(features))
        variable.assign(kept)
        numeric = (both[0] - both[1]) / (2 * step)
        np.testing.assert_allclose(tf.reduce_sum(gradient), numeric, rtol=1e-5)


def test_both_classes_weigh_the_same_however_large():
    random = np.random.default_rng(2)
    features = random.normal(size=[2, 4, 4, 5])
    negative = np.zeros([2, 4, 4, 2])
    negative[..., 1] = 1
    maps = negative.copy()
    maps[0] = random.integers(0, 2, [4, 4, 1]) == [1, 0]
    layer = SolveClassifier(3, dtype="float64")
    layer([features, maps])
    layer.beta.assign(0)
    once = layer([features, maps])
    twice = layer([np.tile(features, [3, 1, 1, 1]), np.tile(maps, [3, 1, 1, 1])])
    np.testing.assert_allclose(once, twice, rtol=1e-9)
    # A copy of the shot that is all background adds background alone.
    more = layer([features[[0, 1, 1]], maps[[0, 1, 1]]])
    assert np.abs(more - once).max() > 1e-3
    assert abs(more[0, -1] - once[0, -1]) < 0.5


@pytest.mark.parametrize("steps", [1, 3])
def test_cells_of_which_nothing_is_known_have_no_influence(steps):
    random = np.random.default_rng(2)
    features = random.normal(size=[3, 4, 4, 5])
    maps = random.uniform(size=[3, 4, 4, 2]) * random.integers(0, 2, [3, 4, 4, 1])
    known = maps.sum(-1, keepdims=True) > 0
    assert 0.2 < known.mean() < 0.8
    layer = SolveClassifier(steps, dtype="float64")
    w = layer([features, maps])
    np.testing.assert_array_equal(w, layer([np.where(known, features, 9.0), maps]))
    # Nor does it matter how much of a cell is known.
    np.testing.assert_allclose(w, layer([features, 0.01 * maps]), rtol=1e-9)


@pytest.mark.parametrize("sign", [0, 1])
def test_with_one_label_alone_all_get_that_label(sign):
    features = np.random.default_rng(2).normal(size=[2, 4, 4, 5]).astype("float32")
    maps = np.zeros([2, 4, 4, 2], "float32")
    maps[..., sign] = 1
    w = SolveClassifier(3)([features, maps])
    scores = ScoreMap(0)([w, features]).numpy()
    assert (scores > 0).all() if sign == 0 else (scores < 0).all()
    np.testing.assert_array_equal(SolveClassifier(3)([features, 0 * maps]), 0 * w)


def test_easy_tasks_stay_finite_in_float32():
    # Far apart classes saturate the logistic function after a few steps.
    features = np.zeros([1, 4, 4, 3], "float32")
    features[:, :2, :, 0], features[:, 2:, :, 1] = 100, 100
    maps = np.zeros([1, 4, 4, 2], "float32")
    maps[:, :2, :, 0], maps[:, 2:, :, 1] = 1, 1
    layer = SolveClassifier(20)
    x = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(x)
        w = layer([x, maps])
    assert np.isfinite(w).all() and np.isfinite(tape.gradient(w, x)).all()
    scores = ScoreMap(0)([w, features]).numpy()[0, ..., 0]
    assert (scores[:2] > 1).all() and (scores[2:] < -1).all()


def guide_of(model: keras.Model, inputs) -> np.ndarray:
    names = ("support_images", "support_masks")
    return split(model)[0]({name: inputs[name] for name in names}).numpy()


def test_shots_are_a_set(network):
    inputs = random_inputs(4)
    order = [2, 0, 3, 1]
    permuted = {
        name: tf.gather(value, order) if name.startswith("support") else value
        for name, value in inputs.items()
    }
    guide = guide_of(network, inputs)
    assert guide.shape == (1, 40 + 112 + 320 + 1 + 16 + 24 + 40 + 112 + 1)
    np.testing.assert_allclose(
        guide, guide_of(network, permuted), atol=1e-3 * np.abs(guide).max()
    )
    np.testing.assert_allclose(network(inputs), network(permuted), atol=1e-3)
    other = {**inputs, "support_masks": tf.reverse(inputs["support_masks"], [0])}
    assert np.abs(guide - guide_of(network, other)).max() > 0.1


def test_a_shot_of_which_nothing_is_known_changes_nothing(network):
    inputs = random_inputs(3)
    masks = inputs["support_masks"].numpy()
    masks[1] = IGNORE
    kept = {
        **inputs,
        "support_images": tf.gather(inputs["support_images"], [0, 2]),
        "support_masks": tf.constant(masks[[0, 2]]),
    }
    both = {**inputs, "support_masks": tf.constant(masks)}
    np.testing.assert_allclose(network(both), network(kept), atol=1e-3)
    # Without any annotation all is finite.
    none = {**inputs, "support_masks": tf.fill([3, 64, 64], float(IGNORE))}
    np.testing.assert_array_equal(guide_of(network, none), 0)
    assert np.isfinite(network(none)).all()


def test_the_decoder_sees_scores_and_colors_alone(network):
    scores = [network.get_layer(f"set{i}_score").output for i in (0, 1)]
    _, query = split(network)
    inputs = random_inputs()
    colors, *_ = network.get_layer("drawn").input
    cuts = {"colors": colors, "first": scores[0], "second": scores[1]}
    # It can be cut there: nothing else leads to the logits.
    decoder = between(cuts, network.output, name="decoder")
    assert all(v.path.startswith("decoder_") for v in decoder.variables)
    values = keras.Model(network.input, list(cuts.values()))(inputs)
    found = decoder(dict(zip(cuts, values, strict=True)))
    np.testing.assert_allclose(found, network(inputs), atol=1e-5)
    pixels = tf.nn.avg_pool2d(inputs["query_images"] / 255, 2, 2, "VALID")
    np.testing.assert_allclose(values[0], pixels, atol=1e-6)


def test_untrained_it_is_the_mean_of_its_logistic_regressions_and_of_what_is_drawn():
    model = closed_form(weights="imagenet", stages="4,6/3,6", newton_steps=8, **LITE)
    inputs = random_inputs(2, 1)
    logits = model(inputs)[..., 1].numpy()
    names = ("set0_score", "set1_score", "drawn")
    outputs = [model.get_layer(name).output for name in names]
    *scores, drawn = keras.Model(model.input, outputs)(inputs)
    assert [x.shape[1] for x in scores] == [64 // 8, 64 // 4]
    scores = [*(tf.image.resize(x, [32, 32]) for x in scores), drawn]
    mean = tf.reduce_sum(tf.concat(scores, -1), -1, keepdims=True) / 4
    found = tf.image.resize(mean, [64, 64])[..., 0]
    np.testing.assert_allclose(logits, found, atol=1e-4)
    assert logits.std() > 0.1


def test_points_are_enough():
    model = closed_form(weights="imagenet", stages="2,3", **LITE)
    image = np.full([1, 64, 64, 3], 60, "float32")
    image[:, 16:48, 16:48] = [220, 40, 40]
    masks = np.full([1, 64, 64], IGNORE, "float32")
    masks[0, 32, 32], masks[0, 4, 60], masks[0, 60, 8] = 1, 0, 0
    found = model(
        {"support_images": image, "support_masks": masks, "query_images": image}
    )[0, ..., 1].numpy()
    assert (found[24:40, 24:40] > 0).all()
    assert (found[:8] < 0).all() and (found[-8:] < 0).all()


def test_several_classes_have_a_guide_each(network):
    net = Network(network)
    segmenter = forward_functions(net).segmenter(net.weights())
    inputs = random_inputs(2, 3)
    images, queries = (
        inputs[name].numpy().astype(np.uint8)
        for name in ("support_images", "query_images")
    )
    masks = np.zeros([2, 64, 64], np.uint8)
    masks[:, :20], masks[:, 40:], masks[:, 30:34] = 1, 2, IGNORE
    adapted = segmenter.adapt(images, masks)
    together = adapted.predict(queries)
    assert together.shape == (3, 64, 64, 3)
    np.testing.assert_allclose(together.sum(-1), 1, atol=1e-5)
    scores = []
    for label in (1, 2):
        own = np.where(masks == IGNORE, masks, masks == label).astype(np.uint8)
        alone = segmenter.adapt(images, own).predict(queries)
        scores.append(np.log(alone[..., 1] / alone[..., 0]))
    logits = np.stack([0 * scores[0], *scores], axis=-1)
    np.testing.assert_allclose(together, tf.nn.softmax(logits), atol=1e-3)


def test_pictures_are_read_once_and_annotated_often(network):
    net = Network(network)
    functions = forward_functions(net)
    # With weights that are not those of the variables.
    weights = net.weights()
    weights = weights._replace(theta=tuple(1.1 * t for t in weights.theta))
    whole = ForwardFunctions(net).segmenter(weights)
    segmenter = functions.segmenter(weights)
    assert segmenter.live and not whole.live
    inputs = random_inputs(2, 2)
    images, queries = (
        inputs[name].numpy().astype(np.uint8)
        for name in ("support_images", "query_images")
    )
    support, read = segmenter.read(images), segmenter.read(queries)
    for seed in range(2):
        masks = random_inputs(2, seed=seed)["support_masks"].numpy().astype(np.uint8)
        expected = whole.adapt(images, masks).predict(queries)
        found = segmenter.adapt(support, masks).predict(read)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_frozen_features_stay():
    model = closed_form(freeze_features=True, **LITE)
    heads = ("set", "decoder_")
    assert all(v.path.startswith(heads) for v in model.trainable_variables)
    assert sum(decoder_mask(model)) == sum(
        v.path.startswith("decoder_") for v in model.trainable_variables
    )
    trained = closed_form(**LITE).trainable_variables
    names = {v.path.split("/")[-1] for v in trained if v.path.startswith("block")}
    assert names == {"kernel"}  # Batch normalization is frozen always.


def test_a_network_of_rectangles():
    model = closed_form(image_size=(64, 96), stages="6,7")
    inputs = {
        "support_images": tf.random.stateless_uniform([2, 64, 96, 3], [1, 2], 0, 255),
        "support_masks": tf.cast(
            tf.reshape(tf.range(2 * 64 * 96) % 2, [2, 64, 96]), "float32"
        ),
        "query_images": tf.random.stateless_uniform([1, 64, 96, 3], [1, 3], 0, 255),
    }
    assert model(inputs).shape == (1, 64, 96, 2)


@pytest.mark.parametrize("text", ["", "4,", "4,6/", "9", "4,4", "a", "1"])
def test_stages_that_are_none_are_refused(text):
    with pytest.raises(UserError, match="`stages` must be .* such as 4,6,7/2,3,4,6"):
        parse_stages(text)


def test_sets_of_stages():
    assert parse_stages("4,6/2,3,4,6") == ((4, 6), (2, 3, 4, 6))
    assert parse_stages([[8]]) == ((8,),)
    with pytest.raises(UserError, match="newton_steps"):
        closed_form(newton_steps=0, **LITE)


def test_a_guide_serves_one_query_or_each_its_own():
    random = np.random.default_rng(0)
    features, guides = random.normal(size=[2, 3, 4, 5]), random.normal(size=[2, 9])
    layer = ScoreMap(3, dtype="float64")
    scores = layer([guides, features])
    expected = np.einsum("nhwc,nc->nhw", features, guides[:, 3:8])
    expected += guides[:, 8, np.newaxis, np.newaxis]
    np.testing.assert_allclose(scores[..., 0], expected)
    np.testing.assert_allclose(layer([guides[:1], features])[0], scores[0])
