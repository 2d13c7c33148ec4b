"""`adapt`: from labelled pictures to masks, mostly in this process."""

import io
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientlab_tf.adapt import AdaptConfig, adapt
from efficientlab_tf.api import model as model_module
from efficientlab_tf.api.loading import load
from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig, build_inner_loop, build_network
from efficientlab_tf.config import OWN, LearnerConfig, ModelConfig, Settings
from efficientlab_tf.data.annotations import LabelledPicture, Support, read_support
from efficientlab_tf.data.mask_readings import Reading
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.queries import (
    Truth,
    find_queries,
    output_names,
    read_query,
)
from efficientlab_tf.losses import Objective
from efficientlab_tf.metrics import mean_iou, predicted_masks, present_iou
from efficientlab_tf.pictures import decide
from efficientlab_tf.segmenters import gradient
from efficientlab_tf.segmenters.adaptation import (
    choose_held_out,
)
from efficientlab_tf.segmenters.forward import ForwardFunctions
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.inner_loop import InnerLoop
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.segmenters.segmenter import spread
from tests.data.annotations.making import write
from tests.loading import load_model
from tests.models.test_heads import SIZE, squares
from tests.models.tiny import tiny_network

ROOT = Path(__file__).parent.parent
LEARNER = LearnerConfig(
    inner_learning_rate=0.1, inner_steps=12, inner_batch=0, augment_rate=0.0, l2=0.0
)


def enlarged(image, width, height):
    how = Image.Resampling.NEAREST
    return Image.fromarray(image).resize((width, height), how)


