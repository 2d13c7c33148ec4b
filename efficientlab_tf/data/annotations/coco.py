"""COCO's instances: one JSON with categories, images and outlines."""

from collections import Counter
from pathlib import Path, PureWindowsPath

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
from efficientlab_tf.data.coco_masks import paint
from efficientlab_tf.data.drawing import blank
from efficientlab_tf.errors import UserError

FORMAT = "COCO"


def recognises(document: object) -> bool:
    """Whether a JSON document is one of COCO's with annotations of images."""
    return isinstance(document, dict) and all(
        isinstance(document.get(key), list)
        for key in ("images", "annotations", "categories")
    )


def read(path: Path, document: dict, finder: PictureFinder) -> Export:
    """Reads annotations; they are painted in the order in which they are listed.

    A crowd region is painted like any other: annotation tools mark so what they
    write as run lengths. Images without any annotation count as not labelled.

    Raises:
      UserError: a malformed file, or ids that contradict each other.
    """
    with reading(str(path)):
        names = _categories(path, document["categories"])
        images = {}
        for image in document["images"]:
            if image["id"] in images:
                raise UserError(f"{path}: two images have the id {image['id']}")
            images[image["id"]] = image
    by_image: dict[object, list[dict]] = {}
    without_outline = 0
    for index, annotation in enumerate(document["annotations"]):
        where = f"{path}, annotation {index}"
        with reading(where):
            if annotation["category_id"] not in names:
                raise UserError(
                    f"{where}: category_id {annotation['category_id']} is not among "
                    "the categories; export it again"
                )
            if annotation["image_id"] not in images:
                raise UserError(
                    f"{where}: image_id {annotation['image_id']} is not among the "
                    "images; export it again"
                )
            if annotation.get("segmentation"):
                by_image.setdefault(annotation["image_id"], []).append(annotation)
            else:
                without_outline += 1
    notes = []
    if without_outline:
        notes.append(
            f"{without_outline} annotations have a box but no outline and were left out"
        )
    if not by_image:
        raise UserError(
            f"{path}: none of {len(document['annotations'])} annotations has an "
            "outline (segmentation); export polygons or masks, boxes are not enough"
        )
    if unlabelled := [i for i in images if i not in by_image]:
        files = listed(images[i].get("file_name", i) for i in unlabelled)
        notes.append(f"not labelled, so left out: {files}")
    labels = Labels(names.values())
    pictures = (
        _draw(path, images[i], by_image[i], finder, names, labels, notes)
        for i in images
        if i in by_image
    )
    return Export(FORMAT, labels.names, pictures, len(by_image), notes)


def _categories(path: Path, categories: list[dict]) -> dict:
    """Returns the names of the category ids."""
    names = {}
    for category in categories:
        number, name = category["id"], category["name"]
        if not isinstance(name, str):
            raise ValueError(f"category {number} is named {name!r}")
        if names.setdefault(number, name) != name:
            raise UserError(
                f"{path}: category {number} is both {names[number]!r} and {name!r}; "
                "give each class its own id"
            )
    for name, count in Counter(names.values()).items():
        if count > 1:
            raise UserError(f"{path}: {count} categories are named {name!r}")
    return names


def _draw(path, image, annotations, finder, names, labels, notes) -> Drawn:
    with reading(f"{path}, image {image['id']}"):
        file = image["file_name"]
        picture = read_picture(finder.find(file, path))
        width, height = picture.picture.size
        mask = blank(image.get("height") or height, image.get("width") or width)
    for annotation in annotations:
        with reading(f"{path}, annotation {annotation.get('id')} of {file}"):
            value = labels.number(names[annotation["category_id"]])
            paint(mask, annotation["segmentation"], value)
    return drawn(PureWindowsPath(file).name, picture, mask, f"{path}, {file}", notes)
