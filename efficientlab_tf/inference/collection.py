"""Any number of pictures: a folder, a list in a text file, or TFRecords.

Pictures come one after another, in an order that is always the same. Each has a name of
its own, which hangs on nothing but where the picture is, so that results of many
processes never meet.
"""

import dataclasses
import functools
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from efficientlab_tf.data.picture_files import Refused, looks_like_a_picture
from efficientlab_tf.data.records import IMAGE_FEATURE
from efficientlab_tf.data.sources.folder import IMAGES, within
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.queries import Query

LIST = ".txt"
RECORDS = (".tfrecord", ".tfrecords")
_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of a collection that one process takes.

    A picture's name decides, so that pictures that come later move no other.

    Attributes:
      number: of the part, from 0.
      count: of the parts.
    """

    number: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Reads "i/n".

        Raises:
          UserError: it is not that.
        """
        match = _SHARD.fullmatch(text)
        if not match or int(match[1]) >= int(match[2]):
            raise UserError(
                "`shard` must be i/n with i from 0 to n - 1, such as 0/8, received "
                f"{text!r}"
            )
        return cls(int(match[1]), int(match[2]))

    def has(self, name: str) -> bool:
        """Whether a picture of this name is of this part."""
        return (
            zlib.crc32(name.encode("utf-8", "surrogateescape")) % self.count
            == self.number
        )


class Collection:
    """The pictures of a folder, a list or TFRecords.

    A folder is looked through with all folders in it, or DIR/images if that is there. A
    list has a path a line, from its own folder on. TFRecords hold pictures as
    `image/encoded`; they may be single, or what a folder or list holds.

    Args:
      path: of the folder, the .txt file, the TFRecord, or of one picture.

    Raises:
      UserError: no such path.
    """

    def __init__(self, path: str | Path):
        path = Path(path).expanduser()
        if not path.exists():
            raise UserError(
                f"no such file or folder: {path}; give a folder of pictures, a list of "
                f"paths ({LIST}) or TFRecords ({', '.join(RECORDS)})"
            )
        images = within(path, IMAGES)
        self.folder = images if images.is_dir() else path
        self._is_list = path.suffix.lower() == LIST and path.is_file()

    def count(self, shard: Shard) -> int | None:
        """How many pictures there are of a part; None if TFRecords are among them."""
        count = 0
        for path, name in self._files():
            if path.suffix.lower() in RECORDS:
                return None
            count += shard.has(name)
        return count

    def queries(self, shard: Shard) -> Iterator[Query]:
        """Yields the pictures of a part; `output` is what each is called."""
        for path, name in self._files():
            if path.suffix.lower() in RECORDS:
                yield from _records(path, name, shard)
            elif shard.has(name):
                yield Query(path, None, name)

    def _files(self) -> Iterator[tuple[Path, str]]:
        """Yields files and their names."""
        if self._is_list:
            yield from self._listed()
        elif self.folder.is_file():
            yield self.folder, self.folder.name
        else:
            for folder, folders, files in os.walk(self.folder):
                folders[:] = sorted(name for name in folders if name[0] != ".")
                for file in sorted(files):
                    path = Path(folder, file)
                    known = path.suffix.lower() in RECORDS
                    if file[0] != "." and (known or looks_like_a_picture(path)):
                        yield path, path.relative_to(self.folder).as_posix()

    def _listed(self) -> Iterator[tuple[Path, str]]:
        try:
            lines = open(self.folder, encoding="utf-8-sig", errors="surrogateescape")
        except OSError as error:
            raise UserError(
                f"cannot read {self.folder}: {error.strerror}; give a list of paths"
            ) from error
        with lines:
            for line in lines:
                line = line.strip().replace("\0", "?")
                if not line:
                    continue
                path = Path(line).expanduser()
                if path.is_absolute() or ".." in path.parts:
                    path = Path(os.path.abspath(self.folder.parent / path))
                    name = Path(*path.parts[1:]).as_posix()
                else:
                    name, path = path.as_posix(), self.folder.parent / path
                yield path, name


def _records(path: Path, name: str, shard: Shard) -> Iterator[Query]:
    """Yields the pictures of a TFRecord; one that cannot be read ends it."""
    number = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).prefetch(tf.data.AUTOTUNE):
            query = _record(path, name, number)
            if shard.has(query.output):
                data = functools.partial(_picture_of, record.numpy())
                yield query._replace(data=data)
            number += 1
    except tf.errors.OpError:
        query = _record(path, name, number)
        if shard.has(query.output):
            yield query._replace(data=_refuse)


def _record(path: Path, name: str, number: int) -> Query:
    return Query(Path(f"{path}#{number}"), None, f"{name}/{number:08d}")


def _picture_of(record: bytes) -> bytes:
    """The encoded picture of a serialized `tf.train.Example`."""
    try:
        features = tf.train.Example.FromString(record).features.feature
        (data,) = features[IMAGE_FEATURE].bytes_list.value
    except Exception as error:  # protobuf's parsers have no common error for damage.
        raise Refused(f"expected an example with one {IMAGE_FEATURE}") from error
    return data


def _refuse() -> bytes:
    raise Refused("truncated or corrupt: this record and those after it are not read")
