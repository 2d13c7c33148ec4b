"""Shows the whole thing once: meta-train, then learn classes never seen before.

    python -m efficientlab_tf.quickstart --flagfile=flags/quickstart.flags

Meta-trains (or resumes, if it was stopped), then adapts to every held-out class
twice, from the untrained and from the meta-learned initialization, with the
same support sets, steps and learning rate, and compares.
"""

from pathlib import Path

import numpy as np

from efficientlab_tf import flags
from efficientlab_tf.config import (
    DataConfig,
    EvalConfig,
    LearnerConfig,
    ModelConfig,
    TrainConfig,
)
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluate import meta_test, write_results
from efficientlab_tf.metrics import Summary
from efficientlab_tf.pictures import contact_sheet
from efficientlab_tf.training.checkpoints import load_model
from efficientlab_tf.training.evaluation import marked
from efficientlab_tf.training.loop import train
from efficientlab_tf.training.run import MODEL_FILE, RunConfig, build_network

_PICTURES = 8


def comparison_sheet(untrained: list, learned: list):
    """Draws one row a class: both predictions beside support and truth."""
    rows, captions = [], []
    spread = np.linspace(0, len(learned) - 1, min(_PICTURES, len(learned)))
    for i in (int(x) for x in spread):
        before, after = untrained[i], learned[i]
        rows.append(
            [
                marked(after.support_image, after.support_mask),
                after.query_image,
                marked(after.query_image, after.query_mask),
                marked(before.query_image, before.predicted),
                marked(after.query_image, after.predicted),
            ]
        )
        captions.append(f"{before.caption} -> {after.caption.rsplit(' ', 1)[1]}")
    return contact_sheet(
        rows,
        row_captions=captions,
        column_captions=[
            "support",
            "query",
            "ground truth",
            "untrained",
            "meta-learned",
        ],
        cell=128,
    )


def main() -> None:
    """Trains, compares and says where everything is."""
    config = RunConfig(
        flags.read(DataConfig),
        flags.read(ModelConfig),
        flags.read(LearnerConfig),
        flags.read(TrainConfig),
    )
    if not config.train.run_dir:
        raise UserError("--run_dir is needed: a folder for checkpoints and logs")
    run_dir = Path(config.train.run_dir)
    if (run_dir / MODEL_FILE).is_file() and RunConfig.load(run_dir) != config:
        raise UserError(
            f"{run_dir} holds a run with other flags; delete it or choose another "
            "--run_dir"
        )
    resume = any((run_dir / "checkpoints").glob("*.index"))
    if resume:
        print(f"{run_dir} holds a run already: continuing it (delete it to start over)")
    if not train(config, resume=resume):
        return

    evaluation = flags.read(EvalConfig)
    network, learned, _ = load_model(str(run_dir))
    untrained = build_network(config.model, config.train.seed).weights()
    summaries, examples = [], []
    for name, weights in (("untrained", untrained), ("meta-learned", learned)):
        protocol, results, shown = meta_test(
            network, weights, config, evaluation, label=f"{name:>12}"
        )
        write_results(run_dir / f"eval_{name}", protocol, results, shown)
        summaries.append(Summary.of(results))
        examples.append(shown)
    sheet_path = run_dir / "predictions.png"
    comparison_sheet(*examples).save(sheet_path)

    before, after = (s.per_image_iou for s in summaries)
    print(
        f"\n{protocol.classes} classes held out of training, {protocol.shots} labelled "
        f"pictures each, {len(results)} tasks, mean IoU with 95% confidence interval:\n"
        f"  adapted from the untrained initialization     {before} %\n"
        f"  adapted from the meta-learned initialization  {after} %\n"
        f"  difference                                    "
        f"{100 * (after.mean - before.mean):+.2f} points\n\n"
        f"pictures:     {sheet_path}\n"
        f"TensorBoard:  tensorboard --logdir {run_dir / 'logs'}\n"
        f"model:        {run_dir / MODEL_FILE}"
    )


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(DataConfig, ModelConfig, LearnerConfig, TrainConfig, EvalConfig)


if __name__ == "__main__":
    define_flags()
    flags.run(main)
