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
from efficientlab_tf.errors import UserError
from efficientlab_tf.models.layers import Resize
from efficientlab_tf.segmenters.baselines import LogisticRegressionAdapted
from efficientlab_tf.segmenters.forward import Guided, join
from efficientlab_tf.segmenters.gradient import GradientAdapted
from efficientlab_tf.segmenters.guided import Guidance
from efficientlab_tf.segmenters.network import Network, Weights
from efficientlab_tf.serving.folder import Described, describe, write_version
from efficientlab_tf.serving.saved_model import InnerDefaults, SegmentationModel

AdaptedNetwork = GradientAdapted | Guided | Guidance
AnyAdapted = AdaptedNetwork | LogisticRegressionAdapted


class AdaptedModel(SegmentationModel):
    """The functions of a served adapted network.

    Args:
      adapted: the segmenter.
      config: limits of a request.

    Raises:
      UserError: with statistics of the query batch, which no single request has.
    """

    def __init__(self, adapted: AdaptedNetwork, config: ExportConfig):
        if isinstance(adapted, GradientAdapted) and adapted.batch_norm == "query":
            raise UserError(
                "batch_norm: expected running or support for an adapted model, "
                "received query"
            )
        super().__init__(network_of(adapted).image_shape, config)
        self._adapted = adapted
        guides = () if isinstance(adapted, GradientAdapted) else adapted.guides
        if isinstance(guides, tf.Tensor):
            guides = (guides,)
        tensors = (adapted.weights.theta, adapted.weights.statistics, guides)
        self._theta, self._statistics, self._guides = (
            [tf.Variable(tensor, trainable=False) for tensor in group]
            for group in tensors
        )

    def _predict(self, images: tf.Tensor) -> tf.Tensor:
        theta, statistics, guides = (
            tuple(variable.read_value() for variable in group)
            for group in (self._theta, self._statistics, self._guides)
        )
        weights = Weights(theta, statistics)
        functions = self._adapted.functions
        if isinstance(self._adapted, GradientAdapted):
            probability = functions.predict(weights, images, False)
        elif isinstance(self._adapted, Guidance):
            features = functions.features(weights, images)
            probability = functions.probabilities(weights, guides[0], features)
        else:
            logits = [functions.logits(weights, guide, images) for guide in guides]
            probability = tf.nn.softmax(join(logits))
        return tf.cast(probability, tf.float32)


class LinearModel(SegmentationModel):
    """The functions of a served linear classifier of dense features.

    Args:
      adapted: the classifier.
      config: limits of a request.
    """

    def __init__(self, adapted: LogisticRegressionAdapted, config: ExportConfig):
        super().__init__((*adapted.image_size, 3), config)
        self._extractor = adapted.extractor
        self._upsample = Resize(*adapted.image_size)
        # Held here so that they are saved; the extractor uses them.
        self._features = [variable.value for variable in adapted.extractor.variables]
        self._kernel, self._bias = (
            tf.Variable(tf.cast(array, tf.float32), trainable=False)
            for array in (adapted.kernel, adapted.bias)
        )

    def _predict(self, images: tf.Tensor) -> tf.Tensor:
        scores = tf.matmul(self._extractor.graph(images), self._kernel)
        return self._upsample(tf.nn.softmax(scores + self._bias))


def export_adapted(output: Path, adapted: AnyAdapted, config: ExportConfig) -> None:
    """Writes an adapted segmenter for TensorFlow Serving; see `serving.folder`.

    Args:
      output: the version's folder, NAME/1; it appears complete.
      adapted: of `Segmenter.adapt`.
      config: limits of a request; without adaptation.

    Raises:
      UserError: something is there already, the folder cannot be written, or a
        segmenter that uses statistics of the query batch.
    """
    if isinstance(adapted, LogisticRegressionAdapted):
        served: SegmentationModel = LinearModel(adapted, config)
        described = Described(
            f"logistic regression on {adapted.extractor.channels} features",
            (*adapted.image_size, 3),
            len(adapted.bias) - 1,
        )
    else:
        served = AdaptedModel(adapted, config)
        described = describe(network_of(adapted), adapted.weights)
    write_version(output, served, described, InnerDefaults(0.0, 0), config)


def network_of(adapted: AdaptedNetwork) -> Network:
    """The network that was adapted."""
    if isinstance(adapted, GradientAdapted):
        return adapted.functions.inner.network
    return adapted.functions.network
