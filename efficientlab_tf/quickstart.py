"""Shows the whole thing once: meta-train, then learn classes never seen before.

    python -m efficientlab_tf.quickstart --flagfile=flags/quickstart.flags

Meta-trains (or resumes, if it was stopped). Then every held-out class is learned from a
few labelled pictures by the network as it was before and as it is now, from the same
support sets and in the same way, and so are photographs through a microscope, which
nothing was trained on.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from efficientlab_tf import flags
from efficientlab_tf.api.loading import load
from efficientlab_tf.api.model import Model
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
from efficientlab_tf.data.manifest import SAMPLE_PREFIX
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import (
    COLUMNS,
    Protocol,
    Row,
    meta_test,
    write_results,
)
from efficientlab_tf.metrics import Interval
from efficientlab_tf.pictures import contact_sheet
from efficientlab_tf.train import config_from_flags
from efficientlab_tf.training.loop import train

UNTRAINED, LEARNED = "untrained", "meta-learned"
_PICTURES = 8
_NEW = SAMPLE_PREFIX + "nuclei"


def comparison_sheet(untrained: Sequence[Row], learned: Sequence[Row]) -> Image.Image:
    """Draws one row a class: both predictions beside support and truth."""
    rows, captions = [], []
    for (caption, before), (own_caption, after) in zip(untrained, learned, strict=True):
        rows.append([*after[:3], before[3], after[3]])
        captions.append(f"{caption} -> {own_caption.rsplit(' ', 1)[1]}")
    return contact_sheet(
        rows,
        row_captions=captions,
        column_captions=[*COLUMNS[:3], UNTRAINED, LEARNED],
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
    models = {UNTRAINED: network_model(UNTRAINED, untrained), LEARNED: learned}
    told, rows = [], {name: [] for name in models}
    new = dataclasses.replace(config.data, dataset_dir=_NEW, splits="")
    for data, pictures in (config.data, _PICTURES), (new, 2):
        tested = outcomes(models, data, evaluation, run_dir, config.train.seed)
        told.append(report(tested))
        for name, one in tested.items():
            spread = np.linspace(0, len(one.rows) - 1, min(pictures, len(one.rows)))
            rows[name] += [one.rows[int(i)] for i in spread]
    sheet_path = run_dir / "predictions.png"
    comparison_sheet(*rows.values()).save(sheet_path)
    told.append(
        f"pictures:     {sheet_path}\n"
        f"TensorBoard:  tensorboard --logdir {run_dir / 'logs'}\n"
        f"model:        {run_dir / MODEL_FILE}"
    )
    print("", *told, sep="\n\n")


class Outcome(NamedTuple):
    """A network on one dataset.

    Attributes:
      protocol: what the numbers stand for.
      scores: mean IoU and interval, by the statistics of batch normalization; by ""
        for a network that needs none.
      rows: of a sheet, of the best of these.
    """

    protocol: Protocol
    scores: dict[str, Interval]
    rows: list[Row]

    @property
    def best(self) -> Interval:
        """Of the scores."""
        return max(self.scores.values(), key=lambda interval: interval.mean)


def outcomes(
    models: Mapping[str, Model],
    data: DataConfig,
    evaluation: EvalConfig,
    folder: Path,
    seed: int,
) -> dict[str, Outcome]:
    """Meta-tests networks, and writes a folder of results for each of them.

    An untrained network has no running averages worth the name, so one that adapts by
    gradients is also given those of the support set, and credited with the better.

    Args:
      models: the networks by their names.
      data: the dataset and the number of shots.
      evaluation: how it is tested.
      folder: where the folders go.
      seed: of the draws and adaptations.
    """
    found = {}
    for name, model in models.items():
        scores, shown = {}, {}
        for mode in ("running", "support") if model.has_steps else ("",):
            protocol, results, rows = meta_test(
                *(model, data, evaluation),
                settings=Settings(batch_norm=mode or None),
                seed=seed,
                label=" ".join(filter(None, (name, mode))),
            )
            own = "_".join(filter(None, ("eval", protocol.dataset, name, mode)))
            summary = write_results(folder / own, protocol, results, rows)
            scores[mode], shown[mode] = summary.per_image_iou, rows
        best = max(scores, key=lambda mode: scores[mode].mean)
        found[name] = Outcome(protocol, scores, shown[best])
    return found


def report(tested: Mapping[str, Outcome]) -> str:
    """A dataset's table: what each network reached, and what was gained."""
    protocol = tested[LEARNED].protocol
    steps = f", {protocol.steps} steps of adaptation" if protocol.steps else ""
    lines = [
        f"{protocol.dataset}: {protocol.classes} classes held out of training, "
        f"{protocol.shots} labelled pictures each{steps};\n"
        "mean IoU with 95% confidence interval over classes"
    ]
    for name, one in tested.items():
        for mode, iou in one.scores.items():
            lines.append(f"  {name:<14}{mode:<9}{iou} %")
    before, after = (one.best.mean for one in tested.values())
    lines.append(f"meta-learning gained {100 * (after - before):.1f} points")
    return "\n".join(lines)


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(DataConfig, ModelConfig, LearnerConfig, TrainConfig, EvalConfig)
    flags.alias(model="network", val_batch_norm="batch_norm")


if __name__ == "__main__":
    define_flags()
    flags.run(main)
