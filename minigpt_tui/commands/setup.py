"""Commands about the program itself: what it found here, its keys, its notebook."""

# No `from __future__ import annotations`: Typer would have to evaluate every one of them again, twice.

from typing import Annotated

import typer

from minigpt_tui.commands.options import Ascii, Color, LowBandwidth, Mouse, Theme, likes
from minigpt_tui.terminal import complain


def notebook(
    destination: Annotated[
        str, typer.Argument(metavar="[DEST]", help="A file that is not there yet, or a folder to put it into.")
    ] = "MiniTransformer.ipynb",
) -> None:
    """Put the walkthrough notebook here: a transformer by hand, trained and taken apart.

    It is stored with all its results, so it can be read without running it.

    [bold]Examples[/bold]
    minigpt-tui notebook
    minigpt-tui notebook ~/lessons
    minigpt-tui notebook mine.ipynb
    """
    from minigpt_tui.notebook import place, print_place

    print_place(place(destination))


def doctor(
    theme: Theme = None,
    color: Color = None,
    ascii: Ascii = None,
    mouse: Mouse = None,
    low_bandwidth: LowBandwidth = None,
) -> None:
    """Show what was found here and what would be chosen, each with its reason.

    [bold]Examples[/bold]
    minigpt-tui doctor
    minigpt-tui doctor --color 16
    """
    look = likes(locals(), from_file=False)  # first: a bad option must not wait for torch
    from minigpt_tui.doctor import print_findings

    print_findings(look)


def keys() -> None:
    """Print every key of the app, as lines for the preferences file.

    Paste the ones you change into that file, whose name is printed first and by doctor.

    [bold]Examples[/bold]
    minigpt-tui keys
    minigpt-tui keys > keys.toml
    """
    from minigpt_tui.keymap import toml
    from minigpt_tui.preferences import found, path

    own, problem = found()
    if problem:
        complain(f"{problem}; these are the keys without that file", 0)
    print(f"# for {path()}\n{toml(own.keys)}")
