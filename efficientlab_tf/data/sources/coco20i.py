"""COCO-20i: the 80 classes of MS COCO in four folds of 20 test classes.

Classes are numbered from 0 in the order of their category ids; fold i tests on i,
i + 4, i + 8, ... (Nguyen and Todorovic 2019; HSNet, Min et al. 2021) and trains on all
others. Training pictures are COCO's train set, test pictures its val set. A class's
mask is the union of its instances; its crowd regions, which are roughly outlined, are
unknown (255) where no instance is. All other classes are background. The outlines are
drawn in the worker processes, polygons as the COCO API does.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from efficientlab_tf.data.cleaning import CleaningOptions
from efficientlab_tf.data.coco_masks import paint
from efficientlab_tf.data.drawing import blank
from efficientlab_tf.data.example import REFUSED, ClassData, ReportRow
from efficientlab_tf.data.example_files import make_example
from efficientlab_tf.data.folds import TEST_PREFIX, TRAIN_PREFIX, make_folds
from efficientlab_tf.data.mask_readings import UNKNOWN
from efficientlab_tf.data.picture_files import Refused
from efficientlab_tf.data.sources.folded import FoldedSource, folded_source
from efficientlab_tf.data.sources.jobs import collected, list_images
from efficientlab_tf.errors import UserError

FOLDS = 4
CLASSES = 80
ANNOTATIONS = "annotations"


class Outline(NamedTuple):
    """One annotation of a picture.

    Attributes:
      number: its id, for messages.
      image: the picture's id.
      category: the class's id.
      crowd: whether it is a region of many things, not told apart.
      segmentation: polygons or run lengths, as `coco_masks.paint` takes them.
    """

    number: object
    image: object
    category: object
    crowd: bool
    segmentation: object


class Labelled(NamedTuple):
    """One picture with the outlines of one class.

    Attributes:
      image: its file.
      height, width: in pixels, as annotated.
      outlines: of the class, at least one that is no crowd.
    """

    image: Path
    height: object
    width: object
    outlines: list[Outline]


class CocoJob(NamedTuple):
    """Pictures of one class to read, in the order to be stored; see `jobs.Job`.

    `rows` are the report on files that are not among the pictures.
    """

    class_name: str
    pictures: list[Labelled]
    rows: list[ReportRow]

    def read(self, options: CleaningOptions) -> ClassData:
        """Reads the pictures and draws their masks."""
        return collected(
            self.class_name,
            self.rows,
            (
                make_example(
                    self.class_name,
                    picture.image,
                    picture.image.name,
                    partial(draw_mask, picture),
                    options,
                    must_mark=True,
                )
                for picture in self.pictures
            ),
        )


def draw_mask(picture: Labelled) -> tuple[np.ndarray, list[str]]:
    """Returns a class's mask in a picture, uint8 [H, W] of 0, 1 and 255; no changes.

    Raises:
      Refused: an outline is malformed; the mask would lack it.
    """
    what = "its size"
    try:
        mask = blank(picture.height, picture.width)
        # Instances last: what one marks is known, crowd or not.
        for outline in sorted(picture.outlines, key=lambda o: not o.crowd):
            what = f"annotation {outline.number}"
            if not outline.segmentation:
                raise Refused(f"{what} has no outline")
            paint(mask, outline.segmentation, UNKNOWN if outline.crowd else 1)
    except KeyError as error:
        raise Refused(f"{what}: {error} is missing") from error
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise Refused(f"{what}: {error}") from error
    return mask.astype(np.uint8), []


def coco20i(root: Path, year: str | None = None) -> FoldedSource:
    """Lists the entries of COCO-20i, with progress.

    Args:
      root: holds annotations/instances_trainYEAR.json and instances_valYEAR.json, and
        the pictures in trainYEAR/ and valYEAR/.
      year: of these; None takes the one that is there.

    Raises:
      UserError: not this layout, several years, malformed JSON, or sets that differ in
        classes or share a picture.
    """
    root = Path(root)
    year = find_year(root, year)
    splits = {TRAIN_PREFIX: f"train{year}", TEST_PREFIX: f"val{year}"}
    with tqdm(splits.items(), desc="annotations", unit="file") as progress:
        sets = {prefix: Instances(root, split) for prefix, split in progress}
    train, val = sets.values()
    if train.classes != val.classes:
        raise UserError(
            f"{train.path} and {val.path} name different categories; take both from "
            "one year of COCO"
        )
    if both := sorted(train.stems & val.stems):
        raise UserError(
            f"{root}: {len(both)} pictures are in train and in val, first {both[0]}; "
            "training must not see test pictures, so take them out of one set"
        )
    classes = [train.classes[number] for number in sorted(train.classes)]
    notes = [
        f"COCO {year}: {len(s.stems)} pictures in {s.split}" for s in sets.values()
    ]
    if len(classes) != CLASSES:
        notes.append(f"{len(classes)} categories; COCO has {CLASSES}")
    pictures, class_rows, rows = {}, {}, []
    for prefix, instances in sets.items():
        for name in classes:
            entry = prefix + name
            pictures[entry], class_rows[entry] = instances.of_class(name, entry)
        rows += instances.rows(prefix.removesuffix("-"))
    folds = make_folds(classes, [classes[fold::FOLDS] for fold in range(FOLDS)])
    return folded_source(pictures, CocoJob, folds, class_rows, rows, notes)


class Instances:
    """One instances_*.json, sorted by class and picture."""

    def __init__(self, root: Path, split: str):
        self.path = root / ANNOTATIONS / f"instances_{split}.json"
        self.split = split
        folder = root / split
        if not folder.is_dir():
            raise UserError(
                f"no folder {folder}; expected the pictures of {self.path} there"
            )
        self._files = {path.name: path for path in list_images(folder)}
        document = _load(self.path)
        self.classes = _categories(self.path, document["categories"])
        self._images = _images(self.path, document["images"])
        self.stems = {Path(image.name).stem for image in self._images.values()}
        if len(self.stems) < len(self._images):
            raise UserError(f"{self.path}: two images have the same name")
        # Class name to image id to outlines.
        self._outlines: dict[str, dict[object, list[Outline]]] = {
            name: {} for name in self.classes.values()
        }
        # Class name, or None for no class, to (what is left out, why).
        self._stray: defaultdict[str | None, list] = defaultdict(list)
        for annotation in document["annotations"]:
            self._add(annotation)

    def _add(self, annotation: object) -> None:
        if not isinstance(annotation, Outline) or not all(
            isinstance(number, int | str)
            for number in (annotation.image, annotation.category)
        ):
            reason = "no image_id or no category_id"
            self._stray[None].append(("annotation", reason))
            return
        image, category = annotation.image, annotation.category
        name = self.classes.get(category)
        what = f"annotation {annotation.number}"
        if name is None:
            reason = f"category_id {category} is not among the categories"
            self._stray[None].append((what, reason))
        elif image not in self._images:
            reason = f"image_id {image} is not among the images"
            self._stray[name].append((what, reason))
        else:
            self._outlines[name].setdefault(image, []).append(annotation)

    def of_class(self, name: str, entry: str) -> tuple[list[Labelled], list[ReportRow]]:
        """Returns the pictures of a class by name, and the report's rows on it."""
        pictures = []
        faults = list(self._stray[name])
        for number, outlines in self._outlines[name].items():
            if all(outline.crowd for outline in outlines):
                continue
            image = self._images[number]
            path = self._files.get(image.name)
            if path is None:
                faults.append((image.name, "mask without image"))
            else:
                pictures.append(Labelled(path, image.height, image.width, outlines))
        rows = [ReportRow(entry, what, REFUSED, reason) for what, reason in faults]
        return sorted(pictures, key=lambda picture: picture.image.name), rows

    def rows(self, where: str) -> list[ReportRow]:
        """Returns the report's rows on what is of no class."""
        listed = {image.name for image in self._images.values()}
        unlisted = f"image without mask: {self.path.name} does not list it"
        strangers = [(name, unlisted) for name in self._files if name not in listed]
        faults = self._stray[None] + strangers
        return [ReportRow(where, what, REFUSED, reason) for what, reason in faults]


