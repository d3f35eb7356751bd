"""The logit lens pane: what the model would say next at one position, if it stopped after each of its blocks."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.strip import Strip

from minigpt_core.frame import Frame
from minigpt_core.heads import SCORES, label
from minigpt_tui.safetext import safe, token_label
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.lines import Lines, Part, cut, message, strip, width
from minigpt_tui.widgets.palette import (
    ACCENT_BOLD,
    BACKGROUND,
    BRIGHT_STYLE,
    FAINT_STYLE,
    LINE,
    MUTED,
    MUTED_STYLE,
    SECOND_STYLE,
    TEXT_STYLE,
    WARN_STYLE,
)
from minigpt_tui.widgets.roles import STYLES as ROLE_STYLES

WAITING = "no logit lens yet: waiting for the first weights"
FULL_LOSS = 6.0
"""Nats that fill a loss bar. It does not follow the data, so that frames compare."""
SIDE_BY_SIDE = 62
"""Columns from which the distribution stands beside the stages instead of below them."""
MOST_BAR = 24
STAGE, TOKEN = 8, 9
"""Cells of a stage's name and of a token with its quotes."""
BAR_STYLE = Style(color=MUTED, bgcolor=BACKGROUND)
REST_STYLE = Style(color=LINE, bgcolor=BACKGROUND)


class Guess(NamedTuple):
    """A candidate for the next token: its label, its probability, whether it is the one that follows."""

    label: str
    probability: float
    follows: bool


def next_tokens(frame: Frame, query: int) -> list[Guess]:
    """The model's likeliest next tokens at a position, likeliest first, and the one that follows if not among them."""
    lens = frame.lens
    tokens, probabilities = lens.tokens[-1, query], lens.probabilities[-1, query]  # (k,)
    labels = [frame.lens_labels.get(int(token), "") for token in tokens]
    loss = float(lens.losses[-1, query])
    true = frame.tokens[query + 1] if query + 1 < len(frame.tokens) else None
    # Two tokens may have one label: of those it is the one with the probability that the loss says.
    same = [i for i, text in enumerate(labels) if text == true]
    hit = min(same, key=lambda i: abs(float(probabilities[i]) - math.exp(-loss)), default=None)
    found = [Guess(token_label(text), float(probabilities[i]), i == hit) for i, text in enumerate(labels)]
    if true is not None and hit is None:
        found.append(Guess(token_label(true), math.exp(-loss), True))
    return found


def bar(share: float, columns: int, style: Style) -> list[Part]:
    """A share of 0 to 1 as a bar on a faint floor, in exactly so many cells."""
    full = round(min(max(share, 0.0), 1.0) * columns) if math.isfinite(share) else 0
    return [("━" * full, style), ("─" * (columns - full), REST_STYLE)]


def stage_rows(frame: Frame, query: int, columns: int, rows: int) -> list[Strip]:
    """A row for each stage, under their headings; of more than fit, some spread evenly, the last among them."""
    lens, n = frame.lens, frame.lens.tokens.shape[0]
    shown = np.unique(np.linspace(0, n - 1, max(1, min(n, rows - 1))).round().astype(int)) if n > rows - 1 else range(n)
    norms = columns >= STAGE + TOKEN + 6 + 6 + 4 + 8
    size = min(MOST_BAR, columns - STAGE - TOKEN - 6 - 6 - 8 * norms)
    head = f"{'after':<{STAGE}}{'top':<{TOKEN}}{'p':>5} " + (f"{'loss':<{max(0, size) + 6}}" if size > 0 else "  loss")
    out = [strip([(cut(head + ("  norm" if norms else ""), columns), FAINT_STYLE)])]
    for stage in [n - 1] if rows < 3 else shown:
        last = stage == n - 1
        name = "embed" if stage == 0 else f"block {stage}"
        top = token_label(frame.lens_labels.get(int(lens.tokens[stage, query, 0]), ""))
        loss = float(lens.losses[stage, query])
        parts: list[Part] = [
            (set_cell_size(name, STAGE), ACCENT_BOLD if last else MUTED_STYLE),
            (set_cell_size(cut(fmt.quoted(top), TOKEN - 1), TOKEN), BRIGHT_STYLE if last else TEXT_STYLE),
            (f"{fmt.share(float(lens.probabilities[stage, query, 0])):>5} ", TEXT_STYLE),
            *(bar(loss / FULL_LOSS, size, SECOND_STYLE) if size > 0 else []),
            (f"{fmt.number(loss, 2) if math.isfinite(loss) else fmt.UNKNOWN:>6}", SECOND_STYLE),
        ]
        if norms:
            parts.append((f"{fmt.number(float(frame.health.residual_norms[stage]), 1):>8}", FAINT_STYLE))
        out.append(strip(parts))
    return out


def guess_rows(frame: Frame, query: int, columns: int) -> list[Strip]:
    """The distribution over the next token, the one that follows marked."""
    size = min(MOST_BAR, columns - TOKEN - 6 - 10)
    out = [strip([("next token", FAINT_STYLE)])]
    for guess in next_tokens(frame, query):
        style = ACCENT_BOLD if guess.follows else TEXT_STYLE
        out.append(
            strip(
                [
                    (set_cell_size(cut(fmt.quoted(guess.label), TOKEN - 1), TOKEN), style),
                    (f"{fmt.share(guess.probability):>5} ", style),
                    *(bar(guess.probability, size, style if guess.follows else BAR_STYLE) if size > 0 else []),
                    (" ← follows" if guess.follows else "", ACCENT_BOLD),
                ]
            )
        )
    return out


