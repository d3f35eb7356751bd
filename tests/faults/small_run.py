"""A small run that has everything a run directory can hold."""

from __future__ import annotations

import time
from pathlib import Path

from minigpt_core.corpus import split
from minigpt_core.frame import RecordedSample
from minigpt_core.ladder import fit_ladder, write_ladder
from minigpt_core.plan import Request, prepare
from minigpt_core.recording import Recorder
from minigpt_core.rundir import RunDir
from minigpt_core.runlog import RunLog
from minigpt_core.status import Event
from tests.conftest import TINY
from tests.test_recording import TOKENS, frame

TEXT = "The cat sat on a mat, and the dog ran to a tree while birds sang in the old green garden.\n" * 40
TRAIN = {"steps": 6, "eval_every": 3, "device": "cpu", "threads": 1, "seed": 1}


def make_run(folder: Path) -> RunDir:
    """Six steps with checkpoint, metrics, events, probe frames and ladder, in `folder`/runs/run."""
    (folder / "text.txt").write_text(TEXT)
    request = Request(
        data=str(folder / "text.txt"), name="run", out=str(folder / "runs"), model=dict(TINY), train=dict(TRAIN)
    )
    plan = prepare(request)
    list(plan.build())
    plan.release()
    run = plan.run
    recorder = Recorder(run, TOKENS)
    for step in (1, 3, 6):
        recorder.write(frame(step))
        recorder.write_sample(RecordedSample(step, "The", f" cat of step {step}"))
    recorder.close()
    write_ladder(run, fit_ladder(*split(plan.tokens, 1), plan.tokenizer.vocab_size))
    log = RunLog(run)
    for kind, data in (
        ("rung", {"rung": "bigram"}),
        ("birth", {"layer": 0, "head": 1, "role": "previous"}),
        ("sample", {"prompt": "The", "settings": {}, "finish_reason": "length", "answer": " cat", "seed": 1}),
        ("note", {}),
    ):
        log.event(Event(kind=kind, step=6, time=time.time(), message=f"{kind} of step 6", data=data))
    log.close()
    return run
