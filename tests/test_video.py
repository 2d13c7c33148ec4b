"""`video`: from an annotated frame to masks, an overlay and measures."""

import contextlib
import csv
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig, build_network
from efficientlab_tf.config import OWN, LearnerConfig, ModelConfig, Settings
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation import study
from efficientlab_tf.pictures import PALETTE, palette_image
from efficientlab_tf.segmenters.forward import ForwardFunctions
from efficientlab_tf.video import benchmark, clip, segment
from efficientlab_tf.video.__main__ import run
from efficientlab_tf.video.annotation import Annotation, Point, Truths, read_annotation
from efficientlab_tf.video.benchmark import annotate
from efficientlab_tf.video.config import VideoConfig
from efficientlab_tf.video.frames import Frames, natural_key
from efficientlab_tf.video.methods import methods_of
from efficientlab_tf.video.segment import Clock, certain_pixels, follow
from tests.data.annotations.making import write
from tests.loading import load_model
from tests.models.test_heads import SIZE
from tests.test_adapt import ROOT, enlarged, model  # noqa: F401  (a fixture)

COUNT = 6
WIDTH, HEIGHT = 64, 48


def video(count=COUNT, width=WIDTH, height=HEIGHT):
    """A red square (1) that moves by two pixels a frame, and a blue one (2) at rest."""
    rng = np.random.default_rng(3)
    images, masks = [], []
    for i in range(count):
        image = rng.integers(90, 160, (SIZE, SIZE, 3), np.uint8)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        for value, top, left, color in (
            (1, 3 + i, 2 + 2 * i, (230, 30, 30)),
            (2, 20, 20, (30, 30, 230)),
        ):
            image[top : top + 10, left : left + 10] = color
            mask[top : top + 10, left : left + 10] = value
        images.append(enlarged(image, width, height))
        masks.append(np.asarray(enlarged(mask, width, height)))
    return images, masks


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """A guided network with random weights."""
    sizes = {"image_size": SIZE, "width": 1 / 16, "channels": 16}
    config = RunConfig(
        model=ModelConfig(network="guided", backbone="VGG16", dilated=True, **sizes),
        learner=LearnerConfig(learner="feedforward", augment_rate=0.0),
    )
    network = build_network(config.model)
    path = tmp_path_factory.mktemp("guided") / "model.keras"
    save_keras(path, network, network.weights(), config)
    return path


@pytest.fixture
def paths(tmp_path, model):  # noqa: F811
    """Arguments of a small run: the red square is the object."""
    images, masks = video()
    frames = {f"frame{i}.png": image for i, image in enumerate(images, start=7)}
    truth = {f"frame{i}.png": 255 * (m == 1) for i, m in enumerate(masks, start=7)}
    write(tmp_path / "frames", frames)
    write(tmp_path / "truth", {n: m.astype(np.uint8) for n, m in truth.items()})
    return {
        "model": str(model),
        "sequence": str(tmp_path / "frames"),
        "annotation": str(tmp_path / "truth/frame7.png"),
        "annotations": str(tmp_path / "truth"),
        "output": str(tmp_path / "output"),
    }


def summary(paths):
    return json.loads((Path(paths["output"]) / "summary.json").read_text())


def found(paths):
    """The masks that were written, in the order of the frames."""
    files = (Path(paths["output"]) / "masks").iterdir()
    files = sorted(files, key=lambda path: natural_key(path.name))
    return [np.asarray(Image.open(path)) for path in files]


def points_file(tmp_path, *points):
    names = ("frame", "x", "y", "label")
    document = {"points": [dict(zip(names, p, strict=True)) for p in points]}
    return str(write(tmp_path, {"points.json": document}) / "points.json")


def jaccard(truth, mask):
    return (truth & mask).sum() / (truth | mask).sum()


