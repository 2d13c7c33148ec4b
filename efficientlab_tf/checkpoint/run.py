"""A run: its configuration, and the network and learner it describes.

run_dir/
  run.flags      every effective flag; can be given to --flagfile again
  config.json    the same, for programs
  checkpoints/   the newest few
  best/          the best by validation
  logs/          TensorBoard
  model.keras    the learned initialization (the best by validation)
  run.lock       held by the process that trains
"""

import dataclasses
import inspect
import json
from pathlib import Path

import keras

from efficientlab_tf.config import DataConfig, LearnerConfig, ModelConfig, TrainConfig
from efficientlab_tf.data.augment import RECIPES, Augmenter
from efficientlab_tf.data.points import keep_unknown
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import write_text, writing
from efficientlab_tf.losses import Objective
from efficientlab_tf.models import MODELS, build_model
from efficientlab_tf.models.conditioned import is_conditioned
from efficientlab_tf.segmenters.forward import ForwardFunctions, forward_functions
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.inner_loop import Augment, InnerLoop
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.untrusted import read_json, reading
from efficientlab_tf.xla import use_jit

CONFIG_FILE = "config.json"
FLAG_FILE = "run.flags"
MODEL_FILE = "model.keras"


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run does."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    learner: LearnerConfig = LearnerConfig()
    train: TrainConfig = TrainConfig()

    def to_dict(self) -> dict:
        """Nested plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "RunConfig":
        """The inverse of `to_dict`.

        Raises:
          UserError: it is not one, or a value in it is out of bounds.
        """
        with reading("the settings", "use those of a run of this package"):
            return cls._from_dict(values)

    @classmethod
    def _from_dict(cls, values: dict) -> "RunConfig":
        groups = {field.name: dict(values[field.name]) for field in _GROUPS}
        # Of version 0.1.
        if "model" in groups["model"]:
            groups["model"]["network"] = groups["model"].pop("model")
        if "val_batch_norm" in groups["train"]:
            groups["learner"]["batch_norm"] = groups["train"].pop("val_batch_norm")
        return cls(*(group.type(**groups[group.name]) for group in _GROUPS))

    def to_flags(self) -> str:
        """A line --name=value for each field, for a flagfile."""
        lines = []
        for group in dataclasses.fields(self):
            lines.append(f"# {group.name}")
            for name, value in dataclasses.asdict(getattr(self, group.name)).items():
                text = str(value).lower() if isinstance(value, bool) else value
                lines.append(f"--{name}={text}")
        return "\n".join(lines) + "\n"

    def save(self, run_dir: Path) -> None:
        """Writes config.json and run.flags.

        Raises:
          UserError: the folder cannot be written.
        """
        with writing(f"to {run_dir}"):
            run_dir.mkdir(parents=True, exist_ok=True)
            write_text(run_dir / FLAG_FILE, self.to_flags())
            write_text(run_dir / CONFIG_FILE, json.dumps(self.to_dict(), indent=2))

    @classmethod
    def load(cls, run_dir: Path) -> "RunConfig":
        """Reads config.json.

        Raises:
          UserError: there is none, or it is not one of this version's.
        """
        path = run_dir / CONFIG_FILE
        if not path.is_file():
            raise UserError(
                f"{run_dir} is not a run: it has no {CONFIG_FILE}; give the "
                "folder of a training, or a .keras file"
            )
        content = read_json(path, "restore it or start a new run")
        try:
            return cls.from_dict(content)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error


_GROUPS = dataclasses.fields(RunConfig)


def build_network(config: ModelConfig, seed: int = 0) -> Network:
    """Builds the network with its initial weights, a function of `seed`.

    Raises:
      UserError: an impossible combination.
    """
    name = config.network
    known = inspect.signature(MODELS[name]).parameters
    options = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in known:
            options[field.name] = value
        elif field.name != "network" and value != field.default:
            raise UserError(
                f"`{field.name}`={value} has no effect on {name}; leave it out"
            )
    if "rsd_stages" in options:
        stages = options["rsd_stages"]
        try:
            options["rsd_stages"] = tuple(int(stage) for stage in stages.split(","))
        except ValueError as error:
            raise UserError(
                f"`rsd_stages` must be stage numbers joined by commas, such as 3 or "
                f"6,3; received {stages!r}"
            ) from error
    if "weights" in options:
        options["weights"] = options["weights"] or None
    keras.utils.set_random_seed(seed)
    return Network(build_model(name, **options))


def build_augment(config: LearnerConfig, rate: float) -> Augment | None:
    """Returns the configured recipe at a rate; None at rate 0."""
    if not rate:
        return None
    return keep_unknown(Augmenter(rate, names=RECIPES[config.augmentation]))


def build_inner_loop(
    config: LearnerConfig, network: Network, jit: str = "off"
) -> InnerLoop:
    """Builds the inner loop alone, for meta-testing; `jit`: see `xla.use_jit`."""
    return InnerLoop(
        network,
        Objective(config.loss, config.l2),
        batch=config.inner_batch,
        augment=build_augment(config, config.augment_rate),
        adapt=config.adapt,
        jit=use_jit(jit),
    )


def build_functions(
    config: LearnerConfig, network: Network, jit: str = "off"
) -> AdaptFunctions | ForwardFunctions:
    """Builds what makes a segmenter of the network's weights, compiled once."""
    if is_conditioned(network.model):
        return forward_functions(network)
    return AdaptFunctions(build_inner_loop(config, network, jit))
