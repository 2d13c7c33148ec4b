"""learn2learn's MAML on Meta-DRN, for `probe`. Does not import TensorFlow."""

import importlib
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.meta_drn_torch import MetaDRN
from benchmarks.probe import serve
from benchmarks.tasks import random_task


class Learn2LearnWorkload:
    """The meta-gradient of one random task.

    Args:
      weights: .npz file with the initialization, see `TensorFlowWorkload.save`.
      width: of the network.
      image_size: height and width in pixels.
      shots: support examples.
      queries: query examples.
      inner_steps: K.
      inner_learning_rate: alpha.
      threads: that one operation may use.
    """

    def __init__(
        self,
        weights: str,
        width: float,
        image_size: int,
        shots: int,
        queries: int,
        inner_steps: int,
        inner_learning_rate: float,
        threads: int,
    ):
        torch.set_num_threads(threads)
        self._network = MetaDRN(width)
        with np.load(weights) as arrays:
            self._network.load_keras(
                {
                    name.removeprefix("theta/"): arrays[name]
                    for name in arrays.files
                    if name.startswith("theta/")
                }
            )
        algorithm, self._version = _maml()
        self._maml = algorithm(self._network, lr=inner_learning_rate, first_order=False)
        task = map(torch.from_numpy, random_task(shots, queries, image_size))
        self._support, self._support_masks, self._query, self._query_masks = task
        self._inner_steps = inner_steps

    def trace(self) -> dict:
        """Nothing: PyTorch has no graph to build. Returns the versions."""
        return {"torch": torch.__version__, "learn2learn": self._version}

    def step(self) -> None:
        """MAML as learn2learn documents it."""
        self._maml.zero_grad()
        learner = self._maml.clone()
        for _ in range(self._inner_steps):
            learner.adapt(_loss(learner(self._support), self._support_masks))
        _loss(learner(self._query), self._query_masks).backward()

    def save(self, path: str) -> None:
        """Writes the meta-gradient and the logits as `TensorFlowWorkload.save` does."""
        gradients = self._network.keras_gradients()
        with torch.no_grad():
            logits = self._network(self._query).permute(0, 2, 3, 1).numpy()
        np.savez(
            path, logits=logits, **{f"gradient/{n}": g for n, g in gradients.items()}
        )


def _loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits, masks.long())


def _maml() -> tuple[type, str]:
    """Imports learn2learn's MAML, and no more of learn2learn than it uses.

    The package imports gym, torchvision and compiled data loaders at once, which MAML
    does not need and which today's versions often break. So the packages around the
    module are entered without running their __init__.py.

    Returns:
      The class, and learn2learn's version.
    """
    (root,) = importlib.util.find_spec("learn2learn").submodule_search_locations
    for name, folder in (
        ("learn2learn", Path(root)),
        ("learn2learn.algorithms", Path(root) / "algorithms"),
    ):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    algorithm = importlib.import_module("learn2learn.algorithms.maml").MAML
    return algorithm, importlib.import_module("learn2learn._version").__version__


if __name__ == "__main__":
    serve(Learn2LearnWorkload)
