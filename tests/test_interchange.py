"""Weights from other programs, and ours for them: the same logits, the same tokens, the same text."""

import json
import math
import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from minigpt_core.bpe import BPETokenizer, byte_alphabet
from minigpt_core.byte_level import ByteTokenizer
from minigpt_core.checkpoint import load_run
from minigpt_core.config import ModelConfig, SampleConfig
from minigpt_core.interchange.export import export
from minigpt_core.interchange.load import import_run
from minigpt_core.model import GPT
from minigpt_core.sampler import decode, stream
from minigpt_core.status import Piece
from minigpt_core.stored import read_config
from minigpt_core.tail import read_events
from minigpt_core.tokenizer import CharTokenizer
from tests.made_runs import caller, make_run, one_line

CLASSIC = {"positions": "learned", "tied_head": True, "biases": True, "activation": "gelu", "qk_norm": False}
CLASSIC |= {"token_mix": 1, "init": "gpt2"}


@pytest.fixture(scope="module")
def hf():
    """The library, which takes seconds to load: once, and in this file only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path_factory.getbasetemp() / "no-cache"))


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    return caller(monkeypatch, capsys, tmp_path)


def scatter(model, seed=0, scale=0.3):
    """Every weight random: freshly made ones are 0 or 1 in many places, where a mistake would not show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, scale, generator=generator)
    return model.eval()


def vocabulary(folder, size=256):
    """GPT-2's two files, of bytes and a few merges."""
    tokens, merges = byte_alphabet(), []
    for left, right in zip("thaeiouxyz", "heabcdefgh", strict=True):
        if len(tokens) < size:
            tokens.append(left + right)
            merges.append(f"{left} {right}")
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")


def hf_folder(hf, folder, seed=0, **changes):
    """A model of transformers with random weights, as it saves it, and a vocabulary beside it."""
    sizes = {"vocab_size": 260, "n_positions": 128, "n_embd": 32, "n_layer": 2, "n_head": 4, **changes}
    shard = sizes.pop("shard", "1GB")
    model = scatter(hf.GPT2LMHeadModel(hf.GPT2Config(bos_token_id=None, eos_token_id=None, **sizes)), seed)
    model.save_pretrained(folder, max_shard_size=shard)
    vocabulary(folder, sizes["vocab_size"])
    return model


def tokens_for(model_config, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model_config.vocab_size, (2, min(60, model_config.seq_len)), generator=generator)


def close(a, b):
    """Within 1e-5 of one another, as a part of the largest."""
    return (a - b).abs().max().item() <= 1e-5 * max(1.0, b.abs().max().item())


# --- Hugging Face ---

SIZES = [
    {},
    {"tie_word_embeddings": False, "n_layer": 1, "n_head": 1},
    {"n_embd": 48, "n_layer": 3, "n_head": 6, "n_inner": 96, "activation_function": "gelu", "n_positions": 40},
    {"n_embd": 16, "n_head": 2, "activation_function": "gelu_pytorch_tanh", "shard": "20KB", "vocab_size": 266},
]


@torch.no_grad()
@pytest.mark.parametrize("sizes", SIZES, ids=["tied", "untied", "exact gelu", "sharded"])
def test_gpt2_has_equal_logits_here_and_equal_tensors_on_its_way_back(hf, tmp_path, sizes):
    theirs = hf_folder(hf, tmp_path / "theirs", **sizes)
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists() == ("shard" in sizes)
    ours = load_run(import_run(str(tmp_path / "theirs"), parent=tmp_path / "runs", name="run").path)
    tokens = tokens_for(ours.model.config)
    want = theirs(tokens).logits
    assert want.std() > 0.1
    assert close(ours.model(tokens), want)

    folder = export("run", tmp_path / "runs", "hf", output=tmp_path / "back")
    back = hf.AutoModelForCausalLM.from_pretrained(folder)
    assert type(back) is type(theirs)
    found, wanted = back.state_dict(), theirs.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert close(back.eval()(tokens).logits, want)


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_writes_the_same_100_tokens_as_our_sampler(hf, tmp_path, text, tied):
    theirs = hf_folder(hf, tmp_path / "theirs", tie_word_embeddings=tied)
    theirs.transformer.ln_f.bias.zero_()  # else every position says the same
    theirs.transformer.wpe.weight.mul_(10)
    theirs.save_pretrained(tmp_path / "theirs")
    run = load_run(import_run(str(tmp_path / "theirs"), parent=tmp_path, name="run").path)
    folder = export("run", tmp_path, "hf")
    model = hf.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    for prompt in ("The ", text[:28]):
        inputs = tokenizer(prompt, return_tensors="pt")
        start = inputs.input_ids  # (1, T)
        assert start[0].tolist() == run.tokenizer.encode(prompt).tolist()
        tokens = model.generate(**inputs, max_new_tokens=100, do_sample=False)[0, start.size(1) :]
        config = SampleConfig(temperature=0.0, max_new_tokens=100)
        assert tokens.tolist() == [token.item() for token in decode(run.model, start, config, torch.Generator())]
        assert len(tokens) == 100
        assert len(set(tokens.tolist())) > 20
        pieces = stream(run.model, run.tokenizer, start[0].tolist(), config, 0)
        assert "".join(piece.text for piece in pieces if isinstance(piece, Piece)) == tokenizer.decode(tokens)


