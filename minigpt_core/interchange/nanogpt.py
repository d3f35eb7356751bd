"""nanoGPT's checkpoints (github.com/karpathy/nanoGPT, `train.py`): a dict with `model`, `model_args` and more.

The file is read as our own checkpoints are: nothing in it is called but what rebuilds tensors. `meta.pkl`, in which
nanoGPT keeps a vocabulary of characters, is a pickle and never opened: the vocabulary is that of the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from minigpt_core.archive import read_archive
from minigpt_core.corpus import Corpus
from minigpt_core.errors import UsageError, UserError
from minigpt_core.gpt2_files import load_gpt2
from minigpt_core.interchange import gpt2
from minigpt_core.interchange.arrival import GPT2_VOCABULARY, MOST_PADDING, Arrival, without_padding
from minigpt_core.reading import brief
from minigpt_core.tokenizer import CharTokenizer, Tokenizer

CHECKPOINT = "ckpt.pt"
COMPILED = "_orig_mod."
"""What names begin with where the model was compiled."""
NO_BIASES = "it has no biases, and has ones of zero here, which further training moves"


class ModelArgs(msgspec.Struct):
    """nanoGPT's `model_args`."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    vocab_size: int
    bias: bool = True
    dropout: float = 0.0


def read(path: Path, text: Corpus | None, tokenizer: str | None = None) -> Arrival:
    """The model in a checkpoint.

    Args:
        text: what a model of characters was trained on.
        tokenizer: a folder with GPT-2's vocabulary, for a model of its tokens; None: the local Hugging Face cache.

    Raises:
        UserError: it is damaged, or no checkpoint of nanoGPT; names the file and the reason.
        UsageError: the text is needed, or is not the one that it was trained on.
    """
    saved = read_archive(path, "nanoGPT checkpoint")
    if isinstance(saved, dict) and "model_config" in saved:
        raise UsageError(f"{str(path)!r} is a checkpoint of minigpt-tui itself: use it as it is, as RUN")
    if not isinstance(saved, dict) or not {"model", "model_args"} <= saved.keys():
        raise UserError(f"{str(path)!r} is not a nanoGPT checkpoint: it has no model and model_args")
    try:
        args = msgspec.convert(saved["model_args"], ModelArgs)
        config = gpt2.classic(
            vocab_size=args.vocab_size,
            seq_len=args.block_size,
            n_layers=args.n_layer,
            num_heads=args.n_head,
            embed_dim=args.n_embd,
            dropout=args.dropout,
            activation="gelu_erf",
        )
        weights = _weights(saved["model"])
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        gpt2.check(shapes, config, conv1d=False, biases=args.bias)
        vocabulary = _vocabulary(config.vocab_size, text, tokenizer)
        state = gpt2.to_ours(weights.get, config, conv1d=False)
        config, state, remarks = without_padding(config, state, vocabulary.vocab_size)
    except (UserError, msgspec.ValidationError) as error:
        kind = UsageError if isinstance(error, UsageError) else UserError
        raise kind(f"{str(path)!r} cannot be imported: {brief(error, 300)}") from None
    name = path.resolve().parent.name if path.name == CHECKPOINT else path.stem
    remarks += () if args.bias else (NO_BIASES,)
    return Arrival(name, f"nanoGPT checkpoint {path.name!r}{_progress(saved)}", config, state, vocabulary, remarks)


def _weights(found: Any) -> dict[str, Tensor]:
    if not isinstance(found, Mapping):
        raise UserError("its model is none")
    weights = {gpt2.bare(str(name).removeprefix(COMPILED)): weight for name, weight in found.items()}
    for name, weight in weights.items():
        if not isinstance(weight, Tensor) or not (weight.is_floating_point() or name.endswith(gpt2.MASKS)):
            raise UserError(f"{name[:60]!r} is no weight")
    return weights


def _vocabulary(size: int, text: Corpus | None, tokenizer: str | None) -> Tokenizer:
    """Of the characters of the text, in the order of nanoGPT's `prepare.py`; or GPT-2's."""
    if tokenizer is not None or 0 <= size - GPT2_VOCABULARY < MOST_PADDING:
        return load_gpt2(tokenizer)
    if text is None:
        raise UsageError(
            f"give the text that it was trained on with --data, for its vocabulary of {size:,} characters "
            "(nanoGPT keeps that in meta.pkl, which is never opened since it can hold code)"
        )
    found = CharTokenizer.from_text(text.text)
    if found.vocab_size != size:
        raise UsageError(
            f"its vocabulary has {size:,} characters and the text {found.vocab_size:,}: give the text it was trained on"
        )
    return found


def _progress(saved: Mapping[str, Any]) -> str:
    """What it says of its training, as far as that can be believed."""
    step, loss = saved.get("iter_num"), saved.get("best_val_loss")
    if isinstance(loss, Tensor) and loss.numel() == 1:
        loss = loss.item()
    said = f", iteration {step:,}" if type(step) is int else ""
    return said + (f", best validation loss {loss:.4f}" if type(loss) is float and 0 < loss < 1e6 else "")
