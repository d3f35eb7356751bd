"""Slash commands: what they change, what they refuse, how tab completes them, and the settings' steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UsageError
from minigpt_core.status import Note, Pause, Resume, Save, ScaleLearningRate, SetEvalEvery, SetSampleEvery
from minigpt_tui.widgets import slash
from minigpt_tui.widgets.settings_editor import FIELDS, SEPARATOR, SettingsEditor, shown, summary

WHOLE = SampleConfig(temperature=0.8, top_p=0.9, top_k=40, min_p=0.1, seed=3, num_samples=2)

NAMES = ("ROMEO", "JULIET", "First Citizen", "Romulus")


def test_several_temperatures_side_by_side_and_back_to_one():
    several = slash.apply("/temp 0.5 0.8, 1.2", SampleConfig())
    assert several.rows == (0.5, 0.8, 1.2)
    assert slash.apply("/temp 0.7", several).rows == (0.7,)
    assert slash.apply("/samples 2", several).rows == (0.5, 0.5)
    assert slash.apply("/temp 0.5 0.5", SampleConfig()).rows == (0.5,)


@pytest.mark.parametrize("text", ["/temp 0.5 hot", "/temp -1 1", "/temp nan 1", "/temp " + "1 " * 9, "/temp ,"])
def test_bad_temperatures_are_one_clear_line(text):
    with pytest.raises(UsageError) as caught:
        slash.apply(text, SampleConfig())
    assert str(caught.value).startswith("/temp: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "command"),
    [
        ("pause", "", Pause()),
        ("resume", "", Resume()),
        ("save", "", Save()),
        ("lr", "0.5", ScaleLearningRate(0.5)),
        ("lr", "×2", ScaleLearningRate(2.0)),
        ("eval", "1,000", SetEvalEvery(1000)),
        ("samples-every", "0", SetSampleEvery(0)),
        ("note", "lr halved here", Note("lr halved here")),
    ],
)
def test_steering_commands(name, value, command):
    assert slash.STEERING[name].make(value) == command


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("lr", value) for value in ("", "0", "nan", "fast")],
        *[("eval", value) for value in ("0", "often")],
        *[("samples-every", value) for value in ("-1", "9" * 30)],
        ("note", ""),
    ],
)
def test_steering_refuses_what_does_not_do_with_an_example(name, value):
    with pytest.raises(UsageError, match=f"/{name}: .*for example"):
        slash.STEERING[name].make(value)


@pytest.mark.parametrize(("typed", "meant"), [("pasue", "pause"), ("tmep", "temp"), ("chta", "chat"), ("evla", "eval")])
def test_unknown_commands_offer_the_nearest(typed, meant):
    with pytest.raises(UsageError, match=f"did you mean /{meant}"):
        slash.apply(f"/{typed}", SampleConfig())


def test_help_names_every_command():
    for name in slash.COMMANDS:
        assert f"/{name}" in slash.HELP


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ("/te", ["/temp ", "/template "]),
        ("/PAU", ["/pause"]),
        ("/chat R", ["/chat ROMEO", "/chat Romulus"]),
        ("/chat first", ["/chat First Citizen"]),
        ("/chat ROMEO as r", ["/chat ROMEO as Romulus"]),
        ("/chat romeo ", ["/chat ROMEO as "]),
        ("/chat o", ["/chat off"]),
        ("/temp 0", []),
        ("/xyz", []),
        ("//te", []),
        ("te", []),
    ],
)
def test_completion(text, candidates):
    assert slash.complete(text, NAMES) == candidates


def test_what_candidates_have_in_common():
    assert slash.common(["/temp ", "/template "]) == "/temp"
    assert slash.common(["/chat ROMEO", "/chat Romulus"]) == "/chat ROM"
    assert slash.common(["/save"]) == "/save"


# --- the settings in the title ---


@given(st.lists(st.tuples(st.integers(0, len(FIELDS) - 1), st.sampled_from([-1, 1])), max_size=60))
def test_any_steps_give_settings_that_hold_and_are_shown(steps):
    editor = SettingsEditor(SampleConfig(temperatures=(0.1, 1.95), top_k=7, repetition_penalty=0.8, seed=2))
    for field, by in steps:
        editor.chosen = field
        before = editor.config
        assert editor.change(by) == (editor.config != before)
        assert SampleConfig.from_dict(editor.config.to_dict()) == editor.config
        assert any(number == field for number, _ in editor.shown(20))


def test_a_step_up_and_down_comes_back():
    for field in range(len(FIELDS)):
        editor = SettingsEditor(WHOLE)
        editor.chosen = field
        before = editor.config
        assert editor.change(1)
        assert editor.change(-1)
        assert editor.config == before


@pytest.mark.parametrize(
    ("field", "config", "by", "text"),
    [
        (0, SampleConfig(temperature=0.85), 1, "T 0.9"),
        (0, SampleConfig(temperature=0), -1, "T 0"),
        (0, SampleConfig(temperatures=(0.5, 1.0)), 1, "T 0.6 1.1"),
        (0, SampleConfig(temperatures=(0.0, 0.1)), -1, "T 0 0.1"),  # they would become one
        (1, SampleConfig(max_new_tokens=200), 1, "400 tokens"),
        (2, SampleConfig(top_k=200), 1, "top-k all"),
        (2, SampleConfig(top_k=0), -1, "top-k 200"),
        (2, SampleConfig(top_k=0), 1, "top-k all"),
        (6, SampleConfig(), 1, "seed 0"),
        (6, SampleConfig(seed=0), -1, "seed random"),
        (6, SampleConfig(), -1, "seed random"),
        (7, SampleConfig(), -1, "1 sample"),
        (7, SampleConfig(temperatures=(0.5, 1.0)), 1, "3 samples"),
    ],
)
def test_steps_are_sensible(field, config, by, text):
    editor = SettingsEditor(config)
    editor.chosen = field
    editor.change(by)
    assert dict(editor.shown())[field] == text


@pytest.mark.parametrize(
    ("field", "typed", "text"),
    [
        (0, "0.85", "T 0.85"),
        (0, "0.5 1.2", "T 0.5 1.2"),
        (1, "1000", "1,000 tokens"),
        (2, "0", "top-k all"),
        (3, ".5", "top-p 0.5"),
        (4, "0.07", "min-p 0.07"),
        (5, "1.25", "penalty 1.25"),
        (6, "20261123", "seed 20261123"),
        (7, "1", "1 sample"),
    ],
)
def test_what_is_typed_in_a_field_becomes_its_value(field, typed, text):
    editor = SettingsEditor(WHOLE)
    editor.chosen = field
    for character in typed:
        editor.type(character)
    assert typed in dict(editor.shown())[field]
    assert editor.config == WHOLE  # not before it is taken
    assert editor.take()
    assert dict(editor.shown())[field] == text


@pytest.mark.parametrize(
    ("field", "typed"), [(0, "-1"), (0, "."), (1, "0"), (1, "1.5"), (1, "99999"), (3, "2"), (6, "-3"), (7, "9")]
)
def test_a_typed_value_that_does_not_do_says_why_and_leaves_the_old_one(field, typed):
    editor = SettingsEditor(WHOLE)
    editor.chosen = field
    for character in typed:
        editor.type(character)
    with pytest.raises(UsageError, match=f"^/{FIELDS[field].command}: .+"):
        editor.take()
    assert editor.config == WHOLE
    assert editor.typed is None


@pytest.mark.parametrize(("field", "left"), [(0, "T 0._"), (1, "20_ tokens"), (6, "seed _"), (7, "_ samples")])
def test_backspace_takes_from_the_number_that_stands_there(field, left):
    editor = SettingsEditor(WHOLE)
    editor.chosen = field
    editor.erase()
    assert dict(editor.shown())[field] == left


def test_nothing_typed_is_a_random_seed_and_else_the_old_value():
    for field in range(len(FIELDS)):
        editor = SettingsEditor(WHOLE)
        editor.chosen = field
        for _ in range(9):
            editor.erase()
        assert editor.take() == (FIELDS[field].command == "seed")
        assert editor.config == (WHOLE.replace(seed=None) if FIELDS[field].command == "seed" else WHOLE)


@pytest.mark.parametrize("columns", [200, 74, 34, 20])
def test_every_field_can_be_reached_and_the_chosen_one_is_in_view(columns):
    editor = SettingsEditor(WHOLE)
    for chosen in range(len(FIELDS)):
        editor.chosen = chosen
        found = editor.shown(columns)
        numbers = [number for number, _ in found if number is not None]
        assert chosen in numbers
        assert len(SEPARATOR.join(text for _, text in found)) <= columns
        assert (found[0][0] is None) == (numbers[0] > 0)  # a mark where there are more
        assert (found[-1][0] is None) == (numbers[-1] < len(FIELDS) - 1)


def test_choosing_goes_around():
    editor = SettingsEditor(SampleConfig())
    editor.chosen = 0
    editor.choose(-1)
    assert editor.chosen == len(FIELDS) - 1
    editor.choose(1)
    assert editor.chosen == 0


@given(st.integers(0, 120))
def test_what_has_no_room_leaves_whole_the_temperature_last(columns):
    config = SampleConfig(min_p=0.1, seed=7, num_samples=3, stop=("Al", "x\n"))
    everything = summary(config).split(SEPARATOR)
    texts = [text for _, text in shown(config, columns)]
    assert [text for text in everything if text in texts] == texts
    assert len(SEPARATOR.join(texts)) <= columns
    assert not texts or texts[0] == "T 0.8"
