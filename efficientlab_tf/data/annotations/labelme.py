"""LabelMe: one JSON a picture, with its shapes and perhaps the picture itself.

X-AnyLabeling and other tools write the same, with rectangles of four points.
"""

import base64
import binascii
import math
import re
from pathlib import Path, PureWindowsPath

import numpy as np

from efficientlab_tf.data.annotations.canvas import Canvas
from efficientlab_tf.data.annotations.export import (
    Drawn,
    Export,
    Labels,
    PictureFinder,
    label_text,
    outline,
    read_picture,
    reading,
)
from efficientlab_tf.data.cleaning import Upright, read_image
from efficientlab_tf.data.drawing import points_of
from efficientlab_tf.data.picture_files import Refused, open_picture
from efficientlab_tf.errors import UserError

FORMAT = "LabelMe"
_WITHOUT_AREA = ("line", "linestrip", "point", "points")
_DATA_URL = re.compile(r"data:[^,]*,")


def recognises(document: object) -> bool:
    """Whether a JSON document is one of LabelMe's."""
    return (
        isinstance(document, dict)
        and isinstance(document.get("shapes"), list)
        and "imagePath" in document
    )


def read(documents: list[tuple[Path, dict]], finder: PictureFinder) -> Export:
    """Reads annotations; small shapes go above large ones.

    Args:
      documents: paths and contents of the JSON files.
      finder: of the pictures that are not inside them.

    Raises:
      UserError: a malformed file.
    """
    names = set()
    for _, document in documents:
        for shape in document["shapes"]:
            # A label that is none is noted when its shape is drawn.
            with outline("", []):
                names.add(label_text(shape["label"]))
    labels = Labels(sorted(names))
    notes: list[str] = []
    annotated: set[int] = set()
    pictures = (
        _draw(path, document, finder, labels, annotated, notes)
        for path, document in documents
    )
    return Export(
        FORMAT, labels.names, pictures, len(documents), notes, annotated=annotated
    )


def decode_base64(text: str) -> bytes:
    """Decodes what JSON holds of a file: also a data URL, with or without padding.

    Raises:
      Refused: it is damaged.
    """
    text = "".join(_DATA_URL.sub("", text, count=1).split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(f"damaged base64 ({error}); export it again") from None


def _draw(
    path: Path,
    document: dict,
    finder: PictureFinder,
    labels: Labels,
    annotated: set[int],
    notes: list[str],
) -> Drawn | None:
    with reading(str(path)):
        name, picture = _picture(path, document, finder, notes)
        height, width = document.get("imageHeight"), document.get("imageWidth")
        count = len(document["shapes"])
        canvas = Canvas(name, picture, height, width, count, notes)
    for index, shape in enumerate(document["shapes"]):
        with outline(f"{path.name}, shape {index}", notes):
            kind = shape.get("shape_type") or "polygon"
            if kind in _WITHOUT_AREA:
                notes.append(f"{path.name}: a {kind} has no area and was left out")
                continue
            _add(canvas, kind, shape, labels.number(label_text(shape["label"])))
    annotated |= canvas.values
    with reading(str(path)):
        if not document["shapes"]:
            return Drawn.empty(name, picture)
        return canvas.draw()


def _picture(
    path: Path, document: dict, finder: PictureFinder, notes: list[str]
) -> tuple[str, Upright]:
    """The picture inside of the document, or else the one beside it."""
    reference = document["imagePath"]
    name = PureWindowsPath(reference).name or path.stem
    if document.get("imageData"):
        try:
            data = decode_base64(document["imageData"])
            return name, read_image(data, stretch=True)
        except (Refused, TypeError) as error:
            try:
                file = finder.find(reference, path)
            except UserError:
                raise Refused(f"imageData: {error}") from error
            notes.append(f"{path.name}: imageData: {error}; {file.name} was taken")
            return name, read_picture(file, notes)
    file = finder.find(reference, path)
    if file.suffix.lower() != Path(name).suffix.lower():
        notes.append(f"{path.name}: {name} is not there, so {file.name} was taken")
    return name, read_picture(file, notes)


def _add(canvas: Canvas, kind: str, shape: dict, value: int) -> None:
    points = shape["points"]
    if kind in ("polygon", "oriented_rectangle", "rotation"):
        canvas.polygon(points, value)
        return
    if kind not in ("rectangle", "circle", "mask"):
        raise ValueError(f"a shape of an unknown type, {kind!r}")
    points = points_of(points)
    if kind == "rectangle" and len(points) == 4:
        canvas.polygon(points, value)
        return
    if len(points) < 2:
        raise ValueError(f"a {kind} of {len(points)} points")
    if kind == "circle":
        radius = math.hypot(*(points[1] - points[0]))
        canvas.ellipse(tuple(points[0]), (radius, radius), value)
        return
    low, high = points.min(0), points.max(0)
    if kind == "rectangle":
        canvas.rectangle(tuple(low), tuple(high - low), value)
        return
    stencil = open_picture(decode_base64(shape["mask"]))
    marked = np.asarray(stencil.convert("L")) > 0
    canvas.stencil(marked, value, int(low[0]), int(low[1]))
