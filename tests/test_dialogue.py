"""Conversations: who speaks in a text, and prompts made of whole turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_core.dialogue import LEAST_SPEECHES, Template, Turn, as_written, scene, speakers, unknown_speaker
from minigpt_core.errors import UsageError

PLAY = "ROMEO:\nAy me.\n\nJULIET:\nHist!\n\nROMEO:\nMy dear?\n\nFirst Citizen:\nSpeak: speak.\nThus:\n\n"
WORDS = st.text("abc {}\\:\n", max_size=12)
TURNS = st.lists(st.builds(Turn, WORDS, WORDS), max_size=6)


def test_speakers_are_names_alone_on_a_line_before_text_most_frequent_first():
    assert speakers(PLAY * 3, 9) == ("ROMEO", "JULIET", "First Citizen")
    assert speakers(PLAY * 3, 1) == ("ROMEO",)


def test_who_speaks_less_than_three_times_is_no_speaker():
    assert speakers(PLAY * 2, 9) == ("ROMEO",)
    assert speakers("", 9) == ()
    assert speakers("A:\nx\n\n" * LEAST_SPEECHES, 9) == ("A",)


@pytest.mark.parametrize("line", ["1st:\nx\n\n", "a: b\nx\n\n", "a:\n\nx\n\n", f"{'a' * 41}:\nx\n\n", ":\nx\n\n"])
def test_what_only_looks_like_a_speaker_is_none(line):
    assert speakers(line * 5, 9) == ()


def test_speeches_follow_a_blank_line_and_may_be_indented():
    assert speakers("x\nso he said:\ny\n" * 5, 9) == ()
    assert speakers("NAME:\n  text\n \n" * 5, 9) == ("NAME",)


def test_a_speaker_is_found_however_the_name_is_capitalised():
    names = ("ROMEO", "First Citizen")
    assert [as_written(name, names) for name in ("romeo", "FIRST citizen", "Romeoo", "")] == [*names, None, None]


def test_an_unknown_speaker_is_told_the_nearest_names():
    names = ("ROMEO", "JULIET", "Romero", "First Citizen")
    assert str(unknown_speaker("Romeoo", names)) == "Romeoo does not speak in this text; did you mean ROMEO or Romero?"
    assert "/chat lists" in str(unknown_speaker("xyz", names))


def test_the_default_template_is_a_play():
    template = Template()
    assert template.turn("ROMEO", "Hello", "JULIET") == "ROMEO:\nHello\n\nJULIET:\n"
    assert template.stop == "\n\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name}: {text}", "no {reply}"),
        ("{text}\n{reply}", "no {name}"),
        ("{name}\n{reply}", "no {text}"),
        ("{name}{text}{reply}", "nothing between"),
        ("{name} {text} {mood} {reply}", "unknown field {mood}"),
        ("{text} {name} {reply}", "in this order"),
        ("{name} {text} {reply} {text}", "once each"),
        ("", "no {name}"),
    ],
)
def test_a_template_that_does_not_do_says_what_it_needs(text, message):
    with pytest.raises(UsageError) as caught:
        Template(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(WORDS, WORDS, WORDS)
def test_what_people_say_is_never_taken_for_a_field(name, text, reply):
    assert Template("<{name}|{text}|{reply}>").turn(name, text, reply) == f"<{name}|{text}|{reply}>"


@given(TURNS, WORDS, st.integers(0, 200))
def test_a_prompt_is_the_newest_turns_that_fit_each_whole(turns, text, at_most):
    template = Template()
    prompt = scene(template, "A", "B", turns, text, at_most)
    whole = [template.turn("A", turn.text, "B") + turn.reply + "\n\n" for turn in turns]
    new = template.turn("A", text, "B")
    possible = ["".join(whole[n:]) + new for n in range(len(turns) + 1)]  # longest first
    fitting = [each for each in possible if len(each) <= at_most]
    assert prompt == (fitting[0] if fitting else new)
