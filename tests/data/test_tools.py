"""Looking at a dataset, making the sample, and folders that are not there."""

import importlib.util
import os

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.records import (
    decode_example,
    read_shard,
)
from efficientlab_tf.errors import UserError, run_command
from tests.data.converting import TOOLS, converter, fss1000, lists, sample_arguments
from tools import inspect_dataset, verify


def tool(name):
    """Imports tools/NAME.py, which is not part of the package."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_inspect_prints_counts_and_draws_a_sheet(source, tmp_path, capsys):
    output = tmp_path / "out"
    fss1000(source, output, "--splits", lists(tmp_path, train=["ant"]))
    sheet = tmp_path / "sheet.png"
    assert inspect_dataset.main([str(output), "--output", str(sheet)]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert ["train", "1", "3", "3", "3"] in lines
    assert ["no", "split", "1", "3", "3", "3"] in lines
    assert ["all", "2", "6", "3", "3"] in lines
    picture = Image.open(sheet)
    # Two rows of three examples.
    assert picture.width > 3 * 128 and picture.height > 2 * 128
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 1000
    with pytest.raises(UserError, match="no split 'dev'"):
        inspect_dataset.main([str(output), "--output", str(sheet), "--split", "dev"])
    with pytest.raises(UserError, match="cannot write .*none/sheet.png"):
        inspect_dataset.main([str(output), "--output", f"{tmp_path}/none/sheet.png"])


def test_make_sample(tmp_path):
    output = tmp_path / "sample"
    assert tool("make_sample")(sample_arguments(tmp_path)) == 0
    sample = Manifest.load(output / "icons")
    assert {split: len(names) for split, names in sample.splits.items()} == {
        "train": 3,
        "val": 1,
        "test": 2,
    }
    record = next(read_shard(sample.shard_path(sample.split("test")[0])))
    assert decode_example(record, None)[0].shape == (96, 96, 3)
    assert Manifest.load(output / "nuclei").split("test")[0] == "nucleus"
    licences = (output / "LICENSES.md").read_text()
    assert "> By the artists." in licences and "Changes made" in licences
    assert (output / "nuclei" / "provenance.csv").read_text().count("\n") == 2


@pytest.mark.parametrize(
    "main, argv",
    [
        (converter("fss1000"), ["--input_dir", "nowhere", "--output_dir", "out"]),
        (converter("folder"), ["--input_dir", "nowhere", "--output_dir", "out"]),
        (converter("mliis"), ["--input_dir", "nowhere", "--output_dir", "out"]),
        (verify.main, ["nowhere"]),
        (inspect_dataset.main, ["nowhere"]),
    ],
)
def test_no_such_folder_is_one_line_and_status_2(
    main, argv, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as info:
        run_command(lambda: main(argv))
    assert info.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: no") and "nowhere" in line
    assert os.listdir(tmp_path) == []
