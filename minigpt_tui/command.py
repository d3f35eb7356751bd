"""Typer's commands, quick: it checks values by pydantic and explains by rich Markdown, which take longer to load than
all else that `--help` or the app's first frame need. Our values are words and numbers, our help is plain tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, get_args

import typer
from typer._coercion import RuntimeParam
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from rich.panel import Panel

KINDS: dict[Any, str] = {str: "text", int: "a whole number", float: "a number"}


class App(typer.Typer):
    """A program of such commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=Group, rich_markup_mode=None, pretty_exceptions_enable=False, **options)

    def command(self, name: str | None = None, **options: Any) -> Any:
        return super().command(name, cls=Command, **options)


class Quick:
    """What a command and a group of them do in our way; stands before Typer's own class."""

    def parse_args(self: Any, ctx: Any, args: list[str]) -> list[str]:
        take_words(self.get_params(ctx))
        parsed: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        return parsed

    def format_help(self, ctx: Any, formatter: Any) -> None:
        print_help(self, ctx)


class Command(Quick, TyperCommand):
    pass


class Group(Quick, TyperGroup):
    pass


# --- values ---


class Words(RuntimeParam):
    """How the words given for an option become its value: text, a number, or a list of either."""

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        def converted(word: Any, kind: Any) -> Any:
            try:
                return kind(word)
            except ValueError:
                raise typer.BadParameter(f"{word!r} is not {KINDS[kind]}", ctx=ctx, param=param) from None

        several = get_args(self.annotation)
        return [converted(word, several[0]) for word in value] if several else converted(value, self.annotation)


def take_words(parameters: Iterable[Any]) -> None:
    """In place of Typer's own converters, which it would make even for options that nobody gave."""
    for parameter in parameters:
        what = parameter.type_descriptor
        parameter._runtime_param = Words(what.parameter_info, what.annotation)


# --- help ---


def print_help(command: Any, context: typer.Context) -> None:
    """How to call it, what it does, and a panel for each kind of option."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(context):
        kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
        panels.setdefault(parameter.rich_help_panel or kind, []).append(parameter.get_help_record(context))
    if isinstance(command, TyperGroup):
        about = {name: found.help or "" for name, found in command.commands.items()}
        panels["Commands"] = [(name, " ".join(text.partition("\n\n")[0].split())) for name, text in about.items()]
    console = Console(highlight=False)
    console.print(Padding(Text(command.get_usage(context), style="bold"), 1))
    console.print(Padding(Text.from_markup(command.help.strip()), (0, 1, 1, 1)))
    for title, rows in panels.items():
        if rows:
            console.print(panel(title, rows))


def panel(title: str, rows: list[tuple[str, str]]) -> Panel:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(style="cyan")
    table.add_column(ratio=1)
    for name, about in rows:
        table.add_row(Text(name), Text(about))
    return Panel(table, title=title, title_align="left", border_style="dim")
