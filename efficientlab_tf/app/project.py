"""A user's work as a ZIP file: pictures, marks and classes, to go on with later.

    project.json           classes, and the marks of each picture
    labelled/images/NAME   pictures with marks
    labelled/masks/NAME    what is marked on them: 0, 1..K, 255 unknown
    new/NAME               pictures without marks
    layers/NUMBER.png      masks that came as files

Unpacked it is what `adapt` takes: --support=labelled --query=new. A file that is opened
may come from anybody: nothing of it is unpacked to where it says, and what it holds is
bounded and checked as what is dropped in.
"""

import io
import json
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from efficientlab_tf.app.annotations import Annotations, Area, Layer, Stroke
from efficientlab_tf.app.classes import Classes
from efficientlab_tf.app.picture import Picture, check_file
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.data.cleaning import encode_mask, same_aspect
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.queries import output_names

SUFFIX = ".zip"
_DOCUMENT = "project.json"
_LABELLED, _NEW, _LAYERS = "labelled", "new", "layers"
_MOST_MARKS, _MOST_PLACES, _MOST_JSON = 10_000, 10_000, 20_000_000
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError),
    *(LookupError, TypeError, ValueError, OverflowError),
)
"""What Python says of archives and documents that are damaged, or were made up."""


def write_project(workspace: Workspace) -> Path:
    """Writes a workspace as it is, but for what was adapted.

    Raises:
      UserError: there are no pictures.
    """
    with workspace.turn:
        workspace.picture(0)
        path = workspace.folder / "project.zip"
        names = output_names([picture.name for picture in workspace.pictures])
        entries, layers = [], 0
        with zipfile.ZipFile(path, "w") as archive:
            for picture, stem in zip(workspace.pictures, names, strict=True):
                marks = []
                for mark in picture.annotations.marks:
                    if isinstance(mark, Layer):
                        layer = f"{_LAYERS}/{layers}.png"
                        layers += 1
                        archive.writestr(layer, encode_mask(mark.mask))
                        marks.append({"layer": layer})
                    else:
                        marks.append(_described(mark))
                name = stem + Path(picture.name).suffix
                file = f"{_LABELLED}/images/{name}" if marks else f"{_NEW}/{name}"
                archive.write(picture.file, file)
                if marks:
                    mask = picture.annotations.raster(*picture.size)
                    archive.writestr(f"{_LABELLED}/masks/{stem}.png", encode_mask(mask))
                entries.append({"name": picture.name, "file": file, "marks": marks})
            document = {"classes": workspace.classes.names, "pictures": entries}
            archive.writestr(_DOCUMENT, json.dumps(document))
        return path


def open_project(workspace: Workspace, name: str, data: bytes) -> None:
    """Takes a project in place of what is there, which stays if it cannot be read.

    Args:
      workspace: takes it.
      name: of the file, for messages.
      data: what `write_project` wrote.

    Raises:
      UserError: not a project, or one with something in it that is refused.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, workspace.turn:
            document = json.loads(_member(archive, _DOCUMENT, _MOST_JSON))
            classes = [_text(one) for one in document["classes"]]
            entries = list(document["pictures"])
            limits = workspace.limits
            for what, count, most in (
                ("classes", len(classes), limits.max_classes),
                ("pictures", len(entries), limits.max_pictures),
            ):
                if not 1 <= count <= most:
                    raise UserError(
                        f"{name}: expected 1 to {most} {what}, received {count}"
                    )
            names = Classes(limits.max_classes, [])
            for one in classes:
                names.add(one)
            pictures: list[Picture] = []
            try:
                for entry in entries:
                    pictures.append(
                        _read(workspace, archive, dict(entry), len(classes))
                    )
            except BaseException:
                for picture in pictures:
                    picture.file.unlink(missing_ok=True)
                raise
            workspace.replace(pictures, names.names)
    except UserError:
        raise
    except _BROKEN as error:
        raise UserError(
            f"{name}: not a project that this page saved, or it is damaged; drop in "
            "pictures, or the ZIP file that 'Save project' gave"
        ) from error


def _described(mark: Stroke | Area) -> dict[str, Any]:
    if isinstance(mark, Area):
        return {"area": mark.corners, "label": mark.label}
    return {"stroke": mark.path, "label": mark.label, "radius": mark.radius}


def _read(workspace: Workspace, archive, entry: dict[str, Any], classes: int):
    limit = round(workspace.limits.max_upload_mb * 1e6)
    name = PurePosixPath(_text(entry["name"])).name
    picture = workspace.read(name, _member(archive, _text(entry["file"]), limit))
    try:
        annotations = Annotations(picture.size)
        marks = list(entry["marks"])
        if len(marks) > _MOST_MARKS:
            raise ValueError("too many marks")
        for one in marks:
            if "layer" in one:
                layer = _member(archive, _text(one["layer"]), limit)
                mark = _layer(picture, layer, workspace, classes)
                annotations = annotations.with_layer(mark)
            else:
                annotations = _with(annotations, _mark(one, classes))
        picture.annotations = annotations
    except BaseException:
        picture.file.unlink(missing_ok=True)
        raise
    return picture


def _with(annotations: Annotations, mark: Stroke | Area) -> Annotations:
    """Adds a mark that is checked; an eraser's is one like others, it has erased."""
    Annotations(annotations.size).add(mark)
    return Annotations(annotations.size, (*annotations.marks, mark))


def _mark(one: dict[str, Any], classes: int) -> Stroke | Area:
    label = int(one["label"])
    if label != IGNORE and not 0 <= label <= classes:
        raise ValueError("no such class")
    places = one["area"] if "area" in one else one["stroke"]
    if not 1 <= len(places) <= _MOST_PLACES:
        raise ValueError("no place, or too many")
    places = tuple((float(row), float(column)) for row, column in places)
    if "area" in one:
        return Area(places, label)
    return Stroke(places, label, float(one["radius"]))


def _layer(picture: Picture, data: bytes, workspace, classes: int) -> np.ndarray:
    check_file(f"mask of {picture.name}", data, workspace.limits)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as file:
            mask = np.array(file.convert("L"))
    except (OSError, SyntaxError) as error:
        raise ValueError("a mask that cannot be read") from error
    if not same_aspect(mask.shape, picture.size):
        raise ValueError("a mask of another picture")
    if ((mask > classes) & (mask != IGNORE)).any():
        raise ValueError("no such class")
    return mask


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file of the archive, if it has no more than so many bytes."""
    with archive.open(name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise UserError(f"{name}: expected at most {most / 1e6:g} MB; save it smaller")
    return data


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) < 256:
        raise TypeError("not a text")
    return value
