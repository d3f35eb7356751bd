"""Slash commands: what they change, what they refuse, how tab completes them, and the settings' steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UsageError
from minigpt_core.status import Note, Pause, Resume, Save, ScaleLearningRate, SetEvalEvery, SetSampleEvery
from minigpt_tui.widgets import slash
from minigpt_tui.widgets.settings_editor import FIELDS, SEPARATOR, SettingsEditor, shown, summary

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
    made, said = slash.STEERING[name].make(value)
    assert made == command
    assert said


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
        assert any(number == field for number, _ in shown(editor.config, field, 20))


def test_a_step_up_and_down_comes_back():
    for field in range(len(FIELDS)):
        editor = SettingsEditor(SampleConfig(temperature=0.8, top_p=0.9, top_k=40, min_p=0.1, seed=3, num_samples=2))
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
    assert dict(shown(editor.config, field))[field] == text


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
    texts = [text for _, text in shown(config, None, columns)]
    assert [text for text in everything if text in texts] == texts
    assert len(SEPARATOR.join(texts)) <= columns
    assert not texts or texts[0] == "T 0.8"