def made_of(folder, tokenizer):
    """The export of an untrained model with this vocabulary."""
    from minigpt_core.interchange.arrival import Arrival, make_run

    config = ModelConfig(vocab_size=tokenizer.vocab_size, n_layers=1, num_heads=1, embed_dim=8, **CLASSIC)
    model = GPT(config)
    run = make_run(Arrival("made", "made here", config, model.state_dict(), tokenizer), None, folder, "run")
    return export("run", folder, "hf", output=folder / "out"), run


ALPHABET = "aAbBeEhHtT .,\n\t\r'0123éß„“\u0301\u200d\N{EURO SIGN}日本語\N{GRINNING FACE}\N{REPLACEMENT CHARACTER}"
TOKENIZERS = {
    "char": CharTokenizer.from_text(ALPHABET[:-1]),
    "char, unknown": CharTokenizer.from_text(ALPHABET, vocab_size=20),
    "byte": ByteTokenizer(),
    "bpe": BPETokenizer.train(["the tea at the hut, the bat that ate the heat 日本語 日本語\n\n  the  the\n"] * 3, 300),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_autotokenizer_is_our_tokenizer(hf, tmp_path, kind):
    ours = TOKENIZERS[kind]
    folder, _ = made_of(tmp_path, ours)
    theirs = hf.AutoTokenizer.from_pretrained(folder)
    assert len(theirs) == ours.vocab_size
    texts = st.text(st.sampled_from(ALPHABET), max_size=40) | st.text(st.characters(exclude_categories=["Cs"]))

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(texts, st.lists(st.integers(0, ours.vocab_size - 1), max_size=20))
    def same(text, ids):
        assert theirs(text).input_ids == ours.encode(text).tolist()
        for each in (ids, ours.encode(text).tolist()):
            expected = ours.decode(each)
            if not any("\ud800" <= c <= "\udfff" for c in expected):  # ours gives lone surrogates back, theirs cannot
                assert theirs.decode(each) == expected

    same()
    again = load_run(import_run(str(folder), parent=tmp_path, name="again").path)
    assert again.tokenizer == ours


def test_rows_of_the_embedding_that_stand_for_no_token_are_left_out(hf, tmp_path):
    theirs = hf_folder(hf, tmp_path / "theirs", vocab_size=320)
    run = load_run(import_run(str(tmp_path / "theirs"), parent=tmp_path, name="run").path)
    assert run.model.config.vocab_size == run.tokenizer.vocab_size == 266
    tokens = tokens_for(run.model.config)
    with torch.no_grad():
        assert close(run.model(tokens), theirs(tokens).logits[..., :266])
    assert any("last 54 of 320 rows" in event.message for event in read_events(run.dir))


def test_an_id_is_found_in_the_cache_and_nothing_is_fetched(hf, tmp_path, monkeypatch, call):
    cached = tmp_path / "cache" / "models--some--tiny"
    hf_folder(hf, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert call("import", "some/tiny", "--name", "run")[0] == 0
    assert "GPT-2 'tiny'" in read_config(load_run("run", tmp_path / "runs").dir)["origin"]["source"]
    said = one_line(call("import", "some/other"))
    assert "not in the local Hugging Face cache, and cannot be fetched" in said
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]


# --- nanoGPT, written here after its model.py ---


class NanoBlock(nn.Module):
    def __init__(self, n, heads, bias):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(n, bias=bias), nn.LayerNorm(n, bias=bias)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(n, 3 * n, bias=bias), "c_proj": nn.Linear(n, n, bias=bias)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(n, 4 * n, bias=bias), "c_proj": nn.Linear(4 * n, n, bias=bias)})

    def forward(self, x):
        B, T, C = x.shape  # noqa: N806
        q, k, v = (
            part.view(B, T, self.heads, C // self.heads).transpose(1, 2)
            for part in self.attn["c_attn"](self.ln_1(x)).split(C, dim=2)
        )
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(torch.ones(T, T).tril() == 0, float("-inf"))
        y = (F.softmax(att, dim=-1) @ v).transpose(1, 2).contiguous().view(B, T, C)
        x = x + self.attn["c_proj"](y)
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))


