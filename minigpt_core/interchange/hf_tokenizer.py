"""Our tokenizers as files of the `tokenizers` library, which `AutoTokenizer` reads: the same ids for the same text.

All are its BPE. Without merges it takes a text apart into characters or, behind its `ByteLevel`, into bytes; like our
own it leaves out characters that are not in the vocabulary, or has one token for them.
"""

from __future__ import annotations

import msgspec

from minigpt_core.bpe import BPETokenizer, byte_alphabet
from minigpt_core.byte_level import ByteTokenizer
from minigpt_core.errors import UserError
from minigpt_core.tokenizer import UNKNOWN_CHAR, CharTokenizer, Tokenizer

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
OURS = "minigpt_tui"
"""The entry of `tokenizer_config.json` that says our tokenizer as we keep it; others ignore it."""


def tokenizer_files(tokenizer: Tokenizer, seq_len: int) -> dict[str, bytes]:
    """The content of each file, by name.

    Raises:
        UserError: a vocabulary that cannot be written.
    """
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": seq_len,
        OURS: tokenizer.to_dict(),
    }
    try:
        return {
            TOKENIZER: as_library(tokenizer).encode(),
            TOKENIZER_CONFIG: msgspec.json.format(msgspec.json.encode(settings)) + b"\n",
        }
    except UnicodeEncodeError:
        raise UserError("its vocabulary holds half a surrogate pair, which no other program can read") from None


def as_library(tokenizer: Tokenizer) -> str:
    """`tokenizer.json`."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    unknown, merges = None, list[tuple[str, str]]()
    match tokenizer:
        case CharTokenizer():
            tokens = list(tokenizer.characters)
            unknown = UNKNOWN_CHAR if tokenizer.has_unknown else None
        case ByteTokenizer():
            tokens = byte_alphabet()
        case BPETokenizer():
            tokens = list(tokenizer.tokens)
            merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in tokenizer.merges)]
        case _:
            raise UserError(f"the {tokenizer.to_dict()['type']} tokenizer has no counterpart in other programs")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=False))
    if isinstance(tokenizer, CharTokenizer):
        made.decoder = decoders.Fuse()
    else:
        regex = isinstance(tokenizer, BPETokenizer)  # GPT-2's, within whose stretches merges stay
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
        made.decoder = decoders.ByteLevel()
    return made.to_str()
