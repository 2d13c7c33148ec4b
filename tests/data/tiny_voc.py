"""PASCAL VOC's layout and SBD's with a few pictures of 24 by 32 pixels."""

import numpy as np
from PIL import Image
from scipy.io import savemat

from tests.data.converting import converter

BUS, PLANT, DOG = 6, 16, 12


def save_mask(path, values):
    """A palette PNG, as VOC has them: its colours must not matter."""
    picture = Image.fromarray(values).convert("P")
    picture.putdata(values.ravel().tolist())
    picture.putpalette([255 - i for i in range(256) for _ in range(3)])
    picture.save(path)


SIZE = (24, 32)
VOID = 255


def mask_of(**regions):
    """A mask of horizontal stripes, four rows each: b0=6 is a bus at the top."""
    mask = np.zeros(SIZE, np.uint8)
    for place, value in regions.items():
        row = 4 * int(place[1:])
        mask[row : row + 4, 2:30] = value
    return mask


VOC_TRAIN = {
    "t1": mask_of(b0=BUS, b2=DOG, b4=VOID),
    "t2": mask_of(b1=BUS),
    "t3": mask_of(b1=DOG),
    "void": np.full(SIZE, VOID, np.uint8),
    "empty": mask_of(),
}
VOC_VAL = {
    "v1": mask_of(b0=BUS, b1=PLANT),
    "v2": mask_of(b2=BUS, b3=VOID),
    "v3": mask_of(b2=BUS, b5=PLANT),
    "v4": mask_of(b2=DOG),
}
SBD = {
    "train": {"s1": mask_of(b0=BUS, b5=PLANT), "v1": mask_of(b0=BUS)},
    "val": {"s2": mask_of(b4=PLANT), "t2": mask_of(b5=BUS), "v4": mask_of(b1=DOG)},
}


def save_image(path):
    pixels = np.random.default_rng(list(path.stem.encode())).integers(
        0, 256, (*SIZE, 3), np.uint8
    )
    Image.fromarray(pixels).save(path)


def save_mat(path, values, name="GTcls"):
    """As SBD's: one struct with a mask, the boundaries and the classes there."""
    boundaries = np.empty((20, 1), object)
    boundaries[:] = [[np.zeros((1, 1))]] * 20
    present = np.setdiff1d(np.unique(values), 0)[:, np.newaxis]
    struct = {
        "Segmentation": values,
        "Boundaries": boundaries,
        "CategoriesPresent": present,
    }
    savemat(path, {name: struct}, do_compression=True)


def convert(voc, output, *more):
    argv = ["--voc", voc, "--output_dir", output, "--workers", 1, "--pairs", 20, *more]
    return converter("pascal5i")([str(item) for item in argv])


def sbd_objects(sbd):
    """Writes SBD's inst: in each picture two objects of the stripes, left and right."""
    (sbd / "inst").mkdir()
    for masks in SBD.values():
        for name, mask in masks.items():
            objects = np.zeros(SIZE, np.uint8)
            objects[mask > 0] = 5
            objects[:, 16:][mask[:, 16:] > 0] = 9
            save_mat(sbd / "inst" / f"{name}.mat", objects, "GTinst")


def voc_objects(voc):
    """Writes VOC's SegmentationObject: all of a picture is one object."""
    (voc / "SegmentationObject").mkdir()
    for name, mask in {**VOC_TRAIN, **VOC_VAL}.items():
        objects = np.where(mask == VOID, VOID, 3 * (mask > 0)).astype(np.uint8)
        save_mask(voc / "SegmentationObject" / f"{name}.png", objects)


def many(voc, sbd):
    """Adds pictures: ten buses, ten dogs, five with both, four birds, five plants."""
    bird = 3
    kinds = [("b", {"b0": BUS})] * 10 + [("d", {"b1": DOG})] * 10
    kinds += [("bd", {"b0": BUS, "b1": DOG})] * 5 + [("p", {"b2": PLANT})] * 5
    kinds += [("a", {"b3": bird})] * 4
    names = []
    for number, (kind, regions) in enumerate(kinds):
        names.append(f"{kind}{number}")
        save_image(voc / "JPEGImages" / f"{names[-1]}.jpg")
        mask = mask_of(**regions)
        save_mask(voc / "SegmentationClass" / f"{names[-1]}.png", mask)
    sets = voc / "ImageSets" / "Segmentation"
    (sets / "train.txt").write_text("\n".join(names))
    (sets / "val.txt").write_text("v2\n")
    (sbd / "train.txt").write_text("s1\n")
    (sbd / "val.txt").write_text("s2\n")