class NanoGPT(nn.Module):
    def __init__(self, n_layer, n_head, n_embd, block_size, bias, vocab_size, dropout):
        super().__init__()
        parts = {"wte": nn.Embedding(vocab_size, n_embd), "wpe": nn.Embedding(block_size, n_embd)}
        parts |= {"h": nn.ModuleList(NanoBlock(n_embd, n_head, bias) for _ in range(n_layer))}
        self.transformer = nn.ModuleDict({**parts, "ln_f": nn.LayerNorm(n_embd, bias=bias)})
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.transformer["wte"].weight = self.lm_head.weight

    def forward(self, idx):
        x = self.transformer["wte"](idx) + self.transformer["wpe"](torch.arange(idx.size(1)))
        for block in self.transformer["h"]:
            x = block(x)
        return self.lm_head(self.transformer["ln_f"](x))


def nano_checkpoint(path, vocab_size, prefix="", **changes):
    """What nanoGPT's train.py saves, optimizer and all."""
    args = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 64, "bias": False, "vocab_size": vocab_size}
    args |= {"dropout": 0.2, **changes}
    model = scatter(NanoGPT(**args), seed=3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
    model(torch.zeros(1, 4, dtype=torch.long)).sum().backward()
    optimizer.step()
    weights = {prefix + name: weight for name, weight in model.state_dict().items()}
    saved = {"model": weights, "optimizer": optimizer.state_dict(), "model_args": args, "iter_num": 5000}
    saved |= {"best_val_loss": torch.tensor(1.4697), "config": {"dataset": "shakespeare_char", "lr": 1e-3}}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(saved, path)
    return model


@torch.no_grad()
@pytest.mark.parametrize(("bias", "prefix"), [(False, "_orig_mod."), (True, "")])
def test_a_nanogpt_checkpoint_has_equal_logits(tmp_path, text_file, text, bias, prefix):
    size = len(set(text))
    with torch.enable_grad():
        theirs = nano_checkpoint(tmp_path / "out-char" / "ckpt.pt", size, prefix, bias=bias)
    (tmp_path / "out-char" / "meta.pkl").write_bytes(b"not opened")
    run = load_run(import_run(str(tmp_path / "out-char"), str(text_file), parent=tmp_path / "runs").path)
    assert run.dir.name.endswith("-out-char")
    tokens = tokens_for(run.model.config)
    assert close(run.model(tokens), theirs(tokens))
    assert run.tokenizer.characters == "".join(sorted(set(text)))  # nanoGPT's stoi
    said = [event.message for event in read_events(run.dir)]
    assert "iteration 5,000, best validation loss 1.4697" in said[0]
    assert any("no biases" in line for line in said) == (not bias)


def test_a_nanogpt_checkpoint_of_gpt2_tokens_needs_its_vocabulary(tmp_path, call, monkeypatch):
    monkeypatch.setattr("minigpt_core.interchange.nanogpt.GPT2_VOCABULARY", 266)
    nano_checkpoint(tmp_path / "gpt2.pt", 304)  # padded, as nanoGPT pads 50257 to 50304
    assert "GPT-2's vocabulary is not in the local Hugging Face cache" in one_line(call("import", "gpt2.pt"))
    vocabulary(tmp_path, 266)
    assert call("import", "gpt2.pt", "--tokenizer", ".", "--name", "run")[0] == 0
    assert load_run("run", tmp_path / "runs").model.config.vocab_size == 266


# --- a run like any other ---


@pytest.fixture
def quick_assets(monkeypatch):
    """Pictures are tested elsewhere, and below once."""
    monkeypatch.setattr("minigpt_core.report.write_assets", lambda *_: [])


def moved(before, after):
    """The largest change of a weight between two runs."""
    old, new = before.model.state_dict(), after.model.state_dict()
    return max((new[name] - old[name]).abs().max().item() for name in old if new[name].shape == old[name].shape)


def test_an_import_is_written_with_resumed_and_fine_tuned(tmp_path, text_file, text, call, quick_assets):
    nano_checkpoint(tmp_path / "ckpt.pt", len(set(text)))
    code, out, _ = call("import", "ckpt.pt", "--data", "sentences.txt", "--name", "nano")
    assert (code, out.splitlines()[0]) == (0, "run runs/nano")
    assert call("generate", "nano", "--prompt", "The", "--max-new-tokens", "20", "--seed", "1")[0] == 0
    assert "0" in call("runs")[1]
    assert "nanoGPT" in call("runs", "show", "nano", "--toml")[1]
    assert "Imported with" in (export("nano", tmp_path / "runs", "hf") / "README.md").read_text()

    short = ("--headless", "--steps", "4", "--batch-size", "2", "--device", "cpu", "--threads", "1")
    code, _, err = call("train", "--from", "nano", "--data", "sentences.txt", "--name", "tuned", *short)
    assert code == 0, err
    tuned, start = load_run("tuned", tmp_path / "runs"), load_run("nano", tmp_path / "runs")
    assert 0 < moved(start, tuned) < 1e-3
    assert tuned.config.learning_rate == 1e-4
    assert tuned.config.optimizer == "adamw"
    assert tuned.tokenizer == start.tokenizer
    assert read_config(tuned.dir)["origin"] == {"source": str(start.path.resolve()), "imported": False, "step": 0}

    code, _, err = call("train", "--resume", "nano", "--headless", "--steps", "3")
    assert code == 0, err
    assert load_run("nano", tmp_path / "runs").state["step"] == 3


def test_fine_tuning_begins_where_the_other_run_stood_and_repeats(tmp_path, text_file, call, quick_assets):
    path = make_run(text_file, tmp_path / "runs", "base", steps=6)
    base = load_run(path)
    words = ["train", "--from", "base", "--data", "sentences.txt", "--headless", "--steps", "2", "--batch-size", "2"]
    words += ["--device", "cpu", "--threads", "1", "--seq-len", "8"]
    assert call(*words, "--name", "one")[0] == 0
    one = load_run("one", tmp_path / "runs")
    assert one.model.config == base.model.config.replace(seq_len=8)
    assert 0 < moved(base, one) < 1e-3
    assert read_config(one.dir)["origin"]["step"] == 6
    (tmp_path / "again.toml").write_text(call("runs", "show", "one", "--toml")[1])
    code, _, err = call("train", "--config", "again.toml", "--name", "two", "--headless")
    assert code == 0, err
    two = load_run("two", tmp_path / "runs")
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "classic"], "--preset and --from contradict"),
        (["--vocab-size", "9"], "--vocab-size and --from contradict"),
        (["--ablate", "no-residual"], "--ablate and --from contradict"),
        (["--n-layers", "3"], "--n-layers 3 and --from contradict each other: in these weights it is 2"),
        (["--seq-len", "17"], "it is at most 16"),
        (["--resume", "base"], "--from-run cannot change when a run is resumed"),
        (["--data", "nothing.txt"], "no such file or corpus"),
        (["--from", "bass"], "did you mean 'base'?"),
    ],
)
def test_what_contradicts_the_weights_is_refused_by_name(tmp_path_factory, text, monkeypatch, capsys, words, said):
    folder = tmp_path_factory.getbasetemp() / "contradictions"
    if not folder.exists():
        folder.mkdir()
        (folder / "text.txt").write_text(text)
        make_run(folder / "text.txt", folder / "runs", "base", steps=1)
    line = one_line(caller(monkeypatch, capsys, folder)("train", "--from", "base", "--headless", *words))
    assert said in line
    assert [path.name for path in (folder / "runs").iterdir()] == ["base"]


