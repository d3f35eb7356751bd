"""The report page: a run as one HTML file that needs no script, no network and no other file.

Jinja2 escapes everything that is written into `report.html.j2`, and `visible` goes over every text first: prompts, file
names and what a model writes are not to be trusted. The same run always gives the same page, byte for byte.
"""

from __future__ import annotations

import math
import shlex
import time
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from minigpt_core import heads, timeline_plots
from minigpt_core.bits import bits_per_byte
from minigpt_core.checkpoint import Run
from minigpt_core.errors import UserError
from minigpt_core.frame import HeadHistory, RecordedSample
from minigpt_core.ladder import load_ladder
from minigpt_core.recording import Recording, thinned
from minigpt_core.reproduce import again
from minigpt_core.series import Series
from minigpt_core.status import Event
from minigpt_core.stored import read_config
from minigpt_core.tail import read_events, standing

MAX_MAPS = 16
"""Heads up to which each has a large map of its own."""
MAX_SAMPLES = 12
"""Recorded samples that are shown."""
MAX_EVENTS = 200
TOLD = ("rung", "birth", "warning", "error", "lr", "resumed", "pause", "resume", "done")
"""Kinds of events that are told: not every save and sample."""

# Cc controls, Cf formats (bidi, zero width, soft hyphen), Cs surrogates, Co private use, Cn unassigned, Zl and Zp
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@dataclass(frozen=True)
class Attention:
    """What every head attends to on one text, by the checkpoint's weights.

    Attributes:
        weights: (L, H, T, T).
        scores: (4, L, H), in the order of `heads.SCORES`.
        tokens: T texts.
        problem: why it is not the run's own text, in a sentence.
    """

    weights: np.ndarray
    scores: np.ndarray
    tokens: tuple[str, ...]
    problem: str = ""


def page(run: Run, attention: Attention, prompt: str, samples: list[tuple[float, str]]) -> str:
    """The whole page.

    Args:
        samples: (temperature, what the model wrote after `prompt`).
    """
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    events = standing(read_events(run.dir))
    view = _run_view(run)
    view |= _curves(run, events, view["tokens_per_byte"]) | _recording(run, events) | _attention(attention)
    return environment.get_template("report.html.j2").render(
        view, run=run, prompt=prompt, samples=samples, seed=run.config.seed
    )


# --- text ---


