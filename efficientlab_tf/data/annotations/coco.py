"""COCO's instances: one JSON with categories, images and outlines."""

from collections import Counter
from pathlib import Path, PureWindowsPath

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
from efficientlab_tf.data.coco_masks import polygon_points
from efficientlab_tf.data.drawing import whole
from efficientlab_tf.errors import UserError

FORMAT = "COCO"


def recognises(document: object) -> bool:
    """Whether a JSON document is one of COCO's with annotations of images."""
    return isinstance(document, dict) and all(
        isinstance(document.get(key), list | dict)
        for key in ("images", "annotations", "categories")
    )


def read(path: Path, document: dict, finder: PictureFinder) -> Export:
    """Reads annotations; small outlines go above large ones.

    A crowd region is painted like any other: annotation tools mark so what they
    write as run lengths. Images without any annotation count as not labelled. Ids may
    be numbers or text.

    Raises:
      UserError: a malformed file, or ids that contradict each other.
    """
    with reading(str(path)):
        annotations = _items(document["annotations"])
        images = {}
        for image in _items(document["images"]):
            if _id(image["id"]) in images:
                raise UserError(
                    f"{path}: two images have the id {brief(image['id'])}, so it is "
                    "not clear whose the annotations are; number the images anew "
                    "(some tools make the id of the digits in the file's name: rename "
                    "the files)"
                )
            images[_id(image["id"])] = image
        used = {_id(a.get("category_id")) for a in annotations if isinstance(a, dict)}
        names = _categories(path, _items(document["categories"]), used)
    notes = []
    untold = [a for a in annotations if isinstance(a, dict) and _is_untold(a)]
    if untold and len(names) == 1:
        (only,) = names
        for annotation in untold:
            annotation["category_id"] = only
        notes.append(
            f"{len(untold)} annotations have no category; {names[only]}, the only one, "
            "was taken"
        )
    by_image: dict[object, list[dict]] = {}
    without_outline = 0
    for index, annotation in enumerate(annotations):
        where = f"{path}, annotation {index}"
        with reading(where):
            _check_id(where, annotation, "category_id", names, "categories")
            _check_id(where, annotation, "image_id", images, "images")
            if annotation.get("segmentation"):
                by_image.setdefault(_id(annotation["image_id"]), []).append(annotation)
            else:
                without_outline += 1
    if without_outline:
        notes.append(
            f"{without_outline} annotations have a box but no outline and were left out"
        )
    if not by_image:
        raise UserError(
            f"{path}: none of {len(annotations)} annotations has an outline "
            "(segmentation); export polygons or masks, boxes are not enough"
        )
    if unlabelled := [i for i in images if i not in by_image]:
        files = listed(images[i].get("file_name", i) for i in unlabelled)
        notes.append(f"not labelled, so left out: {files}")
    labels = Labels(names.values())
    annotated: set[int] = set()
    pictures = (
        _draw(path, images[i], by_image[i], finder, names, labels, annotated, notes)
        for i in images
        if i in by_image
    )
    return Export(
        FORMAT, labels.names, pictures, len(by_image), notes, annotated=annotated
    )


def _items(items: list | dict) -> list:
    """A list, also one that was written as an object of its items by their ids."""
    return list(items.values()) if isinstance(items, dict) else items


def _id(value: object) -> object:
    """An id as it compares: 1, 1.0 and "1" are the same."""
    if isinstance(value, list | dict):
        raise ValueError(f"id {value!r}")
    try:
        return whole(value)
    except (ValueError, OverflowError):
        return value


def _is_untold(annotation: dict) -> bool:
    """Whether an annotation's category is null, as VIA writes it for names in text."""
    return annotation.get("category_id", "") is None


def _check_id(where: str, annotation: dict, key: str, known: dict, what: str) -> None:
    if _id(annotation[key]) not in known:
        shown = listed(map(repr, known))
        raise UserError(
            f"{where}: {key} {brief(repr(annotation[key]))} is not among the {what} "
            f"({shown}); export it again"
        )


def _categories(path: Path, categories: list[dict], used: set) -> dict:
    """Returns the names of the category ids.

    Roboflow lists a category of the project's own name, which nothing belongs to.
    """
    names = {}
    for category in categories:
        number, name = _id(category["id"]), label_text(category["name"])
        if names.setdefault(number, name) != name:
            raise UserError(
                f"{path}: category {number} is both {names[number]!r} and {name!r}; "
                "give each class its own id"
            )
    repeated = {name for name, n in Counter(names.values()).items() if n > 1}
    names = {i: n for i, n in names.items() if n not in repeated or i in used}
    for name, count in Counter(names.values()).items():
        if count > 1:
            raise UserError(
                f"{path}: {count} categories are named {name!r}; give each its own name"
            )
    return names


def _polygons(segmentation: list) -> list[list]:
    """The polygons of a list, which may be one itself: of numbers, or of points."""
    of_numbers = not all(isinstance(part, list) for part in segmentation)
    if of_numbers or (
        len(segmentation) > 2 and all(len(part) == 2 for part in segmentation)
    ):
        return [segmentation]
    return segmentation


def _draw(
    path, image, annotations, finder, names, labels, annotated, notes
) -> Drawn | None:
    with reading(f"{path}, image {image['id']}"):
        file = image["file_name"]
        picture = read_picture(finder.find(file, path), notes)
        name = PureWindowsPath(file).name
        size = image.get("height"), image.get("width")
        canvas = Canvas(name, picture, *size, len(annotations), notes)
    for annotation in annotations:
        where = f"{name}, annotation {annotation.get('id')}"
        value = labels.number(names[_id(annotation["category_id"])])
        polygons = []
        with outline(where, notes):
            if isinstance(annotation["segmentation"], dict):
                canvas.runs(annotation["segmentation"], value)
            else:
                polygons = _polygons(annotation["segmentation"])
        with canvas.one_object():
            for points in polygons:
                with outline(where, notes):
                    canvas.polygon(polygon_points(points), value, coco=True)
    annotated |= canvas.values
    with reading(f"{path}, {file}"):
        return canvas.draw()
