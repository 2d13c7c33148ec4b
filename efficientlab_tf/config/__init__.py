"""Everything that can be configured, as frozen dataclasses.

Each field carries its help text: `flags.py` turns the fields into flags,
`run_dir/config.json` stores them, and library code receives them. The dataclasses that
a command uses share no field's name, as its flags could not.
"""

from efficientlab_tf.config.adaptation import BUT_JIT, BUT_STEPS, OWN, Settings
from efficientlab_tf.config.commands import (
    CompareConfig,
    EvalConfig,
    ExportConfig,
    TuneConfig,
)
from efficientlab_tf.config.data import DataConfig
from efficientlab_tf.config.run import LearnerConfig, ModelConfig, TrainConfig
from efficientlab_tf.config.settings import setting

__all__ = [
    "BUT_JIT",
    "BUT_STEPS",
    "OWN",
    "CompareConfig",
    "DataConfig",
    "EvalConfig",
    "ExportConfig",
    "LearnerConfig",
    "ModelConfig",
    "Settings",
    "TrainConfig",
    "TuneConfig",
    "setting",
]
