"""safetensors files, read with suspicion: sizes and kinds are known, and checked, before any tensor is loaded."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minigpt_core.errors import UserError
from minigpt_core.reading import brief, decode_json, read_bytes

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_INDEX = 2**26
FLOATS = {"F64", "F32", "F16", "BF16"}


class TensorFiles:
    """The tensors of a folder, in one file or in several that an index names.

    Attributes:
        shapes: by name.

    Raises:
        UserError: there is no such file, it is damaged, or holds another kind of numbers.
    """

    def __init__(self, folder: Path) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._files: dict[str, Any] = {}
        self._open = ExitStack()
        try:
            for path in _files(folder):
                self._add(path)
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> TensorFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read(self, name: str) -> Tensor | None:
        """A tensor in memory; None if there is none of that name."""
        return self._files[name].get_tensor(name) if name in self._files else None

    def _add(self, path: Path) -> None:
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
                raise UserError(f"cannot read {str(path)!r}: it is not a regular file")
            file = self._open.enter_context(safe_open(path, "pt"))
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                part = file.get_slice(name)
                if name in self._files:
                    raise UserError(f"{str(path)!r} holds a tensor that another file holds already: {name[:60]!r}")
                if part.get_dtype() not in FLOATS:
                    raise UserError(f"{str(path)!r}: {name[:60]!r} is {part.get_dtype()}, and no floating-point number")
                self._files[name], self.shapes[name] = file, tuple(part.get_shape())
        except OSError as error:
            raise UserError(f"cannot read {str(path)!r}: {error.strerror or brief(error)}") from None
        except SafetensorError as error:
            raise UserError(f"{str(path)!r} is damaged, or no safetensors file: {brief(error)}") from None


def _files(folder: Path) -> list[Path]:
    if (folder / ONE).exists():
        return [folder / ONE]
    index = folder / INDEX
    if not index.exists():
        raise UserError(
            f"{str(folder)!r} holds no {ONE}; where it has pytorch_model.bin, load it with transformers "
            "and save it by save_pretrained"
        )
    names = decode_json(read_bytes(index, MAX_INDEX), index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"{str(index)!r} names no files")
    files = sorted(set(names.values()))
    if strange := [name for name in files if Path(name).name != name or not name.endswith(".safetensors")]:
        raise UserError(f"{str(index)!r} names a file that cannot be one of its own: {strange[0][:60]!r}")
    return [folder / name for name in files]


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises OSError where the disk refuses."""
    try:
        save_file({name: tensor.to(torch.float32) for name, tensor in tensors.items()}, path, {"format": "pt"})
    except SafetensorError as error:
        raise OSError(brief(error)) from None
