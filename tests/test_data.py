"""The cache's budget, and the command that shows, prepares and removes texts."""

import gc
import json
import os
import sys

import pytest

from minigpt_core import cache as cache_module
from minigpt_core import corpus
from minigpt_core.cache import budget, items
from minigpt_core.corpus import load_encoded
from minigpt_core.errors import UsageError, UserError
from minigpt_core.parts import PART
from minigpt_core.text_report import describe, label, texts
from minigpt_tui import cli


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_TUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus, "LARGE", 1)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "cache"


@pytest.fixture
def call(monkeypatch, capsys):
    """The command, in this process: (exit code, output, errors)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["minigpt-tui", "data", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code, *capsys.readouterr()

    return run


def write(name, size):
    with open(name, "w") as file:
        file.write((name * size)[:size])
    os.utime(name, (10**9, 10**9))
    return name


def sources():
    return [entry["source"].rpartition("/")[2] for entry in texts()["cache"] if entry["kind"] == "tokens"]


def encode_at(name, seconds):
    """Encoded and let go; used last at that time."""
    entry = load_encoded(name).identity["cache"]
    gc.collect()
    for item in items():
        if item.name == entry:
            os.utime(item.paths[0], (seconds, seconds))


# --- the budget ---


@pytest.mark.parametrize(
    ("said", "n_bytes"),
    [("20GB", 20 * 10**9), ("500 mb", 5 * 10**8), ("1.5k", 1500), ("7", 7), ("2T", 2 * 10**12), ("", 20 * 10**9)],
)
def test_a_budget_in_words(said, n_bytes, monkeypatch):
    monkeypatch.setenv("MINIGPT_TUI_CACHE_SIZE", said)
    assert budget() == n_bytes


@pytest.mark.parametrize("said", ["much", "-1GB", "1 2", "GB", "1e9", "1PB"])
def test_what_is_no_budget(said, monkeypatch):
    monkeypatch.setenv("MINIGPT_TUI_CACHE_SIZE", said)
    with pytest.raises(UsageError, match=r"MINIGPT_TUI_CACHE_SIZE=.* is no size; write 500MB or 20GB"):
        budget()


def test_what_was_used_longest_ago_makes_room(monkeypatch):
    monkeypatch.setenv("MINIGPT_TUI_CACHE_SIZE", "40K")
    for i, name in enumerate(["a", "b", "c"]):
        encode_at(write(name, 10_000), 1_000_000 + i)
    assert sources() == ["c", "b", "a"]
    load_encoded("a")  # used again
    gc.collect()
    load_encoded(write("d", 10_000))
    assert sorted(sources()) == ["a", "c", "d"]


def test_what_is_mapped_stays(monkeypatch):
    monkeypatch.setenv("MINIGPT_TUI_CACHE_SIZE", "25K")
    held = load_encoded(write("a", 10_000)).tokens[5:10]  # a view holds it as well
    encode_at(write("b", 10_000), 2_000_000_000)
    load_encoded(write("c", 10_000))
    assert sorted(sources()) == ["a", "c"]
    assert len(held) == 5
    del held
    gc.collect()
    load_encoded(write("d", 10_000))
    assert "a" not in sources()


def test_a_text_larger_than_the_budget_is_refused_with_the_way_out(monkeypatch, cache):
    monkeypatch.setenv("MINIGPT_TUI_CACHE_SIZE", "5K")
    with pytest.raises(UserError, match=r"takes 0.0 MB of the cache, .* allow more: MINIGPT_TUI_CACHE_SIZE=\dGB"):
        load_encoded(write("a", 10_000))
    assert sources() == []


def test_unfinished_work_goes_too_unless_somebody_is_at_it(monkeypatch, cache):
    monkeypatch.setenv("MINIGPT_TUI_CACHE_SIZE", "15K")
    cache.mkdir()
    (cache / "unpacked-dead.txt").write_bytes(b"x" * 9000)
    for name in ("dead", "live"):
        (cache / f"{name}.work").mkdir()
        (cache / f"{name}.work" / "lock").touch()
        (cache / f"{name}.work" / "0-1-2.part").write_bytes(b"x" * 3000)
    with (cache / "live.work" / "lock").open("wb") as lock:
        cache_module.flock(lock, cache_module.LOCK_EX)
        load_encoded(write("a", 12_000))
        assert [item.name for item in items() if item.kind == "unfinished"] == ["live.work"]


def test_no_part_is_so_large_that_memory_would_matter():
    assert PART <= 2**26


# --- the command ---


def test_a_text_is_shown(call):
    write("a.txt", 2000)
    code, out, _ = call("show", "a.txt")
    assert code == 0
    for said in ("2,000 bytes", "2,000, 4 different", "1,800 to train on, 200 to validate", "5-gram", "a 400×"[0:1]):
        assert said in out
    code, out, _ = call("show", "a.txt", "--json")
    said = json.loads(out)
    assert said == describe(load_encoded("a.txt")) | {"cache": said["cache"]}
    assert said["distinct_characters"] == said["vocab_size"] == 4
    assert sum(rare["times"] for rare in said["rarest"]) == said["characters"] == said["tokens"] == 2000
    assert [rung["name"] for rung in said["ngrams"]][:2] == ["uniform", "unigram"]
    assert said["ngrams"][0]["bits_per_byte"] == pytest.approx(2)


def test_numbers_of_a_known_text(call):
    with open("known.txt", "w", encoding="utf-8") as file:
        file.write("aab" * 30 + "é")
    _, out, _ = call("show", "known.txt", "--json")
    said = json.loads(out)
    assert (said["bytes"], said["characters"], said["distinct_characters"]) == (92, 91, 3)
    assert said["rarest"] == [{"character": c, "times": n} for c, n in (("é", 1), ("b", 30), ("a", 60))]


def test_a_text_too_short_to_count_is_shown_all_the_same(call):
    write("x", 3)
    code, out, _ = call("show", "x", "--json")
    assert code == 0
    assert json.loads(out)["ngrams"] is None


def test_a_short_text_can_be_prepared(call, monkeypatch):
    monkeypatch.setattr(corpus, "LARGE", 2**24)
    write("a.txt", 3000)
    assert call("show", "a.txt")[0] == 0
    assert sources() == []
    code, out, _ = call("prepare", "a.txt")
    assert code == 0
    assert "3,000" in out
    assert sources() == ["a.txt"]
    assert load_encoded("a.txt").identity["cache"], "training uses it"


def test_the_list_says_what_is_there(call, cache):
    write("a.txt", 3000)
    call("prepare", "a.txt")
    for words in ((), ("list",)):
        code, out, _ = call(*words)
        assert code == 0
        assert "built in" in out
        assert "to download, 36.4 MB" in out
        assert "a.txt" in out
        assert "3,000" in out
    (_, out, _) = call("--json")
    said = json.loads(out)
    assert {text["name"] for text in said["names"]} == {"pydocs", "repeats", "shakespeare", "enwik8"}
    assert said["cache"][0]["tokens"] == 3000


@pytest.mark.parametrize("by", ["label", "beginning", "source"])
def test_an_entry_is_removed(call, by):
    write("a.txt", 3000)
    write("b.txt", 3000)
    call("prepare", "a.txt")
    call("prepare", "b.txt")
    gc.collect()
    item = next(item for item in items() if item.name == load_encoded("a.txt").identity["cache"])
    gc.collect()
    name = {"label": label(item), "beginning": item.name[:6], "source": os.path.abspath("a.txt")}[by]
    code, out, err = call("remove", name)
    assert (code, out, err) == (0, f"removed {label(item)}\n", "")
    assert sources() == ["b.txt"]
    code, out, _ = call("remove", "--all")
    assert code == 0
    assert sources() == []


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["remove", "nothing"], 2, "the cache holds no 'nothing'; list what it holds: minigpt-tui data"),
        (["remove"], 2, "name what to remove"),
        (["remove", "x", "--all"], 2, "name what to remove"),
        (["show", "enwik9"], 2, "did you mean 'enwik8'?"),
        (["show", "a.txt", "--encoding", "latin"], 0, ""),
        (["show", "a.txt", "--encoding", "klingon"], 2, "no such encoding: 'klingon'"),
    ],
)
def test_errors_are_a_line(call, words, code, told):
    write("a.txt", 3000)
    left, _, err = call(*words)
    assert left == code
    assert told in err
    assert err.count("\n") == (code > 0)


def test_what_is_in_use_is_not_removed(call):
    held = load_encoded(write("a.txt", 3000))
    code, _, err = call("remove", "--all")
    assert code == 1
    assert "is in use; end what works on it first" in err
    assert sources() == ["a.txt"]
    del held