@pytest.mark.learned
def test_a_square_is_followed(paths, capsys):
    run(VideoConfig(**paths))
    out = capsys.readouterr().out
    assert "frames: 6 frames; mask of 1 of them, 1 object(s)" in out
    assert "frames/s" in out and "online" not in out
    truth = [mask == 1 for mask in video()[1]]
    masks = found(paths)
    assert len(masks) == COUNT and masks[0].shape == (HEIGHT, WIDTH)
    # frame7 to frame12 in the order of their numbers; the first is as annotated.
    np.testing.assert_array_equal(masks[0] == 1, truth[0])
    values = [jaccard(t, m == 1) for t, m in zip(truth, masks, strict=True)]
    assert np.mean(values[1:]) > 0.6
    assert jaccard(truth[0], masks[-1] == 1) < 0.3

    document = summary(paths)
    assert document["scores"]["J_mean"] == pytest.approx(np.mean(values[1:-1]))
    assert [f["frame"] for f in document["per_frame"]] == [
        f"frame{i}.png" for i in range(7, 13)
    ]
    assert "J" not in document["per_frame"][0]
    assert document["per_frame"][-1]["J"]["1"] == pytest.approx(values[-1])
    assert document["settings"]["steps"] == 12
    seconds, speed = document["seconds"], document["frames_per_second"]
    assert speed["prediction"] == pytest.approx(COUNT / seconds["prediction"])
    total = seconds["adaptation"] + seconds["prediction"]
    assert speed["with_adaptation"] == pytest.approx(COUNT / total)

    with Image.open(Path(paths["output"]) / "overlay.gif") as gif:
        assert gif.n_frames == COUNT and gif.size == (WIDTH, HEIGHT)
        assert gif.info["duration"] == 80
        gif.seek(COUNT - 1)
        # The object is tinted, the rest is the frame but for the palette.
        shown = np.asarray(gif.convert("RGB")).astype(int)
        change = np.abs(shown - np.asarray(video()[0][-1])).mean(-1)
        assert change[masks[-1] == 1].mean() > 30 > 3 * change[masks[-1] == 0].mean()
    with Image.open(Path(paths["output"]) / "contact_sheet.png") as sheet:
        assert sheet.width > 6 * 240 and np.asarray(sheet).std() > 10


@pytest.mark.learned
def test_steps_are_those_that_were_asked_for(paths):
    """No steps are the initialization, which takes any square for the object."""
    losses = {}
    for steps in ("0", "12"):
        run(VideoConfig(**paths | {"steps": steps, "video": "none"}))
        blue = video()[1][1] == 2
        losses[steps] = (found(paths)[1] == 1)[blue].mean()
        assert summary(paths)["settings"]["steps"] == int(steps)
        assert summary(paths)["overlay"] is None
    assert losses["0"] > losses["12"] + 0.3


def test_a_guided_network_does_what_its_segmenter_does(paths, guided):
    network, weights, _ = load_model(str(guided))
    segmenter = ForwardFunctions(network).segmenter(weights)
    small = [np.asarray(i.resize((SIZE, SIZE), 2)) for i in video()[0]]
    truth = 1 * (video()[1][0] == 1).astype(np.uint8)
    support = np.asarray(enlarged(truth, SIZE, SIZE))
    adapted = segmenter.adapt(np.stack(small[:1]), support[np.newaxis])
    predicted = adapted.predict(np.stack(small[1:]))[..., 1]
    # Between what it says of one pixel and of another, as it has learned nothing.
    threshold = round(float(np.median(predicted)), 7)
    paths = paths | {"model": str(guided), "video": "none", "threshold": threshold}
    run(VideoConfig(**paths))
    for p, mask in zip(predicted, found(paths)[1:], strict=True):
        large = Image.fromarray(p).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
        # The same but at pixels on the brink of the threshold.
        assert np.mean((np.asarray(large) > threshold) != (mask == 1)) < 0.02
        assert 0.1 < np.mean(mask == 1) < 0.9
    assert summary(paths)["settings"]["steps"] is None
    for steps, settings in (("5", OWN), ("model", Settings(learning_rate=0.1))):
        with pytest.raises(UserError, match="adapts in a forward pass"):
            run(VideoConfig(**paths | {"steps": steps}), settings)


