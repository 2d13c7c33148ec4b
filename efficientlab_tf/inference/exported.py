"""An exported model, to segment without the package's own networks."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from efficientlab_tf.data.picture_files import Refused
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.pictures import numbered
from efficientlab_tf.metrics import confidence, predicted_masks
from efficientlab_tf.serving.saved_model import SERVING_DEFAULT
from efficientlab_tf.untrusted import reason_of

_SAID = re.compile(r"assertion failed: \[(.*?) *\] *(.*)")
"""The sentence of a check inside the graph, and the numbers that end it."""
MODEL = "saved_model.pb"
"""The file that tells an exported model's folder from others."""


class ExportedModel:
    """A SavedModel that `AdaptedModel.export` or `Model.export` wrote.

    TensorFlow runs what the folder holds, so it must be one's own.

    Args:
      folder: of a version, NAME/1.
      threshold: of the foreground probability, for K = 1.

    Attributes:
      classes: names for the classes 1..K, which have none in a SavedModel.
      batch: 1: each picture has its own size.

    Raises:
      UserError: the folder holds no such model.
    """

    batch = 1

    def __init__(self, folder: Path, threshold: float = 0.5):
        try:
            self._model = tf.saved_model.load(str(folder))
            self._segment = self._model.signatures[SERVING_DEFAULT]
            shape = self._segment.output_shapes["probability"]
            self.classes = numbered(shape[-1] - 1)
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise UserError(
                f"{folder} holds no model that `export` wrote; export it again"
            ) from error
        self._threshold = threshold

    def view(self, image: np.ndarray) -> np.ndarray:
        """See `segmenting.Predictor`: the picture as it is."""
        return image

    def infer(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """See `segmenting.Predictor`; the model's own limits decide."""
        images = tf.cast(np.stack(views), tf.float32)
        try:
            return self._segment(images=images)["probability"].numpy()
        except tf.errors.InvalidArgumentError as error:
            said = _SAID.search(error.message)
            reason = " ".join(said.groups()) if said else reason_of(error)
            raise Refused(f"refused by the exported model: {reason}") from error

    def decide(
        self, probabilities: np.ndarray, size: tuple[int, int]
    ) -> tuple[np.ndarray, float]:
        """See `segmenting.Predictor`; the probabilities are of the picture's size."""
        mask = predicted_masks(probabilities[np.newaxis], self._threshold)[0]
        return mask, confidence(probabilities, self._threshold)
