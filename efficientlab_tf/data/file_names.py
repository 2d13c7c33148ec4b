"""Names of files as different programs write them: which of them mean the same."""

import base64
import binascii
import contextlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import PurePath
from urllib.parse import unquote, unquote_plus

from efficientlab_tf.data.picture_files import IMAGE_SUFFIXES

CODE_PAGES = ("utf-8", "gbk", "cp932", "cp949", "big5", "cp866", "cp1251", "cp1252")
"""In which archives hold names without saying so; they come out as code page 437."""

_AFFIX = re.compile(
    r"^(mask|seg|label|gt)[_\-. ]|"
    r"[_\-. ]((cp_)?masks?|seg|segmentation|label(s|led|ed)?|gt|matte)$",
    re.IGNORECASE,
)


def composed(name: str) -> str:
    """A name with its accents in one form: some disks take letters apart."""
    return unicodedata.normalize("NFC", name)


def loose(name: str) -> str:
    """A name without what programs change: case, and spaces to underscores."""
    return composed(name).casefold().replace(" ", "_")


def _decoded(name: str) -> str:
    return composed(unquote(name))


def of_picture(stem: str) -> str:
    """A mask's name without suffix, without what says that it is one.

    p0_mask, p0.jpg and mask_p0 are masks of p0.
    """
    stem = _AFFIX.sub("", stem)
    path = PurePath(stem)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else stem


def match_stems(pictures: Iterable[str], masks: Iterable[str]) -> dict[str, str]:
    """Matches pictures and masks by their names without suffix.

    The same name goes first, then names that differ in percent codes, in how accents
    are written, in an ending such as _mask, and in case and spaces; none of these if it
    is not clear which file is meant.

    Returns:
      Pictures to masks.
    """
    pictures, masks = set(pictures), set(masks)
    found: dict[str, str] = {}
    for own, others in (
        (str, str),
        (unquote, unquote),
        (_decoded, _decoded),
        (_decoded, lambda stem: _decoded(of_picture(stem))),
        (loose, lambda stem: loose(of_picture(stem))),
    ):
        left = _by_key(pictures - found.keys(), own)
        right = _by_key(masks - set(found.values()), others)
        for key, (picture, *more) in left.items():
            candidates = right.get(key, ())
            if not more and len(candidates) == 1:
                found[picture] = candidates[0]
    return found


def _by_key(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def garbled(name: str) -> list[str]:
    """What a name may have been before an archive program misread it.

    It was read as code page 437, or as UTF-8 where other code pages happen to be that.
    """
    if name.isascii():
        return []
    found = []
    for read_as in ("cp437", "utf-8"):
        for page in CODE_PAGES:
            with contextlib.suppress(UnicodeError):
                found.append(name.encode(read_as).decode(page))
    return found


def meanings(reference: str) -> list[list[str]]:
    """Returns what a path or an address may mean, the most literal first.

    Args:
      reference: a path of this or another computer, a URL, or an address of Label
        Studio: ?d= and a local file, not encoded; or fileuri= and one in base64.

    Returns:
      Paths as lists of their parts, folders before the file; none is empty.
    """
    texts = [reference]
    for mark in ("?d=", "&d="):
        if mark in reference:
            local = reference.split(mark, 1)[1]
            texts += [local, local.split("&", 1)[0]]
            texts += [unquote_plus(local.split("&", 1)[0])]
    if match := re.search(r"[?&]fileuri=([\w\-+/=%]+)", reference):
        code = unquote(match[1]).replace("-", "+").replace("_", "/")
        try:
            data = base64.b64decode(code + "=" * (-len(code) % 4))
            texts.append(data.decode("utf-8"))
        except (binascii.Error, UnicodeDecodeError):
            pass
    texts += [re.split("[?#]", text, maxsplit=1)[0] for text in texts]
    texts += [unquote(text) for text in texts]
    found = []
    for text in dict.fromkeys(texts):
        parts = text.replace("\\", "/").split("/")
        parts = [part for part in parts if part not in ("", ".", "..")]
        if parts and parts not in found:
            found.append(parts)
    return found
