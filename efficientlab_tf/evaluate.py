"""Meta-tests a learned initialization on classes that it never saw.

    python -m efficientlab_tf.evaluate --model_path=runs/x --output_dir=results/x

Settings that are not given come from the checkpoint: from what
`efficientlab_tf.tune` chose for it, or else from its own configuration.
Writes summary.json, per_class.csv and predictions.png into --output_dir.
"""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from efficientlab_tf import flags
from efficientlab_tf.checkpoint.files import load_model, load_tuned
from efficientlab_tf.checkpoint.run import RunConfig, build_functions
from efficientlab_tf.checkpoint.tuned import Tuned, adjust
from efficientlab_tf.config import DataConfig, EvalConfig, LearnerConfig
from efficientlab_tf.config.points import DENSE
from efficientlab_tf.data.episodes import fixed_episodes
from efficientlab_tf.data.manifest import ALL, Manifest
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import evaluate, sheet
from efficientlab_tf.files import write_text
from efficientlab_tf.metrics import Interval, Summary, TaskResult
from efficientlab_tf.segmenters.network import Network, Weights

INNER_LOOP = (
    *("inner_learning_rate", "inner_steps", "inner_batch", "loss", "l2"),
    *("augment_rate", "adapt"),
)
"""What a meta-test may do otherwise than the training did."""

