"""An adapted segmenter as a SavedModel that needs none of this package to run.

    serving_default      images -> probability, mask
    serve_encoded        JPEG or PNG files -> PNG files

What the segmenter learned from a support set is part of the model: adapted weights,
the guide of a network that adapts in a forward pass, or a linear classifier. The
support set itself is not.
"""

from pathlib import Path

import tensorflow as tf

from efficientlab_tf.config import ExportConfig
from efficientlab_tf.segmenters.segmenter import Adapted, Served
from efficientlab_tf.serving.folder import Described, write_version
from efficientlab_tf.serving.saved_model import InnerDefaults, SegmentationModel


class ServedAdapted(SegmentationModel):
    """The functions of a served adapted segmenter.

    Args:
      served: the segmenter as a function.
      size: height and width of its images, in pixels.
      config: limits of a request.
    """

    def __init__(self, served: Served, size: tuple[int, int], config: ExportConfig):
        super().__init__((*size, 3), config)
        self._served = served
        self._learned = [
            tf.Variable(tensor, trainable=False)
            for tensor in tf.nest.flatten(served.tensors)
        ]
        # Held here so that they are saved; the function uses them.
        self._used = [variable.value for variable in served.variables]

    def _predict(self, images: tf.Tensor) -> tf.Tensor:
        tensors = tf.nest.pack_sequence_as(
            self._served.tensors, [variable.read_value() for variable in self._learned]
        )
        return tf.cast(self._served.probabilities(tensors, images), tf.float32)


def export_adapted(
    output: Path,
    adapted: Adapted,
    size: tuple[int, int],
    classes: int,
    config: ExportConfig,
) -> None:
    """Writes an adapted segmenter for TensorFlow Serving; see `serving.folder`.

    Args:
      output: the version's folder, NAME/1; it appears complete.
      adapted: of `Segmenter.adapt`.
      size: height and width of its images, in pixels.
      classes: K.
      config: limits of a request; without adaptation.

    Raises:
      UserError: something is there already, the folder cannot be written, or the
        segmenter has no form as a graph.
    """
    served = adapted.served()
    write_version(
        output,
        ServedAdapted(served, size, config),
        Described(served.about, (*size, 3), classes),
        InnerDefaults(0.0, 0),
        config,
    )
