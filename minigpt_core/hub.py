"""What the local Hugging Face cache holds, by its documented layout; nothing is fetched, nothing is written.

`<cache>/models--<owner>--<name>/refs/main` names a commit, `snapshots/<commit>/` holds its files
(huggingface.co/docs/huggingface_hub/guides/manage-cache).
"""

from __future__ import annotations

import os
from pathlib import Path


def hub_cache() -> Path:
    """`HF_HUB_CACHE`, else `hub` in `HF_HOME`, else in the user's cache folder."""
    if chosen := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(chosen).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def cached_snapshot(repository: str) -> Path | None:
    """The folder of a model's files as they were on its main branch when fetched; None if they are not there."""
    folder = hub_cache() / f"models--{repository.replace('/', '--')}"
    try:
        snapshot = folder / "snapshots" / (folder / "refs" / "main").read_text().strip()
        return snapshot if snapshot.is_dir() else None
    except (OSError, ValueError):  # ValueError: no text, or a NUL in it
        return None
