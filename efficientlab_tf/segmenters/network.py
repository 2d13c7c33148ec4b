"""A Keras functional model as a pure function of its weights."""

import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from efficientlab_tf.models import convert_to_classes, decay_mask, with_classes
from efficientlab_tf.models.conditioned import QUERY_INPUT


class Weights(NamedTuple):
    """An initialization: all that adaptation starts from.

    Attributes:
      theta: tuple of float tensors, as `model.trainable_variables`.
      statistics: tuple of float tensors: running means and variances of batch
        normalization, as the float ones of `model.non_trainable_variables`.
      rates: the inner loop's learning rates, one tensor for each of theta; () where
        none were learned. A tensor is like its parameter (a rate an element, as
        Meta-SGD learns them), or has one axis more in front, [K, 1, ..., 1]: a rate
        for each step of the inner loop.
    """

    theta: tuple[tf.Tensor, ...]
    statistics: tuple[tf.Tensor, ...]
    rates: tuple[tf.Tensor, ...] = ()


class Network:
    """Calls a Keras model without touching its variables.

    Dropout's seed generators are non-trainable variables of a model; here they
    are filled from `seed` at every call, so that masks are a function of the
    seed and a step can be recomputed exactly.

    Args:
      model: a built functional model; images [n, H, W, 3] in 0..255 to logits
        [n, H, W, K+1]. Or a conditioned one, see `models.conditioned`.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.decayed = decay_mask(model)
        self._is_seed = [
            not tf.as_dtype(v.dtype).is_floating for v in model.non_trainable_variables
        ]
        self._seed_dtypes = [
            tf.as_dtype(v.dtype)
            for v, is_seed in zip(
                model.non_trainable_variables, self._is_seed, strict=True
            )
            if is_seed
        ]
        self.dtype = tf.as_dtype(model.inputs[0].dtype)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images."""
        inputs = self.model.input
        images = inputs[QUERY_INPUT] if isinstance(inputs, dict) else inputs
        return tuple(images.shape[1:])

    @property
    def classes(self) -> int:
        """K, the number of foreground classes."""
        return self.model.output_shape[-1] - 1

    @property
    def about(self) -> str:
        """The network in a few words."""
        count = sum(math.prod(v.shape) for v in self.model.trainable_variables)
        return f"{self.model.name} with {count:,} parameters"

    def weights(self) -> Weights:
        """Returns a copy of the current values of the model's variables."""
        # `value` is the variable itself in Keras's TensorFlow backend.
        return Weights(
            tuple(tf.identity(v.value) for v in self.model.trainable_variables),
            tuple(
                tf.identity(v.value)
                for v, is_seed in zip(
                    self.model.non_trainable_variables, self._is_seed, strict=True
                )
                if not is_seed
            ),
        )

    def assign(self, weights: Weights) -> None:
        """Writes `weights` into the model's variables, for saving the model."""
        for variable, value in zip(
            self.model.trainable_variables, weights.theta, strict=True
        ):
            variable.assign(value)
        floats = (
            v
            for v, is_seed in zip(
                self.model.non_trainable_variables, self._is_seed, strict=True
            )
            if not is_seed
        )
        for variable, value in zip(floats, weights.statistics, strict=True):
            variable.assign(value)

    def __call__(
        self,
        theta,
        statistics,
        images: tf.Tensor | dict[str, tf.Tensor],
        *,
        training: bool,
        seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """Runs the model.

        Args:
          theta: see `Weights`.
          statistics: see `Weights`.
          images: uint8 or float [n, H, W, 3], 0..255; a conditioned network's inputs
            by name.
          training: true for batch statistics and dropout.
          seed: int32 [2], needed when training: decides the dropout masks.

        Returns:
          Logits [n, H, W, K+1] and the updated statistics.
        """
        count = len(self._seed_dtypes)
        if training and count:
            limits = {"minval": None, "maxval": None, "dtype": tf.int32}
            drawn = tf.random.stateless_uniform([count, 2], seed, **limits)
        else:
            drawn = tf.zeros([count, 2], tf.int32)
        seeds = (
            tf.cast(s, dtype)
            for s, dtype in zip(
                tf.unstack(drawn, num=count), self._seed_dtypes, strict=True
            )
        )
        floats = iter(statistics)
        non_trainable = [
            next(seeds) if is_seed else next(floats) for is_seed in self._is_seed
        ]
        logits, updated = self.model.stateless_call(
            list(theta),
            non_trainable,
            tf.nest.map_structure(lambda x: tf.cast(x, self.dtype), images),
            training=training,
        )
        return logits, tuple(
            value
            for value, is_seed in zip(updated, self._is_seed, strict=True)
            if not is_seed
        )


def for_classes(
    network: Network, weights: Weights, classes: int
) -> tuple[Network, Weights]:
    """Gives a network, and what it learned, a head for another number of classes.

    See `models.heads`; learned rates of the head become those of its copies.

    Raises:
      UserError: the network's head is of a kind that is not known.
    """
    network.assign(weights)
    rates = weights.rates
    if rates:
        arrays = [rate.numpy() for rate in rates]
        arrays = convert_to_classes(arrays, network.model, classes)
        rates = tuple(map(tf.constant, arrays))
    network = Network(with_classes(network.model, classes))
    return network, network.weights()._replace(rates=rates)


class Part:
    """A model that shares layers with a network's, called with the network's weights.

    Args:
      network: the whole.
      model: a functional model of some of its layers.
    """

    def __init__(self, network: Network, model: keras.Model):
        self._network = Network(model)
        whole = [id(v) for v in network.model.trainable_variables]
        self._theta = [whole.index(id(v)) for v in model.trainable_variables]
        whole = _statistics(network.model)
        self._statistics = [whole.index(i) for i in _statistics(model)]

    def __call__(
        self,
        weights: Weights,
        inputs: dict[str, tf.Tensor],
        *,
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> tuple[Any, tuple[tf.Tensor, ...]]:
        """Runs the model; returns its outputs and the whole's updated statistics.

        Args:
          weights: of the whole network.
          inputs: of the model, by name.
          training: see `Network`.
          seed: see `Network`.
        """
        outputs, updated = self._network(
            [weights.theta[i] for i in self._theta],
            [weights.statistics[i] for i in self._statistics],
            inputs,
            training=training,
            seed=seed,
        )
        statistics = list(weights.statistics)
        for i, value in zip(self._statistics, updated, strict=True):
            statistics[i] = value
        return outputs, tuple(statistics)


def _statistics(model: keras.Model) -> list[int]:
    return [
        id(v) for v in model.non_trainable_variables if tf.as_dtype(v.dtype).is_floating
    ]
