"""Builds FP-k: five classes with hundreds of examples (Hendryx et al., appendix D).

Joins, class by class, the pictures of FSS-1000 (CLASS/1.jpg, CLASS/1.png) and those
of PASCAL VOC 2012 (JPEGImages, SegmentationClass) that show the same thing:

    FSS-1000       PASCAL VOC
    airliner       aeroplane
    bus            bus
    motorbike      motorbike
    potted_plant   pottedplant
    television     tvmonitor

Classes bear FSS-1000's names. Writes one shard a class, dataset.json, and report.csv.
Exit status: 0, or 1 if a class has too few usable examples, or 2 for bad arguments.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from efficientlab_tf.data.cleaning import CleaningOptions
from efficientlab_tf.data.example import ClassData
from efficientlab_tf.data.sources.fss1000 import class_job
from efficientlab_tf.data.sources.jobs import ClassJob, read_classes
from efficientlab_tf.data.sources.voc import voc_jobs
from efficientlab_tf.data.tool_arguments import add_conversion_arguments
from efficientlab_tf.errors import UserError, run_command

FPK_CLASSES = {
    "airliner": "aeroplane",
    "bus": "bus",
    "motorbike": "motorbike",
    "potted_plant": "pottedplant",
    "television": "tvmonitor",
}
"""FSS-1000's name to VOC's (Hendryx et al., table 3)."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_conversion_arguments(parser, input_dir=False)
    parser.add_argument(
        "--fss1000", type=Path, required=True, help="FSS-1000's folder of class folders"
    )
    parser.add_argument(
        "--voc", type=Path, required=True, help="VOC2012's folder, with JPEGImages"
    )
    args = parser.parse_args(argv)
    # Not above: worker processes import this file and need no TensorFlow.
    from efficientlab_tf.data.convert import convert, summarize

    missing = [name for name in FPK_CLASSES if not (args.fss1000 / name).is_dir()]
    if missing:
        raise UserError(
            f"--fss1000 {args.fss1000} has no class folder {missing[0]}; give the "
            "folder that holds FSS-1000's 1,000 class folders"
        )
    fss = [class_job(args.fss1000 / name) for name in FPK_CLASSES]
    voc = voc_jobs(args.voc, classes=FPK_CLASSES.values())
    conversion = convert(
        _joined(fss, voc, CleaningOptions(args.image_size), args.workers),
        list(FPK_CLASSES),
        args.output_dir,
        splits=args.splits or "fpk",
        min_examples=args.min_examples,
        overwrite=args.overwrite,
    )
    return summarize(conversion)


def _joined(
    fss: Sequence[ClassJob],
    voc: Sequence[ClassJob],
    options: CleaningOptions,
    workers: int,
) -> Iterator[ClassData]:
    """Reads both sets; yields a class when both its parts are there."""
    by_voc_name = {job.class_name: job for job in voc}
    jobs = []
    for job in fss:
        jobs.append(job)
        partner = by_voc_name.get(FPK_CLASSES[job.class_name])
        if partner is not None:
            jobs.append(partner._replace(class_name=job.class_name))
    joined: ClassData | None = None
    for part in read_classes(jobs, options, workers):
        if joined is not None and joined.class_name == part.class_name:
            yield ClassData(
                part.class_name,
                joined.examples + part.examples,
                joined.rows + part.rows,
            )
            joined = None
            continue
        if joined is not None:
            yield joined
        joined = part
    if joined is not None:
        yield joined


if __name__ == "__main__":
    run_command(main)
