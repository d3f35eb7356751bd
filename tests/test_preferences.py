"""The preferences file: what it sets, what goes before it, and the one line for whatever is wrong in it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from minigpt_core.errors import UsageError
from minigpt_tui import preferences
from minigpt_tui.keymap import catalogue, checked, normal, together, toml, written
from minigpt_tui.preferences import Preferences, flat, load, read
from minigpt_tui.terminal import decide

TTY = {"standard input": True, "standard output": True}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    path.touch()
    monkeypatch.setenv(preferences.VARIABLE, str(path))
    return path


def test_no_file_is_all_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(preferences.VARIABLE)
    monkeypatch.setattr(preferences.platformdirs, "user_config_dir", lambda *a, **k: str(tmp_path / "none"))
    assert load() == Preferences()
    terminal = decide({"TERM": "xterm-256color", "LANG": "C.UTF-8"}, TTY, load())
    found = (terminal.theme, terminal.color, terminal.ascii, terminal.mouse, terminal.low_bandwidth)
    assert found == ("dark", "256", False, True, False)
    assert terminal.keys == {}


def test_the_command_line_goes_before_the_file(file: Path) -> None:
    file.write_text('theme = "light"\ncolor = "16"\nmouse = false\nlow_bandwidth = true\n')
    likes = load(Preferences(color="none", mouse=True))
    assert likes == Preferences(theme="light", color="none", mouse=True, low_bandwidth=True)
    terminal = decide({"TERM": "xterm-256color", "LANG": "C.UTF-8"}, TTY, likes)
    assert (terminal.theme, terminal.color, terminal.mouse, terminal.low_bandwidth) == ("light", "none", True, True)


def test_a_variable_that_names_no_file_is_said(file: Path) -> None:
    file.unlink()
    with pytest.raises(UsageError, match=r"config\.toml.*not there"):
        load()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("theme = light", "not a TOML file: .*line 1"),
        ('theem = "light"', "unknown entry 'theem'; did you mean 'theme'"),
        ('theme = "ligth"', "unknown theme 'ligth'; did you mean 'light'"),
        ('color = "truecolour"', "unknown colour depth 'truecolour'; did you mean 'truecolor'"),
        ('mouse = "no"', "mouse: expected `bool"),
        ("keys = 3", "keys: expected `object"),
        ("[keys]\nrun.pause = 3", "expected `str"),
        ('[keys]\nrun.puase = "p"', r"\[keys\] unknown binding 'run.puase'; did you mean 'run.pause'"),
        ('[keys]\nrun.pause = "ctlr+p"', r"run.pause = 'ctlr\+p': unknown key 'ctlr\+p'; did you mean 'ctrl\+p'"),
        ('[keys]\nrun.pause = "p,"', "no key between the commas"),
        ('[keys]\nrun.pause = "p,p"', "a key said twice"),
        ('[keys]\nrun.pause = "n"', "run.pause: 'n' is the key of run.step .* at the same time"),
        ('[keys]\nrun.pause = "p"\nrun.step = "p"', "'p' is the key of run"),
        ('[keys]\nrun.pause = "ctrl+q"', "is the key of app.quit"),
        ('[keys]\nrun.pause = "p"\nrun.pause = "u"', "not a TOML file"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_file_and_the_entry(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        load()
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_all_mistakes_among_the_keys_are_told_at_once(file: Path) -> None:
    file.write_text('[keys]\nrun.puase = "p"\nrun.step = "ctlr+p"\nloss.log = "u2"\nrun.save = "n"')
    with pytest.raises(UsageError) as caught:
        load()
    for said in ("'run.pause'", "'ctrl+p'", "did you mean 'chart.log'", "run.save: 'n' is the key of run.step"):
        assert said in str(caught.value)


@pytest.mark.parametrize("command", ["keys", "doctor"])
def test_what_helps_to_mend_the_file_works_while_it_is_broken(file: Path, command: str) -> None:
    file.write_text('[keys]\nrun.puase = "p"')
    ended = run(command)
    assert ended.returncode == 0
    assert "did you mean 'run.pause'" in " ".join((ended.stderr + ended.stdout).split())


def test_a_key_may_move_to_where_another_has_left() -> None:
    assert checked({"run.save": "n", "run.step": "s"}) == {"run.save": "n", "run.step": "s"}


def test_bindings_that_are_never_active_together_may_share_a_key() -> None:
    known = catalogue()
    assert not together(known["timeline.back"], known["gallery.up"])
    assert together(known["timeline.back"], known["run.pause"])
    assert together(known["timeline.back"], known["app.quit"])
    assert checked({"timeline.back": "j", "gallery.up": "j"})
    with pytest.raises(UsageError, match="is the key of run"):
        checked({"timeline.back": "n"})


def test_keys_are_written_as_people_type_them() -> None:
    for typed, name in {"?": "question_mark", "[": "left_square_bracket", "/": "slash", "P": "P"}.items():
        assert normal(typed, "") == name
        assert written(name) == typed
    for name in ("ctrl+s", "pageup", "comma", "space", "f5", "shift+tab"):
        assert normal(written(name), "") == name


def test_every_binding_of_the_project_has_an_id_and_is_described() -> None:
    import importlib
    import pkgutil

    from textual.binding import Binding
    from textual.dom import DOMNode

    import minigpt_tui

    without = set()
    for module in pkgutil.walk_packages(minigpt_tui.__path__, "minigpt_tui."):
        if any(part in module.name for part in (".screens.", ".widgets.", ".app")):
            for each in vars(importlib.import_module(module.name)).values():
                if isinstance(each, type) and issubclass(each, DOMNode) and each.__module__.startswith("minigpt_tui"):
                    for binding in each.__dict__.get("BINDINGS", ()):
                        if not isinstance(binding, Binding) or not binding.id or not binding.description:
                            without.add((each.__name__, str(binding)))
    assert not without
    for entry in catalogue().values():
        assert entry.description[0] not in "ABCDEFGHIJKLMNOPQRSTUVWXYZ", entry


def test_the_printed_keys_can_be_pasted_and_change_nothing() -> None:
    printed = toml({})
    pasted = flat(tomllib.loads(printed)["keys"])
    assert pasted.keys() == catalogue().keys()
    assert read(printed.encode()).keys == {name: ",".join(entry.keys) for name, entry in catalogue().items()}
    assert 'run.pause = "p"' in toml({"run.pause": "p"})


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from minigpt_tui.cli import main; main()", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | env, timeout=60)


def test_a_bad_file_stops_a_command_before_anything_is_made(file: Path, tmp_path: Path) -> None:
    file.write_text('[keys]\nrun.puase = "p"')
    ended = run("train", "--data", "repeats", "--steps", "1", "--out", str(tmp_path / "runs"))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "did you mean 'run.pause'" in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_keys_prints_what_the_file_has_made_of_them(file: Path) -> None:
    file.write_text('[keys]\nrun.pause = "f2"')
    ended = run("keys")
    assert ended.returncode == 0
    assert str(file) in ended.stdout.splitlines()[0]
    assert 'run.pause = "f2"' in ended.stdout


def test_doctor_names_the_file_and_what_it_sets(file: Path) -> None:
    from minigpt_tui.doctor import preferred

    file.write_text('theme = "light"\nmouse = false\n[keys]\nrun.pause = "f2"')
    rows = preferred(file, load())
    assert rows[0] == ("file", str(file), "")
    assert [row[:2] for row in rows[1:]] == [("theme", "light"), ("mouse", "false"), ("key", "run.pause = f2")]
    assert "not there" in preferred(file.parent / "none", Preferences())[0][2]


def test_the_first_time_is_noted_once_and_costs_nothing_where_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preferences.platformdirs, "user_state_dir", lambda *a, **k: str(tmp_path / "a" / "b"))
    assert preferences.first_time()
    assert not preferences.first_time()
    (tmp_path / "file").touch()
    monkeypatch.setattr(preferences.platformdirs, "user_state_dir", lambda *a, **k: str(tmp_path / "file" / "b"))
    assert not preferences.first_time()
