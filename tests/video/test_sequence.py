"""`video`: from an annotated frame to masks, an overlay and measures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig, build_network
from efficientlab_tf.config import OWN, LearnerConfig, ModelConfig, Settings
from efficientlab_tf.errors import UserError
from efficientlab_tf.pictures import PALETTE
from efficientlab_tf.segmenters.forward import ForwardFunctions
from efficientlab_tf.video import clip
from efficientlab_tf.video.__main__ import run
from efficientlab_tf.video.config import VideoConfig
from tests.adapt.labelled_squares import enlarged
from tests.data.annotations.making import write
from tests.loading import load_model
from tests.models.test_heads import SIZE
from tests.video.moving_squares import (
    COUNT,
    HEIGHT,
    WIDTH,
    found,
    jaccard,
    points_file,
    summary,
    video,
)


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
