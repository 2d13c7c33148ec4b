"""What tests of runs share."""

import numpy as np
import tensorflow as tf

from efficientlab_tf.training import loop

_ALL = ("theta/", "statistics/", "optimizer/", "step/", "rates/")


def stop_after(monkeypatch, steps: int) -> None:
    """Makes the loop see a stop request when it is about to take step `steps`."""
    asked = iter(range(1000))
    monkeypatch.setattr(loop.StopRequest, "__bool__", lambda self: next(asked) >= steps)


def saved(run_dir, prefixes=_ALL, series="checkpoints") -> dict[str, np.ndarray]:
    """The variables of a run's newest checkpoint, or of its best, by name."""
    path = tf.train.latest_checkpoint(f"{run_dir}/{series}")
    reader = tf.train.load_checkpoint(path)
    names = sorted(
        name for name in reader.get_variable_to_shape_map() if name.startswith(prefixes)
    )
    return {name: reader.get_tensor(name) for name in names}
