"""Checkpoints that are whole archives, and wrong: each builder makes one from a good one."""

from __future__ import annotations

import copy
import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.faults.damage import HOSTILE, value_damaged


class Original(NamedTuple):
    data: bytes
    state: dict[str, Any]
    marker: Path
    """A file that code in a checkpoint would make if it were run."""


Builder = Callable[[Original, random.Random], bytes]


def saved(state: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def repacked(data: bytes, change: Callable[[str, bytes], bytes | None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with its members changed, checksums and all."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            if (content := change(name, old.read(name))) is not None:
                new.writestr(name, content)
    return file.getvalue()


def with_pickle(original: Original, content: bytes) -> bytes:
    return repacked(original.data, lambda name, old: content if name.endswith("/data.pkl") else old)


# --- values ---


def swapped_fields(original: Original, rng: random.Random) -> bytes:
    state = value_damaged(original.state, rng)
    return saved(state)


def tensors(state: dict[str, Any]) -> list[tuple[dict, str]]:
    found = [(state["model"], name) for name in state["model"]]
    for optimizer in state["optimizers"]:
        found += [(entry, name) for entry in optimizer["state"].values() for name in entry]
    return [(parent, name) for parent, name in found if isinstance(parent[name], torch.Tensor)]


def not_finite(original: Original, rng: random.Random) -> bytes:
    state = copy.deepcopy(original.state)
    parent, name = rng.choice(tensors(state))
    flat = parent[name].reshape(-1)
    flat[rng.randrange(len(flat)) :] = rng.choice((float("nan"), float("inf"), -float("inf")))
    parent[name] = flat.reshape(parent[name].shape)
    return saved(state)


def wrong_shape(original: Original, rng: random.Random) -> bytes:
    state = copy.deepcopy(original.state)
    parent, name = rng.choice([place for place in tensors(state) if place[0][place[1]].dim() > 1])
    tensor = parent[name]
    parent[name] = rng.choice((tensor.T, tensor[:-1], tensor.flatten(), tensor[None], torch.cat([tensor, tensor])))
    return saved(state)


def wrong_dtype(original: Original, rng: random.Random) -> bytes:
    state = copy.deepcopy(original.state)
    parent, name = rng.choice(tensors(state))
    dtypes = (torch.complex64, torch.int64, torch.bool, torch.float8_e4m3fn)
    parent[name] = parent[name].to(rng.choice(dtypes))
    return saved(state)


def strange_tensor(original: Original, rng: random.Random) -> bytes:
    """Huge without taking room, without data, sparse, or not a tensor at all."""
    state = copy.deepcopy(original.state)
    parent, name = rng.choice(tensors(state))
    parent[name] = rng.choice(
        (
            torch.zeros(1).expand(10**6, 10**6),
            torch.zeros(3, device="meta"),
            torch.zeros(4, 4).to_sparse(),
            torch.nn.Parameter(torch.zeros(2)),
            torch.zeros(2, dtype=torch.float64)[None].expand(2, 2).T,
            bytearray(8),
        )
    )
    return saved(state)


def absurd_size(original: Original, rng: random.Random) -> bytes:
    state = copy.deepcopy(original.state)
    size = rng.choice((0, -1, 10**4, 10**6, 10**9, 10**12, 10**30, 2.5, "4", True))
    part, names = rng.choice(
        (
            ("model_config", ("vocab_size", "n_layers", "num_heads", "embed_dim", "seq_len", "ff_mult", "token_mix")),
            ("train_config", ("threads", "batch_size", "steps", "log_every", "accumulate")),
            ("state", ("step", "total_steps", "elapsed", "lr_scale", "val_loss", "best_step")),
        )
    )
    state[part][rng.choice(names)] = size
    return saved(state)


def other_version(original: Original, rng: random.Random) -> bytes:
    formats = (2, 99, 10**30, 0, -1, "1", None, 1.5, HOSTILE, [1], torch.ones(2), float("nan"))
    return saved(original.state | {"format": rng.choice(formats)})


def deep(original: Original, rng: random.Random) -> bytes:
    """Nested deeper than a stack, or as a tree that shares its branches and so has 2**60 leaves."""
    tree: Any = []
    if rng.random() < 0.5:
        for _ in range(60):
            tree = [tree, tree]
    else:
        for _ in range(300):
            tree = [tree]
    state = copy.copy(original.state)
    state[rng.choice(("optimizers", "random", "tokenizer", "extra", "state", "model"))] = tree
    return saved(state)


# --- archives ---


def code(original: Original, rng: random.Random) -> bytes:
    """A pickle whose loading runs a command, as a whole or within an otherwise good state."""
    shell = f"touch {original.marker}"
    calls = (
        (os.system, (shell,)),
        (eval, (f"open({str(original.marker)!r}, 'w')",)),
        (exec, (f"open({str(original.marker)!r}, 'w')",)),
        (getattr, (os, "system")),
        (Path.touch, (original.marker,)),
        (open, (str(original.marker), "w")),
        (bytearray, (10**11,)),
    )
    function, arguments = rng.choice(calls[:3] + calls[4:])

    class Call:
        def __reduce__(self) -> tuple[Any, Any]:
            return function, arguments

    protocol = rng.choice((2, 4))
    if rng.random() < 0.3:
        return pickle.dumps(Call(), protocol)  # a bare pickle, as torch wrote them long ago
    if rng.random() < 0.5:
        return with_pickle(original, pickle.dumps(Call(), protocol))
    return saved(original.state | {rng.choice(("state", "extra", "tokenizer")): Call()})


def damaged_pickle(original: Original, rng: random.Random) -> bytes:
    """Right checksums around an instruction stream that makes no sense."""

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("/data.pkl"):
            return content
        out = bytearray(content)
        for _ in range(rng.choice((1, 1, 4))):
            out[rng.randrange(len(out))] = rng.randrange(256)
        return bytes(out[: rng.randrange(len(out))] if rng.random() < 0.1 else out)

    return repacked(original.data, change)


def damaged_members(original: Original, rng: random.Random) -> bytes:
    """Members that are gone, cut short, too long or another's."""
    with zipfile.ZipFile(io.BytesIO(original.data)) as archive:
        chosen, other = rng.choices(archive.namelist(), k=2)
        stranger = archive.read(other)
    what = rng.randrange(4)

    def change(name: str, content: bytes) -> bytes | None:
        if name != chosen:
            return content
        return (None, content[: len(content) // 2], content * 3, stranger)[what]

    return repacked(original.data, change)


def bomb(original: Original, rng: random.Random) -> bytes:
    """A member that is a thousand times as large once unpacked."""

    def change(name: str, content: bytes) -> bytes:
        return bytes(32 * 2**20) if name.endswith(rng.choice(("/data/0", "/data.pkl", "/version"))) else content

    return repacked(original.data, change, zipfile.ZIP_DEFLATED)


def twice(original: Original, rng: random.Random) -> bytes:
    """A name that stands for two members: what is checked must be what is loaded."""
    file = io.BytesIO(original.data)
    with zipfile.ZipFile(file, "a") as archive:
        name = rng.choice(archive.namelist())
        content = archive.read(name)
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr(name, bytes(len(content)))
    return file.getvalue()


def foreign(original: Original, rng: random.Random) -> bytes:
    """Something else that torch or zipfile can read."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(rng.choice(("archive/constants.pkl", "word/document.xml", "../../evil", "data.pkl")), b"x")
    nothing = rng.choice(([], {}, None, torch.zeros(3), {"model": {}}, "text", original.state["model"]))
    return rng.choice((file.getvalue(), saved(nothing)))


BUILDERS: dict[str, Builder] = {
    builder.__name__: builder
    for builder in (
        *(swapped_fields, not_finite, wrong_shape, wrong_dtype, strange_tensor, absurd_size, other_version, deep),
        *(code, damaged_pickle, damaged_members, bomb, twice, foreign),
    )
}
