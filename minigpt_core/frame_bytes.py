"""A frame as bytes: screen-sized, quantised, compressed; and back, from bytes that anybody may have written.

What reads raises ValueError, TypeError, KeyError, OverflowError, RecursionError or zlib.error where they are damaged.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable

import numpy as np

from minigpt_core.frame import Frame, Health, Lens, RecordedSample
from minigpt_core.status import Stamp

SHAPE = ((1, 4096), (1, 4096), (1, 1024), (1, 64))
"""Bounds of a frame's layers, heads, tokens, and guesses of the lens."""
MOST_VALUES = 2**26
"""In the attention maps of one frame."""
STAMP = {
    "step": (int,),
    "val_loss": (float, int, type(None)),
    "val_step": (int, type(None)),
    "update_ratio": (float, int, type(None)),
}
"""What a stamp says beside the shape."""


def pack(frame: Frame) -> tuple[dict, bytes, bytes, bytes]:
    """The stamp, and three blobs: scores, lens and health, attention below the diagonal as 8-bit square roots."""
    L, H, T, _ = frame.weights.shape
    lower = np.tril_indices(T)
    roots = np.sqrt(np.clip(np.nan_to_num(frame.weights[:, :, lower[0], lower[1]]), 0, 1))  # (L, H, T(T+1)/2)
    attention = np.rint(roots * 255).astype(np.uint8)
    lens, health = frame.lens, frame.health
    rest = b"".join(
        (
            lens.tokens.astype("<u4").tobytes(),
            lens.probabilities.astype("<f2").tobytes(),
            lens.losses.astype("<f2").tobytes(),
            health.residual_norms.astype("<f4").tobytes(),
            health.dead_units.astype("<f4").tobytes(),
        )
    )
    stamp = {
        "step": frame.stamp.step,
        "val_loss": _json_float(frame.stamp.val_loss),
        "val_step": frame.stamp.val_step,
        "update_ratio": _json_float(health.update_ratio),
        "shape": [L, H, T, lens.tokens.shape[2]],
    }
    return stamp, frame.scores.astype("<f4").tobytes(), zlib.compress(rest, 6), zlib.compress(attention.tobytes(), 6)


def read_stamp(text: str) -> dict:
    """A frame's stamp, checked: its shape says how much memory the frame will take."""
    stamp: dict = json.loads(text)
    L, H, T, k = (n if type(n) is int else 0 for n in stamp["shape"])
    if not all(low <= n <= high for n, (low, high) in zip((L, H, T, k), SHAPE, strict=True)):
        raise ValueError(f"a frame of shape {L, H, T, k}")
    if L * H * T * T > MOST_VALUES:
        raise ValueError(f"a frame of shape {L, H, T, k}")
    for name, kinds in STAMP.items():
        if type(stamp[name]) not in kinds:
            raise TypeError(name)
    return stamp


def read_sample(row: tuple) -> RecordedSample:
    step, prompt, text = row
    return RecordedSample(step, str(prompt or ""), str(text or ""))


def _inflated(data: bytes, size: int) -> bytes:
    """What was compressed, `size` bytes; a few bytes may claim to be gigabytes."""
    found = zlib.decompressobj().decompress(data, size + 1)
    if len(found) != size:
        raise ValueError("not the bytes of a frame")
    return found


def unpack(
    stamp: dict,
    scores: bytes,
    rest: bytes,
    attention: bytes,
    tokens: list[int],
    labels: Callable[[list[int]], tuple[str, ...]],
) -> Frame:
    L, H, T, k = stamp["shape"]
    lower = np.tril_indices(T)
    weights = np.zeros((L, H, T, T), np.float32)
    packed = np.frombuffer(_inflated(attention, L * H * len(lower[0])), np.uint8).reshape(L, H, -1)
    weights[:, :, lower[0], lower[1]] = np.square(packed / np.float32(255))
    layout: list[tuple[str, tuple[int, ...]]] = [
        ("<u4", (L + 1, T, k)),
        ("<f2", (L + 1, T, k)),
        ("<f2", (L + 1, T)),
        ("<f4", (L + 1,)),
        ("<f4", (L,)),
    ]
    n_bytes = sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in layout)
    parts = _split(_inflated(rest, n_bytes), layout)
    if type(tokens) is not list or len(tokens) != T or not all(type(token) is int and token >= 0 for token in tokens):
        raise ValueError("not the tokens of a frame")
    lens = Lens(parts[0].astype(np.int64), parts[1].astype(np.float32), parts[2].astype(np.float32))
    return Frame(
        stamp=Stamp(step=stamp["step"], val_loss=stamp["val_loss"], val_step=stamp["val_step"]),
        tokens=labels(tokens),
        weights=weights,
        scores=head_scores(scores, L, H),
        lens=lens,
        lens_labels=lens.labelled(labels),
        health=Health(parts[3], parts[4], stamp["update_ratio"]),
    )


def head_scores(blob: bytes, L: int, H: int) -> np.ndarray:
    return np.frombuffer(blob, "<f4").reshape(4, L, H)


def _split(data: bytes, parts: list[tuple[str, tuple[int, ...]]]) -> list[np.ndarray]:
    arrays, at = [], 0
    for dtype, shape in parts:
        n = math.prod(shape)
        arrays.append(np.frombuffer(data, dtype, n, at).reshape(shape))
        at += n * np.dtype(dtype).itemsize
    return arrays


def _json_float(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
