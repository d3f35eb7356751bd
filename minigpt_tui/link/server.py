"""Answers for a run that trains in this process: any number of viewers, none of which it waits for.

One thread with an event loop of its own serves them all. What a viewer says is checked before anything is done about
it, and one that says something else is dropped; so is one that does not take what it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from minigpt_core.engine import explain
from minigpt_core.errors import UserError
from minigpt_core.frame import Frame
from minigpt_core.rundir import RunDir
from minigpt_core.status import Reading
from minigpt_tui.link import messages as m
from minigpt_tui.link import places
from minigpt_tui.link.viewer import Viewer
from minigpt_tui.local import LocalSession

NEWS_SECONDS = 0.2
READING_SECONDS = 1.0
FRAME_SECONDS = 1.0
GUARD_SECONDS = 5.0
"""Between two looks whether the socket is still there: a system may clear the folder when its user logs out."""
MAX_VIEWERS = 32
HANDSHAKE_SECONDS = 0.05
"""Between two new viewers: one that comes back as often as it is dropped must not cost the trainer anything."""
WRITE_LIMIT = 2**16
"""Bytes that wait for a viewer in this process before sending to it waits."""


class LinkServer:
    """Serves a session's run as long as its block lasts. What goes wrong with it costs the viewers, never the run.

    Where nobody can attach, the run's log says why.

    Args:
        announce: is told the path of the socket, each time there is a new one.
    """

    def __init__(self, session: LocalSession, announce: Callable[[str], None]) -> None:
        self._session, self._announce = session, announce
        self._viewers: set[Viewer] = set()
        self._news = b""
        self._frame: Frame | None = None
        self._packed = b""
        self._next_handshake = 0.0
        self._closing = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    @property
    def run(self) -> RunDir:
        return self._session.run

    def __enter__(self) -> LinkServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, timeout: float = 5.0) -> None:
        """Tell the viewers how the run stands, and let go of them."""
        self._closing.set()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._wake.set)
        if self._thread.ident is not None:
            self._thread.join(timeout)

    # --- the thread ---

    def _run(self) -> None:
        while self._session.status().phase == "starting":  # what follows would only make the first step later
            if self._closing.wait(NEWS_SECONDS):
                return
        try:
            asyncio.run(self._serve())
        except UserError as error:
            self._session.warn(f"nobody can attach: {error}")
        except Exception as error:
            self._session.warn(f"nobody can attach: {explain(error)}")

    async def _serve(self) -> None:
        from websockets.asyncio.server import unix_serve

        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        while not self._over():  # again, where somebody removed the socket
            listening, path = places.listen(self.run)
            own = path.stat().st_ino
            try:
                async with unix_serve(
                    self._view,
                    sock=listening,
                    process_request=self._admit,
                    compression=None,
                    max_size=m.MAX_REQUEST,
                    max_queue=8,
                    write_limit=WRITE_LIMIT,
                    open_timeout=5,
                    close_timeout=1,
                    logger=_silent(),
                ):
                    self._announce(str(path))
                    await self._tell(path)
            finally:
                places.forget(path, own)
                listening.close()  # only now may its number be given to another

    async def _tell(self, path: Path) -> None:
        """Tell the viewers what is new, until the run has ended or the socket is gone."""
        reading = Reading()
        read = looked = guarded = 0.0
        while not self._over():
            now, woken = time.monotonic(), self._wake.is_set()
            self._wake.clear()  # whoever wakes us from here on is heard in the next round
            if now - guarded > GUARD_SECONDS:
                guarded = now
                if not path.exists():
                    return
            if self._viewers:
                if now - read > READING_SECONDS:
                    read, reading = now, self._session.reading()
                self._tell_news(reading)
                if woken or now - looked > FRAME_SECONDS:
                    looked = now if await self._tell_frame() else 0.0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), NEWS_SECONDS)
        self._tell_news(reading)
        await asyncio.gather(*(viewer.told() for viewer in self._viewers))

    def _over(self) -> bool:
        """Whether there is no run to serve any more: another process may be about to serve it."""
        return self._closing.is_set() or self._session.status().finished

    def _tell_news(self, reading: Reading) -> None:
        news = m.encode(m.News(self._session.status(), reading, self._session.live_failure()))
        if news != self._news:
            self._news = news
            for viewer in self._viewers:
                viewer.put("news", news)

    async def _tell_frame(self) -> bool:
        """The newest look, packed once for all who want one, in a thread: nobody waits for that.

        False where it is wanted and nobody has looked yet; asking has begun it.
        """
        wanting = [viewer for viewer in self._viewers if viewer.wants_frame]
        if not wanting:
            self._frame = None
            return True
        frame = self._session.live_frame()
        if frame is None:
            return False
        if frame is not self._frame:
            self._frame, self._packed = frame, await asyncio.to_thread(_packed, frame)
        for viewer in wanting:
            if viewer.frame_sent is not frame:
                viewer.frame_sent = frame
                viewer.put("frame", self._packed)
        return True

    # --- a viewer ---

    async def _admit(self, connection: object, request: object) -> object:
        """Who may come in: this user, not too many at once, and not too many a second."""
        from websockets.asyncio.server import ServerConnection

        assert isinstance(connection, ServerConnection)
        there = connection.transport.get_extra_info("socket")
        if not isinstance(there, socket.socket):
            there = getattr(there, "_sock", there)  # asyncio's wrapper
        if places.peer_uid(there) != os.getuid():
            return connection.respond(HTTPStatus.FORBIDDEN, "this run is another user's\n")
        now = time.monotonic()
        self._next_handshake = max(now, self._next_handshake + HANDSHAKE_SECONDS)
        await asyncio.sleep(self._next_handshake - now)
        if len(self._viewers) >= MAX_VIEWERS:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many viewers\n")
        return None

    async def _view(self, connection: object) -> None:
        from websockets.asyncio.server import ServerConnection

        assert isinstance(connection, ServerConnection)
        viewer = Viewer(self._session, connection, self._wake.set)
        welcome = m.Welcome(m.PROTOCOL, str(self.run.path.resolve()), socket.gethostname(), os.getpid())
        viewer.put("welcome", m.encode(welcome))
        self._viewers.add(viewer)
        self._news = b""  # to be told again, for the one that has heard nothing yet
        self._wake.set()
        try:
            await viewer.serve()
        finally:
            self._viewers.discard(viewer)


def _packed(frame: Frame) -> bytes:
    return m.encode(m.pack_frame(frame, past=False, sample=None))


def _silent() -> logging.Logger:
    """The library would write a traceback for whoever speaks another protocol."""
    logger = logging.getLogger("minigpt_tui.link")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
