"""The README.md of exported weights: what they are, what they learned from, how well, and how to load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minigpt_core.bits import bits_per_byte
from minigpt_core.checkpoint import Run
from minigpt_core.corpus import NAMES, NO_TEXT, STDIN
from minigpt_core.errors import UserError
from minigpt_core.reproduce import again
from minigpt_core.stored import read_config

LOADING = {
    "hf": """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokens = tokenizer("The ", return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(tokens, max_new_tokens=100, do_sample=True)[0]))
```

Its context is {seq_len:,} tokens. As it was trained on running text, nothing marks where a text ends.""",
    "safetensors": """\
```python
import json
from pathlib import Path

from minigpt_core import GPT, ModelConfig, sample
from minigpt_core.tokenizer import load_tokenizer
from safetensors.torch import load_file

folder = Path("FOLDER")
tokenizer = load_tokenizer(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")))
model = GPT(ModelConfig.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8"))))
weights = load_file(folder / "model.safetensors")
weights.setdefault("head.weight", weights["token_embedding.weight"])  # a tied head is stored once
model.load_state_dict(weights)
print(sample(model, tokenizer, "The "))
```""",
}
"""How a program reads each format."""


def model_card(run: Run, format: str) -> str:
    """The card of a run's weights as Markdown.

    It names no folders of this machine: a text by its name, a run by its own. The licence is for the user to choose.
    """
    try:
        config = read_config(run.dir)
    except UserError:
        config = {}
    model = run.model.config
    library = "transformers" if format == "hf" else "minigpt-tui"
    parts = [
        f"---\nlibrary_name: {library}\npipeline_tag: text-generation\n---",
        f"# {_word(run.dir.name)}",
        f"A language model of {run.model.num_parameters():,} parameters, made with minigpt-tui.",
        "## Model\n\n" + _table(_model(run)),
        "## Data\n\n" + _table(_data(run, config)),
        "## Loss\n\n" + _losses(run, config),
        "## How it was made\n\n" + _command(run, config),
        "## How to load it\n\n" + LOADING[format].replace("{seq_len:,}", f"{model.seq_len:,}"),
        "## License\n\nNot stated. Whoever publishes these weights chooses one, as the data permit, and adds it here.",
    ]
    return "\n\n".join(parts) + "\n"


def _model(run: Run) -> list[tuple[str, str]]:
    model = run.model.config
    return [
        ("layers", f"{model.n_layers:,}"),
        ("attention heads a layer", f"{model.num_heads:,}"),
        ("width", f"{model.embed_dim:,}, feed-forward {model.ff_mult * model.embed_dim:,}"),
        ("context", f"{model.seq_len:,} tokens"),
        ("vocabulary", f"{model.vocab_size:,} tokens ({run.tokenizer.to_dict()['type']})"),
        ("positions", model.positions),
        ("activation", model.activation),
        ("head", "tied to the embedding" if model.tied_head else "its own"),
    ]


def _data(run: Run, config: dict[str, Any]) -> list[tuple[str, str]]:
    corpus, origin = config.get("corpus", {}), config.get("origin") or {}
    rows = []
    if origin:
        source = str(origin["source"])
        rows.append(("first weights", _word(source if origin.get("imported") else _shortened(source))))
    if corpus.get("source") not in (None, NO_TEXT):
        rows += [
            ("text", _word(str(corpus.get("name") or Path(corpus["source"]).name))),
            ("size", f"{corpus['n_bytes']:,} bytes in UTF-8; 90 % for training, 10 % for validation"),
            ("SHA-256", f"`{corpus['sha256']}`"),
        ]
    tokens = run.state["step"] * run.config.batch_size * run.model.config.seq_len
    return [*rows, ("read in training", f"{tokens:,} tokens in {run.state['step']:,} steps")]


def _losses(run: Run, config: dict[str, Any]) -> str:
    """Every loss with the step that it is of."""
    state = run.state
    found = [
        ("training, the last that was logged", *_last_logged(run)),
        ("validation, the last", state["val_loss"], state["val_step"]),
        ("validation, the best", state["best_val_loss"], state["best_step"]),
        ("validation, the whole split at the end", state["final_val_loss"], state["step"]),
    ]
    rows = [(what, loss, step) for what, loss, step in found if loss is not None]
    if not rows:
        return "Not measured: no step of training was made."
    lines = ["| loss | nats a token | bits a byte | at step |", "|---|---|---|---|"]
    for what, loss, step in rows:
        bits = bits_per_byte(loss, config.get("tokens_per_byte"))
        lines.append(f"| {what} | {loss:.4f} | {'—' if bits is None else f'{bits:.4f}'} | {step:,} |")
    return "\n".join([*lines, "", f"The weights are those of step {state['step']:,}."])


def _last_logged(run: Run) -> tuple[float | None, int | None]:
    rows = [row for row in run.history if row.step <= run.state["step"]]
    return (rows[-1].train_loss, rows[-1].step) if rows else (None, None)


def _command(run: Run, config: dict[str, Any]) -> str:
    corpus, origin = dict(config.get("corpus", {})), dict(config.get("origin") or {})
    if origin.get("imported") and not run.state["step"]:
        return f"Imported with `minigpt-tui import`: {_word(str(origin['source']))}. Nothing was trained."
    source = corpus.get("source")
    if source and source not in (STDIN, NO_TEXT) and source.split(" (")[0] not in NAMES:
        corpus["source"] = Path(source).name
    if origin and not origin.get("imported"):
        origin["source"] = _shortened(origin["source"])
    parts = {"corpus": corpus} if corpus else {}
    words, remarks = again(run, config | parts | ({"origin": origin} if origin else {}))
    block = "```\n" + " \\\n    ".join(words) + "\n```"
    return "\n\n".join([block, *remarks])


def _shortened(path: str) -> str:
    """A checkpoint by its run's name."""
    return "/".join(Path(path).parts[-2:])


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _word(text: str) -> str:
    """A name from a file, as text of one line in which Markdown finds nothing."""
    flat = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!~" else c for c in flat)
