"""Learns from your labelled pictures and segments others.

    python -m efficientlab_tf.adapt --support=DIR --query=DIR --output=results

--support is a folder of pictures with masks, or what LabelMe, COCO, CVAT or Label
Studio exported. Within --budget it tries what comes with the package, chooses by
keeping labelled pictures aside, and says how good masks of new pictures will be.
--model takes a model of your choice instead; settings of its inner loop that are not
given come from the model. Writes masks/, overlays/, contact_sheet.png, summary.json and
label_next.txt into --output, and with --annotations what annotation tools read. Files
that cannot be read are named, the others done; then the exit status is 1.
"""

import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tqdm import tqdm

from efficientlab_tf import flags
from efficientlab_tf.api.automatic import AUTO_METHOD, METHODS, AutomaticModel
from efficientlab_tf.api.loading import load
from efficientlab_tf.api.model import AUTO
from efficientlab_tf.automatic.report import described, document_of
from efficientlab_tf.automatic.search import Progress
from efficientlab_tf.config import BUT_STEPS, OWN, Settings, setting
from efficientlab_tf.config.settings import check, seed
from efficientlab_tf.data.annotations import Support, read_support
from efficientlab_tf.data.annotations.export import listed
from efficientlab_tf.data.mask_readings import MASK_VALUES
from efficientlab_tf.data.sources.folder import IMAGES, MASKS, within
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import make_writable
from efficientlab_tf.inference import segmenting
from efficientlab_tf.inference.annotations import (
    ANNOTATIONS,
    FORMATS,
    check_free,
    write_annotations,
)
from efficientlab_tf.inference.queries import Truth, find_queries
from efficientlab_tf.inference.results import (
    LABEL_NEXT,
    SHEET,
    SUMMARY,
    Results,
    describe_support,
)
from efficientlab_tf.segmenters.adaptation import (
    MAX_AUTO_STEPS,
    PATIENCE,
    Step,
    StepSearch,
)
from efficientlab_tf.segmenters.baselines import BASELINES

MODELS_OWN = "model"
_OWN = (MODELS_OWN, "checkpoint", "")
_NAMES = 20
NO_BUDGET = "none"
_SECONDS_TO_FIT, _SECONDS_A_QUERY = 3.0, 0.5
"""Of the budget, for what comes after the search."""
_LEAST_SEARCH = 5.0


