"""Trained networks behind the door: those with an inner loop, and conditioned ones."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from efficientlab_tf.api.model import AdaptedModel, Model
from efficientlab_tf.checkpoint.files import (
    Checkpoint,
    load_checkpoint,
    load_tuned,
    save_keras,
)
from efficientlab_tf.checkpoint.run import RunConfig, build_functions, build_network
from efficientlab_tf.checkpoint.tuned import Tuned, adjust
from efficientlab_tf.config import OWN, ExportConfig, Settings
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.pictures import numbered
from efficientlab_tf.models.conditioned import is_conditioned
from efficientlab_tf.segmenters.forward import ForwardAdapted, forward_functions
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.network import Network, Weights, for_classes
from efficientlab_tf.segmenters.segmenter import Segmenter

_INNER_LOOP = ("inner_batch", "loss", "l2", "augment_rate", "adapt")
"""Settings that change what is compiled."""


class NetworkModel(Model):
    """A network with what it learned.

    Args:
      name: what to call it.
      checkpoint: the network, its weights and the run that made them.
      tuned: update hyperparameters that were chosen after meta-training and are in
        effect in `checkpoint`, if any.
    """

    def __init__(self, name: str, checkpoint: Checkpoint, tuned: Tuned | None = None):
        self.name = name
        self.checkpoint = checkpoint
        self.tuned = tuned
        self.size = checkpoint.network.image_shape[:2]

    @property
    def run(self) -> RunConfig:
        """The configuration of the run that made the model."""
        return self.checkpoint.run

    @property
    def classes(self) -> int:
        """See `Model`."""
        return self.checkpoint.network.classes

    def at_size(self, side: int) -> "NetworkModel":
        """The same network, with the same weights, for squares of another size.

        Args:
          side: in pixels, divisible by 32.

        Returns:
          A model of its own, or this one if it has that size.

        Raises:
          UserError: its architecture is none of this package's.
        """
        if (side, side) == self.size:
            return self
        own = dataclasses.replace(self.run.model, image_size=side, weights="")
        network, weights = build_network(own), self.checkpoint.weights
        shapes = [[tuple(t.shape) for t in group] for group in weights[:2]]
        if shapes != [[tuple(t.shape) for t in g] for g in network.weights()[:2]]:
            raise UserError(
                f"{self.name} is not the network that its settings describe, so it "
                f"cannot be built for {side} pixels; leave the size as it is"
            )
        run = dataclasses.replace(self.run, model=own)
        checkpoint = self.checkpoint._replace(network=network, run=run)
        return network_model(self.name, checkpoint, self.tuned)


class GradientModel(NetworkModel):
    """A network that adapts by the steps of an inner loop."""

    def __init__(self, name: str, checkpoint: Checkpoint, tuned: Tuned | None = None):
        super().__init__(name, checkpoint, tuned)
        learner = checkpoint.run.learner
        rate = None if checkpoint.weights.rates else learner.inner_learning_rate
        self.defaults = Settings(
            steps=learner.inner_steps,
            learning_rate=rate,
            batch_norm=learner.batch_norm,
            jit="off",
            **{name: getattr(learner, name) for name in _INNER_LOOP},
        )
        self._heads: dict[int, tuple[Network, Weights]] = {}
        self._functions: dict[tuple, AdaptFunctions] = {}

    def segmenter(self, classes: int = 1, settings: Settings = OWN) -> Segmenter:
        """See `Model`. What it compiles is kept for the next call."""
        own = self.resolve(settings)
        network, weights = self.with_classes(classes)
        return self._compiled(network, own).segmenter(
            weights,
            learning_rate=self._rate(own),
            steps=own.steps,
            batch_norm=own.batch_norm,
        )

    def with_classes(self, classes: int) -> tuple[Network, Weights]:
        """The network and its weights with a head for so many classes, kept."""
        network, weights = self.checkpoint.network, self.checkpoint.weights
        if classes == network.classes:
            return network, weights
        if classes not in self._heads:
            self._heads[classes] = for_classes(network, weights, classes)
        return self._heads[classes]

    def _compiled(self, network: Network, own: Settings) -> AdaptFunctions:
        inner_loop = {name: getattr(own, name) for name in _INNER_LOOP}
        key = (network.classes, own.jit, *inner_loop.values())
        if key not in self._functions:
            learner = dataclasses.replace(self.run.learner, **inner_loop)
            self._functions[key] = build_functions(learner, network, own.jit)
        return self._functions[key]

    def _rate(self, own: Settings) -> float:
        """The learning rate; without meaning where rates were learned."""
        return own.learning_rate or self.run.learner.inner_learning_rate

    def _no_effect(self, name: str) -> str:
        return f"has no effect: {self.name} learned its rates"

    @functools.cached_property
    def adapted(self) -> AdaptedModel:
        """See `Model`."""
        own = self.defaults | Settings(steps=0, batch_norm="running")
        shape = (1, *self.size)
        adapted = self.segmenter(self.classes, own).adapt(
            np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8)
        )
        return AdaptedModel(self, adapted, numbered(self.classes), settings=own)

    def save_adapted(self, adapted: AdaptedModel, path: Path) -> None:
        """See `Model`."""
        network = adapted.adapted.functions.inner.network
        own = adapted.settings
        learner = dataclasses.replace(
            self.run.learner,
            # A learner takes at least one step, whatever this one took.
            inner_steps=max(1, own.steps),
            inner_learning_rate=self._rate(own),
            batch_norm=own.batch_norm,
            **{name: getattr(own, name) for name in _INNER_LOOP},
        )
        model = dataclasses.replace(self.run.model, num_classes=network.classes)
        run = dataclasses.replace(self.run, learner=learner, model=model)
        save_keras(path, network, adapted.adapted.weights, run)

    def export(
        self,
        folder: str | Path,
        config: ExportConfig | None = None,
        *,
        settings: Settings = OWN,
        overwrite: bool = False,
    ) -> None:
        """See `Model`."""
        # Here, as most of what loads a model does not serve it.
        from efficientlab_tf.serving.folder import export
        from efficientlab_tf.serving.saved_model import ServedModel

        # The server's own flags decide what it compiles.
        own = self.resolve(settings) | Settings(jit="off")
        if own.batch_norm == "query":
            raise UserError(
                "`batch_norm` must be running or support for an exported model, "
                "received query: a request has one answer whatever else it holds"
            )
        network, weights = self.checkpoint.network, self.checkpoint.weights
        served = ServedModel(
            self._compiled(network, own).inner,
            weights,
            own | Settings(learning_rate=self._rate(own)),
            config or ExportConfig(),
        )
        export(Path(folder), served, overwrite=overwrite)


class ForwardModel(NetworkModel):
    """A conditioned network: it adapts in a forward pass."""

    defaults = Settings(batch_norm="running")

    def segmenter(self, classes: int = 1, settings: Settings = OWN) -> Segmenter:
        """See `Model`. A guide for each class tells any number of classes apart."""
        own = self.resolve(settings)
        if own.batch_norm != "running":
            raise UserError(
                f"`batch_norm` must be running for {self.name}, received "
                f"{own.batch_norm}: it adapts in a forward pass and has no other "
                "statistics; leave it out"
            )
        return self._functions.segmenter(self.checkpoint.weights)

    @functools.cached_property
    def _functions(self) -> Any:
        return forward_functions(self.checkpoint.network)

    def _no_effect(self, name: str) -> str:
        return (
            f"has no effect: {self.name} adapts in a forward pass, without steps and "
            "without changing its weights"
        )

    @property
    def adapted(self) -> AdaptedModel:
        """See `Model`."""
        guides = self.checkpoint.guides
        if not guides:
            return super().adapted
        names = numbered(max(len(guides), self.classes))
        adapted = self.guided(guides)
        return AdaptedModel(self, adapted, names, settings=self.defaults)

    def guided(self, guides: Sequence[tf.Tensor]) -> ForwardAdapted:
        """The network with what it learned of each class: `ForwardAdapted.guides`."""
        return ForwardAdapted(self._functions, self.checkpoint.weights, tuple(guides))

    def save_adapted(self, adapted: AdaptedModel, path: Path) -> None:
        """See `Model`."""
        checkpoint = self.checkpoint
        save_keras(
            *(path, checkpoint.network, checkpoint.weights, checkpoint.run),
            adapted.adapted.guides,
        )


def network_model(
    name: str, checkpoint: Checkpoint, tuned: Tuned | None = None
) -> NetworkModel:
    """Returns the model of a checkpoint; arguments as `NetworkModel`."""
    conditioned = is_conditioned(checkpoint.network.model)
    return (ForwardModel if conditioned else GradientModel)(name, checkpoint, tuned)


def load_network(name: str, path: str, *, tuned: bool = True) -> NetworkModel:
    """Loads the model of a run's folder or a .keras file.

    Args:
      name: what to call it.
      path: of the folder or .keras file.
      tuned: use the update hyperparameters that tuning left with it, if any.

    Raises:
      UserError: no such thing, or not readable as such.
    """
    checkpoint, record = load_checkpoint(path), None
    if tuned and (record := load_tuned(path, checkpoint.weights)):
        weights, run = adjust(
            record.values, checkpoint.network, checkpoint.weights, checkpoint.run
        )
        checkpoint = checkpoint._replace(weights=weights, run=run)
    return network_model(name, checkpoint, record)
