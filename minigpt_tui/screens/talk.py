"""The half of the main screen that talks to the model: prompts, slash commands, answers on their way."""

from __future__ import annotations

import math
import time

from textual import on
from textual.events import Key
from textual.screen import Screen
from textual.timer import Timer

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UserError
from minigpt_core.generation import Generation
from minigpt_core.status import Status
from minigpt_tui.safetext import safe
from minigpt_tui.session import Session
from minigpt_tui.widgets import slash
from minigpt_tui.widgets.prompt import Prompt
from minigpt_tui.widgets.transcript import Transcript

STREAM_SECONDS = 0.04
QUIET_SECONDS = 60.0
"""After a person's prompt the model writes nothing by itself for so long: the transcript is theirs."""
BY_ITSELF = SampleConfig(max_new_tokens=120)
"""What the app asks the model for after each evaluation, from an empty prompt."""


class TalkScreen(Screen[None]):
    """Owns the prompt and the transcript. Where they are on the screen, a subclass knows."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._status = Status()
        self._settings = SampleConfig()
        self._asked_at = -math.inf
        """When somebody last asked something, on the monotonic clock."""
        self._sampled_at: int | None = None
        """The evaluation after which the model last wrote by itself."""
        self._stream: Timer | None = None
        self.prompt = Prompt()
        self.transcript = Transcript()

    def on_mount(self) -> None:
        self._stream = self.set_interval(STREAM_SECONDS, self._poll_stream, pause=True)
        self.prompt.show_settings(self._settings)

    # --- what a subclass does ---

    def say(self, text: str, sticky: bool = False) -> None:
        """Show one line of feedback; a sticky one stays until the app is left."""
        raise NotImplementedError

    def show_samples(self) -> None:
        """Bring the transcript into view."""
        raise NotImplementedError

    def leave_prompt(self) -> None:
        """Move the focus from the prompt to a pane."""
        raise NotImplementedError

    # --- the prompt ---

    @on(Prompt.Submitted)
    def _send(self, event: Prompt.Submitted) -> None:
        text = event.text
        if slash.is_command(text):
            self._command(text)
        else:
            self._ask(text[1:] if text.startswith("//") else text, self._settings)

    def _command(self, text: str) -> None:
        name, value = slash.split(text)
        if name == "help":
            self.transcript.note(slash.HELP)
            self.show_samples()
            return
        if name == slash.WATCH:
            self._session.watch(value or None)
            self.say(f"attention (2): {value!r}" if value else "attention (2): the validation text")
            return
        try:
            self._settings = slash.apply(text, self._settings)
        except UserError as error:
            self.say(str(error))
            return
        self.prompt.show_settings(self._settings)
        self.say(f"next answers: {slash.summary(self._settings)}")

    def _ask(self, text: str, settings: SampleConfig) -> None:
        self._stop_own()
        try:
            generation = self._session.generate(text, settings)
        except UserError as error:
            self.say(str(error))
            return
        self.show_samples()  # an answer nobody sees is no answer
        self._asked_at = time.monotonic()
        self._follow(generation)

    def _follow(self, generation: Generation, asked: bool = True) -> None:
        self.transcript.follow(generation, asked)
        self._poll_stream()
        if self._stream is not None:
            self._stream.resume()

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

    def on_key(self, event: Key) -> None:
        """Keys in one burst with `i` (a slow link, a script) were on their way to the old pane: they are text."""
        if self.focused is self.prompt:
            if not any(event is key for key in self.prompt.received):
                event.stop()
                self.prompt.post_message(Key(event.key, event.character))
        elif event.key == "i":
            event.stop()
            self.action_prompt()

    def action_prompt(self) -> None:
        if not self.prompt.display:
            self.show_samples()
        self.set_focus(self.prompt)  # now: what is typed next is text, not keys

    def action_again(self, same_seed: bool) -> None:
        last = self.transcript.last_asked
        if last is None:
            self.say("nothing to repeat yet: press i and type a prompt")
            return
        stamp = last.generation.stamp
        seed = stamp.seed if same_seed and stamp is not None else None
        self._ask(last.generation.prompt, self._settings.replace(seed=seed))

    def action_copy(self) -> None:
        last = self.transcript.last
        if last is None or not last.text:
            self.say("no answer to copy yet")
        else:
            self.app.copy_to_clipboard(safe(last.text))
            self.say("sent to the terminal's clipboard (OSC 52; in tmux: set-clipboard on)")

    # --- answers ---

    def _sample_by_itself(self) -> None:
        """With the first weights and after each evaluation: what the model writes now, unless somebody talks to it."""
        status, evaluated = self._status, self._status.val_step or 0
        if status.phase not in ("training", "done") or not self._session.trains or evaluated == self._sampled_at:
            return
        self._sampled_at = evaluated
        talking = self.focused is self.prompt or time.monotonic() - self._asked_at < QUIET_SECONDS
        if not talking and not self.transcript.active:
            self._follow(self._session.generate("", BY_ITSELF), asked=False)

    def _poll_stream(self) -> None:
        self.transcript.poll(ready=self._status.phase != "starting")
        if self._stream is not None and not self.transcript.active:
            self._stream.pause()
