"""Small datasets as others publish them, for those who convert them."""

import pytest

from tests.data.converting import fill
from tests.data.tiny_voc import (
    SBD,
    VOC_TRAIN,
    VOC_VAL,
    save_image,
    save_mask,
    save_mat,
)


@pytest.fixture
def source(tmp_path):
    """Two sound classes in FSS-1000's layout."""
    source = tmp_path / "source"
    for name in ("ant", "bee"):
        fill(source / name, source / name)
    return source


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for split, masks in (("train", VOC_TRAIN), ("val", VOC_VAL)):
        listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        listed.write_text("".join(f"{name}\n" for name in reversed(masks)))
        for name, mask in masks.items():
            save_image(root / "JPEGImages" / f"{name}.jpg")
            save_mask(root / "SegmentationClass" / f"{name}.png", mask)
    return root


@pytest.fixture
def sbd(tmp_path):
    root = tmp_path / "benchmark_RELEASE" / "dataset"
    for folder in ("img", "cls"):
        (root / folder).mkdir(parents=True)
    for split, masks in SBD.items():
        (root / f"{split}.txt").write_text("\n".join(masks))
        for name, mask in masks.items():
            save_image(root / "img" / f"{name}.jpg")
            save_mat(root / "cls" / f"{name}.mat", mask)
    return root
