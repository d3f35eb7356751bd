"""A state as it is at one moment, on the host: what may be written, or kept, while training goes on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class HostCopy:
    """A copy of nested dicts, lists and tensors; on CUDA it is under way while the CPU goes on.

    Tensors that are one tensor under several names, as tied weights are, stay one.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self._copies: dict[tuple[object, ...], Tensor] = {}
        self._done: torch.cuda.Event | None = None
        self._state = self._copy(state)
        self._copies.clear()
        if self._done is not None:
            self._done.record()

    def state(self) -> dict[str, Any]:
        """The copy, once it is complete."""
        if self._done is not None:
            self._done.synchronize()
        return self._state

    def _copy(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._copy(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._copy(item) for item in value)
        return self._copy_tensor(value) if isinstance(value, Tensor) else value

    def _copy_tensor(self, tensor: Tensor) -> Tensor:
        if tensor.is_cuda and self._done is None:
            self._done = torch.cuda.Event(blocking=True)
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if place not in self._copies:  # to pinned memory where the copy does not block
            self._copies[place] = tensor.detach().to("cpu", non_blocking=tensor.is_cuda, copy=True)
        return self._copies[place]
