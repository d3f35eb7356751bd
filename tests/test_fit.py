"""Runs that would not fit into memory: refused before their first step; and what a full GPU costs who looks on."""

import threading

import pytest
import torch

from minigpt_core import hardware
from minigpt_core.config import ModelConfig, SampleConfig, TrainConfig
from minigpt_core.devices import decide, survey
from minigpt_core.errors import UserError
from minigpt_core.fit import check_memory, largest, needed_bytes
from minigpt_core.model import GPT
from minigpt_core.observers import Sampler
from minigpt_core.plan import Request, prepare
from minigpt_core.status import Stamp
from minigpt_core.tokenizer import CharTokenizer
from tests.conftest import TINY

MODEL = ModelConfig(vocab_size=65, seq_len=256, n_layers=6, num_heads=6, embed_dim=384)


def devices(train):
    return decide(survey(), train, MODEL.seq_len)


def refusal(model, train, free, **how):
    with pytest.raises(UserError) as refused:
        check_memory(model, train, devices(train), free, **how)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_fits_is_not_refused():
    train = TrainConfig(batch_size=64, device="cpu")
    check_memory(MODEL, train, devices(train), needed_bytes(MODEL, 64, devices(train)))


def test_too_large_a_batch_is_refused_with_the_one_that_fits():
    train = TrainConfig(batch_size=64, device="cpu")
    free = needed_bytes(MODEL, 20, devices(train))
    message = refusal(MODEL, train, free)
    assert message.endswith("are free; --batch-size 20 fits, or --accumulate 4")
    check_memory(MODEL, train.replace(batch_size=20), devices(train), free)
    check_memory(MODEL, train.replace(accumulate=4), devices(train), free)


def test_too_large_a_model_is_refused_with_the_width_that_fits():
    train = TrainConfig(batch_size=64, device="cpu")
    free = needed_bytes(MODEL, 1, devices(train)) - 1
    message = refusal(MODEL, train, free)
    assert message.endswith("are free; --embed-dim 372 --batch-size 1 fits")
    check_memory(MODEL.replace(embed_dim=372), train.replace(batch_size=1), devices(train), free)
    assert "smaller --n-layers" in refusal(MODEL, train, 1000)
    assert refusal(MODEL, train, 1000, resumed=True).endswith("free some first")


def test_the_largest_that_fits():
    for most in range(8):
        assert largest(7, lambda n, most=most: n <= most) == most


def test_a_refused_run_leaves_nothing(tmp_path, text_file, monkeypatch):
    monkeypatch.setattr(hardware, "available_memory", lambda: 2**20)
    plan = prepare(Request(data=str(text_file), model=TINY, train={"device": "cpu"}, out=str(tmp_path / "runs")))
    with pytest.raises(UserError, match=r"of memory, and .* are free"):
        plan.build()
    plan.discard()
    assert not list((tmp_path / "runs").iterdir())


def test_a_full_gpu_costs_one_answer_and_the_next_is_the_cpus(monkeypatch, text):
    import minigpt_core.sampler as module

    tokenizer = CharTokenizer.from_text(text)
    model = GPT(ModelConfig(vocab_size=tokenizer.vocab_size, **TINY))

    class Source:
        tokenizer = CharTokenizer.from_text(text)

        def device(self):
            return "cpu"

        def replica(self):
            return GPT.empty(model.config)

        def snapshot(self, into):
            into.copy_weights(model)
            return Stamp(step=1)

    moved, real, full = [], module.answer, threading.Event()

    def answer(generation, replica, *rest):
        if not full.is_set():
            full.set()
            raise torch.OutOfMemoryError("CUDA out of memory")
        real(generation, replica, *rest)

    monkeypatch.setattr(module, "answer", answer)
    to = GPT.to
    monkeypatch.setattr(GPT, "to", lambda self, *where: (moved.append(where), to(self, *where))[1])
    sampler = Sampler(Source())
    first, second = (sampler.generate("The ", SampleConfig(max_new_tokens=3)) for _ in range(2))
    assert first.wait(20)
    assert second.wait(20)
    sampler.close()
    assert (first.finish_reason, second.finish_reason) == ("failed", "length")
    assert "no memory left" in first.error
    assert ("cpu",) in moved
