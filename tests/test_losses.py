"""The loss at its boundary values, against numpy, and its ignored pixels."""

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.losses import (
    Objective,
    cross_entropy,
    l2_penalty,
    log_dice,
    soft_iou,
)


def _random(classes=1, n=3, size=6, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, size, size, classes + 1))
    masks = rng.integers(0, classes + 1, (n, size, size)).astype(np.uint8)
    return logits, masks


def _softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_binary_loss_is_the_papers_formula():
    logits, masks = _random()
    p, y = _softmax(logits)[..., 1], masks.astype(float)
    h = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    intersection = (y * p).sum((1, 2))
    union = (y + p - y * p).sum((1, 2))
    iou = np.mean((intersection + 1e-7) / (union + 1e-7))
    theta = [tf.constant([1.0, 2.0], tf.float64), tf.constant([3.0], tf.float64)]
    expected = h - np.log(2 * iou / (iou + 1)) + 5e-4 * (1 + 4) / 2
    loss, parts = Objective()(
        tf.constant(logits), tf.constant(masks), theta, (True, False)
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    np.testing.assert_allclose(parts["soft_iou"], iou, rtol=1e-12)
    np.testing.assert_allclose(parts["cross_entropy"], h, rtol=1e-12)


def test_cross_entropy_alone_is_equation_12():
    logits, masks = _random()
    loss, parts = Objective("cross_entropy", l2=0.0)(logits, masks, [], ())
    np.testing.assert_allclose(loss, cross_entropy(logits, masks))
    assert set(parts) == {"cross_entropy", "soft_iou"} and parts["soft_iou"] == 0


def test_perfect_and_opposite_predictions():
    _, masks = _random()
    right = tf.constant(40.0 * (2.0 * np.eye(2)[masks] - 1.0))
    np.testing.assert_allclose(cross_entropy(right, masks), 0, atol=1e-12)
    np.testing.assert_allclose(soft_iou(right, masks), 1, atol=1e-6)
    np.testing.assert_allclose(log_dice(soft_iou(right, masks)), 0, atol=1e-6)
    np.testing.assert_allclose(soft_iou(-right, masks), 0, atol=1e-6)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("value", ["empty", "full", "unknown"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_loss_and_gradient_are_finite_on_extreme_masks(classes, value, scale):
    logits, masks = _random(classes)
    masks[:] = {"empty": 0, "full": 1, "unknown": 255}[value]
    logits = tf.constant(logits * scale, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss, _ = Objective(l2=0.0)(logits, tf.constant(masks), [], ())
    assert np.isfinite(loss)
    assert np.isfinite(tape.gradient(loss, logits)).all()


@pytest.mark.parametrize("classes", [1, 3])
def test_unknown_pixels_count_nowhere(classes):
    logits, masks = _random(classes)
    masks[:, :2] = 255
    known, known_masks = logits[:, 2:], masks[:, 2:]
    np.testing.assert_allclose(
        cross_entropy(logits, masks), cross_entropy(known, known_masks)
    )
    np.testing.assert_allclose(soft_iou(logits, masks), soft_iou(known, known_masks))
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss, _ = Objective(l2=0.0)(logits, tf.constant(masks), [], ())
    gradient = tape.gradient(loss, logits).numpy()
    assert (gradient[:, :2] == 0).all()
    assert (gradient[:, 2:] != 0).any()


def test_several_classes_average_their_ious():
    logits, masks = _random(2)
    p = _softmax(logits)
    ious = []
    for c in (1, 2):
        y = masks == c
        i, u = (y * p[..., c]).sum((1, 2)), (y + p[..., c]).sum((1, 2))
        ious.append((i + 1e-7) / (u - i + 1e-7))
    np.testing.assert_allclose(soft_iou(logits, masks), np.mean(ious), rtol=1e-9)


def test_gradient_equals_finite_differences():
    logits, masks = _random(2, n=2, size=3)
    masks[0, 0, 0] = 255
    logits = tf.constant(logits)
    direction = tf.constant(np.random.default_rng(1).normal(size=logits.shape))
    objective = Objective(l2=0.0)

    def loss(x):
        return objective(x, tf.constant(masks), [], ())[0]

    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(logits)
    slope = tf.reduce_sum(tape.gradient(value, logits) * direction)
    step = 1e-6
    difference = loss(logits + step * direction) - loss(logits - step * direction)
    np.testing.assert_allclose(slope, difference / (2 * step), rtol=1e-7)


def test_l2_is_half_the_sum_of_squares_of_decayed_parameters():
    theta = [tf.constant([3.0, 4.0]), tf.constant([100.0])]
    assert float(l2_penalty(theta, (True, False))) == 12.5


def test_sum_cross_entropy_adds_up_the_known_pixels():
    logits, masks = _random()
    masks[0, :2] = 255
    loss, parts = Objective("sum_cross_entropy", l2=0.0)(logits, masks, [], ())
    p = np.take_along_axis(_softmax(logits), np.minimum(masks, 1)[..., None], -1)[
        ..., 0
    ]
    np.testing.assert_allclose(loss, -np.log(p[masks != 255]).sum())
    np.testing.assert_allclose(parts["cross_entropy"], loss / (masks != 255).sum())
