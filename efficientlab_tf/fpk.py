"""How good is an initialization given k labelled pictures, from one to hundreds?

    python -m efficientlab_tf.fpk --model_path=runs/x --dataset_dir=datasets/fpk \
        --output_dir=results/fpk

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
from efficientlab_tf.checkpoint.files import load_model
from efficientlab_tf.checkpoint.run import RunConfig, build_inner_loop, build_network
from efficientlab_tf.config import DataConfig, LearnerConfig, setting
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluate import INNER_LOOP
from efficientlab_tf.evaluation.many_shot import (
    LABELS,
    Study,
    open_results,
    write_report,
)
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.network import Network, Weights

PAPER_ITERATIONS = {1: 1, 5: 5, 10: 10, 50: 25, 100: 50, 200: 100, 400: 200}
"""k to the inner steps of appendix E."""


@dataclasses.dataclass(frozen=True)
class FpkConfig:
    """What is tried."""

    classes: str = setting("", "Classes, joined by commas; empty: all of the dataset.")
    ks: str = setting("1,5,10,50,100,200,400", "Numbers of labelled examples.")
    draws: int = setting(4, "Random draws of examples for each class and k.")
    test_examples: int = setting(20, "Examples that each adaptation is measured on.")
    iterations: str = setting(
        "paper",
        "Inner steps: paper (1, 5, 10, 25, 50, 100, 200 for the paper's seven k), auto "
        "(early stopping on a held-out fifth), or one number for each k, by commas.",
    )
    initializations: str = setting(
        "meta,imagenet,random", "Which to compare, of meta, imagenet and random."
    )
    baseline_learning_rate: float = setting(
        0.0, "Inner learning rate of imagenet and random; 0: the same as meta's."
    )
    fpk_batch_norm: str = setting(
        "support",
        "Statistics of batch normalization: of the support set under the adapted "
        "weights, or running averages.",
        ("support", "running"),
    )
    fpk_seed: int = setting(0, "Seed of draws and adaptations.")

    def __post_init__(self):
        for name in ("draws", "test_examples"):
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"--{name} must be at least 1, received {value}")
        if self.baseline_learning_rate < 0:
            raise UserError(
                "--baseline_learning_rate must not be negative, received "
                f"{self.baseline_learning_rate}"
            )
        for name in self.names:
            if name not in LABELS:
                raise UserError(
                    f"--initializations must be of {', '.join(LABELS)}; "
                    f"received {name!r}"
                )
        if not self.steps:
            raise UserError("--ks is empty; give numbers such as 1,5,10")

    @property
    def names(self) -> tuple[str, ...]:
        """The initializations."""
        return tuple(dict.fromkeys(self.initializations.split(",")))

    @property
    def steps(self) -> dict[int, int]:
        """k to the number of inner steps, 0 for early stopping.

        Raises:
          UserError: not numbers, or not as many.
        """
        ks = _numbers("ks", self.ks)
        if self.iterations == "auto":
            return dict.fromkeys(ks, 0)
        if self.iterations == "paper":
            other = [k for k in ks if k not in PAPER_ITERATIONS]
            if other:
                raise UserError(
                    "--iterations=paper knows k of "
                    f"{', '.join(map(str, PAPER_ITERATIONS))}; received --ks with "
                    f"{other[0]}: give --iterations=auto, or one number for each k"
                )
            return {k: PAPER_ITERATIONS[k] for k in ks}
        counts = _numbers("iterations", self.iterations)
        if len(counts) != len(ks):
            raise UserError(
                f"--iterations needs one number for each of the {len(ks)} --ks, "
                f"received {len(counts)}"
            )
        return dict(zip(ks, counts, strict=True))


def _numbers(name: str, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(
            f"--{name} must be positive whole numbers joined by commas, received "
            f"{text!r}"
        )
    return tuple(map(int, parts))


def initializations(
    network: Network, weights: Weights, run: RunConfig, config: FpkConfig
) -> dict[str, tuple[Weights, float]]:
    """Builds what is compared: name to weights and inner learning rate.

    Args:
      network: of the meta-learned initialization.
      weights: that initialization.
      run: its configuration; the others are of the same network.
      config: which to build.

    Raises:
      UserError: there is no such initialization of this network.
    """
    rate = run.learner.inner_learning_rate
    starts = {}
    for name in config.names:
        if name == "meta":
            starts[name] = weights, rate
            continue
        encoder = "imagenet" if name == "imagenet" else ""
        other = build_network(
            dataclasses.replace(run.model, weights=encoder), config.fpk_seed
        )
        shapes = [[t.shape for t in w.theta] for w in (other.weights(), weights)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"the model was not built from its own configuration, so there is no "
                f"{name} initialization of it; give --initializations=meta"
            )
        starts[name] = other.weights(), config.baseline_learning_rate or rate
    return starts


def _settings(manifest: Manifest, run: RunConfig, config: FpkConfig) -> dict:
    """What all results of one folder share; k, draws and so on may be added to."""
    return {name: getattr(run.learner, name) for name in INNER_LOOP} | {
        "dataset": manifest.name,
        "model_path": flags.FLAGS.model_path,
        "test_examples": config.test_examples,
        "baseline_learning_rate": config.baseline_learning_rate,
        "batch_norm": config.fpk_batch_norm,
        "seed": config.fpk_seed,
        "early_stopping": config.iterations == "auto",
    }


def main() -> None:
    """Runs FP-k as the flags say."""
    if not flags.FLAGS.model_path:
        raise UserError("--model_path is needed: a run's folder or a .keras file")
    if not flags.FLAGS.output_dir:
        raise UserError("--output_dir is needed: a folder for results")
    config = flags.read(FpkConfig)
    network, weights, run = load_model(flags.FLAGS.model_path)
    if network.classes > 1:
        raise UserError(
            f"FP-k is one-way, but the network tells {network.classes} classes apart; "
            "give a model with --num_classes=1"
        )
    run = dataclasses.replace(
        run, data=flags.override(run.data), learner=flags.override(run.learner)
    )
    if "dataset_dir" not in flags.given(run.data):
        raise UserError("--dataset_dir is needed: a folder that build_fpk.py wrote")
    output_dir = Path(flags.FLAGS.output_dir)
    manifest = Manifest.load(run.data.dataset_dir)
    names = config.classes.split(",") if config.classes else manifest.classes
    study = Study(
        manifest,
        tuple(names),
        config.steps,
        config.draws,
        config.test_examples,
        config.fpk_batch_norm,
        config.fpk_seed,
    )
    starts = initializations(network, weights, run, config)
    rows = open_results(output_dir, _settings(manifest, run, config))
    functions = AdaptFunctions(build_inner_loop(run.learner, network))
    rows = study.run(functions, starts, rows, output_dir)
    print(
        f"mean per-image IoU with 95% intervals over classes and draws, "
        f"{config.test_examples} test examples each:\n{write_report(output_dir, rows)}"
        f"seconds an adaptation, median: {np.median([r.seconds for r in rows]):.1f}\n"
        f"written: {output_dir}/results.csv, table.md, curve.png"
    )


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(DataConfig, only=("dataset_dir", "cache_gb"))
    flags.define(FpkConfig)
    flags.define(LearnerConfig, only=INNER_LOOP)
    flags.define_text("model_path", "", "A run's folder, or a .keras file.")
    flags.define_text("output_dir", "", "Where results go, and are gone on with.")


if __name__ == "__main__":
    define_flags()
    flags.run(main)
