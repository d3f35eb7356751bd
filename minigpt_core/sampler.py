"""Drawing text from a model: prefill the prompt, decode token by token with a key/value cache, turn tokens into text.

`decode` knows tokens only, `stream` adds the tokenizer and the stop texts, `sample` is both in one call. All of it runs
on a replica of the weights with a random generator of its own: training notices nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Unpack

import torch
from torch import Tensor

from minigpt_core.config import SampleConfig, lookup
from minigpt_core.decoder import Decoder
from minigpt_core.generation import FinishReason, Generation, SampleSettings
from minigpt_core.model import GPT
from minigpt_core.status import Choice, Piece
from minigpt_core.tokenizer import Tokenizer, well_formed

COLDEST = 1e-5
"""Below this a temperature is greedy: dividing by it would overflow, and nothing else could be drawn anyway."""

ALTERNATIVES = 5
"""Tokens told beside the one that was drawn."""


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
    """The next token of each text, each at its own temperature (`config.rows`); (B, V) -> (B,).

    Texts that differ in temperature only draw with the same random numbers: each becomes what it would be alone.
    """
    rows = config.rows if len(set(config.rows)) > 1 else config.rows[:1]
    if max(rows) < COLDEST:
        return logits.argmax(-1)
    heat: Tensor | float = rows[0]
    if len(rows) > 1:
        heat = torch.tensor(rows, device=logits.device).clamp(min=COLDEST)[:, None]  # (B, 1)
    scaled = (logits - logits.amax(-1, keepdim=True)) / heat  # (B, V), 0 at most: nothing overflows
    probabilities = filter_logits(scaled, config).softmax(-1)  # (B, V)
    # argmax of p / Exp(1) draws from p without making the CPU wait for the GPU, as multinomial would
    noise = torch.empty_like(probabilities[:1] if config.temperatures else probabilities)  # (1, V) or (B, V)
    token = (probabilities / noise.exponential_(1, generator=generator)).argmax(-1)  # (B,)
    if min(rows) < COLDEST:
        cold = torch.tensor([temperature < COLDEST for temperature in rows], device=logits.device)  # (B,)
        token = torch.where(cold, logits.argmax(-1), token)
    return token


@torch.inference_mode()
def draw(
    model: GPT, prompt: Tensor, config: SampleConfig, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the next token of each text, (B,), and the logits it was drawn from, (B, V), `max_new_tokens` times.

    When the context is full, the last half of it is kept and read again: with learned positions no rolling cache can
    equal a recomputation. An uncached reference that follows the same rule gives the same tokens.

    Args:
        prompt: (B, T) int64, T >= 1; only the last `seq_len` tokens are read.
    """
    seq_len, penalty = model.config.seq_len, config.repetition_penalty
    recent = list(prompt[:, -seq_len:].unbind(1))  # of (B,): what the cache is to hold
    cache, decoder = model.new_cache(prompt.size(0)), None
    seen = torch.zeros(prompt.size(0), model.config.vocab_size, dtype=torch.bool, device=prompt.device)  # (B, V)
    seen.scatter_(1, prompt, True)
    for _ in range(config.max_new_tokens):
        if cache.length or len(recent) == 1:
            decoder = decoder or Decoder(model, cache)  # after a prompt is read: its first token waits for no weights
            logits = decoder(recent[-1]).float()  # (B, V)
        else:
            logits = model(torch.stack(recent, 1), cache)[:, -1].float()  # (B, T) -> (B, V)
        token = pick(logits if penalty == 1 else penalise(logits, seen, penalty), config, generator)  # (B,)
        yield token, logits
        recent.append(token)
        if penalty != 1:
            seen.scatter_(1, token[:, None], True)
        if cache.length == seq_len:
            recent = recent[-max(1, seq_len // 2) :]
            cache.clear()


def decode(model: GPT, prompt: Tensor, config: SampleConfig, generator: torch.Generator) -> Iterator[Tensor]:
    """The tokens that `draw` draws, (B,) at a time."""
    for token, _ in draw(model, prompt, config, generator):
        yield token


def weigh(logits: Tensor, token: Tensor) -> Tensor:
    """What there was to choose from when `token` was drawn, in one tensor, so that one transfer brings it all.

    Args:
        logits: (B, V), as the model gave them.
        token: (B,)

    Returns:
        (B, 2 + 2k), k at most `ALTERNATIVES`: the token, the k likeliest tokens in descending order, and the
        probabilities of all these at temperature 1. Ids are exact as float32 up to 2**24.
    """
    likeliest = logits.topk(min(ALTERNATIVES, logits.size(-1))).indices  # (B, k)
    ids = torch.cat([token[:, None], likeliest], -1)  # (B, 1 + k)
    return torch.cat([ids.float(), logits.softmax(-1).gather(-1, ids)], -1)  # (B, 2 + 2k)


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


class Labels(dict[int, str]):
    """Token ids to what people see of them, each asked for once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, token: int) -> str:
        self[token] = self._tokenizer.token_labels([token])[0]
        return self[token]

    def choice(self, text: str, weighed: list[float]) -> Choice:
        """A row of `weigh` and the text that the token brought, in plain types."""
        k = len(weighed) // 2 - 1
        likeliest = zip(weighed[1 : k + 1], weighed[k + 2 :], strict=True)
        drawn = self[int(weighed[0])]
        alternatives = tuple((self[int(token)], p) for token, p in likeliest)
        return Choice(text, weighed[k + 1], alternatives, "" if drawn == text else drawn)


def stream(
    model: GPT,
    tokenizer: Tokenizer,
    tokens: list[int],
    config: SampleConfig,
    seed: int,
    cancelled: Callable[[], bool] = lambda: False,
    choices: bool = False,
) -> Iterator[Piece | FinishReason]:
    """Text as it is drawn, a piece a token and sample; the last item says why it ended.

    Args:
        tokens: the encoded prompt, at least one token.
        cancelled: asked after every token.
        choices: tell with each piece what there was to choose from.
    """
    device = model.token_embedding.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    rows = range(len(config.rows))
    prompt = torch.tensor([tokens], device=device).repeat(len(rows), 1)  # (B, T)
    decoders = [tokenizer.decoder() for _ in rows]
    stops = [StopText(config.stop) for _ in rows]
    labels = Labels(tokenizer)
    reason: FinishReason | None = None
    for count, (token, logits) in enumerate(draw(model, prompt, config, generator), 1):
        drawn = (weigh(logits, token) if choices else token[:, None]).tolist()  # the one wait for the device
        going = [row for row in rows if not stops[row].found]
        raw = {row: well_formed(decoders[row].feed([int(drawn[row][0])])) for row in going}
        texts = {row: stops[row].feed(raw[row]) for row in going}
        if all(stop.found for stop in stops):
            reason = "stop"
        elif cancelled():
            reason = "cancelled"
        elif count == config.max_new_tokens:
            reason = "length"
        if reason:  # what was held back leaves with the last token
            for row in going:
                rest = well_formed(decoders[row].flush())
                raw[row] += rest
                texts[row] += stops[row].feed(rest) + stops[row].flush()
        for row in going:
            yield Piece(row, texts[row], labels.choice(raw[row], drawn[row]) if choices else None)
        if reason:
            yield reason
            return


def fresh_seed() -> int:
    """A seed nobody chose, small enough to type again; not drawn from torch, whose generators belong to training."""
    return secrets.randbelow(1_000_000)


def answer(generation: Generation, model: GPT, tokenizer: Tokenizer, tokens: list[int], seed: int) -> None:
    """Write the whole answer into `generation`, from its first piece to its end."""
    items = stream(model, tokenizer, tokens, generation.config, seed, lambda: generation.cancelled, choices=True)
    for item in items:
        if isinstance(item, Piece):
            generation.put(item.sample, item.text, item.choice)
        else:
            generation.finish(item)


def sample(model: GPT, tokenizer: Tokenizer, prompt: str = "", **settings: Unpack[SampleSettings]) -> str:
    """Text that the model writes after `prompt`; `settings` are those of `SampleConfig`.

    The same seed gives the same text; without one every call has a seed of its own.

    >>> len(sample(model, tokenizer, "the cat", max_new_tokens=30, temperature=1.5, top_k=5))
    30
    >>> sample(model, tokenizer, "the cat", temprature=0)
    Traceback (most recent call last):
    minigpt_core.errors.UsageError: unknown setting 'temprature'; did you mean 'temperature'? known: ...

    Raises:
        UsageError: there is no such setting, its value cannot be, or tokenizer and model do not belong together.
    """
    for name in settings:
        lookup(SampleSettings.__annotations__, name, "setting")
    config = SampleConfig(**settings)
    model.check_vocabulary(tokenizer.vocab_size)
    tokens, _ = encode_prompt(tokenizer, prompt)
    seed = fresh_seed() if config.seed is None else config.seed
    training = model.training
    model.eval()
    try:
        items = list(stream(model, tokenizer, tokens, config.replace(num_samples=1, temperatures=()), seed))
    finally:
        model.train(training)
    return "".join(item.text for item in items if isinstance(item, Piece))
