"""Converts a set of images and masks to a dataset folder.

  efficientlab convert SOURCE [options]

SOURCE is the layout in which the images are; `SOURCE --help` describes it and lists
its options. The other commands read dataset folders alone.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from efficientlab_tf.data.cleaning import CleaningOptions
from efficientlab_tf.data.example import ClassData
from efficientlab_tf.data.folds import FoldPlan
from efficientlab_tf.data.mask_readings import AUTO, INDEX, MASK_VALUES
from efficientlab_tf.data.sources.coco20i import coco20i
from efficientlab_tf.data.sources.coco_transfer import coco_transfer
from efficientlab_tf.data.sources.davis import RESOLUTION, davis_jobs, find_sequences
from efficientlab_tf.data.sources.folded import FoldedSource
from efficientlab_tf.data.sources.folder import folder_jobs
from efficientlab_tf.data.sources.fpk import fpk_jobs
from efficientlab_tf.data.sources.fss1000 import fss1000_jobs
from efficientlab_tf.data.sources.jobs import ClassJob, read_classes
from efficientlab_tf.data.sources.pascal5i import pascal5i
from efficientlab_tf.data.sources.pascal5i_guided import pascal5i_guided
from efficientlab_tf.data.sources.voc import VOC_CLASSES, read_labels, voc_jobs
from efficientlab_tf.errors import UserError, run_command
from efficientlab_tf.streaming import cores

# TensorFlow is imported inside the functions that need it: worker processes import
# this module too, and without TensorFlow they start at once.

OUTPUT = """\
The dataset folder gets one shard for each class, dataset.json, and report.csv, which
lists each file that was changed, refused or left out, and why.

