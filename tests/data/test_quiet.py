"""What the tools write to stderr, as whoever types them sees it: their own lines."""

import re
import subprocess
import sys

import numpy as np
import pytest

from efficientlab_tf.data.verify import masked_crc32c
from tests.data.converting import TOOLS, fill, sample_arguments
from tests.data.test_sources import bright_half, write_mliis
from tests.data.tiny_dataset import tiny_dataset
from tests.forked import run_forked
from tests.models.shared import shared_path

SHIMS = {
    "build_fpk": "convert fpk",
    "convert_coco20i": "convert coco20i",
    "convert_davis": "convert davis",
    "convert_folder": "convert folder",
    "convert_fss1000": "convert fss1000",
    "convert_mliis_shards": "convert mliis",
    "convert_pascal5i": "convert pascal5i",
    "convert_voc": "convert voc",
    "inspect_dataset": "inspect",
    "verify_dataset": "verify",
}


def started(name, *arguments):
    """Runs tools/NAME.py in a process of its own."""
    command = [sys.executable, *map(str, (TOOLS / f"{name}.py", *arguments))]
    return subprocess.run(command, capture_output=True, text=True)


def lines(stderr):
    """The lines of stderr, without those of progress bars."""
    written = re.split(r"[\r\n]+", stderr)
    return [line for line in written if line and not re.match(r"\w+: +\d+%\|", line)]


@pytest.fixture
def quiet(tmp_path_factory):
    """Runs a command, which must succeed and say nothing; returns what it printed.

    TensorFlow is loaded already, see `run_forked`.
    """

    def run(*arguments):
        ended = run_forked(tmp_path_factory.mktemp("output"), *map(str, arguments))
        assert (ended.status, lines(ended.err)) == (0, [])
        return ended.out

    return run


@pytest.fixture
def dataset(tmp_path):
    return tiny_dataset(tmp_path / "tiny", {"bear": 3, "cup": 4}).directory


@pytest.mark.parametrize("name", SHIMS)
def test_tools_are_the_commands_of_the_package(name):
    done = started(name, "--help")
    assert done.stdout.startswith(f"usage: efficientlab {SHIMS[name]} ")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_conversion_with_worker_processes_and_the_import_of_tensorflow(tmp_path):
    for name in ("ant", "bee"):
        fill(tmp_path / "in" / name, tmp_path / "in" / name)
    (tmp_path / "in" / "bee" / "3.jpg").unlink()
    folders = ["--input_dir", tmp_path / "in", "--output_dir", tmp_path / "out"]
    done = started("convert_fss1000", *folders, "--workers", 2)
    assert lines(done.stderr) == ["refused: bee/3.png: mask without image"]
    assert done.returncode == 0 and "2 classes, 5 examples" in done.stdout


def test_a_damaged_record_is_one_line(dataset):
    shard = next(dataset.glob("bear*"))
    records = shard.read_bytes()
    end = 12 + int.from_bytes(records[:8], "little")
    body = b"\xff" + records[13:end]
    checksum = masked_crc32c(body).to_bytes(4, "little")
    shard.write_bytes(records[:12] + body + checksum + records[end + 4 :])
    done = started("verify", dataset)
    (digest, record) = lines(done.stderr)
    assert "sha256" in digest and record.startswith(f"fault: {shard}, record 0")
    assert done.returncode == 1


def test_a_loaded_model_and_what_onednn_says_of_whole_numbers():
    code = (
        "from efficientlab_tf.api.loading import load; load('all_foreground');"
        "import tensorflow as tf; tf.transpose([[1, 2]])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_conversion_of_shards(tmp_path, quiet):
    image = np.zeros((224, 224, 3), np.uint8)
    record = {"image": image.tobytes(), "mask": bright_half(224, 224).tobytes()}
    write_mliis(tmp_path / "bear.tfrecord.gzip", [record] * 2)
    folders = ["--input_dir", tmp_path, "--output_dir", tmp_path / "out"]
    out = quiet("__main__", "convert", "mliis", *folders)
    assert "1 classes, 2 examples" in out


def test_a_conversion_to_folds_with_worker_processes(voc, tmp_path, quiet):
    folders = ["--voc", voc, "--output_dir", tmp_path]
    out = quiet("__main__", "convert", "pascal5i", *folders, "--workers", 2)
    assert "fold3: train" in out


def test_verify(dataset, quiet):
    assert quiet("__main__", "verify", dataset).startswith("OK: ")


def test_inspect(dataset, tmp_path, quiet):
    quiet("__main__", "inspect", dataset, "--output", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").is_file()


def test_make_sample(tmp_path, quiet):
    quiet("tools.make_sample", *sample_arguments(tmp_path))


def test_import_of_a_checkpoint(tmp_path, quiet):
    index = shared_path("golden/efficientlab_b0_nodecoder/model.ckpt.index")
    output = tmp_path / "model.keras"
    quiet(
        "tools.import_efficientlab_checkpoint",
        *("--checkpoint", index.with_suffix(""), "--output", output),
        *("--image_size", 32),
    )
    assert output.is_file()


def test_a_benchmark(dataset, quiet):
    out = quiet(
        *("tools.benchmark", "episodes", "--dataset_dir", dataset, "--image_size", 32),
        *("--shots", 1, "--queries", 2, "--seconds", 0.1),
    )
    assert "2 classes" in out
