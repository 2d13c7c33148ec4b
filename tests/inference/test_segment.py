"""`segment`: any number of pictures, resumed, in parts."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientlab_tf import files
from efficientlab_tf.api.loading import load
from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import ModelConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference import segmenting
from efficientlab_tf.inference.collection import Collection, Shard
from efficientlab_tf.metrics import confidence
from efficientlab_tf.segment import SegmentConfig, segment
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.streaming import ahead
from tests.data.annotations.making import picture, png, write
from tests.forked import CONTEXT
from tests.models.tiny import tiny_network

SIZE = 32


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "adapted.keras"
    network = Network(tiny_network(SIZE))
    config = RunConfig(model=ModelConfig(image_size=SIZE))
    save_keras(path, network, network.weights(), config)
    return path


def pictures(count):
    """Pictures of several sizes, in folders."""
    return {
        f"{'deep/er/' * (i % 2)}{i}.png": picture(i, 20 + i % 5, 30)
        for i in range(count)
    }


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "in", pictures(11))
    return tmp_path / "in"


def run(model, query, output, **options):
    config = SegmentConfig(
        model=str(model), query=str(query), output=str(output), **options
    )
    return segment(config)


def lines(output, name="index.jsonl"):
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


def mask(path):
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image)


def test_a_folder_with_all_folders_in_it(model, folder, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(model, folder, output, overlays=True, threshold=0.3) == 0
    found = lines(output)
    assert [line["picture"] for line in found] == [
        str(folder / name)
        for name in sorted(pictures(11), key=lambda name: (name.count("/"), name))
    ]
    images = [Image.open(line["picture"]) for line in found]
    adapted = load(model).adapted
    for line, image, probabilities in zip(
        found, images, adapted.probabilities(images), strict=True
    ):
        own = mask(output / line["mask"])
        assert (line["width"], line["height"]) == image.size == own.shape[::-1]
        np.testing.assert_array_equal(own, probabilities[..., 1] > 0.3)
        assert line["fractions"] == {"object": pytest.approx(np.mean(own == 1))}
        small = adapted.infer([adapted.view(np.asarray(image))])[0]
        assert line["confidence"] == pytest.approx(confidence(small, 0.3), abs=1e-4)
        drawn = output / "overlays" / Path(line["mask"]).relative_to("masks")
        assert Image.open(drawn).size == image.size
    assert sorted(p.name for p in output.iterdir()) == [
        *("index.jsonl", "index.jsonl.lock", "masks", "overlays", "segment.json")
    ]
    assert "segmented: 11 pictures" in capsys.readouterr().out


def test_nothing_is_done_twice_and_what_failed_is_tried_again(
    model, folder, tmp_path, capsys
):
    output = tmp_path / "out"
    (folder / "5b.jpg").write_bytes(b"\xff\xd8\xffnot a picture")
    assert run(model, folder, output) == 1
    captured = capsys.readouterr()
    assert "error: 1 pictures could not be read" in captured.err
    assert f"error: {folder / '5b.jpg'}: not an image file" in captured.err
    (bad,) = [line for line in lines(output) if "error" in line]
    assert bad["picture"] == str(folder / "5b.jpg") and "mask" not in bad
    assert len(lines(output)) == 12

    times = {p: p.stat().st_mtime_ns for p in output.rglob("masks/**/*.png")}
    assert len(times) == 11
    picture(3).save(folder / "5b.jpg")
    picture(4).save(folder / "new.png")
    assert run(model, folder, output) == 0
    assert "going on after 11 pictures" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in times} == times
    names = [line["picture"] for line in lines(output)]
    assert len(names) == len(set(names)) == 13


def _killed(model, folder, output, writes):
    """Segments, and dies at the start of one of the writes of a picture."""
    real, left = files.replacing, [writes]

    def replacing(path, scratch=None):
        if path.suffix == ".png":
            left[0] -= 1
            if not left[0]:
                (scratch / "half.png").write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
        return real(path, scratch)

    segmenting.replacing = replacing
    run(model, folder, output)


@pytest.mark.parametrize("writes", [1, 6, 11])
def test_a_killed_process_is_gone_on_with(model, folder, tmp_path, writes):
    output = tmp_path / "out"
    process = CONTEXT.Process(target=_killed, args=(model, folder, output, writes))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    done = {line["picture"] for line in lines(output)}
    assert len(done) < 11
    with open(output / "index.jsonl", "a") as index:
        index.write('{"picture": "a li')
    assert run(model, folder, output) == 0
    whole = tmp_path / "whole"
    assert run(model, folder, whole) == 0
    key = "picture"
    found = sorted(lines(output), key=lambda line: line[key])
    assert found == sorted(lines(whole), key=lambda line: line[key])
    for line in found:
        assert (output / line["mask"]).read_bytes() == (
            whole / line["mask"]
        ).read_bytes()
    assert not [*output.rglob("half*"), *output.rglob(".*")]


def test_parts_are_the_whole_and_do_not_meet(model, folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(model, folder, whole) == 0
    found = []
    for number in range(3):
        assert run(model, folder, parts, shard=f"{number}/3") == 0
        found += lines(parts, f"index-{number}-of-3.jsonl")
    names = [line["picture"] for line in found]
    assert sorted(names) == sorted(line["picture"] for line in lines(whole))
    for own in parts.rglob("masks/**/*.png"):
        other = whole / own.relative_to(parts)
        assert own.read_bytes() == other.read_bytes()
    with pytest.raises(UserError, match="another `shard`; give the same"):
        run(model, folder, parts, shard="0/4")


def test_results_of_other_settings_stay_apart(model, folder, tmp_path):
    assert run(model, folder, tmp_path / "out") == 0
    again = tmp_path / "model" / "moved.keras"
    again.parent.mkdir()
    again.write_bytes(model.read_bytes())
    assert run(again, folder, tmp_path / "out") == 0
    with pytest.raises(UserError, match="another `classes` and `threshold`; give"):
        run(model, folder, tmp_path / "out", classes="cell", threshold=0.6)
    with pytest.raises(UserError, match="another `model`; give"):
        run("icons_fomaml_lite0", folder, tmp_path / "out")


def test_a_list_of_paths(model, folder, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "a.png"
    write(elsewhere.parent, {"a.png": picture(1)})
    (folder / "list.txt").write_text(
        f"\ufeff0.png\ndeep/er/1.png\n\n{elsewhere}\n../elsewhere/a.png\n0.png\nno.png\n"
    )
    output = tmp_path / "out"
    assert run(model, folder / "list.txt", output, classes="cell") == 1
    found = lines(output)
    assert [line.get("mask") for line in found] == [
        *("masks/0.png.png", "masks/deep/er/1.png.png"),
        *(f"masks{elsewhere}.png", None),
    ]
    assert [line["picture"] for line in found[2:]] == [
        *(str(elsewhere), str(folder / "no.png"))
    ]
    assert found[3]["error"] == "No such file or directory"
    assert set(found[0]["fractions"]) == {"cell"}


def record(**features):
    values = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in features.items()
    }
    features = tf.train.Features(feature=values)
    return tf.train.Example(features=features).SerializeToString()


def test_tfrecords_and_damage_in_them(model, tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    images = [picture(i, 20, 30 + i) for i in range(7)]
    with tf.io.TFRecordWriter(str(folder / "a.tfrecord")) as writer:
        for image in images:
            writer.write(record(**{"image/encoded": png(image)}))
        writer.write(record(other=b""))
        writer.write(b"no example")
    with tf.io.TFRecordWriter(str(folder / "b.tfrecord")) as writer:
        for image in images[:3]:
            writer.write(record(**{"image/encoded": png(image)}))
    data = bytearray((folder / "b.tfrecord").read_bytes())
    data[-5] ^= 1
    (folder / "b.tfrecord").write_bytes(data)

    assert run(model, folder, output) == 1
    found = lines(output)
    path = folder / "a.tfrecord"
    assert [line["picture"] for line in found[:9]] == [f"{path}#{i}" for i in range(9)]
    assert found[3]["mask"] == "masks/a.tfrecord/00000003.png"
    predicted = load(model).adapted.predict(images)
    for line, expected in zip(found, predicted, strict=False):
        np.testing.assert_array_equal(mask(output / line["mask"]), expected)
    for line in found[7:9]:
        assert line["error"] == "expected an example with one image/encoded"
    assert [line["picture"][-3:] for line in found[9:]] == ["d#0", "d#1", "d#2"]
    assert found[-1]["error"].startswith("truncated or corrupt: this record and those")

    collection = Collection(folder)
    names = [query.output for query in collection.queries(Shard())]
    parts = [
        query.output for i in range(4) for query in collection.queries(Shard(i, 4))
    ]
    assert sorted(parts) == sorted(names) and len(names) == 12


def test_an_exported_model_segments_alike(model, folder, tmp_path):
    from efficientlab_tf.config import ExportConfig

    adapted = load(model).adapted
    adapted.export(tmp_path / "served" / "1", ExportConfig(max_side=60))
    picture(1, 20, 61).save(folder / "large.png")
    output = tmp_path / "out"
    assert run(tmp_path / "served" / "1", folder, output) == 1
    *found, bad = sorted(lines(output), key=lambda line: "error" in line)
    assert bad["error"] == (
        "refused by the exported model: images: expected sides of 1 to 60 pixels, "
        "received height and width [20 61]"
    )
    images = [line["picture"] for line in found]
    for line, expected in zip(found, adapted.predict(images), strict=True):
        # It resizes in TensorFlow, and what is saved segments through Pillow.
        assert np.mean(mask(output / line["mask"]) != expected) < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shard": "3/3"}, "`shard` must be i/n with i from 0 to n - 1"),
        ({"shard": "1"}, "`shard` must be i/n"),
        ({"classes": "a,b"}, r"`classes` must name the model's 1 class\(es\)"),
        ({"query": "nowhere"}, "no such file or folder: nowhere"),
        ({"query": ""}, "`query` is needed"),
        ({"output": "in/out"}, "would write among the pictures"),
        ({"query": "empty"}, "holds no pictures"),
        ({"model": "linear"}, "segments nothing before it has adapted"),
    ],
)
def test_what_cannot_be_done_is_said(model, folder, monkeypatch, options, message):
    monkeypatch.chdir(folder.parent)
    Path("empty").mkdir()
    given = {"model": str(model), "query": "in", "output": "out"} | options
    with pytest.raises(UserError, match=message):
        segment(SegmentConfig(**given))


def test_ctrl_c_says_how_to_go_on(model, folder, tmp_path, monkeypatch, capsys):
    output, real = tmp_path / "out", segmenting._together

    def interrupted(adapted, items):
        if len(lines(output)) or items[0].query.output != "0.png":
            raise KeyboardInterrupt
        return real(adapted, items)

    monkeypatch.setattr(segmenting, "_together", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(model, folder, output)
    assert "pictures are done; the same command goes on" in capsys.readouterr().err
    monkeypatch.undo()
    assert run(model, folder, output) == 0
    assert len(lines(output)) == 11


def test_results_come_in_order_and_few_wait():
    begun = []

    def slow(item):
        begun.append(item)
        time.sleep(0.02 * (item % 3))
        return item

    results = ahead(slow, range(40), threads=3, most=5, weight=int, heaviest=1e9)
    for expected in range(20):
        assert next(results) == expected
        assert len(begun) <= expected + 6
    results.close()
    count = len(begun)
    time.sleep(0.1)
    assert len(begun) == count < 40


def test_heavy_results_do_not_pile_up():
    begun = []
    work = ahead(
        lambda item: begun.append(item) or item,
        range(30),
        threads=2,
        most=16,
        weight=lambda item: 10,
        heaviest=30,
    )
    for expected in range(30):
        assert next(work) == expected
        time.sleep(0.01)
        assert len(begun) <= expected + 4


def test_an_error_is_raised_in_its_place():
    def work(item):
        if item == 3:
            raise ValueError("three")
        return item

    results = ahead(work, range(9), threads=2, most=4, weight=int, heaviest=99)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
