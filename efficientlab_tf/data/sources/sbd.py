"""SBD's layout, the Semantic Boundaries Dataset: benchmark_RELEASE/dataset.

img/NAME.jpg has its classes in cls/NAME.mat and its objects in inst/NAME.mat; train.txt
and val.txt list names.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from efficientlab_tf.data.sbd_masks import SBD_SUFFIX
from efficientlab_tf.data.sources.jobs import list_images
from efficientlab_tf.errors import UserError

SBD_IMAGES, SBD_MASKS = "img", "cls"


class Labelled(NamedTuple):
    """Some pictures: their names, and where images and masks are, by name."""

    names: list[str]
    images: Mapping[str, Path]
    masks: Mapping[str, Path]

    def only(self, names: Iterable[str]) -> "Labelled":
        """The same files, other names."""
        return self._replace(names=list(names))


class Sbd(NamedTuple):
    """SBD: all of it, and the names of its two lists."""

    labelled: Labelled
    train: list[str]
    val: list[str]


def read_sbd(folder: Path) -> Sbd:
    """Lists SBD's pictures.

    Args:
      folder: the one with img, cls, train.txt and val.txt or one of the two above it.

    Raises:
      UserError: not this layout.
    """
    folder = Path(folder)
    candidates = (folder, folder / "dataset", folder / "benchmark_RELEASE" / "dataset")
    for root in candidates:
        if (root / SBD_IMAGES).is_dir() and (root / SBD_MASKS).is_dir():
            break
    else:
        raise UserError(
            f"{folder} has no folders {SBD_IMAGES} and {SBD_MASKS}; expected SBD's "
            f"layout: {SBD_IMAGES}/NAME.jpg, {SBD_MASKS}/NAME.mat, train.txt and "
            "val.txt, as in benchmark_RELEASE/dataset"
        )
    train, val = (read_names(root / f"{split}.txt") for split in ("train", "val"))
    masks = (root / SBD_MASKS).iterdir()
    labelled = Labelled(
        list(dict.fromkeys(train + val)),
        {path.stem: path for path in list_images(root / SBD_IMAGES)},
        {path.stem: path for path in masks if path.suffix.lower() == SBD_SUFFIX},
    )
    return Sbd(labelled, train, val)


def read_names(path: Path) -> list[str]:
    """Returns the names of a list, each once."""
    try:
        return list(dict.fromkeys(path.read_text(encoding="utf-8").split()))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(
            f"cannot read the list {path}: {reason}; complete the download"
        ) from error
