"""Text that would steer a terminal, in everything that the app and `generate` show."""

from contextlib import suppress

import pyte
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt_core.errors import UsageError
from minigpt_core.reading import encode_json
from minigpt_core.rundir import RunDir
from minigpt_core.runlog import RunLog
from minigpt_core.status import Event
from minigpt_core.tail import read_events
from minigpt_tui import preferences, prompt_history
from tests.faults.text import ANY, Strict, check_bytes, check_pure, examples, show


@given(ANY)
@settings(deadline=None)
def test_what_is_shown_steers_nothing(text):
    check_pure(text)


def test_the_app_writes_no_sequence_that_a_text_asks_for():
    strings = examples(60, 3)
    data, wrong = show(strings, 3)
    assert wrong == []
    assert check_bytes(data, strings) == []
    screen = Strict()
    pyte.ByteStream(screen).feed(data)
    assert screen.asked == []


def test_the_checks_would_find_what_they_look_for():
    asked = "\x1b]0;7713\x07\x1b[7713m\x07\u202e#00000"
    assert len(check_bytes(asked.encode(), [""])) == 4
    screen = Strict()
    pyte.ByteStream(screen).feed(asked.encode())
    assert screen.asked == ["icon '7713'", "title '7713'", "colour", "bell"]


@given(st.binary(max_size=60) | st.sampled_from([b"[" * 100_000, b'"\xff"', b"9" * 5000, b"a=" + b"[" * 9999]))
@settings(deadline=None, max_examples=60)
def test_files_of_the_user_never_stop_the_app(data):
    assert isinstance(prompt_history.read(data + b'\n"kept"\n'), list)
    with suppress(UsageError):
        preferences.read(data)


def test_a_prompt_after_a_damaged_line_is_still_there():
    assert prompt_history.read(b'"\xff"\n' + b"[" * 100_000 + b'\n"kept"\n') == ["kept"]


def test_text_that_no_file_can_hold_is_kept_as_far_as_it_can_be(tmp_path):
    file = tmp_path / "prompts.jsonl"
    prompt_history.append(file, "a\ud800b")
    assert prompt_history.read(file.read_bytes()) == ["a\N{REPLACEMENT CHARACTER}b"]
    log = RunLog(RunDir(tmp_path))
    log.event(Event(kind="note", step=1, time=1.0, message="a\udcff", data={"prompt": ["\udcff"]}))
    log.close()
    (event,) = read_events(RunDir(tmp_path))
    assert (event.message, event.data) == ("a\N{REPLACEMENT CHARACTER}", {"prompt": ["\N{REPLACEMENT CHARACTER}"]})
    assert encode_json("ü") == b'"\xc3\xbc"'
