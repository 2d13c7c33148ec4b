"""What pages tell people to type is run, on pictures and networks of a few pixels."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.cli import _with_our_flagfile
from tests.data import tiny_coco as coco
from tests.data.conftest import sbd, voc
from tests.data.test_davis import davis
from tests.data.tiny_dataset import tiny_dataset
from tests.data.tiny_voc import many
from tests.forked import run_forked
from tests.test_docs_commands import ROOT, commands
from tests.test_figures import saved
from tests.test_reproduce import CLASSES

__all__ = ["davis", "sbd", "voc"]  # Fixtures.

_TRAIN = (
    "--meta_steps=1 --meta_batch=1 --image_size=32 --val_episodes=1 --shots=1 "
    "--queries=1 --inner_steps=2 --weights= --dataset_dir=datasets/icons --splits="
)
SHORTER = {
    "train": _TRAIN,
    "quickstart": f"{_TRAIN} --backbone=EfficientNetLite0 --validate_every=1",
    "tune": "--tasks=2 --rounds=1 --samples=2 --max_steps=2 --shots=2",
    "fpk": "--ks=2 --draws=1 --steps=1 --initializations=meta --test_examples=2",
    "compare": "--eval_size=32 --timed_tasks=1 --shots=1",
    "adapt": "--method=linear",
    "evaluate": "--steps=1 --shots=2",
}
"""Flags that make a command short; of a flag that is there twice the last counts."""
SMALLER = {
    "--dataset_dir=sample:icons": "--dataset_dir=datasets/icons",
    "--steps=0,5,20,50,200": "--steps=0,1",
    "--steps=50": "--steps=1",
}
WITHOUT = {"--splits", "fss1000"}
"""The lists of FSS-1000's classes, which no miniature has."""
ELSEWHERE = {
    "tools/reproduce.py": "test_reproduce.py",
    "tools/benchmark.py": "benchmarks",
    "tools/second_order_error.py": "benchmarks/test_second_order_error.py",
    "tools/import_efficientlab_checkpoint.py": "models/test_import_tf1.py",
    "tools/figure.py curve": "test_figures.py",
    "tools/figure.py conditioning": "test_figures.py",
    "--strategy=": "promises/test_devices.py",
    "--backbone=hub:": "models/test_hub.py",
    "oslsm_pascal5i_normalised": "models/test_oslsm.py",
}
"""Tests of what is too large for here, or needs another machine or a download."""
MODEL = re.compile(
    r"(?<![\w/.])(runs/\w+|RUN2?|mine\.keras|efficientlab\.keras|icons_fomaml_lite0|NAME)"
    r"(?![\w/])"
)
WRITTEN = re.compile(r"--(run_dir|output|save)=")


def here(command: tuple[str, ...]) -> bool:
    return not any(part in " ".join(command) for part in ELSEWHERE)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    return saved(path, dataset_dir="datasets/icons", inner_steps=1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What a person has beside himself as he reads: labelled and new pictures."""
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    for name in ("labelled/images", "labelled/masks", "new_pictures", "fewshot_data"):
        Path(name).mkdir(parents=True)
    for i in range(4):
        image = rng.integers(0, 90, [64, 80, 3], np.uint8)
        mask = np.zeros([64, 80], np.uint8)
        mask[20:40, 10 * i : 30 + 10 * i] = 255
        image[mask > 0, 0] += 150
        Image.fromarray(image).save(f"new_pictures/{i}.png")
        if i < 3:
            Image.fromarray(image).save(f"labelled/images/{i}.png")
            Image.fromarray(mask).save(f"labelled/masks/{i}.png")
        for name in CLASSES:
            own = Path("fewshot_data", name)
            own.mkdir(exist_ok=True)
            Image.fromarray(np.roll(image, i)).save(own / f"{i + 1}.jpg")
            Image.fromarray(mask).save(own / f"{i + 1}.png")
    return tmp_path


@pytest.fixture
def world(folder, davis, voc, sbd):  # noqa: F811
    """A folder with a miniature of everything that commands read."""
    splits = {
        split: tuple(f"{split}_{i}" for i in range(2))
        for split in ("train", "val", "test")
    }
    names = [name for own in splits.values() for name in own]
    tiny_dataset(folder / "datasets" / "icons", dict.fromkeys(names, 12), splits)
    for name in ("ccp", "mine", "fss1000", "fpk", "caltech"):
        (folder / "datasets" / name).symlink_to("icons")
    (folder / "DATA").symlink_to("datasets/icons")
    (folder / "DIR").symlink_to("DAVIS")
    many(voc, sbd)
    (folder / "VOCdevkit").mkdir()
    (folder / "VOCdevkit" / "VOC2012").symlink_to(voc)
    (folder / "SBD").symlink_to(sbd)
    coco.write(folder / "COCO", 2014)
    (folder / "FRAMES").symlink_to("DAVIS/JPEGImages/480p/bear")
    (folder / "MASKS").symlink_to("DAVIS/Annotations/480p/bear")
    (folder / "first.png").symlink_to("MASKS/00000.png")
    for name in ("new", "few", "all"):
        (folder / name).symlink_to("new_pictures")
    labelme = folder / "results" / "annotations" / "labelme"
    labelme.parent.mkdir(parents=True)
    labelme.symlink_to(folder / "labelled")
    return folder


@pytest.mark.parametrize("command", list(filter(here, commands())), ids=" ".join)
def test_it_runs(world, model, command):
    name, *arguments = command
    arguments = [
        argument if WRITTEN.match(argument) else MODEL.sub(model, argument)
        for argument in map(_with_our_flagfile, arguments)
        if argument not in WITHOUT
    ]
    pairs = zip(arguments, arguments[1:], strict=False)
    written = [path for flag, path in pairs if flag in ("--output", "--output_dir")]
    written += [a.partition("=")[2] for a in arguments if WRITTEN.match(a)]
    for path in map(world.joinpath, written):
        # It may stand there as what others read.
        if path.is_symlink():
            path.unlink()
    arguments = [SMALLER.get(argument, argument) for argument in arguments]
    if name.startswith("tools/"):
        name = name.removesuffix(".py").replace("/", ".")
    arguments += SHORTER.get(name, "").split()
    # Graphs of all kinds of training are tested elsewhere.
    ended = run_forked(world, name, *arguments, untraced=True)
    assert ended.status == 0, ended.out + ended.err
    for path in map(world.joinpath, written):
        assert path.is_file() or any(path.iterdir()), path
    if command[0] == "adapt":
        masks = list((world / written[0] / "masks").glob("*.png"))
        assert len(masks) == 4
    if command[0] == "tools/convert_fss1000.py":
        assert (world / written[0] / "dataset.json").is_file()


def test_what_is_run_elsewhere_is():
    assert all((ROOT / "tests" / path).exists() for path in ELSEWHERE.values())
    assert len(list(filter(here, commands()))) > 30
