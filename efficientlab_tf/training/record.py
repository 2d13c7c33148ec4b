"""What a run leaves behind, beside its state: the chief's part of the outer loop."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import MODEL_FILE, RunConfig
from efficientlab_tf.config import TrainConfig
from efficientlab_tf.learners import MetaState
from efficientlab_tf.metrics import Interval, Summary
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.segmenters.segmenter import Diverged
from efficientlab_tf.training.checkpoints import Checkpoints
from efficientlab_tf.training.summaries import BY_CLASS, Summaries
from efficientlab_tf.training.validation import Validation


class Record:
    """Checkpoints, TensorBoard and validation of a run.

    Args:
      config: the run's.
      checkpoints: of its folder.
      summaries: of its folder.
      validation: its validation; None without one.
    """

    def __init__(
        self,
        config: RunConfig,
        checkpoints: Checkpoints,
        summaries: Summaries,
        validation: Validation | None,
    ):
        self._config = config
        self._checkpoints = checkpoints
        self._summaries = summaries
        self._validation = validation

    def log(
        self, metrics: dict[str, tf.Tensor], bad_steps: int, rate: float, step: int
    ) -> None:
        """Writes scalars; `rate` is that of episodes per second."""
        scalars = {
            f"train/{name}": float(value)
            for name, value in metrics.items()
            if name != "bad_step"
        }
        scalars["train/bad_steps"] = bad_steps
        scalars["train/inner_learning_rate"] = self._config.learner.inner_learning_rate
        scalars["train/episodes_per_second"] = rate
        self._summaries.scalars(scalars, step)

    def save(self, state: MetaState, step: int) -> None:
        """Saves the state before meta-step `step`.

        Raises:
          UserError: it cannot be written.
        """
        # On disk before the state: of a run that goes on from there, nothing is
        # missing.
        self._summaries.flush()
        self._checkpoints.save(state, step)

    def validate(
        self, state: MetaState, step: int, say: Callable[[str], None]
    ) -> MetaState:
        """Validates, saves the state if it is the best, and goes by `halve_after`.

        Args:
          state: the state before meta-step `step`.
          step: its number.
          say: prints a line.

        Returns:
          The state to go on with, whose `rate_scale` may be halved.
        """
        settings = self._config.train
        try:
            results, rows = self._validation(state)
        except Diverged as error:
            # Meta-training may still come to a rate that suits the network.
            score, text = -1.0, f"validation of {error}"
        else:
            summary = Summary.of(results)
            iou: Interval = getattr(summary, settings.best_by)
            score, text = iou.mean, f"validation {name_of(settings)} {iou} %"
            scalars = {
                "validation/per_image_iou": summary.per_image_iou.mean,
                "validation/soft_iou": summary.soft_iou.mean,
                **{f"{BY_CLASS}/{one.name}": one.iou for one in results},
            }
            self._summaries.scalars(scalars, step)
            self._summaries.predictions(rows, step)
        # As in `save`.
        self._summaries.flush()
        if self._checkpoints.save_if_best(state, step, score):
            text += " (best so far)"
        say(f"step {step}: {text}")
        patience = self._config.learner.halve_after
        if patience and self._checkpoints.plateau(patience):
            state = state._replace(rate_scale=state.rate_scale / 2)
            say(
                f"step {step}: no better for more than {patience} validations: "
                f"meta-learning rate times {float(state.rate_scale):g}"
            )
        return state

    def close(self, state: MetaState, step: int, network: Network) -> None:
        """Saves the state and the best initialization, and says where they are."""
        settings, checkpoints = self._config.train, self._checkpoints
        run_dir = Path(settings.run_dir)
        self.save(state, step)
        best = checkpoints.restore_best()
        save_keras(run_dir / MODEL_FILE, network, best[0].weights, self._config)
        if step < settings.meta_steps:
            print(
                f"stopped at step {step} of {settings.meta_steps}, saved; resume with: "
                f"python -m efficientlab_tf.train --run_dir={run_dir} --resume"
            )
            return
        score = "not validated"
        if checkpoints.best_score >= 0:
            score = (
                f"best validation {name_of(settings)} "
                f"{100 * checkpoints.best_score:.2f} % at step {best[1]}"
            )
        print(
            f"finished {step} meta-steps; {score}; initialization in "
            f"{run_dir / MODEL_FILE}, TensorBoard logs in {run_dir / 'logs'}"
        )


def name_of(config: TrainConfig) -> str:
    """What the best checkpoint is chosen by, in words."""
    return "IoU" if config.best_by == "per_image_iou" else "IoU without a threshold"
