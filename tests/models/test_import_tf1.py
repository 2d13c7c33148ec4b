import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import decay_mask, efficientlab
from tests.models.shared import shared_path
from tools import import_efficientlab_checkpoint as tool
from tools.import_efficientlab_checkpoint import (
    checkpoint_architecture,
    load_efficientlab_checkpoint,
)

NETWORKS = {
    "efficientlab_b0_rsd3": {"decoder": "rsd", "rsd_stages": (3,)},
    "efficientlab_b0_rsd3_6": {"decoder": "rsd", "rsd_stages": (6, 3)},
    "efficientlab_b0_nodecoder": {"decoder": "none"},
}


def golden_prefix(name: str) -> str:
    return str(shared_path(f"golden/{name}/model.ckpt.index").with_suffix(""))


def build(prefix: str, **options) -> keras.Model:
    options = {**checkpoint_architecture(prefix), **options}
    return efficientlab(final_dropout=0, drop_connect=0, **options)


def write_checkpoint(path: Path, tensors: dict[str, np.ndarray]) -> str:
    """Writes a checkpoint with plain names, as TensorFlow 1 does."""
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    return str(path)


def read_checkpoint(prefix: str) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(prefix)
    return {
        name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
    }


@pytest.fixture(scope="module", params=NETWORKS)
def golden(request):
    """The network, its golden arrays and numbers, before anything changed it."""
    prefix = golden_prefix(request.param)
    assert checkpoint_architecture(prefix) == {
        "backbone": "EfficientNetB0",
        "num_classes": 1,
        **NETWORKS[request.param],
    }
    model = build(prefix)
    load_efficientlab_checkpoint(model, prefix)
    folder = Path(prefix).parent
    numbers = json.loads((folder / "golden.json").read_text())
    with np.load(folder / "golden.npz") as arrays:
        return model, dict(arrays), numbers


def test_golden_parameters(golden):
    model, _, numbers = golden
    total = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert total == numbers["trainable_parameters"]


def test_golden_probability(golden):
    model, arrays, _ = golden
    probability = tf.nn.softmax(model(arrays["images"], training=False))[..., 1]
    expected = arrays["foreground_probability"]
    np.testing.assert_allclose(probability, expected, rtol=0, atol=1e-5)


def test_golden_losses_and_sgd_step(golden):
    model, arrays, numbers = golden
    images, masks = arrays["images"], arrays["masks"]
    foreground = tf.cast(masks, tf.float32)
    decay = decay_mask(model)
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    state = [tf.convert_to_tensor(v) for v in model.non_trainable_variables]

    def losses(theta, state):
        """Equations 11 to 14, written out independently of the package."""
        logits, state = model.stateless_call(theta, state, images, training=True)
        labels = tf.cast(masks, tf.int32)
        cross_entropy = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        )
        probability = tf.nn.softmax(logits)[..., 1]
        both = tf.reduce_sum(probability * foreground, [1, 2])
        either = tf.reduce_sum(probability + foreground, [1, 2]) - both
        iou = tf.reduce_mean((both + 1e-7) / (either + 1e-7))
        l2 = 5e-4 * sum(
            tf.nn.l2_loss(v) for v, d in zip(theta, decay, strict=True) if d
        )
        loss = cross_entropy - tf.math.log(2 * iou / (iou + 1)) + l2
        return loss, iou, l2, state

    def step(theta, state):
        with tf.GradientTape() as tape:
            tape.watch(theta)
            loss, iou, l2, state = losses(theta, state)
        rate = numbers["learning_rate"]
        change = [-rate * g for g in tape.gradient(loss, theta)]
        moved = [v + c for v, c in zip(theta, change, strict=True)]
        return loss, iou, l2, change, state, losses(moved, state)[0]

    loss, iou, l2, change, new_state, after = step(theta, state)
    for ours, name in (
        (loss, "training_loss"),
        (iou, "soft_iou"),
        (l2, "l2_loss"),
        (after, "training_loss_after_step"),
    ):
        np.testing.assert_allclose(ours, arrays[name], rtol=1e-3, err_msg=name)

    layers = [layer for layer in model.layers if layer.weights]
    change += [b - a for a, b in zip(state, new_state, strict=True)]
    variables = model.trainable_variables + model.non_trainable_variables
    norms = {
        variable.path: float(tf.norm(c))
        for variable, c in zip(variables, change, strict=True)
    }
    scopes = tool._scopes(
        [layer.name for layer in layers], "efficientnet-b0", legacy=False
    )
    for layer in layers:
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        for variable in layer.weights:
            name = "depthwise_kernel" if depthwise else variable.name
            expected = numbers["sgd_update_l2_norm"][f"{scopes[layer.name]}/{name}"]
            # An offset that the next batch normalization takes away again has no
            # gradient: there both numbers are rounding errors below 1e-7.
            assert norms[variable.path] == pytest.approx(
                expected, rel=0.01, abs=1e-7
            ), variable.path


