"""Meta-trains a segmentation network.

    python -m efficientlab_tf.train --flagfile=flags/quickstart.flags --run_dir=runs/x

Later flags override earlier ones, also those of a flagfile. Ctrl-C and SIGTERM
save and exit; `--run_dir=... --resume` goes on.
"""

import dataclasses
from pathlib import Path

from efficientlab_tf import flags
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import DataConfig, LearnerConfig, ModelConfig, TrainConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.training.loop import train

RESUMABLE = frozenset(
    {
        *("run_dir", "dataset_dir", "cache_gb", "image_size"),
        *("validate_every", "val_episodes", "log_every", "save_every", "keep"),
        *("inner_learning_rate", "meta_learning_rate", "meta_learning_rate_final"),
        *("meta_steps", "max_bad_steps", "jit", "deterministic"),
        *("strategy", "cpu_replicas"),
    }
)
"""Flags that may change when a run is resumed: they leave its state loadable."""


def config_from_flags() -> RunConfig:
    """Builds the run's configuration from the flags alone."""
    return RunConfig(
        *(flags.read(group.type) for group in dataclasses.fields(RunConfig))
    )


def resumed_config() -> RunConfig:
    """Reads the configuration of the run in --run_dir, with the changes it may have.

    Raises:
      UserError: there is no run, or a flag differs that must not.
    """
    run_dir = flags.FLAGS.run_dir
    if not run_dir:
        raise UserError("`resume` needs `run_dir`: the folder of the run to continue")
    saved = RunConfig.load(Path(run_dir))
    groups = {}
    for field in dataclasses.fields(saved):
        group = getattr(saved, field.name)
        for name, value in flags.given(group).items():
            if value != getattr(group, name) and name not in RESUMABLE:
                raise UserError(
                    f"`{name}`={value} differs from the run's {getattr(group, name)}; "
                    f"leave it out to resume {run_dir}, or start a new `run_dir`"
                )
        groups[field.name] = flags.override(group)
    return RunConfig(**groups)


def main() -> None:
    """Trains or resumes, as the flags say."""
    resume = flags.FLAGS.resume
    train(resumed_config() if resume else config_from_flags(), resume=resume)


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(DataConfig, ModelConfig, LearnerConfig, TrainConfig)
    flags.define_one("resume", False, "Continue the run in --run_dir.", bool)
    flags.alias(model="network", val_batch_norm="batch_norm")


if __name__ == "__main__":
    define_flags()
    flags.run(main)