Exit status: 0; 1 if a class has too few usable examples (the class is named and left
out, all others are written); 2 for bad arguments."""

FOLDS = """\
One dataset folder serves all four folds: the option --splits=fold0 to --splits=fold3
of the other commands chooses one. pairs-fold0.csv to pairs-fold3.csv list the test
pairs, drawn as in Shaban et al. (2017). A class with fewer than two pictures is left
out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Converts what the arguments say; returns the exit status.

    Raises:
      UserError: bad input.
    """
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except UserError as error:
        # The library names its arguments in backticks; here they are options.
        options = re.compile(f"`({'|'.join(vars(args))})`")
        raise UserError(options.sub(r"--\1", str(error))) from error


def run(*first: str) -> None:
    """Runs the command with the arguments `first` before those that were typed."""
    run_command(lambda: main([*first, *sys.argv[1:]]))


def positive_int(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


NAMES = re.compile(",").split
COUNT = {"type": positive_int, "metavar": "N"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="efficientlab convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sources = parser.add_subparsers(metavar="SOURCE", required=True)

    def source(
        run: Callable,
        *folder: str,
        help: str = "folder to convert",
        images: bool = True,
        folds: bool = False,
        splits: str = "",
    ) -> Callable:
        """Adds the subcommand `run`; returns what adds the options it has alone."""
        text = inspect.getdoc(run)
        added = sources.add_parser(
            run.__name__.strip("_"),
            help=text.splitlines()[0],
            description=f"{text}\n\n{FOLDS}" if folds else text,
            epilog=OUTPUT,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        add = added.add_argument
        if folder:
            options = {"dest": "input_dir", "metavar": "DIR", "help": help}
            add(*folder, type=Path, required=True, **options)
        add("--output_dir", required=True, metavar="DIR", help="dataset to write")
        replace = "replace the dataset that is there"
        add("--overwrite", action="store_true", help=replace)
        if folds:
            _add_fold_options(add)
        else:
            _add_class_options(add, splits)
        if images:
            _add_image_options(add)
        return add

    source(_fss1000, "--input_dir")
    add = source(_folder, "--input_dir")
    add("--class_name", help="name of the one class (the name of the folder)")
    values = (
        "what masks hold: a bright object (object) or a dark one (dark), indices of "
        "classes with 255 for unknown (index), a number for each instance (instances), "
        "a colour for each class on black (colors), or what is opaque (alpha); auto "
        "looks, and refuses masks that may mean several things"
    )
    add("--mask_values", choices=MASK_VALUES, default=AUTO, help=values)
    index = {"dest": "mask_values", "action": "store_const", "const": INDEX}
    add("--index_masks", **index, help="the same as --mask_values=index")
    add = source(_voc, "--input_dir")
    labels = 'file of lines "INDEX NAME": the class of each index (PASCAL VOC\'s 20)'
    add("--labels", type=Path, help=labels)
    add("--image_set", help="use only this list of ImageSets/Segmentation: trainval")
    add("--classes", type=NAMES, help="convert only these classes: bus,dog")
    voc = "VOC2012's folder, with JPEGImages"
    add = source(_pascal5i, "--input_dir", "--voc", help=voc, folds=True)
    add("--sbd", type=Path, help="train on SBD, too: benchmark_RELEASE/dataset")
    protocol = "how pictures are divided: as Shaban et al., or as Rakelly et al. do"
    add("--protocol", choices=("shaban", "rakelly"), default="shaban", help=protocol)
    objects = (
        "store each object by a number, from SegmentationObject and SBD's inst, for "
        "--family=instance"
    )
    add("--instances", action="store_true", help=objects)
    coco = "COCO's folder, with annotations"
    add = source(_coco20i, "--input_dir", "--coco", help=coco, folds=True)
    add("--year", help="2014 or 2017 (the one that is there)")
    transfer = "the val set alone, in two halves, without PASCAL VOC's classes"
    add("--transfer", action="store_true", help=transfer)
    add = source(_davis, "--input_dir", "--davis")
    add("--resolution", default=RESOLUTION, help="folder of a resolution (%(default)s)")
    add("--split", default="", help="use only this list of ImageSets: 2017/train")
    add("--sequences", type=NAMES, help="convert only these sequences: bear,camel")
    source(_mliis, "--input_dir", images=False)
    add = source(_fpk, splits="fpk")
    add("--fss1000", type=Path, required=True, help="FSS-1000's folder")
    add("--voc", type=Path, required=True, help=voc)
    add("--sbd", type=Path, help="join SBD, too: benchmark_RELEASE/dataset")
    return parser


def _add_class_options(add: Callable, splits: str) -> None:
    add(
        "--splits",
        default=splits,
        help="class lists: fss1000, fss1000_520, fss1000_700, fpk, icons, or files as "
        f"train=FILE,val=FILE,test=FILE ({splits or 'none'})",
    )
    add(
        *("--min_examples", "--min_pairs"),
        **COUNT,
        default=2,
        help="leave out classes with fewer usable examples (%(default)s)",
    )


def _add_image_options(add: Callable) -> None:
    add(
        "--image_size",
        type=positive_int,
        metavar="SIDE",
        help="resize images and masks to squares of this side (keep their sizes)",
    )
    add(
        "--workers",
        **COUNT,
        default=cores(),
        help="parallel processes (%(default)s)",
    )


def _add_fold_options(add: Callable) -> None:
    add(
        "--pairs",
        **COUNT,
        default=1000,
        help="test pairs to draw for each fold (%(default)s)",
    )
    add("--seed", type=int, default=0, help="seed of the test pairs (%(default)s)")


def _fss1000(args: argparse.Namespace) -> int:
    """FSS-1000: folders CLASS with 1.jpg and its mask 1.png."""
    return _convert_jobs(args, fss1000_jobs(args.input_dir))


def _folder(args: argparse.Namespace) -> int:
    """Your own images and masks.

    DIR/images and DIR/masks hold one class; DIR/CLASS/images and DIR/CLASS/masks hold
    several. A mask has the name of its image (the file type may differ, and _mask may
    end it). What masks hold is found out by looking, see --mask_values.

    A refused file, too, makes the exit status 1; all others are written.
    """
    jobs = folder_jobs(args.input_dir, args.class_name)
    options = CleaningOptions(args.image_size, args.mask_values)
    return _convert_jobs(args, jobs, options, strict=True)


def _voc(args: argparse.Namespace) -> int:
    """PASCAL VOC's layout: one class for each index in the masks.

    JPEGImages/NAME.jpg and SegmentationClass/NAME.png, whose values are the indices of
    classes; 255 is unknown. Each class gets the pictures that show it, with all other
    classes as background.

    A class with fewer than --min_examples pictures is an error only if --classes names
    it.
    """
    jobs = voc_jobs(
        args.input_dir,
        read_labels(args.labels) if args.labels else VOC_CLASSES,
        image_set=args.image_set,
        classes=args.classes,
    )
    if args.classes is None:
        rare = [job.class_name for job in jobs if len(job.files) < args.min_examples]
        jobs = [job for job in jobs if job.class_name not in rare]
        if rare:
            names = ", ".join(rare)
            print(f"fewer than {args.min_examples} pictures, left out: {names}")
    if not jobs:
        raise UserError(
            f"no class of {args.input_dir} has {args.min_examples} pictures; lower "
            "`min_examples`"
        )
    return _convert_jobs(args, jobs)


def _pascal5i(args: argparse.Namespace) -> int:
    """PASCAL-5i: PASCAL VOC 2012, and SBD to train on, in four folds.

    Classes are written as train-CLASS (VOC's train.txt, and SBD without VOC's val.txt)
    and val-CLASS (VOC's val.txt). In their masks the class is 1, all other classes are
    background, and VOC's void is unknown.

    With --protocol=rakelly (section 7.1 of the paper) train-CLASS and val-CLASS are
    VOC's and SBD's own lists, for tasks that hold no class out
    (--train_split=all_train, --eval_split=all_val). The folds have entries of their
    own, fold0-CLASS to train on and held-CLASS to test on: a picture that shows a
    held-out class, too, is no training picture, and all folds are equally large.
    """
    if args.protocol == "shaban":
        return _convert_folds(args, lambda: pascal5i(args.input_dir, args.sbd))
    if args.sbd is None:
        raise UserError("`protocol`=rakelly needs `sbd`, whose lists it joins")
    return _convert_folds(
        args, lambda: pascal5i_guided(args.input_dir, args.sbd, args.seed)
    )


def _coco20i(args: argparse.Namespace) -> int:
    """COCO-20i: MS COCO in four folds.

    The folder holds annotations/instances_trainYEAR.json, instances_valYEAR.json and
    the pictures in trainYEAR and valYEAR. Classes are written as train-CLASS and
    val-CLASS. In their masks the instances of the class are 1, its crowd regions are
    unknown, and all other classes are background.

    With --transfer there are no folds: train-CLASS and val-CLASS are two halves of the
    val set, each with about half of a class's pictures, of the classes that VOC lacks
    (--train_split=all_train, --eval_split=all_val; Rakelly et al., section 5.3).

    A picture is stored once for each class that it shows: give --image_size, or have
    three times COCO's own size of free disk.
    """
    read = coco_transfer if args.transfer else coco20i
    return _convert_folds(args, lambda: read(args.input_dir, args.year))


def _davis(args: argparse.Namespace) -> int:
    """DAVIS: videos; each object is a class, its examples are the frames.

    JPEGImages/480p/SEQ/00000.jpg and Annotations/480p/SEQ/00000.png. Masks hold 0 and
    255 (DAVIS 2016; the class is SEQ), or indices (DAVIS 2017; the classes are SEQ_1,
    SEQ_2, ..., and other objects are background). A class holds the frames that show
    it, in the order of time.
    """
    sequences = find_sequences(
        args.input_dir,
        resolution=args.resolution,
        split=args.split,
        names=args.sequences or (),
    )
    return _convert_jobs(args, davis_jobs(sequences))


def _mliis(args: argparse.Namespace) -> int:
    """The shards that EfficientLab's authors publish.

    One CLASS.tfrecord.gzip for each class, with raw pixels, which are stored as PNG:
    nothing is lost.
    """
    import efficientlab_tf.quiet  # noqa: F401
    from efficientlab_tf.data.sources.mliis import list_shards, read_mliis

    shards = list_shards(args.input_dir)
    return _convert(args, read_mliis(shards), list(shards))


def _fpk(args: argparse.Namespace) -> int:
    """FP-k: five classes of FSS-1000, PASCAL VOC 2012 and SBD, hundreds of examples.

    Joins the pictures of the sets that show the same thing (Hendryx et al., appendix
    D) under FSS-1000's names: airliner, bus, motorbike, potted_plant, television. VOC
    alone has fewer than 200 pictures of some: give --sbd, too.
    """
    return _convert_jobs(args, fpk_jobs(args.fss1000, args.voc, args.sbd))


def _convert_jobs(
    args: argparse.Namespace,
    jobs: Sequence[ClassJob],
    options: CleaningOptions | None = None,
    strict: bool = False,
) -> int:
    options = options or CleaningOptions(args.image_size)
    names = dict.fromkeys(job.class_name for job in jobs)
    classes = read_classes(jobs, options, args.workers)
    return _convert(args, classes, list(names), strict)


def _convert(
    args: argparse.Namespace,
    classes: Iterable[ClassData],
    names: Sequence[str],
    strict: bool = False,
    **folds,
) -> int:
    import efficientlab_tf.quiet  # noqa: F401
    from efficientlab_tf.data.conversion_report import errors, refused, summary
    from efficientlab_tf.data.convert import convert

    options = folds or {"splits": args.splits, "min_examples": args.min_examples}
    conversion = convert(
        classes, names, args.output_dir, overwrite=args.overwrite, **options
    )
    for line in errors(conversion):
        print(line, file=sys.stderr)
    print("\n".join(summary(conversion)))
    failed = conversion.too_few or not conversion.manifest.classes
    return 1 if failed or (strict and refused(conversion)) else 0


def _convert_folds(args: argparse.Namespace, read: Callable[[], FoldedSource]) -> int:
    import efficientlab_tf.quiet  # noqa: F401
    from efficientlab_tf.data.convert import check_output

    check_output(args.output_dir, args.overwrite)
    source = read()
    for note in source.notes:
        print(note)
    options = CleaningOptions(
        args.image_size, instances=getattr(args, "instances", False)
    )
    return _convert(
        args,
        read_classes(source.jobs, options, args.workers),
        source.names,
        folds=FoldPlan(source.folds, args.pairs, args.seed),
        rows=source.rows,
    )


if __name__ == "__main__":
    run()