@pytest.mark.learned
def test_points_of_two_objects_on_two_frames(paths, tmp_path, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(clip.GifClip, "add", lambda self, p: drawn.append(p))
    monkeypatch.setattr(clip.GifClip, "close", lambda self: None)

    def middle(frame, value):
        rows, columns = np.nonzero(video()[1][frame] == value)
        return columns.mean(), rows.mean(), value

    annotation = points_file(
        *(tmp_path, ("frame7.png", *middle(0, 1)), ("frame7.png", *middle(0, 2))),
        *(("frame7.png", 60, 3, 0), (5, *middle(5, 1)), (5, 2.5, 40, 0)),
    )
    _, masks = video()
    write(tmp_path / "truth", {f"frame{i + 7}.png": m for i, m in enumerate(masks)})
    run(VideoConfig(**paths | {"annotation": annotation, "steps": "30"}))
    assert "points of 2 of them, 2 object(s)" in capsys.readouterr().out
    document = summary(paths)
    assert document["annotation"]["frames"] == ["frame7.png", "frame12.png"]
    assert document["objects"].keys() == {"1", "2"}
    # Annotated frames are not measured, and the first and last never are.
    measured = [f["frame"] for f in document["per_frame"] if "J" in f]
    assert measured == [f"frame{i}.png" for i in (8, 9, 10, 11)]
    for i, mask in enumerate(found(paths)[1:-1], start=1):
        for value in (1, 2):
            j = jaccard(masks[i] == value, mask == value)
            assert document["per_frame"][i]["J"][str(value)] == pytest.approx(j)
    assert document["scores"]["J_mean"] > 0.5
    # The points themselves are drawn over what was found.
    for frame, (x, y), color in (
        (0, middle(0, 1)[:2], PALETTE[0]),
        (0, middle(0, 2)[:2], PALETTE[1]),
        (0, (60, 3), (30, 30, 30)),
        (5, (2.5, 40), (30, 30, 30)),
    ):
        assert tuple(drawn[frame][int(y), int(x)]) == color


def test_an_object_may_leave_a_frame_that_is_partly_unknown(paths, tmp_path):
    _, masks = video()
    masks = [np.where(mask == 2, 255, mask == 1).astype(np.uint8) for mask in masks]
    masks[3][masks[3] == 1] = 0
    write(tmp_path / "truth", {f"frame{i + 7}.png": m for i, m in enumerate(masks)})
    run(VideoConfig(**paths | {"video": "none"}))
    frames = summary(paths)["per_frame"]
    # Nothing is there: what is found is wrong, and nothing found is right.
    hits = (found(paths)[3] == 1) & (masks[3] != 255)
    assert frames[3]["J"]["1"] == float(not hits.any())


def test_points_mark_the_pixels_that_they_fall_into():
    annotation = Annotation(
        *((1, 2), (10, 20)),
        points={
            3: [Point(19.9, 9.9, 2), Point(0, 0, 0)],
            1: [Point(4.0, 5.0, 0), Point(4.9, 5.9, 1), Point(4.5, 5.5, 2)],
        },
    )
    masks = annotation.masks((5, 10))
    expected = np.full((2, 5, 10), 255)
    expected[0, 2, 2] = 1  # Objects before the background, the first of them.
    expected[1, 4, 9], expected[1, 0, 0] = 2, 0
    np.testing.assert_array_equal(masks, expected)
    assert annotation.frames == (1, 3)


def test_an_object_between_the_pixels_is_not_lost():
    mask = np.zeros((40, 40), np.uint8)
    mask[11, 11], mask[20:, 20:] = 7, 9
    small = Annotation((7, 9), (40, 40), {0: mask}).masks((4, 4))[0]
    expected = np.zeros((4, 4))
    expected[2:, 2:], expected[1, 1] = 2, 1
    np.testing.assert_array_equal(small, expected)


class Sure:
    """Says that a frame's red part is the object, with a probability of its green.

    Frames have one green level each, so that what it is asked can be told.
    """

    def __init__(self):
        self.supports = []

    def adapt(self, images, masks, *, seed):
        self.supports.append((images[:, 0, 0, 2].tolist(), masks))
        return self

    def predict(self, images):
        sure = images[..., 1] / 255
        p = np.where(images[..., 0] > 128, sure, 1 - sure)
        return np.stack([1 - p, p], -1).astype(np.float32)


@pytest.fixture
def unsteady(tmp_path):
    """Frames whose number is their blue level; frame 3 is one of doubt."""
    for i in range(12):
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        image[..., 1], image[..., 2] = 128 if i == 3 else 255, i
        image[:4, :4, 0] = 255
        write(tmp_path / "unsteady", {f"{i}.png": image})
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:4, :4] = 1
    return Frames(tmp_path / "unsteady"), Annotation((1,), (SIZE, SIZE), {0: mask})


