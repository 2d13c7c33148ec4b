r"""The training loss of EfficientLab (Hendryx et al., equations 11 to 14).

    L   = H - log(J) + lambda * ||theta||^2 / 2          (11)
    H   = mean over pixels of -log p(true class)         (12)
    J   = 2 IoU / (IoU + 1)                              (13)
    IoU = mean over images of (sum y p + eps) / (sum y + p - y p + eps)   (14)

The paper writes (14) per pixel; its authors' network sums over an image's
pixels before dividing, as here. Pixels labelled 255 count nowhere. Every term
is finite on empty, full and wholly unknown masks. All of it is made of
operations with right second derivatives.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError

EPSILON = 1e-7

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Logits [n, H, W, K+1] and uint8 masks [n, H, W] to a scalar."""


def _valid(masks: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return tf.cast(tf.not_equal(masks, IGNORE), dtype)


def cross_entropy(logits: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    """Mean negative log likelihood of the known pixels (equation 12).

    Args:
      logits: float [n, H, W, K+1].
      masks: uint8 [n, H, W]; 0..K, 255 unknown.

    Returns:
      A scalar; 0 if every pixel is unknown.
    """
    valid = _valid(masks, logits.dtype)
    labels = tf.where(masks == IGNORE, 0, tf.cast(masks, tf.int32))
    truth = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    log_likelihood = tf.reduce_sum(truth * tf.nn.log_softmax(logits), axis=-1)
    known = tf.maximum(tf.reduce_sum(valid), 1.0)
    return -tf.reduce_sum(valid * log_likelihood) / known


def soft_iou(logits: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    """Soft intersection over union, averaged over images and foreground classes.

    Equation 14 with p the softmax probability.

    Args:
      logits: float [n, H, W, K+1].
      masks: uint8 [n, H, W]; 0..K, 255 unknown.

    Returns:
      A scalar in (0, 1].
    """
    valid = _valid(masks, logits.dtype)[..., tf.newaxis]
    predicted = tf.nn.softmax(logits)[..., 1:] * valid
    classes = logits.shape[-1]
    # one_hot of 255 is a row of zeros, so unknown pixels belong to no class.
    truth = tf.one_hot(tf.cast(masks, tf.int32), classes, dtype=logits.dtype)[..., 1:]
    intersection = tf.reduce_sum(truth * predicted, axis=[1, 2])
    union = tf.reduce_sum(truth + predicted, axis=[1, 2]) - intersection
    return tf.reduce_mean((intersection + EPSILON) / (union + EPSILON))


def log_dice(iou: tf.Tensor) -> tf.Tensor:
    """log J with J = 2 IoU / (IoU + 1) (equation 13)."""
    return tf.math.log(2.0 * iou / (iou + 1.0))


def l2_penalty(theta, decayed) -> tf.Tensor:
    """Half the sum of squares of the tensors `theta` that `decayed`, bools, marks."""
    pairs = zip(theta, decayed, strict=True)
    return tf.add_n([tf.nn.l2_loss(tensor) for tensor, marked in pairs if marked])


@dataclasses.dataclass(frozen=True)
class Objective:
    """What an inner-loop step minimizes.

    Attributes:
      kind: "bce_dice" (equation 11), "cross_entropy" (equation 12 alone),
        "sum_cross_entropy" (the same as a sum over all known pixels, Shaban et al.,
        equation 3), or a loss of your own.
      l2: lambda of equation 11; 0 leaves the term out.
    """

    kind: str | Loss = "bce_dice"
    l2: float = 5e-4

    def __call__(
        self, logits: tf.Tensor, masks: tf.Tensor, theta, decayed
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Returns the loss, and parts to log by name: scalars, 0 of what it has not."""
        loss = cross_entropy(logits, masks)
        parts = {"cross_entropy": loss, "soft_iou": tf.zeros_like(loss)}
        if callable(self.kind):
            loss = tf.convert_to_tensor(self.kind(logits, masks))
            if loss.shape.rank != 0:
                raise UserError(
                    "`objective` must return a scalar, received a tensor of shape "
                    f"{loss.shape}: return its mean"
                )
        if self.kind == "sum_cross_entropy":
            loss *= tf.reduce_sum(_valid(masks, logits.dtype))
        if self.kind == "bce_dice":
            parts["soft_iou"] = soft_iou(logits, masks)
            loss -= log_dice(parts["soft_iou"])
        if self.l2:
            loss += self.l2 * l2_penalty(theta, decayed)
        return loss, parts
