"""The command line: its commands, and one clear line and an exit code for every foreseeable error."""

# No `from __future__ import annotations`: Typer would have to evaluate every one of them again, twice.

import os
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from minigpt_core.errors import UserError
from minigpt_tui.command import App
from minigpt_tui.commands import data, experiments, live, results, runs, setup, training, weights
from minigpt_tui.terminal import complain

app = App(
    name="minigpt-tui",
    help="Train a small GPT in a terminal, watch it learn, and talk to the weights it has right now.\n\n"
    "[bold]minigpt-tui[/bold] alone is [bold]minigpt-tui train[/bold]: it opens the app and trains.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
runs_app = App()
app.add_typer(runs_app, name="runs")
data_app = App()
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point: one clear line for every foreseeable error, and its exit code."""
    if sys.stdout is None:  # started with its standard output closed
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the program runs
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a locale without some character costs that character only
    try:
        code = app(args=normalised(sys.argv[1:]), prog_name="minigpt-tui", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        code = complain(error.format_message().rstrip(".") + help_hint(error), 2)
    except UserError as error:
        code = complain(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:  # whoever read our output has left, as `head` does; Typer leaves with 1 as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    except OSError as error:
        code = complain(f"{error.strerror or error}{f': {error.filename!r}' if error.filename else ''}", 1)
    sys.exit(code or 0)


def help_hint(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"; see {context.command_path} --help" if context else ""


def normalised(arguments: list[str]) -> list[str]:
    """`--batch_size` is `--batch-size`, and options without a command belong to `train`."""
    result = []
    for i, argument in enumerate(arguments):
        if argument == "--":
            result += arguments[i:]
            break
        name, equals, value = argument.partition("=")
        result.append(name.replace("_", "-") + equals + value if argument.startswith("--") else argument)
    asks_for_itself = {"-h", "--help", "--version", "--install-completion", "--show-completion"}
    if not result or (result[0].startswith("-") and result[0] not in asks_for_itself):
        result.insert(0, "train")
    return result


@app.callback(invoke_without_command=True)
def top(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", metavar="")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"minigpt-tui {installed('minigpt-tui')}")
        raise typer.Exit


# --- the commands, as help lists them ---

app.command()(training.train)
app.command()(training.tour)
app.command()(experiments.ablate)
app.command()(live.attach)
app.command()(live.prompt)
app.command()(live.pause)
app.command()(live.resume)
app.command()(live.stop)
app.command()(runs.chat)
app.command()(runs.generate)
app.command()(runs.report)
app.command("import")(weights.import_weights)
app.command("export")(weights.export_weights)
app.command()(experiments.bench)
app.command()(setup.notebook)
app.command()(setup.doctor)
app.command()(setup.keys)
runs_app.callback(invoke_without_command=True)(runs.runs)
runs_app.command()(runs.show)
runs_app.command()(results.compare)
runs_app.command()(results.export)
data_app.callback(invoke_without_command=True)(data.data)
data_app.command("list")(data.list_texts)
data_app.command()(data.prepare)
data_app.command()(data.show)
data_app.command()(data.remove)


if __name__ == "__main__":
    main()
