"""FP-k: five classes with hundreds of examples (Hendryx et al., appendix D).

Each class joins the pictures of FSS-1000, of PASCAL VOC 2012 and of SBD that show the
same thing, and has FSS-1000's name.
"""

import itertools
from pathlib import Path

from efficientlab_tf.data.folds import TRAIN_PREFIX
from efficientlab_tf.data.sources.fss1000 import class_job
from efficientlab_tf.data.sources.jobs import ClassJob
from efficientlab_tf.data.sources.pascal5i import Entries, job, voc_files
from efficientlab_tf.data.sources.sbd import read_sbd
from efficientlab_tf.data.sources.voc import voc_jobs
from efficientlab_tf.errors import UserError

FPK_CLASSES = {
    "airliner": "aeroplane",
    "bus": "bus",
    "motorbike": "motorbike",
    "potted_plant": "pottedplant",
    "television": "tvmonitor",
}
"""FSS-1000's name to VOC's (Hendryx et al., table 3)."""


def fpk_jobs(fss1000: Path, voc: Path, sbd: Path | None = None) -> list[ClassJob]:
    """Lists the classes, several jobs of the same name for each, a set a job.

    Args:
      fss1000: folder of class folders with 1.jpg and its mask 1.png.
      voc: VOC2012's folder, with JPEGImages and SegmentationClass.
      sbd: SBD's folder, see `read_sbd`; where VOC labels a picture, too, its finer mask
        is taken. Without it some classes have fewer than 200 pictures.

    Raises:
      UserError: not these layouts, or FSS-1000 lacks a class.
    """
    for name in FPK_CLASSES:
        if not (fss1000 / name).is_dir():
            raise UserError(
                f"`fss1000` {fss1000} has no class folder {name}; give the folder that "
                "holds FSS-1000's 1,000 class folders"
            )
    sets = [voc_jobs(voc, classes=FPK_CLASSES.values())]
    if sbd is not None:
        labelled = read_sbd(sbd).labelled
        known = voc_files(voc)[1]
        entries = Entries()
        entries.add(
            TRAIN_PREFIX, labelled.only(n for n in labelled.names if n not in known)
        )
        files = entries.sorted_files()
        sets.append([])
        for voc_name in FPK_CLASSES.values():
            entry = TRAIN_PREFIX + voc_name
            found = job(entry, files[entry], entries.class_rows[entry])
            sets[-1].append(found._replace(class_name=voc_name))
    jobs = []
    for name, voc_name in FPK_CLASSES.items():
        jobs.append(class_job(fss1000 / name))
        jobs += [
            own._replace(class_name=name)
            for own in itertools.chain(*sets)
            if own.class_name == voc_name
        ]
    return jobs
