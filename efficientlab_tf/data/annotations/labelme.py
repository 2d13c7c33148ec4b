"""LabelMe: one JSON a picture, with its shapes and perhaps the picture itself."""

import base64
import math
from pathlib import Path, PureWindowsPath

import numpy as np

from efficientlab_tf.data.annotations.export import (
    Drawn,
    Export,
    Labels,
    PictureFinder,
    drawn,
    read_picture,
    reading,
)
from efficientlab_tf.data.cleaning import Upright, open_picture, read_image
from efficientlab_tf.data.drawing import (
    blank,
    fill_ellipse,
    fill_polygon,
    fill_rectangle,
)

FORMAT = "LabelMe"
_WITHOUT_AREA = ("line", "linestrip", "point", "points")


def recognises(document: object) -> bool:
    """Whether a JSON document is one of LabelMe's."""
    return (
        isinstance(document, dict)
        and isinstance(document.get("shapes"), list)
        and "imagePath" in document
    )


def read(documents: list[tuple[Path, dict]], finder: PictureFinder) -> Export:
    """Reads annotations; shapes are painted in the order in which they are listed.

    Args:
      documents: paths and contents of the JSON files.
      finder: of the pictures that are not inside them.

    Raises:
      UserError: a malformed file.
    """
    names = set()
    for path, document in documents:
        with reading(str(path)):
            names.update(_label(shape) for shape in document["shapes"])
    labels = Labels(sorted(names))
    notes: list[str] = []
    pictures = (
        _draw(path, document, finder, labels, notes) for path, document in documents
    )
    return Export(FORMAT, labels.names, pictures, len(documents), notes)


def _label(shape: dict) -> str:
    label = shape["label"]
    if not isinstance(label, str) or not label:
        raise ValueError(f"label {label!r}")
    return label


def _draw(
    path: Path,
    document: dict,
    finder: PictureFinder,
    labels: Labels,
    notes: list[str],
) -> Drawn:
    with reading(str(path)):
        name = PureWindowsPath(document["imagePath"]).name or path.stem
        picture = _picture(path, document, finder)
        width, height = picture.picture.size
        mask = blank(
            document.get("imageHeight") or height, document.get("imageWidth") or width
        )
    for index, shape in enumerate(document["shapes"]):
        with reading(f"{path}, shape {index}"):
            kind = shape.get("shape_type") or "polygon"
            if kind in _WITHOUT_AREA:
                notes.append(f"{path.name}: a {kind} has no area and was left out")
                continue
            _fill(mask, kind, shape, labels.number(_label(shape)))
    return drawn(name, picture, mask, str(path), notes)


def _picture(path: Path, document: dict, finder: PictureFinder) -> Upright:
    if document.get("imageData"):
        data = base64.b64decode(document["imageData"], validate=True)
        return read_image(data, stretch=True)
    return read_picture(finder.find(document["imagePath"], path))


def _fill(mask: np.ndarray, kind: str, shape: dict, value: int) -> None:
    points = shape["points"]
    if kind in ("polygon", "oriented_rectangle"):
        fill_polygon(mask, points, value)
        return
    if kind not in ("rectangle", "circle", "mask"):
        raise ValueError(f"shape_type {kind!r}")
    (x0, y0), (x1, y1) = points
    if kind == "rectangle":
        fill_rectangle(mask, (x0, y0), (x1 - x0, y1 - y0), value)
    elif kind == "circle":
        radius = math.hypot(x1 - x0, y1 - y0)
        fill_ellipse(mask, (x0, y0), (radius, radius), value)
    else:
        stencil = open_picture(base64.b64decode(shape["mask"], validate=True))
        _stamp(mask, np.asarray(stencil.convert("L")) > 0, int(x0), int(y0), value)


def _stamp(mask: np.ndarray, stencil: np.ndarray, left: int, top: int, value: int):
    """Paints where a stencil is true; what reaches over the edge is clipped."""
    rows, columns = np.nonzero(stencil)
    rows, columns = rows + top, columns + left
    height, width = mask.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    mask[rows[inside], columns[inside]] = value