def test_old_scopes_and_optimizer_slots(tmp_path):
    original = golden_prefix("efficientlab_b0_rsd3")
    tensors = {}
    for name, value in read_checkpoint(original).items():
        name = name.replace("decode_skip_connections_1/", "decode_skip_connections/")
        tensors[name] = value
        tensors[f"{name}/Adam"] = np.zeros_like(value)
    tensors["beta1_power"] = np.float32(0.9)
    tensors["efficientnet-b0/blocks_11/conv2d/kernel"] = np.zeros(3, "float32")
    prefix = write_checkpoint(tmp_path / "old.ckpt", tensors)
    new, old = build(original, image_size=32), build(prefix, image_size=32)
    load_efficientlab_checkpoint(new, original)
    load_efficientlab_checkpoint(old, prefix)
    for ours, theirs in zip(new.get_weights(), old.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "options,named",
    [
        ({"rsd_stages": (6, 3)}, "decode_skip_connections_3/conv2d/kernel"),
        ({"decoder": "none"}, "decode_skip_connections_1/batch_normalization/beta"),
        ({"num_classes": 2}, "final_layer_weights/kernel.*112, 3.*112, 2"),
        ({"backbone": "EfficientNetB1"}, "blocks_1/"),
        ({"decoder": "auto_deeplab"}, "aspp_"),
        ({"rsd_stages": (5,)}, "rsd5_branch0_conv"),
    ],
    ids=lambda value: str(*value.values()) if isinstance(value, dict) else "",
)
def test_another_architecture_is_named_and_changes_nothing(options, named):
    prefix = golden_prefix("efficientlab_b0_rsd3")
    model = build(prefix, image_size=32, **options)
    before = model.get_weights()
    with pytest.raises(UserError, match=named) as raised:
        load_efficientlab_checkpoint(model, prefix)
    assert "\n" not in str(raised.value)
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_lacking_variable_is_named(tmp_path):
    original = golden_prefix("efficientlab_b0_nodecoder")
    tensors = read_checkpoint(original)
    name = "efficientnet-b0/blocks_7/se/conv2d_1/bias"
    del tensors[name]
    prefix = write_checkpoint(tmp_path / "model.ckpt", tensors)
    with pytest.raises(UserError, match=name):
        load_efficientlab_checkpoint(build(prefix, image_size=32), prefix)


def test_what_is_no_checkpoint_is_an_error_in_one_line(tmp_path):
    other = write_checkpoint(tmp_path / "other.ckpt", {"weights": np.zeros(3)})
    (tmp_path / "torn.ckpt.index").write_bytes(b"no table")
    for prefix in (tmp_path / "absent.ckpt", tmp_path / "torn.ckpt", tmp_path, other):
        with pytest.raises(UserError, match=str(prefix)) as raised:
            checkpoint_architecture(str(prefix))
        assert "\n" not in str(raised.value)


def test_a_torn_data_file_is_an_error(tmp_path):
    original = golden_prefix("efficientlab_b0_nodecoder")
    prefix = write_checkpoint(tmp_path / "model.ckpt", read_checkpoint(original))
    (data,) = tmp_path.glob("model.ckpt.data-*")
    data.write_bytes(data.read_bytes()[:100_000])
    with pytest.raises(UserError, match="model.ckpt"):
        load_efficientlab_checkpoint(build(prefix, image_size=32), prefix)


def test_the_tool_writes_the_model(tmp_path):
    name = "efficientlab_b0_rsd3_6"
    prefix, output = golden_prefix(name), tmp_path / "model.keras"
    tool.main(["--checkpoint", prefix, "--output", str(output)])
    model = keras.models.load_model(output)
    with np.load(Path(prefix).with_name("golden.npz")) as golden:
        probability = tf.nn.softmax(model(golden["images"]))[..., 1]
        expected = golden["foreground_probability"]
    np.testing.assert_allclose(probability, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("output", ["model.h5", "no/such/model.keras"])
def test_the_tool_names_an_impossible_output(tmp_path, output):
    with pytest.raises(UserError, match="--output"):
        tool.main(["--checkpoint", "unread", "--output", str(tmp_path / output)])
