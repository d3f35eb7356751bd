"""What watching a run costs: the probe thread's share of a core, and steps a second with and without it.

    python -m tests.benchmarks.probe_cost [SECONDS]

Trains the default model on the built-in corpus, alternately without and with the probe, so many seconds each time.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from minigpt_core.engine import Engine
from minigpt_core.plan import Request, prepare
from minigpt_core.recording import Recording
from minigpt_core.status import Stop

ORDER = (False, True, True, False, False, True, True, False)
"""With the probe or without: paired so that a machine that slows down is unfair to neither."""


def thread_seconds(native_id: int) -> float:
    """CPU seconds of one thread of this process, user and system."""
    return next((t.user_time + t.system_time for t in psutil.Process().threads() if t.id == native_id), 0.0)


def measure(seconds: float, out: str, probed: bool) -> dict[str, float]:
    engine = Engine(prepare(Request(data="pydocs", train={"steps": 10**6}, out=out)))
    if not probed:
        engine.prober.close()
    engine.start()
    while engine.status().step < 20:
        time.sleep(0.1)
    thread = engine.prober._thread.native_id or 0
    cpu, step, started = thread_seconds(thread), engine.status().step, time.perf_counter()
    time.sleep(seconds)
    wall = time.perf_counter() - started
    result = {
        "steps_per_second": (engine.status().step - step) / wall,
        "cpu_seconds_per_second": (thread_seconds(thread) - cpu) / wall if probed else 0.0,
    }
    engine.send(Stop())
    engine.join()
    recording = Recording(engine.plan.run)
    result["frames_per_minute"] = 60 * int((recording.steps() > step).sum()) / wall
    recording.close()
    engine.prober.close()
    engine.prober.join()
    return result


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as out:
        for probed in ORDER:
            found[probed].append(measure(seconds, str(Path(out)), probed))
    pace = {on: [run["steps_per_second"] for run in runs] for on, runs in found.items()}
    report = {
        "probe_cpu_seconds_per_second": [run["cpu_seconds_per_second"] for run in found[True]],
        "frames_per_minute": [run["frames_per_minute"] for run in found[True]],
        "steps_per_second_without": pace[False],
        "steps_per_second_with": pace[True],
        "ratio_of_medians": statistics.median(pace[True]) / statistics.median(pace[False]),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
