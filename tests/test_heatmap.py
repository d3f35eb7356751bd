"""The attention picture: levels, masks, ramps, reduction; numbers in, strips out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import Color, ColorSystem

from minigpt_tui.widgets import heatmap
from minigpt_tui.widgets.heatmap import GLYPHS, MASKED, levels, overview, ramp, strips
from tests.scripted_session import weights


def lightness(code: str) -> float:
    red, green, blue = (int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colours", [heatmap.CIVIDIS, heatmap.RAMP_256])
def test_ramps_grow_lighter_at_every_step(colours: list[str]) -> None:
    values = [lightness(code) for code in colours]
    assert all(a < b for a, b in itertools.pairwise(values))


def test_the_256_ramp_is_exact_in_256_colours_and_zero_is_not_the_background() -> None:
    shown = [Color.parse(f"#{code}").downgrade(ColorSystem.EIGHT_BIT) for code in heatmap.RAMP_256]
    assert [c.get_truecolor().hex.lstrip("#") for c in shown] == heatmap.RAMP_256
    assert f"#{heatmap.RAMP_256[0]}" != heatmap.BACKGROUND


def test_levels_are_square_roots_and_the_future_is_masked() -> None:
    p = np.array([[1.0, 0.9, 0.9], [0.25, 0.75, 0.9], [0.0, 0.01, 0.99]])
    got = levels(p, 10)
    assert got[0].tolist() == [9, MASKED, MASKED]
    assert got[1, 0] == 5
    assert got[2].tolist() == [0, 1, 9]
    # A part of a map masks by its place in the whole.
    assert levels(p, 10, queries=np.arange(2, 6)).min() >= 0


def test_levels_survive_values_that_are_not_finite() -> None:
    got = levels(np.array([[np.nan, 0], [np.inf, -np.inf]]), 10)
    assert got.max() <= 9
    assert got[1].min() >= 0


def test_half_blocks_show_two_queries_a_row_in_runs() -> None:
    look = ramp("256", ascii=False)
    level = np.full((4, 30), 3, np.int16)
    level[2:, 10:] = 5
    level[3, 10:] = 7
    rows = strips(level, look)
    assert [row.cell_length for row in rows] == [30, 30]
    assert len(list(rows[0])) == 1  # one colour, one run
    assert [segment.text for segment in rows[1]] == [" " * 10, "▀" * 20]


@pytest.mark.parametrize(("depth", "ascii"), [("16", False), ("none", False), ("truecolor", True)])
def test_without_colours_glyphs_say_how_much(depth: heatmap.Depth, ascii: bool) -> None:
    look = ramp(depth, ascii)
    rows = strips(levels(np.array([[1.0, 0.0], [0.0, 1.0]]), look.n), look)
    assert rows[1].text == GLYPHS[0] + GLYPHS[-1]
    assert all(row.text.isascii() for row in rows)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 70), st.integers(1, 70))
def test_overview_keeps_the_mass_of_every_row(tokens: int, side: int) -> None:
    small = overview(weights(tokens, step=0, layers=1, heads=1)[0, 0], side)
    assert small.shape == (min(tokens, side),) * 2
    np.testing.assert_allclose(small.sum(axis=1), 1.0, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 40), st.sampled_from(["truecolor", "256", "16", "none"]))
def test_every_row_has_the_width_it_was_given(queries: int, keys: int, depth: heatmap.Depth) -> None:
    look = ramp(depth, ascii=False)
    rng = np.random.default_rng(queries * 100 + keys)
    rows = strips(levels(rng.random((queries, keys)), look.n), look)
    assert {row.cell_length for row in rows} == {keys}
    assert sum(len(s.text) for row in rows for s in row) == keys * len(rows)