_PICTURES = 12


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A meta-test with nothing left to default: what the numbers stand for.

    With `learned_rates` the inner loop uses the rates that Meta-SGD learned, and
    `inner_learning_rate` is only where they started. With `tuned` what
    `efficientlab_tf.tune` left with the checkpoint was used wherever no flag was given.
    """

    dataset: str
    split: str
    classes: int
    shots: int
    queries: int
    splits_per_task: int
    inner_learning_rate: float
    learned_rates: bool
    inner_steps: int
    inner_batch: int
    adapt: str
    augment_rate: float
    batch_norm: str
    transductive: bool
    thresholds: tuple[float, ...]
    image_size: int
    seed: int
    tuned: bool = False
    points: str = DENSE
    family: str = "class"


def meta_test(
    network: Network,
    weights: Weights,
    run: RunConfig,
    config: EvalConfig,
    *,
    label: str = "evaluating",
) -> tuple[Protocol, list[TaskResult], list]:
    """Evaluates an initialization.

    Args:
      network: the network.
      weights: the initialization.
      run: the configuration that it was trained with, or as much of it as the
        meta-test is to differ in: its data and its inner loop are used.
      config: the meta-test.
      label: what the progress bar says.

    Returns:
      The protocol, one result a task, and one picture example a task.

    Raises:
      UserError: bad input.
    """
    if not run.data.dataset_dir:
        raise UserError("--dataset_dir is needed: a converted dataset, or sample:icons")
    if network.classes > 1:
        raise UserError(
            f"a meta-test is one-way, but the network tells {network.classes} classes "
            "apart; give a model with --num_classes=1"
        )
    manifest = Manifest.load(run.data.dataset_dir)
    if run.data.splits:
        manifest = manifest.with_splits(run.data.splits)
    names = manifest.split(config.eval_split)
    protocol = Protocol(
        dataset=manifest.name,
        split=config.eval_split,
        classes=len(names),
        shots=run.data.shots,
        queries=config.eval_queries,
        splits_per_task=config.splits_per_task,
        inner_learning_rate=run.learner.inner_learning_rate,
        learned_rates=bool(weights.rates),
        inner_steps=run.learner.inner_steps,
        inner_batch=run.learner.inner_batch,
        adapt=run.learner.adapt,
        augment_rate=run.learner.augment_rate,
        batch_norm=config.batch_norm,
        transductive=config.batch_norm == "query",
        thresholds=config.threshold_values,
        image_size=network.image_shape[0],
        seed=run.train.seed,
        points=run.data.points,
        family=run.data.family,
    )
    segmenter = build_functions(run.learner, network).segmenter(
        weights,
        learning_rate=protocol.inner_learning_rate,
        steps=protocol.inner_steps,
        batch_norm=protocol.batch_norm,
    )
    tasks = fixed_episodes(
        manifest,
        names,
        shots=protocol.shots,
        queries=config.eval_queries or None,
        splits_per_task=config.splits_per_task,
        seed=protocol.seed,
        image_size=network.image_shape[:2],
        points=run.data.point_range,
        family=run.data.family,
    )
    examples = []
    total = len(names) * config.splits_per_task
    with tqdm(total=total, unit="task", desc=label, dynamic_ncols=True) as bar:
        ious = []

        def on_task(result, example):
            ious.append(result.iou)
            if result.draw == 0:
                examples.append(example)
            bar.update()
            bar.set_postfix(IoU=f"{100 * np.mean(ious):.1f}%", refresh=False)

        results = evaluate(
            segmenter,
            tasks,
            thresholds=protocol.thresholds,
            seed=protocol.seed,
            disjoint=not run.data.same_images,
            on_task=on_task,
        )
    return protocol, results, examples


def write_results(
    output_dir: Path, protocol: Protocol, results: list[TaskResult], examples: list
) -> Summary:
    """Writes summary.json, per_class.csv and predictions.png.

    Raises:
      UserError: the folder cannot be written.
    """
    summary = Summary.of(results)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        document = {
            "protocol": dataclasses.asdict(protocol),
            "metrics": summary.to_dict(),
        }
        write_text(output_dir / "summary.json", json.dumps(document, indent=2))
        with open(output_dir / "per_class.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["class", "draws", "per_image_iou", "class_iou"])
            by_class: dict[str, list[TaskResult]] = {}
            for result in sorted(results, key=lambda r: (r.name, r.draw)):
                by_class.setdefault(result.name, []).append(result)
            for name, of_class in by_class.items():
                own = Summary.of(of_class)
                iou = Interval.of([r.iou for r in of_class]).mean
                row = [name, len(of_class), f"{iou:.4f}", f"{own.class_iou.mean:.4f}"]
                writer.writerow(row)
        # Evenly over the classes in name order: neither the best nor the worst.
        spread = np.linspace(0, len(examples) - 1, min(_PICTURES, len(examples)))
        sheet([examples[int(i)] for i in spread]).save(output_dir / "predictions.png")
    except OSError as error:
        raise UserError(
            f"cannot write to --output_dir {output_dir}: {error.strerror}; choose a "
            "folder that you may write to"
        ) from error
    return summary


def _warn_of_tuning_classes(tuned: Tuned, protocol: Protocol) -> None:
    overlap = protocol.split in tuned.split.split(",") or ALL in (
        protocol.split,
        tuned.split,
    )
    if tuned.dataset == protocol.dataset and overlap:
        print(
            f"note: the values were tuned on {tuned.dataset}/{tuned.split}, so what "
            f"{protocol.dataset}/{protocol.split} says of them is too good"
        )


def main() -> None:
    """Evaluates --model_path as the flags say."""
    if not flags.FLAGS.model_path:
        raise UserError("--model_path is needed: a run's folder or a .keras file")
    config = flags.read(EvalConfig)
    path = flags.FLAGS.model_path
    network, weights, run = load_model(path, tuned=False)
    if weights.rates and "inner_learning_rate" in flags.given(run.learner):
        raise UserError(
            f"--inner_learning_rate has no effect: {path} learned its rates; leave it "
            "out"
        )
    tuned = load_tuned(path, weights) if flags.FLAGS.tuned else None
    if tuned is not None:
        weights, run = adjust(tuned.values, network, weights, run)
        print(f"tuned values are used, --tuned=false ignores them: {tuned}")
        for name in sorted({*tuned.values} & {*flags.given(run.learner)}):
            print(f"--{name} overrides the tuned value")
    run = dataclasses.replace(
        run, data=flags.override(run.data), learner=flags.override(run.learner)
    )
    model_path = Path(path)
    beside = model_path if model_path.is_dir() else model_path.parent
    output_dir = Path(flags.FLAGS.output_dir or beside / "eval")
    protocol, results, examples = meta_test(network, weights, run, config)
    protocol = dataclasses.replace(protocol, tuned=tuned is not None)
    if tuned is not None:
        _warn_of_tuning_classes(tuned, protocol)
    summary = write_results(output_dir, protocol, results, examples)
    rate = "learned rates"
    if not protocol.learned_rates:
        rate = f"{protocol.inner_learning_rate:g}"
    sparse = "" if protocol.points == DENSE else f" of {protocol.points} points"
    statistics = protocol.batch_norm
    if protocol.transductive:
        statistics += ", TRANSDUCTIVE (query batch statistics)"
    print(
        f"{protocol.dataset}/{protocol.split}: {protocol.classes} classes, "
        f"{protocol.shots}-shot{sparse}, {len(results)} tasks, "
        f"{protocol.inner_steps} steps at {rate}, batch norm {statistics}"
    )
    print(summary.table())
    print(f"written: {output_dir}/summary.json, per_class.csv, predictions.png")


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(DataConfig, EvalConfig)
    flags.define(LearnerConfig, only=INNER_LOOP)
    flags.define_text("model_path", "", "A run's folder, or a .keras file.")
    flags.define_text(
        "output_dir",
        "",
        "Where results go; if empty, eval/ in the run's folder or beside the file.",
    )
    flags.define_switch(
        "tuned", "Use what efficientlab_tf.tune left with the model.", default=True
    )


if __name__ == "__main__":
    define_flags()
    flags.run(main)
