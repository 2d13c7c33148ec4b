"""A long training neither grows nor is compiled again."""

import numpy as np

from tests.forked import CONTEXT
from tests.promises.runs import PATIENCE, config_of, started

WARM_UP, GROWTH = 0.4, 1.05


def test_soak(tmp_path, option):
    steps = option("soak_steps", 150)
    config = config_of(
        tmp_path, "run", meta_steps=steps, validate_every=steps // 5, save_every=50
    )
    counts = CONTEXT.SimpleQueue()
    process, _ = started(config, False, counts)
    process.join(PATIENCE + 5 * steps)
    assert process.exitcode == 0
    traces, resident = counts.get()
    assert traces == 1
    assert len(resident) > steps
    start = resident[int(WARM_UP * len(resident)) :]
    third = len(start) // 3
    before, after = np.median(start[:third]), np.median(start[-third:])
    print(f"{before / 2**20:.0f} MiB, then {after / 2**20:.0f} MiB")
    assert after < GROWTH * before
