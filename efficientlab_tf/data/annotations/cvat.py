"""CVAT's "Segmentation mask 1.1": coloured masks and the colours of the labels."""

import re
from pathlib import Path

import numpy as np

from efficientlab_tf.data.annotations.export import (
    Drawn,
    Export,
    Labels,
    PictureFinder,
    drawn,
    label_text,
    listed,
    read_picture,
    reading,
)
from efficientlab_tf.data.picture_files import (
    band_of,
    bands,
    open_picture,
    read_bytes,
)
from efficientlab_tf.errors import UserError

FORMAT = "CVAT segmentation mask"
LABELMAP = "labelmap.txt"
CLASS_MASKS = "SegmentationClass"
OBJECT_MASKS = "SegmentationObject"
_LINE = re.compile(r"(.+?):(\d+),\s*(\d+),\s*(\d+)(:|$)")
_BLACK = 0


def read(root: Path, files: list[Path], labelmap: Path) -> Export:
    """Reads annotations.

    Args:
      root: the export's folder, which also holds the pictures.
      files: all files below it.
      labelmap: labelmap.txt, whose folder holds SegmentationClass.

    Raises:
      UserError: a malformed file, or a colour that belongs to no label.
    """
    folder = labelmap.parent / CLASS_MASKS
    names = [str(m.relative_to(folder).with_suffix("")) for m in _masks(folder, files)]
    masks = dict(zip(names, _masks(folder, files), strict=True))
    table = read_labelmap(labelmap)
    labels = Labels(table)
    in_masks = (folder, labelmap.parent / OBJECT_MASKS)
    finder = PictureFinder(
        root, [f for f in files if not any(m in f.parents for m in in_masks)]
    )
    wanted = _image_sets(labelmap.parent, files) or names
    notes = []
    if unlabelled := [name for name in wanted if name not in masks]:
        notes.append(f"no mask, so left out: {listed(unlabelled)}")
    pairs = []
    for name in (name for name in wanted if name in masks):
        if (picture := finder.find_stem(name, labelmap)) is None:
            raise UserError(
                f"{masks[name]}: no picture {name}.* below {root}; export it with "
                "images, or put the pictures beside it"
            )
        pairs.append((picture, masks[name]))
    pictures = (
        _draw(picture, mask, labelmap, table, labels, notes) for picture, mask in pairs
    )
    return Export(FORMAT, labels.names, pictures, len(pairs), notes)


def _masks(folder: Path, files: list[Path]) -> list[Path]:
    return [f for f in files if folder in f.parents and f.suffix.lower() == ".png"]


def read_labelmap(path: Path) -> dict[str, int]:
    """Returns the colours of the labels, as red << 16 | green << 8 | blue.

    Raises:
      UserError: a malformed file, or colours that are not clear.
    """
    with reading(str(path)):
        return _labelmap(path)


def _labelmap(path: Path) -> dict[str, int]:
    table: dict[str, int] = {}
    for line in read_bytes(path).decode("utf-8-sig").splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise ValueError(f"expected label:red,green,blue::, received {line!r}")
        name, *levels = match.groups()[:4]
        name = label_text(name)
        red, green, blue = (int(level) for level in levels)
        if max(red, green, blue) > 255:
            raise ValueError(f"label {name} has a colour above 255")
        color = red << 16 | green << 8 | blue
        if table.setdefault(name, color) != color:
            raise UserError(f"{path}: label {name!r} has two colours")
        if list(table.values()).count(color) > 1:
            same = " and ".join(n for n, c in table.items() if c == color)
            raise UserError(f"{path}: {same} have the same colour {_text(color)}")
    if not table:
        raise ValueError("it is empty")
    return table


def _image_sets(folder: Path, files: list[Path]) -> list[str]:
    """The names in ImageSets/Segmentation/*.txt; [] if there are no such files."""
    sets = folder / "ImageSets" / "Segmentation"
    names: dict[str, None] = {}
    for path in files:
        if path.parent == sets and path.suffix == ".txt":
            with reading(str(path)):
                lines = read_bytes(path).decode("utf-8-sig").splitlines()
            names.update(dict.fromkeys(n.strip() for n in lines if n.strip()))
    return list(names)


def _draw(path, mask_path, labelmap, table, labels, notes) -> Drawn:
    with reading(str(mask_path)):
        picture = open_picture(read_bytes(mask_path))
        if picture.mode in ("L", "1", "I;16"):
            gray = np.asarray(picture).astype(np.int32)
            known = list(table.values())
            if not all(int(v) * 0x010101 in known for v in np.unique(gray)):
                # One channel: which line of the label map.
                lines = np.array([labels.number(name) for name in table], np.int16)
                if gray.max() >= len(lines):
                    raise UserError(
                        f"{mask_path}: index {gray.max()}, but {labelmap} has "
                        f"{len(lines)} lines; they are not of one export"
                    )
                return _drawn(path, lines[gray], notes)
        numbers = {color: labels.number(name) for name, color in table.items()}
        numbers.setdefault(_BLACK, 0)
        mask = np.empty(picture.size[::-1], np.int16)
        for rows in bands(*mask.shape):
            channels = np.asarray(band_of(picture, rows).convert("RGB"))
            codes = channels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
            present, places = np.unique(codes, return_inverse=True)
            if stray := [color for color in present.tolist() if color not in numbers]:
                raise UserError(
                    f"{mask_path}: colour {_text(stray[0])} belongs to no label of "
                    f"{labelmap}; they are not of one export"
                )
            values = [numbers[color] for color in present.tolist()]
            mask[rows] = np.array(values, np.int16)[places.reshape(codes.shape)]
    return _drawn(path, mask, notes)


def _drawn(path: Path, mask: np.ndarray, notes: list[str]) -> Drawn:
    return drawn(path.name, read_picture(path, notes), mask, str(path), notes)


def _text(color: int) -> str:
    return f"({color >> 16}, {color >> 8 & 255}, {color & 255})"
