"""How good masks of new pictures will be, and which labels look wrong.

The estimate is the cross-validated IoU of what was chosen, corrected by what such a
number came to on validation sets, `_SLOPE` and `_OFFSET`; the 80 % interval is that of
the same sets, wider where the pictures differ.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

_SLOPE, _OFFSET = 0.99, 0.0
_SPREAD, _OWN = 0.07, 1.0
_NORMAL_80 = 1.2816


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What to expect of new pictures of the same kind.

    Attributes:
      iou: expected mean IoU.
      low: of the 80 % interval.
      high: of the same.
    """

    iou: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.iou:.0f} % ({100 * self.low:.0f} to {100 * self.high:.0f})"


def estimate(scores: Sequence[float]) -> Estimate:
    """Estimates the mean IoU of new pictures from that of judged ones."""
    mean = float(np.mean(scores))
    iou = _OFFSET + _SLOPE * mean
    error = np.std(scores, ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else 0.2
    half = _NORMAL_80 * np.hypot(_SPREAD, _OWN * error)
    low, high = np.clip([iou - half, iou + half], 0, 1)
    return Estimate(float(np.clip(iou, 0, 1)), float(low), float(high))
