"""Adapts a learned initialization to your labelled pictures and segments others.

    python -m efficientlab_tf.adapt --model=runs/mine --support=DIR --query=DIR \\
        --output=results

--support is a folder of pictures with masks, or what LabelMe, COCO, CVAT or Label
Studio exported. Writes masks/, overlays/, contact_sheet.png and summary.json into
--output. Files that cannot be read are named, the others done; then the exit status
is 1. Settings of the inner loop that are not given come from the checkpoint.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from efficientlab_tf import flags
from efficientlab_tf.checkpoint.files import load_model, save_keras
from efficientlab_tf.checkpoint.run import RunConfig, build_functions
from efficientlab_tf.config import LearnerConfig, setting
from efficientlab_tf.data.annotations import Support, read_support
from efficientlab_tf.data.annotations.export import listed
from efficientlab_tf.data.annotations.mask_files import MASK_VALUES
from efficientlab_tf.data.sources.folder import IMAGES, MASKS
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference import segmenting
from efficientlab_tf.inference.queries import Truth, find_queries
from efficientlab_tf.inference.results import SHEET, SUMMARY, Results, describe_support
from efficientlab_tf.models.conditioned import is_conditioned
from efficientlab_tf.segmenters.adaptation import (
    MAX_AUTO_STEPS,
    PATIENCE,
    Practice,
    Search,
    Step,
    for_classes,
    held_out,
)
from efficientlab_tf.segmenters.network import Network, Weights

INNER_LOOP = ("inner_batch", "loss", "l2", "augment_rate", "adapt")
"""What of a checkpoint's inner loop the command line may change."""
AUTO, CHECKPOINT = "auto", "checkpoint"
WHOLE_SUPPORT, MINI_BATCH = 32, 8
"""A checkpoint that takes the whole support set at each step takes so many at most;
of more, mini-batches."""

_NAMES = 20


