"""A fitted linear classifier as a .keras file: its features' network and two arrays."""

from pathlib import Path

import numpy as np

from efficientlab_tf.checkpoint.files import ADVICE, has_member, read_model, save_model
from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.baselines import (
    FeatureExtractor,
    LogisticRegressionAdapted,
)
from efficientlab_tf.untrusted import reading

_ARRAYS = "efficientlab_tf_linear.npz"


def save_linear(path: Path, adapted: LogisticRegressionAdapted) -> None:
    """Writes a fitted classifier."""
    extractor = adapted.extractor
    metadata = {"method": "logistic_regression", "normalize": extractor.normalize}
    arrays = {_ARRAYS: (adapted.kernel, adapted.bias)}
    save_model(path, extractor.model, metadata, arrays)


def is_linear(path: Path) -> bool:
    """Whether a file is one that `save_linear` wrote."""
    return has_member(path, _ARRAYS)


def load_linear(path: Path) -> LogisticRegressionAdapted:
    """Reads what `save_linear` wrote.

    Raises:
      UserError: it did not write this.
    """
    model, metadata, arrays = read_model(path)
    with reading(str(path), ADVICE):
        normalize = bool(metadata.get("normalize", True))
        extractor = FeatureExtractor(model, normalize=normalize)
        kernel, bias = (np.asarray(a, np.float64) for a in arrays[_ARRAYS][:2])
    if kernel.shape != (extractor.channels, *bias.shape) or bias.ndim != 1:
        raise UserError(
            f"{path}: expected weights [{extractor.channels}, K+1] and K+1 offsets, "
            f"received {kernel.shape} and {bias.shape}; save the model again"
        )
    return LogisticRegressionAdapted(extractor, kernel, bias, extractor.image_size)
