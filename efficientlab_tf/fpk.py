"""How good is an initialization given k labelled pictures, from one to hundreds?

    python -m efficientlab_tf.fpk --model=runs/x --dataset_dir=datasets/fpk \
        --output=results/fpk

FP-k (Hendryx et al. 2019, section 5 and appendices D and E): each initialization
(meta-learned, ImageNet's encoder, random) is adapted to k examples of each class and
measured on others; a draw of examples is the same for all initializations. Writes
results.csv, one row an adaptation, as it goes: the same command goes on where it was
stopped. Then table.md and curve.png, means with 95% intervals over classes and draws.
"""

import dataclasses
from pathlib import Path

import numpy as np

from efficientlab_tf import flags
from efficientlab_tf.api.automatic import METHODS, AutomaticModel
from efficientlab_tf.api.loading import load
from efficientlab_tf.api.model import Model
from efficientlab_tf.api.networks import GradientModel
from efficientlab_tf.checkpoint.run import build_network
from efficientlab_tf.config import BUT_STEPS, DataConfig, Settings, setting
from efficientlab_tf.config.settings import check, seed
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.many_shot import (
    LABELS,
    Study,
    open_results,
    write_report,
)
from efficientlab_tf.evaluation.meta_test import open_dataset, require_one_way

PAPER_ITERATIONS = {1: 1, 5: 5, 10: 10, 50: 25, 100: 50, 200: 100, 400: 200}
"""k to the inner steps of appendix E."""


@dataclasses.dataclass(frozen=True)
class FpkConfig:
    """What is tried."""

    classes: str = setting("", "Classes, joined by commas; empty: all of the dataset.")
    ks: str = setting("1,5,10,50,100,200,400", "Numbers of labelled examples.")
    draws: int = setting(4, "Random draws of examples for each class and k.", least=1)
    test_examples: int = setting(
        20, "Examples that each adaptation is measured on.", least=1
    )
    steps: str = setting(
        "paper",
        "Inner steps: paper (1, 5, 10, 25, 50, 100, 200 for the paper's seven k), auto "
        "(early stopping on a held-out fifth), or one number for each k, by commas.",
    )
    initializations: str = setting(
        "meta,imagenet,random",
        "Which to compare, of meta, imagenet and random; auto and linear, which choose "
        "by cross-validation, can stand beside them.",
    )
    baseline_learning_rate: float = setting(
        0.0,
        "Inner learning rate of imagenet and random; 0: the same as meta's.",
        least=0,
    )
    seed: int = seed("Seed of draws and adaptations.")

    def __post_init__(self):
        check(self)
        for name in self.names:
            if name not in LABELS:
                raise UserError(
                    f"`initializations` must be of {', '.join(LABELS)}; "
                    f"received {name!r}"
                )
        if not self.steps_of:
            raise UserError("`ks` is empty; give numbers such as 1,5,10")

    @property
    def names(self) -> tuple[str, ...]:
        """The initializations."""
        return tuple(dict.fromkeys(self.initializations.split(",")))

    @property
    def steps_of(self) -> dict[int, int]:
        """k to the number of inner steps, 0 for early stopping.

        Raises:
          UserError: not numbers, or not as many.
        """
        ks = _numbers("ks", self.ks)
        if self.steps == "auto":
            return dict.fromkeys(ks, 0)
        if self.steps == "paper":
            other = [k for k in ks if k not in PAPER_ITERATIONS]
            if other:
                raise UserError(
                    "`steps`=paper knows k of "
                    f"{', '.join(map(str, PAPER_ITERATIONS))}; received `ks` with "
                    f"{other[0]}: give `steps`=auto, or one number for each k"
                )
            return {k: PAPER_ITERATIONS[k] for k in ks}
        counts = _numbers("steps", self.steps)
        if len(counts) != len(ks):
            raise UserError(
                f"`steps` needs one number for each of the {len(ks)} `ks`, "
                f"received {len(counts)}"
            )
        return dict(zip(ks, counts, strict=True))


def _numbers(name: str, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(
            f"`{name}` must be positive whole numbers joined by commas, received "
            f"{text!r}"
        )
    return tuple(map(int, parts))


def initializations(
    model: GradientModel, config: FpkConfig
) -> dict[str, tuple[Model, float | None]]:
    """Builds what is compared: name to a model and its inner learning rate.

    Args:
      model: the meta-learned initialization.
      config: which to build; the others are of the same network.

    Raises:
      UserError: there is no such initialization of this network.
    """
    starts: dict[str, tuple[Model, float | None]] = {}
    for name in config.names:
        if name in METHODS:
            starts[name] = AutomaticModel(name), None
            continue
        if name == "meta":
            starts[name] = model, None
            continue
        encoder = "imagenet" if name == "imagenet" else ""
        other = build_network(
            dataclasses.replace(model.run.model, weights=encoder), config.seed
        )
        own, weights = model.checkpoint.weights, other.weights()
        if [t.shape for t in weights.theta] != [t.shape for t in own.theta]:
            raise UserError(
                f"the model was not built from its own configuration, so there is no "
                f"{name} initialization of it; give `initializations`=meta"
            )
        start = GradientModel(name, model.checkpoint._replace(weights=weights))
        starts[name] = start, config.baseline_learning_rate or None
    return starts


def main() -> None:
    """Runs FP-k as the flags say."""
    source, output = flags.needed(model=flags.A_MODEL, output=flags.A_FOLDER)
    manifest = open_dataset(flags.FLAGS.dataset_dir)
    config = flags.read(FpkConfig)
    settings = flags.read(Settings, only=BUT_STEPS)
    model = load(source)
    if not isinstance(model, GradientModel):
        raise UserError(
            f"FP-k is about inner loops, and {model.name} adapts without one; compare "
            "takes it"
        )
    require_one_way("FP-k", model.classes)
    own = model.resolve(settings)
    names = config.classes.split(",") if config.classes else manifest.classes
    study = Study(
        *(manifest, tuple(names), config.steps_of, config.draws),
        *(config.test_examples, settings, config.seed),
    )
    study.check()
    common = dataclasses.asdict(own) | {
        "steps": None,
        "dataset": manifest.name,
        "model": source,
        "test_examples": config.test_examples,
        "baseline_learning_rate": config.baseline_learning_rate,
        "seed": config.seed,
        "early_stopping": config.steps == "auto",
    }
    folder = Path(output)
    rows = open_results(folder, common)
    rows = study.run(initializations(model, config), rows, folder)
    print(
        f"mean per-image IoU with 95% intervals over classes and draws, "
        f"{config.test_examples} test examples each, batch norm {own.batch_norm}:\n"
        f"{write_report(folder, rows)}"
        f"seconds an adaptation, median: {np.median([r.seconds for r in rows]):.1f}\n"
        f"written: {output}/results.csv, table.md, curve.png"
    )
    diverged = sum(np.isnan(row.iou) for row in rows)
    if diverged:
        raise UserError(
            f"{diverged} of {len(rows)} adaptations diverged, nan in results.csv; give "
            "another `output` and a smaller `learning_rate`, or fewer `steps`"
        )


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(DataConfig, only=("dataset_dir",))
    flags.define(FpkConfig)
    flags.define(Settings, only=BUT_STEPS)
    flags.define_one("model", "", flags.MODEL_HELP)
    flags.define_one("output", "", flags.STUDY_HELP)
    flags.alias(
        model_path="model",
        output_dir="output",
        iterations="steps",
        fpk_batch_norm="batch_norm",
        fpk_seed="seed",
        inner_learning_rate="learning_rate",
    )


if __name__ == "__main__":
    define_flags()
    flags.run(main)
