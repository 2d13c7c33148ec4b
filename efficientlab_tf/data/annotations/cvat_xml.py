"""CVAT's "CVAT for images 1.1": one XML with the shapes of all pictures."""

from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import NamedTuple
from xml.parsers import expat

import numpy as np

from efficientlab_tf.data.annotations.canvas import Canvas
from efficientlab_tf.data.annotations.export import (
    MAX_JSON,
    Drawn,
    Export,
    Labels,
    PictureFinder,
    label_text,
    listed,
    outline,
    read_picture,
    reading,
)
from efficientlab_tf.data.drawing import whole
from efficientlab_tf.data.picture_files import (
    MAX_PIXELS,
    Refused,
    open_file,
    read_bytes,
)
from efficientlab_tf.errors import UserError

FORMAT = "CVAT for images"
_SHAPES = ("polygon", "mask", "ellipse")
_WITHOUT_AREA = ("box", "polyline", "points", "cuboid", "skeleton")
_START = 4096


class _Image(NamedTuple):
    attributes: Mapping[str, str]
    shapes: list[tuple[str, Mapping[str, str]]]


def recognises(path: Path) -> bool:
    """Whether a file is XML of CVAT, by how it begins."""
    try:
        with open_file(path) as file:
            return b"<annotations" in file.read(_START).replace(b"\0", b"")
    except (Refused, OSError):
        return False


def read(path: Path, finder: PictureFinder) -> Export:
    """Reads annotations: polygons, ellipses and masks.

    Shapes lie on each other as CVAT has them (z_order), and small ones above large
    ones of the same layer. Boxes, lines and points have no outline and are left out.

    Raises:
      UserError: a malformed file, or one of a video's tracks.
    """
    with reading(str(path)):
        images, tracks = _parse(read_bytes(path, MAX_JSON))
    labelled = [image for image in images if image.shapes]
    if not labelled:
        raise UserError(
            f"{path} is of CVAT's format for videos; export it as CVAT for images 1.1"
            if tracks
            else f"{path}: none of {len(images)} images has a shape; label some"
        )
    names = set()
    for image in labelled:
        for kind, shape in image.shapes:
            with outline("", []):
                if kind in _SHAPES:
                    names.add(label_text(shape["label"]))
    notes: list[str] = []
    if unlabelled := [i.attributes.get("name") for i in images if not i.shapes]:
        notes.append(f"not labelled, so left out: {listed(unlabelled)}")
    labels = Labels(sorted(names))
    annotated: set[int] = set()
    pictures = (
        _draw(path, image, finder, labels, annotated, notes) for image in labelled
    )
    return Export(
        FORMAT, labels.names, pictures, len(labelled), notes, annotated=annotated
    )


def _parse(data: bytes) -> tuple[list[_Image], int]:
    """Returns the images with their shapes, and the number of tracks.

    Nothing outside of the file is ever read, and no entities are expanded.
    """
    images: list[_Image] = []
    tracks = 0

    def refuse(*_):
        raise Refused("it declares a document type, as CVAT never does")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal tracks
        tracks += tag == "track"
        if tag == "image":
            images.append(_Image(attributes, []))
        elif images and not tracks and tag in (*_SHAPES, *_WITHOUT_AREA):
            images[-1].shapes.append((tag, attributes))

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from None
    return images, tracks


def _draw(path, image, finder, labels, annotated, notes) -> Drawn | None:
    attributes = image.attributes
    with reading(f"{path}, image {attributes.get('id')}"):
        file = attributes["name"]
        picture = read_picture(finder.find(file, path), notes)
        name = PureWindowsPath(file).name
        size = attributes.get("height"), attributes.get("width")
        canvas = Canvas(name, picture, *size, len(image.shapes), notes)
    for kind, shape in image.shapes:
        if kind in _WITHOUT_AREA:
            notes.append(f"{name}: a {kind} has no outline and was left out")
            continue
        with outline(f"{name}, {kind} {shape.get('label')}", notes):
            _add(canvas, kind, shape, labels.number(label_text(shape["label"])))
    annotated |= canvas.values
    with reading(f"{path}, {file}"):
        return canvas.draw()


def _add(canvas: Canvas, kind: str, shape: Mapping[str, str], value: int) -> None:
    layer = float(shape.get("z_order") or 0)
    if kind == "polygon":
        points = [pair.split(",") for pair in shape["points"].split(";") if pair]
        canvas.polygon(points, value, layer)
    elif kind == "ellipse":
        center = float(shape["cx"]), float(shape["cy"])
        radii = float(shape["rx"]), float(shape["ry"])
        degrees = float(shape.get("rotation") or 0)
        canvas.ellipse(center, radii, value, degrees, layer)
    else:
        corner = (whole(shape[side]) for side in ("left", "top"))
        canvas.stencil(_mask(shape), value, *corner, layer)


def _mask(shape: Mapping[str, str]) -> np.ndarray:
    """Decodes the run lengths of a mask, along its rows, those of 0 first."""
    height, width = whole(shape["height"]), whole(shape["width"])
    lengths = np.array(shape["rle"].split(","), np.float64)
    pixels = height * width
    if not ((lengths >= 0) & (lengths <= pixels)).all() or (lengths % 1).any():
        raise ValueError("run lengths that are none")
    if not 0 < pixels <= MAX_PIXELS or lengths.sum() != pixels:
        raise ValueError(f"run lengths that do not make {width}x{height} pixels")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths.astype(np.int64)).reshape(height, width)
