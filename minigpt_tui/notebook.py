"""`minigpt-tui notebook`: puts the walkthrough notebook where its reader can run and change it."""

from __future__ import annotations

import os
import shlex
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from minigpt_core.errors import UsageError, UserError
from minigpt_tui.safetext import safe

NAME = "MiniTransformer.ipynb"


def place(destination: str) -> Path:
    """Copy the notebook to `destination`, a file or a folder to put it into, and return where it is.

    Raises:
        UsageError: there is a file already, or the name is none that Jupyter would open as a notebook.
        UserError: the disk is full.
        OSError: the folder is missing or not to be written to.
    """
    target = Path(os.path.expanduser(destination))
    if target.is_dir() or destination.endswith(os.sep):
        target /= NAME
    if target.suffix != ".ipynb":
        raise UsageError(f"{str(target)!r} does not end in .ipynb; give such a name, or a folder that exists")
    content = files("minigpt_core").joinpath("walkthrough", NAME).read_bytes()
    try:
        file = open(target, "xb")  # noqa: SIM115 - x never overwrites; what fails after it is another matter
    except FileExistsError:
        raise UsageError(
            f"{str(target)!r} is there already and stays as it is; give another name: minigpt-tui notebook NAME.ipynb"
        ) from None
    try:
        with file:
            file.write(content)
    except BaseException as error:  # half a notebook would be in the way the next time
        target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"cannot write {str(target)!r}: {error.strerror}") from None
        raise
    return target


def print_place(target: Path) -> None:
    """Where the notebook is and how to open it."""
    print(safe(str(target), newlines=False))
    lacking = "" if find_spec("jupyterlab") else "pip install jupyterlab && "
    print(f"open it: {lacking}jupyter lab {safe(shlex.quote(str(target)), newlines=False)}")