def pairs(count, seed, size=(64, 48), classes=1, first=1):
    """Files of pictures of `size` (width, height), and their masks."""
    images, masks = squares(count, seed)
    files = {}
    for i, (image, mask) in enumerate(zip(images, masks, strict=True), start=first):
        files[f"{i}.jpg"] = enlarged(image, *size)
        levels = mask if classes > 1 else np.uint8(255) * (mask == 1)
        files[f"{i}.png"] = enlarged(levels, *size)
    return files


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A network that has learned what squares are: as good as meta-learned."""
    keras.utils.set_random_seed(7)
    network = Network(tiny_network(SIZE))
    functions = AdaptFunctions(InnerLoop(network, Objective(l2=0.0)))
    images, masks = squares(6, 0)
    segmenter = functions.segmenter(
        network.weights(), learning_rate=0.1, steps=60, batch_norm="support"
    )
    weights = segmenter.adapt(images, masks.clip(0, 1)).weights
    path = tmp_path_factory.mktemp("model") / "model.keras"
    config = RunConfig(model=ModelConfig(image_size=SIZE), learner=LEARNER)
    save_keras(path, network, weights, config)
    return path


@pytest.fixture
def paths(tmp_path, model):
    """Arguments of a small run: red squares are the object."""
    write(tmp_path / "support", pairs(4, 1))
    write(tmp_path / "query", pairs(3, 2, size=(50, 90)))
    return {
        "model": str(model),
        **{n: str(tmp_path / n) for n in ("support", "query", "output")},
    }


def summary(paths):
    return json.loads((Path(paths["output"]) / "summary.json").read_text())


def found(paths, name):
    with Image.open(Path(paths["output"]) / "masks" / f"{name}.png") as image:
        assert image.mode == "P"
        return np.asarray(image)


@pytest.mark.learned
def test_from_pictures_to_masks(paths, tmp_path, capsys):
    saved = tmp_path / "deep" / "adapted.keras"
    assert adapt(AdaptConfig(**paths, save=str(saved))) == 0
    out = capsys.readouterr().out
    assert "support: 4 pictures (images and masks); classes: object" in out
    assert "adapted: 12 steps at 0.1, batch norm support" in out
    assert out.count("support IoU") == 13 and out.count("loss") == 12
    assert "mean IoU of 3 queries" in out

    document = summary(paths)
    assert document["classes"] == ["object"]
    assert [s["file"] for s in document["support"]["pictures"]] == [
        f"{i}.jpg" for i in range(1, 5)
    ]
    assert document["settings"]["steps"] == 12
    assert document["settings"]["learning_rate"] == 0.1
    steps = document["steps"]
    assert [s["step"] for s in steps] == list(range(13))
    assert steps[0]["loss"] is None and steps[-1]["loss"] < 0.5 * steps[1]["loss"]
    # Before, any square is the object, so that half of what is found is right.
    assert steps[-1]["iou"] > steps[0]["iou"] + 0.3
    assert document["scores"]["queries"] == 3
    assert document["scores"]["mean_iou"] > 0.6
    assert document["early_stopping"] is None and document["failed"] == []

    for i, query in enumerate(document["queries"], start=1):
        mask = found(paths, i)
        assert mask.shape == (90, 50) and set(np.unique(mask)) <= {0, 1}
        assert query["fractions"]["object"] == pytest.approx(np.mean(mask == 1))
        with Image.open(Path(paths["query"]) / f"{i}.png") as truth:
            truth = np.asarray(truth) > 0
        iou = (truth & (mask == 1)).sum() / (truth | (mask == 1)).sum()
        assert query["iou"] == pytest.approx(iou)
        with Image.open(Path(paths["output"]) / query["overlay"]) as image:
            assert image.size == (50, 90)
            assert np.asarray(image)[mask == 1].std() > 1
    with Image.open(Path(paths["output"]) / "contact_sheet.png") as sheet:
        assert np.asarray(sheet).std() > 10

    # What was saved says the same, by the statistics that it was saved with.
    network, weights, run = load_model(str(saved))
    assert run.learner.inner_steps == 12
    functions = AdaptFunctions(build_inner_loop(run.learner, network))
    for i in range(1, 4):
        upright = read_query(Path(paths["query"]) / f"{i}.jpg")
        image = upright.picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        image = tf.constant(np.asarray(image)[np.newaxis])
        p = functions.predict(weights, image, False).numpy()[0]
        np.testing.assert_array_equal(decide(p, (90, 50), 0.5), found(paths, i))


def coco(count, seed):
    """A COCO export of pictures with two classes, and a third that is never used."""
    images, masks = squares(count, seed)
    files, entries, annotations = {}, [], []
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        files[f"{i}.png"] = image
        entries.append({"id": i, "file_name": f"{i}.png", "height": 32, "width": 32})
        for value in (1, 2):
            rows, columns = np.nonzero(mask == value)
            (y0, y1), (x0, x1) = (
                (a.min().item(), a.max().item() + 1) for a in (rows, columns)
            )
            outline = [[x0, y0, x1, y0, x1, y1, x0, y1]]
            annotations.append(
                {"image_id": i, "category_id": value, "segmentation": outline}
            )
    names = enumerate(("red", "blue", "green"), start=1)
    return files | {
        "instances.json": {
            "images": entries,
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for i, name in names],
        }
    }


@pytest.mark.learned
def test_two_classes_with_steps_of_their_own(paths, tmp_path, capsys):
    write(tmp_path / "coco", coco(6, 3))
    write(tmp_path / "two/images", {"a.png": squares(1, 4)[0][0]})
    write(tmp_path / "two/masks", {"a.png": squares(1, 4)[1][0]})
    paths |= {
        "support": str(tmp_path / "coco"),
        "query": str(tmp_path / "two"),
        "save": str(tmp_path / "two.keras"),
    }
    assert adapt(AdaptConfig(**paths, steps="auto")) == 0
    out = capsys.readouterr().out
    assert "its head was copied to 2" in out
    assert out.count("held-out IoU") == len(summary(paths)["early_stopping"]["trail"])
    document = summary(paths)
    assert document["classes"] == ["red", "blue"]
    search = document["early_stopping"]
    assert len(search["held_out"]) == 1
    trail = [step["iou"] for step in search["trail"]]
    assert trail.index(max(trail[1:]), 1) == search["steps"]
    assert len(trail) == search["steps"] + 4 or len(trail) == 201
    assert len(document["steps"]) == search["steps"] + 1
    assert document["scores"]["class_iou"].keys() == {"red", "blue"}
    assert document["scores"]["mean_iou"] > 0.5
    network, _, run = load_model(str(tmp_path / "two.keras"))
    assert network.classes == 2 == run.model.num_classes

    # One of the two, as the network is adapted further; the other is background.
    paths |= {"model": paths.pop("save"), "output": str(tmp_path / "one")}
    assert adapt(AdaptConfig(**paths, classes="blue", steps="1")) == 0
    out = capsys.readouterr().out
    assert "note: background, as `classes` leaves it out: red" in out
    assert summary(paths)["classes"] == ["blue"]
    assert found(paths, "a").max() <= 1


def test_a_network_without_an_inner_loop(paths, tmp_path, capsys):
    options = {"image_size": SIZE, "width": 1 / 16, "channels": 16, "dilated": True}
    model = ModelConfig(network="guided", backbone="VGG16", **options)
    network = build_network(model)
    run = RunConfig(model=model, learner=LearnerConfig(learner="feedforward"))
    path = tmp_path / "guided.keras"
    save_keras(path, network, network.weights(), run)
    write(tmp_path / "coco", coco(3, 3))
    for file in Path(paths["query"]).glob("*.png"):
        file.unlink()
    paths |= {"model": str(path), "support": str(tmp_path / "coco")}
    saved = tmp_path / "adapted.keras"
    assert adapt(AdaptConfig(**paths, save=str(saved))) == 0
    assert "adapted: no steps" in capsys.readouterr().out
    # It has a guide for each class.
    support = read_support(paths["support"], size=(SIZE, SIZE))
    assert support.classes == ("red", "blue")
    adapted = ForwardFunctions(network).segmenter(network.weights())
    adapted = adapted.adapt(
        np.stack([picture.image for picture in support.pictures]),
        np.stack([picture.mask for picture in support.pictures]),
    )
    images = [Image.open(Path(paths["query"]) / f"{i}.jpg") for i in (1, 2, 3)]
    small = [np.asarray(i.resize((SIZE, SIZE), Image.BILINEAR)) for i in images]
    for i, probability in enumerate(adapted.predict(np.stack(small)), start=1):
        expected = decide(probability, (90, 50), 0.5)
        assert np.mean(found(paths, i) == expected) > 0.99
    # Saved, it needs no labelled pictures any more.
    queries = [Path(paths["query"]) / f"{i}.jpg" for i in (1, 2, 3)]
    for i, mask in enumerate(load(saved).predict(queries), start=1):
        np.testing.assert_array_equal(mask, found(paths, i))
    for steps, settings in (("3", OWN), ("model", Settings(learning_rate=0.1))):
        with pytest.raises(UserError, match="has no effect: .*in a forward pass"):
            adapt(AdaptConfig(**paths | {"steps": steps}), settings)


def test_queries_of_every_kind_and_some_that_are_none(paths, capsys):
    folder = Path(paths["query"])
    image = Image.fromarray(squares(1, 5)[0][0])
    turned = image.resize((60, 30))
    exif = turned.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    turned.save(buffer, "JPEG", exif=exif)
    gray16 = np.asarray(image.convert("L")).astype(np.uint16) * 16
    write(
        folder,
        {
            **{"turned.jpg": buffer.getvalue(), "same.jpg": image, "same.png": image},
            **{"deep.tif": Image.fromarray(gray16), "alpha.webp": image},
            **{"gray.bmp": image.convert("L"), "clear.png": image.convert("RGBA")},
            **{"wide.png": image.resize((300, 20)), "dot.png": image.resize((1, 1))},
            **{"empty.jpg": b"", "text.png": b"no picture", "notes.txt": "text"},
            "cut.png": (lambda b: (image.save(b, "PNG"), b.getvalue()[:900])[1])(
                io.BytesIO()
            ),
        },
    )
    assert adapt(AdaptConfig(**paths, steps="1")) == 1
    captured = capsys.readouterr()
    assert "judged by 3 masks found with the queries: 1.png, 2.png, 3.png" in (
        captured.out
    )
    failed = {Path(f["file"]).name: f["reason"] for f in summary(paths)["failed"]}
    assert failed.keys() == {"empty.jpg", "text.png", "cut.png"}
    for name, reason in failed.items():
        assert f"{name}: {reason}" in captured.err
    assert found(paths, "turned").shape == (60, 30)
    assert found(paths, "wide").shape == (20, 300)
    assert found(paths, "dot").shape == (1, 1)
    names = {Path(q["mask"]).stem for q in summary(paths)["queries"]}
    assert names == {
        *("1", "2", "3", "turned", "same_jpg", "same_png", "deep", "alpha"),
        *("gray", "clear", "wide", "dot"),
    }


def test_large_supports_are_learned_in_parts(paths, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(model_module, "WHOLE_SUPPORT", 3)
    monkeypatch.setattr(gradient, "MAX_STATISTICS", 2)
    seen = []

    def spy(count, most):
        seen.append((count, most))
        return spread(count, most)

    monkeypatch.setattr(gradient, "spread", spy)
    paths["query"] += "/1.jpg"
    settings = Settings(learning_rate=0.01)
    assert adapt(AdaptConfig(**paths, steps="2"), settings) == 0
    assert "mini-batches of 8: " in capsys.readouterr().out
    settings = summary(paths)["settings"]
    assert settings["inner_batch"] == 8 and settings["learning_rate"] == 0.01
    assert seen == [(4, 2)] * 3
    assert len(summary(paths)["queries"]) == 1
    assert summary(paths)["scores"] is None

    # Running averages look at no picture for statistics.
    settings = Settings(batch_norm="running", inner_batch=0)
    assert adapt(AdaptConfig(**paths, steps="1"), settings) == 0
    assert summary(paths)["settings"]["inner_batch"] == 0 and len(seen) == 3


def test_one_picture_is_too_few_to_hold_one_out(paths, tmp_path, capsys):
    write(tmp_path / "single", pairs(1, 1))
    paths |= {"support": str(tmp_path / "single"), "query": str(tmp_path / "single")}
    assert adapt(AdaptConfig(**paths, steps="auto")) == 0
    out = capsys.readouterr().out
    assert "the number of steps takes two labelled pictures of each class" in out
    assert "adapted: 12 steps at 0.1" in out
    # The query is the support picture, so its IoU proves nothing.
    assert "1 queries are support pictures; no mean counts them" in out
    assert summary(paths)["scores"] is None
    assert summary(paths)["queries"][0]["in_support"]


def test_learned_rates_need_no_rate(paths, tmp_path):
    network, weights, run = load_model(paths["model"])
    rates = tuple(tf.fill([3] + [1] * t.shape.rank, 0.05) for t in weights.theta)
    path = tmp_path / "rates.keras"
    save_keras(path, network, weights._replace(rates=rates), run)
    paths["model"] = str(path)
    with pytest.raises(UserError, match="`learning_rate` has no effect: .*rates.keras"):
        adapt(AdaptConfig(**paths), Settings(learning_rate=0.1))
    assert adapt(AdaptConfig(**paths, steps="2")) == 0
    assert summary(paths)["settings"]["learning_rate"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "linear"}, "give `model` or `method`, not both"),
        ({"budget": "soon"}, "`budget` must be seconds, such as 60s, or none"),
        ({"budget": "-1s"}, "`budget` must be seconds, .* received '-1s'"),
        ({"query": ""}, "`query` is needed"),
        ({"model": "nowhere.keras"}, "no such run folder or .keras file: nowhere"),
        ({"support": "nowhere"}, "no such file or folder: nowhere"),
        ({"query": "nowhere"}, "no such file or folder: nowhere; give pictures"),
        ({"query_masks": "nowhere"}, "`query_masks`: no such folder: nowhere"),
        ({"steps": "many"}, "`steps` must be a number, auto or model"),
        ({"steps": "-1"}, "`steps` must be a number, auto or model"),
        ({"save": "adapted.h5"}, "`save` must end in .keras, received adapted.h5"),
        ({"threshold": 1.0}, "`threshold` must be below 1, received 1.0"),
        ({"seed": -1}, "`seed` must be at least 0, received -1"),
        ({"classes": "dog"}, "has nothing labelled dog; it has object"),
    ],
)
def test_bad_arguments(paths, changes, message):
    with pytest.raises(UserError, match=message):
        adapt(AdaptConfig(**paths | changes))


def test_bad_folders(paths, tmp_path):
    (tmp_path / "file").write_text("a file")
    for output in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(UserError, match="cannot write to .*choose a folder that"):
            adapt(AdaptConfig(**paths | {"output": str(output)}))
    for name in ("support", "query"):
        with pytest.raises(UserError, match="would write into the input"):
            adapt(AdaptConfig(**paths | {"output": paths[name]}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        adapt(AdaptConfig(**paths | {"query": str(tmp_path / "empty")}))
    with pytest.raises(UserError, match="no file in .* has the name of a picture"):
        adapt(AdaptConfig(**paths | {"query_masks": str(tmp_path / "empty")}))
    with pytest.raises(UserError, match="holds no labelled pictures"):
        adapt(AdaptConfig(**paths | {"support": str(tmp_path / "empty")}))
    (tmp_path / "empty" / "model.keras").write_text("no model")
    with pytest.raises(UserError, match="cannot be read"):
        adapt(AdaptConfig(**paths | {"model": str(tmp_path / "empty/model.keras")}))


def test_as_a_command():
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "efficientlab_tf.adapt", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )

    bad = run("--support=x", "--inner_batch=4")
    assert bad.returncode == 2
    assert bad.stderr.splitlines()[-1] == "error: --query is needed, see --help"
    text = run("--help").stdout
    for flag in (
        "--support",
        "--query_masks",
        "--steps",
        "--inner_batch",
    ):
        assert flag in text


# The parts.


@pytest.mark.parametrize("classes", [1, 3])
def test_deciding_is_what_the_metrics_do(classes):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(classes + 1), (8, 10)).astype(np.float32)
    expected = predicted_masks(p[np.newaxis], 0.4)[0]
    np.testing.assert_array_equal(decide(p, (8, 10), 0.4), expected)
    up = tf.image.resize(p, (40, 25)).numpy()
    expected = predicted_masks(up[np.newaxis], 0.4)[0]
    assert np.mean(decide(p, (40, 25), 0.4) != expected) < 0.01


def test_names_of_results_are_never_shared():
    files = ["a.jpg", "a.png", "b.jpg", "A.tif", "a_jpg.png", "c.d.png"]
    names = output_names(files)
    assert names == ["a_jpg_2", "a_png", "b", "A_tif", "a_jpg", "c.d"]


def test_masks_beside_queries(tmp_path):
    photo = squares(1, 0)[0][0]
    write(tmp_path, pairs(2, 0) | {"3.jpg": photo, "3.png": photo, "4.png": photo})
    queries, notes = find_queries(tmp_path, "")
    names = {q.path.name: q.mask and q.mask.name for q in queries}
    assert names == {
        **{"1.jpg": "1.png", "2.jpg": "2.png"},
        **{"3.jpg": None, "3.png": None, "4.png": None},
    }
    assert "not judged, for want of a mask: 3.jpg, 3.png, 4.png" in notes[-1]
    assert len(find_queries(tmp_path, "none")[0]) == 7
    (tmp_path / "masks").mkdir()
    write(tmp_path / "masks", {"4.png": pairs(1, 0)["1.png"], "3.png": photo})
    queries, notes = find_queries(tmp_path, str(tmp_path / "masks"))
    assert {q.path.name for q in queries if q.mask} == {"4.png"}
    assert "3.png may belong to several pictures: not used" in notes


def test_what_was_decided_is_said(paths, tmp_path, capsys):
    for mask in (tmp_path / "support").glob("*.png"):
        with Image.open(mask) as image:
            values = np.asarray(image).astype(np.uint16) * 257
        Image.fromarray(values).save(mask)
    frames = [picture for picture in map(Image.fromarray, squares(2, 5)[0])]
    frames[0].save(tmp_path / "query/z.tif", save_all=True, append_images=frames[1:])
    (tmp_path / "query/y.psd").write_bytes(b"8BPS")
    assert adapt(AdaptConfig(**paths, steps="1", pages="all")) == 1
    out, error = capsys.readouterr()
    decided = (
        "read as bright object on dark background, levels 0 and 65535; of all pixels"
    )
    assert decided in out and decided in summary(paths)["notes"][0]
    assert "y.psd: Photoshop files are not read; save it as PNG or JPEG" in error
    assert (
        found(paths, "z_page0").shape == found(paths, "z_page1").shape == (SIZE, SIZE)
    )


def test_truth_has_the_values_of_the_support_set(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[:2], mask[2:4], mask[4] = 19, 7, 255
    write(tmp_path, {"a.png": mask, "p.png": np.zeros((8, 8, 3), np.uint8)})
    upright = read_query(tmp_path / "p.png")
    picture = LabelledPicture("p", np.zeros((8, 8, 3), np.uint8), mask)

    def read(values, reading):
        classes = tuple("ab"[: len(values)])
        support = Support("", classes, [picture], values, reading, [])
        truth = Truth(support, [tmp_path / "a.png"])
        return truth.read(tmp_path / "a.png", upright)[:, 0].tolist()

    numbers = Reading("index", "", {7: "7", 19: "19"})
    objects = Reading("object", "", {1: "object"})
    rest = [255, 0, 0, 0]
    assert read((7, 19), numbers) == [2, 2, 1, 1, *rest]
    assert read((7,), numbers) == [0, 0, 1, 1, *rest]
    assert read((7,), Reading("index", "", {7: "7"})) == [0, 0, 1, 1, *rest]
    mask[:2], mask[2:4] = 2, 1
    write(tmp_path, {"a.png": mask})
    # Class folders and exports: masks of several classes hold their numbers.
    assert read((1, 2), objects) == read((5, 9), None) == [2, 2, 1, 1, *rest]
    mask[mask > 0] = 255
    write(tmp_path, {"a.png": mask})
    assert read((3,), None) == read((1,), objects) == [1] * 5 + [0] * 3
    mask[mask > 0] = 38
    write(tmp_path, {"a.png": mask})
    assert read((3,), None) == [1] * 5 + [0] * 3


def test_what_is_held_out_leaves_every_class():
    masks = np.zeros((10, 4, 4), np.uint8)
    masks[:7, 0], masks[7:9, 1], masks[9, 2] = 1, 2, 3
    for seed in range(20):
        chosen = choose_held_out(masks, seed)
        assert len(chosen) == 2 and 9 not in chosen
        assert not {7, 8} <= set(chosen)
    assert len(choose_held_out(masks[:2], 0)) == 1
    assert choose_held_out(masks[:1], 0) == [] == choose_held_out(masks[[0, 8, 9]], 0)
    assert len(choose_held_out(masks[:1].repeat(400, 0), 0)) == 64


def test_iou_of_the_classes_that_are_there():
    counts = np.array([[5, 1, 0], [1, 3, 0], [0, 0, 0]])
    assert present_iou(counts) == {1: 3 / 5} and mean_iou(counts) == 3 / 5
    counts = np.array([[9, 0, 1], [0, 0, 0], [0, 0, 0]])
    assert present_iou(counts) == {2: 0.0}
    assert mean_iou(np.diag([9, 0, 0])) == 1.0
    assert spread(3, 8).tolist() == [0, 1, 2] and spread(9, 3).tolist() == [0, 4, 8]


def test_predictions_for_annotation_tools(paths, capsys):
    (Path(paths["query"]) / "broken.jpg").write_text("no picture")
    config = AdaptConfig(**paths, annotations="coco, labelme,coco")
    assert adapt(config) == 1
    folder = Path(paths["output"]) / "annotations"
    out = capsys.readouterr().out
    assert f"to correct: {folder}/coco, {folder}/labelme\n" in out
    assert sorted(path.name for path in folder.iterdir()) == ["coco", "labelme"]
    support = read_support(folder / "coco")
    assert sorted(p.name for p in support.pictures) == ["1.jpg", "2.jpg", "3.jpg"]
    for picture in support.pictures:
        np.testing.assert_array_equal(picture.mask, found(paths, picture.name[0]))
    order = (Path(paths["output"]) / "label_next.txt").read_text().splitlines()
    images = json.loads((folder / "coco/instances.json").read_text())["images"]
    assert [i["file_name"] for i in images] == [Path(path).name for path in order]
    with pytest.raises(UserError, match="coco is there already"):
        adapt(config)


def test_annotations_of_an_unknown_format(paths):
    with pytest.raises(UserError, match="`annotations` must be of coco, .* 'coco,voc'"):
        AdaptConfig(**paths, annotations="coco,voc")
