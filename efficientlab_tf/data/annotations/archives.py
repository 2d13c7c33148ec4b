"""ZIP archives from anywhere."""

import re
import shutil
import zipfile
import zlib
from pathlib import Path

from efficientlab_tf.errors import UserError
from efficientlab_tf.untrusted import reason_of

MAX_UNPACKED = 4 * 2**30
MAX_MEMBERS = 20_000
MAX_RATIO = 200
_HARMLESS = 2**28
_OUTSIDE = re.compile(r"^/|^[A-Za-z]:|(^|/)\.\.(/|$)")
_IS_UTF8 = 0x800


def unpack(path: Path, folder: Path) -> None:
    """Unpacks a ZIP archive from somebody else.

    Raises:
      UserError: damaged or encrypted; more than 20,000 files or 4 GiB; compressed
        beyond what pictures and annotations are; or a member that would lie outside
        of `folder`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            total = sum(member.file_size for member in members)
            packed = max(1, sum(member.compress_size for member in members))
            if len(members) > MAX_MEMBERS or total > MAX_UNPACKED:
                raise UserError(
                    f"{path} holds {len(members)} files of {total / 2**30:.1f} GiB in "
                    f"all, more than {MAX_MEMBERS} or {MAX_UNPACKED / 2**30:.0f} GiB; "
                    "unpack it and give a folder with the support pictures alone"
                )
            if total > _HARMLESS and total / packed > MAX_RATIO:
                raise UserError(
                    f"{path} would unpack to {total / packed:.0f} times its size, as "
                    "no pictures do; unpack it yourself if you trust it"
                )
            for member in members:
                if _OUTSIDE.search(_name(member)):
                    raise UserError(
                        f"{path}: member {member.filename!r} would be written outside "
                        "of the archive's folder; do not trust this file"
                    )
            if total > shutil.disk_usage(folder).free:
                raise UserError(
                    f"{path} unpacks to {total / 2**30:.1f} GiB, more than is free in "
                    f"{folder.parent}; set TMPDIR to a larger disk"
                )
            for member in members:
                target = folder.joinpath(*_name(member).split("/"))
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(target, "wb") as copy:
                    shutil.copyfileobj(source, copy)
    except (
        *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
        *(EOFError, OSError, ValueError),
    ) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} cannot be unpacked ({reason_of(error)}); zip it again"
        ) from error


def _name(member: zipfile.ZipInfo) -> str:
    """The name of a member with / between folders, whoever wrote the archive.

    Names that are not said to be UTF-8 come out as code page 437. Many are UTF-8 all
    the same; what others were, only the export that speaks of them can tell.
    """
    name = member.filename
    if not member.flag_bits & _IS_UTF8 and not name.isascii():
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return "/".join(part for part in name.replace("\\", "/").split("/") if part != ".")
