"""Adapts a learned initialization to your labelled pictures and segments others.

    python -m efficientlab_tf.adapt --model=icons_fomaml_lite0 \\
        --support=DIR --query=DIR --output=results

--support is a folder of pictures with masks, or what LabelMe, COCO, CVAT or Label
Studio exported. Writes masks/, overlays/, contact_sheet.png and summary.json into
--output. Files that cannot be read are named, the others done; then the exit status
is 1. Settings of the inner loop that are not given come from the model.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from efficientlab_tf import flags
from efficientlab_tf.api.loading import load
from efficientlab_tf.api.model import AUTO
from efficientlab_tf.config import BUT_STEPS, OWN, Settings, setting
from efficientlab_tf.config.settings import check, seed
from efficientlab_tf.data.annotations import Support, read_support
from efficientlab_tf.data.annotations.export import listed
from efficientlab_tf.data.mask_readings import MASK_VALUES
from efficientlab_tf.data.sources.folder import IMAGES, MASKS
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import make_writable
from efficientlab_tf.inference import segmenting
from efficientlab_tf.inference.queries import Truth, find_queries
from efficientlab_tf.inference.results import SHEET, SUMMARY, Results, describe_support
from efficientlab_tf.segmenters.adaptation import (
    MAX_AUTO_STEPS,
    PATIENCE,
    Step,
    StepSearch,
)

MODELS_OWN = "model"
_OWN = (MODELS_OWN, "checkpoint", "")
_NAMES = 20


@dataclasses.dataclass(frozen=True)
class AdaptConfig:
    """The command line of this command; paths, and how to adapt."""

    model: str = setting("", flags.MODEL_HELP)
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
        "What mask files hold: an object that is bright (object: grey levels from 128 "
        "on) or dark (dark), the number of each pixel's class (index; 255: unknown), a "
        "number for each instance (instances), a colour for each class on black "
        "(colors), or what is opaque (alpha). auto looks, and says what it took them "
        "for.",
        MASK_VALUES,
    )
    pages: str = setting(
        "first",
        "Of TIFF files of several pages and animations among the queries: segment the "
        "first, or all.",
        ("first", "all"),
    )
    steps: str = setting(
        MODELS_OWN,
        "Steps of adaptation: a number (0: the initialization as it is); model: as the "
        "model was trained or tuned; auto: early stopping on a fifth of the support "
        f"set (patience {PATIENCE}, at most {MAX_AUTO_STEPS} steps), then as many "
        "steps on all of it.",
    )
    threshold: float = setting(
        0.5,
        "Foreground probability above which a pixel counts, for one class.",
        above=0,
        below=1,
    )
    save: str = setting("", "Also write the adapted network to this .keras file.")
    seed: int = seed("Of the held-out part, mini-batches and augmentation.")

    def __post_init__(self):
        check(self)
        if self.save and Path(self.save).suffix != ".keras":
            raise UserError(f"`save` must end in .keras, received {self.save}")
        if self.steps not in (AUTO, *_OWN) and not self.steps.isdecimal():
            raise UserError(
                f"`steps` must be a number, {AUTO} or {MODELS_OWN}, received "
                f"{self.steps!r}"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """`classes` as names."""
        return tuple(name.strip() for name in self.classes.split(",") if name.strip())

    @property
    def wanted_steps(self) -> int | str | None:
        """`steps` as `Model.adapt` takes it."""
        if self.steps in _OWN:
            return None
        return AUTO if self.steps == AUTO else int(self.steps)


def adapt(config: AdaptConfig, settings: Settings = OWN) -> int:
    """Runs the command.

    Args:
      config: the command line.
      settings: how to adapt, where not as the model says; its steps are not looked at.

    Returns:
      The exit status: 1 if a file could not be read.
    """
    output = _prepare(config)
    queries, notes = find_queries(Path(config.query), config.query_masks, config.pages)
    model = load(config.model)
    support = read_support(
        config.support,
        size=model.size,
        classes=config.class_names,
        mask_values=config.mask_values,
    )
    masks = [query.mask for query in queries if query.mask]
    truth = Truth(support, masks, config.mask_values) if masks else None
    for note in (*support.notes, *notes):
        print(f"note: {flags.spelled(note)}")
    names = listed(support.classes, _NAMES)
    images = [picture.image for picture in support.pictures]
    print(f"support: {len(images)} pictures ({support.format}); classes: {names}")
    print(f"adapting to {len(images)} pictures")
    adapted = model.adapt(
        images,
        [picture.mask for picture in support.pictures],
        steps=config.wanted_steps,
        seed=config.seed,
        classes=support.classes,
        threshold=config.threshold,
        on_step=_show,
        settings=settings,
    )
    print(f"adapted: {adapted.settings.about}")
    for note in adapted.notes:
        print(f"note: {flags.spelled(note)}")
    if config.save:
        adapted.save(config.save)
        print(f"saved: {config.save}")

    results = Results(support, queries)
    segmented = segmenting.segment(
        adapted, queries, truth, support=images, failed=results.fail
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
        "settings": {
            **dataclasses.asdict(adapted.settings),
            "steps_from": config.steps or MODELS_OWN,
            "threshold": config.threshold,
            "image_size": list(model.size),
            "seed": config.seed,
        },
        "early_stopping": adapted.search and _trail(adapted.search, support),
        "steps": [dataclasses.asdict(step) for step in adapted.steps],
        "notes": [*support.notes, *notes, *adapted.notes],
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
            raise UserError(f"`{name}` is needed, see --help")
    output = Path(config.output)
    taken = {Path(config.support), Path(config.query)}
    taken |= {path / folder for path in taken for folder in (IMAGES, MASKS)}
    if config.query_masks:
        taken.add(Path(config.query_masks))
    folders = {output, output / segmenting.MASKS, output / segmenting.OVERLAYS}
    if {path.resolve() for path in folders} & {path.resolve() for path in taken}:
        raise UserError(
            f"`output` {output} would write into the input; choose another folder"
        )
    for folder in (output, Path(config.save).parent if config.save else output):
        make_writable(folder)
    return output


def _show(step: Step) -> None:
    loss = f"loss {step.loss:8.4f}" if step.loss is not None else " " * 13
    what = "held-out IoU" if step.searching else "support IoU"
    print(f"  step {step.step:3d}  {loss}  {what} {100 * step.iou:5.1f} %")


def _trail(search: StepSearch, support: Support) -> dict[str, Any]:
    """What summary.json says of the search for the number of steps."""
    held_out = [support.pictures[i].name for i in search.held_out]
    return dataclasses.asdict(search) | {"held_out": held_out}


def main() -> int:
    """Adapts as the flags say."""
    return adapt(flags.read(AdaptConfig), flags.read(Settings, only=BUT_STEPS))


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(AdaptConfig)
    flags.define(Settings, only=BUT_STEPS)


if __name__ == "__main__":
    define_flags()
    flags.run(main)
