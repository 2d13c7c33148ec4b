"""Names of classes as a person asks for them."""

from collections.abc import Collection, Sequence
from pathlib import Path

from efficientlab_tf.data.annotations.export import listed
from efficientlab_tf.data.file_names import composed
from efficientlab_tf.errors import UserError


def pick(
    wanted: Sequence[str], present: Sequence[str], names: Collection[str], path: Path
) -> tuple[str, ...]:
    """Returns the classes that are asked for, by their names.

    A list that was cut at its commas is put together again where names hold some.

    Args:
      wanted: names, in the order of the classes.
      present: the classes that something is labelled as.
      names: all that are declared.
      path: what they are of, for messages.

    Raises:
      UserError: nothing is labelled so, or a class is named twice.
    """
    known = {_parts(name): name for name in names}

    def chosen(parts: tuple[str, ...]) -> tuple[str, ...] | None:
        if not parts:
            return ()
        for end in range(1, len(parts) + 1):
            name = known.get(parts[:end])
            if name is not None and (rest := chosen(parts[end:])) is not None:
                return (name, *rest)
        return None

    found = chosen(_parts(",".join(wanted))) if wanted else ()
    absent = [name for name in wanted if name.strip() not in present]
    if found is not None:
        absent = [name for name in found if name not in present]
    if absent:
        raise UserError(
            f"`classes`: {path} has nothing labelled {', '.join(absent)}; it has "
            f"{listed(present, 30)}"
        )
    if len(set(found)) < len(found):
        raise UserError(f"`classes`: {','.join(wanted)} names a class twice")
    return found


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in composed(name).split(","))
