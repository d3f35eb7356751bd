"""`minigpt-tui doctor`: what was found here, what would be chosen, and why."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from minigpt_core import hardware
from minigpt_tui import terminal as term
from minigpt_tui.listing import show
from minigpt_tui.preferences import VARIABLE, Preferences, found, path
from minigpt_tui.widgets.format import size


def print_findings(likes: Preferences) -> None:
    """Four tables: machine, training, terminal, preferences.

    Args:
        likes: what the command line said.
    """
    says, problem = found()
    tables = {
        "Machine": machine(),
        "Training": training(),
        "Terminal": terminal(term.inspect(likes.over(says))),
        "Preferences": preferred(path(), says, problem),
    }
    for title, rows in tables.items():
        table = Table(
            box=None, pad_edge=False, show_header=False, title=title, title_justify="left", title_style="bold"
        )
        table.add_column(style="bold", width=11)
        table.add_column(overflow="fold")
        table.add_column(overflow="fold", style="dim")
        for name, value, reason in rows:
            table.add_row(name, Text(value), Text(reason))
        show(table)
        print()


def machine() -> list[tuple[str, str, str]]:
    gpus, reason = hardware.gpus()
    rows = [
        ("cores", str(hardware.cpu_count()), "this process may use"),
        ("memory", size(hardware.available_memory()), "free"),
        ("cpu bf16", "yes" if hardware.cpu_has_bf16() else "no", "native matrix products"),
    ]
    rows += [(f"gpu {g.index}", g.name, f"{size(g.free_bytes)} of {size(g.total_bytes)} free") for g in gpus]
    return rows if gpus else [*rows, ("gpu", "none", reason)]


def training() -> list[tuple[str, str, str]]:
    import torch

    from minigpt_core.devices import survey
    from minigpt_core.sizes import count_parameters, decide_sizes

    model, train, devices = decide_sizes(survey(), {}, {}, vocab_size=100)
    rows = [("torch", str(torch.__version__), f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build")]
    for name, reason in devices.reasons.items():
        rows.append((name, str(getattr(devices, name)), reason))
    sizes = f"{model.n_layers} layers, {model.num_heads} heads, {model.embed_dim} wide, context {model.seq_len}"
    rows.append(("model", f"{count_parameters(model) / 1e6:.1f} M parameters", f"{sizes}, batch {train.batch_size}"))
    return [*rows, ("warning", devices.warning, "")] if devices.warning else rows


def terminal(found: term.Terminal) -> list[tuple[str, str, str]]:
    where = "tmux" if os.environ.get("TMUX") else "ssh" if os.environ.get("SSH_CONNECTION") else "local"
    copying = "tmux needs: set -s set-clipboard on" if where == "tmux" else "if the terminal allows OSC 52"
    return [
        ("app", "yes" if found.interactive else "no, headless", found.why_not_interactive),
        ("colours", found.color, found.color_reason),
        ("characters", "ASCII" if found.ascii else "UTF-8", found.ascii_reason),
        ("theme", found.theme, "--theme light where the background is light" if found.theme == "dark" else ""),
        ("mouse", "yes" if found.mouse else "no", "--no-mouse leaves it to the terminal" if found.mouse else ""),
        ("repaints", "fewer" if found.low_bandwidth else "as they come", "--low-bandwidth for a slow link"),
        ("clipboard", "OSC 52", copying),
        ("python", sys.version.split()[0], sys.executable),
    ]


def preferred(file: Path, says: Preferences, problem: str = "") -> list[tuple[str, str, str]]:
    """The user's file and each thing that it sets, or what is wrong with it."""
    if problem:
        return [("file", problem, "nothing of it is used")]
    if not file.is_file():
        return [("file", str(file), f"not there: all as it comes ({VARIABLE} names another)")]
    said = {name: value for name, value in msgspec.structs.asdict(says).items() if value not in (None, {})}
    keys = said.pop("keys", {})
    rows = [(name, value if isinstance(value, str) else str(value).lower(), "") for name, value in said.items()]
    rows += [("key", f"{name} = {value}", "") for name, value in keys.items()]
    return [("file", str(file), "" if rows else "it sets nothing"), *rows]
