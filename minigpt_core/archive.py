"""A checkpoint's archive as plain values: checked byte by byte before anything in it is believed.

What `torch.save` writes is a zip without compression: a pickle, and the bytes of each tensor. `torch.load` accepts
flipped bits, so the zip's checksums are verified first. Nothing in a pickle is called but what rebuilds tensors: even
with `weights_only`, `torch.load` would let one ask for any amount of memory.
"""

from __future__ import annotations

import os
import pickletools
import stat
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from minigpt_core.errors import UserError

MAX_PICKLE = 64 * 2**20
"""Bytes of the pickle: names, settings and a vocabulary. The tensors' bytes are not in it."""
MAX_OPERATIONS = 2_000_000
MAX_VALUES = 1_000_000
MAX_DEPTH = 12

REBUILDERS = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
"""All that a pickle of ours refers to, beside the kinds of storage."""
DTYPES = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8})


class DamagedError(Exception):
    """Not as it was written."""


class ForeignError(Exception):
    """Whole, and nothing that this program writes."""


def read_archive(path: Path, kind: str = "minigpt-tui checkpoint") -> Any:
    """What was given to `torch.save`: tensors on the CPU, str, int, float, bool, None, lists, tuples and dicts of them.

    Args:
        kind: what it should be, for errors.

    Raises:
        UserError: there is no such file, it is damaged, holds code, or is no checkpoint.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # opening a pipe waits for its writer
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{str(path)!r} is not a {kind}: it is not a regular file")
            _verify(file, status.st_size)
            file.seek(0)
            value = _unpickle(file)
            _check_plain(value)
            return value
    except FileNotFoundError:
        raise UserError(f"no checkpoint {str(path)!r} yet") from None
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    except DamagedError as error:
        raise UserError(f"checkpoint {str(path)!r} is damaged ({error}); use another one{another(path)}") from None
    except ForeignError as error:
        raise UserError(f"{str(path)!r} is not a {kind}: {error}") from None


def another(path: Path) -> str:
    """The checkpoint that lies beside this one, to follow "use another one"."""
    beside = path.with_name("model_checkpoint.pt" if path.name == "best.pt" else "best.pt")
    return f", such as {str(beside)!r}" if beside.is_file() else ""


def _verify(file: BinaryIO, size: int) -> None:
    """Checksums, declared sizes and the pickle's references; nothing is loaded."""
    begins = file.read(4)
    try:
        archive = zipfile.ZipFile(file)
    except Exception:  # zipfile raises several kinds on a broken file
        if begins == b"PK\x03\x04":
            raise DamagedError("it is cut short, or its end is lost") from None
        raise ForeignError("not an archive of tensors") from None
    with archive:
        members = archive.infolist()
        if len({member.filename for member in members}) < len(members):
            raise DamagedError("a part of it is there twice")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ForeignError("compressed")
        if sum(member.file_size for member in members) > size:
            raise DamagedError("its parts are said to be larger than the whole")
        try:
            broken = archive.testzip()
        except Exception:
            raise DamagedError("its table of contents is wrong") from None
        if broken:
            raise DamagedError(f"{broken[:80]!r} fails its checksum")
        pickles = [member for member in members if member.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or any(member.filename.endswith("constants.pkl") for member in members):
            raise ForeignError("not an archive of tensors")
        if pickles[0].file_size > MAX_PICKLE:
            raise ForeignError("too many values")
        _check_references(archive.read(pickles[0]))


def _check_references(pickled: bytes) -> None:
    """Whether loading would call nothing but what rebuilds tensors."""
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(pickled)):
            if count > MAX_OPERATIONS:
                raise ForeignError("too many values")
            if operation.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                if argument not in REBUILDERS and not (module == "torch" and name.endswith("Storage")):
                    raise ForeignError(f"it asks for {str(argument)[:60]!r}, which is code; nothing of it was run")
            elif operation.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
                raise ForeignError("it holds code, of which nothing was run")
    except (ValueError, IndexError, UnicodeError, OverflowError):
        raise DamagedError("its values cannot be read") from None


def _unpickle(file: BinaryIO) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # whatever a hostile or foreign pickle provokes
        raise DamagedError("its values cannot be read") from None


def _check_plain(value: Any) -> None:
    """Whether a tree holds plain values only, as many and as deep as ours."""
    left, level, depth = MAX_VALUES, [value], 0
    while level:
        below: list[Any] = []
        for each in level:
            left -= 1
            if isinstance(each, dict):
                if any(type(key) not in (str, int) for key in each):
                    raise ForeignError("a key is neither text nor a number")
                below.extend(each.values())
            elif type(each) in (list, tuple):
                below.extend(each)
            else:
                _check_leaf(each)
            if len(below) > left:
                raise ForeignError("too many values")
        level, depth = below, depth + 1
        if depth > MAX_DEPTH:
            raise ForeignError("its values nest too deeply")


def _check_leaf(value: Any) -> None:
    if isinstance(value, Tensor):
        plain = type(value) is Tensor and value.layout == torch.strided and value.device.type == "cpu"
        if not plain or value.dtype not in DTYPES:
            raise ForeignError("it holds an unusual kind of tensor")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ForeignError("a tensor is said to be larger than its bytes")
    elif type(value) is int:
        if abs(value) >= 2**64:
            raise ForeignError("a number is too large")
    elif value is not None and type(value) not in (str, float, bool):
        raise ForeignError(f"it holds a {type(value).__name__[:60]}")
