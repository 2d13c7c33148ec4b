"""What a run shows in TensorBoard."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.evaluation.meta_test import Example, sheet


class Summaries:
    """Scalars, pictures of fixed validation episodes, and HParams.

    Args:
      log_dir: the folder that TensorBoard is pointed at.
    """

    def __init__(self, log_dir: Path):
        self._writer = tf.summary.create_file_writer(str(log_dir))

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Writes scalars under their names."""
        with self._writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def predictions(self, examples: list[Example], step: int) -> None:
        """Writes one overlay sheet of validation examples."""
        picture = np.asarray(sheet(examples).convert("RGB"))
        with self._writer.as_default(step):
            tf.summary.image("validation/predictions", picture[np.newaxis])

    def hyperparameters(self, config: RunConfig) -> None:
        """Writes every setting, so that runs can be compared by them."""
        values = {
            name: value
            for group in config.to_dict().values()
            for name, value in group.items()
            if name not in ("run_dir", "dataset_dir")
        }
        with self._writer.as_default(0):
            hparams.hparams(values)

    def flush(self) -> None:
        """Puts everything on disk."""
        self._writer.flush()