# --- exports ---


def test_any_run_becomes_safetensors_that_the_card_says_how_to_load(tmp_path, text_file, call, capsys):
    make_run(text_file, tmp_path / "runs", "run")
    code, out, _ = call("export", "run")
    folder = tmp_path / "runs" / "run" / "export-safetensors"
    assert (code, out) == (0, "runs/run/export-safetensors\n")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    card = (folder / "README.md").read_text(encoding="utf-8")
    program = re.search(r"```python\n(.*?)```", card, re.S)[1].replace("FOLDER", str(folder))
    scope = {}
    exec(program, scope)
    assert len(capsys.readouterr().out) > 100
    run = load_run("run", tmp_path / "runs")
    assert all(torch.equal(scope["model"].state_dict()[name], w) for name, w in run.model.state_dict().items())
    state = run.state
    for fact in (f"{state['best_val_loss']:.4f}", f"{state['final_val_loss']:.4f}", "sentences", "20 steps"):
        assert fact in card
    assert str(tmp_path) not in card
    assert "--data sentences.txt" in card
    assert "--force" in one_line(call("export", "run"))
    (folder / "mine.txt").write_text("kept")
    assert call("export", "run", "--force")[0] == 0
    assert (folder / "mine.txt").read_text() == "kept"
    assert not list(folder.parent.glob(".export-*"))