def test_online_updates_learn_from_what_is_certain(unsteady, monkeypatch):
    frames, annotation = unsteady
    monkeypatch.setattr(segment, "REMEMBERED", 2)
    segmenter, clock = Sure(), Clock()
    size = (SIZE, SIZE)
    options = {"size": size, "online": 2, "clock": clock}
    labelled = list(follow(segmenter, frames, annotation, **options))
    assert [index for index, *_ in labelled] == list(range(12))
    # After frames 1, 3, 5, 7 and 9, of which 3 is not certain; the latest two.
    blue = [support[0] for support in segmenter.supports]
    assert blue == [[0], [0, 1], [0, 1, 5], [0, 5, 7], [0, 7, 9]]
    assert clock.updates == 4
    mask = segmenter.supports[1][1][1]
    np.testing.assert_array_equal(mask == 1, annotation.drawn[0] == 1)
    np.testing.assert_array_equal(segmenter.supports[-1][1][0], annotation.drawn[0])
    assert {0, 1, 255} == set(np.unique(mask))

    options |= {"online": 0, "clock": Clock()}
    again = Sure()
    assert len(list(follow(again, frames, annotation, **options))) == 12
    assert len(again.supports) == 1


def test_certain_pixels_are_far_or_probable():
    rng = np.random.default_rng(0)
    size, shape = (60, 30), (20, 15)
    p = np.zeros((*shape, 3), np.float32)
    p[..., 0] = 1
    for y, x, value in ((3, 3, 1), (4, 3, 1), (10, 12, 2)):
        p[y, x] = np.eye(3)[value]
    for y, x in rng.integers(0, shape, (40, 2)):
        p[y, x] = p[y, x] * 0.9 + 0.1 / 3  # Below what is certain.
    p[3, 3], p[10, 12] = np.eye(3)[[1, 2]]
    mask = certain_pixels(p, size)
    objects = [(y, x) for y, x in np.ndindex(shape) if p[y, x].argmax() > 0]
    far = 0.22 * math.hypot(*size)
    for y, x in np.ndindex(shape):
        near = min(math.hypot(3 * (y - a), 2 * (x - b)) for a, b in objects) <= far
        expected = p[y, x].argmax()
        if p[y, x].max() < 0.97 or (expected == 0 and near):
            expected = 255
        assert mask[y, x] == expected
    assert set(np.unique(mask)) == {0, 1, 2, 255}
    p[10, 12] = (0.0, 0.1, 0.9)  # Of object 2 nothing is certain: it may be lost.
    assert certain_pixels(p, size) is None


def test_online_updates_on_the_command(paths, capsys):
    run(VideoConfig(**paths | {"online": 2, "steps": "2", "video": "none"}))
    updates = summary(paths)["online_updates"]
    assert updates <= 2 and summary(paths)["settings"]["online"] == 2
    assert ("online updates" in capsys.readouterr().out) == (updates > 0)


