"""Text that would steer a terminal, shown by the real app in a pseudo-terminal: none of it acts.

    python -m tests.faults.text --count 10000 --seed 1

A run's characters, answers, events, prompts of earlier days and name are all hostile. Every escape sequence that the
app writes is looked at; those that the text asks for bear a number of their own.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyte
import wcwidth
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from minigpt_core.plan import Request, prepare
from minigpt_core.reading import encode_json
from minigpt_core.rundir import RunDir
from minigpt_core.status import Event
from minigpt_tui.safetext import UNSAFE, SafeStream, safe, token_label
from tests.terminal import Terminal

MARK = "7713"
"""A number that no sequence of the app's own holds."""
SEQUENCES = (
    *(f"\x1b[{MARK}m", f"\x9b{MARK}m", f"\x1b[?{MARK}h", f"\x1b[{MARK};1H", f"\x1b[{MARK}J", f"\x1b[{MARK}@"),
    *(f"\x1b]52;c;{MARK}\x07", f"\x1b]0;{MARK}\x1b\\", f"\x9d52;c;{MARK}\x9c", f"\x1b]8;;http://{MARK}\x07"),
    *(f"\x1bP{MARK}\x1b\\", f"\x1b_{MARK}\x1b\\", f"\x1b^{MARK}\x9c", "\x1bc", "\x1b(0", "\x0e", "\x1b#8", "\x1b[6n"),
    *(
        "\x05",
        "\x07",
        "\x08" * 9,
        "\r",
        "\x0b",
        "\x0c",
        "\x7f",
        "\x85",
        "\u2028",
        "\u202e",
        "\u2066",
        "\u200b",
        "\ufeff",
    ),
    *(
        "e" + "\u0301" * 40,
        "\U0001f1e9\U0001f1ea",
        "\u2764\ufe0f",
        "\U0001f44d\U0001f3fd",
        "\U0001f468\u200d\U0001f469",
    ),
    *("[/red]", "[@click=app.quit]x[/]", "[b", "\\[", "[link=x]", "{}", "%s", "\U000e0041", "\ue000", "\U0010ffff"),
    *("漢字" * 20, "ﷺ", "\u3164", "क्ष", "각", "\t", "x" * 400),
)
BATCH = 40
"""Strings that are added to the log at a time: they fit its pane, though some take several lines."""
HOSTILE = st.lists(
    st.sampled_from(SEQUENCES) | st.text(st.characters(exclude_categories=("Cs",)), max_size=12), max_size=6
)
ANY = HOSTILE.map("".join)

OWN = re.compile(
    rb"\x1b\[[\d;]*m"  # colours
    rb"|\x1b\[\d+;\d+H|\x1b\[H"  # the cursor moves
    rb"|\x1b\[\?\d+(?:;\d+)*(?:\$p|[hl])"  # modes and questions about them
    rb"|\x1b\[[<>=]\d*u|\x1b\[[?>]\d*u"  # the kitty keyboard protocol
    rb"|\x1b\]22;[a-z-]*\x07"  # the shape of the mouse pointer
    rb"|\x1b\[\?4m|\x1b\[c|\x1b\[>q|\x1b\[\d*[JK]"
)
"""Every sequence that the app writes by itself."""


def examples(count: int, number: int) -> list[str]:
    """So many strings, the same for a seed."""
    found: list[str] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(ANY)
    def collect(text: str) -> None:
        found.append(text)

    while len(found) < count:  # it stops early where examples repeat themselves
        collect()
        number += 1
        collect = seed(number)(collect)
    return found[:count]


def check_pure(text: str) -> None:
    """What may be shown steers nothing, and is as wide as the sum of its characters."""
    stream = SafeStream()
    for shown in (safe(text), safe(text, newlines=False), token_label(text), "".join(map(stream.feed, text))):
        for line in shown.split("\n"):
            assert all(unicodedata.category(c) not in UNSAFE for c in line), ascii(text)
            assert cell_len(line) == sum(map(cell_len, line)), ascii(text)


# --- the app ---


def hostile_run(folder: Path, rng: random.Random) -> RunDir:
    """A run whose every text is hostile, in a folder of a hostile name beside another such."""
    alphabet = "".join(dict.fromkeys("".join(SEQUENCES) + "".join(map(chr, (*range(1, 160), *range(0x300, 0x340))))))
    alphabet = alphabet.replace("\r", "")
    (folder / "text.txt").write_text("".join(rng.choices(alphabet, k=20_000)), newline="")
    train = {"steps": 2, "device": "cpu", "threads": 1, "seed": 1}
    model = {"n_layers": 1, "num_heads": 1, "embed_dim": 8, "seq_len": 32}
    name = f"\x1b[{MARK}m\x9b{MARK}m\u202e[red]\n\udcff"
    plan = prepare(
        Request(data=str(folder / "text.txt"), name="run", out=str(folder / "runs"), model=model, train=train)
    )
    list(plan.build())
    plan.release()
    run = RunDir(folder / "runs" / name)
    plan.run.path.rename(run.path)
    other = RunDir(folder / "runs" / f"\x1b]0;{MARK}\x07[b]")
    other.path.mkdir()
    other.config.write_bytes(run.config.read_bytes())
    (folder / "prompts.jsonl").write_bytes(b"".join(encode_json(text) + b"\n" for text in SEQUENCES[:60]))
    settings = {"prompt": "".join(SEQUENCES), "settings": {}, "finish_reason": "length", "answer": "".join(SEQUENCES)}
    add_events(run, [("sample", "".join(SEQUENCES), settings)])
    return run


