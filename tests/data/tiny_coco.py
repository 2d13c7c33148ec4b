"""COCO's layout with eight classes and a few pictures of 24 by 32 pixels."""

import json

import numpy as np
from PIL import Image

from tests.data import converting

SIZE = (24, 32)
# Ids with gaps, listed in no order; the names are in the order of the ids.
IDS = (1, 3, 4, 7, 20, 44, 67, 90)
NAMES = ("person", "car", "traffic light", "cat", "cup", "fork", "train", "toothbrush")
PERSON, CAR, TRAFFIC_LIGHT, CAT, CUP, TRAIN = 1, 3, 4, 7, 20, 67


def box(left, top, right, bottom):
    """A polygon that fills the pixels [left, right) x [top, bottom)."""
    return [left, top, right, top, right, bottom, left, bottom]


def filled(*boxes, value=1):
    mask = np.zeros(SIZE, np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = value
    return mask


def run_lengths(mask):
    """Run lengths as the COCO API has them, by walking down the columns."""
    counts, value = [0], 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"counts": counts, "size": list(mask.shape)}


CROWD = filled((8, 0, 20, 10))
# Of each picture: (category id, segmentation, crowd).
TRAIN_PICTURES = {
    "a": [(CAT, [box(2, 2, 10, 8)], 0), (CAR, [box(20, 10, 30, 20)], 0)],
    "b": [
        (CAT, [box(2, 2, 10, 8), box(12, 2, 14, 4)], 0),
        (CAT, [box(6, 6, 16, 12)], 0),
        (CAR, [box(0, 0, 5, 5)], 0),
    ],
    "c": [(TRAIN, [[4.25, 4.25, 12.75, 4.25, 4.25, 12.75]], 0)],
    "d": [(TRAIN, run_lengths(filled((3, 4, 9, 20))), 0)],
}
VAL_PICTURES = {
    "v1": [
        (PERSON, run_lengths(CROWD), 1),
        (PERSON, [box(0, 4, 12, 8)], 0),
        (CAR, [box(25, 5, 30, 9)], 0),
    ],
    "v2": [(PERSON, [box(4, 4, 8, 8)], 0), (CAR, [box(25, 5, 30, 9)], 0)],
    "v3": [(PERSON, run_lengths(CROWD), 1), (CAR, [box(0, 0, 32, 24)], 0)],
    "nothing": [],
}


def document(pictures, prefix):
    images, annotations = [], []
    for number, (name, outlines) in enumerate(pictures.items(), start=1):
        image = {"id": number, "file_name": f"{prefix}{name}.jpg", "license": 1}
        images.append({**image, "height": SIZE[0], "width": SIZE[1]})
        for category, segmentation, crowd in outlines:
            annotations.append(
                {
                    "id": 100 * number + len(annotations),
                    "image_id": number,
                    "category_id": category,
                    "segmentation": segmentation,
                    "iscrowd": crowd,
                    "bbox": [0, 0, 1, 1],
                    "area": 1.0,
                }
            )
    categories = [
        {"id": i, "name": name, "supercategory": "thing"}
        for i, name in zip(IDS, NAMES, strict=True)
    ]
    return {
        "info": {"year": 2014},
        "categories": categories[::-1],
        "images": images[::-1],
        "annotations": annotations[::-1],
    }


def write(root, year, train=TRAIN_PICTURES, val=VAL_PICTURES, size=SIZE):
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split, pictures in ((f"train{year}", train), (f"val{year}", val)):
        content = document(pictures, f"COCO_{split}_")
        path = root / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(content))
        (root / split).mkdir()
        for image in content["images"]:
            seed = list(image["file_name"].encode())
            pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(root / split / image["file_name"])


def edit(root, change, split="train2014"):
    """Changes a set's annotations."""
    path = root / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def convert(coco, output, *more):
    argv = ["--coco", coco, "--output_dir", output, "--workers", 1, "--pairs", 10]
    return converting.converter("coco20i")([str(item) for item in [*argv, *more]])


def stored(output, entry):
    """As `converting.stored`, without what COCO puts before a name."""
    masks = converting.stored(output, entry)
    return {name.split("_")[-1]: mask for name, mask in masks.items()}
