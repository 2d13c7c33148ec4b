"""FP-k: five classes with hundreds of examples (Hendryx et al., appendix D).

Each class joins the pictures of FSS-1000 and of PASCAL VOC 2012 that show the same
thing, and has FSS-1000's name.
"""

from pathlib import Path

from efficientlab_tf.data.sources.fss1000 import class_job
from efficientlab_tf.data.sources.jobs import ClassJob
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


def fpk_jobs(fss1000: Path, voc: Path) -> list[ClassJob]:
    """Lists the classes, two jobs of the same name for each: FSS-1000's, then VOC's.

    Args:
      fss1000: folder of class folders with 1.jpg and its mask 1.png.
      voc: VOC2012's folder, with JPEGImages and SegmentationClass.

    Raises:
      UserError: not these layouts, or FSS-1000 lacks a class.
    """
    for name in FPK_CLASSES:
        if not (fss1000 / name).is_dir():
            raise UserError(
                f"`fss1000` {fss1000} has no class folder {name}; give the folder that "
                "holds FSS-1000's 1,000 class folders"
            )
    jobs_of_voc = voc_jobs(voc, classes=FPK_CLASSES.values())
    of_voc = {job.class_name: job for job in jobs_of_voc}
    jobs = []
    for name, voc_name in FPK_CLASSES.items():
        jobs.append(class_job(fss1000 / name))
        if voc_name in of_voc:
            jobs.append(of_voc[voc_name]._replace(class_name=name))
    return jobs
