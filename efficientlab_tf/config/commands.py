"""What describes the commands that take a finished run further."""

import dataclasses
from collections.abc import Callable
from typing import Any

from efficientlab_tf.config.data import FAMILIES, SAME_IMAGES
from efficientlab_tf.config.points import DENSE
from efficientlab_tf.config.settings import (
    MAX_CLASSES,
    MAX_STEPS,
    check,
    require,
    seed,
    setting,
    side,
)


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """What a SavedModel serves, and the limits of a request."""

    adaptation: bool = setting(
        True,
        "Export adapt_and_segment. Leave it out for a server with --enable_batching, "
        "which joins requests along the first axis of every input of every signature.",
    )
    max_side: int = setting(
        4096, "Largest height and width of an image, in pixels.", least=1, most=2**16
    )
    max_images: int = setting(32, "Most images of one kind in a request.", least=1)
    max_steps: int = setting(
        500,
        "Most inner-loop steps that a request may ask for.",
        least=1,
        most=MAX_STEPS,
    )

    def __post_init__(self):
        check(self)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Meta-testing: how a checkpoint is judged on classes that it never saw."""

    eval_split: str = setting("test", "Split to evaluate on.")
    splits_per_task: int = setting(
        2, "Random support/query splits of each class.", least=1
    )
    eval_queries: int = setting(
        0, "Query examples per class; 0 takes all that are not support.", least=0
    )
    threshold: str = setting(
        "0.5",
        "Foreground probability above which a pixel counts; 0.5,0.35 reports both, "
        "and pictures and the other measures are of the first.",
    )

    def __post_init__(self):
        check(self)
        require(
            bool(self.threshold_values),
            f"`threshold` must be different numbers between 0 and 1 joined by commas, "
            f"such as 0.5,0.35; received {self.threshold!r}",
        )

    @property
    def threshold_values(self) -> tuple[float, ...]:
        """The thresholds as numbers; () if they cannot be read."""
        return _different(self.threshold, float, lambda v: 0 < v < 1)


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
        least=1,
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
    min_steps: int = setting(1, "Fewest inner steps to choose.", least=1)
    max_steps: int = setting(60, "Most inner steps to choose.", least=1, most=MAX_STEPS)
    patience: int = setting(
        3,
        "Inner steps without a better mean IoU after which a configuration ends.",
        least=1,
    )
    rounds: int = setting(
        2, "Times that configurations are sampled (the paper's b).", least=1
    )
    samples: int = setting(16, "Configurations sampled in a round (n).", least=2)
    keep: float = setting(
        0.25,
        "Part of all configurations that spans the next round's ranges (x).",
        above=0,
        below=1,
    )
    sampler: str = setting(
        "random",
        "random: the paper's rounds of random search; gp: Optuna's Gaussian process, "
        "with as many configurations (needs pip install torch).",
        ("random", "gp"),
    )
    seed: int = seed("Seed of the choice of tasks and configurations.")
    workers: int = setting(
        1, "Processes that share the search on this machine.", least=1
    )

    def __post_init__(self):
        check(self)
        require(
            self.max_steps >= self.min_steps,
            f"`max_steps` must be at least `min_steps` = {self.min_steps}, received "
            f"{self.max_steps}",
        )


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """Many methods under one protocol; see `efficientlab_tf.compare`."""

    methods: str = setting(
        "",
        "Methods joined by commas: names of baselines, or LABEL=MODEL for a run's "
        "folder or .keras file, with settings behind colons, such as "
        "fine_tuning=runs/x:inner_steps=20:adapt=decoder; BASELINE=MODEL for the "
        "model's features, oracle=MODEL for a network with `labels`=dataset.",
    )
    dataset_dir: str = setting(
        "", "Folder with dataset.json and shards, or sample:icons, sample:nuclei."
    )
    splits: str = setting("", "Class lists to use instead of the dataset's own.")
    eval_split: str = setting("test", "Split to compare on.")
    support_split: str = setting(
        "",
        "Split that support pictures are drawn from, such as all_train with "
        "`eval_split`=all_val; of a class with fewer than `shots`, all. Empty: "
        "`eval_split` itself.",
    )
    folds: str = setting(
        "",
        "Folds to compare on, such as 0,1,2,3, by their lists of test pairs; empty: "
        "`eval_split`.",
    )
    shots: str = setting("1,5", "Numbers of support examples.")
    ways: int = setting(
        1,
        "Foreground classes of a task; not with `folds`, whose pairs are of one.",
        least=1,
        most=MAX_CLASSES,
    )
    family: str = setting(
        "class",
        "What a task asks about, see train --help; interactive is clicks against IU.",
        FAMILIES,
    )
    points: str = setting(
        DENSE,
        "Numbers of annotated pixels of each label in a support mask, such as 1,5,25; "
        "-1 stands for dense masks.",
    )
    eval_size: int = side(
        224,
        "Side of the square that every picture and mask is brought to; a method that "
        "works at another size resizes its pictures and its probabilities.",
    )
    splits_per_task: int = setting(
        2, "Random support/query splits of each class.", least=1
    )
    eval_queries: int = setting(
        0, "Query examples per class; 0 takes all that are not support.", least=0
    )
    pairs: int = setting(
        0, "Test pairs of each fold, the first ones; 0 takes all.", least=0
    )
    seed: int = seed("Seed of draws and adaptations.")
    backbone: str = setting(
        "EfficientNetLite0",
        "Features of the baselines, with ImageNet's weights: an EfficientNet's, "
        "VGG16's fc7, or hub:PRESET of KerasHub.",
    )
    timed_tasks: int = setting(
        15, "Tasks with one query that the time of a task is the median of.", least=1
    )

    def __post_init__(self):
        check(self)
        require(
            bool(self.shot_numbers) and min(self.shot_numbers) >= 1,
            f"`shots` must be different numbers from 1 joined by commas, such "
            f"as 1,5; received {self.shots!r}",
        )
        require(
            bool(self.point_numbers),
            "`points` must be different numbers from 1, or -1 for dense masks, "
            f"joined by commas, such as 1,5,25,-1; received {self.points!r}",
        )
        alone = self.family == "class" and self.ways == 1 and not self.folds
        require(
            alone or not self.support_split,
            "`support_split` needs `family`=class and `ways`=1, and no `folds`",
        )
        require(
            self.family == "class" or not self.folds,
            f"`folds` needs `family`=class, received {self.family}: leave one out",
        )
        require(
            self.family == "class" or self.ways == 1,
            f"`family`={self.family} needs `ways`=1, received {self.ways}",
        )
        require(
            self.ways == 1 or not self.folds,
            f"`folds` needs `ways`=1, received `ways`={self.ways}: leave one of them "
            "out",
        )
        require(
            not self.folds or bool(self.fold_numbers),
            f"`folds` must be different numbers joined by commas, such as 0,1,2,3; "
            f"received {self.folds!r}",
        )

    @property
    def same_images(self) -> bool:
        """Whether the query images are the support images."""
        return self.family in SAME_IMAGES

    @property
    def shot_numbers(self) -> tuple[int, ...]:
        """The numbers of shots; () if they cannot be read."""
        return _different(self.shots, int, lambda v: v >= 1)

    @property
    def point_numbers(self) -> tuple[str, ...]:
        """The numbers of points, `DENSE` among them; () if they cannot be read."""
        return _different(self.points, str, lambda v: v == DENSE or int(v) >= 1)

    @property
    def fold_numbers(self) -> tuple[int, ...]:
        """The folds; () for none, or if they cannot be read."""
        return _different(self.folds, int, lambda v: v >= 0)


def _different(text: str, kind: type, holds: Callable[[Any], bool]) -> tuple:
    try:
        values = tuple(kind(part.strip()) for part in text.split(","))
        good = all(map(holds, values)) and len(set(values)) == len(values)
    except ValueError:
        return ()
    return values if good else ()
