"""A connection to a run that trains in another process: kept up in a thread of its own, begun again when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from minigpt_core.reading import brief
from minigpt_tui.link import messages as m

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

RETRY_SECONDS = 0.3
OPEN_SECONDS = 5.0
REFUSED = (1007, 1009)
"""Close codes, RFC 6455, section 7.4.1: a message that makes no sense, and one that is too long."""
OTHER_VERSION = "it is trained by another version of minigpt-tui"


class End(NamedTuple):
    """How a connection ended."""

    problem: str
    """In a line."""
    refused: bool = False
    """One side made no sense of what the other said: said again, it would end the next connection, too."""


class Link:
    """Says what it is given and passes on what it hears; nobody who uses it ever waits.

    Args:
        find: where the socket is at this moment, or why there is none, in a line.
        hear: told of every reply, from the link's thread.
        opened: told of every new connection, from the link's thread, after its welcome was heard.
        lost: told of the end of each of those, from the link's thread, and whether the trainer refused it.

    Attributes:
        problem: why there is no connection, in a line; None while there is one.
    """

    def __init__(
        self,
        find: Callable[[], Path | str],
        hear: Callable[[m.Reply], None],
        opened: Callable[[], None],
        lost: Callable[[bool], None],
    ) -> None:
        self._find, self._hear, self._opened, self._lost = find, hear, opened, lost
        self.problem: str | None = "connecting"
        self._loop = asyncio.new_event_loop()
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._closed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def say(self, request: m.Request) -> None:
        """Send a request over the connection there is; without one it is lost.

        Raises:
            UserError: no trainer would take it.
        """
        data = m.encode_request(request)
        self._call(lambda: self._outgoing.put_nowait(data))

    def close(self) -> None:
        self._call(self._closed.set)

    def join(self, timeout: float | None = None) -> bool:
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _call(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the thread has ended
            self._loop.call_soon_threadsafe(function)

    # --- the thread ---

    def _run(self) -> None:
        self._loop.run_until_complete(self._keep_up())
        self._loop.close()

    async def _keep_up(self) -> None:
        closed = asyncio.create_task(self._closed.wait())
        while not self._closed.is_set():
            work = asyncio.create_task(self._connect())
            await asyncio.wait({work, closed}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
                return
            was_open, end = self.problem is None, work.result()
            self.problem = end.problem
            if was_open:
                self._lost(end.refused)
            await asyncio.wait({closed}, timeout=RETRY_SECONDS)

    async def _connect(self) -> End:
        """Until the connection ends."""
        from websockets.asyncio.client import unix_connect
        from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

        path = self._find()
        if isinstance(path, str):
            return End(path)
        try:
            if path.stat().st_uid != os.getuid():
                return End(f"{str(path)!r} is another user's")
            async with unix_connect(
                str(path),
                compression=None,
                proxy=None,
                max_size=m.MAX_NEWS,
                open_timeout=OPEN_SECONDS,
                close_timeout=0.5,
            ) as connection:
                welcome = m.read_reply(await asyncio.wait_for(connection.recv(), OPEN_SECONDS))
                if not isinstance(welcome, m.Welcome) or welcome.protocol != m.PROTOCOL:
                    return End(OTHER_VERSION)
                self._hear(welcome)
                self.problem = None
                self._outgoing = asyncio.Queue()
                self._opened()
                sending = asyncio.create_task(self._send(connection))
                try:
                    async for data in connection:
                        self._hear(m.read_reply(data))
                finally:
                    sending.cancel()
        except m.MalformedError:
            return End(OTHER_VERSION, refused=True)
        except InvalidStatus as error:
            return End(error.response.body.decode(errors="replace").strip() if error.response.body else str(error))
        except ConnectionClosed as error:
            refused = error.rcvd is not None and error.rcvd.code in REFUSED
            return End("the trainer refused what it was told" if refused else "the connection was lost", refused)
        except (WebSocketException, TimeoutError, EOFError):
            pass
        except OSError as error:
            return End(f"cannot connect to {str(path)!r}: {error.strerror or error}")
        except Exception as error:  # whatever a trainer that is none may cause
            return End(f"the connection failed: {brief(error)}", refused=True)
        return End("the connection was lost")

    async def _send(self, connection: ClientConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):  # whoever reads notices
            while True:
                await connection.send(await self._outgoing.get())
