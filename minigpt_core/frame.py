"""What a probe sees in one snapshot of the weights: attention, head scores, logit lens, health. Plain NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minigpt_core.status import Stamp

LENS_TOP = 5
"""Tokens that the lens keeps of each next-token distribution."""


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """What the model would say next if it stopped after each stage: softmax(head(final norm(residual stream))).

    Stage 0 is the embeddings, stage l the stream after l blocks; the last stage is the model's own prediction.
    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".

    Attributes:
        tokens: (L+1, T, k) int64, the likeliest next tokens, likeliest first.
        probabilities: (L+1, T, k) float32, theirs.
        losses: (L+1, T) float32, −ln p of the token that does follow, in nats; NaN where the text has ended.
    """

    tokens: np.ndarray
    probabilities: np.ndarray
    losses: np.ndarray

    def labelled(self, labels: Callable[[list[int]], tuple[str, ...]]) -> dict[int, str]:
        """The text of every token id that occurs here, by a tokenizer's `token_labels`."""
        ids: list[int] = np.unique(self.tokens).tolist()
        return dict(zip(ids, labels(ids), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Health:
    """How the inside of the model fares.

    Attributes:
        residual_norms: (L+1,) float32, mean length of the residual stream's vectors at each stage.
        dead_units: (L,) float32, share of each layer's feed-forward units that fire (activation above 0) for no token
            of a piece of validation text.
        update_ratio: log10(std(Δw) / std(w)) of one optimizer step, median over the matrices; about −3 is healthy. None
            while no two neighbouring steps have been compared.
    """

    residual_norms: np.ndarray
    dead_units: np.ndarray
    update_ratio: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One look into one snapshot of the weights, on one text of T tokens.

    Attributes:
        stamp: the weights it came from.
        tokens: T labels, the text of each token.
        weights: (L, H, T, T) float32, attention: rows are queries, columns keys, each row sums to 1.
        scores: (4, L, H) float32, in the order of `heads.SCORES`.
        lens: the logit lens at every position.
        lens_labels: the text of every token id that occurs in the lens.
        health: norms, dead units, update ratio.
    """

    stamp: Stamp
    tokens: tuple[str, ...]
    weights: np.ndarray
    scores: np.ndarray
    lens: Lens
    lens_labels: dict[int, str]
    health: Health


@dataclass(frozen=True, slots=True)
class RecordedSample:
    """What the model wrote at a step, after the beginning of the probe text."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class HeadHistory:
    """The scores of every head through the run.

    Attributes:
        steps: (n,) int64, ascending.
        scores: (n, 4, L, H) float32, in the order of `heads.SCORES`.
    """

    steps: np.ndarray
    scores: np.ndarray
