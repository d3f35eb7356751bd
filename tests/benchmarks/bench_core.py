"""How long the core's hot paths take, at the default CPU size:  pytest tests/benchmarks/bench_core.py

Needs the extra `bench`. Not collected by a plain `pytest`: times are measured, not tested.
"""

import numpy as np
import pytest
import torch

from minigpt_core import CharTokenizer, ModelConfig, SampleConfig, TrainConfig, Trainer
from minigpt_core.corpus import load_corpus
from minigpt_core.model import GPT
from minigpt_core.probe import attention_maps
from minigpt_core.sampler import decode
from minigpt_core.series import Pyramid

TEXT = load_corpus("pydocs").text


@pytest.fixture(scope="module")
def trainer():
    tokenizer = CharTokenizer.from_text(TEXT)
    return Trainer(GPT(ModelConfig(vocab_size=tokenizer.vocab_size)), tokenizer, TEXT, TrainConfig(device="cpu"))


@pytest.fixture
def replica(trainer):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a sampler beside training has
    yield GPT.empty(trainer.model.config).use_attention("fused")
    torch.set_num_threads(threads)


def test_training_step(benchmark, trainer):
    benchmark.pedantic(trainer.step, rounds=50, warmup_rounds=5)


def test_snapshot(benchmark, trainer, replica):
    benchmark(replica.copy_weights, trainer.model)


def test_two_hundred_tokens(benchmark, trainer, replica):
    replica.copy_weights(trainer.model)
    config, prompt = SampleConfig(max_new_tokens=200), torch.tensor([[1, 2, 3]])
    benchmark(lambda: [token.item() for token in decode(replica, prompt, config, torch.Generator())])


def test_attention_of_all_heads(benchmark, trainer, replica):
    replica.copy_weights(trainer.model)
    benchmark(attention_maps, replica, list(range(64)))


def test_encoding_the_corpus(benchmark, trainer):
    benchmark(trainer.tokenizer.encode, TEXT)


def test_envelope_of_a_million_points(benchmark):
    pyramid, rng = Pyramid(), np.random.default_rng(0)
    for step, value in enumerate(rng.random(1_000_000)):
        pyramid.append(step, value)
    benchmark(pyramid.envelope, None, None, 240)