def test_best_and_last_are_told_apart_and_only_classic_becomes_gpt2(tmp_path, text_file, call):
    path = make_run(
        text_file, tmp_path / "runs", "run", CLASSIC, learning_rate=0.5, optimizer="adamw", steps=30, patience=0
    )
    best, last = load_run(path / "best.pt"), load_run(path)
    assert not torch.equal(best.model.token_embedding.weight, last.model.token_embedding.weight)
    for words, run in (((), last), (("--best",), best)):
        assert call("export", "run", "--format", "hf", "--output", "out", "--force", *words)[0] == 0
        weights = load_file(tmp_path / "out" / "model.safetensors")
        assert torch.equal(weights["transformer.wte.weight"], run.model.token_embedding.weight)
        assert "lm_head.weight" not in weights
    make_run(text_file, tmp_path / "runs", "modern", {"positions": "rotary"}, steps=1)
    said = one_line(call("export", "modern", "--format", "hf"))
    assert "its positions is 'rotary', and GPT-2's 'learned'; use --format safetensors" in said
    assert not (tmp_path / "runs" / "modern" / "export-hf").exists()
    assert "did you mean 'hf'?" in one_line(call("export", "run", "--format", "hff"))
    assert "cannot write" in one_line(call("export", "run", "--output", "sentences.txt/x"))


# --- what cannot be imported ---


class Bomb:
    def __reduce__(self):
        return (open, ("exploded", "w"))


