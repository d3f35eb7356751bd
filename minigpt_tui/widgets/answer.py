"""What the transcript knows of a request and its answer: the texts, which token wrote what, and the stamp."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rich.cells import cell_len

from minigpt_core.config import SampleConfig
from minigpt_core.generation import Generation
from minigpt_core.status import Choice, Piece
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.lines import cut

UNKNOWN = -1
"""The token of text of which nothing more is known."""
DEFAULTS = SampleConfig()
Ranked = tuple[int, str]
"""A part of a stamp; rank 0 leaves last."""


class Sample:
    """One text of an answer.

    Attributes:
        text: all of it, as it came.
        pieces: (text, token) in order; the token is an index into `choices`, or `UNKNOWN`.
        tokens: those that wrote something, ascending.
    """

    def __init__(self) -> None:
        self.text = ""
        self.pieces: list[tuple[str, int]] = []
        self.choices: list[Choice] = []
        self.tokens: list[int] = []
        self._due: deque[tuple[int, int]] = deque()
        """(token, characters) that were drawn and have yet to be shown: a stop text may begin with them."""

    def take(self, piece: Piece) -> None:
        self.text += piece.text
        if piece.choice is not None:
            if piece.choice.text:
                self._due.append((len(self.choices), len(piece.choice.text)))
            self.choices.append(piece.choice)
        text = piece.text
        while text:
            token, due = self._due.popleft() if self._due else (UNKNOWN, len(text))
            part, text = text[:due], text[due:]
            self.pieces.append((part, token))
            if token != UNKNOWN and self.tokens[-1:] != [token]:
                self.tokens.append(token)
            if len(part) < due:
                self._due.appendleft((token, due - len(part)))


class Answer:
    """One request on the screen."""

    def __init__(self, generation: Generation, asked: bool = True) -> None:
        self.generation = generation
        self.asked = asked
        """By a person; otherwise the app wanted to see what the model writes by now."""
        self.samples = [Sample() for _ in generation.config.rows]
        self.settled = False
        """Nothing more will change."""

    @property
    def text(self) -> str:
        return "\n\n".join(sample.text for sample in self.samples if sample.text)

    @property
    def prompt(self) -> str:
        """What is shown of the prompt."""
        return self.generation.prompt if self.generation.shown is None else self.generation.shown

    def take(self) -> bool:
        """Collect what has arrived; whether there is anything new to show."""
        done = self.generation.done  # before taking: what arrives between the two is not lost
        pieces = self.generation.take()
        for piece in pieces:
            self.samples[piece.sample].take(piece)
        self.settled = done
        return bool(pieces) or done

    def stamp(self, columns: int) -> str:
        """`step 1,234 · val 1.98 @1,000 · seed 7 · T 0.8`, whole parts of it, the least important left out first."""
        return in_parts([*self._weights(), *self._request(), *self._end()], columns)

    def weights(self, columns: int) -> str:
        """The half of the stamp in which two answers to the same request differ."""
        return in_parts([*self._weights(), *self._end()], columns)

    def request(self, columns: int) -> str:
        """The half that they share."""
        return in_parts(self._request(), columns)

    def _weights(self) -> list[Ranked]:
        stamp = self.generation.stamp
        if stamp is None:
            return []
        parts = [(0, f"step {stamp.step:,}")]
        if stamp.val_loss is not None:
            at = "" if stamp.val_step is None else f" @{stamp.val_step:,}"
            parts.append((4, f"val {fmt.number(stamp.val_loss, 2)}{at}"))
        return parts

    def _request(self) -> list[Ranked]:
        stamp, config = self.generation.stamp, self.generation.config
        if stamp is None:
            return []
        heats = " ".join(f"{heat:g}" for heat in dict.fromkeys(config.rows))
        return [(3, f"seed {stamp.seed}"), (2, f"T {heats}"), *((5, text) for text in settings(config))]

    def _end(self) -> list[Ranked]:
        parts = [] if self.asked else [(6, "by itself")]
        return [*parts, *([(1, "stopped")] if self.generation.finish_reason == "cancelled" else [])]


def settings(config: SampleConfig) -> list[str]:
    """Every setting that is not the default, but for the seed and the temperatures, which have places of their own."""
    named = {
        "top_k": f"top-k {config.top_k}",
        "top_p": f"top-p {config.top_p:g}",
        "min_p": f"min-p {config.min_p:g}",
        "repetition_penalty": f"penalty {config.repetition_penalty:g}",
        "max_new_tokens": f"{config.max_new_tokens:,} tokens",
        "stop": "stop " + " ".join(cut(f"'{safe(stop, newlines=False)}'", 12) for stop in config.stop),
    }
    return [text for name, text in named.items() if getattr(config, name) != getattr(DEFAULTS, name)]


def in_parts(parts: Sequence[Ranked], columns: int) -> str:
    """The texts with dots between them; while they do not fit, the last of the highest rank leaves whole."""
    left = list(parts)
    while len(left) > 1 and cell_len(" · ".join(text for _, text in left)) > columns:
        worst = max(rank for rank, _ in left)
        del left[max(n for n, (rank, _) in enumerate(left) if rank == worst)]
    return cut(" · ".join(text for _, text in left), columns)