class _Image(NamedTuple):
    number: object
    name: object
    height: object
    width: object


def find_year(root: Path, year: str | None) -> str:
    """Returns `year`, or the one that is there.

    Raises:
      UserError: not COCO's layout, several years, or not this one.
    """
    found = {
        match[1]
        for path in (root / ANNOTATIONS).glob("instances_train*.json")
        if (match := re.fullmatch(r"instances_train(.*)\.json", path.name))
        and path.with_name(f"instances_val{match[1]}.json").is_file()
    }
    if not found:
        raise UserError(
            f"{root} has no {ANNOTATIONS}/instances_trainYEAR.json with an "
            "instances_valYEAR.json; expected COCO's folder as of 2014 or 2017"
        )
    there = ", ".join(sorted(found))
    if year is None and len(found) > 1:
        raise UserError(f"{root} holds several years; `year` must be one of {there}")
    if year is not None and year not in found:
        raise UserError(f"{root} has no annotations of year {year}; there is {there}")
    return year if year is not None else found.pop()


def _load(path: Path) -> Mapping[str, list]:
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file, object_hook=_compact)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not JSON that can be read ({error}); download it again"
        ) from error
    for key in ("categories", "images", "annotations"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise UserError(
                f"{path} has no list {key!r}; expected COCO's instances: categories, "
                "images and annotations"
            )
    return document


def _compact(item: dict) -> object:
    """Makes numbers arrays while JSON is read: as objects they take ten times as much.

    What is malformed stays as it is, to be reported with its picture.
    """
    if "image_id" in item and "category_id" in item:
        outline = item.get("segmentation")
        if isinstance(outline, list):
            outline = [_array(polygon, np.float64) for polygon in outline]
        crowd = bool(item.get("iscrowd", 0))
        numbers = item["image_id"], item["category_id"]
        return Outline(item.get("id"), *numbers, crowd, outline)
    if "file_name" in item:
        size = item.get("height"), item.get("width")
        return _Image(item.get("id"), item["file_name"], *size)
    if isinstance(item.get("counts"), list):
        item["counts"] = _array(item["counts"], None)
    return item


def _array(values: object, dtype: type | None) -> object:
    try:
        return np.array(values, dtype)
    except (ValueError, TypeError, OverflowError):
        return values


def _categories(path: Path, categories: list) -> dict[int, str]:
    names: dict[int, str] = {}
    for category in categories:
        category = category if isinstance(category, dict) else {}
        number, name = category.get("id"), category.get("name")
        usable = isinstance(name, str) and Path(name).name == name != ""
        if not isinstance(number, int) or not usable:
            raise UserError(
                f"{path}: expected categories with an id and a name that can be a file "
                f"name, received id {number!r}, name {name!r}"
            )
        if number in names or name in names.values():
            raise UserError(f"{path}: category {number}, {name!r}, is listed twice")
        names[number] = name
    if len(names) < FOLDS:
        raise UserError(
            f"{path} has {len(names)} categories; {FOLDS} folds need at least {FOLDS}"
        )
    return names


def _images(path: Path, images: list) -> dict[object, _Image]:
    found: dict[object, _Image] = {}
    for image in images:
        usable = isinstance(image, _Image) and isinstance(image.name, str)
        if not usable or not isinstance(image.number, int | str):
            raise UserError(
                f"{path}: expected images with an id and a file_name, received {image}"
            )
        if found.setdefault(image.number, image) is not image:
            raise UserError(f"{path}: two images have the id {image.number}")
    return found
