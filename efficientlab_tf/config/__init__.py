"""Everything that can be configured, as frozen dataclasses.

Each field carries its help text: `flags.py` turns the fields into command line
flags, `run_dir/config.json` stores them, and library code receives them. Field
names are unique across the dataclasses that a command uses, as flags share one
namespace.
"""

from efficientlab_tf.config.adaptation import OWN, Settings
from efficientlab_tf.config.commands import (
    CompareConfig,
    EvalConfig,
    ExportConfig,
    TuneConfig,
)
from efficientlab_tf.config.run import (
    DataConfig,
    LearnerConfig,
    ModelConfig,
    TrainConfig,
)
from efficientlab_tf.config.settings import setting

__all__ = [
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
