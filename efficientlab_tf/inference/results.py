"""What a person gets to see of segmented pictures: summary.json and a contact sheet."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from efficientlab_tf.data.annotations import Support
from efficientlab_tf.files import write_text, writing
from efficientlab_tf.inference.queries import Query
from efficientlab_tf.inference.segmenting import MASKS, OVERLAYS, Failed, Segmented
from efficientlab_tf.metrics import Interval, mean_iou, present_iou
from efficientlab_tf.pictures import contact_sheet, marked, with_legend
from efficientlab_tf.segmenters.segmenter import spread

SUMMARY, SHEET = "summary.json", "contact_sheet.png"
LABEL_NEXT = "label_next.txt"
"""The pictures whose masks the model is least sure of, one a line, those first."""

_ROWS, _CELL = 12, 160
_LINES = 20


@dataclasses.dataclass(frozen=True)
class Record:
    """One query in summary.json.

    Attributes:
      file: the picture.
      mask: the predicted mask, relative to the output folder.
      overlay: the same of the overlay.
      width: of the picture, in pixels.
      height: of the picture, in pixels.
      fractions: for each class the part of the pixels that it was found in.
      iou: mean over the classes that truth or prediction holds; None without truth.
      class_iou: of each of these classes.
      in_support: whether the picture is also a support picture.
      confidence: how sure the model is, 0 to 1, see `metrics.confidence`.
    """

    file: str
    mask: str
    overlay: str
    width: int
    height: int
    fractions: dict[str, float]
    iou: float | None
    class_iou: dict[str, float] | None
    in_support: bool
    confidence: float


class Results:
    """Gathers results query by query.

    Args:
      support: what was learned from.
      queries: all of them; some, evenly spread, get into the contact sheet.

    Attributes:
      records: one for each query that was segmented.
      failures: files that could not be read: "file" and "reason".
    """

    def __init__(self, support: Support, queries: Sequence[Query]):
        self.records: list[Record] = []
        self.failures: list[dict[str, str]] = []
        self._support = support
        self._in_sheet = {queries[i].output for i in spread(len(queries), _ROWS)}
        self._rows: list[tuple[Segmented, str]] = []
        self._counts: list[np.ndarray] = []

    def add(self, result: Segmented | Failed) -> None:
        """Takes the result of one query."""
        if isinstance(result, Failed):
            self._fail(result.query.path, result.reason)
            return
        if result.unjudged:
            self._fail(result.query.mask, result.unjudged)
        name = result.query.output + ".png"
        by_class = iou = None
        if result.counts is not None:
            iou = mean_iou(result.counts)
            by_class = self._by_name(result.counts)
            if not result.repeated:
                self._counts.append(result.counts)
        height, width = result.mask.shape
        record = Record(
            file=str(result.query.path),
            mask=f"{MASKS}/{name}",
            overlay=f"{OVERLAYS}/{name}",
            width=width,
            height=height,
            fractions=fractions(result.mask, self._support.classes),
            iou=iou,
            class_iou=by_class,
            in_support=result.repeated,
            confidence=result.confidence,
        )
        self.records.append(record)
        if result.query.output in self._in_sheet:
            self._rows.append((_small(result), _caption(record)))

    def _fail(self, path: Path, reason: str) -> None:
        self.failures.append({"file": str(path), "reason": reason})

    def scores(self) -> dict[str, Any] | None:
        """The measures over all queries with truth that are no support pictures."""
        if not self._counts:
            return None
        each = Interval.of([mean_iou(counts) for counts in self._counts])
        return {
            "queries": len(self._counts),
            "mean_iou": each.mean,
            "half_width_95": each.half_width,
            "class_iou": self._by_name(np.sum(self._counts, axis=0)),
        }

    def _by_name(self, counts: np.ndarray) -> dict[str, float]:
        names = self._support.classes
        return {names[c - 1]: iou for c, iou in present_iou(counts).items()}

    def write(self, output: Path, document: dict[str, Any]) -> None:
        """Writes summary.json, with `document` in front, and the contact sheet."""
        document = {
            **document,
            "scores": self.scores(),
            "queries": [dataclasses.asdict(record) for record in self.records],
            "failed": self.failures,
        }
        with writing(f"to {output}"):
            write_text(output / SUMMARY, json.dumps(document, indent=2))
            unsure = [record.file for record in self.unsure()]
            write_text(output / LABEL_NEXT, "".join(f"{file}\n" for file in unsure))
            if self._rows:
                self._sheet().save(output / SHEET)

    def unsure(self) -> list[Record]:
        """All queries that are no support pictures, the least sure first."""
        new = [record for record in self.records if not record.in_support]
        return sorted(new, key=lambda record: record.confidence)

    def lines(self) -> list[str]:
        """What to print: a line a query, or none if they are many; and the mean."""
        lines = [f"  {_caption(r)}" for r in self.records[:_LINES]]
        if len(self.records) > _LINES:
            lines.append(f"  ... and {len(self.records) - _LINES} more")
        repeated = [r.file for r in self.records if r.in_support]
        if repeated:
            lines.append(
                f"{len(repeated)} queries are support pictures; no mean counts them"
            )
        if scores := self.scores():
            lines.append(
                f"mean IoU of {scores['queries']} queries: "
                f"{Interval(scores['mean_iou'], scores['half_width_95'])} %"
            )
            if len(self._support.classes) > 1:
                lines += [
                    f"  {name}: IoU over all queries {100 * iou:.1f} %"
                    for name, iou in scores["class_iou"].items()
                ]
        return lines

    def _sheet(self) -> Image.Image:
        """Draws a row a query: a support picture, the query, its truth, the result."""
        pictures = self._support.pictures
        shown = spread(len(pictures), _ROWS)
        judged = any(result.truth is not None for result, _ in self._rows)
        rows = []
        for row, (result, _) in enumerate(self._rows):
            example = truth = None
            if row < len(shown):
                picture = pictures[shown[row]]
                example = marked(picture.image, picture.mask)
            if result.truth is not None:
                truth = marked(result.image, result.truth)
            found = marked(result.image, result.mask)
            rows.append([example, result.image, *([truth] if judged else []), found])
        columns = ["support", "query", "ground truth", "prediction"]
        if not judged:
            columns.remove("ground truth")
        captions = [caption for _, caption in self._rows]
        sheet = contact_sheet(rows, captions, columns, cell=_CELL)
        classes = self._support.classes
        return with_legend(sheet, classes) if len(classes) > 1 else sheet


def describe_support(support: Support) -> list[dict[str, Any]]:
    """What summary.json says of each support picture."""
    return [
        {"file": p.name, "fractions": fractions(p.mask, support.classes)}
        for p in support.pictures
    ]


def fractions(mask: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """For each class the part of the pixels of a mask uint8 [H, W] that it has."""
    numbered = enumerate(classes, start=1)
    return {name: float(np.mean(mask == number)) for number, name in numbered}


def _caption(record: Record) -> str:
    found = ", ".join(f"{c} {100 * f:.1f} %" for c, f in record.fractions.items())
    caption = f"{Path(record.file).name}: {found}"
    return caption if record.iou is None else f"{caption}; IoU {100 * record.iou:.1f} %"


def _small(result: Segmented) -> Segmented:
    """Scales a result down to a cell of the contact sheet, to keep little of it."""
    height, width = result.mask.shape
    scale = _CELL / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)

    def scaled(values: np.ndarray, how: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.fromarray(values).resize(size, how))

    nearest = Image.Resampling.NEAREST
    return dataclasses.replace(
        result,
        image=scaled(result.image, Image.Resampling.LANCZOS),
        mask=scaled(result.mask, nearest),
        truth=None if result.truth is None else scaled(result.truth, nearest),
    )
