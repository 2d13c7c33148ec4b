"""What describes the commands that take a finished run further."""

import dataclasses

from efficientlab_tf.config.settings import require, setting


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
            require(value >= 1, f"--{name} must be at least 1, received {value}")


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
        require(
            self.splits_per_task >= 1,
            f"--splits_per_task must be at least 1, received {self.splits_per_task}",
        )
        require(
            self.eval_queries >= 0,
            f"--eval_queries must not be negative, received {self.eval_queries}",
        )
        require(
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
            require(value >= 1, f"--{name} must be at least 1, received {value}")
        require(
            self.samples >= 2,
            f"--samples must be at least 2, received {self.samples}: one configuration "
            "spans no range",
        )
        require(
            self.max_steps >= self.min_steps,
            f"--max_steps must be at least --min_steps = {self.min_steps}, received "
            f"{self.max_steps}",
        )
        require(
            0 < self.keep < 1,
            f"--keep must be between 0 and 1, both excluded, received {self.keep}: "
            "0.25 keeps the best quarter",
        )
        require(
            self.tune_seed >= 0,
            f"--tune_seed must not be negative, received {self.tune_seed}",
        )