@dataclasses.dataclass(frozen=True)
class AdaptConfig:
    """The command line of this command; paths, and how to adapt."""

    model: str = setting("", "The initialization: a run's folder, or a .keras file.")
    support: str = setting(
        "",
        "Labelled pictures: a folder with images/ and masks/, or pictures 1.jpg with "
        "masks 1.png, or an export as a folder, JSON or ZIP: LabelMe, COCO, CVAT "
        "(Segmentation mask 1.1), Label Studio (JSON).",
    )
    query: str = setting("", "Pictures to segment: a folder, or one file.")
    output: str = setting("", "Folder for masks/, overlays/ and summary.json.")
    query_masks: str = setting(
        "",
        "Folder of masks that the predictions are judged by, of the same names; empty "
        "looks beside the queries as beside the support, none does not look.",
    )
    classes: str = setting(
        "",
        "Classes of the support set to learn, joined by commas; all others become "
        "background. Empty: all.",
    )
    mask_values: str = setting(
        "auto",
        "What mask files hold: an object (grey levels from 128 on), or the index of "
        "each pixel's class (255: unknown). auto looks.",
        MASK_VALUES,
    )
    steps: str = setting(
        CHECKPOINT,
        "Steps of adaptation: a number; checkpoint (or 0): as the checkpoint was "
        "trained or tuned; auto: early stopping on a fifth of the support set "
        f"(patience {PATIENCE}, at most {MAX_AUTO_STEPS} steps), then as many steps "
        "on all of it.",
    )
    learning_rate: float = setting(
        0.0, "Of the inner loop; 0: as the checkpoint was trained or tuned."
    )
    batch_norm: str = setting(
        "support",
        "Statistics of batch normalization when predicting: those of the support set "
        "under the adapted weights, or running averages (the paper).",
        ("support", "running"),
    )
    threshold: float = setting(
        0.5, "Foreground probability above which a pixel counts, for one class."
    )
    save: str = setting("", "Also write the adapted network to this .keras file.")
    seed: int = setting(0, "Of the held-out part, mini-batches and augmentation.")

    def __post_init__(self):
        if self.learning_rate < 0:
            raise UserError(
                f"--learning_rate must not be negative, received {self.learning_rate}"
            )
        if not 0 < self.threshold < 1:
            raise UserError(
                f"--threshold must be between 0 and 1, received {self.threshold}"
            )
        if self.save and Path(self.save).suffix != ".keras":
            raise UserError(f"--save must end in .keras, received {self.save}")
        if self.steps not in ("", AUTO, CHECKPOINT) and not self.steps.isdecimal():
            raise UserError(
                f"--steps must be a number, {AUTO} or {CHECKPOINT}, received "
                f"{self.steps!r}"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """`classes` as names."""
        return tuple(name.strip() for name in self.classes.split(",") if name.strip())

    @property
    def given_steps(self) -> int:
        """The number of steps that was given; 0 if none was."""
        return int(self.steps) if self.steps.isdecimal() else 0


def adapt(config: AdaptConfig, changes: dict[str, Any] | None = None) -> int:
    """Runs the command.

    Args:
      config: the command line.
      changes: fields of the checkpoint's `LearnerConfig` to replace, of `INNER_LOOP`.

    Returns:
      The exit status: 1 if a file could not be read.

    Raises:
      UserError: bad input.
    """
    output = _prepare(config)
    queries, query_notes = find_queries(Path(config.query), config.query_masks)
    network, weights, run = load_model(config.model)
    if weights.rates and config.learning_rate:
        raise UserError(
            f"--learning_rate has no effect: {config.model} learned its rates; leave "
            "it out"
        )
    forward = is_conditioned(network.model)
    if forward:
        _check_forward(config)
    size = network.image_shape[:2]
    support = read_support(
        config.support,
        size=size,
        classes=config.class_names,
        mask_values=config.mask_values,
    )
    masks = [query.mask for query in queries if query.mask]
    truth = Truth(support, masks, config.mask_values) if masks else None
    notes = [*support.notes, *query_notes]
    learner = dataclasses.replace(run.learner, **(changes or {}))
    learner = _settled(
        config, learner, support, "inner_batch" in (changes or {}), notes
    )
    run = dataclasses.replace(run, learner=learner)
    if network.classes != len(support.classes) and not forward:
        notes.append(
            f"the model tells {network.classes} class(es) apart; its head was copied "
            f"to {len(support.classes)}"
        )
        network, weights = for_classes(network, weights, len(support.classes))
        model = dataclasses.replace(run.model, num_classes=network.classes)
        run = dataclasses.replace(run, model=model)
    for note in notes:
        print(f"note: {note}")
    print(
        f"support: {len(support.pictures)} pictures ({support.format}); classes: "
        f"{listed(support.classes, _NAMES)}"
    )
    practice = Practice(
        build_functions(learner, network),
        weights,
        learner.inner_learning_rate,
        config.batch_norm,
        config.threshold,
        config.seed,
    )
    images = np.stack([picture.image for picture in support.pictures])
    labels = np.stack([picture.mask for picture in support.pictures])
    search = _search(config, practice, support, images, labels)
    steps = search.steps if search else config.given_steps or learner.inner_steps
    rate = "learned rates" if weights.rates else f"{learner.inner_learning_rate:g}"
    how = f"{steps} steps at {rate}, batch norm {config.batch_norm}"
    if forward:
        steps, how = 0, "a forward pass"
    print(f"adapting to {len(images)} pictures: {how}")
    adaptation = practice.adapt(images, labels, steps, _shown("support IoU"))
    if config.save:
        learner = dataclasses.replace(learner, inner_steps=steps)
        run = dataclasses.replace(run, learner=learner)
        _save(Path(config.save), network, adaptation.adapted.weights, run)
        print(f"saved: {config.save}")

    results = Results(support, queries)
    segmented = segmenting.segment(
        adaptation.adapted,
        queries,
        truth,
        size=size,
        classes=len(support.classes),
        threshold=config.threshold,
        support=images,
        failed=results.fail,
    )
    with tqdm(
        total=len(queries), desc="segmenting", unit="picture", dynamic_ncols=True
    ) as bar:
        for result in segmented:
            segmenting.write(result, output)
            results.add(result)
            bar.update(len(results.records) + len(results.failures) - bar.n)
    document = {
        "model": config.model,
        "classes": list(support.classes),
        "support": {
            "path": config.support,
            "format": support.format,
            "pictures": describe_support(support),
        },
        "settings": _settings(config, learner, weights, steps, size),
        "early_stopping": search and _trail(search, support),
        "steps": [dataclasses.asdict(step) for step in adaptation.trail],
        "notes": notes,
    }
    results.write(output, document)
    print("\n".join(results.lines()))
    print(f"written: {output}/masks, overlays, {SHEET}, {SUMMARY}")
    for failure in results.failures:
        print(f"error: {failure['file']}: {failure['reason']}", file=sys.stderr)
    return 1 if results.failures else 0


def _prepare(config: AdaptConfig) -> Path:
    """Checks the paths and makes the output folder."""
    for name in ("model", "support", "query", "output"):
        if not getattr(config, name):
            raise UserError(f"--{name} is needed, see --help")
    output = Path(config.output)
    taken = {Path(config.support), Path(config.query)}
    taken |= {path / folder for path in taken for folder in (IMAGES, MASKS)}
    if config.query_masks:
        taken.add(Path(config.query_masks))
    folders = {output, output / segmenting.MASKS, output / segmenting.OVERLAYS}
    if {path.resolve() for path in folders} & {path.resolve() for path in taken}:
        raise UserError(
            f"--output {output} would write into the input; choose another folder"
        )
    for folder in (output, Path(config.save).parent if config.save else output):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise UserError(
                f"cannot write to {folder}: {error.strerror}; choose a folder that you "
                "may write to"
            ) from error
    return output


def _check_forward(config: AdaptConfig) -> None:
    """Checks that nothing is asked for that only an inner loop has."""
    given = {
        "steps": config.steps not in ("", CHECKPOINT),
        "learning_rate": config.learning_rate,
        "save": config.save,
    }
    for name, value in given.items():
        if value:
            raise UserError(
                f"--{name} has no effect: {config.model} adapts in a forward pass, "
                "without steps and without changing its weights; leave it out"
            )


def _settled(
    config: AdaptConfig,
    learner: LearnerConfig,
    support: Support,
    batch_given: bool,
    notes: list[str],
) -> LearnerConfig:
    """Returns the inner loop's settings with nothing left to default."""
    if config.learning_rate:
        learner = dataclasses.replace(learner, inner_learning_rate=config.learning_rate)
    count = len(support.pictures)
    if not learner.inner_batch and count > WHOLE_SUPPORT and not batch_given:
        learner = dataclasses.replace(learner, inner_batch=MINI_BATCH)
        notes.append(
            f"mini-batches of {MINI_BATCH}: the checkpoint takes the whole support set "
            f"at each step, but {count} pictures are many (--inner_batch=0 takes them)"
        )
    return learner


def _search(
    config: AdaptConfig,
    practice: Practice,
    support: Support,
    images: np.ndarray,
    labels: np.ndarray,
) -> Search | None:
    """Finds the number of steps, if it is to be found and can be."""
    if config.steps != AUTO:
        return None
    spared = held_out(labels, config.seed)
    if not spared:
        print(
            "--steps=auto needs two labelled pictures of each class, one to hold out; "
            "taking the steps of the checkpoint instead"
        )
        return None
    names = listed(support.pictures[i].name for i in spared)
    print(f"looking for the number of steps; held out: {names}")
    search = practice.search(images, labels, spared, _shown("held-out IoU"))
    if search.steps == MAX_AUTO_STEPS:
        print(f"still better at {MAX_AUTO_STEPS} steps; --steps=N takes more")
    return search


def _shown(what: str) -> Callable[[Step], None]:
    def show(step: Step) -> None:
        loss = f"loss {step.loss:8.4f}" if step.loss is not None else " " * 13
        print(f"  step {step.step:3d}  {loss}  {what} {100 * step.iou:5.1f} %")

    return show


def _save(path: Path, network: Network, weights: Weights, run: RunConfig) -> None:
    try:
        save_keras(path, network, weights, run)
    except OSError as error:
        raise UserError(f"cannot write --save {path}: {error.strerror or error}") from (
            error
        )


def _settings(
    config: AdaptConfig,
    learner: LearnerConfig,
    weights: Weights,
    steps: int,
    size: tuple[int, int],
) -> dict[str, Any]:
    """What the result depends on beside the pictures."""
    return {
        "steps": steps,
        "steps_from": config.steps or CHECKPOINT,
        "learning_rate": None if weights.rates else learner.inner_learning_rate,
        "learned_rates": bool(weights.rates),
        **{name: getattr(learner, name) for name in INNER_LOOP},
        "batch_norm": config.batch_norm,
        "threshold": config.threshold,
        "image_size": list(size),
        "seed": config.seed,
    }


def _trail(search: Search, support: Support) -> dict[str, Any]:
    """What summary.json says of the search for the number of steps."""
    return {
        "steps": search.steps,
        "held_out": [support.pictures[i].name for i in search.held_out],
        "trail": [dataclasses.asdict(step) for step in search.trail],
    }


def main() -> int:
    """Adapts as the flags say."""
    config = flags.read(AdaptConfig)
    return adapt(config, flags.given(LearnerConfig()))


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(AdaptConfig)
    flags.define(LearnerConfig, only=INNER_LOOP)


if __name__ == "__main__":
    define_flags()
    flags.run(main)
