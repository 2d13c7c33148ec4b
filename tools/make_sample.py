"""Builds the small real datasets that the package ships: sample:icons, sample:nuclei.

icons: seeded subsets of the published train, val and test classes of icons-fss.
nuclei: all of nuclei-fss, as split "test". Pictures are made smaller and encoded
again, so that the package stays small.
"""

import argparse
import csv
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from efficientlab_tf.data.cleaning import CleaningOptions
from efficientlab_tf.data.sources.fss1000 import fss1000_jobs
from efficientlab_tf.data.sources.jobs import read_classes
from efficientlab_tf.data.split_lists import load_splits
from efficientlab_tf.errors import UserError, run_command

SEED = 0
ICONS_SIZE = 96
NUCLEI_SIZE = 128
MAX_BYTES = 7_600_000

CHANGES = """\
# Licences of the sample data

## icons

The folder icons as a whole is under CC BY-SA 4.0
(https://creativecommons.org/licenses/by-sa/4.0/), with attribution to every set
named below. It is a subset of icons-fss ({classes} of its 595 classes).
Changes made to it: the images were resized from 160x160 to {icons}x{icons} pixels
(the masks likewise, to the nearest pixel) and encoded again as JPEG of quality
{quality}; the masks were stored with the values 0 and 1; images and masks were put
into TFRecord files. icons/provenance.csv names each image's icon set and background.
What icons-fss itself says of its material:

{icons_licences}
## nuclei

Microscope images of cell nuclei with masks, under CC0 1.0
(https://creativecommons.org/publicdomain/zero/1.0/). The images are from the 2018
Data Science Bowl's set, BBBC038 of the Broad Bioimage Benchmark Collection
(J. C. Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data
Science Bowl, Nature Methods 16, 2019); nuclei/provenance.csv gives their ids there.
Changes made: one mask of all nuclei per image; resized to {nuclei}x{nuclei} pixels;
encoded again as JPEG of quality {quality}; put into TFRecord files.
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--icons", type=Path, required=True, help="icons-fss: CLASS/1.jpg, 1.png")
    add("--icons_licences", type=Path, required=True, help="LICENSES.md of icons-fss")
    add(
        "--icons_provenance",
        type=Path,
        required=True,
        help="its provenance.csv",
    )
    add("--nuclei", type=Path, required=True, help="nuclei-fss: CLASS/1.jpg, 1.png")
    add("--nuclei_provenance", type=Path, required=True, help="its provenance.csv")
    add("--output_dir", type=Path, required=True, help="folder to write")
    add("--train", type=int, default=164, help="training classes (%(default)s)")
    add("--val", type=int, default=10, help="validation classes (%(default)s)")
    add("--test", type=int, default=30, help="test classes (%(default)s)")
    add("--jpeg_quality", type=int, default=85, help="of the images (%(default)s)")
    args = parser.parse_args(argv)

    published = load_splits("icons")
    splits = {
        split: tuple(sorted(random.Random(SEED).sample(published[split], count)))
        for split, count in (
            ("train", args.train),
            ("val", args.val),
            ("test", args.test),
        )
    }
    output_dir = args.output_dir
    _build(args.icons, output_dir / "icons", splits, ICONS_SIZE, args.jpeg_quality)
    nuclei = {"test": ("nucleus", "stained_nucleus")}
    _build(args.nuclei, output_dir / "nuclei", nuclei, NUCLEI_SIZE, args.jpeg_quality)
    _copy_rows(args.icons_provenance, output_dir / "icons", splits)
    _copy_rows(args.nuclei_provenance, output_dir / "nuclei", nuclei)
    licences = args.icons_licences.read_text(encoding="utf-8")
    text = CHANGES.format(
        classes=sum(map(len, splits.values())),
        icons=ICONS_SIZE,
        nuclei=NUCLEI_SIZE,
        quality=args.jpeg_quality,
        icons_licences="\n".join(
            f"> {line}".rstrip() for line in licences.strip().splitlines()
        )
        + "\n",
    )
    (output_dir / "LICENSES.md").write_text(text, encoding="utf-8")
    size = sum(path.stat().st_size for path in output_dir.rglob("*") if path.is_file())
    print(f"{output_dir}: {size / 1e6:.2f} MB")
    if size > MAX_BYTES:
        raise UserError(
            f"{output_dir} has {size} bytes, more than {MAX_BYTES}; take fewer classes "
            "or a lower --jpeg_quality"
        )
    return 0


def _build(
    input_dir: Path,
    output_dir: Path,
    splits: dict[str, tuple[str, ...]],
    image_size: int,
    jpeg_quality: int,
) -> None:
    # Not above: worker processes import this file and need no TensorFlow.
    import efficientlab_tf.quiet  # noqa: F401
    from efficientlab_tf.data.convert import REPORT, convert

    names = {name for split_names in splits.values() for name in split_names}
    jobs = [job for job in fss1000_jobs(input_dir) if job.class_name in names]
    conversion = convert(
        read_classes(jobs, CleaningOptions(image_size, jpeg_quality=jpeg_quality), 2),
        [job.class_name for job in jobs],
        output_dir,
        overwrite=True,
    )
    replace(conversion.manifest, splits=splits).save()
    # It would only say of each file that it was resized.
    (output_dir / REPORT).unlink()


def _copy_rows(
    provenance: Path, output_dir: Path, splits: dict[str, tuple[str, ...]]
) -> None:
    """Copies the lines about the classes that were taken."""
    names = {name for split_names in splits.values() for name in split_names}
    with open(provenance, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    path = output_dir / "provenance.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(row for row in rows if row[0] in names)


if __name__ == "__main__":
    run_command(main)
