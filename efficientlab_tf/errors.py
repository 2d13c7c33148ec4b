"""One exception for everything a user can put right, and how commands report it."""

import re
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Bad input. The message is one line: what is wrong, where, and what to do.

    An argument is named in backticks: `steps` is an argument of a function, and on a
    command line --steps. What a message quotes may come from a file of somebody else:
    control characters and halves of characters become question marks.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Returns a text as one line that every terminal can show."""
    return _CONTROLS.sub("?", text)


_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def check_at_least(least: int, **arguments: int | None) -> None:
    """Raises UserError if one of the arguments is below `least`; None passes."""
    for name, value in arguments.items():
        if value is not None and value < least:
            raise UserError(f"`{name}` must be at least {least}, received {value}")


def run_command(
    main: Callable[[], int | None], spelled: Callable[[str], str] = str
) -> None:
    """Runs a command's `main` and exits with its status.

    A `UserError` becomes one line on stderr and exit status 2: whoever typed
    the command needs the sentence, not the stack. Ctrl-C exits with 130. Any
    other exception is a bug in this package and keeps its trace.

    Args:
      main: the command.
      spelled: writes a message's arguments as the command line spells them.
    """
    try:
        status = main()
    except UserError as error:
        print(f"error: {spelled(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(status or 0)
