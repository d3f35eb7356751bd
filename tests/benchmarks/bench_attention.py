"""How long the attention pane takes to build its rows at 200x50:  pytest tests/benchmarks/bench_attention.py

Needs the extra `bench`. Not collected by a plain `pytest`: times are measured, not tested.
"""

import itertools

import pytest
from textual.app import App
from textual.geometry import Size

from minigpt_tui.widgets.attention import AttentionPane
from minigpt_tui.widgets.heatmap import ramp
from tests.scripted_session import TEXT, frame_of

INSIDE = Size(72, 36)
"""What the pane has for itself on a screen of 200x50."""
FRAMES = 8


@pytest.mark.parametrize("depth", ["256", "truecolor", "none"])
@pytest.mark.parametrize("mode", ["one", "all", "mean", "overview"])
@pytest.mark.parametrize("tokens", [64, 256])
def test_a_new_frame(benchmark, monkeypatch, tokens: int, mode: str, depth: str) -> None:
    """Each round brings another frame, so that nothing is on the screen already."""
    monkeypatch.setattr(AttentionPane, "size", INSIDE)
    monkeypatch.setattr(AttentionPane, "refresh", lambda *_, **__: None)
    with App()._context():
        pane = AttentionPane(ramp(depth, ascii=False))
        frames = itertools.cycle([frame_of(100 * n, (TEXT * 4)[:tokens]) for n in range(1, 1 + FRAMES)])
        pane.choice.mode = "one" if mode == "overview" else mode
        pane.whole = mode == "overview"
        benchmark(lambda: pane.update(next(frames)))
