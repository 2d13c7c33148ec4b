"""`segment` over many pictures does not grow."""

import contextlib
import os

import numpy as np
import psutil

from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import ModelConfig
from efficientlab_tf.inference import segmenting
from efficientlab_tf.segment import SegmentConfig, segment
from efficientlab_tf.segmenters.network import Network
from tests.data.annotations.making import picture
from tests.models.tiny import tiny_network

SIZE, GROWTH = 32, 1.05


def test_memory_is_flat(tmp_path, option, monkeypatch):
    count = option("pictures", 400)
    network, model = Network(tiny_network(SIZE)), tmp_path / "model.keras"
    run = RunConfig(model=ModelConfig(image_size=SIZE))
    save_keras(model, network, network.weights(), run)
    for number in range(20):
        picture(number, 300, 400 + number).save(tmp_path / f"{number}.jpg")
    for number in range(count):
        link = tmp_path / "in" / str(number // 1000) / f"{number}.jpg"
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(tmp_path / f"{number % 20}.jpg", link)
    resident, real = [], segmenting.segment

    def watched(*arguments, **options):
        process = psutil.Process()
        with contextlib.closing(real(*arguments, **options)) as results:
            for result in results:
                resident.append(process.memory_info().rss)
                yield result

    monkeypatch.setattr(segmenting, "segment", watched)
    paths = {"query": str(tmp_path / "in"), "output": str(tmp_path / "out")}
    assert segment(SegmentConfig(model=str(model), **paths)) == 0
    assert len(resident) == count
    third = count // 3
    before = np.median(resident[third : 2 * third])
    after = np.median(resident[-third:])
    print(f"{before / 2**20:.0f} MiB, then {after / 2**20:.0f} MiB")
    assert after < GROWTH * before
