"""GPT-2's names for what a `classic` model is made of: settings and weights, both ways.

Hugging Face and nanoGPT share the names; Hugging Face keeps the matrices of the blocks as (in, out), which its `Conv1D`
multiplies from the right, where `nn.Linear` keeps (out, in). Query, key and value lie side by side in one matrix, and
each head's dimensions together, in both as here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from minigpt_core.config import PRESETS, ModelConfig
from minigpt_core.errors import UserError
from minigpt_core.model import NORM_EPSILON
from minigpt_core.reading import brief

HEAD = "lm_head.weight"


class Pair(NamedTuple):
    """A weight's name here and in GPT-2."""

    ours: str
    theirs: str
    matrix: bool = False
    """One of a block's matrices, which Hugging Face keeps transposed."""


BEFORE = (Pair("token_embedding.weight", "wte.weight"), Pair("position_embedding.weight", "wpe.weight"))
BLOCK = (
    Pair("norm1.weight", "ln_1.weight"),
    Pair("norm1.bias", "ln_1.bias"),
    Pair("attention.qkv.weight", "attn.c_attn.weight", matrix=True),
    Pair("attention.qkv.bias", "attn.c_attn.bias"),
    Pair("attention.proj.weight", "attn.c_proj.weight", matrix=True),
    Pair("attention.proj.bias", "attn.c_proj.bias"),
    Pair("norm2.weight", "ln_2.weight"),
    Pair("norm2.bias", "ln_2.bias"),
    Pair("mlp.up.weight", "mlp.c_fc.weight", matrix=True),
    Pair("mlp.up.bias", "mlp.c_fc.bias"),
    Pair("mlp.proj.weight", "mlp.c_proj.weight", matrix=True),
    Pair("mlp.proj.bias", "mlp.c_proj.bias"),
)
AFTER = (Pair("final_norm.weight", "ln_f.weight"), Pair("final_norm.bias", "ln_f.bias"))
MASKS = (".attn.bias", ".attn.masked_bias")
"""How names end that are no weights: the causal mask, which some versions store."""

ACTIVATIONS = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu": "gelu_erf"}
"""GPT-2's names of what we have; the first that fits is written."""


def pairs(config: ModelConfig) -> Iterator[Pair]:
    """Every weight of a model, in order; a tied head is none of its own."""
    yield from BEFORE
    for layer in range(config.n_layers):
        for ours, theirs, matrix in BLOCK:
            yield Pair(f"blocks.{layer}.{ours}", f"h.{layer}.{theirs}", matrix)
    yield from AFTER
    if not config.tied_head:
        yield Pair("head.weight", HEAD)


def shapes(config: ModelConfig) -> Callable[[Pair], tuple[int, ...]]:
    """The shape that each weight has here."""
    C, V, T, F = config.embed_dim, config.vocab_size, config.seq_len, config.ff_mult * config.embed_dim  # noqa: N806
    known = {
        "token_embedding.weight": (V, C),
        "head.weight": (V, C),
        "position_embedding.weight": (T, C),
        "attention.qkv.weight": (3 * C, C),
        "attention.qkv.bias": (3 * C,),
        "attention.proj.weight": (C, C),
        "mlp.up.weight": (F, C),
        "mlp.up.bias": (F,),
        "mlp.proj.weight": (C, F),
    }
    return lambda pair: known.get(pair.ours.split(".", 2)[2] if pair.ours.startswith("blocks.") else pair.ours, (C,))


# --- weights ---


def bare(name: str) -> str:
    """A weight's name without the model's own, which some files have and others do not."""
    return name.removeprefix("transformer.")


def check(found: Mapping[str, tuple[int, ...]], config: ModelConfig, *, conv1d: bool, biases: bool = True) -> None:
    """Whether these are the shapes of a model's weights, all of them and no others; before any is read or made.

    Args:
        found: by GPT-2's names.
        conv1d: the blocks' matrices are (in, out), as Hugging Face keeps them.
        biases: without them, every name that ends in `.bias` is missing.

    Raises:
        UserError: in one line, what is wrong.
    """
    expected, shape_of = {HEAD}, shapes(config)  # a tied head may be stored a second time
    for pair in pairs(config):
        if pair.theirs.endswith(".bias") and not biases:
            continue
        expected.add(pair.theirs)
        shape = shape_of(pair)[:: -1 if pair.matrix and conv1d else 1]
        if pair.theirs not in found:
            raise UserError(f"the weight {pair.theirs!r} is missing")
        if tuple(found[pair.theirs]) != shape:
            raise UserError(f"the weight {pair.theirs!r} is {_size(found[pair.theirs])} and should be {_size(shape)}")
    if extra := [name for name in found if name not in expected and not name.endswith(MASKS)]:
        raise UserError(f"there is a weight {brief(ValueError(min(extra)), 60)!r}, which GPT-2 does not have")