def bad(changes, files, message):
    return pytest.param(changes, files, message, id=message[:30])


DOT = {"x": 5, "y": 5}


def of_points(*points):
    return {"points.json": {"points": list(points)}}


POINTS = {"annotation": "points.json"}
BLACK = np.zeros((HEIGHT, WIDTH), np.uint8)
TWO = np.repeat(np.uint8([[1], [2]]), HEIGHT // 2, 0).repeat(WIDTH, 1)
BAD = [
    bad(
        POINTS,
        of_points({**DOT, "x": 64, "frame": 0, "label": 1}),
        "point 1: .64, 5. is outside of the frame, which is 64x48",
    ),
    bad(POINTS, of_points({**DOT, "y": -0.1, "frame": 0, "label": 1}), "is outside of"),
    bad(
        POINTS,
        of_points({**DOT, "y": "5", "frame": 0, "label": 1}),
        ".5, 5. is outside of the frame",
    ),
    bad(
        POINTS,
        of_points({**DOT, "frame": 0, "label": 0}, {**DOT, "frame": 1, "label": 0}),
        "has only negative points",
    ),
    bad(
        POINTS,
        of_points({**DOT, "frame": 0, "label": 1}, {**DOT, "frame": 1, "label": 3}),
        "points of object 3 and none of object 2 on any frame",
    ),
    bad(POINTS, of_points({**DOT, "frame": 6, "label": 1}), "no frame 6; .* 0 to 5"),
    bad(POINTS, of_points({**DOT, "frame": "x.png", "label": 1}), "no frame 'x.png'"),
    bad(POINTS, of_points({**DOT, "frame": 0, "label": 255}), "label must be 0"),
    bad(POINTS, of_points({**DOT, "frame": 0, "label": True}), "label must be 0"),
    bad(POINTS, of_points({"frame": 0, "x": 1}), "point 1: expected frame, x, y and"),
    bad(POINTS, of_points(), "has no points; expected"),
    bad(POINTS, {"points.json": "[1"}, "points.json"),
    bad(
        POINTS,
        of_points({**DOT, "x": 10**400, "frame": 0, "label": 1}),
        "points.json cannot be read .the number 10+ is out of range",
    ),
    bad({}, {"truth/frame7.png": BLACK}, "marks no object"),
    bad({}, {"truth/frame7.png": BLACK[:, :9]}, "is 9x48, but the frames are 64x48"),
    bad({}, {"truth/frame9.png": BLACK[:5]}, "mask .*frame9.png is 64x5"),
    bad(
        {"annotation": "first.png"},
        {"first.png": 255 * (TWO == 1).astype(np.uint8)}
        | {f"truth/frame{i}.png": TWO for i in range(7, 15)},
        "object 2 is in .*truth and has no annotation.*by a mask of a later frame",
    ),
    bad(
        {}, {"truth/frame8.png": TWO}, "frame7.png holds the levels 0, 255, but .*8.png"
    ),
    bad(
        {"annotation": "late"},
        {"late/frame7.png": TWO, "late/frame7.tif": Image.fromarray(TWO)},
        "frame7.tif is a second mask of frame frame7.png",
    ),
    bad({}, {"truth/frame7.png": b""}, "frame7.png"),
    bad({"annotation": "none.png"}, {}, "no such annotation"),
    bad({"annotation": "frames/frame7.png"}, {}, "lies among the frames"),
    bad({}, {"frames/frame9.png": BLACK[:30]}, "frame9.png is 64x30, but frame7.png"),
    bad({}, {"frames/frame9.png": b"text"}, "cannot read frame .*frame9.png"),
    bad({"sequence": "empty"}, {"empty/notes.txt": ""}, "empty holds no frames"),
    bad({"sequence": "nowhere"}, {}, "no such folder: "),
    bad({"annotations": "nowhere"}, {}, "no such folder of annotations"),
    bad({"annotations": "frames/.."}, {}, "has the name of a frame"),
    bad({"model": "nowhere.keras"}, {}, "no such run folder or .keras file"),
    bad({"output": "truth"}, {}, "would write into the input"),
    bad({"output": "file"}, {"file": "text"}, "cannot write to .*choose a folder"),
]


@pytest.mark.parametrize(("changes", "files", "message"), BAD)
def test_bad_input(paths, tmp_path, changes, files, message):
    write(tmp_path, files)
    local = {name: str(tmp_path / value) for name, value in changes.items()}
    with pytest.raises(UserError, match=message) as caught:
        run(VideoConfig(**paths | local))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ""}, "`model` is needed"),
        ({"annotation": ""}, "`annotation` is needed"),
        ({"sequence": ""}, "either `sequence` with `annotation` is needed, or"),
        ({"output": ""}, "`output` is needed"),
        ({"steps": "0,5"}, "need `davis`"),
        ({"steps": "-1"}, "`steps` must be a number"),
        ({"online": -1}, "`online` must be at least 0"),
        ({"threshold": 1.0}, "`threshold` must be below 1"),
        ({"fps": 0.0}, "`fps` must be above 0"),
        ({"methods": "x=y"}, "`methods` has no effect: it needs `davis`"),
        ({"model": "nearest_neighbour", "steps": "3"}, "no settings of an inner loop"),
    ],
)
def test_bad_arguments(paths, changes, message):
    with pytest.raises(UserError, match=message):
        run(VideoConfig(**paths | changes))


