"""From a checked request to a screen, or to a headless run, and back to the shell with the right exit code."""

from __future__ import annotations

import gc
import os
import shlex
import signal
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from minigpt_core.bits import with_bits
from minigpt_core.config import lookup
from minigpt_core.errors import UserError
from minigpt_core.lock import holder
from minigpt_core.plan import Plan, Request, prepare, prepare_resume
from minigpt_core.rundir import RunDir, find_run
from minigpt_core.status import Pause, Status
from minigpt_tui import terminal as term
from minigpt_tui.link.server import LinkServer
from minigpt_tui.local import LocalSession
from minigpt_tui.preferences import Preferences, first_time
from minigpt_tui.safetext import safe

if TYPE_CHECKING:
    from minigpt_tui.link.remote import AttachedSession, ForwardedSession
    from minigpt_tui.screens.main import MainScreen
    from minigpt_tui.session import Session
    from minigpt_tui.widgets.heatmap import Ramp

    MakeMain = Callable[[Session, Ramp], MainScreen]

SWITCH_SECONDS = 0.0005
"""How often Python looks whether another thread wants to run: a key press must not wait for a busy trainer."""
SAVE_SECONDS = 30.0
"""How long a run may take to save itself where the app did not wait for it: it crashed, or its terminal went away."""


def train(
    plan: Plan, *, headless: bool, likes: Preferences, text_on_stdin: bool, paused: bool = False, say: str = ""
) -> int:
    """Train a planned run in the app or, without a terminal to draw on, headless.

    Args:
        paused: begin paused.
        say: what the app says first.
    """
    if text_on_stdin and not headless:
        term.keyboard_from_tty()
    terminal = term.inspect(likes)
    if headless or not terminal.interactive:
        from minigpt_tui import headless as plain

        if not headless:
            print(f"minigpt-tui: training headless, since {terminal.why_not_interactive}", file=sys.stderr)
        status, received = plain.train(plan, paused)
        return farewell(plan.run, status, received)
    return train_in_app(plan, terminal, paused=paused, say=say)


def tour(name: str, steps: int | None, run: str | None, out: str, likes: Preferences) -> int:
    """Open the app on a run that a lesson explains as it trains.

    Raises:
        UsageError, UserError: no such lesson, no terminal, or the run cannot begin; nothing was created.
    """
    from minigpt_tui.tour import LESSONS

    lesson = lookup(LESSONS, name, "lesson")
    terminal = term.inspect(likes)
    if not terminal.interactive:
        raise UserError(f"a tour needs a terminal, but {terminal.why_not_interactive}; use: minigpt-tui train")
    train = {**lesson.train, **({} if steps is None else {"steps": steps})}
    plan = prepare(
        Request(data=lesson.data, preset="classic", model=dict(lesson.model), train=train, name=run, out=out)
    )

    def main(session: Session, look: Ramp) -> MainScreen:
        from minigpt_tui.screens.tour import TourScreen

        return TourScreen(session, look, lesson, plan.tokenizer.vocab_size)

    return train_in_app(plan, terminal, main)


def train_in_app(
    plan: Plan, terminal: term.Terminal, main: MakeMain | None = None, paused: bool = False, say: str = ""
) -> int:
    """Train in the app until the user leaves or detaches, or the terminal goes away; the exit code."""
    run, session, code = plan.run, LocalSession.training(plan), 0
    if paused:
        session.send(Pause())
    try:
        with LinkServer(session, plan.announce):
            left = draw(session, terminal, run.train_log, main, say)
            received = left.received
            if left.outlived:
                from minigpt_tui import headless as plain

                received = plain.go_on(session)
        if left.detached and session.status().phase == "stopped":
            session.join(SAVE_SECONDS)
            ended, paused = session.status(), session.paused
            del session  # and with it what it holds on the device
            return hand_over(run, terminal, main, ended, paused)
        code = farewell(run, session.status(), received)
    except UserError as error:
        code = term.complain(str(error), error.exit_code)
    if not session.join(0):
        term.leave_at_once(code)
    return code


def hand_over(run: RunDir, terminal: term.Terminal, main: MakeMain | None, ended: Status, paused: bool) -> int:
    """Have a process of its own go on with a run that was saved here; where it cannot, the app takes it back."""
    from minigpt_core.devices import give_back_memory
    from minigpt_tui import detach

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the window may be closed before this is done
    give_back_memory()
    term.say("handing over to a process of its own…", sys.stderr, run.train_log)
    try:
        pid = detach.go_on(run, paused)
    except KeyboardInterrupt:
        return farewell(run, ended, signal.SIGINT)
    except UserError as error:
        plan = prepare_resume(str(run.path), {}, str(run.path.parent))
        return train_in_app(plan, terminal, main, paused, say=safe(f"could not detach: {error}", newlines=False))
    told = "paused" if paused else "training goes on"
    term.say(f"{told} as process {pid}. Come back: {come_back(run)}", sys.stdout, run.train_log)
    return 0


def come_back(run: RunDir) -> str:
    """The command that attaches to a run, from any folder."""
    return f"minigpt-tui attach {safe(shlex.quote(run.name), newlines=False)}"


def train_detached(arguments: list[str]) -> int:
    """Do what a command line asks for, in a process of its own; returns once it trains."""
    from minigpt_tui import detach

    started = detach.start(arguments)
    if started.run is None:
        return started.code or 1
    print(f"run {safe(str(started.run), newlines=False)}")
    print(f"training goes on as process {started.pid}. Watch it: {come_back(RunDir(started.run))}")
    return 0


