"""Nothing that is shown can steer a terminal."""

import unicodedata

import pytest
import wcwidth
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from minigpt_tui.safetext import MARKS, SafeStream, safe, token_label

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=80)  # surrogates too
DANGEROUS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(ANYTHING, st.booleans())
def test_nothing_dangerous_passes_and_twice_is_once(text, newlines):
    shown = safe(text, newlines=newlines)
    assert all(c == "\n" or unicodedata.category(c) not in DANGEROUS for c in shown)
    assert newlines or "\n" not in shown
    assert safe(shown, newlines=newlines) == shown


@given(
    st.text(
        st.characters(categories=("L", "N", "P", "S", "Zs")).filter(lambda c: not "\U0001f1e6" <= c <= "\U0001f3ff"),
        max_size=80,
    )
)
def test_printable_text_is_left_alone(text):
    assert safe(text) == text


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2J", "␛[2J"),
        ("\x1b]52;c;aGk=\x07", "␛]52;c;aGk=␇"),
        ("\x9b31m", "\N{REPLACEMENT CHARACTER}31m"),
        ("abc\u202edef", "abc\N{REPLACEMENT CHARACTER}def"),
        ("a\u200bb", "a\N{REPLACEMENT CHARACTER}b"),
        ("a\r\nb\rc", "a\nb␍c"),
        ("\x00\x7f", "␀␡"),
        ("e" + "\u0301" * 50, "e" + "\u0301" * 3),
        ("\U0001f1e9\U0001f1ea \u2764\ufe0f \U0001f44d\U0001f3fd", "DE \u2764 \U0001f44d\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_known_attacks(hostile, shown):
    assert safe(hostile) == shown


def test_a_single_line_stays_one():
    assert safe("a\nb\tc", newlines=False) == "a⏎b⇥c"
    assert safe("a\tb") == "a    b"


@given(ANYTHING.filter(bool))
def test_a_label_is_always_something_to_see(text):
    assert cell_len(token_label(text)) >= 1
    assert not any(c.isspace() for c in token_label(text) if c in " \n\t")


def test_white_space_is_visible_in_labels():
    assert [token_label(c) for c in " \n\ta"] == ["␣", "⏎", "⇥", "a"]


@pytest.mark.parametrize("mark", "\u0301\u0488\u0e31\u034f\u11a8\U000e0101")
def test_what_has_no_cell_cannot_pile_up(mark):
    assert safe("a" + mark * 500) == token_label("a" + mark * 500) == "a" + mark * MARKS
    assert token_label(mark) == "◌" + mark


@given(ANYTHING)
def test_columns_are_counted_alike_character_by_character(text):
    """Here, by Textual, which draws it, and by terminals that know nothing of clusters."""
    for line in safe(text).split("\n"):
        assert cell_len(line) == sum(map(cell_len, line)) == sum(wcwidth.wcwidth(c) for c in line)


@given(st.lists(st.text(st.sampled_from("a\r\n\t \u0301\ufe0f\x1b\U0001f3fd"), max_size=5) | ANYTHING, max_size=8))
def test_pieces_give_what_the_whole_gives(pieces):
    stream = SafeStream()
    assert "".join(map(stream.feed, pieces)) + stream.flush() == safe("".join(pieces))
