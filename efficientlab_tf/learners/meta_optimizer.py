"""The step that theta takes, given the mean displacement of the tasks.

A learner returns the displacement, the way that theta should move. Two rules make the
next theta of it:

    interpolate:  theta <- theta + eps_t * displacement         (the papers')
    Keras:        theta <- optimizer(theta, -displacement / scale)

eps_t is the meta-learning rate of the step, which is also the learning rate of the
Keras optimizer. It changes linearly from the first to the last meta-step, and can be
halved on plateaus. scale is the ratio of the learner's displacement to a gradient,
which for FOMAML is the inner learning rate.
"""

import keras
import tensorflow as tf

from efficientlab_tf.errors import UserError

_NAMES = ("sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad", "lamb", "lion")


class Interpolation:
    """theta + eps_t * displacement (Reptile, Nichol and Schulman; Hendryx et al.)."""

    def init(self) -> tuple[tf.Tensor, ...]:
        """Returns the slots before the first step: there are none."""
        return ()

    def apply(self, theta, displacement, slots, rate) -> tuple[tuple, tuple]:
        """Returns the next theta and slots.

        Args:
          theta: tuple of float tensors.
          displacement: the same, the way that theta should move.
          slots: as `init` and `apply` return them.
          rate: float scalar, the meta-learning rate.
        """
        moved = tuple(
            t + tf.cast(rate, t.dtype) * d
            for t, d in zip(theta, displacement, strict=True)
        )
        return moved, slots


class KerasOptimizer:
    """Any Keras optimizer on the meta-gradient.

    Keras's optimizers update variables in place. So that `apply` is a pure function, it
    writes its arguments to variables of its own, applies the optimizer to them, and
    returns what they hold afterwards.

    Args:
      optimizer: a Keras optimizer.
      variables: what is meta-learned; only shapes, dtypes and names (for exclusions
        from weight decay) are used.
      scale: the displacement divided by it is the negative gradient.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, variables, scale: float):
        self._optimizer = optimizer
        self._scale = scale
        # A copy: made of a variable itself, a Keras variable would share its memory.
        self._theta = [
            keras.Variable(tf.identity(v.value), dtype=v.dtype, name=v.name)
            for v in variables
        ]
        optimizer.build(self._theta)
        # Kept, as `apply` writes to the variables.
        self._slots = tuple(tf.identity(v.value) for v in optimizer.variables)

    def init(self) -> tuple[tf.Tensor, ...]:
        """Returns the optimizer's slots and counters before the first step."""
        return self._slots

    def apply(self, theta, displacement, slots, rate) -> tuple[tuple, tuple]:
        """See the class, and `Interpolation.apply`."""
        gradient = [-d / self._scale for d in displacement]
        work = [*self._theta, *self._optimizer.variables]
        for variable, value in zip(work, [*theta, *slots], strict=True):
            variable.value.assign(value)
        self._optimizer.learning_rate = rate
        self._optimizer.apply(gradient, self._theta)
        results = tuple(variable.value.read_value() for variable in work)
        return results[: len(theta)], results[len(theta) :]


def meta_optimizer(
    name: str,
    variables,
    scale: float,
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.004,
) -> Interpolation | KerasOptimizer:
    """Builds a meta-optimizer by name.

    Args:
      name: "interpolate" or one of Keras's: sgd, adam, adamw, ...
      variables: the model's trainable variables.
      scale: see `KerasOptimizer`.
      momentum: of sgd.
      weight_decay: of adamw; theta <- (1 - rate * weight_decay) * theta at each step.

    Raises:
      UserError: no such optimizer.
    """
    if name == "interpolate":
        return Interpolation()
    if name not in _NAMES:
        raise UserError(
            f"`meta_optimizer` must be one of interpolate, {', '.join(_NAMES)}, "
            f"received {name!r}"
        )
    # A number, so that the optimizer keeps its rate in a variable that can be set.
    own = {"sgd": {"momentum": momentum}, "adamw": {"weight_decay": weight_decay}}
    config = {"learning_rate": 1.0} | own.get(name, {})
    optimizer = keras.optimizers.get({"class_name": name, "config": config})
    return KerasOptimizer(optimizer, variables, scale)