def visible(text: str) -> str:
    """Text in which nothing is invisible or rearranges its surroundings; line breaks and tabs stay.

    Controls become their Unicode pictures, everything else that has no shape of its own its code point: ⟨U+202E⟩.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible, text))


@lru_cache(65536)
def _visible(character: str) -> str:
    code = ord(character)
    if character in "\n\t" or unicodedata.category(character) not in HIDDEN:
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def axis_label(token: str) -> str:
    """A token along an axis: white space visible, and short."""
    shown = visible(token).replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
    return shown if len(shown) <= 8 else shown[:7] + "…"


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours} h {m} min" if hours else f"{m} min {s} s" if m else f"{s} s"


# --- what the page says ---


def _run_view(run: Run) -> dict[str, Any]:
    """Settings, decisions, text, versions, commands."""
    config: dict[str, Any] = {}
    problem = ""
    try:
        config = read_config(run.dir)
    except UserError as error:
        problem = f"{error}; the settings here are the checkpoint's."
    state, path = run.state, shlex.quote(str(run.dir.path))
    devices, corpus = config.get("devices", {}), config.get("corpus", {})
    created = config.get("created")
    finished = bool(state["total_steps"]) and state["step"] >= state["total_steps"]
    command, remarks = again(run, config)
    return {
        "name": run.dir.name,
        "config_problem": problem,
        "created": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(created)) if created else None,
        "model": run.model.config.to_dict(),
        "train": {name: value for name, value in run.config.to_dict().items() if value is not None},
        "n_params": run.model.num_parameters(),
        "tokens_seen": state["step"] * run.config.batch_size * run.model.config.seq_len,
        "elapsed": duration(state["elapsed"]),
        "pace": float(np.median([row.tok_s for row in run.history])) if run.history else None,
        "epoch": run.history[-1].epoch if run.history else None,
        "device": devices.get("device"),
        "precision": devices.get("precision"),
        "decisions": [(name, _word(devices.get(name)), why) for name, why in devices.get("reasons", {}).items()],
        "device_warning": devices.get("warning"),
        "corpus": corpus,
        "tokens_per_byte": config.get("tokens_per_byte"),
        "vocabulary": run.tokenizer.vocab_size,
        "versions": config.get("versions", {}),
        "started": [shlex.quote(str(word)) for word in config.get("command", [])],
        "again": command,
        "remarks": remarks,
        "go_on": ["minigpt-tui train", f"--resume {path}", *([f"--steps {2 * state['step']}"] if finished else [])],
        "talk": ["minigpt-tui chat", path],
    }


def _word(value: object) -> object:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _curves(run: Run, events: list[Event], tokens_per_byte: float | None) -> dict[str, Any]:
    """Losses, learning rate, gradient norm; and what happened on the way."""
    series = Series()
    for row in run.history:
        series.append(row)
    ladder = load_ladder(run.dir)
    passed = {event.data.get("rung", ""): event.step for event in events if event.kind == "rung"}
    last = run.history[-1].step if run.history else 0
    vals = [(row.val_loss, row.step) for row in run.history if row.val_loss is not None and math.isfinite(row.val_loss)]
    broken = [row.step for row in run.history if not math.isfinite(row.train_loss)]
    told = [event for event in events if event.kind in TOLD]
    final = run.state.get("final_val_loss")
    best = min(vals, default=None)
    value = final if final is not None else best[0] if best else None
    return {
        "loss": timeline_plots.loss_chart(series, last, run.tokenizer.vocab_size, ladder, passed) if last else None,
        "rate": timeline_plots.small_chart(series, "lr", last) if last else None,
        "norm": timeline_plots.small_chart(series, "grad_norm", last, log=True) if last else None,
        "ladder": ladder,
        "below": [rung.name for rung in ladder.rungs if value is not None and value < rung.loss] if ladder else [],
        "rows": len(run.history),
        "last_step": last,
        "best": best,
        "final": final,
        "bits": bits_per_byte(value, tokens_per_byte),
        "broken": broken,
        "diverged": bool(broken) and broken[-1] == last,
        "steered": any(event.kind == "lr" for event in events),
        "events": told[:MAX_EVENTS],
        "events_left_out": max(0, len(told) - MAX_EVENTS),
    }


def _recording(run: Run, events: list[Event]) -> dict[str, Any]:
    """The head timeline and the samples through time."""
    recording = Recording(run.dir)
    history: HeadHistory | None = None
    recorded: list[RecordedSample] = []
    problem = ""
    try:
        history, recorded = recording.head_history(), recording.samples()
    except (UserError, ValueError, KeyError) as error:  # the file, or what is in it
        problem = str(error) if isinstance(error, UserError) else "the recorded frames are damaged"
    finally:
        recording.close()
    births = [
        (e.step, e.data["layer"], e.data["head"], e.data["role"])
        for e in events
        if e.kind == "birth" and {"layer", "head", "role"} <= e.data.keys()
    ]
    panels, left_out = timeline_plots.head_panels(history, births) if history is not None else ([], 0)
    shown = set(thinned([sample.step for sample in recorded], MAX_SAMPLES))
    return {
        "recording_problem": problem,
        "panels": panels,
        "panels_left_out": left_out,
        "panel_size": (timeline_plots.PANEL_WIDTH, timeline_plots.PANEL_HEIGHT, timeline_plots.y_of_birth()),
        "n_frames": 0 if history is None else len(history.steps),
        "frame_steps": None if history is None else (int(history.steps[0]), int(history.steps[-1])),
        "births": births,
        "roles": heads.ROLES,
        "born": heads.BORN,
        "recorded": [sample for sample in recorded if sample.step in shown],
        "n_recorded": len(recorded),
    }


def _attention(attention: Attention) -> dict[str, Any]:
    """The maps of all heads."""
    n_layers, num_heads, length, _ = attention.weights.shape
    n = timeline_plots.tokens_shown(n_layers * num_heads, length)
    labels = [axis_label(token) for token in attention.tokens[:n]]
    maps = [
        {
            "layer": layer,
            "head": head,
            "png": timeline_plots.map_png(attention.weights[layer, head, :n, :n]),
            "role": heads.label(attention.scores[:, layer, head]),
            "scores": dict(zip(heads.SCORES, attention.scores[:, layer, head].tolist(), strict=True)),
        }
        for layer in range(n_layers)
        for head in range(num_heads)
    ]
    return {
        "maps": maps,
        "large_maps": len(maps) <= MAX_MAPS,
        "map_labels": labels,
        "map_margin": 8 + 4.6 * max(map(len, labels)),
        "map_text": "".join(attention.tokens[:n]),
        "text_problem": attention.problem,
        "map_broken": not np.isfinite(attention.weights).all(),
        "n_heads": num_heads,
        "shades": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in timeline_plots.shades(9)],
    }
