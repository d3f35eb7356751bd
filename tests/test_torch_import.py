"""Torch without its compiler's part is torch, and the compiler is there for whoever wants it."""

import subprocess
import sys

import torch

from minigpt_core.torch_import import import_torch

LATER = """
import sys
from minigpt_core.torch_import import import_torch
import_torch()
import torch
assert "torch._prims" not in sys.modules
"""
COMPILES = """
layer = torch.nn.Linear(4, 4)
x = torch.randn(2, 4)
assert torch.equal(torch.compile(layer, backend="aot_eager")(x), layer(x))
"""


def test_what_was_left_out_is_made_up_for():
    subprocess.run([sys.executable, "-c", f"{LATER}{COMPILES}assert hasattr(torch, '_meta_registrations')"], check=True)


def test_a_torch_that_is_there_is_left_alone():
    before = list(sys.meta_path)
    import_torch()
    assert sys.meta_path == before
    assert hasattr(torch, "_meta_registrations")
