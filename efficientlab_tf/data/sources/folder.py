"""A user's own pictures: images/ and masks/ side by side, with the same names."""

from pathlib import Path

from efficientlab_tf.data.sources.jobs import (
    ClassJob,
    by_stem,
    list_folders,
    match_files,
)
from efficientlab_tf.errors import UserError

IMAGES = "images"
MASKS = "masks"


def within(folder: Path, name: str) -> Path:
    """The folder of a name, IMAGES or MASKS, in another.

    If there is none of just this name, in other case or in the singular: Masks, mask.
    """
    own = folder / name
    if own.is_dir() or not folder.is_dir():
        return own
    alike = (f for f in sorted(folder.iterdir()) if f.name.lower() in (name, name[:-1]))
    return next(filter(Path.is_dir, alike), own)


def has_both(folder: Path) -> bool:
    """Whether a folder holds one of pictures and one of masks."""
    return within(folder, IMAGES).is_dir() and within(folder, MASKS).is_dir()


def folder_jobs(input_dir: Path, class_name: str | None) -> list[ClassJob]:
    """Lists the classes of `input_dir`.

    Args:
      input_dir: holds images/ and masks/ (one class), or CLASS/images and
        CLASS/masks (several).
      class_name: the class if there is one; None names it like the folder.

    Raises:
      UserError: neither of these layouts, or `class_name` given for several classes.
    """
    input_dir = Path(input_dir)
    folders = list_folders(input_dir)
    names = [folder.name for folder in folders]
    if has_both(input_dir) or IMAGES in names or MASKS in names:
        return [_class_job(class_name or input_dir.resolve().name, input_dir)]
    classes = [
        f
        for f in folders
        if has_both(f) or (f / IMAGES).is_dir() or (f / MASKS).is_dir()
    ]
    if not classes:
        raise UserError(
            f"{input_dir} has neither {IMAGES}/ and {MASKS}/ nor class folders with "
            f"these; put the pictures into {input_dir}/{IMAGES} and their masks, of "
            f"the same names, into {input_dir}/{MASKS}"
        )
    if class_name is not None:
        raise UserError(
            f"`class_name` {class_name} is for one class, but {input_dir} holds "
            f"{len(classes)} class folders; leave it out, each class has its folder's "
            "name"
        )
    return [_class_job(folder.name, folder) for folder in classes]


def _class_job(class_name: str, folder: Path) -> ClassJob:
    images, masks = (within(folder, name) for name in (IMAGES, MASKS))
    return match_files(class_name, _files(images), _files(masks))


def _files(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}; {IMAGES}/ and {MASKS}/ go together")
    return by_stem(folder)
