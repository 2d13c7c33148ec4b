"""Label Studio's JSON export: a list of tasks, each with its annotations."""

from pathlib import Path

import numpy as np

from efficientlab_tf.data.annotations.export import (
    Drawn,
    Export,
    Labels,
    PictureFinder,
    drawn,
    listed,
    read_picture,
    reading,
)
from efficientlab_tf.data.annotations.rle import brush_mask
from efficientlab_tf.data.drawing import (
    blank,
    fill_ellipse,
    fill_polygon,
    fill_rectangle,
)
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
    """Reads annotations; regions are painted in the order in which they are listed.

    Of several annotations of a task the one that was changed last counts. Tasks
    without regions count as not labelled.

    Raises:
      UserError: a malformed file.
    """
    tasks = document if isinstance(document, list) else [document]
    notes: list[str] = []
    labelled, unlabelled, names = [], [], set()
    for index, task in enumerate(tasks):
        with reading(f"{path}, task {task.get('id', index)}"):
            regions = [r for r in _regions(path, task, notes) if _labels(r)]
            if regions:
                labelled.append((task, regions))
                names.update(label for r in regions for label in _labels(r))
            else:
                unlabelled.append(_reference(task))
    if not labelled:
        raise UserError(f"{path}: none of {len(tasks)} tasks has a labelled region")
    if unlabelled:
        notes.append(f"not labelled, so left out: {listed(unlabelled)}")
    labels = Labels(sorted(names))
    pictures = (
        _draw(path, task, regions, finder, labels, notes) for task, regions in labelled
    )
    return Export(FORMAT, labels.names, pictures, len(labelled), notes)


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
            f"{path.name}, task {task.get('id')}: {len(valid)} annotations, the one "
            "that was changed last counts"
        )
    # The dates are ISO 8601 of one zone, so they sort as text.
    newest = max(valid, key=lambda a: str(a.get("updated_at") or ""))
    return newest["result"]


def _labels(region: dict) -> list[str]:
    """The names of a region's classes; [] for what is no labelled region."""
    for key, value in region.get("value", {}).items():
        if key.endswith("labels"):
            if not all(isinstance(name, str) for name in value):
                raise ValueError(f"labels {value!r}")
            return value
    return []


def _reference(task: dict) -> str:
    """The picture: whatever it is called in the project's data."""
    for value in (task["data"].get("image"), *task["data"].values()):
        if isinstance(value, str) and value:
            return value
    raise ValueError(f"task {task.get('id')} without a picture in its data")


def _draw(path, task, regions, finder, labels, notes) -> Drawn:
    with reading(f"{path}, task {task.get('id')}"):
        file = finder.find(_reference(task), path)
        picture = read_picture(file)
        width, height = picture.picture.size
        mask = blank(
            regions[0].get("original_height") or height,
            regions[0].get("original_width") or width,
        )
    for region in regions:
        with reading(f"{path}, task {task.get('id')}, region {region.get('id')}"):
            if region.get("image_rotation"):
                raise UserError(
                    f"{path}, task {task.get('id')}: the picture was turned by "
                    f"{region['image_rotation']} degrees in Label Studio; turn the "
                    "file instead and label it again"
                )
            for name in _labels(region):
                if not _fill(mask, region["value"], labels.number(name)):
                    kind = region.get("type", "region")
                    notes.append(f"{file.name}: a {kind} has no area and was left out")
    return drawn(file.name, picture, mask, f"{path}, {file.name}", notes)


def _fill(mask: np.ndarray, value: dict, number: int) -> bool:
    """Paints a region; returns whether it is of a kind that has an area."""
    height, width = mask.shape
    unit = np.array([width, height]) / 100  # Places and lengths are in percent.
    if "rle" in value:
        mask[brush_mask(value["rle"], height, width)] = number
    elif "points" in value:
        fill_polygon(mask, np.asarray(value["points"], np.float64) * unit, number)
    elif "radiusX" in value:
        center = np.array([value["x"], value["y"]]) * unit
        radii = np.array([value["radiusX"], value["radiusY"]]) * unit
        fill_ellipse(mask, center, radii, number, value.get("rotation") or 0.0)
    elif "height" in value:
        corner = np.array([value["x"], value["y"]]) * unit
        size = np.array([value["width"], value["height"]]) * unit
        fill_rectangle(mask, corner, size, number, value.get("rotation") or 0.0)
    else:
        return False
    return True