def to_ours(read: Callable[[str], Tensor | None], config: ModelConfig, *, conv1d: bool) -> dict[str, Tensor]:
    """The state of a `GPT` of this configuration; its memory is its own.

    Args:
        read: a weight by GPT-2's name; None for a bias that is not there, and then is zero.
    """
    state, shape_of = {}, shapes(config)
    for pair in pairs(config):
        weight = read(pair.theirs)
        if weight is None:
            weight = torch.zeros(shape_of(pair))
        if not weight.isfinite().all():
            raise UserError(f"the weight {pair.theirs!r} holds numbers that are not finite")
        weight = weight.t() if pair.matrix and conv1d else weight
        state[pair.ours] = weight.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    if config.tied_head:
        state["head.weight"] = state["token_embedding.weight"]
    return state


def to_theirs(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The weights of a `GPT` as Hugging Face names and keeps them."""
    return {
        pair.theirs if pair.theirs == HEAD else f"transformer.{pair.theirs}": (
            state[pair.ours].t().contiguous() if pair.matrix else state[pair.ours].contiguous()
        )
        for pair in pairs(config)
    }


def _size(shape: Iterable[int]) -> str:
    return " × ".join(map(str, shape)) or "a single number"


# --- settings ---


class Gpt2Config(msgspec.Struct):
    """What `config.json` says of a GPT-2; what it does not say is as in GPT-2 small."""

    model_type: str = ""
    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = NORM_EPSILON
    resid_pdrop: float = 0.1
    tie_word_embeddings: bool = True
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    add_cross_attention: bool = False
    quantization_config: dict[str, Any] | None = None


ONLY = {
    "model_type": "gpt2",
    "layer_norm_epsilon": NORM_EPSILON,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
    "quantization_config": None,
}
"""Settings that have one value here: our model has no other."""


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """The model that a Hugging Face `config.json` describes.

    Raises:
        UserError: our model cannot be it; names the setting.
    """
    try:
        found = msgspec.convert(dict(values), Gpt2Config)
    except msgspec.ValidationError as error:
        raise UserError(brief(error)) from None
    for name, only in ONLY.items():
        if (value := getattr(found, name)) != only:
            said = brief(ValueError(repr(value)), 60)
            raise UserError(f"{name} is {said}, and a classic model here can only have {only!r}")
    if found.activation_function not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UserError(f"activation_function is {found.activation_function[:40]!r}, and known are {known}")
    inner = 4 * found.n_embd if found.n_inner is None else found.n_inner
    if found.n_embd < 1 or inner < 1 or inner % found.n_embd:
        raise UserError(f"n_inner is {inner}, and can only be a multiple of n_embd, which is {found.n_embd}")
    return classic(
        vocab_size=found.vocab_size,
        seq_len=found.n_positions,
        n_layers=found.n_layer,
        num_heads=found.n_head,
        embed_dim=found.n_embd,
        ff_mult=inner // found.n_embd,
        dropout=found.resid_pdrop,
        tied_head=found.tie_word_embeddings,
        activation=ACTIVATIONS[found.activation_function],
    )


def classic(**settings: Any) -> ModelConfig:
    """A `classic` model of these settings, which come from a file.

    Raises:
        UserError: there can be none.
    """
    heads, width = settings["num_heads"], settings["embed_dim"]
    if heads < 1 or width % heads:
        raise UserError(f"its width {width} is not divisible by its {heads} attention heads")
    try:
        return ModelConfig(**PRESETS["classic"] | settings)
    except UserError as error:
        raise UserError(brief(error)) from None


def why_not(config: ModelConfig) -> str | None:
    """What keeps a model from being a GPT-2; None if it is one."""
    free = {"tied_head", "activation", "init"}
    for name, only in PRESETS["classic"].items():
        if name not in free and (value := getattr(config, name)) != only:
            return f"its {name} is {value!r}, and GPT-2's {only!r}"
    if config.activation not in ACTIVATIONS.values():
        return f"its activation is {config.activation!r}, and GPT-2's 'gelu'"
    return None


def write_config(config: ModelConfig) -> dict[str, Any]:
    """`config.json` as Hugging Face reads it.

    Args:
        config: one of which `why_not` says nothing.
    """
    activation = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation)
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.seq_len,
        "n_ctx": config.seq_len,
        "n_embd": config.embed_dim,
        "n_layer": config.n_layers,
        "n_head": config.num_heads,
        "n_inner": None if config.ff_mult == 4 else config.ff_mult * config.embed_dim,
        "activation_function": activation,
        "layer_norm_epsilon": NORM_EPSILON,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "initializer_range": 0.02,
        "tie_word_embeddings": config.tied_head,
        "torch_dtype": "float32",
    }
