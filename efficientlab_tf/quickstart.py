"""Shows the whole thing once: meta-train, then learn classes never seen before.

    python -m efficientlab_tf.quickstart --flagfile=flags/quickstart.flags

Meta-trains (or resumes, if it was stopped), then adapts to every held-out class
from the untrained and from the meta-learned initialization, with the same
support sets, steps and learning rate, and compares.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from efficientlab_tf import flags
from efficientlab_tf.api.loading import load
from efficientlab_tf.api.networks import network_model
from efficientlab_tf.checkpoint.run import MODEL_FILE, RunConfig, build_network
from efficientlab_tf.checkpoint.series import resumable
from efficientlab_tf.config import (
    DataConfig,
    EvalConfig,
    LearnerConfig,
    ModelConfig,
    Settings,
    TrainConfig,
)
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import (
    COLUMNS,
    Row,
    meta_test,
    write_results,
)
from efficientlab_tf.metrics import Summary
from efficientlab_tf.pictures import contact_sheet
from efficientlab_tf.train import config_from_flags
from efficientlab_tf.training.loop import train

_PICTURES = 8


def comparison_sheet(untrained: list[Row], learned: list[Row]) -> Image.Image:
    """Draws one row a class: both predictions beside support and truth."""
    rows, captions = [], []
    spread = np.linspace(0, len(learned) - 1, min(_PICTURES, len(learned)))
    for i in (int(x) for x in spread):
        (caption, before), (own_caption, after) = untrained[i], learned[i]
        rows.append([*after[:3], before[3], after[3]])
        captions.append(f"{caption} -> {own_caption.rsplit(' ', 1)[1]}")
    return contact_sheet(
        rows,
        row_captions=captions,
        column_captions=[*COLUMNS[:3], "untrained", "meta-learned"],
    )


def main() -> None:
    """Trains, compares and says where everything is."""
    config = config_from_flags()
    if not config.train.run_dir:
        raise UserError("`run_dir` is needed: a folder for checkpoints and logs")
    run_dir = Path(config.train.run_dir)
    resume = bool(resumable(run_dir))
    if resume and RunConfig.load(run_dir) != config:
        raise UserError(
            f"{run_dir} holds a run with other flags; delete it or choose another "
            "`run_dir`"
        )
    if resume:
        print(f"{run_dir} holds a run already: continuing it (delete it to start over)")
    if not train(config, resume=resume):
        return

    evaluation = flags.read(EvalConfig)
    learned = load(str(run_dir), tuned=False)
    untrained = build_network(config.model, config.train.seed).weights()
    untrained = learned.checkpoint._replace(weights=untrained)
    models = {
        "untrained": network_model("untrained", untrained),
        "meta-learned": learned,
    }
    # An untrained network has no running averages worth the name, so it is also
    # given those of the support set, and each is credited with its better one.
    best: dict[str, tuple[Summary, list]] = {}
    table = []
    for name, model in models.items():
        for mode in ("running", "support"):
            protocol, results, shown = meta_test(
                *(model, config.data, evaluation),
                settings=Settings(batch_norm=mode),
                seed=config.train.seed,
                label=f"{name}, {mode} statistics",
            )
            folder = run_dir / f"eval_{name}_{mode}"
            summary = write_results(folder, protocol, results, shown)
            table.append(f"  {name:<14}{mode:<12}{summary.per_image_iou} %")
            score = summary.per_image_iou.mean
            if name not in best or score > best[name][0].per_image_iou.mean:
                best[name] = summary, shown
    sheet_path = run_dir / "predictions.png"
    comparison_sheet(*(shown for _, shown in best.values())).save(sheet_path)

    before, after = (s.per_image_iou.mean for s, _ in best.values())
    lines = "\n".join(table)
    print(
        f"\n{protocol.classes} classes held out of training, {protocol.shots} labelled "
        f"pictures each, {protocol.steps} steps of adaptation:\n"
        f"  adapted from  batch norm  mean IoU with 95% confidence interval\n{lines}\n"
        f"meta-learning gained {100 * (after - before):.1f} points, better statistics "
        f"of each compared\n\n"
        f"pictures:     {sheet_path}\n"
        f"TensorBoard:  tensorboard --logdir {run_dir / 'logs'}\n"
        f"model:        {run_dir / MODEL_FILE}"
    )


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(DataConfig, ModelConfig, LearnerConfig, TrainConfig, EvalConfig)
    flags.alias(model="network", val_batch_norm="batch_norm")


if __name__ == "__main__":
    define_flags()
    flags.run(main)
