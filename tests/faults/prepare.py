"""A very large text prepared straight through, and with kill −9 in the middle: the same bytes, in little memory.

    python -m tests.faults.prepare --gigabytes 1

Prints the time and the peak memory of each, as JSON. Takes three times the size of the text on the disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.conftest import WORDS

BLOCK = 2**23
"""Bytes that are made at a time."""
LETTERS = ("", "", "", "ß", "é", "世界", "\U0001f600")
"""Some words are followed by these: half of the text is ASCII, block by block."""

CHILD = """
import json, resource, sys, time
from pathlib import Path
from minigpt_core import token_parts
from minigpt_core.sources import Document
from minigpt_core.token_store import encode_documents

made = 0
tokens_of = token_parts.tokens_of
def counted(*arguments):
    global made
    made += 1
    return tokens_of(*arguments)
token_parts.tokens_of = counted
start = time.perf_counter()
found = encode_documents([Document(Path(sys.argv[1]))], workers=int(sys.argv[2]) or None)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"seconds": round(seconds, 2), "peak_mb": round(peak / 1e6), "parts_made": made,
                  "tokens": len(found.tokens), "vocab_size": found.tokenizer.vocab_size}))
"""


def write_text(path: Path, n_bytes: int) -> None:
    """Words, no two blocks alike, every other block with characters beyond ASCII."""
    with path.open("wb") as file:
        number = 0
        while file.tell() < n_bytes:
            odd = number % 2
            line = " ".join(word + (LETTERS[i % len(LETTERS)] if odd else "") for i, word in enumerate(WORDS))
            block = f"{number} {line}\r\n".encode()
            file.write(block * (BLOCK // len(block)))
            number += 1
    os.utime(path, (10**9, 10**9))


def start(path: Path, cache: Path, workers: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", CHILD, str(path), str(workers)]
    env = os.environ | {"MINIGPT_TUI_CACHE": str(cache)}
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


def digest(cache: Path) -> str:
    (path,) = cache.glob("*.npy")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run(gigabytes: float, workers: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        text, straight, killed = (Path(folder) / name for name in ("text.txt", "straight", "killed"))
        write_text(text, int(gigabytes * 1e9))
        report: dict[str, Any] = {"bytes": text.stat().st_size, "straight": result(start(text, straight, workers))}
        parts = report["straight"]["parts_made"]

        process = start(text, killed, workers)
        while len(there := list(killed.glob("*.work/*.part"))) < parts // 2:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        there = list(killed.glob("*.work/*.part"))
        report["killed_with_parts"] = len(there)
        report["resumed"] = result(start(text, killed, workers))
        assert report["resumed"]["parts_made"] == parts - len(there), "finished parts were made again"
        assert digest(killed) == digest(straight), "the bytes differ"
        assert not list(killed.glob("*.work")), "work was left behind"
        report["identical"] = True
        return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=0, help="threads (as many as there are cores)")
    options = parser.parse_args()
    print(json.dumps(run(options.gigabytes, options.workers), indent=2))


if __name__ == "__main__":
    main()
