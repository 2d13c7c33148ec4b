"""From probabilities to masks: calibration, and a threshold for each picture.

    p' = sigmoid(a logit p + b)
    a, b = argmin  mean of the logistic loss over held-out pixels + r ((a-1)^2 + b^2)
    t  = argmax_t  2 sum_(p' > t) p' / (#(p' > t) + sum p')

The mean is over the pixels of each picture and then over pictures. What follows argmax
is the F1 to expect of the mask p' > t if p' are the probabilities of independent pixels
(Lipton et al., 2014), and IoU = F1 / (2 - F1), so t promises the largest IoU. It is
0.5 where all is sure, and less where it is not: half of a doubtful object is worth more
than none. It needs probabilities that are true, and those of classifiers whose classes
count alike promise too much foreground: hence the calibration.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from scipy.optimize import minimize

_HELD = 0.002
"""r; 0.0005 to 0.005 do as well on validation sets."""
_LEAST, _MOST = 0.3, 0.7
"""Of p, not p': a picture without the object stays empty, and a calibration that went
wrong, as five pictures may be unlike the next ones, cannot empty all others."""
_BINS = 64
_SURE = 0.01


@dataclasses.dataclass(frozen=True)
class Decision:
    """What makes 0.5 the foreground probability from which a pixel counts.

    Attributes:
      slope: a.
      bias: b.
      by_picture: whether each picture has the threshold that promises most; else it is
        0.5 of p' for all.
    """

    slope: float = 1.0
    bias: float = 0.0
    by_picture: bool = False

    @classmethod
    def at(cls, threshold: float) -> "Decision":
        """The same threshold for all pictures."""
        return cls(bias=float(np.log1p(-threshold) - np.log(threshold)))

    @classmethod
    def learned(
        cls, probabilities: list[np.ndarray], truths: list[np.ndarray]
    ) -> "Decision":
        """Calibrates on pictures that were held out.

        Args:
          probabilities: of the foreground, [h, w] each.
          truths: int [h, w] each: 0, 1, and 255 where it is unknown.
        """
        known = [truth != 255 for truth in truths]
        pairs = zip(probabilities, known, strict=True)
        odds = np.concatenate([_logit(p[k].astype(np.float64)) for p, k in pairs])
        pairs = zip(truths, known, strict=True)
        labels = np.concatenate([truth[k] == 1 for truth, k in pairs])
        weights = np.concatenate(
            [np.full(k.sum(), 1 / max(k.sum(), 1) / len(known)) for k in known]
        )

        def loss(ab: np.ndarray) -> float:
            z = ab[0] * odds + ab[1]
            own = weights @ (np.logaddexp(0, z) - labels * z)
            return own + _HELD * ((ab[0] - 1) ** 2 + ab[1] ** 2)

        slope, bias = minimize(loss, [1.0, 0.0], bounds=[(0.1, None), (None, None)]).x
        return cls(float(slope), float(bias), True)

    def __call__(self, probabilities: tf.Tensor) -> tf.Tensor:
        """Moves probabilities, float32 [H, W, 2], of background and foreground."""
        if self == Decision():
            return probabilities
        foreground = tf.clip_by_value(probabilities[..., 1], _SURE, 1 - _SURE)
        odds = _logit_of(foreground)
        calibrated = self.slope * odds + self.bias
        if self.by_picture:
            threshold = _logit_of(_promising(tf.sigmoid(calibrated)))
            threshold = (threshold - self.bias) / self.slope
            threshold = tf.clip_by_value(tf.sigmoid(threshold), _LEAST, _MOST)
            foreground = tf.sigmoid(odds - _logit_of(threshold))
        else:
            foreground = tf.sigmoid(calibrated)
        return tf.stack([1 - foreground, foreground], -1)


def _promising(p: tf.Tensor) -> tf.Tensor:
    """The threshold whose mask of [H, W] promises the largest F1."""
    p = tf.reshape(p, [-1])
    bins = tf.minimum(tf.cast(p * _BINS, tf.int32), _BINS - 1)
    # From the surest bin on.
    chosen = _summed(tf.ones_like(p), bins)
    right = _summed(p, bins)
    best = tf.argmax(right / (chosen + right[-1]), output_type=tf.int32)
    lower = tf.cast(_BINS - 1 - best, p.dtype) / _BINS
    return tf.clip_by_value(lower, _SURE, 1 - _SURE)


def _summed(values: tf.Tensor, bins: tf.Tensor) -> tf.Tensor:
    sums = tf.math.unsorted_segment_sum(values, bins, _BINS)
    return tf.cumsum(sums[::-1])


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, _SURE, 1 - _SURE)
    return np.log(p) - np.log1p(-p)


def _logit_of(p: tf.Tensor) -> tf.Tensor:
    return tf.math.log(p) - tf.math.log1p(-p)
