"""How long a person waits, measured in a real pseudo-terminal while the default run trains.

    python -m tests.benchmarks.latency [--prompts 20] [--starts 10]

Prints JSON: seconds to the first frame and the first loss point, milliseconds from Enter to an answer's first token,
tokens a second of an answer, and training steps a second with and without prompts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.terminal import Terminal


def step_of(terminal: Terminal) -> int:
    match = re.search(r"step ([\d,]+)", terminal.line(0))
    return int(match[1].replace(",", "")) if match else 0


NEW_TOKENS = 200
"""Of an answer with the app's default settings."""


def one_start() -> tuple[float, float]:
    """Seconds from the program's start to its first frame and to its first loss point."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder, "run", "metrics.jsonl")
        started = time.perf_counter()
        command = [sys.executable, "-m", "minigpt_tui.cli", "train", "--out", folder, "--name", "run"]
        with Terminal(command, columns=120, rows=35) as terminal:
            terminal.wait(lambda: b"waiting for the first" in terminal.bytes, 10)
            frame = time.perf_counter() - started
            terminal.wait(lambda: metrics.is_file() and metrics.stat().st_size > 0, 60)
            loss = time.perf_counter() - started
            terminal.send("\x11")
            terminal.wait_exit(30)
    return frame, loss


def measure(prompts: int, starts: int) -> dict[str, object]:
    frames, losses = zip(*(one_start() for _ in range(starts)), strict=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "minigpt_tui.cli", "train", "--out", folder, "--name", "run"]
        with Terminal(command, columns=120, rows=35) as terminal:
            events = Path(folder, "run", "events.jsonl")
            terminal.wait(lambda: step_of(terminal) > 100, 120)
            alone = pace(terminal, 5)
            terminal.send("i")
            latencies, rates, begun, first_step = [], [], time.perf_counter(), step_of(terminal)
            for n in range(prompts):
                latency, rate = one_prompt(terminal, events, f"The {n} ")
                latencies.append(latency * 1000)
                rates.append(rate)
            while_prompted = (step_of(terminal) - first_step) / (time.perf_counter() - begun)
            terminal.send("\x11")
            terminal.wait_exit(20)
    return {
        "first_frame_s": {"median": round(statistics.median(frames), 3), "max": round(max(frames), 3), "n": starts},
        "first_loss_s": {"median": round(statistics.median(losses), 2), "max": round(max(losses), 2), "n": starts},
        "first_token_ms": {
            "median": round(statistics.median(latencies), 1),
            "max": round(max(latencies), 1),
            "n": prompts,
        },
        "tokens_per_s": {"median": round(statistics.median(rates)), "min": round(min(rates))},
        "steps_per_s": {"alone": round(alone, 1), "while_prompted": round(while_prompted, 1)},
    }


def pace(terminal: Terminal, seconds: float) -> float:
    before, begun = step_of(terminal), time.perf_counter()
    terminal.pump(seconds)
    return (step_of(terminal) - before) / (time.perf_counter() - begun)


def one_prompt(terminal: Terminal, events: Path, prompt: str) -> tuple[float, float]:
    """Seconds from Enter to the first character of the answer on the screen, and its tokens a second after that."""
    terminal.send(prompt)
    terminal.wait(lambda: prompt.strip() in terminal.text(), 5)
    answers = events.read_text().count('"sample"')
    terminal.send("\r")
    sent = time.perf_counter()
    terminal.wait(lambda: answer_begun(terminal, prompt.strip()), 10)
    first = time.perf_counter()
    terminal.wait(lambda: events.read_text().count('"sample"') > answers, 30)
    return first - sent, NEW_TOKENS / (time.perf_counter() - first)


def answer_begun(terminal: Terminal, prompt: str) -> bool:
    """Whether something stands after the prompt in the transcript, above the box it was typed into."""
    lines = terminal.text().splitlines()
    box = next(i for i, line in enumerate(lines) if line.startswith("╭─ prompt"))
    transcript = "".join(line[:73] for line in lines[:box])
    return prompt in transcript and bool(transcript.rsplit(prompt, 1)[1].strip(" │▁▂▃▄▅▆▇█▏╰╯─"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--starts", type=int, default=10)
    os.environ.setdefault("LANG", "C.UTF-8")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.prompts, arguments.starts), indent=2))
