"""How far the fetching or encoding of a long text is: a bar, or lines off a terminal. It ends before the app opens."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_SECONDS = 5.0


class EncodingProgress:
    """Called with the share that is done, 0 to 1, and once more from 0 where more work follows.

    A text that is there and short never calls, and shows nothing.
    """

    def __enter__(self) -> EncodingProgress:
        self._bar: Progress | None = None
        self._said = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: float) -> None:
        if sys.stderr is None:
            return
        if not sys.stderr.isatty():
            if time.monotonic() - self._said >= LINE_SECONDS:
                self._said = time.monotonic()
                print(f"preparing the text: {done:.0%}", file=sys.stderr, flush=True)
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("preparing the text", total=1.0)
            self._bar.start()
        self._bar.update(self._task, completed=done)
