"""The index of a collection's results: a line of JSON for each picture.

    {"picture": ..., "mask": ..., "width": ..., "height": ..., "fractions": {...},
     "confidence": ...}
    {"picture": ..., "error": ...}

A line is there only after its files. So whatever ended a process, the next one knows
what is done; what was being written lies in a folder of its own and is removed.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efficientlab_tf.errors import UserError
from efficientlab_tf.files import replacing, write_text, writing
from efficientlab_tf.inference.collection import Shard
from efficientlab_tf.inference.results import fractions
from efficientlab_tf.inference.segmenting import MASKS, Failed, Segmented
from efficientlab_tf.untrusted import read_json

SETTINGS = "segment.json"


def index_name(shard: Shard) -> str:
    """The name of a part's index."""
    if shard.count == 1:
        return "index.jsonl"
    digits = len(str(shard.count))
    return f"index-{shard.number:0{digits}d}-of-{shard.count}.jsonl"


class Index:
    """The index of a part of a collection, open to be written; one process has it.

    Args:
      output: the folder of the results.
      shard: the part.
      classes: names of the classes 1..K.
      settings: all that results depend on, plain values; every part has the same.

    Attributes:
      done: names of the pictures that are done, as of the start.
      errors: how many pictures could not be read since.
      scratch: a folder for files that are not whole yet.

    Raises:
      UserError: the folder has results of other settings, or cannot be written.
    """

    def __init__(
        self,
        output: Path,
        shard: Shard,
        classes: Sequence[str],
        settings: dict[str, Any],
    ):
        self._classes = tuple(classes)
        self._path = output / index_name(shard)
        self.scratch = output / f".{self._path.stem}.partial"
        self.done: set[str] = set()
        self.errors = 0
        with writing(f"to {output}"):
            _check_settings(output, settings)
            shutil.rmtree(self.scratch, ignore_errors=True)
            self.scratch.mkdir(parents=True)
            self._keep_what_is_done()
            self._file = open(self._path, "a", encoding="utf-8")

    def _keep_what_is_done(self) -> None:
        """Removes errors, to try these again, and a line that is not whole."""
        if not self._path.exists():
            return
        with (
            replacing(self._path, self.scratch) as partial,
            open(self._path, encoding="utf-8") as old,
            open(partial, "w", encoding="utf-8") as new,
        ):
            for line in old:
                try:
                    mask = str(json.loads(line)["mask"])
                except (ValueError, KeyError, TypeError):
                    continue
                self.done.add(mask.removeprefix(f"{MASKS}/").removesuffix(".png"))
                new.write(line)

    def add(self, result: Segmented | Failed) -> None:
        """Writes the line of a picture whose files are written.

        Raises:
          UserError: it cannot be written.
        """
        query = result.query
        line: dict[str, Any] = {"picture": str(query.path)}
        if isinstance(result, Failed):
            line["error"] = result.reason
            self.errors += 1
        else:
            height, width = result.mask.shape
            line |= {
                "mask": f"{MASKS}/{query.output}.png",
                "width": width,
                "height": height,
                "fractions": fractions(result.mask, self._classes),
                "confidence": result.confidence,
            }
        with writing(f"to {self._path}"):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Ends the index."""
        self._file.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


def _check_settings(output: Path, settings: dict[str, Any]) -> None:
    path = output / SETTINGS
    if not path.exists():
        write_text(path, json.dumps(settings, indent=2))
        return
    before = read_json(path, "choose another `output`")
    if before == settings:
        return
    if not isinstance(before, dict):
        before = {}
    names = [name for name in settings if before.get(name) != settings[name]]
    raise UserError(
        f"{output} holds results of another {' and '.join(f'`{n}`' for n in names)}; "
        "give the same to go on there, or choose another `output`"
    )
