"""What of a frame is looked at: one head, all heads, or the mean over a layer's heads or over all of them."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from minigpt_core.frame import Frame
from minigpt_core.heads import label
from minigpt_tui.widgets.attention_caption import Phrase, what_head, what_mean

Mode = Literal["one", "all", "mean"]
MODES: tuple[Mode, ...] = get_args(Mode)


class Choice:
    """A mode, a layer and a head, and in the mean maybe all layers. `size` is (layers, heads)."""

    def __init__(self) -> None:
        self.mode: Mode = "one"
        self.layer = 0
        self.head = 0
        self.all_layers = False
        self._mean: tuple[Frame, int | None, np.ndarray] | None = None

    def fit(self, size: tuple[int, int]) -> None:
        """Stay within what there is."""
        self.layer, self.head = min(self.layer, size[0] - 1), min(self.head, size[1] - 1)

    def next_mode(self) -> None:
        self.mode = MODES[(MODES.index(self.mode) + 1) % len(MODES)]

    def step_layer(self, by: int, size: tuple[int, int]) -> None:
        """In the mean, one more step past the last layer is all of them."""
        n_layers, mean = size[0], self.mode == "mean"
        at = n_layers if mean and self.all_layers else self.layer
        at = (at + by) % (n_layers + mean)
        self.all_layers = at == n_layers
        self.layer = min(at, n_layers - 1)

    def step_head(self, by: int, size: tuple[int, int]) -> None:
        """A mean has no head to choose: it gives way to the one chosen."""
        self.mode = "one" if self.mode == "mean" else self.mode
        self.head = (self.head + by) % size[1]

    def weights(self, frame: Frame) -> tuple[Phrase, np.ndarray]:
        """The one map to draw, (T, T), and what it is called."""
        n_layers, n_heads, tokens, _ = frame.weights.shape
        if self.mode != "mean":
            role = label(frame.scores[:, self.layer, self.head])
            return what_head(self.layer, self.head, role), frame.weights[self.layer, self.head]
        layer = None if self.all_layers else self.layer
        if self._mean is None or self._mean[0] is not frame or self._mean[1] != layer:
            heads = frame.weights.reshape(-1, tokens, tokens) if layer is None else frame.weights[layer]
            self._mean = frame, layer, heads.mean(0)
        return what_mean(layer, n_layers, n_heads), self._mean[2]