def test_mp4(paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match="pip install imageio-ffmpeg, or .*=gif"):
        run(VideoConfig(**paths | {"video": "mp4"}))
    assert not (Path(paths["output"]) / "masks").exists()
    monkeypatch.undo()
    reader = pytest.importorskip("imageio_ffmpeg").read_frames
    write(Path(paths["output"]), {})
    film = clip.open_clip("mp4", Path(paths["output"]) / "film", 3, 5.0)
    Path(paths["output"]).mkdir(exist_ok=True)
    for level in (40, 120, 200):
        image = np.full((HEIGHT + 1, WIDTH + 1, 3), level, np.uint8)
        film.add(image)
    frames = reader(str(film.close()))
    assert next(frames)["size"] == (WIDTH, HEIGHT)
    levels = [np.frombuffer(frame, np.uint8).mean() for frame in frames]
    np.testing.assert_allclose(levels, [40, 120, 200], atol=4)


def test_long_gifs_keep_their_time(tmp_path):
    gif = clip.GifClip(tmp_path / "long.gif", 250, 25.0)
    for i in range(250):
        image = np.full((4, 4, 3), i, np.uint8)
        gif.add(image)
    with Image.open(gif.close()) as image:
        assert image.n_frames == 84 <= clip.GIF_FRAMES
        assert image.n_frames * image.info["duration"] == pytest.approx(10_000, rel=0.1)


def test_as_a_command(paths, tmp_path):
    annotation = points_file(tmp_path, (0, 64, 5, 1))
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "efficientlab_tf.video", "--l2=0.1"),
            *(f"--{n}={v}" for n, v in (paths | {"annotation": annotation}).items()),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ended.returncode == 2 and ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ") and "(64, 5) is outside of the frame" in line


# The sequences of a folder.


@pytest.fixture
def davis(tmp_path):
    """One object in DAVIS 2016's manner, two in that of 2017; in two sequences."""
    images, masks = video()
    for name in ("one", "two"):
        one = name == "one"
        write(
            tmp_path / "DAVIS",
            {f"JPEGImages/480p/{name}/{i:05d}.jpg": im for i, im in enumerate(images)}
            | {
                f"Annotations/480p/{name}/{i:05d}.png": palette_image(m)
                if not one
                else np.uint8(255) * (m == 1)
                for i, m in enumerate(masks)
            },
        )
    return {
        "davis": str(tmp_path / "DAVIS"),
        "output": str(tmp_path / "output"),
        "baseline_size": 32,
        "video": "none",
    }


