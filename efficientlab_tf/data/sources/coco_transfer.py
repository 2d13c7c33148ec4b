"""COCO's val set in two halves, without PASCAL VOC's classes.

A network learned VOC's classes; what it then needs to segment 60 others, from one
picture of a class to all of one half, is measured on the other half (Rakelly et al.
2018, section 5.3). A picture is in one half with all its classes, and each class is in
both about equally often. Entries are train-NAME and val-NAME.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import TypeVar

from efficientlab_tf.data.folds import TEST_PREFIX, TRAIN_PREFIX
from efficientlab_tf.data.sources.coco20i import CocoJob, Instances, find_year
from efficientlab_tf.data.sources.folded import FoldedSource, folded_source
from efficientlab_tf.data.sources.voc import VOC_CLASSES
from efficientlab_tf.errors import UserError

_NAMES = {
    **{"aeroplane": "airplane", "diningtable": "dining table", "sofa": "couch"},
    **{"motorbike": "motorcycle", "pottedplant": "potted plant", "tvmonitor": "tv"},
}
"""What COCO calls some of VOC's classes."""
_Picture = TypeVar("_Picture", bound=Hashable)


def coco_transfer(root: Path, year: str | None = None) -> FoldedSource:
    """Lists the entries; there are no folds.

    Args:
      root, year: see `coco20i`.

    Raises:
      UserError: see `coco20i`; or all classes are VOC's.
    """
    root = Path(root)
    val = Instances(root, f"val{find_year(root, year)}")
    of_voc = {_NAMES.get(name, name) for name in VOC_CLASSES.values()}
    names = [val.classes[n] for n in sorted(val.classes)]
    if not (names := [name for name in names if name not in of_voc]):
        raise UserError(f"{val.path} has no class that is not PASCAL VOC's")
    found = {name: val.of_class(name, TRAIN_PREFIX + name) for name in names}
    shown: dict[Path, set[str]] = {}
    for name, (pictures, _) in found.items():
        for picture in pictures:
            shown.setdefault(picture.image, set()).add(name)
    first = balanced_half(shown)
    entries = {
        prefix + name: [p for p in found[name][0] if (p.image in first) == is_first]
        for prefix, is_first in ((TRAIN_PREFIX, True), (TEST_PREFIX, False))
        for name in names
    }
    rows = {TRAIN_PREFIX + name: rows for name, (_, rows) in found.items()}
    notes = [
        f"{len(names)} classes of {val.split} that PASCAL VOC has not: {len(first)} "
        f"pictures to learn from, {len(shown) - len(first)} to test on"
    ]
    return folded_source(entries, CocoJob, (), rows, val.rows("val"), notes)


def balanced_half(shown: Mapping[_Picture, Collection[str]]) -> set[_Picture]:
    """Chooses pictures so that of each class about half are among them.

    The same ones always: pictures with the rarest class come first, and each goes where
    its classes, weighted by their rarity, lack more.

    Args:
      shown: picture to the classes that it shows.
    """
    counts = Counter(name for names in shown.values() for name in names)
    first: set[_Picture] = set()
    lead: Counter[str] = Counter()
    for picture in sorted(shown, key=lambda p: min(counts[n] for n in shown[p])):
        here = sum(lead[name] / counts[name] for name in shown[picture]) <= 0
        first |= {picture} if here else set()
        for name in shown[picture]:
            lead[name] += 1 if here else -1
    return first
