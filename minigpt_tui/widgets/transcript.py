"""The samples pane: prompts and the answers to them, each stamped with the weights it came from."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from minigpt_core.generation import Generation
from minigpt_core.status import Stamp
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import format as fmt
from minigpt_tui.widgets.feed import Feed
from minigpt_tui.widgets.palette import (
    ACCENT_STYLE,
    BACKGROUND,
    BAD_STYLE,
    BRIGHT,
    FAINT_STYLE,
    MUTED_STYLE,
    WARN_STYLE,
    Style,
)

GENERATED_STYLE = Style(color=BRIGHT, bgcolor=BACKGROUND)
QUEUED = "queued: waiting for the first weights"
MAX_ANSWERS = 200
HINT = "Press i and type: the answer comes from the weights of that moment."


def stamp_line(stamp: Stamp, temperature: float) -> str:
    """`step 1,234 · val 1.98 @1,000 · seed 7 · T 0.8`."""
    parts = [f"step {stamp.step:,}"]
    if stamp.val_loss is not None:
        at = "" if stamp.val_step is None else f" @{stamp.val_step:,}"
        parts.append(f"val {fmt.number(stamp.val_loss, 2)}{at}")
    return " · ".join([*parts, f"seed {stamp.seed}", f"T {temperature:g}"])


class Answer:
    """One request on the screen."""

    def __init__(self, generation: Generation, asked: bool = True) -> None:
        self.generation = generation
        self.asked = asked
        """By a person; otherwise the app wanted to see what the model writes by now."""
        self.samples: dict[int, str] = {}
        self.number = -1
        self.settled = False
        """Nothing more will change."""

    @property
    def text(self) -> str:
        return "\n\n".join(self.samples[n] for n in sorted(self.samples))

    def take(self) -> bool:
        """Collect what has arrived; whether the block must be drawn again."""
        done = self.generation.done  # before taking: what arrives between the two is not lost
        pieces = self.generation.take()
        for piece in pieces:
            self.samples[piece.sample] = self.samples.get(piece.sample, "") + piece.text
        self.settled = done
        return bool(pieces) or done

    def render(self, waiting: str) -> Text:
        """The stamp, the prompt dimmed, the answer, and what went wrong."""
        generation = self.generation
        block = Text(no_wrap=False)
        mark = "✓" if self.settled else "●"
        if generation.stamp is None:
            block.append("○ ", FAINT_STYLE)
            block.append("no answer" if self.settled else waiting, WARN_STYLE)
        else:
            block.append(f"{mark} ", FAINT_STYLE if self.settled else ACCENT_STYLE)
            block.append(stamp_line(generation.stamp, generation.config.temperature), FAINT_STYLE)
            if not self.asked:
                block.append(" · by itself", FAINT_STYLE)
        if generation.finish_reason == "cancelled":
            block.append(" · stopped", WARN_STYLE)
        for warning in generation.warnings:
            block.append(f"\n! {safe(warning, newlines=False)}", WARN_STYLE)
        block.append("\n")
        several = len(self.samples) > 1
        for number in sorted(self.samples) or [0]:
            if several:
                block.append(f"{number + 1}. ", FAINT_STYLE)
            block.append(safe(generation.prompt), MUTED_STYLE)
            block.append(safe(self.samples.get(number, "")), GENERATED_STYLE)
            block.append("\n")
        if generation.error:
            block.append(f"! {safe(generation.error, newlines=False)}\n", BAD_STYLE)
        return block


class Transcript(Feed):
    """Polls the answers on their way; a screen calls `poll` while `active`."""

    def __init__(self) -> None:
        super().__init__(id="samples", classes="pane writing")
        self.border_title = "3 samples"
        self._answers: list[Answer] = []
        self._hinted = False
        self._waiting = QUEUED

    def on_mount(self) -> None:
        self.add(Text.assemble((HINT, FAINT_STYLE)))
        self._hinted = True

    @property
    def last(self) -> Answer | None:
        return self._answers[-1] if self._answers else None

    @property
    def last_asked(self) -> Answer | None:
        return next((answer for answer in reversed(self._answers) if answer.asked), None)

    @property
    def active(self) -> list[Generation]:
        """Answers that are queued or streaming."""
        return [answer.generation for answer in self._answers if not answer.settled]

    @property
    def unasked(self) -> list[Generation]:
        """Those of them that nobody asked for."""
        return [answer.generation for answer in self._answers if not answer.settled and not answer.asked]

    def _drop_hint(self) -> None:
        if self._hinted:
            self.clear()
            self._hinted = False

    def show_past(self, generations: Sequence[Generation]) -> None:
        """Settled answers from before the app was opened, oldest first. One without a prompt was not asked for."""
        for generation in generations:
            self.follow(generation, asked=bool(generation.prompt))
        self.poll(ready=True)

    def follow(self, generation: Generation, asked: bool = True) -> None:
        """Show a new request and its answer as it comes."""
        self._drop_hint()
        answer = Answer(generation, asked)
        answer.number = self.add(answer.render(self._waiting))
        self._answers = [*self._answers, answer][-MAX_ANSWERS:]
        self.scroll_end(animate=False, immediate=True, x_axis=False)

    def note(self, text: str) -> None:
        """A line of the app's own, such as the settings."""
        self._drop_hint()
        self.add(Text.assemble((f"{safe(text)}\n", MUTED_STYLE)))
        self.scroll_end(animate=False, immediate=True, x_axis=False)

    def poll(self, ready: bool) -> None:
        """Draw what has arrived. `ready`: whether there are weights to sample from."""
        waiting = "queued: waiting for its turn" if ready else QUEUED
        changed = waiting != self._waiting
        self._waiting = waiting
        for answer in self._answers:
            if not answer.settled:
                had_stamp = answer.generation.stamp is not None
                if answer.take() or (changed and not had_stamp):
                    self.replace(answer.number, answer.render(waiting))
