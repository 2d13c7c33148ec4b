"""How a person or a scheduler stops a training."""

import contextlib
import signal
from collections.abc import Iterator


class StopRequest:
    """Turns Ctrl-C and SIGTERM into a flag that the loop reads between steps.

    A second Ctrl-C acts at once.
    """

    def __init__(self):
        self.requested = False

    def __bool__(self) -> bool:
        return self.requested

    def _handle(self, number, frame) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    @classmethod
    @contextlib.contextmanager
    def on_signals(cls) -> Iterator["StopRequest"]:
        """Installs the handlers for the duration of the context."""
        stop = cls()
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, stop._handle) for number in numbers]
        try:
            yield stop
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
