"""The pictures that ship with the package, to play with at once."""

from collections.abc import Iterator

from efficientlab_tf.data.manifest import SAMPLE_PREFIX, Manifest
from efficientlab_tf.data.records import parse_record, read_shard
from efficientlab_tf.errors import UserError

_SETS = ("icons", "nuclei")
_SPLIT = "test"

PHOTOGRAPHS = "nuclei: stained_nucleus"
"""The sample of real photographs, of stained tissue through a microscope."""
SHOTS = 5
"""Pictures of a sample that are shown with their masks."""


def sample_names() -> list[str]:
    """Names of the samples, such as "icons: rocket": classes kept out of training."""
    return [
        f"{name}: {label}"
        for name in _SETS
        for label in Manifest.load(SAMPLE_PREFIX + name).split(_SPLIT)
    ]


def read_sample(name: str) -> Iterator[tuple[str, bytes, bytes]]:
    """Yields name, image file and mask file of each picture of a sample.

    Args:
      name: one of `sample_names`.

    Raises:
      UserError: no such sample.
    """
    if name not in sample_names():
        raise UserError(f"sample: expected one of the list, received {name!r}")
    dataset, _, label = name.partition(": ")
    shard = Manifest.load(SAMPLE_PREFIX + dataset).shard_path(label)
    for number, record in enumerate(read_shard(shard), start=1):
        fields = {key: value.numpy() for key, value in parse_record(record).items()}
        file = f"{label}_{number}.{fields['image_format'].decode()}"
        yield file, fields["image"], fields["mask"]