@pytest.fixture
def started(monkeypatch):
    """Labels of the methods that were measured, here instead of in a process."""
    labels = []

    def here(command, check):
        unit = json.loads(Path(command[-2]).read_text())
        labels.append(unit["method"]["label"])
        with contextlib.suppress(SystemExit):
            study.unit_process(benchmark.measure, command[-2:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(study.subprocess, "run", here)
    return labels


def table(davis):
    """The rows of the first table, by method."""
    lines = (Path(davis["output"]) / "table.md").read_text().splitlines()
    rows = {}
    for line in lines[4 : lines.index("", 4)]:
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = [float(cell) for cell in cells]
    return rows


def test_what_was_measured_is_not_measured_again(davis, started, capsys):
    names = ["all_foreground", "all_background"]
    run(VideoConfig(**davis, methods=names[0], sequences="one"))
    assert started == names[:1]
    # J of an object and a mask that is full: the object's share of the frame.
    share = np.mean([(m == 1).mean() for m in video()[1][1:-1]])
    assert table(davis)["all_foreground"][0] == pytest.approx(100 * share, abs=0.06)
    first = (Path(davis["output"]) / "units/all_foreground.json").read_bytes()

    capsys.readouterr()
    run(VideoConfig(**davis, methods=",".join(names), sequences="one"))
    assert started == names
    assert "all_background" in capsys.readouterr().out
    path = Path(davis["output"]) / "units/all_foreground.json"
    assert path.read_bytes() == first
    assert list(table(davis)) == names and table(davis)["all_background"][0] == 0
    for name in ("results.csv", "per_frame.csv", "accuracy_time.png"):
        assert (Path(davis["output"]) / name).stat().st_size > 0

    # A changed mask, and other options, are another measurement.
    mask = Path(davis["davis"]) / "Annotations/480p/one/00002.png"
    Image.fromarray(BLACK).save(mask)
    run(VideoConfig(**davis, methods=names[1], sequences="one"))
    run(VideoConfig(**davis, methods=names[1], sequences="one", threshold=0.4))
    assert started == [*names, names[1], names[1]]


def test_a_method_that_dies_costs_no_other(davis, started, monkeypatch):
    run(VideoConfig(**davis, methods="all_foreground", sequences="one"))

    def killed(command, check):
        return subprocess.CompletedProcess(command, -9)

    with monkeypatch.context() as patch:
        patch.setattr(study.subprocess, "run", killed)
        with pytest.raises(UserError, match="all_background .*: it was killed by sig"):
            run(
                VideoConfig(
                    **davis, methods="all_foreground,all_background", sequences="one"
                )
            )
    assert list(table(davis)) == ["all_foreground"]
    run(VideoConfig(**davis, methods="all_foreground,all_background", sequences="one"))
    assert started == ["all_foreground", "all_background"]


def test_steps_are_methods_and_a_line_of_the_figure(
    davis,
    started,
    model,  # noqa: F811
    monkeypatch,
):
    figures = []
    from matplotlib.figure import Figure

    save = Figure.savefig

    def spy(figure, *arguments, **options):
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    methods = f"none={model}:inner_steps=0,some={model}:inner_steps=6,all_background"
    run(VideoConfig(**davis, methods=methods, sequences="two"))
    assert started == ["none", "some", "all_background"]
    rows = table(davis)
    axes = figures[-1].axes[0]
    line, point = axes.lines
    assert line.get_label() == Path(model).parent.name
    heights = sorted((rows["none"][0], rows["some"][0]))
    np.testing.assert_allclose(sorted(line.get_ydata()), heights, atol=0.06)
    assert (np.diff(line.get_xdata()) > 0).all()
    np.testing.assert_allclose(point.get_ydata(), [0])
    assert {text.get_text() for text in axes.texts} == set(rows)
    with (Path(davis["output"]) / "results.csv").open() as file:
        results = list(csv.DictReader(file))
    assert len(results) == 3 * 2  # Two objects, one by one.
    values = {(r["method"], r["object"]): 100 * float(r["J_mean"]) for r in results}
    text = (Path(davis["output"]) / "table.md").read_text()
    for index in "12":
        (line,) = re.findall(rf"two, object {index} \|(.*)\|\n", text.split("## ")[1])
        expected = [values[method, index] for method in rows]
        np.testing.assert_allclose([*map(float, line.split("|"))], expected, atol=0.06)


def test_methods_of_a_command_line():
    config = VideoConfig(model="m", davis="d", output="o", steps="0,20,checkpoint")
    methods = methods_of(config, Settings(l2=0.5))
    assert [m.label for m in methods] == ["0 steps", "20 steps", "model"]
    assert methods[1].settings == Settings(l2=0.5, steps=20)
    assert methods[2].settings == Settings(l2=0.5)


def test_another_number_of_objects_gets_a_head_of_its_own(model):  # noqa: F811
    (method,) = methods_of(VideoConfig(model=str(model), davis="d", output="o"))
    made = method.load(image_size=32)
    images = np.stack([np.asarray(enlarged(i, SIZE, SIZE)) for i in _arrays()])
    for count in (1, 3):
        segmenter = made.segmenter(count)
        assert segmenter.functions is made.segmenter(count).functions
        p = segmenter.functions.predict(segmenter.weights, images, False)
        assert p.shape == (len(images), SIZE, SIZE, count + 1)


def _arrays():
    return [np.asarray(image) for image in video(2)[0]]


def test_points_and_frames_of_davis(davis, started):
    folder = Path(davis["davis"])
    masks = folder / "Annotations" / "480p" / "two"
    frames = folder / "JPEGImages" / "480p" / "two"
    frames = Frames(frames)
    truths = Truths(masks, frames)
    sparse = annotate(truths, frames, 2, 3, ("two", 0))
    assert sparse.frames == (0, len(frames) // 2)
    assert sparse == annotate(truths, frames, 2, 3, ("two", 0))
    for frame, mask in sparse.point_masks().items():
        truth = truths.read(frame)
        known = mask != 255
        np.testing.assert_array_equal(mask[known], truth[known])
        for value in (0, *sparse.objects):
            assert (mask == value).sum() == min(3, (truth == value).sum())
    several = {"shots": "1,2", "points": "3,-1"}
    run(VideoConfig(**davis, methods="all_foreground", sequences="two", **several))
    labels = ["all_foreground, 3 points", "all_foreground"]
    labels += ["all_foreground, 2 frames, 3 points", "all_foreground, 2 frames"]
    assert list(table(davis)) == labels
    assert (Path(davis["output"]) / "annotations.png").stat().st_size > 1000
    with pytest.raises(UserError, match="`points` must be numbers from 1, or -1"):
        VideoConfig(**davis, model="m", points="0")
    with pytest.raises(UserError, match="they need `davis`"):
        VideoConfig(model="m", sequence="s", annotation="a", output="o", points="5")


def test_a_sequence_without_a_first_mask(davis, started):
    root = Path(davis["davis"]) / "Annotations/480p"
    palette_image(np.uint8(video()[1][0] == 1)).save(root / "two/00000.png")
    with pytest.raises(UserError, match="object 2 is in .*two and has no annotation"):
        run(VideoConfig(**davis, methods="all_foreground", sequences="two"))
    (root / "one/00000.png").unlink()
    with pytest.raises(UserError, match="first frame, .*00000.jpg, has no mask with"):
        run(VideoConfig(**davis, methods="all_foreground", sequences="one"))


def test_a_mask_named_like_a_frame_is_of_that_frame(paths, tmp_path):
    frames = Frames(paths["sequence"])
    mask = np.asarray(Image.open(paths["annotation"]))
    for name, frame in (("frame9.png", 2), ("anything.png", 0)):
        path = write(tmp_path / "own", {name: mask}) / name
        assert read_annotation(path, frames).frames == (frame,)
