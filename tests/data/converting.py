"""Folders to convert, the commands that convert them, and what these report."""

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from efficientlab_tf.data.example import Example
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.records import decode_example, parse_record, read_shard
from efficientlab_tf.data.split_lists import load_splits
from tools import convert

TOOLS = Path(__file__).parents[2] / "tools"
SIDE = 24


def converter(source):
    """The command that converts a source, as a function of its options."""
    return lambda argv: convert.main([source, *argv])


def make_arrays(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[4 : 8 + seed % 8, 6:20] = 255
    return image, mask


def fill(images, masks, count=3, first=1):
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        image, mask = make_arrays(index)
        Image.fromarray(image).save(images / f"{index}.jpg", quality=95)
        Image.fromarray(mask).save(masks / f"{index}.png")


def arguments(source, output, *more):
    return ["--input_dir", str(source), "--output_dir", str(output), *more]


def fss1000(source, output, *more):
    argv = arguments(source, output, "--workers", "1", *more)
    return converter("fss1000")(argv)


def report(output):
    with open(output / "report.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["class", "file", "action", "reason"]
    return rows


def lists(tmp_path, **splits):
    parts = []
    for split, names in splits.items():
        path = tmp_path / f"{split}.txt"
        path.write_text("\n".join(names))
        parts.append(f"{split}={path}")
    return ",".join(parts)


def stored_example():
    buffer = io.BytesIO()
    Image.new("L", (2, 2)).save(buffer, "PNG")
    return Example("1.png", buffer.getvalue(), "png", buffer.getvalue(), 2, 2)


def sample_arguments(tmp_path):
    """Makes what tools/make_sample.py reads; returns its command line."""
    ant = tmp_path / "ant"
    fill(ant, ant)
    icons = tmp_path / "icons"
    for names in load_splits("icons").values():
        for name in names:
            (icons / name).parent.mkdir(exist_ok=True)
            (icons / name).symlink_to(ant)
    nuclei = tmp_path / "nuclei"
    for name in ("nucleus", "stained_nucleus"):
        fill(nuclei / name, nuclei / name)
    (tmp_path / "LICENSES.md").write_text("By the artists.\n")
    (tmp_path / "icons.csv").write_text("class,index\nbear,1\nnone,1\n")
    (tmp_path / "nuclei.csv").write_text("class,index\nnucleus,1\n")
    return f"""--icons {icons} --icons_licences {tmp_path}/LICENSES.md
        --icons_provenance {tmp_path}/icons.csv --nuclei {nuclei}
        --nuclei_provenance {tmp_path}/nuclei.csv --output_dir {tmp_path}/sample
        --train 3 --val 1 --test 2""".split()


def stored(output, entry):
    """Returns name to decoded mask of an entry, in stored order."""
    records = list(read_shard(Manifest.load(output).shard_path(entry)))
    names = [Path(parse_record(r)["filename"].numpy().decode()).stem for r in records]
    return {
        name: decode_example(record, None)[1].numpy()
        for name, record in zip(names, records, strict=True)
    }
