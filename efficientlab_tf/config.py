"""Everything that can be configured, as frozen dataclasses.

Each field carries its help text: `flags.py` turns the fields into command line
flags, `run_dir/config.json` stores them, and library code receives them. Field
names are unique across the dataclasses, as flags share one namespace.
"""

import dataclasses
from typing import Any

from efficientlab_tf.errors import UserError


def _field(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    metadata = {"help": help, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which examples an episode is drawn from, and how many."""

    dataset_dir: str = _field(
        "", "Folder with dataset.json and shards, or sample:icons, sample:nuclei."
    )
    splits: str = _field(
        "",
        "Class lists to use instead of the dataset's own: fss1000, fss1000_520, icons, "
        "fpk, or train=FILE,val=FILE,test=FILE.",
    )
    train_split: str = _field("train", "Split to meta-train on.")
    val_split: str = _field("val", "Split for validation; empty for none.")
    shots: int = _field(5, "Support examples per class and episode.")
    queries: int = _field(
        5, "Query examples per class and episode in meta-training (FOMAML's tail)."
    )
    ways: int = _field(1, "Foreground classes per episode.")
    cache_gb: float = _field(
        -1.0,
        "Memory for decoded images, in GB; -1 is half of what is free. What does not "
        "fit is decoded again at each draw.",
    )

    def __post_init__(self):
        for name in ("shots", "queries", "ways"):
            value = getattr(self, name)
            _require(
                value >= 1, f"--{name} must be at least 1, received {value}: raise it"
            )

    @property
    def cache_bytes(self) -> int | None:
        """The cache budget in bytes; None stands for half of the free memory."""
        return None if self.cache_gb < 0 else int(self.cache_gb * 2**30)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network. See `efficientlab_tf.models`.

    Meta-DRN has only a size and classes: the other fields must be left alone.
    """

    model: str = _field("efficientlab", "Network.", ("efficientlab", "meta_drn"))
    image_size: int = _field(224, "Side of the square input, divisible by 32.")
    backbone: str = _field(
        "EfficientNetB0", "EfficientNetB0 to EfficientNetB7, or EfficientNetLite0."
    )
    decoder: str = _field("rsd", "Decoder.", ("rsd", "auto_deeplab", "none"))
    rsd_stages: str = _field("3", "Stages with a residual skip decoder: 3, or 6,3.")
    residual: bool = _field(True, "Residual connection around each RSD module.")
    num_classes: int = _field(1, "Foreground classes that the network can tell apart.")
    final_dropout: float = _field(0.2, "Dropout rate before the last convolution.")
    drop_connect: float = _field(0.2, "Drop-connect rate of the last encoder block.")
    weights: str = _field("", "Initial encoder weights.", ("", "imagenet"))

    def __post_init__(self):
        _require(
            self.image_size > 0 and self.image_size % 32 == 0,
            f"--image_size must be a positive multiple of 32, received "
            f"{self.image_size}: use for example {max(32, self.image_size // 32 * 32)}",
        )
        for name in ("final_dropout", "drop_connect"):
            value = getattr(self, name)
            _require(
                0 <= value < 1,
                f"--{name} must be in [0, 1), received {value}: lower it",
            )
        _require(
            self.num_classes >= 1,
            f"--num_classes must be at least 1, received {self.num_classes}",
        )


@dataclasses.dataclass(frozen=True)
class LearnerConfig:
    """The meta-learning algorithm and its inner loop."""

    learner: str = _field(
        "fomaml", "Algorithm.", ("fomaml", "reptile", "maml", "meta_sgd")
    )
    first_order: bool = _field(
        False, "MAML and Meta-SGD: leave the second derivatives out."
    )
    second_order_from: int = _field(
        0,
        "MAML and Meta-SGD: leave them out until this meta-step (derivative-order "
        "annealing).",
    )
    multi_step_until: int = _field(
        0,
        "MAML and Meta-SGD: until this meta-step the query loss counts after every "
        "inner step, ever less before the last; 0: only after the last.",
    )
    inner_learning_rate: float = _field(
        0.005,
        "SGD learning rate of the inner loop; Meta-SGD's learned rates start there.",
    )
    inner_steps: int = _field(
        5, "SGD steps of the inner loop; FOMAML's last one is the step on the tail."
    )
    adapt: str = _field(
        "all",
        "What the inner loop changes: all, or the decoder alone (ANIL); the encoder "
        "is then still meta-learned.",
        ("all", "decoder"),
    )
    inner_batch: int = _field(
        8,
        "Examples per inner step, drawn epoch by epoch from the support set; "
        "0 takes the whole support set at each step.",
    )
    loss: str = _field("bce_dice", "Loss.", ("bce_dice", "cross_entropy"))
    l2: float = _field(5e-4, "Weight of the L2 term (batch norm excluded); 0 is off.")
    augment_rate: float = _field(
        0.5, "Chance of each augmentation for each support image and inner step."
    )
    meta_optimizer: str = _field(
        "interpolate",
        "interpolate (the papers': theta + rate * displacement), or a Keras optimizer "
        "on the meta-gradient: sgd, adam, adamw, ...",
    )
    meta_learning_rate: float = _field(0.1, "Meta-learning rate at the first step.")
    meta_learning_rate_final: float = _field(
        1e-5, "Meta-learning rate at the last step; in between it changes linearly."
    )

    def __post_init__(self):
        _require(
            self.inner_learning_rate > 0,
            f"--inner_learning_rate must be positive, received "
            f"{self.inner_learning_rate}",
        )
        for name in ("second_order_from", "multi_step_until"):
            value = getattr(self, name)
            _require(
                value >= 0, f"--{name} must be a meta-step from 0, received {value}"
            )
        _require(
            self.inner_steps >= 1,
            f"--inner_steps must be at least 1, received {self.inner_steps}",
        )
        _require(
            self.inner_batch >= 0,
            f"--inner_batch must be 0 (all) or more, received {self.inner_batch}",
        )
        _require(
            0 <= self.augment_rate <= 1,
            f"--augment_rate must be in [0, 1], received {self.augment_rate}",
        )
        _require(self.l2 >= 0, f"--l2 must not be negative, received {self.l2}")
        for name in ("meta_learning_rate", "meta_learning_rate_final"):
            value = getattr(self, name)
            _require(value >= 0, f"--{name} must not be negative, received {value}")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The outer loop: how long, how often, where to."""

    run_dir: str = _field("", "Folder for checkpoints, flags and TensorBoard logs.")
    meta_steps: int = _field(50000, "Meta-steps of the whole run.")
    meta_batch: int = _field(5, "Tasks per meta-step.")
    seed: int = _field(0, "Seed of every random choice of the run.")
    validate_every: int = _field(500, "Meta-steps between validations.")
    val_episodes: int = _field(20, "Fixed validation episodes (fewer classes: fewer).")
    log_every: int = _field(20, "Meta-steps between TensorBoard scalars.")
    save_every: int = _field(500, "Meta-steps between checkpoints.")
    keep: int = _field(3, "Checkpoints to keep beside the best one.")
    max_bad_steps: int = _field(
        10,
        "Meta-steps in a row that may be skipped because a loss or a gradient was not "
        "finite, before training stops.",
    )
    jit: str = _field(
        "auto",
        "Compile meta-steps with XLA; auto does on a GPU and does not on a CPU, where "
        "it is several times slower. XLA draws other random numbers from a seed.",
        ("auto", "on", "off"),
    )

    def __post_init__(self):
        for name in (
            *("meta_steps", "meta_batch", "validate_every", "val_episodes"),
            *("log_every", "save_every", "keep", "max_bad_steps"),
        ):
            value = getattr(self, name)
            _require(value >= 1, f"--{name} must be at least 1, received {value}")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Meta-testing: how a checkpoint is judged on classes that it never saw."""

    eval_split: str = _field("test", "Split to evaluate on.")
    splits_per_task: int = _field(2, "Random support/query splits of each class.")
    eval_queries: int = _field(
        0, "Query examples per class; 0 takes all that are not support."
    )
    batch_norm: str = _field(
        "running",
        "Statistics of batch normalization when predicting: running averages (the "
        "paper), those of the support set under the adapted weights, or those of the "
        "query batch (transductive: the query images inform each other).",
        ("running", "support", "query"),
    )
    threshold: float = _field(0.5, "Foreground probability above which a pixel counts.")

    def __post_init__(self):
        _require(
            self.splits_per_task >= 1,
            f"--splits_per_task must be at least 1, received {self.splits_per_task}",
        )
        _require(
            0 < self.threshold < 1,
            f"--threshold must be in (0, 1), received {self.threshold}",
        )
        _require(
            self.eval_queries >= 0,
            f"--eval_queries must not be negative, received {self.eval_queries}",
        )
