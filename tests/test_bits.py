"""Bits a byte, and runs with each kind of tokenizer from the first step to a resumed one."""

import math
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from minigpt_core import bits
from minigpt_core.bits import bits_per_byte, tokens_per_byte, with_bits
from minigpt_core.checkpoint import load_run
from minigpt_core.corpus import encode, split
from minigpt_core.ladder import RUNGS, fit_ladder
from minigpt_core.plan import Request, prepare, prepare_resume
from minigpt_core.reproduce import again
from minigpt_core.sampler import sample
from minigpt_core.stored import read_config, read_tokenizer, read_tokens
from minigpt_core.summary import Reader
from minigpt_core.tokenizer import CharTokenizer
from minigpt_core.tokenizer_spec import TokenizerSpec, fit
from tests.conftest import TINY

TEXT = "Ça coûte 5 € – the cat sat. 世界 🎈\n" * 50


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_tokens_a_byte_are_those_of_the_validation_split(kind: str) -> None:
    tokenizer = fit(TokenizerSpec(kind), lambda: [TEXT])
    tokens = encode(tokenizer, "ascii " * 300 + TEXT)
    _, val = split(tokens, 1)
    n_bytes = len(tokenizer.decode(val).encode()) if kind == "char" else len(tokenizer.bytes_of(val))  # type: ignore[attr-defined]
    assert tokens_per_byte(tokenizer, tokens) == len(val) / n_bytes


def test_of_a_long_split_stretches_spread_evenly_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits, "CHUNK", 100)
    monkeypatch.setattr(bits, "CHUNKS", 8)
    tokenizer = CharTokenizer("aé")
    val = np.repeat([0, 1], 5000).astype(np.uint8)  # one byte a token, then two
    tokens = np.concatenate([np.zeros(90_000, np.uint8), val])
    assert tokens_per_byte(tokenizer, tokens) == pytest.approx(2 / 3, abs=0.01)


def test_a_uniform_guess_among_bytes_costs_eight_bits_a_byte() -> None:
    assert bits_per_byte(math.log(256), 1.0) == pytest.approx(8)
    assert bits_per_byte(math.log(65536), 0.5) == pytest.approx(8)
    assert with_bits(math.log(16), 0.5) == "2.7726 (2.000 bits/byte)"
    assert with_bits(1.5, None) == "1.5000"


def test_the_ladder_of_a_large_vocabulary_takes_memory_for_its_tokens_only() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.zipf(1.3, 60_000).clip(0, 50_256).astype(np.uint16)
    tracemalloc.start()
    ladder = fit_ladder(tokens[:54_000], tokens[54_000:], 50_257)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6  # one table of 50,257² counts has 20 GB
    losses = {rung.name: rung.loss for rung in ladder.rungs}
    assert tuple(losses) == RUNGS
    counts = np.bincount(tokens[:54_000], minlength=50_257)
    expected = np.mean(-np.log((counts[tokens[54_000:]] + 0.05) / (54_000 + 0.05 * 50_257)))
    assert losses["unigram"] == pytest.approx(expected)
    assert all(math.isfinite(loss) for loss in losses.values())


def request(text_file: Path, out: Path, tokenizer: str, vocab_size: int | None = None, **train: object) -> Request:
    settings = {"steps": 6, "batch_size": 4, "eval_every": 3, "device": "cpu", "threads": 1} | train
    return Request(
        data=str(text_file),
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        model=TINY,
        train=settings,
        name="run",
        out=str(out),
    )


@pytest.mark.parametrize(("tokenizer", "vocab_size", "tokens"), [("byte", None, 256), ("bpe", 300, 300)])
def test_a_run_trains_writes_and_is_resumed(
    text_file: Path, tmp_path: Path, tokenizer: str, vocab_size: int | None, tokens: int
) -> None:
    plan = prepare(request(text_file, tmp_path, tokenizer, vocab_size))
    list(plan.build())
    plan.release()
    text = text_file.read_text(encoding="utf-8")
    text_file.unlink()  # nothing needs it again

    run = load_run("run", tmp_path)
    assert run.tokenizer.vocab_size == run.model.config.vocab_size == tokens
    assert run.tokenizer == plan.tokenizer == read_tokenizer(plan.run)
    written = sample(run.model, run.tokenizer, "naïve 世界\udcff", max_new_tokens=50, seed=1)
    assert written == sample(run.model, run.tokenizer, "naïve 世界\udcff", max_new_tokens=50, seed=1)
    assert written.encode()  # no surrogates

    config = read_config(plan.run)
    assert config["tokenizer"] == TokenizerSpec(tokenizer, vocab_size).to_dict()
    assert config["tokens_per_byte"] == pytest.approx(len(plan.tokens) / len(text.encode()), rel=0.05)
    summary = Reader(plan.run).read()
    assert summary.bits_per_byte == bits_per_byte(summary.best_val_loss, config["tokens_per_byte"])
    assert f"--tokenizer {tokenizer}" in again(run, config)[0]
    assert (f"--vocab-size {vocab_size}" in again(run, config)[0]) == bool(vocab_size)

    resumed = prepare_resume("run", {"steps": 9}, str(tmp_path))
    assert resumed.tokens_per_byte == plan.tokens_per_byte
    rows = list(resumed.build())
    resumed.release()
    assert [row.step for row in rows] == [7, 8, 9]


def test_a_run_that_kept_no_text_encodes_it_again_the_same_way(text_file: Path, tmp_path: Path) -> None:
    plan = prepare(request(text_file, tmp_path, "bpe", 300))
    list(plan.build())
    plan.release()
    (plan.run.tokens / "tokens.npy").unlink()
    again = read_tokens(plan.run, plan.tokenizer, plan.corpus)
    assert np.array_equal(again, plan.tokens)


def test_a_tokenizer_cannot_change_when_a_run_is_resumed(text_file: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="--tokenizer cannot change"):
        prepare_resume("run", {"tokenizer": "bpe"}, str(tmp_path))


def test_native_code_is_loaded_by_who_encodes_with_it() -> None:
    loaded = "import sys, minigpt_core.plan, minigpt_tui.widgets.stats; print({'tokenizers', 'torch'} & {*sys.modules})"
    assert (
        subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
