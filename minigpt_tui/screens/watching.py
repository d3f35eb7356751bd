"""Which text the attention pane and the logit lens look at: a choice that may go on changing as answers are written."""

from __future__ import annotations

from typing import Literal, get_args

from minigpt_tui.session import Session
from minigpt_tui.widgets.transcript import Transcript

Kind = Literal["validation", "last prompt", "last answer"]
KINDS: tuple[Kind, ...] = get_args(Kind)
OWN = "your text"


class Watching:
    """Tells the session what to look at, and knows what that is called.

    Attributes:
        name: for the title of the pane: "validation", "validation 3", "last prompt", "last answer" or "your text".
    """

    def __init__(self, session: Session, transcript: Transcript) -> None:
        self._session, self._transcript = session, transcript
        self.name: str = KINDS[0]
        self._number = 0
        """Of the excerpt of the validation text."""
        self._text: str | None = None

    def own(self, text: str | None) -> None:
        """A text that somebody typed; None is the run's own."""
        self._look(OWN if text is not None else KINDS[0], text)

    def next_kind(self) -> None:
        """The next kind of text that there is: the validation text, the last prompt, the last answer."""
        at = KINDS.index(self.name) if self.name in KINDS else 0
        kind = next((kind for kind in KINDS[at + 1 :] if self._text_of(kind)), KINDS[0])
        self._number = 0
        self._look(kind, self._text_of(kind))

    def next_excerpt(self) -> None:
        """The next piece of the validation text, after the last one the first; from another text, the first."""
        number = self._number + 1 if self.name.startswith(KINDS[0]) else 0
        text = self._session.excerpt(number) if number else None
        self._number = 0 if text is None else number
        self._look(f"{KINDS[0]} {number}" if text is not None else KINDS[0], text)

    def refresh(self) -> None:
        """Follow the prompt or the answer, if that is what is looked at: the newest, as far as it is written."""
        if self.name in KINDS[1:]:
            text = self._text_of(self.name)
            if text and text != self._text:
                self._look(self.name, text)

    def _look(self, name: str, text: str | None) -> None:
        self.name, self._text = name, text
        self._session.watch(text)

    def _text_of(self, kind: Kind) -> str | None:
        """None for the validation text, and where there is no prompt or no answer yet."""
        if kind == "last prompt":
            asked = self._transcript.last_asked
            return asked.generation.prompt if asked is not None else None
        if kind == "last answer":
            last = self._transcript.last
            return last.generation.prompt + last.generation.text() if last is not None else None
        return None
