"""Everything that can be configured, as frozen dataclasses.

Each field carries its help text: `flags.py` turns the fields into command line
flags, `run_dir/config.json` stores them, and library code receives them. Field
names are unique across the dataclasses that a command uses, as flags share one
namespace.
"""

import dataclasses
from typing import Any

from efficientlab_tf.errors import UserError


def setting(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    """A field of a configuration: its default, help text and choices."""
    metadata = {"help": help, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which examples an episode is drawn from, and how many."""

    dataset_dir: str = setting(
        "", "Folder with dataset.json and shards, or sample:icons, sample:nuclei."
    )
    splits: str = setting(
        "",
        "Class lists to use instead of the dataset's own: fss1000, fss1000_520, "
        "fss1000_700, icons, fpk, or train=FILE,val=FILE,test=FILE.",
    )
    train_split: str = setting("train", "Split to meta-train on.")
    val_split: str = setting("val", "Split for validation; empty for none.")
    shots: int = setting(5, "Support examples per class and episode.")
    queries: int = setting(
        5, "Query examples per class and episode in meta-training (FOMAML's tail)."
    )
    ways: int = setting(1, "Foreground classes per episode.")
    cache_gb: float = setting(
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

    model: str = setting("efficientlab", "Network.", ("efficientlab", "meta_drn"))
    image_size: int = setting(224, "Side of the square input, divisible by 32.")
    backbone: str = setting(
        "EfficientNetB0", "EfficientNetB0 to EfficientNetB7, or EfficientNetLite0."
    )
    decoder: str = setting("rsd", "Decoder.", ("rsd", "auto_deeplab", "none"))
    rsd_stages: str = setting("3", "Stages with a residual skip decoder: 3, or 6,3.")
    residual: bool = setting(True, "Residual connection around each RSD module.")
    num_classes: int = setting(1, "Foreground classes that the network can tell apart.")
    final_dropout: float = setting(0.2, "Dropout rate before the last convolution.")
    drop_connect: float = setting(0.2, "Drop-connect rate of the last encoder block.")
    weights: str = setting("", "Initial encoder weights.", ("", "imagenet"))

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

    learner: str = setting(
        "fomaml", "Algorithm.", ("fomaml", "reptile", "maml", "meta_sgd")
    )
    first_order: bool = setting(
        False, "MAML and Meta-SGD: leave the second derivatives out."
    )
    second_order_from: int = setting(
        0,
        "MAML and Meta-SGD: leave them out until this meta-step (derivative-order "
        "annealing).",
    )
    multi_step_until: int = setting(
        0,
        "MAML and Meta-SGD: until this meta-step the query loss counts after every "
        "inner step, ever less before the last; 0: only after the last.",
    )
    inner_learning_rate: float = setting(
        0.005, "SGD learning rate of the inner loop; learned rates start there."
    )
    inner_rates: str = setting(
        "fixed",
        "MAML: fixed, or learn a rate for each layer and inner step. (Meta-SGD learns "
        "one for each parameter.)",
        ("fixed", "per_step"),
    )
    inner_steps: int = setting(
        5, "SGD steps of the inner loop; FOMAML's last one is the step on the tail."
    )
    adapt: str = setting(
        "all",
        "What the inner loop changes: all, or the decoder alone (ANIL); the encoder "
        "is then still meta-learned.",
        ("all", "decoder"),
    )
    inner_batch: int = setting(
        8,
        "Examples per inner step, drawn epoch by epoch from the support set; "
        "0 takes the whole support set at each step.",
    )
    loss: str = setting("bce_dice", "Loss.", ("bce_dice", "cross_entropy"))
    l2: float = setting(5e-4, "Weight of the L2 term (batch norm excluded); 0 is off.")
    augmentation: str = setting(
        "efficientlab",
        "Recipe: efficientlab (translation, flip, erasing, noise, brightness) or "
        "meta_drn (flip, rotation, zoom, warp, lighting).",
        ("efficientlab", "meta_drn"),
    )
    augment_rate: float = setting(
        0.5,
        "Chance of each augmentation for each support image and inner step, in "
        "meta-training and meta-testing.",
    )
    episode_augment_rate: float = setting(
        0.0,
        "Chance of each augmentation for each support and query image of a training "
        "episode, once, before the inner loop.",
    )
    meta_optimizer: str = setting(
        "interpolate",
        "interpolate (the papers': theta + rate * displacement), or a Keras optimizer "
        "on the meta-gradient: sgd, adam, adamw, ...",
    )
    meta_learning_rate: float = setting(0.1, "Meta-learning rate at the first step.")
    meta_learning_rate_final: float = setting(
        1e-5, "Meta-learning rate at the last step; in between it changes linearly."
    )
    halve_after: int = setting(
        0,
        "Halve the meta-learning rate when the best validation IoU is more than this "
        "many validations old, and again after as many more; 0: never.",
    )

    def __post_init__(self):
        _require(
            self.inner_learning_rate > 0,
            f"--inner_learning_rate must be positive, received "
            f"{self.inner_learning_rate}",
        )
        for name in ("second_order_from", "multi_step_until", "halve_after"):
            value = getattr(self, name)
            _require(value >= 0, f"--{name} must be at least 0, received {value}")
        _require(
            self.inner_steps >= 1,
            f"--inner_steps must be at least 1, received {self.inner_steps}",
        )
        _require(
            self.inner_batch >= 0,
            f"--inner_batch must be 0 (all) or more, received {self.inner_batch}",
        )
        for name in ("augment_rate", "episode_augment_rate"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"--{name} must be in [0, 1], received {value}")
        _require(
            self.inner_rates == "fixed" or self.learner == "maml",
            f"--inner_rates={self.inner_rates} needs --learner=maml, received "
            f"{self.learner}",
        )
        _require(self.l2 >= 0, f"--l2 must not be negative, received {self.l2}")
        for name in ("meta_learning_rate", "meta_learning_rate_final"):
            value = getattr(self, name)
            _require(value >= 0, f"--{name} must not be negative, received {value}")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The outer loop: how long, how often, where to."""

    run_dir: str = setting("", "Folder for checkpoints, flags and TensorBoard logs.")
    meta_steps: int = setting(50000, "Meta-steps of the whole run.")
    meta_batch: int = setting(5, "Tasks per meta-step.")
    seed: int = setting(0, "Seed of every random choice of the run.")
    validate_every: int = setting(500, "Meta-steps between validations.")
    val_episodes: int = setting(20, "Fixed validation episodes (fewer classes: fewer).")
    val_batch_norm: str = setting(
        "running",
        "Statistics of batch normalization in validation: running averages, or those "
        "of the support set under the adapted weights.",
        ("running", "support"),
    )
    log_every: int = setting(20, "Meta-steps between TensorBoard scalars.")
    save_every: int = setting(500, "Meta-steps between checkpoints.")
    keep: int = setting(3, "Checkpoints to keep beside the best one.")
    max_bad_steps: int = setting(
        10,
        "Meta-steps in a row that may be skipped because a loss or a gradient was not "
        "finite, before training stops.",
    )
    jit: str = setting(
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
class ExportConfig:
    """What a SavedModel serves, and the limits of a request."""

    adaptation: bool = setting(
        True,
        "Export adapt_and_segment. Leave it out for a server with --enable_batching, "
        "which joins requests along the first axis of every input of every signature.",
    )
    batch_norm: str = setting(
        "support",
        "Statistics of batch normalization after adaptation: those of the support set "
        "under the adapted weights, or running averages.",
        ("running", "support"),
    )
    max_side: int = setting(4096, "Largest height and width of an image, in pixels.")
    max_images: int = setting(32, "Most images of one kind in a request.")
    max_steps: int = setting(500, "Most inner-loop steps that a request may ask for.")

    def __post_init__(self):
        for name in ("max_side", "max_images", "max_steps"):
            value = getattr(self, name)
            _require(value >= 1, f"--{name} must be at least 1, received {value}")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Meta-testing: how a checkpoint is judged on classes that it never saw."""

    eval_split: str = setting("test", "Split to evaluate on.")
    splits_per_task: int = setting(2, "Random support/query splits of each class.")
    eval_queries: int = setting(
        0, "Query examples per class; 0 takes all that are not support."
    )
    batch_norm: str = setting(
        "running",
        "Statistics of batch normalization when predicting: running averages (the "
        "paper), those of the support set under the adapted weights, or those of the "
        "query batch (transductive: the query images inform each other).",
        ("running", "support", "query"),
    )
    thresholds: str = setting(
        "0.5",
        "Foreground probability above which a pixel counts; 0.5,0.35 reports both, "
        "and pictures and the other measures are of the first.",
    )

    def __post_init__(self):
        _require(
            self.splits_per_task >= 1,
            f"--splits_per_task must be at least 1, received {self.splits_per_task}",
        )
        _require(
            self.eval_queries >= 0,
            f"--eval_queries must not be negative, received {self.eval_queries}",
        )
        _require(
            bool(self.threshold_values),
            f"--thresholds must be different numbers between 0 and 1 joined by commas, "
            f"such as 0.5,0.35; received {self.thresholds!r}",
        )

    @property
    def threshold_values(self) -> tuple[float, ...]:
        """The thresholds as numbers; () if they cannot be read."""
        try:
            values = tuple(float(value) for value in self.thresholds.split(","))
        except ValueError:
            return ()
        good = len(set(values)) == len(values) and all(0 < v < 1 for v in values)
        return values if good else ()


@dataclasses.dataclass(frozen=True)
class TuneConfig:
    """Update-hyperparameter optimization; see `efficientlab_tf.hyperparameters`."""

    tune_split: str = setting(
        "val", "Split to tune on; several joined by commas (the paper: train,val)."
    )
    tasks: int = setting(
        100,
        "Tasks that each configuration is tried on, drawn from the split; more than it "
        "has classes: several draws of a class.",
    )
    learning_rate_range: str = setting(
        "",
        "Inner learning rates to search, low,high, in the logarithm; empty: a tenth to "
        "ten times the training's. Where rates were learned: a factor on them.",
    )
    dropout_range: str = setting(
        "", "Rates of the final dropout to search, low,high; empty: the network's."
    )
    augment_range: str = setting(
        "", "Augmentation rates to search, low,high; empty: the training's."
    )
    inner_batch_range: str = setting(
        "", "Inner batch sizes to search, low,high; empty: the training's."
    )
    min_steps: int = setting(1, "Fewest inner steps to choose.")
    max_steps: int = setting(60, "Most inner steps to choose.")
    patience: int = setting(
        3, "Inner steps without a better mean IoU after which a configuration ends."
    )
    rounds: int = setting(2, "Times that configurations are sampled (the paper's b).")
    samples: int = setting(16, "Configurations sampled in a round (n).")
    keep: float = setting(
        0.25, "Part of all configurations that spans the next round's ranges (x)."
    )
    sampler: str = setting(
        "random",
        "random: the paper's rounds of random search; gp: Optuna's Gaussian process, "
        "with as many configurations (needs pip install scipy torch).",
        ("random", "gp"),
    )
    tune_seed: int = setting(0, "Seed of the choice of tasks and configurations.")
    workers: int = setting(1, "Processes that share the search on this machine.")

    def __post_init__(self):
        for name in ("tasks", "min_steps", "patience", "rounds", "workers"):
            value = getattr(self, name)
            _require(value >= 1, f"--{name} must be at least 1, received {value}")
        _require(
            self.samples >= 2,
            f"--samples must be at least 2, received {self.samples}: one configuration "
            "spans no range",
        )
        _require(
            self.max_steps >= self.min_steps,
            f"--max_steps must be at least --min_steps = {self.min_steps}, received "
            f"{self.max_steps}",
        )
        _require(
            0 < self.keep < 1,
            f"--keep must be between 0 and 1, both excluded, received {self.keep}: "
            "0.25 keeps the best quarter",
        )
        _require(
            self.tune_seed >= 0,
            f"--tune_seed must not be negative, received {self.tune_seed}",
        )
