"""The part of the main screen that owns the prompt: what is typed is a question, a command or a turn of a chat."""

from __future__ import annotations

import re
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.screen import Screen

from minigpt_core.config import SampleConfig
from minigpt_core.dialogue import Template, Turn, as_written, scene, unknown_speaker
from minigpt_core.errors import UsageError, UserError
from minigpt_core.generation import Generation
from minigpt_core.status import Command, Status
from minigpt_tui.base import TerminalApp
from minigpt_tui.session import Session
from minigpt_tui.widgets import slash
from minigpt_tui.widgets.prompt import Prompt
from minigpt_tui.widgets.settings_editor import summary

SOMEBODY = "YOU"
"""Who talks where the text knows of nobody else."""
SHOWN_NAMES = 60
ENDLESS = 1 << 20
"""Characters of a conversation where it is not known how many the context holds."""
OPENS = ("talk.prompt", "talk.command", "run.note")
"""Bindings that lead into the prompt."""


class Chat:
    """A conversation that goes on: `name` talks to `reply`, whom the model plays."""

    def __init__(self, name: str, reply: str) -> None:
        self.name, self.reply = name, reply
        self.turns: list[tuple[str, Generation]] = []

    def __str__(self) -> str:
        return f"{self.name} → {self.reply}"

    def prompt(self, template: Template, text: str, at_most: int) -> str:
        """What the model reads before it replies to `text`."""
        turns = [Turn(said, answer.text()) for said, answer in self.turns if answer.text()]
        return scene(template, self.name, self.reply, turns, text, at_most)


