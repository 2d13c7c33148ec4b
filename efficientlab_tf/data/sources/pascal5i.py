"""PASCAL-5i (Shaban et al. 2017, section 5): PASCAL VOC 2012, and SBD to train on.

Fold i of four tests on VOC's classes 5i + 1 to 5i + 5 and trains on the other fifteen.
The training pictures are those of VOC's train.txt, and those that SBD (the Semantic
Boundaries Dataset, the paper's "SDS") lists for training or validation, except the
pictures of VOC's val.txt, which are for testing alone. Where both sets label a picture,
VOC's finer mask is taken. In the masks of a class all other classes are background, and
VOC's void stays unknown; SBD has no void.
"""

from pathlib import Path

from tqdm import tqdm

from efficientlab_tf.data.example import LEFT_OUT, REFUSED, ReportRow
from efficientlab_tf.data.folds import (
    TEST_PREFIX,
    TRAIN_PREFIX,
    make_folds,
    plain_name,
)
from efficientlab_tf.data.picture_files import Refused
from efficientlab_tf.data.sources.folded import FoldedSource, folded_source
from efficientlab_tf.data.sources.jobs import ClassJob, list_images
from efficientlab_tf.data.sources.sbd import Labelled, read_names, read_sbd
from efficientlab_tf.data.sources.voc import (
    IMAGES,
    MASKS,
    SETS,
    VOC_CLASSES,
    check_layout,
    mask_indices,
)
from efficientlab_tf.errors import UserError

CLASSES_PER_FOLD = 5

_INDEX = {name: index for index, name in VOC_CLASSES.items()}
_NAMES = list(VOC_CLASSES.values())
TEST_CLASSES = tuple(
    _NAMES[start : start + CLASSES_PER_FOLD]
    for start in range(0, len(_NAMES), CLASSES_PER_FOLD)
)
"""Of each fold."""


def pascal5i(voc: Path, sbd: Path | None = None) -> FoldedSource:
    """Lists the entries of PASCAL-5i, with progress.

    Args:
      voc: VOC2012's folder, with JPEGImages, SegmentationClass and ImageSets.
      sbd: SBD's folder, the one with img, cls, train.txt and val.txt or one of the two
        above it (benchmark_RELEASE/dataset); None trains on VOC alone.

    Raises:
      UserError: not these layouts, or a picture is both in VOC's train.txt and val.txt.
    """
    voc = Path(voc)
    check_layout(voc)
    train, val = (read_names(voc / SETS / f"{name}.txt") for name in ("train", "val"))
    kept = set(val)
    if both := [name for name in train if name in kept]:
        raise UserError(
            f"{voc / SETS}: {len(both)} pictures are in train.txt and in val.txt, "
            f"first {both[0]}; training must not see test pictures, so take them out "
            "of one list"
        )
    images, masks = voc_files(voc)
    entries = Entries()
    training = entries.add(TRAIN_PREFIX, Labelled(train, images, masks))
    rows = []
    if sbd is None:
        notes = [
            f"training: {training} pictures, all of VOC's train.txt; the paper trains "
            "on its 1,464 and on those of SBD"
        ]
    else:
        labelled = read_sbd(sbd).labelled
        overlap = [name for name in labelled.names if name in kept]
        for name in overlap:
            reason = "in VOC's val.txt, so not for training"
            rows.append(ReportRow("train", f"{name}.jpg", LEFT_OUT, reason))
        known = {*train, *val}
        more = [name for name in labelled.names if name not in known]
        added = entries.add(TRAIN_PREFIX, labelled.only(more))
        notes = [
            f"SBD: {len(overlap)} of its {len(labelled.names)} pictures are in VOC's "
            "val.txt and were left out of training",
            f"training: {training + added} pictures, {training} of VOC's train.txt and "
            f"{added} more of SBD",
        ]
    testing = entries.add(TEST_PREFIX, Labelled(val, images, masks))
    notes.append(f"testing: {testing} pictures, of VOC's val.txt")
    folds = make_folds(_NAMES, TEST_CLASSES)
    rows += entries.rows
    files = entries.sorted_files()
    return folded_source(files, job, folds, entries.class_rows, rows, notes)


def voc_files(voc: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Returns VOC's images and masks by name."""
    return tuple(
        {path.stem: path for path in list_images(voc / folder)}
        for folder in (IMAGES, MASKS)
    )


def job(entry: str, files: list, rows: list[ReportRow]) -> ClassJob:
    """Makes the job that reads some pictures of an entry."""
    return ClassJob(entry, files, rows, _INDEX[plain_name(entry)])


class Entries:
    """The entries: their (image, mask) paths, and the report on their files.

    `rows` are the report on files that are of no entry.
    """

    def __init__(self):
        prefixes = TRAIN_PREFIX, TEST_PREFIX
        names = [prefix + name for prefix in prefixes for name in _INDEX]
        self.files: dict[str, list] = {name: [] for name in names}
        self.class_rows: dict[str, list[ReportRow]] = {name: [] for name in names}
        self.rows: list[ReportRow] = []

    def add(self, prefix: str, labelled: Labelled) -> int:
        """Adds pictures to the entries of the classes that their masks hold.

        Returns how many pictures hold a class.
        """
        count = 0
        where = prefix.removesuffix("-")
        for name in tqdm(labelled.names, desc="masks", unit="mask", dynamic_ncols=True):
            image, mask = labelled.images.get(name), labelled.masks.get(name)
            if mask is None:
                reason = "image without mask" if image else "no image and no mask"
                file = image.name if image else name
                self.rows.append(ReportRow(where, file, REFUSED, reason))
                continue
            try:
                indices = mask_indices(mask) & VOC_CLASSES.keys()
            except Refused as error:
                self.rows.append(ReportRow(where, mask.name, REFUSED, str(error)))
                continue
            for index in indices:
                entry = prefix + VOC_CLASSES[index]
                if image:
                    self.files[entry].append((image, mask))
                else:
                    row = ReportRow(entry, mask.name, REFUSED, "mask without image")
                    self.class_rows[entry].append(row)
            count += bool(indices and image)
        return count

    def sorted_files(self) -> dict[str, list]:
        """The pictures of each entry, by name."""
        return {
            entry: sorted(files, key=lambda paths: paths[0].stem)
            for entry, files in self.files.items()
        }
