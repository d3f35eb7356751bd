"""The samples pane: prompts and the answers to them, each stamped with the weights it came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from minigpt_core.generation import Generation
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import tint
from minigpt_tui.widgets.answer import Answer
from minigpt_tui.widgets.columns import AnswerBlock, Cursor, Look
from minigpt_tui.widgets.feed import Block, Feed
from minigpt_tui.widgets.palette import FAINT_STYLE, MUTED_STYLE

QUEUED = "queued: waiting for the first weights"
MAX_ANSWERS = 200
HINT = "Press i and type: the answer comes from the weights of that moment."
UNKNOWN_TOKENS = "of this answer's tokens nothing more is known"
NOTHING = "no answer yet"
LABEL = 6
"""Cells of the frame beside a text in it."""
HOLDS = 4
"""Rows of a pane that has one to spare for a stamp."""


class Transcript(Feed):
    """Polls the answers on their way; a screen calls `poll` while `active`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "select(-1)", "older answer", id="samples.older"),
        Binding("down", "select(1)", "newer answer", id="samples.newer"),
        Binding("left", "token(-1)", "token before", id="samples.left"),
        Binding("right", "token(1)", "token after: what else it could be", id="samples.right"),
        Binding("p", "tint", "tint by probability", id="samples.tint"),
        Binding("v", "versus", "same prompt on the weights of now", id="samples.versus"),
        Binding("S", "save", "save the answer to a file", id="samples.save"),
        Binding("pageup", "page_up", "page up", id="samples.page-up"),
        Binding("pagedown", "page_down", "page down", id="samples.page-down"),
        Binding("home", "scroll_home", "to the top", id="samples.top"),
        Binding("end", "follow", "to the newest, and follow", id="samples.follow"),
    ]

    class Versus(Message):
        """Somebody wants the same prompt on the weights of now."""

        def __init__(self, answer: Answer) -> None:
            super().__init__()
            self.answer = answer

    class SaveWanted(Message):
        """Somebody wants to keep an answer, or two that stand together."""

        def __init__(self, answers: Sequence[Answer]) -> None:
            super().__init__()
            self.answers = answers

    def __init__(self) -> None:
        super().__init__(id="samples", classes="pane writing")
        self.border_title = "3 samples"
        self._hinted = False
        self._look = Look(waiting=QUEUED)
        self._chosen: AnswerBlock | None = None
        """What somebody has selected; None is the newest, whichever that is."""
        self._marked: AnswerBlock | None = None
        self._said = ""
        self._captioned = Text()

    def on_mount(self) -> None:
        self._look = self._look._replace(mono=self.app.no_color)
        if not self._answer_blocks:
            self.extend([Text(HINT, FAINT_STYLE)])
            self._hinted = True

    # --- what there is ---

    @property
    def _answer_blocks(self) -> list[AnswerBlock]:
        return [block for block in self._blocks if isinstance(block, AnswerBlock)]

    @property
    def _answers(self) -> list[Answer]:
        return [block.answer for block in self._answer_blocks]

    @property
    def _newest(self) -> AnswerBlock | None:
        return next((block for block in reversed(self._blocks) if isinstance(block, AnswerBlock)), None)

    @property
    def last(self) -> Answer | None:
        return self._newest.answer if self._newest is not None else None

    @property
    def last_asked(self) -> Answer | None:
        return next((answer for answer in reversed(self._answers) if answer.asked), None)

    @property
    def selected(self) -> Answer | None:
        """What somebody has selected; of two together, the one with the cursor, or else the new one."""
        block = self._chosen
        if block is None:
            return None
        return block.answer if block.cursor is None else block.columns[block.cursor[0]].answer

    @property
    def active(self) -> list[Generation]:
        """Answers that are queued or streaming."""
        return [answer.generation for answer in self._answers if not answer.settled]

    @property
    def unasked(self) -> list[Generation]:
        """Those of them that nobody asked for."""
        return [answer.generation for answer in self._answers if not answer.settled and not answer.asked]

    # --- what comes ---

    def show_past(self, generations: Sequence[Generation]) -> None:
        """Settled answers from before the app was opened, oldest first. One without a prompt was not asked for."""
        for generation in generations:
            self.follow(generation, asked=bool(generation.prompt))
        self.poll(ready=True)

    def follow(self, generation: Generation, asked: bool = True) -> None:
        """Show a new request and its answer as it comes."""
        self._show(AnswerBlock(Answer(generation, asked), self._look), at_once=asked)

    def compare(self, answer: Answer, generation: Generation) -> None:
        """Show the new answer together with the old one to the same prompt."""
        self._show(AnswerBlock(Answer(generation), self._look, old=answer), at_once=True)

    def note(self, text: str) -> None:
        """Lines of the app's own: what of them does not fit is below the view, not above."""
        self._drop_hint()
        self.extend([Text(f"{safe(text)}\n", MUTED_STYLE)])
        self._choose(None)
        self.release_anchor()  # a pane that comes into sight meanwhile would scroll to its end
        self.call_after_refresh(self._show_note, self._blocks[-1])

    def _show_note(self, block: Block) -> None:
        if block.height > self.size.height > 0:
            self._bring_into_view(block)
        else:
            self.action_follow()

    def poll(self, ready: bool) -> None:
        """Draw what has arrived. `ready`: whether there are weights to sample from."""
        waiting = "queued: waiting for its turn" if ready else QUEUED
        if changed := waiting != self._look.waiting:
            self._look = self._look._replace(waiting=waiting)
        for block in self._answer_blocks:
            if not block.settled:
                arrived = [answer.take() for answer in block.answers if not answer.settled]
                if any(arrived) or (changed and block.answer.generation.stamp is None):
                    block.look = self._look
                    self.changed(block)

    def _show(self, block: AnswerBlock, at_once: bool) -> None:
        """Append a block. What somebody asked for comes into view; what the model writes by itself disturbs nobody."""
        self._drop_hint()
        answers = [n for n, each in enumerate(self._blocks) if isinstance(each, AnswerBlock)]
        if len(answers) >= MAX_ANSWERS:
            self._let_go(answers[-MAX_ANSWERS] + 1, self.following)
        self.add(block)
        if at_once:
            self.action_follow()
        else:
            self._mark()

    def _drop_hint(self) -> None:
        if self._hinted:
            self.clear()
            self._hinted = False

    # --- selecting ---

    @property
    def following(self) -> bool:
        return self._chosen is None and super().following

    def action_follow(self) -> None:
        """The newest answer is selected again, and stays in view."""
        self._choose(None)
        self.scroll_end(animate=False, immediate=True, x_axis=False)

    def action_select(self, by: int) -> None:
        blocks = self._answer_blocks
        if not blocks:
            return
        at = blocks.index(self._chosen) if self._chosen in blocks else len(blocks) - 1
        at = max(0, at + by)
        if at >= len(blocks) - 1 and by > 0:
            self.action_follow()
        else:
            self._choose(blocks[at])
            self._bring_into_view(blocks[at])

    def _choose(self, block: AnswerBlock | None, cursor: Cursor | None = None) -> None:
        for each in (self._chosen, block):
            if each is not None:
                each.cursor = None
        self._chosen, self._said = block, ""
        if block is not None:
            block.cursor = cursor
        self._mark()

    def _mark(self) -> None:
        """Show which answer the keys work on, if they do or somebody has chosen one."""
        if self._chosen is not None and self._index(self._chosen) is None:  # let go since
            self._chosen = None
        block = self._chosen
        if block is None and self.has_focus:
            block = self._newest
        if block is not self._marked:
            for each, marked in ((self._marked, False), (block, True)):
                if each is not None:
                    each.marked = marked
                    self.changed(each)
            self._marked = block
        self._repaint()
        self._caption()

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self._mark()

    def _bring_into_view(self, block: Block, line: int | None = None) -> None:
        """Scroll as little as need be to a block, from its top, or to one line of it."""
        index = self._index(block)
        if index is None or not self.size.height:
            return
        first = self._starts[index] + (line or 0)
        end = first + (1 if line is not None else block.height)
        top, height = self.scroll_offset.y, self.size.height
        if line and height >= HOLDS:
            first -= 1  # the row over it may hold the stamp
        if first < top or end - first > height:
            top = first
        elif end > top + height:
            top = end - height
        self.release_anchor()
        self.scroll_to(y=top, animate=False, immediate=True)

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0 and (held := self._held()) is not None:
            self._choose(held)
        elif (found := self._at(offset.y + self.scroll_offset.y)) is not None:
            block, line = found
            if isinstance(block, AnswerBlock):
                self._choose(block, block.cursor_at(line, offset.x))

    # --- scrolling ---

    def _held(self) -> AnswerBlock | None:
        """The answer that began above the view and goes on in it: its stamp stays in the first row."""
        found = self._at(self.scroll_offset.y)
        if found is None or self.size.height < HOLDS:
            return None
        block, line = found
        return block if isinstance(block, AnswerBlock) and 0 < line < block.height - 2 else None

    def _line(self, line: int) -> Strip:
        held = self._held() if line == self.scroll_offset.y else None
        return super()._line(line) if held is None else held.line(0)

    def page(self, by: int) -> None:
        """Scroll by a view, less the row in which a stamp may stand over the next line."""
        y = max(0, self.scroll_offset.y + by * max(1, self.size.height - 1))
        if y < self.max_scroll_y:
            self.scroll_to(y=y, animate=False, immediate=True)
        else:  # the end is followed again, or still, where nothing is out of view
            self.scroll_end(animate=False, immediate=True, x_axis=False)

    def action_page_up(self) -> None:
        self.page(-1)

    def action_page_down(self) -> None:
        self.page(1)

    # --- what keys do ---

    def action_token(self, by: int) -> None:
        """Move the cursor in the selected answer."""
        block = self._chosen or self._newest
        cursor = block.step(by) if block is not None else None
        if block is None or cursor is None:
            self._say(NOTHING if block is None else UNKNOWN_TOKENS)
            return
        self._choose(block, cursor)
        self._bring_into_view(block, block.line_of(cursor))

    def action_tint(self) -> None:
        self._look = self._look._replace(tinted=not self._look.tinted)
        for block in self._answer_blocks:
            block.look = self._look
        self._repaint()
        self._caption()

    def action_versus(self) -> None:
        block = self._chosen or self._newest
        if block is None:
            self._say(NOTHING)
        else:
            self.post_message(self.Versus(self.selected or block.answer))

    def action_save(self) -> None:
        block = self._chosen or self._newest
        if block is None:
            self._say(NOTHING)
        else:
            self.post_message(self.SaveWanted(block.answers))

    def _say(self, text: str) -> None:
        self._said = text
        self._caption()

    def _caption(self) -> None:
        """In the lower border: the token under the cursor, or what is to be said, or what the colours mean."""
        block, columns = self._chosen, max(0, self.size.width - LABEL)
        caption = Text()
        if block is not None and block.cursor is not None:
            column, token = block.cursor
            caption = tint.read_out(block.columns[column].sample.choices[token], columns)
        elif self._said:
            caption = tint.fit([(self._said, MUTED_STYLE)], columns)
        elif self._look.tinted:
            caption = tint.legend(self._look.mono)
        if caption != self._captioned:
            self._captioned = caption
            self.border_subtitle = caption
