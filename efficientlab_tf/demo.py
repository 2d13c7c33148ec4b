"""Segments microscope photographs that come with the package, from five labelled ones.

    python -m efficientlab_tf.demo

Writes the labelled pictures and the new ones into `--output` as a person would lay out
their own, runs `adapt` on them, and names the sheet that shows what came out. The new
pictures' own masks are kept aside: they only judge the result.
"""

import dataclasses
import io
from pathlib import Path

from PIL import Image

from efficientlab_tf import flags
from efficientlab_tf.adapt import AdaptConfig, adapt
from efficientlab_tf.api.automatic import SOLVED_METHOD
from efficientlab_tf.config import setting
from efficientlab_tf.config.settings import check
from efficientlab_tf.data.samples import PHOTOGRAPHS, SHOTS, read_sample
from efficientlab_tf.data.sources.folder import IMAGES, MASKS
from efficientlab_tf.files import make_writable, writing
from efficientlab_tf.inference.results import SHEET

_LABELLED, _NEW, _TRUTH, _RESULTS = "labelled", "new", "new_masks", "results"


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """The command line of this command."""

    output: str = setting("demo", "Folder for the pictures and for the results.")

    def __post_init__(self):
        check(self)


def demo(config: DemoConfig) -> int:
    """Runs the command; returns the exit status of `adapt`."""
    folder = Path(config.output)
    support, new, truth = folder / _LABELLED, folder / _NEW, folder / _TRUTH
    for own in (support / IMAGES, support / MASKS, new, truth):
        make_writable(own)
    with writing(f"to {folder}"):
        for number, (name, image, mask) in enumerate(read_sample(PHOTOGRAPHS)):
            given = number < SHOTS
            (support / IMAGES if given else new).joinpath(name).write_bytes(image)
            levels = Image.open(io.BytesIO(mask)).point(lambda value: 255 * (value > 0))
            own = support / MASKS if given else truth
            levels.save(own / Path(name).with_suffix(".png").name)
    options = {
        "method": SOLVED_METHOD,
        "support": str(support),
        "query": str(new),
        "query_masks": str(truth),
        "output": str(folder / _RESULTS),
    }
    print(
        "efficientlab adapt", *(f"--{name}={value}" for name, value in options.items())
    )
    status = adapt(AdaptConfig(**options))
    print(f"look at: {folder / _RESULTS / SHEET}")
    return status


def main() -> int:
    """Shows as the flags say."""
    return demo(flags.read(DemoConfig))


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(DemoConfig)


if __name__ == "__main__":
    define_flags()
    flags.run(main)
