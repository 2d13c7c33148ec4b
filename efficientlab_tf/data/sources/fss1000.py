"""FSS-1000's layout: CLASS/1.jpg with its mask CLASS/1.png, ten of each in a class.

As its authors publish it, a few classes hold second images (10.jpeg beside 10.jpg),
photos where masks should be, and pictures of other sizes.
"""

from pathlib import Path

from efficientlab_tf.data.file_names import of_picture
from efficientlab_tf.data.sources.jobs import (
    ClassJob,
    list_folders,
    list_images,
    match_files,
)
from efficientlab_tf.errors import UserError

MASK_SUFFIXES = (".png", ".gif")


def fss1000_jobs(input_dir: Path) -> list[ClassJob]:
    """Lists the classes of a folder in FSS-1000's layout.

    A PNG (or GIF) is a mask if an image of another type has its stem. Where the image
    is a PNG itself, its mask is STEM_mask.png, or ends in another word for it.

    Raises:
      UserError: no such folder, or no class folder in it.
    """
    folders = list_folders(Path(input_dir))
    if not folders:
        raise UserError(
            f"{input_dir} has no class folders; expected {input_dir}/CLASS/1.jpg "
            "with its mask CLASS/1.png"
        )
    return [class_job(folder) for folder in folders]


def class_job(folder: Path) -> ClassJob:
    """Matches images and masks of one class folder."""
    images: dict[str, list[Path]] = {}
    masks: dict[str, list[Path]] = {}
    pngs = []
    # Of 10.jpg and 10.jpeg the first is the annotated one.
    paths = sorted(list_images(folder), key=lambda p: p.suffix.lower() != ".jpg")
    stems = {path.stem for path in paths}
    for path in paths:
        own = of_picture(path.stem)
        if own != path.stem and own in stems:
            masks.setdefault(own, []).append(path)
        elif path.suffix.lower() not in MASK_SUFFIXES:
            images.setdefault(path.stem, []).append(path)
        else:
            pngs.append(path)
    for path in pngs:
        found = masks if path.stem in images or path.stem not in masks else images
        found.setdefault(path.stem, []).append(path)
    return match_files(folder.name, images, masks)