def attach(session: AttachedSession | ForwardedSession, likes: Preferences) -> int:
    """Open the app on a run that trains in another process.

    Raises:
        UserError: there is no terminal.
    """
    terminal = term.inspect(likes)
    if not terminal.interactive:
        raise UserError(f"attach needs a terminal, but {terminal.why_not_interactive}; use: minigpt-tui prompt")
    session.connect()
    descriptor, log = tempfile.mkstemp(prefix="minigpt-tui-", suffix=".log")
    os.close(descriptor)
    left = draw(session, terminal, Path(log))
    os.unlink(log)
    return exit_code(left.received)


def chat(ref: str | None, out: str, likes: Preferences) -> int:
    """Open the app on a finished run."""
    run = find_run(ref, Path(out))
    checkpoint = Path(ref) if ref is not None and Path(ref).is_file() else run.checkpoint
    if not checkpoint.is_file():
        raise UserError(f"run {run.name!r} has no checkpoint to talk to; train one with: minigpt-tui train")
    if not zipfile.is_zipfile(checkpoint):
        raise UserError(f"{str(checkpoint)!r} is not a minigpt-tui checkpoint")
    terminal = term.inspect(likes)
    if not terminal.interactive:
        raise UserError(f"chat needs a terminal, but {terminal.why_not_interactive}; use: minigpt-tui generate")
    session = LocalSession.finished(run, checkpoint)
    code = exit_code(draw(session, terminal, run.train_log).received)
    if not session.join(0):
        term.leave_at_once(code)
    return code


def browse(out: str, likes: Preferences) -> int:
    """Open the list of runs, and then the run that was chosen there."""
    terminal = term.inspect(likes)
    if not terminal.interactive:
        raise UserError(f"--tui needs a terminal, but {terminal.why_not_interactive}; leave it out for a plain list")
    sys.setswitchinterval(SWITCH_SECONDS)
    descriptor, log = tempfile.mkstemp(prefix="minigpt-tui-", suffix=".log")
    os.close(descriptor)
    with term.protect_screen(Path(log)):
        from minigpt_core.library import Library
        from minigpt_tui.browser import BrowserApp

        app = BrowserApp(Library(Path(out)), terminal)
        app.run(mouse=terminal.mouse)
    if app.return_code and app.signal_received is None:
        raise UserError(f"the app failed; the traceback is in {log!r}")
    os.unlink(log)
    if app.choice is None:
        return exit_code(app.signal_received)
    if app.choice.verb == "open":
        if holder(RunDir(Path(out, app.choice.name))) is None:
            return chat(app.choice.name, out, likes)
        from minigpt_tui.link import reach, remote

        return attach(remote.AttachedSession(reach.find_live(app.choice.name, Path(out))), likes)
    plan = prepare_resume(app.choice.name, {}, out)
    return train(plan, headless=False, likes=likes, text_on_stdin=False)


class Left(NamedTuple):
    """How the app was left."""

    received: int | None
    """The signal that ended it, if one did."""
    outlived: bool
    """The terminal went away, and the run in this process goes on."""
    detached: bool
    """The run was saved here for a process of its own to go on with."""


def draw(session: Session, terminal: term.Terminal, log: Path, main: MakeMain | None = None, say: str = "") -> Left:
    """Run the app on the screen until it is left; `main` makes its main screen.

    Raises:
        UserError: it failed.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.disable()  # until torch is loaded: whatever is imported stays, and every walk over it takes its time
    stays = False
    try:
        with term.protect_screen(log):
            from minigpt_tui import prompt_history
            from minigpt_tui.app import MiniGPTApp

            app = MiniGPTApp(session, terminal, main) if main else MiniGPTApp(session, terminal)
            app.main.prompt.prompts = prompt_history.PromptHistory(prompt_history.path())
            if first_time():
                app.main.key_hints.greet()
            if say:
                app.main.say(say, sticky=True)
            app.run(mouse=terminal.mouse)
            stays = app.insisted or app.outlived
    finally:
        gc.enable()
        if not stays:  # whatever ended the app, even a crash: the run is saved
            session.close()
            session.join(SAVE_SECONDS)
    if app.return_code and not app.failure and app.signal_received is None:
        raise UserError(f"the app failed; the traceback is in {str(log)!r}, and the run is as last saved")
    return Left(app.signal_received, app.outlived, app.detaching)


def farewell(run: RunDir, status: Status, received: int | None) -> int:
    """Say how the training ended and how to go on; the exit code.

    Raises:
        UserError: it failed.
    """
    if status.phase == "failed":
        raise UserError(status.message)
    place = safe(shlex.quote(str(run.path)), newlines=False)
    if status.final_val_loss is not None:
        print(f"final_val_loss {with_bits(status.final_val_loss, status.tokens_per_byte)}")
    if status.phase == "done":
        print(f"done at step {status.step:,}. Talk to it: minigpt-tui chat {place}")
    elif run.checkpoint.is_file():
        print(f"saved at step {status.saved_step or status.step:,}. Go on: minigpt-tui train --resume {place}")
    return exit_code(received)


def exit_code(received: int | None) -> int:
    """The shell's convention: 128 and the signal."""
    return 128 + received if received else 0