@dataclasses.dataclass(frozen=True)
class AdaptConfig:
    """The command line of this command; paths, and how to adapt."""

    model: str = setting(
        "",
        "Take this model, and do not search: "
        + flags.MODEL_HELP[:1].lower()
        + flags.MODEL_HELP[1:],
    )
    method: str = setting(
        AUTO_METHOD,
        "auto tries all that comes with the package and chooses; meta_learned takes "
        "the network that learns in closed form, at several sizes, choosing nothing; "
        "linear tries linear classifiers of ImageNet's features alone; or one of the "
        "methods that `compare` knows, as it is.",
        (*METHODS, *BASELINES),
    )
    budget: str = setting(
        "60s",
        "What the whole command may take, so that the search ends in time: seconds, "
        "or none to try all candidates, which makes the choice a function of the "
        "seed alone.",
    )
    support: str = setting(
        "",
        "Labelled pictures: a folder with images/ and masks/, or pictures 1.jpg with "
        "masks 1.png, or an export as a folder, JSON, XML or ZIP: LabelMe, COCO, CVAT "
        "(Segmentation mask 1.1, CVAT for images 1.1), Label Studio (JSON).",
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
    threshold: float | None = setting(
        None,
        "Foreground probability above which a pixel counts, for one class. If not "
        "given: found by the search, or 0.5 with a model.",
        above=0,
        below=1,
    )
    annotations: str = setting(
        "",
        "Also write the predictions into annotations/ as annotation tools read them, "
        f"to be corrected there: {', '.join(FORMATS)}; several are joined "
        "by commas (docs/outputs.md).",
    )
    save: str = setting("", "Also write what was learned to this .keras file.")
    seed: int = seed("Of the held-out part, mini-batches and augmentation.")
    verbose: bool = setting(
        False, "Say at the end where the time went, from the start of the process on."
    )

    def __post_init__(self):
        check(self)
        if self.save and Path(self.save).suffix != ".keras":
            raise UserError(f"`save` must end in .keras, received {self.save}")
        if self.steps not in (AUTO, *_OWN) and not self.steps.isdecimal():
            raise UserError(
                f"`steps` must be a number, {AUTO} or {MODELS_OWN}, received "
                f"{self.steps!r}"
            )

        if self.model and self.method != AUTO_METHOD:
            raise UserError("give `model` or `method`, not both")
        self.seconds()
        for name in self.annotation_formats:
            if name not in FORMATS:
                raise UserError(
                    f"`annotations` must be of {', '.join(FORMATS)}, joined "
                    f"by commas, received {self.annotations!r}"
                )

    def seconds(self) -> float:
        """`budget` as a number; infinite without one."""
        text = self.budget.strip().lower()
        try:
            seconds = np.inf if text == NO_BUDGET else float(text.removesuffix("s"))
        except ValueError:
            seconds = 0.0
        if not seconds > 0 or (np.isinf(seconds) and text != NO_BUDGET):
            raise UserError(
                f"`budget` must be seconds, such as 60s, or {NO_BUDGET}, received "
                f"{self.budget!r}"
            )
        return seconds

    @property
    def class_names(self) -> tuple[str, ...]:
        """`classes` as names."""
        return _names(self.classes)

    @property
    def annotation_formats(self) -> tuple[str, ...]:
        """`annotations` as names, each once."""
        return tuple(dict.fromkeys(_names(self.annotations)))

    @property
    def wanted_steps(self) -> int | str | None:
        """`steps` as `Model.adapt` takes it."""
        if self.steps in _OWN:
            return None
        return AUTO if self.steps == AUTO else int(self.steps)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def adapt(config: AdaptConfig, settings: Settings = OWN) -> int:
    """Runs the command.

    Args:
      config: the command line.
      settings: how to adapt, where not as the model says; its steps are not looked at.

    Returns:
      The exit status: 1 if a file could not be read.
    """
    clock = _Clock()
    clock.mark("starting Python and TensorFlow")
    output = _prepare(config)
    queries, notes = find_queries(Path(config.query), config.query_masks, config.pages)
    model = load(config.model or config.method)
    size = None if model.any_size else model.size
    support = read_support(
        config.support,
        size=size,
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
    clock.mark("reading the model and labelled pictures")
    searching = isinstance(model, AutomaticModel)
    how: dict[str, Any]
    if searching:
        print("judging candidates on pictures that they are not shown")
        how = {"budget": _left(config, len(queries)), "on_progress": _show_progress}
    else:
        print(f"adapting to {len(images)} pictures")
        how = {"steps": config.wanted_steps, "on_step": _show}
    if config.threshold is not None:
        how["threshold"] = config.threshold
    adapted = model.adapt(
        images,
        [picture.mask for picture in support.pictures],
        seed=config.seed,
        classes=support.classes,
        settings=settings,
        **how,
    )
    if searching:
        print("\n".join(described(adapted.found, support)))
    else:
        print(f"adapted: {adapted.settings.about}")
    for note in adapted.notes:
        print(f"note: {flags.spelled(note)}")
    clock.mark("learning")
    if config.save:
        adapted.save(config.save)
        print(f"saved: {config.save}")

    results = Results(support, queries)
    known = frozenset(image.tobytes() for image in images)
    judge = segmenting.Judge(known, size, truth)
    stream = segmenting.segment(adapted, queries, output, judge=judge)
    bar = tqdm(stream, "segmenting", len(queries), unit="picture", dynamic_ncols=True)
    with contextlib.closing(stream):
        for result in bar:
            results.add(result)
    clock.mark(f"segmenting {len(queries)} pictures")
    document = {
        "model": config.model or config.method,
        "classes": list(support.classes),
        "support": {
            "path": config.support,
            "format": support.format,
            "pictures": describe_support(support),
        },
        "settings": {
            **dataclasses.asdict(adapted.settings),
            "steps_from": config.steps or MODELS_OWN,
            "threshold": adapted.threshold,
            "image_size": size and list(size),
            "seed": config.seed,
        },
        "search": document_of(adapted.found, support) if searching else None,
        "early_stopping": adapted.search and _trail(adapted.search, support),
        "steps": [dataclasses.asdict(step) for step in adapted.steps],
        "notes": [*support.notes, *notes, *adapted.notes],
    }
    results.write(output, document)
    print("\n".join(results.lines()))
    unsure = [Path(record.file).name for record in results.unsure()]
    if len(unsure) > 1:
        print(f"worth labelling next: {listed(unsure, 3)} ({LABEL_NEXT} has all)")
    print(f"written: {output}/masks, overlays, {SHEET}, {SUMMARY}, {LABEL_NEXT}")
    if formats := config.annotation_formats:
        write_annotations(output, formats, support.classes, results.records, queries)
        folder = output / ANNOTATIONS
        print(f"to correct: {', '.join(str(folder / name) for name in formats)}")
    if config.verbose:
        clock.mark("writing what is left")
        print(clock)
    for failure in results.failures:
        print(f"error: {failure['file']}: {failure['reason']}", file=sys.stderr)
    return 1 if results.failures else 0


class _Clock:
    """Where the time of a process goes, from its start on."""

    def __init__(self):
        self._last = psutil.Process().create_time()
        self._spent: dict[str, float] = {}

    def mark(self, what: str) -> None:
        """Says what was done since the last mark."""
        now = time.time()
        self._spent[what], self._last = now - self._last, now

    def __str__(self) -> str:
        parts = ", ".join(f"{what} {s:.1f} s" for what, s in self._spent.items())
        return f"time: {parts}; {sum(self._spent.values()):.1f} s in all"


def _prepare(config: AdaptConfig) -> Path:
    """Checks the paths and makes the output folder."""
    for name in ("support", "query", "output"):
        if not getattr(config, name):
            raise UserError(f"`{name}` is needed, see --help")
    output = Path(config.output)
    taken = {Path(config.support), Path(config.query)}
    taken |= {within(path, folder) for path in taken for folder in (IMAGES, MASKS)}
    if config.query_masks:
        taken.add(Path(config.query_masks))
    folders = {output, output / segmenting.MASKS, output / segmenting.OVERLAYS}
    if {path.resolve() for path in folders} & {path.resolve() for path in taken}:
        raise UserError(
            f"`output` {output} would write into the input; choose another folder"
        )
    check_free(output, config.annotation_formats)
    for folder in (output, Path(config.save).parent if config.save else output):
        make_writable(folder)
    return output


def _left(config: AdaptConfig, queries: int) -> float:
    """Seconds of the budget that remain for the search."""
    since_start = time.time() - psutil.Process().create_time()
    reserved = _SECONDS_TO_FIT + _SECONDS_A_QUERY * queries
    return max(_LEAST_SEARCH, config.seconds() - since_start - reserved)


def _show_progress(progress: Progress) -> None:
    left = ""
    if np.isfinite(progress.seconds_left):
        left = f", {max(progress.seconds_left, 0):.0f} s left"
    print(f"  {100 * progress.score:5.1f} % IoU  {progress.name}{left}")


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
