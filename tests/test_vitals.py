"""Health hints: each appears beyond its range, stays away within it, and says what to do."""

import numpy as np
import pytest

from minigpt_core.frame import Health
from minigpt_core.status import Reading, Status
from minigpt_core.vitals import Recent, gap, hints
from minigpt_tui.widgets.stats import layout, stat_rows

SOUND = {
    "phase": "training",
    "device": "cpu",
    "step": 1000,
    "total_steps": 5000,
    "val_loss": 1.9,
    "val_step": 1000,
    "best_val_loss": 1.9,
    "best_step": 1000,
    "smoothed_loss": 1.8,
    "grad_norm": 0.8,
}
MACHINE = Reading(cpu_percent=190, cores=2, machine_memory=0.5)


def health(ratio: float = -3.0, dead: float = 0.01) -> Health:
    return Health(np.ones(5, np.float32), np.array([0.0, dead, 0.0, 0.0], np.float32), ratio)


def test_a_sound_run_has_nothing_to_say():
    assert hints(Status(**SOUND), MACHINE, health(), Recent(0.8, 0.1)) == []
    assert hints(Status(**SOUND), MACHINE, health(), Recent(1.6, 1.0)) == []  # as small models with sound settings
    assert hints(Status(), Reading(), None) == []


@pytest.mark.parametrize(
    ("status", "reading", "inside", "recent", "vital", "says"),
    [
        ({}, {}, health(), Recent(40.0, 0.5), "grad norm", "learning rate is likely too high"),
        ({}, {}, health(), Recent(1e-5, 0.0), "grad norm", "next to nothing"),
        ({}, {}, health(ratio=-1.0), Recent(), "update ratio", "update ratio 1e-1: learning rate likely too high"),
        ({}, {}, health(ratio=-5.2), Recent(), "update ratio", "update ratio 1e-5.2: learning rate likely too low"),
        ({}, {}, health(), Recent(6.0, 0.97), "clipped", "clipped 97%"),
        ({"val_loss": 2.2, "best_step": 750}, {}, health(), Recent(), "gap", "rises since step 750"),
        ({"smoothed_loss": 1.4}, {}, health(), Recent(), "gap", "0.50 above training"),
        ({}, {}, health(dead=0.5), Recent(), "dead units", "50% of layer 1's units never fire"),
        ({}, {"gpu_celsius": 91.0}, health(), Recent(), "gpu temp", "91 °C"),
        ({}, {"gpu_memory_bytes": 99, "gpu_memory_total": 100}, health(), Recent(), "gpu mem", "nearly full"),
        ({}, {"machine_memory": 0.97}, health(), Recent(), "memory", "97%"),
        ({"device": "cuda:0"}, {"gpu_percent": 12.0}, health(), Recent(), "gpu", "12% busy"),
        ({}, {"cpu_percent": 50.0}, health(), Recent(), "cpu", "only 25% of 2 cores"),
    ],
)
def test_what_leaves_its_range_is_named_once(status, reading, inside, recent, vital, says):
    fields = {name: getattr(MACHINE, name) for name in Reading.__struct_fields__} | reading
    found = hints(Status(**(SOUND | status)), Reading(**fields), inside, recent)
    assert [hint.vital for hint in found] == [vital]
    assert says in found[0].text


def test_the_warm_up_and_the_end_of_the_schedule_are_not_judged():
    wild = Recent(40.0, 1.0)
    assert hints(Status(**(SOUND | {"step": 50})), MACHINE, health(ratio=-1, dead=0.9), wild) == []
    assert hints(Status(**(SOUND | {"step": 4900})), MACHINE, health(ratio=-5.2)) == []
    assert hints(Status(**(SOUND | {"phase": "done"})), MACHINE, health(ratio=-1), wild) == []


def test_the_gap_is_validation_less_training():
    assert gap(Status(**SOUND)) == pytest.approx(0.1)
    assert gap(Status()) is None


@pytest.mark.parametrize(("columns", "height"), [(21, 19), (21, 8), (27, 40), (12, 3)])
def test_a_hint_stands_below_its_marked_number_and_nothing_overflows(columns, height):
    status, reading = Status(**SOUND), MACHINE
    found = hints(status, reading, health(ratio=-1.0), Recent())
    lines = [line.text for line in layout(stat_rows(status, reading, 0.0, health(ratio=-1.0)), columns, height, found)]
    assert len(lines) <= height
    assert all(len(line) <= columns for line in lines)
    assert lines[-1].startswith(("! ", "  "))
    if height >= 8:
        assert any("update ratio" in line and "! -1.0" in line for line in lines)
    if height >= 19:
        assert "! update ratio 1e-1: learning rate likely too high" in " ".join(
            line.strip() for line in lines if line.startswith(("! ", "  "))
        )
