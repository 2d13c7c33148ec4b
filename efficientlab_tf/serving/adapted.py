"""An adapted segmenter as a SavedModel that needs none of this package to run.

    serving_default      images -> probability, mask
    serve_encoded        JPEG or PNG files -> PNG files

What the segmenter learned from a support set is part of the model: adapted weights,
the guide of a network that adapts in a forward pass, or a linear classifier. The
support set itself is not.
"""

import dataclasses

import tensorflow as tf

from efficientlab_tf.config import ExportConfig
from efficientlab_tf.segmenters.segmenter import Adapted
from efficientlab_tf.serving.saved_model import SegmentationModel


class ServedAdapted(SegmentationModel):
    """The functions of a served adapted segmenter.

    Args:
      adapted: of `Segmenter.adapt`.
      size: height and width of its images, in pixels; None for any.
      classes: K.
      config: limits of a request.

    Raises:
      UserError: the segmenter has no form as a graph.
    """

    def __init__(
        self,
        adapted: Adapted,
        size: tuple[int, int] | None,
        classes: int,
        config: ExportConfig,
    ):
        served, config = adapted.served(), dataclasses.replace(config, adaptation=False)
        super().__init__(served.about, size, classes, config)
        self._served = served
        # Each once, however many parts share it.
        tensors = tf.nest.flatten(served.tensors)
        held = {id(t): tf.Variable(t, trainable=False) for t in tensors}
        self._learned = [held[id(tensor)] for tensor in tensors]
        # Held here so that they are saved; the function uses them.
        self._used = [variable.value for variable in served.variables]

    def _predict(self, images: tf.Tensor) -> tf.Tensor:
        tensors = tf.nest.pack_sequence_as(
            self._served.tensors, [variable.read_value() for variable in self._learned]
        )
        return tf.cast(self._served.probabilities(tensors, images), tf.float32)
