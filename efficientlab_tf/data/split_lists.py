"""Class lists: which classes are for training, validation and testing.

The package ships the published class lists as `splits/*.txt`, one name a line.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path

from efficientlab_tf.errors import UserError

NAMED_SPLITS: dict[str, dict[str, str]] = {
    "fss1000": {"train": "fss1000_train", "test": "fss1000_test"},
    "fss1000_520": {
        "train": "fss1000_520_train",
        "val": "fss1000_520_val",
        "test": "fss1000_test",
    },
    "fss1000_700": {
        "train": "fss1000_700_train",
        "val": "fss1000_700_val",
        "test": "fss1000_test",
    },
    "fpk": {"test": "fpk_test"},
    "icons": {"train": "icons_train", "val": "icons_val", "test": "icons_test"},
}
"""Protocol to split to list of classes. "fss1000": the 240 test classes of FSS-1000's
authors and the other 760. "fss1000_520": 520/240/240, as metric-learning papers use it.
"fss1000_700": 700/60/240, as in Meta-DRN's paper, which does not name the 60; here they
are those whose names have the smallest CRC-32. "fpk": the five FP-k classes of
FSS-1000. "icons": the 435/60/100 of icons-fss."""

SPLIT_NAMES = ("train", "val", "test")


def load_splits(spec: str) -> dict[str, tuple[str, ...]]:
    """Reads the class lists of a protocol or of files.

    Args:
      spec: a key of `NAMED_SPLITS`, or files as "train=FILE,val=FILE,test=FILE"
        (any of the three), with one class name on each line; blank lines and lines
        that begin with "#" are ignored.

    Returns:
      Split name to class names in listed order.

    Raises:
      UserError: malformed, or a file is missing, empty, or lists a class twice.
    """
    if spec in NAMED_SPLITS:
        root = resources.files("efficientlab_tf.data") / "splits"
        return {
            split: _names(spec, (root / f"{stem}.txt").read_text(encoding="utf-8"))
            for split, stem in NAMED_SPLITS[spec].items()
        }
    if "=" not in spec:
        raise UserError(
            f"unknown splits {spec!r}; choose one of {', '.join(NAMED_SPLITS)}, or "
            "give files as train=FILE,val=FILE,test=FILE"
        )
    splits = {}
    for part in spec.split(","):
        split, _, file = part.strip().partition("=")
        if split not in SPLIT_NAMES or not file or split in splits:
            raise UserError(
                f"splits {spec!r}: cannot use {part!r}; expected each of "
                "train=FILE, val=FILE, test=FILE at most once, separated by commas"
            )
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise UserError(f"cannot read split list {file}: {reason}") from error
        splits[split] = _names(file, text)
    return splits


def check_splits(
    splits: Mapping[str, Collection[str]], available_classes: Collection[str]
) -> None:
    """Raises UserError if a class is in two splits, or the data lacks a listed one."""
    split_of: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if name in split_of:
                raise UserError(
                    f"class {name!r} is in the splits {split_of[name]!r} and "
                    f"{split!r}; list it once"
                )
            split_of[name] = split
    missing = [name for name in split_of if name not in available_classes]
    if missing:
        shown = ", ".join(f"{name!r} ({split_of[name]})" for name in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UserError(
            f"the splits list {len(missing)} classes that the data lacks: "
            f"{shown}{more}; add the data or choose other splits"
        )


def resolve_splits(
    splits: Mapping[str, Collection[str]], available_classes: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Replaces listed names that differ from the data's in quote marks alone.

    FSS-1000's folder thor's_hammer is also published as thors_hammer and as
    "thors_hammer".

    Raises:
      UserError: as `check_splits` does.
    """
    spelling = {_unquoted(name): name for name in available_classes}
    resolved = {
        split: tuple(
            name if name in available_classes else spelling.get(_unquoted(name), name)
            for name in names
        )
        for split, names in splits.items()
    }
    check_splits(resolved, available_classes)
    return resolved


def _unquoted(name: str) -> str:
    return name.replace("'", "").replace('"', "")


def _names(where: str, text: str) -> tuple[str, ...]:
    lines = (line.strip() for line in text.splitlines())
    names = tuple(line for line in lines if line and not line.startswith("#"))
    if not names:
        raise UserError(f"split list {where} names no class; write one name a line")
    for name, times in Counter(names).items():
        if times > 1:
            raise UserError(f"split list {where} names class {name!r} twice")
    return names
