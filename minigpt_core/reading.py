"""Files that anybody may have written: regular ones, of a bearable size, and of a format that this version knows.

And what is written for them to be read so: JSON that holds any text there can be, file names that are no text as well.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from minigpt_core.errors import UserError

T = TypeVar("T")

LONGEST = 200
"""Characters of a reason: it may quote the file, which may be anything."""


def read_bytes(path: Path, at_most: int) -> bytes:
    """The content of a file; a pipe or a device, which may never end, is none.

    Raises:
        UserError: it cannot be read, or is larger than anything this program writes there.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # opening a pipe waits for its writer
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError(f"cannot read {str(path)!r}: it is not a regular file")
            data = file.read(at_most + 1)
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from None
    if len(data) > at_most:
        raise UserError(f"{str(path)!r} is damaged: more than {at_most:,} bytes; restore it from a copy")
    return data


def decode_json(data: bytes, path: Path) -> dict[str, Any]:
    """The object that a file's content is.

    Raises:
        UserError: it is none, or nests deeper than anything this program writes.
    """
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise UserError(f"{str(path)!r} is damaged: {brief(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UserError(f"{str(path)!r} is damaged: not JSON; restore it from a copy") from None


def check_format(found: object, known: int, path: Path, what: str = "has") -> None:
    """Whether this version reads files of a format; one that says nothing is of the first.

    Raises:
        UserError: it is newer, or no number.
    """
    if type(found) is not int or not 0 < found < 10**9:
        raise UserError(f"{str(path)!r} is damaged: its format is no version number; restore it from a copy")
    if found > known:
        raise UserError(
            f"{str(path)!r} {what} format {found}, and this version of minigpt-tui reads up to {known}; use a newer one"
        )


def encode_json(value: Any) -> bytes:
    """`value` as JSON. Python stands for bytes that are no text by lone surrogates, which no file can hold: U+FFFD."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_as_text(msgspec.to_builtins(value)))


def _as_text(value: Any) -> Any:
    if isinstance(value, str):
        return "".join("\N{REPLACEMENT CHARACTER}" if "\ud800" <= c <= "\udfff" else c for c in value)
    if isinstance(value, dict):
        return {_as_text(name): _as_text(inner) for name, inner in value.items()}
    return [_as_text(inner) for inner in value] if isinstance(value, list | tuple) else value


def brief(error: Exception, longest: int = LONGEST) -> str:
    """An error's reason in a line that is not too long."""
    text = " ".join(str(error).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"
