"""The project's own benchmarks: each figure is a ratio against a peer, measured alternately in the same run.

A section is a module with `Settings` (the full measurement), `QUICK` (the short one) and `measure`. Nothing here knows
a terminal: the command prints, and says which program is started where one is started.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from typing import Any

from minigpt_core.bench.result import Result
from minigpt_core.bench.workbench import Workbench
from minigpt_core.config import lookup
from minigpt_core.errors import UserError

SECTIONS: dict[str, str] = {
    "step": "step",
    "time-to-loss": "time_to_loss",
    "sample": "sample",
    "ui-tax": "ui_tax",
    "startup": "startup",
    "scale": "scale",
}
"""Names as users write them, and the module of each."""
WITH_PEER = ("step", "time-to-loss", "sample")
"""The sections that compare with `transformers`."""


def settings(section: str, *, quick: bool = False, **changes: Any) -> Any:
    """A section's settings; changes that it has no field for, and those that are None, say nothing.

    Raises:
        UsageError: there is no such section.
    """
    module = _module(section)
    base = module.QUICK if quick else module.Settings()
    known = {field.name for field in dataclasses.fields(base)}
    return dataclasses.replace(base, **{k: v for k, v in changes.items() if k in known and v is not None})


def check(sections: list[str]) -> None:
    """Before hours are spent: is everything there that these sections need?

    Raises:
        UsageError: there is no such section.
        UserError: a package is missing.
    """
    for section in sections:
        lookup(SECTIONS, section, "section")
    needing = [section for section in sections if section in WITH_PEER]
    if needing and importlib.util.find_spec("transformers") is None:
        raise UserError(
            f"{', '.join(needing)}: the peer is the package transformers, which is not installed; "
            "pip install 'minigpt-tui[bench]'"
        )


def measure(section: str, bench: Workbench, chosen: Any) -> Result:
    """Run one section. Nothing else may be timed on the machine meanwhile: see `TimingLock`."""
    result: Result = _module(section).measure(bench, chosen)
    return result


def _module(section: str) -> Any:
    return importlib.import_module(f"{__name__}.{lookup(SECTIONS, section, 'section')}")
