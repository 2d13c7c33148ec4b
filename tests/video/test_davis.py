"""`video --davis`: methods compared on the sequences of a folder."""

import contextlib
import csv
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.config import Settings
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation import study
from efficientlab_tf.pictures import palette_image
from efficientlab_tf.video import benchmark
from efficientlab_tf.video.__main__ import run
from efficientlab_tf.video.annotation import Truths
from efficientlab_tf.video.benchmark import annotate
from efficientlab_tf.video.config import VideoConfig
from efficientlab_tf.video.frames import Frames
from efficientlab_tf.video.methods import methods_of
from tests.adapt.labelled_squares import enlarged
from tests.data.annotations.making import write
from tests.models.test_heads import SIZE
from tests.video.moving_squares import BLACK, video

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


def test_steps_are_methods_and_a_line_of_the_figure(davis, started, model, monkeypatch):
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


def test_another_number_of_objects_gets_a_head_of_its_own(model):
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
