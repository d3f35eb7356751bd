"""Importing torch a fifth sooner, for whoever waits for the first step: what only its compiler needs comes later."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from types import ModuleType

KERNELS = "torch._meta_registrations"
"""Tells the compiler the shapes of results, and draws in a third of torch's Python."""
COMPILER = (
    "torch._dynamo",
    "torch._inductor",
    "torch._decomp",
    "torch._refs",
    "torch._prims",
    "torch.utils._content_store",
)
"""Packages that expect it to be there."""


class MakeUp(MetaPathFinder):
    """Imports what was left out, once somebody wants the compiler."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name.startswith(COMPILER) and self in sys.meta_path:
            sys.meta_path.remove(self)
            import_module(KERNELS)


def import_torch() -> None:
    """Import torch without its compiler's part; where it is imported already, this does nothing."""
    if "torch" in sys.modules:
        return
    stand_in = sys.modules[KERNELS] = ModuleType(KERNELS)
    try:
        torch = import_module("torch")
    finally:
        del sys.modules[KERNELS]
    name = KERNELS.removeprefix("torch.")
    if vars(torch).get(name) is stand_in:
        delattr(torch, name)
        sys.meta_path.insert(0, MakeUp())
