"""The run directory: where each file of a run lies, how a run is made and found."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from minigpt_core.errors import UsageError, UserError

DELETED = ".deleted-"
"""What the name of a run begins with while it is being deleted."""
MAX_NAME_BYTES = 100
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}
"""Devices on Windows whatever follows a dot: a run copied there, or on a disk shared with it, could not be opened."""


@dataclass(frozen=True)
class RunDir:
    """The files of one run. The object only names them: it creates nothing and may point at nothing."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.path / "model_checkpoint.pt"

    @property
    def best(self) -> Path:
        """The checkpoint with the lowest validation loss."""
        return self.path / "best.pt"

    @property
    def frames(self) -> Path:
        """What its probe saw, step by step."""
        return self.path / "probe" / "frames.sqlite"

    @property
    def kept_metrics(self) -> Path:
        """A long run's metrics as numbers, made from its log."""
        return self.path / "metrics.cache"

    @property
    def ladder(self) -> Path:
        """The n-gram losses of its text."""
        return self.path / "ladder.json"

    @property
    def assets(self) -> Path:
        return self.path / "assets"

    @property
    def tokens(self) -> Path:
        """The encoded corpus."""
        return self.path / "tokens"

    @property
    def train_log(self) -> Path:
        return self.path / "train.log"

    @property
    def control(self) -> Path:
        """While the run trains: host, pid, socket. Empty afterwards."""
        return self.path / "control.json"

    @property
    def is_run(self) -> bool:
        return any(os.path.isfile(file) for file in (self.config, self.metrics, self.checkpoint))

    @property
    def modified(self) -> float:
        """When the run last wrote its metrics or configuration, in seconds since 1970; 0 if it never did."""
        return max(_mtime(self.metrics), _mtime(self.config))


# --- finding and making runs ---


def new_run_dir(parent: Path, name: str | None, corpus_name: str) -> RunDir:
    """Create the directory of a new run, named `name` or, without one, `<date>-<time>-<corpus>`.

    Raises:
        UsageError: the name cannot be a folder's, or is taken: a run never overwrites another.
        UserError: the folder cannot be written.
    """
    if name is not None:
        _check_name(name)
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_create(parent, error) from None

    stem = name if name is not None else f"{time.strftime('%Y%m%d-%H%M%S')}-{_slug(corpus_name)}"
    run, attempt = RunDir(parent / stem), 1
    while True:
        try:
            run.path.mkdir()  # the check and the creation are one call, so two runs cannot both win
            return run
        except FileExistsError:
            if name is not None:
                raise UsageError(
                    f"run {name!r} already exists in {parent}; "
                    f"continue it with --resume {shlex.quote(name)} or choose another --name"
                ) from None
            attempt += 1
            run = RunDir(parent / f"{stem}-{attempt}")
        except OSError as error:
            raise _cannot_create(parent, error) from None


def find_run(ref: str | None, parent: Path) -> RunDir:
    """The run that `ref` means: a run's name under `parent`, a run directory, or a checkpoint file in one.

    `None` is the newest run under `parent`.

    Raises:
        UsageError: there is no such run; the message offers the nearest name.
    """
    if ref is None:
        runs = list_runs(parent)
        if not runs:
            raise _no_runs(parent)
        return runs[0]
    for path in (parent / ref, Path(ref)):
        folder = path.parent if os.path.isfile(path) else path
        # A run given as "." or "x/.." has its name only once resolved.
        run = RunDir(folder.resolve() if folder.name in ("", "..") else folder)
        if ref and run.is_run:
            return run
    if os.path.isdir(ref):
        raise UsageError(f"{ref!r} is not a run directory: it holds no config.json and no checkpoint")
    if os.path.isfile(ref):
        raise UsageError(f"{ref!r} does not lie in a run directory; give a run's name or folder")
    names = [run.name for run in list_runs(parent)]
    if not names:
        raise _no_runs(parent)
    near = difflib.get_close_matches(ref, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"the newest is {names[0]!r}"
    raise UsageError(f"no run {ref!r} in {parent}; {hint}")


def find_checkpoint(ref: str | None, parent: Path) -> tuple[RunDir, Path]:
    """The run that `ref` means and the checkpoint to read: the file itself if `ref` is one, else the run's last.

    Raises:
        UsageError: there is no such run.
    """
    if ref is not None and os.path.isfile(ref):
        return RunDir(Path(ref).resolve().parent), Path(ref)
    run = find_run(ref, parent)
    return run, run.checkpoint


def list_runs(parent: Path) -> list[RunDir]:
    """All runs under `parent`, newest first; none if there is no such folder."""
    try:
        folders = [Path(e.path) for e in os.scandir(parent) if e.is_dir() and not e.name.startswith(DELETED)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(
            f"cannot list the runs in {parent}: {error.strerror}; choose another folder with --out"
        ) from None
    runs = [run for run in map(RunDir, folders) if run.is_run]
    return sorted(runs, key=lambda run: (run.modified, run.name), reverse=True)


def _check_name(name: str) -> None:
    if (length := len(name.encode(errors="surrogatepass"))) > MAX_NAME_BYTES:
        raise UsageError(f"--name is {length} bytes long; at most {MAX_NAME_BYTES} are allowed")
    if name in ("", ".", ".."):
        raise UsageError(f"--name {name!r} cannot be a folder's name; choose another")
    if "/" in name or "\\" in name:
        raise UsageError(f"--name {name!r} holds a path separator; --out chooses the folder that runs lie in")
    if not name.isprintable():
        raise UsageError(f"--name {name!r} holds a character that cannot be shown; choose another")
    if name[0] in "-." or name[-1] in " ." or name[0] == " ":
        raise UsageError(f"--name {name!r} begins with a dash, a dot or a space, or ends with one; choose another")
    if name.split(".")[0].rstrip(" ").upper() in RESERVED:
        raise UsageError(f"--name {name!r} cannot be a folder's name on every system; choose another")


def _slug(text: str) -> str:
    """`text` made fit for a file name."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:60].strip("-.")
    return slug or "text"


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _cannot_create(parent: Path, error: OSError) -> UserError:
    return UserError(f"cannot create a run in {parent}: {error.strerror}; choose another folder with --out")


def _no_runs(parent: Path) -> UsageError:
    return UsageError(f"no runs in {parent} yet; start one with minigpt-tui train")