def head_row(frame: Frame, head: tuple[int, int], columns: int) -> Strip:
    """The chosen head's role and scores."""
    scores = frame.scores[:, head[0], head[1]]
    role = label(scores)
    parts: list[Part] = [
        (f"L{head[0]} H{head[1]} ", MUTED_STYLE),
        (role or "no one role", ROLE_STYLES.get(role, MUTED_STYLE)),
    ]
    for name, score in zip(SCORES, scores, strict=True):
        more: list[Part] = [(f"  {name[:4]} ", FAINT_STYLE), (fmt.share(float(score), 2), MUTED_STYLE)]
        parts += more if width(parts) + width(more) <= columns else []
    return strip(parts)


class LensPane(Lines, can_focus=True):
    """Follows the attention cursor; its keys move that."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,left", "screen.query(-1)", "earlier position", show=False, id="lens.earlier"),
        Binding("down,right", "screen.query(1)", "later position", show=False, id="lens.later"),
        Binding("less_than_sign", "screen.head('layer', -1)", "previous layer", show=False, id="lens.previous-layer"),
        Binding("greater_than_sign", "screen.head('layer', 1)", "next layer", show=False, id="lens.next-layer"),
        Binding("comma", "screen.head('head', -1)", "previous head", show=False, id="lens.previous-head"),
        Binding("full_stop", "screen.head('head', 1)", "next head", show=False, id="lens.next-head"),
    ]

    def __init__(self) -> None:
        super().__init__(id="lens", classes="pane")
        self.border_title = "5 logit lens"
        self._shown: tuple[Frame | None, str | None, int, tuple[int, int], bool] = (None, None, 0, (0, 0), False)
        self._stale = True

    def update(
        self, frame: Frame | None, failure: str | None, query: int, head: tuple[int, int], past: bool = False
    ) -> None:
        """The frame of the attention pane, its cursor's query and its chosen head; drawn only if something changed."""
        shown = (frame, failure, query, head, past)
        if self._stale or shown != self._shown:
            self._shown = shown
            self._paint()

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        columns, rows = self.size
        self._stale = not (self.display and columns and rows)
        if self._stale:
            return
        frame, failure, query, head, past = self._shown
        if frame is None:
            text, style = (WAITING, FAINT_STYLE) if failure is None else (failure, WARN_STYLE)
            self.show(message(safe(text, newlines=False), style, columns))
            return
        query = min(query, len(frame.tokens) - 1)
        head = min(head[0], frame.scores.shape[1] - 1), min(head[1], frame.scores.shape[2] - 1)
        caption = self._caption(frame, query, columns, past)
        if columns >= SIDE_BY_SIDE:
            self.show([caption, *self._beside(frame, query, head, columns, rows - 1)])
        else:
            self.show([caption, *self._below(frame, query, head, columns, rows - 1)])

    def _caption(self, frame: Frame, query: int, columns: int, past: bool) -> Strip:
        style = WARN_STYLE if past else MUTED_STYLE
        here = f"q {query} {fmt.quoted(token_label(frame.tokens[query]))}"
        if query + 1 < len(frame.tokens):
            then = f"{here} → {fmt.quoted(token_label(frame.tokens[query + 1]))}"
        else:
            then = f"{here}, the text ends here"
        step = f", step {frame.stamp.step}"
        text = then + step if cell_len(then + step) <= columns else then
        return strip([(cut(text, columns), style)])

    def _below(self, frame: Frame, query: int, head: tuple[int, int], columns: int, rows: int) -> list[Strip]:
        """Stages, head, distribution; where rows are few the distribution is cut, then the stages are thinned."""
        stages = stage_rows(frame, query, columns, max(2, rows))
        guesses = guess_rows(frame, query, columns)
        extra = [head_row(frame, head, columns)] if rows > len(stages) + 3 else []
        gap = [Strip([])] if rows >= len(stages) + len(guesses) + len(extra) + 2 else []
        foot = [*gap, *extra] if gap else extra
        return [*stages, *gap, *guesses[: max(0, rows - len(stages) - len(gap) - len(foot))], *foot][:rows]

    def _beside(self, frame: Frame, query: int, head: tuple[int, int], columns: int, rows: int) -> list[Strip]:
        right = min(columns // 2, TOKEN + 6 + 10 + MOST_BAR)
        left = columns - right - 3
        stages = stage_rows(frame, query, left, rows)
        guesses = [*guess_rows(frame, query, right), head_row(frame, head, right)]
        out = []
        for y in range(min(rows, max(len(stages), len(guesses)))):
            line = stages[y] if y < len(stages) else Strip([])
            more = guesses[y] if y < len(guesses) else Strip([])
            out.append(Strip.join([line.adjust_cell_length(left + 3, TEXT_STYLE), more]))
        return out
