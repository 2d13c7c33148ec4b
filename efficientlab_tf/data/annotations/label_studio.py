"""Label Studio's JSON export: a list of tasks, each with its annotations."""

from pathlib import Path

import numpy as np

from efficientlab_tf.data.annotations.canvas import Canvas
from efficientlab_tf.data.annotations.export import (
    Drawn,
    Export,
    Labels,
    PictureFinder,
    brief,
    label_text,
    listed,
    outline,
    read_picture,
    reading,
)
from efficientlab_tf.data.annotations.labelme import decode_base64
from efficientlab_tf.data.annotations.rle import brush_mask
from efficientlab_tf.data.drawing import points_of
from efficientlab_tf.data.mask_planes import read_plane
from efficientlab_tf.data.mask_readings import OBJECT, Reading
from efficientlab_tf.errors import UserError

FORMAT = "Label Studio"


def recognises(document: object) -> bool:
    """Whether a JSON document is a list of Label Studio's tasks, or one of them."""
    tasks = document if isinstance(document, list) else [document]
    return bool(tasks) and all(
        isinstance(task, dict)
        and isinstance(task.get("data"), dict)
        and isinstance(_annotations(task), list)
        for task in tasks
    )


def read(path: Path, document: object, finder: PictureFinder) -> Export:
    """Reads annotations; small regions go above large ones.

    Of several annotations of a task the one that was changed last counts. Tasks
    without regions count as not labelled.

    Raises:
      UserError: a malformed file.
    """
    tasks = document if isinstance(document, list) else [document]
    notes: list[str] = []
    labelled, unlabelled, names = [], [], set()
    for index, task in enumerate(tasks):
        where = f"{path}, task {task.get('id', index)}"
        with reading(where):
            regions = _regions(path, task, notes)
            regions = [r for r in regions if _has_label(r, where, notes)]
            if regions:
                labelled.append((task, regions))
                names.update(label for r in regions for label in _labels(r))
            else:
                unlabelled.append(_texts(task)[0])
    if not labelled:
        predicted = any(task.get("predictions") for task in tasks)
        more = (
            "; there are predictions: accept them as annotations in Label Studio, and "
            "export again"
        )
        raise UserError(
            f"{path}: none of {len(tasks)} tasks has a labelled region"
            f"{more if predicted else ''}"
        )
    if unlabelled:
        notes.append(f"not labelled, so left out: {listed(unlabelled)}")
    labels = Labels(sorted(names))
    annotated: set[int] = set()
    pictures = (
        _draw(path, task, regions, finder, labels, annotated, notes)
        for task, regions in labelled
    )
    return Export(
        FORMAT, labels.names, pictures, len(labelled), notes, annotated=annotated
    )


def _annotations(task: dict) -> list | None:
    # "completions" is what versions before 1.0 wrote.
    return task.get("annotations", task.get("completions"))


def _regions(path: Path, task: dict, notes: list[str]) -> list[dict]:
    """The regions of the annotation that counts."""
    valid = [a for a in _annotations(task) if not a.get("was_cancelled")]
    if not valid:
        return []
    if len(valid) > 1:
        notes.append(
            f"{path.name}, task {task.get('id')}: several annotations, the one that "
            "was changed last counts"
        )
    # The dates are ISO 8601 of one zone, so they sort as text.
    newest = max(valid, key=lambda a: str(a.get("updated_at") or ""))
    return newest["result"]


def _labels(region: dict) -> list[str]:
    """The names of a region's classes; [] for what is no labelled region."""
    for key, value in (region.get("value") or {}).items():
        if key.endswith("labels"):
            value = [value] if isinstance(value, str) else value
            return [label_text(name) for name in value]
    return []


def _has_label(region: dict, where: str, notes: list[str]) -> bool:
    with outline(where, notes):
        return bool(_labels(region))
    return False


def _texts(task: dict) -> list[str]:
    """What may be the picture: texts in the project's data, the likeliest first."""
    values = [task["data"].get("image"), *task["data"].values()]
    texts = [value for value in values if isinstance(value, str) and value]
    if not texts:
        raise ValueError(f"task {task.get('id')} without a picture in its data")
    return list(dict.fromkeys(texts))


def _find(task: dict, finder: PictureFinder, path: Path) -> Path:
    """The picture of a task: whatever it is called, it is there."""
    errors = []
    for text in _texts(task):
        try:
            return finder.find(text, path)
        except UserError as error:
            errors.append((finder.is_picture_name(text), -len(errors), error))
    raise max(errors, key=lambda e: e[:2])[2]


def _draw(path, task, regions, finder, labels, annotated, notes) -> Drawn | None:
    where = f"{path}, task {task.get('id')}"
    with reading(where):
        file = _find(task, finder, path)
        picture = read_picture(file, notes)
        size = (regions[0].get(f"original_{side}") for side in ("height", "width"))
        canvas = Canvas(file.name, picture, *size, len(regions), notes)
    for region in regions:
        if turn := region.get("image_rotation"):
            raise UserError(
                f"{where}: the picture was turned by {brief(turn, 20)} degrees in "
                "Label Studio; turn the file instead and label it again"
            )
        for name in _labels(region):
            with outline(f"{file.name}, region {region.get('id')}", notes):
                if not _add(canvas, region, labels.number(name)):
                    kind = region.get("type", "region")
                    notes.append(f"{file.name}: a {kind} has no area and was left out")
    annotated |= canvas.values
    with reading(f"{path}, {file.name}"):
        return canvas.draw()


def _add(canvas: Canvas, region: dict, number: int) -> bool:
    """Adds a region; returns whether it is of a kind that has an area."""
    value = region["value"]
    height, width = canvas.size
    unit = np.array([width, height]) / 100  # Places and lengths are in percent.
    if "rle" in value:
        size = (region.get(f"original_{side}") for side in ("height", "width"))
        size = (own or default for own, default in zip(size, canvas.size, strict=True))
        canvas.mask(brush_mask(value["rle"], *size), number)
    elif "imageDataURL" in value:
        plane = read_plane(decode_base64(value["imageDataURL"]))
        canvas.mask(Reading(OBJECT).apply(plane)[0] == 1, number)
    elif "points" in value:
        canvas.polygon(points_of(value["points"]) * unit, number)
    elif "radiusX" in value:
        center = points_of([[value["x"], value["y"]]])[0] * unit
        radii = points_of([[value["radiusX"], value["radiusY"]]])[0] * unit
        canvas.ellipse(center, radii, number, value.get("rotation") or 0.0)
    elif "height" in value:
        corner = points_of([[value["x"], value["y"]]])[0] * unit
        size = points_of([[value["width"], value["height"]]])[0] * unit
        canvas.rectangle(corner, size, number, value.get("rotation") or 0.0)
    else:
        return False
    return True
