"""What an attention head does, in four numbers and a word.

All of it is arithmetic on attention patterns P of shape (layer, head, query, key), positions from 0, each row summing
to 1. Sources: previous-token and induction heads, Elhage et al. 2021, "A Mathematical Framework for Transformer
Circuits", and Olsson et al. 2022, "In-context Learning and Induction Heads" (arXiv 2209.11895); attention sinks, Xiao
et al. 2023 (arXiv 2309.17453).
"""

from __future__ import annotations

import numpy as np

SCORES = ("previous", "induction", "sink", "entropy")
"""The scores of a head, each 0 to 1, in the order in which arrays hold them."""

BORN = 0.5
"""A head has a role once its score for it reaches this: more than half of its attention goes where the role says."""
DIFFUSE = 0.9
"""From this entropy on a head without a role averages over all it may see."""

ROLES = {"previous": "a previous-token head", "induction": "an induction head", "sink": "a sink head"}
"""The scores that make a role, and what a head with that role is called."""


def entropy(P: np.ndarray) -> np.ndarray:
    """How evenly a head spreads its attention: mean over queries i >= 1 of H(P[i]) / ln(i + 1); (L, H, T, T) -> (L, H).

    1 is an even spread over all visible keys, 0 a single key. NaN for a text of one token.
    """
    T = P.shape[-1]
    if T < 2:
        return np.full(P.shape[:2], np.nan, np.float32)
    surprise = -P * np.log(np.where(P > 0, P, 1))  # (L, H, T, T): 0 ln 0 is 0
    return (surprise.sum(-1)[..., 1:] / np.log(np.arange(2, T + 1))).mean(-1)  # (L, H, T-1) -> (L, H)


def previous_token(P: np.ndarray) -> np.ndarray:
    """Attention to the token just before: mean over i >= 1 of P[i, i-1]; (L, H, T, T) -> (L, H).

    NaN for a text of one token.
    """
    if P.shape[-1] < 2:
        return np.full(P.shape[:2], np.nan, np.float32)
    return np.diagonal(P, offset=-1, axis1=-2, axis2=-1).mean(-1)


def sink(P: np.ndarray) -> np.ndarray:
    """Attention to the very first token: mean over all i of P[i, 0]; (L, H, T, T) -> (L, H)."""
    return P[..., 0].mean(-1)


def induction(P: np.ndarray) -> np.ndarray:
    """Attention to what followed the same token last time; (L, H, 2S, 2S) -> (L, H).

    P must come from S distinct tokens followed by the same S again. Mean over the second half, i = S … 2S−1, of
    P[i, i−S+1]. Chance, for even attention, is about ln 2 / S.
    """
    S = P.shape[-1] // 2
    i = np.arange(S, 2 * S)
    return P[..., i, i - S + 1].mean(-1)


def scores(P: np.ndarray, repeated: np.ndarray) -> np.ndarray:
    """All four scores: (4, L, H) float32 in the order of `SCORES`.

    Args:
        P: (L, H, T, T) on the watched text.
        repeated: (L, H, 2S, 2S) on S distinct tokens twice.
    """
    return np.stack([previous_token(P), induction(repeated), sink(P), entropy(P)]).astype(np.float32)


def label(score: np.ndarray) -> str:
    """The role of a head by its scores, (4,): "induction", "previous", "sink", "diffuse", or nothing in particular."""
    by_name = dict(zip(SCORES, np.nan_to_num(score).tolist(), strict=True))
    role = max(ROLES, key=by_name.__getitem__)
    if by_name[role] >= BORN:
        return role
    return "diffuse" if by_name["entropy"] >= DIFFUSE else ""


class Births:
    """Says when a head takes up a role: the score reached `BORN` at two frames in a row, so that one is no accident."""

    def __init__(self, known: set[tuple[int, int, str]] | None = None) -> None:
        self._born = set(known or ())
        self._before: dict[tuple[int, int, str], int] = {}
        """Heads whose score was high enough in the frame before, and that frame's step."""

    def update(self, step: int, scores: np.ndarray) -> list[tuple[int, int, int, str, float]]:
        """(step of birth, layer, head, role, score) of every role newly taken up; scores are (4, L, H)."""
        born, high = [], {}
        for role in ROLES:
            score = scores[SCORES.index(role)]  # (L, H)
            for layer, head in np.argwhere(np.nan_to_num(score) >= BORN).tolist():
                key = (layer, head, role)
                if key in self._born:
                    continue
                if key in self._before:
                    self._born.add(key)
                    born.append((self._before[key], layer, head, role, float(score[layer, head])))
                else:
                    high[key] = step
        self._before = high
        return born
