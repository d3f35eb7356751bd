"""The main screen with a lesson in it: a run to watch, and chapters that open as the model gets there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import DescendantBlur, DescendantFocus

from minigpt_core.config import SampleConfig
from minigpt_core.generation import Generation
from minigpt_tui.facts import NOTHING, Watcher, Wrote, wrote
from minigpt_tui.guide import Guide, Lesson
from minigpt_tui.screens.main import PANES, MainScreen
from minigpt_tui.session import Session
from minigpt_tui.widgets.heatmap import Ramp
from minigpt_tui.widgets.lesson import LessonPanel, chapter_text

LESSON_SECONDS = 0.5
PAGE_COLUMNS, PAGE_ROWS = 72, 22
"""With less room than this a chapter takes the place of the panes, which the usual keys bring back."""
MILESTONE = SampleConfig(max_new_tokens=100, seed=1)
"""What the model is asked for when a chapter's time has come."""
MISSED = "(Not in this run, which ended at step {step}:)"


class TourScreen(MainScreen):
    """Everything of the main screen works; the lesson has the focus until a key or a click gives it to something else.

    While it is elsewhere no page is turned: somebody is trying things out.
    """

    CSS = """
    TourScreen #lesson { display: none; height: 8; padding: 0 1; background: $background; color: $foreground;
        border: round $line; border-title-color: $bright; border-title-background: $background;
        border-subtitle-background: $background; }
    TourScreen #lesson:focus { border: round $primary; border-title-color: $primary; border-title-style: bold; }
    TourScreen #lesson:focus:nocolor { border: heavy $primary; }
    TourScreen.-lesson #lesson { display: block; }
    TourScreen.-lesson .pane.-pointed:blur { border: round $bright; border-title-color: $bright; }
    TourScreen.-lesson .pane.-pointed:blur:nocolor { border: double $bright; }

    /* Too small for two panes beside it: the one that the chapter speaks of. */
    TourScreen.-lesson.-h-short #body { grid-size: 1; grid-columns: 1fr; grid-rows: 1fr; }
    TourScreen.-lesson.-h-short #body > .pane { display: none; row-span: 1; column-span: 1; }
    TourScreen.-lesson.-h-short #body > .pane.-picked { display: block; }
    TourScreen.-lesson.-h-short #prompt { display: none; }
    TourScreen.-lesson.-h-short.-pick-samples #prompt { display: block; }

    /* Too small for anything beside it. */
    TourScreen.-page #lesson { height: 1fr; }
    TourScreen.-page #body, TourScreen.-page #prompt { display: none !important; }
    TourScreen.-lesson.-h-nano #lesson, TourScreen.-lesson.-h-nano #lesson:focus { border: none; padding: 0; }
    """
    AUTO_FOCUS = "#lesson"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,full_stop", "onward", "next chapter", id="tour.onward"),
        Binding("backspace", "backward", "chapter before", id="tour.backward"),
        Binding("L", "lesson", "back to the lesson", id="tour.lesson"),
    ]

    def __init__(
        self,
        session: Session,
        look: Ramp,
        lesson: Lesson,
        vocab_size: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(session, look)
        self._clock = clock
        self._watcher = Watcher(session, vocab_size)
        self._facts = self._watcher.facts()
        self._wrote: dict[int, Generation] = {}
        """What the model wrote when a chapter's time had come."""
        self._opened = -1
        """The chapter whose pane was last pointed at."""
        self.guide = Guide(lesson.chapters, clock())
        self.lesson = LessonPanel()
        self.lesson_open = True
        self.add_class("-lesson")  # before the first frame, so that the lesson gets the focus

    def compose(self) -> ComposeResult:
        for widget in super().compose():
            if widget.id == "body":
                yield self.lesson
            yield widget

    def on_mount(self) -> None:
        self._arrange()
        self.set_interval(LESSON_SECONDS, self.poll_lesson)
        self.call_after_refresh(self.poll_lesson)

    # --- following the run ---

    def poll_lesson(self) -> None:
        """Look at the run, and turn the page if its time has come."""
        self._facts = self._watcher.facts()
        for number in self.guide.update(self._facts):
            if self.guide.chapters[number].writes:
                self._let_write(number)
        if self.reading:
            self.guide.turn(self._clock())
        self._show_chapter()

    @property
    def reading(self) -> bool:
        """Somebody has the lesson before them and nothing else in hand."""
        return self.lesson_open and self.app.screen is self and self.focused is self.lesson

    def _let_write(self, number: int) -> None:
        """What the model writes at this moment, unless somebody talks to it."""
        if self.focused is not self.prompt and not self.transcript.active:
            generation = self._wrote[number] = self._session.generate("", MILESTONE)
            self._follow(generation, asked=False)

    def _follow(self, generation: Generation, asked: bool = True) -> None:
        if not asked:
            self._watcher.follow(generation)
        super()._follow(generation, asked)

    # --- drawing ---

    def _show_chapter(self) -> None:
        if not self.lesson_open:
            return
        if self._opened != self.guide.index:
            self._opened = self.guide.index
            self._point()
        guide, chapter = self.guide, self.guide.chapter
        columns = self.lesson.columns
        values = self._facts.quotes(self._written(), columns)
        missed = MISSED.format_map(values) if guide.missed else ""
        state, ready = self._state(values)
        keys = self._keys(columns - cell_len(state))
        title = f"tour {guide.index + 1}/{len(guide.chapters)} · {chapter.title}"
        self.lesson.show(title, chapter_text(chapter.text, values), missed, state, ready, keys)

    def _written(self) -> Wrote:
        generation = self._wrote.get(self.guide.index)
        return NOTHING if generation is None else wrote([generation])

    def _state(self, values: dict[str, str]) -> tuple[str, bool]:
        following = self.guide.next
        if following is None:
            return "the end", False
        if self.guide.ready:
            key = "Enter" if self.focused is self.lesson else "L, Enter"
            return f"{key} next: {following.title}", True
        return f"waiting for {following.waiting.format_map(values)}", False

    def _keys(self, room: int) -> str:
        """As many of the panel's keys as have room beside what comes next."""
        keys = " · bksp back" if self.guide.index else ""
        keys += " · esc close" if self.focused is self.lesson else " · L back to the lesson"
        return keys if cell_len(keys) <= room - 4 else ""

    def _point(self) -> None:
        """Bring the pane that the chapter speaks of into view."""
        chapter = self.guide.chapter
        self._picked = chapter.pane
        self._show_pick()
        for name in PANES:
            self._pane(name).set_class(name == chapter.pane, "-pointed")
        head = {"previous": self._facts.previous, "induction": self._facts.induction}.get(chapter.head or "")
        if head is not None:
            self.attention.select(head.layer, head.head)

    # --- keys ---

    def action_onward(self) -> None:
        if not self.lesson_open:
            return
        if not self.guide.forward(self._clock()) and self.guide.next is None:
            self.say("the lesson ends here: esc closes it, q saves and quits")
        self._return()

    def action_backward(self) -> None:
        if self.lesson_open and self.guide.back(self._clock()):
            self._return()

    def action_lesson(self) -> None:
        """Back to the lesson, from a pane or after it was closed."""
        self.lesson_open = True
        self._opened = -1
        self.guide.restart(self._clock())
        self._return()

    def _return(self) -> None:
        self.remove_class("-max")
        self._arrange()
        self.lesson.focus()
        self._show_chapter()

    def close_lesson(self) -> None:
        """The app stays, as it is without a lesson."""
        self.lesson_open = False
        self._arrange()
        for name in PANES:
            self._pane(name).remove_class("-pointed")
        self.leave_prompt()
        self.say("lesson closed: L brings it back")

    def action_escape(self) -> None:
        if self.focused is not self.lesson:
            super().action_escape()
        elif not self.stop_answers():
            self.close_lesson()

    def leave_prompt(self) -> None:
        if self.lesson.display:
            self.lesson.focus()
        else:
            super().leave_prompt()

    # --- room ---

    def on_resize(self) -> None:
        self._arrange()

    def _arrange(self) -> None:
        """The lesson is in view while it is open and no pane is maximised."""
        small = self.size.width < PAGE_COLUMNS or self.size.height < PAGE_ROWS
        shown = self.lesson_open and not self.has_class("-max")
        self.set_class(shown, "-lesson")
        self.set_class(shown and small, "-page")

    def _make_room(self) -> None:
        """A pane or the prompt is wanted where the lesson has taken all the room."""
        if self.has_class("-page"):
            self.add_class("-max")
            self._arrange()

    def action_pick(self, name: str) -> None:
        self._make_room()
        super().action_pick(name)

    def action_prompt(self) -> None:
        if self.has_class("-page"):
            self._make_room()
            self._picked = "samples"
            self._show_pick()
        super().action_prompt()

    def action_maximise(self) -> None:
        super().action_maximise()
        self._arrange()
        self.leave_prompt()

    @on(DescendantFocus)
    @on(DescendantBlur)
    def _show_keys(self) -> None:
        if self.is_mounted:
            self._show_chapter()
