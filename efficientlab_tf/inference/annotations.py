"""Predictions as annotation tools read them, so that people correct them there.

    OUTPUT/annotations/coco/           instances.json, images/
    OUTPUT/annotations/labelme/        NAME.json beside NAME.jpg
    OUTPUT/annotations/cvat/           annotations.xml, images/
    OUTPUT/annotations/label_studio/   tasks.json, labeling.xml, images/

docs/outputs.md says how to open each. Where a tool can edit pixels it gets pixels: one
mask for each class of a picture. LabelMe, which can not, gets polygons.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from PIL import Image
from tqdm import tqdm

from efficientlab_tf.data.annotations.export import rgb
from efficientlab_tf.data.annotations.rle import pack_brush, run_lengths
from efficientlab_tf.data.outlines import outlines
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import replacing, write_text, writing
from efficientlab_tf.inference.queries import Query, read_query
from efficientlab_tf.inference.results import Record

ANNOTATIONS, IMAGES = "annotations", "images"
_SHOWN_SUFFIXES = (".jpg", ".jpeg", ".png")
_SHOWN_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_LABELME_VERSION = "5.5.0"


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What was found on one picture.

    Attributes:
      query: the picture.
      mask: uint8 [H, W], of the picture's size, upright; 0..K.
      confidence: how sure the model is, 0 to 1.
    """

    query: Query
    mask: np.ndarray
    confidence: float

    def of_classes(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the numbers, 1..K, and the pixels, bool [H, W], of what was found."""
        for number in np.unique(self.mask[self.mask > 0]).tolist():
            yield number, self.mask == number

    def put(self, folder: Path) -> str:
        """Puts the picture into a folder; returns its name there.

        A JPEG or PNG is copied. What not every tool shows (other formats, 16 bits, a
        page of several) is written as PNG, as it was segmented.
        """
        path, page = self.query.path, self.query.page
        shown = page == 0 and path.suffix.lower() in _SHOWN_SUFFIXES
        if shown:
            with Image.open(path) as picture:
                shown = picture.mode in _SHOWN_MODES
        name = self.query.output + (path.suffix if shown else ".png")
        if shown:
            shutil.copyfile(path, folder / name)
        else:
            Image.fromarray(rgb(read_query(path, page))).save(folder / name)
        return name


def check_free(output: Path, formats: Sequence[str]) -> None:
    """Refuses to write over annotations, which somebody may have corrected.

    Raises:
      UserError: the folder of a format holds something.
    """
    for name in formats:
        folder = output / ANNOTATIONS / name
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UserError(
                f"{folder} is there already and may hold corrections; move it away, or "
                "choose another `output`"
            )


def write_annotations(
    output: Path,
    formats: Sequence[str],
    classes: Sequence[str],
    records: Sequence[Record],
    queries: Sequence[Query],
) -> None:
    """Writes predictions for annotation tools, the least sure first.

    Masks are read from where they were written, one at a time. Pictures of the support
    set, which are labelled already, come last.

    Args:
      output: folder that holds masks/.
      formats: of `FORMATS`.
      classes: names of classes 1..K.
      records: what was segmented.
      queries: the pictures, and perhaps more.

    Raises:
      UserError: a file cannot be written.
    """
    by_name = {query.output: query for query in queries}
    ordered = sorted(records, key=lambda r: (r.in_support, r.confidence))
    for name in formats:
        folder = output / ANNOTATIONS / name
        shown = tqdm(
            ordered,
            desc=f"writing {name}",
            unit="picture",
            delay=2,
            leave=False,
            dynamic_ncols=True,
        )
        with writing(f"to {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            FORMATS[name](folder, classes, _predictions(output, shown, by_name))


def _predictions(
    output: Path, records: Iterable[Record], queries: dict[str, Query]
) -> Iterator[Prediction]:
    for record in records:
        query = queries[Path(record.mask).stem]
        with Image.open(output / record.mask) as mask:
            yield Prediction(query, np.asarray(mask), record.confidence)


def _coco(
    folder: Path, classes: Sequence[str], predictions: Iterable[Prediction]
) -> None:
    """instances.json: compressed run lengths, one annotation a class of a picture."""
    # Not above: no other format needs it.
    from pycocotools import mask as coco_api

    images: list[dict[str, Any]] = []
    (folder / IMAGES).mkdir(exist_ok=True)

    def annotations() -> Iterator[dict[str, Any]]:
        number = 0
        for image, one in enumerate(predictions, start=1):
            height, width = one.mask.shape
            size = {"height": height, "width": width}
            name = one.put(folder / IMAGES)
            images.append({"id": image, "file_name": name, **size})
            for category, marked in one.of_classes():
                number += 1
                runs = coco_api.encode(np.asfortranarray(marked, np.uint8))
                yield {
                    "id": number,
                    "image_id": image,
                    "category_id": category,
                    "segmentation": {
                        "size": [height, width],
                        "counts": runs["counts"].decode("ascii"),
                    },
                    "area": int(coco_api.area(runs)),
                    "bbox": coco_api.toBbox(runs).tolist(),
                    "iscrowd": 0,
                }

    categories = [
        {"id": number, "name": name} for number, name in enumerate(classes, start=1)
    ]
    with replacing(folder / "instances.json") as path, _opened(path) as file:
        file.write('{"annotations": ')
        _write_list(file, annotations())
        rest = json.dumps({"images": images, "categories": categories})
        file.write(", " + rest[1:])


def _labelme(
    folder: Path, classes: Sequence[str], predictions: Iterable[Prediction]
) -> None:
    """NAME.json beside each picture: polygons, see `outlines`."""
    for one in predictions:
        height, width = one.mask.shape
        shapes = [
            {
                "label": classes[number - 1],
                "points": points.tolist(),
                "group_id": None,
                "shape_type": "polygon",
                "flags": {},
            }
            for number, marked in one.of_classes()
            for points in outlines(marked)
        ]
        document = {
            "version": _LABELME_VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": one.put(folder),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        write_text(folder / f"{one.query.output}.json", json.dumps(document))


def _cvat(
    folder: Path, classes: Sequence[str], predictions: Iterable[Prediction]
) -> None:
    """annotations.xml of "CVAT for images 1.1": a mask a class of a picture."""
    (folder / IMAGES).mkdir(exist_ok=True)
    labels = "".join(f"<label><name>{escape(n)}</name></label>" for n in classes)
    with replacing(folder / "annotations.xml") as path, _opened(path) as file:
        file.write(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n'
            "<version>1.1</version>\n"
            f"<meta><task><labels>{labels}</labels></task></meta>\n"
        )
        for number, one in enumerate(predictions):
            height, width = one.mask.shape
            name = quoteattr(one.put(folder / IMAGES))
            file.write(
                f'<image id="{number}" name={name} width="{width}" height="{height}">\n'
            )
            for value, marked in one.of_classes():
                rows = np.flatnonzero(marked.any(1))
                columns = np.flatnonzero(marked.any(0))
                top, left = rows[0], columns[0]
                part = marked[top : rows[-1] + 1, left : columns[-1] + 1]
                runs = ", ".join(map(str, run_lengths(part).tolist()))
                file.write(
                    f"<mask label={quoteattr(classes[value - 1])} "
                    f'source="auto" occluded="0" rle="{runs}" left="{left}" '
                    f'top="{top}" width="{part.shape[1]}" height="{part.shape[0]}" '
                    'z_order="0"></mask>\n'
                )
            file.write("</image>\n")
        file.write("</annotations>\n")


def _label_studio(
    folder: Path, classes: Sequence[str], predictions: Iterable[Prediction]
) -> None:
    """tasks.json: a brush stroke a class, as predictions with a score.

    Predictions, and not annotations: their tasks still count as to be labelled.
    """
    (folder / IMAGES).mkdir(exist_ok=True)

    def task(one: Prediction) -> dict[str, Any]:
        height, width = one.mask.shape
        result = [
            {
                "id": f"class{number}",
                "type": "brushlabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {
                    "format": "rle",
                    "rle": pack_brush(marked),
                    "brushlabels": [classes[number - 1]],
                },
            }
            for number, marked in one.of_classes()
        ]
        name = quote(f"{IMAGES}/{one.put(folder / IMAGES)}")
        prediction = {
            "model_version": "efficientlab_tf",
            "score": one.confidence,
            "result": result,
        }
        return {
            "data": {"image": f"/data/local-files/?d={name}"},
            "predictions": [prediction],
        }

    with replacing(folder / "tasks.json") as path, _opened(path) as file:
        _write_list(file, map(task, predictions))
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in classes)
    write_text(
        folder / "labeling.xml",
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="label" toName="image">\n{labels}\n  </BrushLabels>\n'
        "</View>\n",
    )


FORMATS: dict[str, Callable[[Path, Sequence[str], Iterable[Prediction]], None]] = {
    "coco": _coco,
    "labelme": _labelme,
    "cvat": _cvat,
    "label_studio": _label_studio,
}
"""What writes each format: into a folder, with the names of classes 1..K."""


def _opened(path: Path) -> TextIO:
    return open(path, "w", encoding="utf-8")


def _write_list(file: TextIO, items: Iterable[dict[str, Any]]) -> None:
    """Writes a JSON list item by item: all of them may be more than fits in memory."""
    file.write("[")
    for number, item in enumerate(items):
        file.write(",\n" if number else "\n")
        file.write(json.dumps(item, separators=(",", ":")))
    file.write("\n]")
