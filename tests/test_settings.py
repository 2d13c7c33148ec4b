"""Bounds of settings: what nobody can mean is refused at the door."""

import dataclasses

import numpy as np
import pytest

from efficientlab_tf.adapt import AdaptConfig
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.config import (
    CompareConfig,
    DataConfig,
    EvalConfig,
    ExportConfig,
    LearnerConfig,
    ModelConfig,
    Settings,
    TrainConfig,
    TuneConfig,
)
from efficientlab_tf.config.settings import MANY, check, setting
from efficientlab_tf.errors import UserError
from efficientlab_tf.fpk import FpkConfig
from efficientlab_tf.video.config import VideoConfig

INF, NAN = float("inf"), float("nan")
VIDEO = {"model": "x", "sequence": "x", "annotation": "x", "output": "x"}


@dataclasses.dataclass(frozen=True)
class Example:
    name: str = setting("a", "", ("a", "b"))
    count: int = setting(1, "", least=1)
    rate: float = setting(0.5, "", above=0, below=1)
    more: int | None = setting(None, "", most=9)

    def __post_init__(self):
        check(self)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "c"}, "`name` must be one of a, b, received 'c'"),
        ({"count": 0}, "`count` must be at least 1, received 0"),
        ({"count": MANY + 1}, "`count` must be at most 1000000000, received"),
        ({"count": 1.0}, "`count` must be a whole number, received 1.0"),
        ({"count": True}, "`count` must be a whole number, received True"),
        ({"rate": 0}, "`rate` must be above 0, received 0"),
        ({"rate": 1.0}, "`rate` must be below 1, received 1.0"),
        ({"rate": NAN}, "`rate` must be a number, received nan"),
        ({"rate": "0.5"}, "`rate` must be a number, received '0.5'"),
        ({"rate": 10**400}, "`rate` must be a number, received 1000"),
        ({"more": 10}, "`more` must be at most 9, received 10"),
        ({"more": "1"}, "`more` must be a whole number, received '1'"),
    ],
)
def test_values_that_a_field_must_not_have(changes, message):
    with pytest.raises(UserError, match=message):
        Example(**changes)


def test_values_that_a_field_may_have():
    Example("b", np.int64(3), np.float32(0.25), None)
    Example(rate=np.nextafter(1, 0), more=-5)


@pytest.mark.parametrize(
    ("config", "names", "values"),
    [
        (DataConfig, ("shots", "queries", "ways"), (0, -1, 10**10)),
        (DataConfig, ("cache_gb",), (NAN, INF, -2.0)),
        (ModelConfig, ("image_size",), (0, 100, -32, 320_000)),
        (ModelConfig, ("final_dropout", "drop_connect"), (-0.1, 1.0, NAN)),
        (ModelConfig, ("width",), (0.0, INF, 1e9)),
        (ModelConfig, ("channels", "num_classes"), (0, -3, 10**9)),
        (ModelConfig, ("hash_seed",), (-1, 2**31)),
        (LearnerConfig, ("inner_steps", "inner_batch"), (-1, 10**10)),
        (LearnerConfig, ("inner_learning_rate",), (0.0, -1.0, INF, NAN)),
        (LearnerConfig, ("l2", "meta_learning_rate"), (-1.0, INF, NAN)),
        (LearnerConfig, ("meta_learning_rate_final",), (-1.0, INF, NAN)),
        (LearnerConfig, ("augment_rate", "episode_augment_rate"), (-0.1, 1.1, NAN)),
        (LearnerConfig, ("momentum",), (-0.1, 1.0, NAN)),
        (LearnerConfig, ("conditioning_rate", "encoder_rate"), (-1.0, INF)),
        (LearnerConfig, ("learner", "loss", "augmentation"), ("nope",)),
        (TrainConfig, ("meta_steps", "meta_batch", "keep"), (0, -1, 10**10)),
        (TrainConfig, ("seed",), (-1, 2**31, 10**30)),
        (EvalConfig, ("splits_per_task",), (0,)),
        (EvalConfig, ("eval_queries",), (-1,)),
        (ExportConfig, ("max_side", "max_images", "max_steps"), (0, -1, 10**10)),
        (Settings, ("steps", "inner_batch"), (-1, 10**10)),
        (Settings, ("learning_rate",), (0.0, INF, NAN)),
        (Settings, ("l2", "augment_rate"), (-1.0, INF, NAN)),
        (TuneConfig, ("keep",), (0.0, 1.0, NAN)),
        (TuneConfig, ("seed",), (-1, 10**30)),
        (TuneConfig, ("samples",), (1,)),
        (CompareConfig, ("eval_size",), (0, 33, 10**6)),
        (CompareConfig, ("seed", "pairs"), (-1,)),
        (FpkConfig, ("draws", "test_examples"), (0,)),
        (FpkConfig, ("baseline_learning_rate",), (-1.0, INF, NAN)),
        (FpkConfig, ("seed",), (-1, 10**30)),
        (AdaptConfig, ("threshold",), (0.0, 1.0, NAN)),
        (AdaptConfig, ("seed",), (-1, 10**30)),
        (AppConfig, ("max_upload_mb", "max_megapixels"), (0.0, INF, NAN)),
        (AppConfig, ("port",), (0, 70_000)),
        (VideoConfig, ("fps",), (0.0, INF, NAN)),
        (VideoConfig, ("seed", "online"), (-1, 10**30)),
    ],
)
def test_what_nobody_can_mean(config, names, values):
    needed = VIDEO if config is VideoConfig else {}
    config(**needed)
    for name in names:
        for value in values:
            with pytest.raises(UserError, match=f"^`{name}` must be"):
                config(**needed, **{name: value})
