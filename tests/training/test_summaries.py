"""What TensorBoard is given to show."""

import io

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import DataConfig, LearnerConfig, ModelConfig
from efficientlab_tf.training.summaries import CURVES, Summaries

SHADES = 30, 90, 150, 210


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> EventAccumulator:
    folder = tmp_path_factory.mktemp("logs")
    summaries = Summaries(folder, until=None)
    summaries.begin(RunConfig(DataConfig(), ModelConfig(), LearnerConfig()))
    pictures = [np.full((32, 32, 3), shade, np.uint8) for shade in SHADES]
    summaries.predictions([("bear: IoU 50 %", pictures), ("cup", pictures)], 7)
    summaries.flush()
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def test_the_layout_has_the_curves_that_matter(run):
    (event,) = run.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    (category,) = layout.category
    charts = {chart.title: list(chart.multiline.tag) for chart in category.chart}
    assert charts == CURVES


def test_each_episode_is_a_picture_that_one_can_look_at(run):
    (event,) = run.Tensors("validation/predictions")
    assert event.step == 7
    width, height, *pictures = event.tensor_proto.string_val
    assert len(pictures) == 2
    assert int(width) > 320 and int(height) > 320
    square = np.asarray(Image.open(io.BytesIO(pictures[0])))
    found = [int(square[y, x, 0]) for y in (90, 270) for x in (90, 260)]
    assert found == list(SHADES)
