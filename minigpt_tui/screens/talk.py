"""The half of the main screen that talks to the model: answers on their way, again, side by side, kept."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

from textual import on
from textual.message import Message
from textual.timer import Timer

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UserError
from minigpt_core.generation import Generation
from minigpt_tui.keep import keep
from minigpt_tui.safetext import safe
from minigpt_tui.screens.commands import CommandScreen
from minigpt_tui.session import Session
from minigpt_tui.widgets.prompt import Prompt
from minigpt_tui.widgets.transcript import Answer, Transcript

STREAM_SECONDS = 0.04
QUIET_SECONDS = 60.0
"""After a person's prompt the model writes nothing by itself for so long: the transcript is theirs."""
BY_ITSELF = SampleConfig(max_new_tokens=100)
"""What the app asks the model for from time to time, from an empty prompt."""
MAX_COPY = 100_000
"""Bytes: of longer texts, terminals lose the end or everything."""


class TalkScreen(CommandScreen):
    """Owns the transcript as well. Where it and the prompt are on the screen, a subclass knows."""

    class Kept(Message):
        """An answer has been saved, or not: what to say of it."""

        def __init__(self, said: str) -> None:
            super().__init__()
            self.said = said

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._asked_at = -math.inf
        """When somebody last asked something, on the monotonic clock."""
        self._sampled_at: int | None = None
        """The step of the occasion on which the model last wrote by itself."""
        self._stream: Timer | None = None
        self.transcript = Transcript()

    def on_mount(self) -> None:
        self._stream = self.set_interval(STREAM_SECONDS, self._poll_stream, pause=True)

    # --- asking ---

    def _ask(self, text: str, settings: SampleConfig, shown: str | None = None) -> Generation | None:
        generation = self._generate(text, settings, shown)
        if generation is not None:
            self._follow(generation)
        return generation

    def _generate(self, text: str, settings: SampleConfig, shown: str | None) -> Generation | None:
        """Somebody asks: what the model writes by itself gives way, and the answer is in view."""
        self._stop_own()
        try:
            generation = self._session.generate(text, settings)
        except UserError as error:
            self.say(str(error))
            return None
        generation.shown = shown
        self.show_samples()  # an answer nobody sees is no answer
        self._asked_at = time.monotonic()
        return generation

    def _follow(self, generation: Generation, asked: bool = True) -> None:
        self.transcript.follow(generation, asked)
        self._stream_on()

    @on(Prompt.Paged)
    def _page(self, event: Prompt.Paged) -> None:
        self.transcript.page(event.by)

    def tell(self, text: str) -> None:
        self.transcript.note(text)
        self.show_samples()

    def action_again(self, same_seed: bool) -> None:
        """Ask the selected prompt again, or the last one, of the weights of now."""
        answer = self.transcript.selected or self.transcript.last_asked
        if answer is None:
            self.say("nothing to repeat yet: press i and type a prompt")
            return
        stamp = answer.generation.stamp
        self._repeat(answer.generation, stamp.seed if same_seed and stamp is not None else None)

    @on(Transcript.Versus)
    def _compare(self, event: Transcript.Versus) -> None:
        """The same prompt, seed and settings on the weights of now, beside the old answer."""
        old = event.answer.generation
        if old.stamp is None:
            self.say("no weights have answered this yet")
            return
        generation = self._generate(old.prompt, old.config.replace(seed=old.stamp.seed), old.shown)
        if generation is not None:
            self.transcript.compare(event.answer, generation)
            self._stream_on()

    # --- stopping ---

    @on(Prompt.Escaped)
    def _escaped(self) -> None:
        if not self.stop_answers():
            self.leave_prompt()

    def stop_answers(self) -> bool:
        """Cancel every answer on its way; False if nobody had asked for one."""
        self._stop_own()
        running = [generation for generation in self.transcript.active if not generation.cancelled]
        for generation in running:
            generation.cancel()
        if running:
            self.say("stopping the answer")
        return bool(running)

    def _stop_own(self) -> None:
        """What the model writes by itself gives way to whoever is there."""
        for generation in self.transcript.unasked:
            generation.cancel()

    # --- keeping ---

    def _chosen(self) -> Answer | None:
        return self.transcript.selected or self.transcript.last

    def action_copy(self) -> None:
        answer = self._chosen()
        if answer is None or not answer.text:
            self.say("no answer to copy yet")
            return
        text = safe(answer.text)
        size = len(text.encode())
        if size > MAX_COPY:
            self.say(f"{size:,} bytes are more than clipboards take ({MAX_COPY:,}); S in the samples pane saves a file")
        else:
            self.app.copy_to_clipboard(text)
            self.say(f"sent {size:,} bytes to the terminal's clipboard (OSC 52; in tmux: set-clipboard on)")

    @on(Transcript.SaveWanted)
    def _keep(self, event: Transcript.SaveWanted) -> None:
        """Save an answer, or two together, in a thread: the disk may be slow."""
        generations = [answer.generation for answer in event.answers]
        place, name = Path(self._status.run_dir) if self._session.near else Path.cwd(), self._status.name

        def work() -> None:
            try:
                said = f"saved {keep(generations, place, name)}"
            except UserError as error:
                said = str(error)
            self.post_message(self.Kept(said))

        threading.Thread(target=work, name="keep", daemon=True).start()

    @on(Kept)
    def _say_kept(self, event: Kept) -> None:
        self.say(event.said)

    # --- answers on their way ---

    def _sample_by_itself(self) -> None:
        """With the first weights, and every `sample_every` steps or after each evaluation, what the model writes now.

        Not while somebody talks to it.
        """
        status = self._status
        every = status.sample_every
        occasion = status.step // every * every if every else status.val_step or 0
        if status.phase not in ("training", "done") or not self._session.trains or occasion == self._sampled_at:
            return
        self._sampled_at = occasion
        talking = self.focused is self.prompt or time.monotonic() - self._asked_at < QUIET_SECONDS
        if not talking and not self.transcript.active:
            self._follow(self._session.generate("", BY_ITSELF), asked=False)

    def _stream_on(self) -> None:
        self._poll_stream()
        if self._stream is not None:
            self._stream.resume()

    def _poll_stream(self) -> None:
        self.transcript.poll(ready=self._status.phase != "starting")
        if self._stream is not None and not self.transcript.active:
            self._stream.pause()
