"""Commands on a run that trains in another process: watch it, steer it, prompt it."""

# No `from __future__ import annotations`: Typer would have to evaluate every one of them again, twice.

from pathlib import Path
from typing import Annotated, Any

import typer

from minigpt_tui.commands.options import (
    OUTPUT,
    RUN,
    Ascii,
    Color,
    LowBandwidth,
    MaxNewTokens,
    MinP,
    Mouse,
    NumSamples,
    Out,
    RepetitionPenalty,
    Seed,
    StopText,
    Stream,
    Temperature,
    Theme,
    TopK,
    TopP,
    likes,
    sampling,
)

LiveRun = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="A run that is training: its name or directory. Left out, the only one."),
]
Json = Annotated[bool, OUTPUT("What it then is like, as a JSON object.", "--json", metavar="")]


def attach(
    run: LiveRun = None,
    socket: Annotated[
        str | None, RUN("Attach through a socket that was forwarded from another machine.", metavar="PATH")
    ] = None,
    out: Out = "runs",
    theme: Theme = None,
    color: Color = None,
    ascii: Ascii = None,
    mouse: Mouse = None,
    low_bandwidth: LowBandwidth = None,
) -> int:
    """Open the app on a run that trains in another process; leaving it ends nothing.

    A run is found wherever it was started. `runs show RUN` tells its socket, which
    `ssh -L` can forward.

    [bold]Examples[/bold]
    minigpt-tui attach
    minigpt-tui attach my-run
    ssh box -t minigpt-tui attach
    minigpt-tui attach --socket /tmp/box.sock
    """
    look = likes(locals())
    from minigpt_tui import launch
    from minigpt_tui.link import reach, remote

    if socket is not None:
        return launch.attach(remote.ForwardedSession(reach.forwarded(socket)), look)
    return launch.attach(remote.AttachedSession(reach.find_live(run, Path(out))), look)


def stop(run: LiveRun = None, json: Json = False, out: Out = "runs") -> None:
    """Save a run that trains in another process, and end it.

    [bold]Examples[/bold]
    minigpt-tui stop
    minigpt-tui stop my-run --json
    """
    from minigpt_core.status import Stop

    tell(run, out, Stop(), None, json)


def pause(run: LiveRun = None, json: Json = False, out: Out = "runs") -> None:
    """Let a run that trains in another process stand still until it is resumed.

    [bold]Examples[/bold]
    minigpt-tui pause
    minigpt-tui pause my-run
    """
    from minigpt_core.status import Pause

    tell(run, out, Pause(), lambda status: status.phase == "paused", json)


def resume(run: LiveRun = None, json: Json = False, out: Out = "runs") -> None:
    """Let a run go on that was paused. (One that has ended: train --resume.)

    [bold]Examples[/bold]
    minigpt-tui resume
    minigpt-tui resume my-run
    """
    from minigpt_core.status import Resume

    tell(run, out, Resume(), lambda status: status.phase not in ("paused", "stopped"), json)


def prompt(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run that is training: its name or directory.")],
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What to go on from; else stdin, less its last line break.")
    ] = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = None,
    max_new_tokens: MaxNewTokens = None,
    stop: StopText = None,
    seed: Seed = None,
    num_samples: NumSamples = None,
    stream: Stream = True,
    json: Annotated[bool, OUTPUT("One JSON object a line and answer.", "--json", metavar="")] = False,
    out: Out = "runs",
) -> int:
    """Write text with the weights that a run has right now, while it trains in another process.

    [bold]Examples[/bold]
    minigpt-tui prompt my-run "The meaning of life"
    minigpt-tui prompt my-run "To be" --temperature 0.5 --json
    """
    settings = sampling(locals())
    from minigpt_tui import write
    from minigpt_tui.link import reach

    found = reach.find_live(run, Path(out))
    session = reach.connected(found)
    try:
        return write.prompt(session, found.name, text, settings, stream=stream, json=json)
    finally:
        session.close()
        session.join(1.0)


def tell(ref: str | None, out: str, command: Any, until: Any, json: bool) -> None:
    """Have a run obey, and print what it then is like."""
    from minigpt_tui.link import reach

    run = reach.find_live(ref, Path(out))
    status = reach.tell(run, command, until)
    if json:
        import msgspec

        print(msgspec.json.encode(status).decode())
    else:
        from minigpt_tui.headless import summary
        from minigpt_tui.safetext import on_terminal

        print(f"{on_terminal(run.name)}: {status.phase}, {summary(status)}")
