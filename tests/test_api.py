"""The Python API: what the documentation shows runs, and its names are those documented and no more."""

import doctest
import importlib
import re
import subprocess
import sys

import pytest
import torch

import minigpt_core
from minigpt_core import GPT, CharTokenizer, ModelConfig, SampleConfig, TrainConfig, Trainer, attention_maps, sample
from minigpt_core.errors import UsageError
from minigpt_core.generation import SampleSettings
from minigpt_core.plan import Request, prepare
from tests.conftest import TINY

SHOWN = ("checkpoint", "model", "probe", "sampler", "trainer")
"""Modules with examples of their own; they go on where the package's example ends."""


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The package's own example, run beside a run that is called my-run: its outcome, and the names it leaves."""
    place = tmp_path_factory.mktemp("api")
    (place / "text.txt").write_text("the cat sat on the mat\n" * 100, encoding="utf-8")
    train = {"steps": 5, "eval_every": 5, "device": "cpu", "threads": 1}
    plan = prepare(
        Request(data=str(place / "text.txt"), model=TINY, train=train, name="my-run", out=str(place / "runs"))
    )
    list(plan.build())
    plan.release()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr("minigpt_core.hardware.cpu_count", lambda: 1)  # threads wait for one another on a busy machine
        torch.manual_seed(0)
        names: dict[str, object] = {}
        yield examples_of(minigpt_core, names), names


def examples_of(module, names):
    """Run a module's examples one after the other in one namespace: how many there were, how many failed, and how."""
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, globs={}):
        test.globs = names
        runner.run(test, out=said.append, clear_globs=False)
    return runner.tries, runner.failures, "".join(said)


def test_the_example_of_the_package_is_true_and_ten_lines(example):
    (tried, failed, said), _ = example
    assert not failed, said
    first = minigpt_core.__doc__.split("\n\n")[1]
    assert sum(line.startswith(">>> ") for line in first.splitlines()) <= 10
    assert tried >= 10


@pytest.mark.parametrize("module", SHOWN)
def test_the_examples_of_the_public_functions_are_true(example, module):
    tried, failed, said = examples_of(importlib.import_module(f"minigpt_core.{module}"), dict(example[1]))
    assert not failed, said
    assert tried


def test_the_public_names_are_those_documented():
    listed = re.findall(r"^- (`.+?)(?::|$)", minigpt_core.__doc__, re.M)
    documented = {name for line in listed for name in re.findall(r"`(\w+)`", line)}
    assert documented == set(minigpt_core.__all__) == set(dir(minigpt_core))
    assert len(minigpt_core.__all__) == len(documented)
    for name in documented:
        found = getattr(minigpt_core, name)
        assert found.__name__ == name
        assert found.__doc__
        assert found.__module__.startswith("minigpt_core.")
    with pytest.raises(AttributeError, match="no attribute 'Sampler'"):
        minigpt_core.Sampler  # noqa: B018


def test_what_needs_no_torch_loads_none():
    program = """
import sys
from minigpt_core import CharTokenizer, ModelConfig, SampleConfig, TrainConfig, UserError
import minigpt_core.comparison, minigpt_core.metrics_export, minigpt_core.recipe
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_settings_of_sample_are_those_of_its_config():
    assert set(SampleSettings.__annotations__) == set(SampleConfig.__struct_fields__)


def test_mistakes_are_told_in_a_line():
    text = "the cat sat on the mat\n" * 40
    tokenizer = CharTokenizer.from_text(text)
    larger = CharTokenizer.from_text(text + "XYZ")
    model = GPT(ModelConfig(vocab_size=tokenizer.vocab_size, **TINY))
    with pytest.raises(UsageError, match="the tokenizer has 14 tokens and the model 11"):
        sample(model, larger, "X")
    with pytest.raises(UsageError, match="the tokenizer has 14 tokens and the model 11"):
        Trainer(model, larger, text, TrainConfig())
    with pytest.raises(UsageError, match="17 tokens: a model with seq_len=16 looks at 1 to 16"):
        attention_maps(model, tokenizer.encode("the cat sat on th"))
    with pytest.raises(UsageError, match="0 tokens"):
        attention_maps(model, [])
    with pytest.raises(UsageError, match="token id 11 is outside the model's vocabulary"):
        attention_maps(model, [0, 11])


def test_looking_ignores_dropout_and_leaves_the_mode_alone():
    model = GPT(ModelConfig(vocab_size=5, dropout=0.5, **TINY)).train()
    first, second = attention_maps(model, [0, 1, 2]), attention_maps(model, [0, 1, 2])
    assert (first == second).all()
    assert model.training