def spoil(folder, change):
    """A folder that was whole, with one thing changed."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def set_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


C = "transformer.h.0.attn.c_attn.weight"
SPOILED = {
    "wrong shape": (
        lambda f: spoil(f, lambda w: w.update({C: torch.zeros(96, 32)})),
        "is 96 × 32 and should be 32 × 96",
    ),
    "integers": (lambda f: spoil(f, lambda w: w.update({C: torch.zeros(32, 96, dtype=torch.int32)})), "is I32"),
    "missing": (lambda f: spoil(f, lambda w: w.pop(C)), "'h.0.attn.c_attn.weight' is missing"),
    "extra": (lambda f: spoil(f, lambda w: w.update(x=torch.zeros(1))), "a weight 'x', which GPT-2 does not have"),
    "infinite": (lambda f: spoil(f, lambda w: w[C].fill_(math.inf)), "not finite"),
    "cut short": (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 40), "is damaged"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no model.safetensors"),
    "absurd layers": (lambda f: set_config(f, n_layer=10**9), "'h.2.ln_1.weight' is missing"),
    "no vocabulary": (lambda f: (f / "vocab.json").unlink(), "holds no GPT-2 vocabulary"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), "not JSON"),
    "another model": (lambda f: set_config(f, model_type="llama"), "model_type is 'llama'"),
    "epsilon": (lambda f: set_config(f, layer_norm_epsilon=1e-6), "layer_norm_epsilon is 1e-06"),
    "scaled by layer": (lambda f: set_config(f, scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse"),
    "upcast": (lambda f: set_config(f, reorder_and_upcast_attn=True), "reorder_and_upcast_attn"),
    "inner width": (lambda f: set_config(f, n_inner=100), "n_inner is 100, and can only be a multiple of n_embd"),
    "activation": (lambda f: set_config(f, activation_function="relu"), "activation_function is 'relu'"),
    "heads": (lambda f: set_config(f, n_head=5), "width 32 is not divisible by its 5 attention heads"),
    "a word for a number": (lambda f: set_config(f, n_layer="two"), "n_layer"),
    "vocabulary": (lambda f: vocabulary(f, 262), "vocabulary has 262 tokens and its embedding 260"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_folder_that_cannot_be_imported_is_one_line_and_no_run(tmp_path, call, what):
    folder = tmp_path / "model"
    folder.mkdir()
    config = ModelConfig(vocab_size=260, seq_len=16, n_layers=2, num_heads=4, embed_dim=32, **CLASSIC)
    from minigpt_core.interchange import gpt2

    (folder / "config.json").write_text(json.dumps(gpt2.write_config(config)))
    save_file(gpt2.to_theirs(scatter(GPT(config)).state_dict(), config), folder / "model.safetensors")
    vocabulary(folder, 260)
    change, said = SPOILED[what]
    change(folder)
    assert said in one_line(call("import", "model"))
    assert not (tmp_path / "runs").exists()
    if what == "missing":  # and whole it is imported
        save_file(gpt2.to_theirs(GPT(config).state_dict(), config), folder / "model.safetensors")
        assert call("import", "model")[0] == 0


def test_a_checkpoint_that_cannot_be_imported_is_one_line_and_no_run(tmp_path, text_file, text, call):
    size = len(set(text))
    torch.save({"model": {}, "model_args": Bomb()}, tmp_path / "bomb.pt")
    assert "is code; nothing of it was run" in one_line(call("import", "bomb.pt"))
    assert not (tmp_path / "exploded").exists()
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"model": 1}))
    assert "not an archive of tensors" in one_line(call("import", "old.pt"))
    nano_checkpoint(tmp_path / "ckpt.pt", size)
    assert "--data" in one_line(call("import", "ckpt.pt"))
    (tmp_path / "other.txt").write_text("another text")
    said = one_line(call("import", "ckpt.pt", "--data", "other.txt"))
    assert f"its vocabulary has {size} characters and the text 9" in said
    saved = torch.load(tmp_path / "ckpt.pt")
    saved["model_args"]["n_layer"] = 3
    torch.save(saved, tmp_path / "layers.pt")
    assert "'h.2.ln_1.weight' is missing" in one_line(call("import", "layers.pt", "--data", "sentences.txt"))
    torch.save({"weights": 1}, tmp_path / "other.pt")
    assert "has no model and model_args" in one_line(call("import", "other.pt"))
    assert "no such file or folder" in one_line(call("import", "none.pt"))
    assert "no such file or folder" in one_line(call("import", "a/b/c"))
    (tmp_path / "empty").mkdir()
    assert "holds no config.json" in one_line(call("import", "empty"))
    assert not (tmp_path / "runs").exists()
    make_run(text_file, tmp_path / "runs", "own", steps=1)
    assert "minigpt-tui itself" in one_line(call("import", "runs/own/model_checkpoint.pt"))


async def test_an_import_is_talked_to_and_looked_into_in_the_app(tmp_path):
    from minigpt_tui.app import MiniGPTApp
    from minigpt_tui.local import LocalSession
    from tests.scripted_session import Terminal

    _, run = made_of(tmp_path, TOKENIZERS["bpe"])
    session = LocalSession.finished(run, run.checkpoint)
    app = MiniGPTApp(session, Terminal())
    async with app.run_test(size=(120, 35)) as pilot:
        await pilot.press("i", *"tea", "enter")
        for _ in range(100):
            await pilot.pause(0.1)
            if any(event.kind == "sample" for event in read_events(run)) and session.frame() is not None:
                break
        else:
            pytest.fail("no answer, or no attention")
        assert session.status().step == 0
    session.close()
    assert session.join(10)


def test_a_disk_that_refuses_leaves_no_half_run_and_no_half_export(tmp_path, text_file, text, call, monkeypatch):
    make_run(text_file, tmp_path / "runs", "own", CLASSIC, steps=1)
    nano_checkpoint(tmp_path / "ckpt.pt", len(set(text)))

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minigpt_core.interchange.export.write_tensors", refuse)
    assert "cannot write 'out': No space left" in one_line(call("export", "own", "--output", "out"))
    monkeypatch.setattr("minigpt_core.checkpoint.torch.save", refuse)
    said = one_line(call("import", "ckpt.pt", "--data", "sentences.txt"))
    assert "No space left" in said
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["own"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt.pt", "runs", "sentences.txt"]


def test_without_a_text_an_import_says_how_to_give_it_one(tmp_path, call, hf):
    hf_folder(hf, tmp_path / "theirs")
    assert call("import", "theirs", "--name", "run")[0] == 0
    assert "minigpt-tui train --from runs/run --data TEXT" in one_line(call("train", "--resume", "run", "--headless"))
    assert not np.any([path.suffix == ".npy" for path in (tmp_path / "runs" / "run").rglob("*")])
    assert "minigpt-tui train --from runs/run --data TEXT" in call("runs", "show", "run")[1]
    assert call("report", "run")[0] == 0
