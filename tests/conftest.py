"""Text and runs that the tests share. All text is made here or ships with Python."""

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SENTENCE = "the cat sat on a mat and the dog ran to a tree while birds sang in the old green garden"
WORDS = SENTENCE.split()


@pytest.fixture(scope="session", autouse=True)
def nobodys_preferences(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no program that it starts, reads or writes the user's own files; the app was opened before."""
    state: Path = tmp_path_factory.mktemp("state")
    (state / "minigpt-tui").mkdir()
    (state / "minigpt-tui" / "welcomed").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGPT_TUI_CONFIG", os.devnull)
        patch.setenv("XDG_STATE_HOME", str(state))
        runtime = str(tmp_path_factory.mktemp("runtime"))
        patch.setenv("XDG_RUNTIME_DIR", runtime)
        patch.setenv("TMPDIR", runtime)
        patch.setattr(tempfile, "tempdir", runtime)
        patch.setenv("MINIGPT_TUI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def text() -> str:
    """About 20 KB of simple sentences: quick to learn, the same every time."""
    rng = random.Random(0)
    lines = (" ".join(rng.choices(WORDS, k=rng.randint(4, 9))).capitalize() + ".\n" for _ in range(600))
    return "".join(lines)


@pytest.fixture
def text_file(tmp_path, text):
    path = tmp_path / "sentences.txt"
    path.write_text(text, encoding="utf-8")
    return path


TINY = {"n_layers": 2, "num_heads": 2, "embed_dim": 32, "seq_len": 16}
"""A model that trains a step in a few milliseconds."""
