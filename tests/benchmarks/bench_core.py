"""How long the core's hot paths take, at the default CPU size:  pytest tests/benchmarks/bench_core.py

Needs the extra `bench`. Not collected by a plain `pytest`: times are measured, not tested.
"""

import numpy as np
import pytest
import torch

from minigpt_core import CharTokenizer, ModelConfig, SampleConfig, TrainConfig, Trainer
from minigpt_core.corpus import load_corpus
from minigpt_core.frame import Frame
from minigpt_core.model import GPT
from minigpt_core.probe import attention_maps, look
from minigpt_core.recording import Recorder, Recording
from minigpt_core.rundir import RunDir
from minigpt_core.sampler import decode
from minigpt_core.series import Pyramid
from minigpt_core.status import Stamp

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


def frame_of(trainer, replica, step):
    tokens = list(range(64))
    seen = look(replica, tokens, np.arange(256).reshape(4, 64) % 90)
    labels = trainer.tokenizer.token_labels(tokens)
    return Frame(Stamp(step=step), labels, seen.weights, seen.scores, seen.lens, {}, seen.health)


def test_a_whole_look(benchmark, trainer, replica):
    replica.copy_weights(trainer.model)
    benchmark(frame_of, trainer, replica, 0)


def test_scrubbing_a_run_of_two_thousand_frames(benchmark, trainer, replica, tmp_path):
    """One recorded frame, read as the scrubber reads it, at random steps."""
    recorder = Recorder(RunDir(tmp_path), list(range(64)))
    for step in range(2000):
        if step % 100 == 0:
            trainer.step()
            replica.copy_weights(trainer.model)
            frame = frame_of(trainer, replica, step)
        recorder.write(Frame(Stamp(step=step), *(getattr(frame, name) for name in Frame.__slots__[1:])))
    recorder.close()
    recording, rng = Recording(RunDir(tmp_path)), np.random.default_rng(0)
    assert len(recording.steps()) == 2000
    benchmark(lambda: recording.frame(int(rng.integers(2000)), trainer.tokenizer.token_labels))


def test_encoding_the_corpus(benchmark, trainer):
    benchmark(trainer.tokenizer.encode, TEXT)


def test_envelope_of_a_million_points(benchmark):
    pyramid, rng = Pyramid(), np.random.default_rng(0)
    for step, value in enumerate(rng.random(1_000_000)):
        pyramid.append(step, value)
    benchmark(pyramid.envelope, None, None, 240)
