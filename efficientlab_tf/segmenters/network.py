"""A Keras functional model as a pure function of its weights."""

import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from efficientlab_tf.models import convert_to_classes, decay_mask, with_classes
from efficientlab_tf.models.conditioned import QUERY_INPUT
from efficientlab_tf.models.frozen import is_prepared, split_frozen


class Weights(NamedTuple):
    """An initialization: all that adaptation starts from.

    Attributes:
      theta: float tensors, as `model.trainable_variables`.
      statistics: float tensors, as the float ones of `model.non_trainable_variables`:
        running means and variances of batch normalization.
      rates: learned rates of the inner loop, one tensor for each of theta, or (). A
        tensor is like its parameter (Meta-SGD's, a rate an element), or has one axis
        more in front, [K, 1, ..., 1]: a rate for each step.
    """

    theta: tuple[tf.Tensor, ...]
    statistics: tuple[tf.Tensor, ...]
    rates: tuple[tf.Tensor, ...] = ()


def check_rates(weights: Weights) -> None:
    """Checks that learned rates fit the parameters that they are for.

    Raises:
      ValueError: they do not.
    """
    if not weights.rates:
        return
    for rate, parameter in zip(weights.rates, weights.theta, strict=True):
        steps = tuple(rate.shape[:1]) + (1,) * parameter.shape.rank
        if tuple(rate.shape) not in (tuple(parameter.shape), steps):
            raise ValueError(f"learned rates {rate.shape} for {parameter.shape}")


class Network:
    """Calls a Keras model without touching its variables.

    Dropout's seed generators are non-trainable variables of a model; here they are
    filled from `seed` at every call, so that a step can be recomputed exactly.

    Args:
      model: a built functional model; images [n, H, W, 3] in 0..255 to logits
        [n, H, W, K+1]. Or a conditioned one, see `models.conditioned`.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.decayed = decay_mask(model)
        self._floats = _floats(model)
        dtypes = [tf.as_dtype(v.dtype) for v in model.non_trainable_variables]
        self._is_seed = [not dtype.is_floating for dtype in dtypes]
        self._seed_dtypes = [dtype for dtype in dtypes if not dtype.is_floating]
        self.dtype = tf.as_dtype(model.inputs[0].dtype)
        self._rest: Part | None = None

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

    def every_weight(self) -> list[keras.Variable]:
        """Weights and running averages layer by layer, whether they train or not."""
        return [v for v in self.model.variables if tf.as_dtype(v.dtype).is_floating]

    def matches(self, other: "Network") -> bool:
        """Whether another network has the same weights, whichever of them train."""
        own, others = (
            [(v.name, v.shape) for v in network.every_weight()]
            for network in (self, other)
        )
        return own == others

    def weights(self) -> Weights:
        """Returns a copy of the current values of the model's variables."""
        # `value` is the variable itself in Keras's TensorFlow backend.
        groups = self.model.trainable_variables, self._floats
        return Weights(*(tuple(tf.identity(v.value) for v in g) for g in groups))

    def assign(self, weights: Weights) -> None:
        """Writes `weights` into the model's variables, for saving the model."""
        variables = [*self.model.trainable_variables, *self._floats]
        values = [*weights.theta, *weights.statistics]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def split(self) -> "Part":
        """Cuts the network behind what training does not change, see `models.frozen`.

        Returns:
          The frozen part. From now on the network also takes what that part makes of
          images in their place.

        Raises:
          UserError: no part of the network is frozen, or nothing else.
        """
        frozen, trained = split_frozen(self.model)
        self._rest = Part(self, trained)
        return Part(self, frozen)

    def draw(self, seed: tf.Tensor, images: Any = None) -> tf.Tensor:
        """Draws a seed for each layer with dropout, int32 [layers, 2].

        XLA draws others of a negative seed; what it compiles takes these.

        Args:
          seed: int32 [2].
          images: as of `__call__`.
        """
        if self._rest is not None and is_prepared(images):
            return self._rest.draw(seed)
        limits = {"minval": None, "maxval": None, "dtype": tf.int32}
        return tf.random.stateless_uniform([len(self._seed_dtypes), 2], seed, **limits)

    def kept(self) -> tuple[float, ...]:
        """What one call in training keeps of each of the statistics, from 0 to 1.

        An average becomes kept * average + a part that does not depend on it. With
        batch normalization `kept` is its momentum, to the power of its uses in the
        network, and 1 where a layer is frozen.
        """
        inputs = tf.nest.map_structure(
            lambda x: tf.random.stateless_uniform(
                [2, *x.shape[1:]], [0, 0], maxval=2, dtype=tf.int32
            ),
            self.model.input,
        )
        theta, statistics = self.weights()[:2]

        def after(value: float):
            filled = [tf.fill(s.shape, tf.cast(value, s.dtype)) for s in statistics]
            seed = tf.constant([0, 0])
            return self(theta, filled, inputs, training=True, seed=seed)[1]

        # So large that rounding is all that is left of the part that does not depend.
        large = 2.0**30
        return tuple(
            float(tf.reduce_mean(high - low)) / large
            for high, low in zip(after(large), after(0.0), strict=True)
        )

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
            by name; or what the frozen part of `split` made of either.
          training: true for batch statistics and dropout.
          seed: int32 [2], or what `draw` made of it; needed when training: decides the
            dropout masks.

        Returns:
          Logits [n, H, W, K+1] and the updated statistics.
        """
        if self._rest is not None and is_prepared(images):
            weights = Weights(tuple(theta), tuple(statistics))
            return self._rest(weights, images, training=training, seed=seed)
        count = len(self._seed_dtypes)
        if training and count:
            drawn = seed if seed.shape.rank == 2 else self.draw(seed)
        else:
            drawn = tf.zeros([count, 2], tf.int32)
        drawn = zip(tf.unstack(drawn, num=count), self._seed_dtypes, strict=True)
        seeds = (tf.cast(seed, dtype) for seed, dtype in drawn)
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
        updated = zip(updated, self._is_seed, strict=True)
        return logits, tuple(value for value, is_seed in updated if not is_seed)


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
        whole = network.model
        self._theta = _places(model.trainable_variables, whole.trainable_variables)
        self._statistics = _places(_floats(model), _floats(whole))

    def draw(self, seed: tf.Tensor) -> tf.Tensor:
        """See `Network`."""
        return self._network.draw(seed)

    def __call__(
        self,
        weights: Weights,
        inputs: tf.Tensor | dict[str, tf.Tensor],
        *,
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> tuple[Any, tuple[tf.Tensor, ...]]:
        """Runs the model; returns its outputs and the whole's updated statistics.

        Args:
          weights: of the whole network.
          inputs: of the model; of several by name.
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


def _floats(model: keras.Model) -> list[keras.Variable]:
    """Running means and variances, and no seeds."""
    variables = model.non_trainable_variables
    return [v for v in variables if tf.as_dtype(v.dtype).is_floating]


def _places(some: list[keras.Variable], whole: list[keras.Variable]) -> list[int]:
    ids = [id(v) for v in whole]
    return [ids.index(id(v)) for v in some]
