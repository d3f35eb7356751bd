"""Small runs made in this process, and the program called in it: what tests of commands on runs share."""

import sys
from pathlib import Path

import pytest

from minigpt_core.plan import Request, prepare
from minigpt_tui import cli
from tests.conftest import TINY


def make_run(text: Path, out: Path, name: str, model=None, **train) -> Path:
    """Train a run to its end, without pictures."""
    settings = {"steps": 20, "eval_every": 10, "batch_size": 4, "device": "cpu", "threads": 1, **train}
    plan = prepare(Request(data=str(text), model={**TINY, **(model or {})}, train=settings, name=name, out=str(out)))
    list(plan.build())
    plan.release()
    return plan.run.path


def caller(monkeypatch, capsys, place: Path):
    """Call the program standing in `place`: (exit code, output, errors)."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.chdir(place)
        monkeypatch.setattr(sys, "argv", ["minigpt-tui", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code, *capsys.readouterr()

    return call


def one_line(result: tuple[int, str, str]) -> str:
    """The line of a call that is refused, or fails, as it must."""
    code, out, err = result
    assert code in (1, 2), result
    assert out == ""
    assert err.startswith("minigpt-tui: ")
    assert err.count("\n") == 1
    return err
