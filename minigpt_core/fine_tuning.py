"""A new run that begins with the weights of another: `train --from RUN`, also of one that was imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt_core.config import DEFAULT_SIZES, FINE_TUNING, ModelConfig, option
from minigpt_core.corpus import encode, load_corpus, split
from minigpt_core.errors import UsageError, UserError
from minigpt_core.plan import Plan, Request
from minigpt_core.ranks import check_batch, leading
from minigpt_core.rundir import find_checkpoint, new_run_dir
from minigpt_core.sizes import complete_sizes
from minigpt_core.stored import Origin, read_config, read_tokenizer
from minigpt_core.tokenizer_spec import TokenizerSpec

if TYPE_CHECKING:
    from minigpt_core.model import GPT

MOST_NAMED = 8
"""Characters that a warning lists."""


@dataclass(frozen=True)
class Start:
    """Weights to begin with.

    Attributes:
        checkpoint: they are in.
        origin: what the new run says of them; its step is known once they are loaded.
    """

    checkpoint: Path
    origin: Origin

    def model(self, config: ModelConfig) -> GPT:
        """A model of these weights; one of a shorter context has the first of the learned positions.

        Raises:
            UserError: the checkpoint cannot be used.
        """
        from minigpt_core import checkpoint
        from minigpt_core.model import GPT

        saved = checkpoint.load(self.checkpoint)
        there = ModelConfig.from_dict(saved["model_config"])
        if there.replace(seq_len=config.seq_len, dropout=config.dropout) != config:
            raise UserError(f"checkpoint {str(self.checkpoint)!r} is not of the model that its run's config.json says")
        self.origin.step = saved["state"]["step"]
        weights = saved["model"]
        if config.positions == "learned":
            weights["position_embedding.weight"] = weights["position_embedding.weight"][: config.seq_len]
        model = GPT.empty(config)
        model.load_state_dict(weights)
        return model


def prepare_from(request: Request) -> Plan:
    """As `plan.prepare`: architecture and vocabulary are the other run's, its `--dropout` may change, and its context
    may become shorter. The rate is that of `FINE_TUNING`, unless another or another optimizer is asked for.

    Raises:
        UserError, UsageError: something is not as it must be; nothing was created.
    """
    run, path = find_checkpoint(request.from_run, Path(request.out))
    if not path.is_file():
        raise UserError(f"run {run.name!r} has no checkpoint yet to begin with")
    config, tokenizer = read_config(run), read_tokenizer(run)
    model = settled(request, config["model"])
    train = request.train if "optimizer" in request.train else FINE_TUNING | request.train
    where = leading(request.nproc)
    for kind in DEFAULT_SIZES:
        _, complete = complete_sizes(kind, model, train, tokenizer.vocab_size)
        if "batch_size" in train:
            check_batch(complete, where.size)
    text = load_corpus(request.data, encoding=request.encoding, text_field=request.text_field)
    tokens = encode(tokenizer, text.text)
    split(tokens, model["seq_len"])
    warnings = []
    if unknown := tokenizer.unknown(text.text):
        named = ", ".join(map(repr, unknown[:MOST_NAMED])) + (" …" if len(unknown) > MOST_NAMED else "")
        warnings.append(
            f"the text has {len(unknown):,} characters outside the vocabulary, replaced or left out: {named}"
        )
    new = new_run_dir(Path(request.out), request.name, text.name)
    start = Start(path, Origin(source=str(path.resolve())))
    read = {"encoding": request.encoding, "text_field": request.text_field}
    identity = text.identity | {name: value for name, value in read.items() if value}
    spec = TokenizerSpec(**config.get("tokenizer") or {})
    return Plan(
        new, tokenizer, tokens, identity, model, train, start=start, warnings=tuple(warnings), spec=spec, place=where
    )


def settled(request: Request, model: Mapping[str, Any]) -> dict[str, Any]:
    """The other run's model settings with what may change.

    Raises:
        UsageError: something else was asked for; names the option.
    """
    for name in ("preset", "ablate", "vocab_size", "tokenizer"):
        if getattr(request, name) and not (name == "vocab_size" and request.vocab_size == model[name]):
            raise UsageError(f"{option(name)} and --from contradict each other: the weights bring it with them")
    for name, value in request.model.items():
        if name == "seq_len" and isinstance(value, int) and 0 < value <= model[name]:
            continue
        if name != "dropout" and value != model[name]:
            least = f"at most {model[name]}" if name == "seq_len" else f"{model[name]}"
            raise UsageError(f"{option(name)} {value} and --from contradict each other: in these weights it is {least}")
    return {**model, **request.model}
