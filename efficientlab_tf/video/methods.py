"""Methods for videos, from what a command line says."""

import dataclasses

from efficientlab_tf.config import OWN, Settings
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.methods import Method, parse_methods
from efficientlab_tf.segmenters.baselines import BASELINES
from efficientlab_tf.video.config import VideoConfig


def methods_of(config: VideoConfig, settings: Settings = OWN) -> tuple[Method, ...]:
    """Returns the methods of a command line; with `model` one for each of `steps`.

    The model adapts as `settings` say, whose steps are not looked at.

    Raises:
      UserError: `methods` cannot be read, or settings for a baseline.
    """
    if config.methods:
        methods = parse_methods(config.methods)
        # Statistics are the one setting that may be given for all at once.
        other = [name for name in settings.given if name != "batch_norm"]
        if other:
            raise UserError(f"`{other[0]}` has no effect: write it into `methods`")
        return tuple(
            m
            if m.is_baseline
            else dataclasses.replace(m, settings=settings | m.settings)
            for m in methods
        )
    if config.model in BASELINES:
        if settings.given or config.step_numbers != (None,):
            raise UserError(f"{config.model} has no settings of an inner loop")
        return (Method(config.model),)
    return tuple(
        Method(
            "model" if steps is None else f"{steps} steps",
            config.model,
            settings | Settings(steps=steps),
        )
        for steps in config.step_numbers
    )
