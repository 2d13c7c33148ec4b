"""PASCAL VOC 2012 with SBD as Rakelly et al. (2018, section 7.1) divide it.

Training pictures are those of VOC's and SBD's train.txt. Validation pictures are those
of both val.txt, but for what is among the training pictures (the paper says so of the
pictures of VOC's val.txt that SBD trains on; here it holds for all). Their entries are
train-NAME and val-NAME: nothing is held out, for interactive segmentation, for the
oracle, and for classes guided from instances.

Fold i of four tests on VOC's classes 5i + 1 to 5i + 5. All pictures with one of these
classes, also training pictures, are held out (held-NAME), and it trains on the training
pictures without any (fold0-NAME to fold3-NAME). Of the larger folds as many pictures
are drawn as the smallest has, of both kinds.

Where both sets label a picture, VOC's finer mask is taken.
"""

import random
from pathlib import Path

from efficientlab_tf.data.folds import (
    HELD_PREFIX,
    TEST,
    TEST_PREFIX,
    TRAIN,
    TRAIN_PREFIX,
    Fold,
    plain_name,
)
from efficientlab_tf.data.sources.folded import FoldedSource, folded_source
from efficientlab_tf.data.sources.pascal5i import TEST_CLASSES, Entries, job, voc_files
from efficientlab_tf.data.sources.sbd import Labelled, read_names, read_sbd
from efficientlab_tf.data.sources.voc import SETS, VOC_CLASSES, check_layout

Picture = tuple[Path, Path]


def pascal5i_guided(voc: Path, sbd: Path, seed: int = 0) -> FoldedSource:
    """Lists the entries, with progress.

    Args:
      voc: VOC2012's folder, with JPEGImages, SegmentationClass and ImageSets.
      sbd: SBD's folder, see `read_sbd`.
      seed: of the draws that make the folds equally large.

    Raises:
      UserError: not these layouts.
    """
    voc = Path(voc)
    check_layout(voc)
    lists = {name: read_names(voc / SETS / f"{name}.txt") for name in ("train", "val")}
    images, masks = voc_files(voc)
    more = read_sbd(sbd)
    training = dict.fromkeys(lists["train"] + more.train)
    validation = [
        name for name in dict.fromkeys(lists["val"] + more.val) if name not in training
    ]
    of_voc = {*lists["train"], *lists["val"]}
    entries = Entries()
    for prefix, names in (TRAIN_PREFIX, training), (TEST_PREFIX, validation):
        own = [name for name in names if name in of_voc]
        entries.add(prefix, Labelled(own, images, masks))
        entries.add(prefix, more.labelled.only(n for n in names if n not in of_voc))
    files = entries.sorted_files()
    seen, unseen = (_classes_of(files, p) for p in (TRAIN_PREFIX, TEST_PREFIX))
    kinds = [
        (
            [picture for picture, names in seen.items() if not names & set(test)],
            [p for p, names in (seen | unseen).items() if names & set(test)],
        )
        for test in TEST_CLASSES
    ]
    sizes = [min(map(len, pictures)) for pictures in zip(*kinds, strict=True)]
    notes = [
        f"training: {len(seen)} pictures, validation: {len(unseen)}",
        f"each fold trains on {sizes[0]} pictures and holds out {sizes[1]}",
    ]
    folds: list[Fold] = []
    for number, (test, pictures) in enumerate(zip(TEST_CLASSES, kinds, strict=True)):
        draw = random.Random(f"{seed}/{number}").sample
        kept = [set(draw(p, size)) for p, size in zip(pictures, sizes, strict=True)]
        rest = [name for name in VOC_CLASSES.values() if name not in test]
        of_fold = (
            (TRAIN, f"fold{number}-", rest, kept[0]),
            (TEST, HELD_PREFIX, test, kept[1]),
        )
        for _, prefix, names, chosen in of_fold:
            for name in names:
                both = files[TRAIN_PREFIX + name] + files[TEST_PREFIX + name]
                files[prefix + name] = [p for p in both if p in chosen]
        folds.append({s: tuple(p + n for n in names) for s, p, names, _ in of_fold})
    report = entries.class_rows, entries.rows, notes
    return folded_source(files, job, tuple(folds), *report)


def _classes_of(files: dict[str, list[Picture]], prefix: str) -> dict[Picture, set]:
    """Each picture of the entries with a prefix, and the classes that it shows."""
    found: dict[Picture, set] = {}
    for entry, pictures in files.items():
        if entry.startswith(prefix):
            for picture in pictures:
                found.setdefault(picture, set()).add(plain_name(entry))
    return found
