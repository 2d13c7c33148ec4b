import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.graphs import graph
from efficientlab_tf.models import MODELS, build_model, is_conditioned, split
from efficientlab_tf.models.conditioned import GUIDE, QUERY_INPUT, SUPPORT_INPUTS
from tests.models.narrow import NARROW, random_inputs
from tests.models.tiny import tiny_network

NETWORKS = {
    "closed_form": {"image_size": 64, "stages": "3,4/2,3"},
    "guided": {"channels": 8, **NARROW},
    "guided_early": {"channels": 8, "fusion": "early", **NARROW},
    "guided_late": {"channels": 8, "fusion": "late", **NARROW},
    "oslsm": {"hashed": 20, **NARROW},
    "siamese": NARROW,
    "siamese_lite": {"image_size": 64, "backbone": "EfficientNetLite0"},
}


def build(name: str, **options) -> keras.Model:
    keras.utils.set_random_seed(0)
    network = name if name in MODELS else name.split("_")[0]
    return build_model(network, **{**NETWORKS[name], **options})


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def network(request) -> keras.Model:
    return build(request.param)


def in_two(model: keras.Model, inputs: dict[str, tf.Tensor]) -> np.ndarray:
    """Logits by way of the guide."""
    guide_model, segment_model = split(model)
    guide = guide_model({name: inputs[name] for name in SUPPORT_INPUTS})
    return segment_model({GUIDE: guide, QUERY_INPUT: inputs[QUERY_INPUT]}).numpy()


@pytest.mark.parametrize("k,q", [(1, 3), (3, 1), (2, 2)])
def test_the_halves_are_the_whole(network, k, q):
    inputs = random_inputs(k, q)
    logits = network(inputs).numpy()
    assert logits.shape == (q, 64, 64, 2)
    assert logits.std() > 1e-4
    np.testing.assert_allclose(in_two(network, inputs), logits, rtol=1e-5, atol=1e-7)
    # Each query is segmented on its own.
    alone = {**inputs, QUERY_INPUT: inputs[QUERY_INPUT][-1:]}
    np.testing.assert_allclose(network(alone), logits[-1:], rtol=1e-4, atol=1e-5)


def test_the_halves_have_the_variables_of_the_whole(network):
    guide_model, segment_model = split(network)
    halves = {id(v) for half in (guide_model, segment_model) for v in half.variables}
    assert halves == {id(v) for v in network.variables}
    assert set(guide_model.input) == set(SUPPORT_INPUTS)
    assert set(segment_model.input) == {GUIDE, QUERY_INPUT}
    guide = guide_model.output
    assert guide.shape[1:] == segment_model.input[GUIDE].shape[1:]
    assert guide.shape[1:] == network.get_layer(GUIDE).output.shape[1:]
    # They share variables, not values.
    inputs = random_inputs()
    before = in_two(network, inputs)
    variables = network.trainable_variables
    values = [v.numpy() for v in variables]
    for variable in variables:
        variable.assign(variable * 1.5)
    changed = in_two(network, inputs)
    np.testing.assert_allclose(changed, network(inputs), rtol=1e-5, atol=1e-5)
    assert np.abs(changed - before).max() > 1e-3
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def test_saved_and_loaded_it_can_be_split(network, tmp_path):
    inputs = random_inputs()
    split(network)  # It leaves the network as it was.
    network.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert is_conditioned(loaded)
    np.testing.assert_array_equal(loaded(inputs), network(inputs))
    np.testing.assert_allclose(
        in_two(loaded, inputs), network(inputs), rtol=1e-5, atol=1e-6
    )
    # In the order that learners know the variables by.
    for ours, theirs in zip(network.weights, loaded.weights, strict=True):
        assert ours.path == theirs.path
    for ours, theirs in zip(
        network.trainable_variables, loaded.trainable_variables, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "name,dtype",
    [
        ("closed_form", "float64"),
        ("guided", "float32"),
        ("guided", "float64"),
        ("guided_early", "float32"),
        ("guided_late", "float32"),
        ("oslsm", "float32"),
        ("oslsm", "float64"),
        ("siamese", "float32"),
        ("siamese", "float64"),
        ("siamese_lite", "float32"),
    ],
)
def test_it_is_a_pure_function_in_a_graph(name, dtype):
    model = build(name, dtype=dtype)
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    state = [tf.convert_to_tensor(v) for v in model.non_trainable_variables]
    pixels, plane = [None, 64, 64, 3], [None, 64, 64]
    shapes = dict(
        zip((*SUPPORT_INPUTS, QUERY_INPUT), (pixels, plane, pixels), strict=True)
    )
    signature = {key: tf.TensorSpec(shape, dtype) for key, shape in shapes.items()}

    def compute(inputs, training):
        with tf.GradientTape() as tape:
            tape.watch(theta)
            logits, updated = model.stateless_call(
                theta, state, inputs, training=training
            )
            loss = tf.reduce_mean(tf.square(logits))
        return logits, updated, tape.gradient(loss, theta)

    before = [v.numpy() for v in model.variables]
    for training in (False, True):
        call = graph(
            lambda inputs, training=training: compute(inputs, training),
            input_signature=[signature],
        )
        for k, q in ((1, 2), (2, 1)):
            inputs = random_inputs(k, q, dtype=dtype)
            logits, updated, gradient = call(inputs)
            assert logits.shape == (q, 64, 64, 2)
            assert logits.dtype == dtype
            assert all(np.isfinite(g).all() for g in gradient)
            if not training:
                np.testing.assert_allclose(logits, model(inputs), rtol=1e-4, atol=1e-4)
                for new, old in zip(updated, state, strict=True):
                    np.testing.assert_array_equal(new, old)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_uint8_is_as_good_as_float(network):
    inputs = random_inputs()
    as_uint8 = {name: tf.cast(value, tf.uint8) for name, value in inputs.items()}
    np.testing.assert_allclose(network(as_uint8), network(inputs), rtol=1e-5, atol=1e-6)


def test_other_networks_are_not_conditioned(network):
    assert is_conditioned(network)
    assert not is_conditioned(tiny_network())
    inputs = {
        name: keras.Input([4], name=name) for name in (*SUPPORT_INPUTS, QUERY_INPUT)
    }
    unmarked = keras.Model(inputs, keras.layers.Concatenate()(list(inputs.values())))
    for other in (tiny_network(), unmarked):
        with pytest.raises(UserError, match=f"network {other.name}: expected the inp"):
            split(other)
