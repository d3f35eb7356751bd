"""The one screen that matters: status, loss, attention, samples, log and the prompt.

It polls the session on timers and hands plain data to the panes; no pane knows the session, and nothing here waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import DescendantBlur, DescendantFocus, Key
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UserError
from minigpt_core.generation import Generation
from minigpt_core.status import Command, Pause, Resume, Save, ScaleLearningRate, Status, StepOnce
from minigpt_tui.safetext import safe
from minigpt_tui.screens.help import HelpScreen
from minigpt_tui.session import Session
from minigpt_tui.widgets import slash
from minigpt_tui.widgets.attention import AttentionPane
from minigpt_tui.widgets.heatmap import Ramp
from minigpt_tui.widgets.hints import KeyHints, hints
from minigpt_tui.widgets.log import EventLog
from minigpt_tui.widgets.loss_chart import LossChart
from minigpt_tui.widgets.prompt import Prompt
from minigpt_tui.widgets.sparkline import LossLine
from minigpt_tui.widgets.stats import Stats
from minigpt_tui.widgets.status_line import StatusLine
from minigpt_tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from textual.widget import Widget

PANES = ("loss", "attention", "samples", "log")
STATUS_SECONDS = 0.25
DATA_SECONDS = 0.5
READING_SECONDS = 1.0
BEGIN_SECONDS = 0.05
"""From the first frame to the loading of torch, which would keep the frame from reaching the terminal."""
STREAM_SECONDS = 0.04
BY_ITSELF = SampleConfig(max_new_tokens=120)
"""What the app asks the model for after each evaluation, from an empty prompt."""


class MainScreen(Screen[None]):
    """Where the panes go at which size is in `app.tcss`; the names of the sizes are here."""

    AUTO_FOCUS = "#loss"
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 (Textual declares it as an instance variable)
        (0, "-w-tiny"),
        (60, "-w-narrow"),
        (110, "-w-medium"),
        (160, "-w-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-h-nano"),
        (9, "-h-tiny"),
        (16, "-h-short"),
        (30, "-h-tall"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "help"),
        Binding("i", "prompt", "prompt"),
        Binding("space", "pause", "pause or resume"),
        Binding("n", "step", "one step"),
        Binding("s", "save", "save"),
        Binding("f", "maximise", "maximise"),
        Binding("r", "again(True)", "again, same seed"),
        Binding("R", "again(False)", "again, new seed"),
        Binding("c", "copy", "copy the answer"),
        Binding("escape", "escape", "stop or restore", show=False),
        Binding("q", "app.quit", "quit"),
        *[Binding(str(n), f"pick('{name}')", name) for n, name in enumerate(PANES, 1)],
    ]

    class NeverTrained(Message):
        """The run failed before its first step."""

    def __init__(self, session: Session, look: Ramp) -> None:
        super().__init__()
        self._session = session
        self._status = Status()
        self._settings = SampleConfig()
        self._picked = "loss"
        self._sampled_at: int | None = None
        """The evaluation after which the model last wrote by itself."""
        self.status_line = StatusLine()
        self.loss_line = LossLine()
        self.chart = LossChart()
        self.stats = Stats()
        self.attention = AttentionPane(look)
        self.transcript = Transcript()
        self.events = EventLog()
        self.prompt = Prompt()
        self.key_hints = KeyHints()
        self.failure = Static(id="failure", markup=False)
        self._stream: Timer | None = None

    def compose(self) -> ComposeResult:
        yield self.status_line
        yield self.loss_line
        yield self.failure
        yield Container(self.chart, self.stats, self.attention, self.transcript, self.events, id="body")
        yield self.prompt
        yield self.key_hints

    def on_mount(self) -> None:
        self._stream = self.set_interval(STREAM_SECONDS, self._poll_stream, pause=True)
        self.set_interval(STATUS_SECONDS, self._poll_status)
        self.set_interval(DATA_SECONDS, self._poll_data)
        self.set_interval(READING_SECONDS, self._poll_reading)
        self.prompt.show_settings(self._settings)
        self._show_pick()
        self.call_after_refresh(self.set_timer, BEGIN_SECONDS, self._begin)

    def _begin(self) -> None:
        """The first frame is on the screen: now torch may be loaded."""
        self._session.start()
        self.poll()

    # --- polling ---

    def poll(self) -> None:
        """Bring everything up to date at once."""
        self._poll_status()
        self._poll_data()
        self._poll_reading()
        self._poll_stream()

    def _poll_status(self) -> None:
        before, self._status = self._status, self._session.status()
        self.status_line.update(self._status)
        self.stats.update(status=self._status)
        if self._status.phase == "failed" and before.phase != "failed":
            self.failure.update(f"✗ {safe(self._status.message)}")
            self.add_class("-failed")
            if self._session.trains and self._status.train_loss is None:
                self.post_message(self.NeverTrained())
        if self._status.phase != before.phase:
            self._show_hints()
        self._sample_by_itself()

    def _sample_by_itself(self) -> None:
        """With the first weights and after each evaluation: what the model writes now, unless somebody talks to it."""
        status, evaluated = self._status, self._status.val_step or 0
        if status.phase not in ("training", "done") or not self._session.trains or evaluated == self._sampled_at:
            return
        self._sampled_at = evaluated
        if self.focused is not self.prompt and not self.transcript.active:
            self._follow(self._session.generate("", BY_ITSELF), asked=False)

    def _poll_data(self) -> None:
        status = self._status
        self.loss_line.update(status, self._session.series("train_loss", buckets=self.loss_line.buckets))
        if self.chart.display:
            self.chart.update(self._session, status.step, (status.step, status.val_step, status.phase))
        if self.attention.display:
            self.attention.update(self._session.attention())
        self.events.extend(self._session.events(self.events.seen))

    def _poll_reading(self) -> None:
        self.stats.update(reading=self._session.reading())

    def _poll_stream(self) -> None:
        self.transcript.poll(ready=self._status.phase != "starting")
        if self._stream is not None and not self.transcript.active:
            self._stream.pause()

    # --- the prompt ---

    @on(Prompt.Submitted)
    def _send(self, event: Prompt.Submitted) -> None:
        text = event.text
        if slash.is_command(text):
            self._command(text)
        else:
            self._ask(text[1:] if text.startswith("//") else text, self._settings)

    def _command(self, text: str) -> None:
        if text.strip() == "/help":
            self.transcript.note(slash.HELP)
            return
        try:
            self._settings = slash.apply(text, self._settings)
        except UserError as error:
            self.say(str(error))
            return
        self.prompt.show_settings(self._settings)
        self.say(f"next answers: {slash.summary(self._settings)}")

    def _ask(self, text: str, settings: SampleConfig) -> None:
        try:
            generation = self._session.generate(text, settings)
        except UserError as error:
            self.say(str(error))
            return
        if not self.transcript.display:
            self._picked = "samples"  # an answer nobody sees is no answer
            self._show_pick()
        self._follow(generation)

    def _follow(self, generation: Generation, asked: bool = True) -> None:
        self.transcript.follow(generation, asked)
        self._poll_stream()
        if self._stream is not None:
            self._stream.resume()

    @on(Prompt.Escaped)
    def _leave_prompt(self) -> None:
        if not self.stop_answers():
            self.set_focus(self._pane(self._picked))

    def stop_answers(self) -> bool:
        """Cancel every answer on its way; False if there was none."""
        running = [generation for generation in self.transcript.active if not generation.cancelled]
        for generation in running:
            generation.cancel()
        if running:
            self.say("stopping the answer")
        return bool(running)

    def on_key(self, event: Key) -> None:
        """Keys in one burst with `i` (a slow link, a script) were on their way to the old pane: they are text."""
        if self.focused is self.prompt:
            if event is not self.prompt.last_key:
                event.stop()
                self.prompt.post_message(Key(event.key, event.character))
        elif event.key == "i":
            event.stop()
            self.action_prompt()

    def action_prompt(self) -> None:
        if not self.prompt.display:
            self.action_pick("samples")
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
            self.app.copy_to_clipboard(last.text)
            self.say("sent to the terminal's clipboard (OSC 52; in tmux: set-clipboard on)")

    # --- steering ---

    def _steer(self, command: Command, said: str) -> None:
        if not self._session.trains or self._status.finished:
            self.say("this run is finished: nothing to steer, but it answers prompts")
        else:
            self._session.send(command)
            self.status_line.say(said, until_obeyed=True)

    def action_pause(self) -> None:
        if self._status.phase == "paused":
            self._steer(Resume(), "resuming")
        else:
            self._steer(Pause(), "pausing at the next step")

    def action_step(self) -> None:
        if self._status.phase == "paused" or not self._session.trains:
            self._steer(StepOnce(), "one step")
        else:
            self.say("space pauses; n then trains one step at a time")

    def action_save(self) -> None:
        self._steer(Save(), "saving at the next step")

    def action_scale(self, factor: float) -> None:
        self._steer(ScaleLearningRate(factor), f"learning rate ×{factor:g} from the next step on")

    # --- panes ---

    def _pane(self, name: str) -> Widget:
        return self.query_one(f"#{name}")

    def action_pick(self, name: str) -> None:
        self._picked = name
        self._show_pick()
        self.set_focus(self._pane(name))

    def action_maximise(self) -> None:
        focused = self.focused.id if self.focused is not None else None
        if not self.has_class("-max") and focused in PANES:
            self._picked = focused
        self.toggle_class("-max")
        self._show_pick()

    def action_escape(self) -> None:
        if not self.stop_answers():
            self.remove_class("-max")

    def _show_pick(self) -> None:
        for name in PANES:
            self.set_class(name == self._picked, f"-pick-{name}")
            self._pane(name).set_class(name == self._picked, "-picked")
        self.call_after_refresh(self._poll_data)

    def on_resize(self) -> None:
        self.call_after_refresh(self._settle)

    def _settle(self) -> None:
        """After a resize: no key goes to a pane that went out of sight, and panes that came into sight have data."""
        if self.focused is None or not self.focused.display:
            self._pane(self._picked).focus()
        self._poll_data()

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen(self._session.trains))

    def say(self, text: str) -> None:
        self.status_line.say(text)

    @on(DescendantFocus)
    @on(DescendantBlur)
    def _show_hints(self) -> None:
        focus = self.focused.id if self.focused is not None else ""
        trains = self._session.trains and not self._status.finished
        self.key_hints.update(hints(focus or "", trains, self._status.phase == "paused"))