class CommandScreen(Screen[None]):
    """Owns the prompt and the settings of the next answers. Answers are the business of a subclass."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("i", "prompt", "write a prompt", id="talk.prompt"),
        Binding("slash", "slash", "write a command", id="talk.command"),
        Binding("m", "note", "note, for the log and the chart", id="run.note"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._status = Status()
        self._settings = SampleConfig()
        self._template = Template()
        self._chat: Chat | None = None
        self._errand = False
        """The prompt was opened for one command: after that, back to the pane."""
        self.prompt = Prompt()
        self.prompt.names = session.speakers

    def on_mount(self) -> None:
        self.prompt.plain = isinstance(self.app, TerminalApp) and self.app.terminal.ascii
        self._show_settings()

    # --- what a subclass does ---

    def say(self, text: str, sticky: bool = False, until_obeyed: bool = False) -> None:
        """Show one line of feedback; a sticky one stays until the app is left."""
        raise NotImplementedError

    def tell(self, text: str) -> None:
        """Show some lines that were asked for."""
        raise NotImplementedError

    def look_at(self, text: str | None) -> None:
        """Look at this text; None is the run's own."""
        raise NotImplementedError

    def show_samples(self) -> None:
        """Bring the answers, and the prompt with them, into view."""
        raise NotImplementedError

    def leave_prompt(self) -> None:
        """Move the focus from the prompt to a pane."""
        raise NotImplementedError

    def _ask(self, text: str, settings: SampleConfig, shown: str | None = None) -> Generation | None:
        """Ask the model to go on from `text`; None if it cannot. `shown` stands in for the text on the screen."""
        raise NotImplementedError

    def _steer(self, command: Command) -> None:
        """Send a command to the run, and say so."""
        raise NotImplementedError

    # --- getting there ---

    def opens(self, key: str) -> bool:
        """Whether a key leads into the prompt, which has the focus now.

        The app asks before it looks where the key goes: keys in one burst with it (a fast typist, a slow link) would
        otherwise be on their way to the old pane.
        """
        active = None if self.focused is self.prompt else self.active_bindings.get(key)
        if active is None or active.binding.id not in OPENS:
            return False
        getattr(self, f"action_{active.binding.action}")()
        return True

    def action_prompt(self) -> None:
        if not self.prompt.display:
            self.show_samples()
        self.set_focus(self.prompt)  # now: what is typed next is text, not keys
        self._errand = False

    def action_slash(self) -> None:
        self._begin_with("/")

    def action_note(self) -> None:
        self._begin_with("/note ")

    def _begin_with(self, text: str) -> None:
        self.prompt.begin(text)
        self.action_prompt()
        self._errand = True

    # --- what is typed ---

    @on(Prompt.Submitted)
    def _send(self, event: Prompt.Submitted) -> None:
        text = event.text
        try:
            if slash.is_command(text):
                self._command(text)
                if self._errand:
                    self.leave_prompt()
            else:
                self._speak(text[1:] if text.startswith("//") else text)
        except UserError as error:
            self.say(str(error))

    @on(Prompt.SettingsChanged)
    def _take_settings(self, event: Prompt.SettingsChanged) -> None:
        self._settings = event.config

    @on(Prompt.Said)
    def _say_of_prompt(self, event: Prompt.Said) -> None:
        self.say(event.text)

    @on(Prompt.Ambiguous)
    def _list_candidates(self, event: Prompt.Ambiguous) -> None:
        self.say("  ".join(candidate.strip() for candidate in event.candidates))

    def _show_settings(self) -> None:
        self.prompt.show_settings(self._settings, "prompt" if self._chat is None else str(self._chat))

    def _command(self, text: str) -> None:
        """Do what a slash command says.

        Raises:
            UsageError: there is no such command, or its value does not do.
        """
        name, value = slash.split(text)
        if name in slash.STEERING:
            self._steer(slash.STEERING[name].make(value))
        elif name == "help":
            self.tell(slash.HELP)
        elif name == "watch":
            self.look_at(value or None)
            self.say(f"attention (2): {value!r}" if value else "attention (2): the validation text")
        elif name == "chat":
            self._converse(value)
        elif name == "template":
            written = "".join(text.split(maxsplit=1)[1:])  # with the white space at its end
            self._template = Template(written.replace("\\n", "\n")) if value else Template()
            self.say(f"the next turns are written {self._template.text!r}")
        else:
            self._settings = slash.apply(text, self._settings)
            self._show_settings()
            self.say(f"next answers: {summary(self._settings)}")

    # --- chat ---

    def _speak(self, text: str) -> None:
        """Ask the model to go on from a text or, in a chat, to reply to it."""
        chat = self._chat
        if chat is None:
            self._ask(text, self._settings)
            return
        if chat.turns:
            chat.turns[-1][1].cancel()  # who is still speaking is interrupted, and has said what was heard
        context = len(self._session.excerpt(1) or "") or ENDLESS
        prompt = chat.prompt(self._template, text, context)
        turn = self._template.turn(chat.name, text, chat.reply)
        generation = self._ask(prompt, self._settings.replace(stop=(self._template.stop,)), turn)
        if generation is not None:
            chat.turns.append((text, generation))

    def _repeat(self, old: Generation, seed: int | None) -> None:
        """Ask again with the settings of now. In a chat, what is said then takes the old reply's place."""
        settings = self._settings.replace(seed=seed)
        if old.shown is not None:
            settings = settings.replace(stop=old.config.stop)
        generation = self._ask(old.prompt, settings, old.shown)
        if generation is not None and self._chat is not None:
            turns = self._chat.turns
            self._chat.turns = [(text, generation if answer is old else answer) for text, answer in turns]

    def _converse(self, value: str) -> None:
        """`/chat`, `/chat off`, `/chat ROMEO`, `/chat ROMEO as JULIET`."""
        names = self._session.speakers()
        if not value:
            self._list_names(names)
            return
        if value.lower() == "off":
            self._chat = None
            self._show_settings()
            self.say("no more chat: prompts go on as text again")
            return
        typed, *as_ = re.split(r"\s+as\s+", " ".join(value.split()), maxsplit=1, flags=re.IGNORECASE)
        reply = as_written(typed, names)
        if reply is None and names and self._template == Template():  # with another form, others speak as well
            raise unknown_speaker(typed, names)
        reply = reply or typed
        name, stranger = next((other for other in names if other != reply), SOMEBODY), ""
        if as_:
            name = as_written(as_[0], names) or as_[0]
            stranger = " (nobody in this text)" if names and name not in names else ""
        self._chat = Chat(name, reply)
        self._show_settings()
        self.say(f"you are {name}{stranger}, {reply} replies; /chat off ends it")

    def _list_names(self, names: tuple[str, ...]) -> None:
        if not names:
            raise UsageError("nobody is known to speak in this run's text; /chat ROMEO talks to ROMEO all the same")
        shown = ", ".join(names[:SHOWN_NAMES]) + (" …" if len(names) > SHOWN_NAMES else "")
        as_ = f" /chat {names[0]} as {names[1]}: you speak as {names[1]}." if len(names) > 1 else ""
        self.tell(
            f"Who speaks in this text, most often first: {shown}\n"
            f"/chat {names[0]}: what you type, {names[0]} answers.{as_} /chat off ends it."
        )
