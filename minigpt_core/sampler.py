"""Drawing text from a model: prefill the prompt, decode token by token with a key/value cache, turn tokens into text.

`decode` knows tokens only, `stream` adds the tokenizer and the stop texts, `sample` is both in one call. All of it runs
on a replica of the weights with a random generator of its own: training notices nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from minigpt_core.config import SampleConfig
from minigpt_core.generation import FinishReason, Generation
from minigpt_core.model import GPT
from minigpt_core.status import Piece
from minigpt_core.tokenizer import Tokenizer

COLDEST = 1e-5
"""Below this a temperature is greedy: dividing by it would overflow, and nothing else could be drawn anyway."""


def filter_logits(logits: Tensor, config: SampleConfig) -> Tensor:
    """Logits with everything that top-k, top-p and min-p exclude at minus infinity; (B, V) -> (B, V).

    Exactly k tokens survive top-k, also among equals. The most likely token survives always.
    """
    minus_infinity = float("-inf")
    if 0 < config.top_k < logits.size(-1):
        values, indices = logits.topk(config.top_k)  # (B, k)
        logits = torch.full_like(logits, minus_infinity).scatter(-1, indices, values)  # (B, V)
    if config.top_p < 1:
        ordered, indices = logits.sort(descending=True, stable=True)  # (B, V)
        probabilities = ordered.softmax(-1)  # (B, V)
        before = cumulative(probabilities) - probabilities  # (B, V): probability of all that is more likely
        ordered = ordered.masked_fill(before >= max(config.top_p, 1e-9), minus_infinity)
        ordered[..., 0] = logits.gather(-1, indices[..., :1]).squeeze(-1)
        logits = torch.full_like(logits, minus_infinity).scatter(-1, indices, ordered)  # (B, V)
    if config.min_p > 0:
        probabilities = logits.softmax(-1)  # (B, V)
        floor = config.min_p * probabilities.amax(-1, keepdim=True)  # (B, 1)
        logits = logits.masked_fill(probabilities < floor, minus_infinity)
    return logits


def cumulative(x: Tensor) -> Tensor:
    """Running sum over the last dimension; in deterministic mode on the CPU, since CUDA's is not."""
    return x.cpu().cumsum(-1).to(x.device) if torch.are_deterministic_algorithms_enabled() else x.cumsum(-1)


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """CTRL's repetition penalty on tokens already seen; (B, V) logits, (B, V) bool -> (B, V)."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def pick(logits: Tensor, config: SampleConfig, generator: torch.Generator) -> Tensor:
    """The next token of each text; (B, V) -> (B,)."""
    if config.temperature < COLDEST:
        return logits.argmax(-1)
    logits = (logits - logits.amax(-1, keepdim=True)) / config.temperature  # (B, V), 0 at most: nothing overflows
    probabilities = filter_logits(logits, config).softmax(-1)  # (B, V)
    # argmax of p / Exp(1) draws from p without making the CPU wait for the GPU, as multinomial would
    noise = torch.empty_like(probabilities).exponential_(1, generator=generator)  # (B, V)
    return (probabilities / noise).argmax(-1)  # (B,)


@torch.inference_mode()
def decode(model: GPT, prompt: Tensor, config: SampleConfig, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the next token of each text, (B,) at a time, `max_new_tokens` times.

    When the context is full, the last half of it is kept and read again: with learned positions no rolling cache can
    equal a recomputation. An uncached reference that follows the same rule gives the same tokens.

    Args:
        prompt: (B, T) int64, T >= 1; only the last `seq_len` tokens are read.
    """
    seq_len, batch_size = model.config.seq_len, prompt.size(0)
    length = min(prompt.size(1), seq_len)
    window = prompt.new_empty(batch_size, seq_len + 1)  # (B, seq_len + 1): what the cache holds, and one token more
    window[:, :length] = prompt[:, -seq_len:]
    fresh = window[:, :length]  # (B, T): what of it the model has yet to read
    cache = model.new_cache(batch_size)
    penalty = config.repetition_penalty
    seen = torch.zeros(batch_size, model.config.vocab_size, dtype=torch.bool, device=prompt.device)  # (B, V)
    seen.scatter_(1, prompt, True)
    for _ in range(config.max_new_tokens):
        if length > seq_len:
            kept = max(1, seq_len // 2)
            fresh = window[:, length - kept : length].clone()  # (B, kept)
            window[:, :kept], length = fresh, kept
            for layer in cache:
                layer.length = 0
        logits = model(fresh, cache)[:, -1].float()  # (B, V)
        token = pick(logits if penalty == 1 else penalise(logits, seen, penalty), config, generator)  # (B,)
        yield token
        fresh = token[:, None]  # (B, 1)
        window[:, length], length = token, length + 1
        if penalty != 1:
            seen.scatter_(1, fresh, True)


class StopText:
    """Holds back text that may turn out to be the beginning of a stop text."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.stops = tuple(stop for stop in stops if stop)
        self.held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """The text that can be shown now; once `found`, nothing more comes."""
        if self.found:
            return ""
        self.held += text
        ends = [end for stop in self.stops if (end := self.held.find(stop)) >= 0]
        if ends:
            self.found = True
            shown, self.held = self.held[: min(ends)], ""
            return shown
        keep = max((n for stop in self.stops for n in range(1, len(stop)) if self.held.endswith(stop[:n])), default=0)
        shown, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return shown

    def flush(self) -> str:
        shown, self.held = self.held, ""
        return shown


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> tuple[list[int], tuple[str, ...]]:
    """The prompt's tokens, at least one, and warnings about what could not be encoded."""
    warnings = []
    unknown = tokenizer.unknown(prompt)
    if unknown:
        names = ", ".join(repr(c) for c in unknown[:8]) + (" …" if len(unknown) > 8 else "")
        warnings.append(f"not in this model's vocabulary and replaced or left out: {names}")
    tokens = tokenizer.encode(prompt).tolist()
    if not tokens:  # a model needs something to go on: a line begins
        tokens = tokenizer.encode("\n").tolist() or [0]
    return tokens, tuple(warnings)


def stream(
    model: GPT,
    tokenizer: Tokenizer,
    tokens: list[int],
    config: SampleConfig,
    seed: int,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Piece | FinishReason]:
    """Text as it is drawn, a piece a token and sample; the last item says why it ended.

    Args:
        tokens: the encoded prompt, at least one token.
        cancelled: asked after every token.
    """
    device = model.token_embedding.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    prompt = torch.tensor([tokens], device=device).repeat(config.num_samples, 1)  # (B, T)
    decoders = [tokenizer.decoder() for _ in range(config.num_samples)]
    stops = [StopText(config.stop) for _ in range(config.num_samples)]
    reason: FinishReason | None = None
    for count, column in enumerate(decode(model, prompt, config, generator), 1):
        texts = [
            stop.feed(decoder.feed([token]))
            for stop, decoder, token in zip(stops, decoders, column.tolist(), strict=True)
        ]
        if all(stop.found for stop in stops):
            reason = "stop"
        elif cancelled():
            reason = "cancelled"
        elif count == config.max_new_tokens:
            reason = "length"
        if reason:  # what was held back leaves with the last token
            texts = [
                text + stop.feed(decoder.flush()) + stop.flush()
                for text, stop, decoder in zip(texts, stops, decoders, strict=True)
            ]
        for i, text in enumerate(texts):
            yield Piece(i, text)
        if reason:
            yield reason
            return


def fresh_seed() -> int:
    """A seed nobody chose, small enough to type again; not drawn from torch, whose generators belong to training."""
    return secrets.randbelow(1_000_000)


def answer(generation: Generation, model: GPT, tokenizer: Tokenizer, tokens: list[int], seed: int) -> None:
    """Write the whole answer into `generation`, from its first piece to its end."""
    for item in stream(model, tokenizer, tokens, generation.config, seed, lambda: generation.cancelled):
        if isinstance(item, Piece):
            generation.put(item.sample, item.text)
        else:
            generation.finish(item)


def sample(model: GPT, tokenizer: Tokenizer, prompt: str = "", **settings: object) -> str:
    """Text that the model writes after `prompt`; `settings` are those of `SampleConfig`.

    >>> sample(model, tokenizer, "To be", max_new_tokens=200, temperature=0.8)  # doctest: +SKIP
    """
    config = SampleConfig(**settings)  # type: ignore[arg-type]
    tokens, _ = encode_prompt(tokenizer, prompt)
    seed = fresh_seed() if config.seed is None else config.seed
    training = model.training
    model.eval()
    try:
        items = list(stream(model, tokenizer, tokens, config.replace(num_samples=1), seed))
    finally:
        model.train(training)
    return "".join(item.text for item in items if isinstance(item, Piece))
