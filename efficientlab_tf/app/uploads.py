"""A bound on what is sent to the page at once; Gradio's own is one for each file."""

from starlette.formparsers import MultiPartException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from efficientlab_tf.app.config import AppConfig


def batch_limit(config: AppConfig) -> Middleware:
    """Refuses requests of more than `max_batch_mb`, with status 413 if of files."""
    return Middleware(_Limited, most=round(config.max_batch_mb * 1e6))


class _Limited:
    def __init__(self, app: ASGIApp, most: int):
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                # As of a file that is too large: Gradio deletes what has come, and
                # answers with this sentence.
                raise MultiPartException(
                    f"All files together exceeded the maximum allowed size of "
                    f"{self._most / 1e6:g} MB; drop in fewer at once."
                )
            return message

        await self._app(scope, counted, send)