def add_events(run: RunDir, events: list[tuple[str, str, dict]]) -> None:
    with open(run.events, "ab") as file:
        for kind, message, data in events:
            event = Event(kind=kind, step=1, time=time.time(), message=message, data=data)  # type: ignore[arg-type]
            file.write(msgspec.json.encode(event) + b"\n")


def show(strings: list[str], number: int) -> tuple[bytes, list[str]]:
    """Open the app on a hostile run, let every string appear, look into every pane: what it wrote, and complaints."""
    rng, wrong = random.Random(number), []
    with tempfile.TemporaryDirectory() as folder:
        run = hostile_run(Path(folder), rng)
        main = [sys.executable, "-c", "from minigpt_tui.cli import main; main()"]
        env = {
            "MINIGPT_TUI_HISTORY": f"{folder}/prompts.jsonl",
            "XDG_STATE_HOME": folder,
            "MINIGPT_TUI_CONFIG": os.devnull,
        }
        (Path(folder) / "minigpt-tui").mkdir()
        (Path(folder) / "minigpt-tui" / "welcomed").touch()
        with Terminal([*main, "chat", str(run.path)], columns=120, rows=160, env=env, cwd=folder) as terminal:
            terminal.screen = LikeOthers(terminal.screen.columns, terminal.screen.lines)
            terminal._stream = pyte.ByteStream(terminal.screen)
            terminal.wait_for("prompt ·")
            for keys in keys_of_a_tour():
                terminal.send(*keys)
                terminal.pump(0.4)
            terminal.send("4")
            terminal.wait_for("4 log")
            terminal.send("f")
            terminal.pump(1.0)
            for first in range(0, len(strings), BATCH):
                batch = [
                    ("note", f"#{first + i:05d} {text}", {}) for i, text in enumerate(strings[first : first + BATCH])
                ]
                add_events(run, batch)
                last = f"#{first + len(batch) - 1:05d}"
                terminal.wait(lambda last=last: last in terminal.text())
                wrong += misplaced(terminal.screen)
            terminal.send("\x11")
            if code := terminal.wait_exit():
                wrong.append(f"the app left with {code}")
        return terminal.bytes, wrong


def keys_of_a_tour() -> Iterator[tuple[str, ...]]:
    """Answers, earlier prompts, attention, lens, samples, runs."""
    escape = "\x1b"
    yield "i", "x", "\r"
    yield ("\x1b[A",) * 30
    yield "\r", escape, escape
    yield "2", "f"
    yield ("\x1b[C",) * 12
    yield "f", "3", "f", "\x1b[5~", "f"
    yield ("g",)
    yield ("\x1b[C",) * 12
    yield escape, "b", "\x1b[B", "\x1b[B", "\r"
    yield escape, escape, escape


def misplaced(screen: pyte.Screen) -> list[str]:
    """Lines of the log whose frame is not where it is in all others."""
    edges = [screen.buffer[row][screen.columns - 1].data for row in range(3, screen.lines - 8)]
    return [f"a line is as wide as it should not be: {edges!a}"] if len(set(edges)) > 1 else []


def check_bytes(data: bytes, strings: list[str]) -> list[str]:
    """What the app wrote: its own sequences, and text that is text."""
    wrong = []
    rest = OWN.sub(b"", data).decode()
    wrong += [f"not a sequence of the app: {sequence!r}" for sequence in {*re.findall(r"\x1b.{0,20}", rest)}]
    if any(MARK.encode() in sequence for sequence in OWN.findall(data)):
        wrong.append("a sequence that the text asked for")
    for character in sorted(set(rest) - set("\r\n\x1b\x0f")):
        if unicodedata.category(character) in UNSAFE:
            at = rest.index(character)
            wrong.append(f"U+{ord(character):04X} reached the terminal, in {rest[max(0, at - 30) : at + 30]!r}")
    return wrong + [f"string {i} was not shown" for i in range(len(strings)) if f"#{i:05d}" not in rest]


class LikeOthers(pyte.Screen):
    """Pyte forgets the rest of a text behind a character that has no width and is no combining mark to it."""

    def draw(self, data: str) -> None:
        super().draw("".join(c for c in data if wcwidth.wcwidth(c) or unicodedata.combining(c)))


class Strict(LikeOthers):
    """A screen that knows what no app of ours asks a terminal for."""

    def __init__(self) -> None:
        super().__init__(120, 160)
        self.asked: list[str] = []

    def set_title(self, param: str) -> None:
        if param != ";default":  # pyte takes OSC 22, the shape of the mouse pointer, for OSC 2
            self.asked.append(f"title {param!r}")

    def set_icon_name(self, param: str) -> None:
        self.asked.append(f"icon {param!r}")

    def bell(self, *args: object) -> None:
        self.asked.append("bell")

    def define_charset(self, code: str, mode: str) -> None:
        self.asked.append(f"charset {code!r}")

    def report_device_status(self, mode: int, **_: object) -> None:
        self.asked.append("status")

    def alignment_display(self) -> None:
        self.asked.append("alignment")

    def insert_characters(self, count: int | None = None) -> None:
        self.asked.append("insert")

    def select_graphic_rendition(self, *attributes: int, **_: object) -> None:
        if int(MARK) in attributes:
            self.asked.append("colour")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    strings = examples(given.count, given.seed)
    for text in strings:
        check_pure(text)
    print(f"{len(strings)} strings through safetext: none steers, all columns agree", flush=True)
    data, wrong = show(strings, given.seed)
    wrong += check_bytes(data, strings)
    screen = Strict()
    pyte.ByteStream(screen).feed(data)
    wrong += screen.asked
    print(f"{len(strings)} strings through the app: {len(data):,} bytes, wrong: {len(wrong)}")
    for line in wrong[:40]:
        print("WRONG", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
