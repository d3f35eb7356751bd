"""Frames on disk: what comes back, how much room they take, what a kill or a resume leaves."""

import gc
import sqlite3
import tracemalloc

import numpy as np
import pytest

from minigpt_core.errors import UserError
from minigpt_core.frame import Frame, Health, Lens, RecordedSample
from minigpt_core.recording import Recorder, Recording, thinned, truncate
from minigpt_core.rundir import RunDir
from minigpt_core.status import Stamp

L, H, T, K, V = 2, 3, 10, 5, 20
TOKENS = list(range(T))


def labels(ids):
    return tuple(chr(97 + i) for i in ids)


def frame(step, seed=None, ratio=-3.1):
    rng = np.random.default_rng(step if seed is None else seed)
    weights = np.tril(rng.random((L, H, T, T), np.float32)) ** 4
    weights /= weights.sum(-1, keepdims=True)
    lens = Lens(
        rng.integers(0, V, (L + 1, T, K)),
        rng.random((L + 1, T, K), np.float32),
        np.where(np.arange(T) == T - 1, np.nan, rng.random((L + 1, T)) * 5).astype(np.float32),
    )
    return Frame(
        stamp=Stamp(step=step, val_loss=1.5, val_step=step // 2),
        tokens=labels(TOKENS),
        weights=weights,
        scores=rng.random((4, L, H), np.float32),
        lens=lens,
        lens_labels={},
        health=Health(rng.random(L + 1).astype(np.float32), rng.random(L).astype(np.float32), ratio),
    )


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


@pytest.fixture
def recorder(run):
    recorder = Recorder(run, TOKENS)
    yield recorder
    recorder.close()


def test_a_frame_comes_back_as_it_was(run, recorder):
    written = frame(7)
    recorder.write(written)
    read = Recording(run).frame(7, labels)
    assert read.stamp == written.stamp
    assert read.tokens == written.tokens
    assert np.abs(np.sqrt(read.weights) - np.sqrt(written.weights)).max() <= 0.5 / 255 + 1e-6  # the scale on screen
    assert (read.weights[:, :, *np.triu_indices(T, 1)] == 0).all()
    np.testing.assert_array_equal(read.scores, written.scores)
    np.testing.assert_array_equal(read.lens.tokens, written.lens.tokens)
    np.testing.assert_allclose(read.lens.probabilities, written.lens.probabilities, atol=1e-3)
    np.testing.assert_allclose(read.lens.losses, written.lens.losses, atol=5e-3)
    np.testing.assert_array_equal(read.health.residual_norms, written.health.residual_norms)
    np.testing.assert_array_equal(read.health.dead_units, written.health.dead_units)
    assert read.health.update_ratio == -3.1
    assert set(read.lens_labels) == set(np.unique(written.lens.tokens).tolist())
    assert read.lens_labels[3] == "d"


def test_what_is_not_a_number_is_kept_out_of_the_way(run, recorder):
    bad = frame(1, ratio=float("nan"))
    bad.weights[:] = np.nan
    recorder.write(bad)
    read = Recording(run).frame(1, labels)
    assert (read.weights == 0).all()
    assert read.health.update_ratio is None


def test_steps_nearest_and_samples(run, recorder):
    recording = Recording(run)
    assert recording.nearest(5) is None
    assert recording.head_history() is None
    for step in (10, 20, 40):
        recorder.write(frame(step))
    recorder.write(frame(20, seed=5))  # once more: replaced
    recorder.write_sample(RecordedSample(10, "To", "xyz"))
    recorder.write_sample(RecordedSample(40, "To", "be"))
    assert recording.steps().tolist() == [10, 20, 40]
    assert [recording.nearest(step) for step in (0, 14, 16, 29, 31, 99)] == [10, 10, 20, 20, 40, 40]
    assert recording.frame(30, labels) is None
    assert recording.sample(9) is None
    assert recording.sample(39) == RecordedSample(10, "To", "xyz")
    assert [sample.step for sample in recording.samples()] == [10, 40]
    history = recording.head_history()
    assert history.steps.tolist() == [10, 20, 40]
    np.testing.assert_array_equal(history.scores[1], frame(20, seed=5).scores)


def test_a_run_without_a_recording(run):
    recording = Recording(run)
    assert len(recording.steps()) == 0
    assert recording.frame(1, labels) is None
    assert not run.frames.exists()  # looking makes nothing
    truncate(run, 5)


def test_the_budget_holds_and_early_steps_stay_denser(run):
    size = 40_000
    recorder = Recorder(run, TOKENS, budget=size)
    step = 0
    for _ in range(400):
        step += 10
        if recorder.due(step):
            recorder.write(frame(step))
    recorder.close()
    assert run.frames.stat().st_size < 2 * size + 40_000  # SQLite's own pages
    steps = Recording(run).steps()
    assert steps[0] == 10
    gaps = np.diff(steps)
    assert len(steps) > 15
    assert gaps[: len(gaps) // 4].mean() < gaps[-len(gaps) // 4 :].mean()


def test_the_last_frame_is_kept_however_close(run, recorder):
    recorder.write(frame(100))
    recorder._spacing = 5.0
    assert not recorder.due(101)
    assert recorder.due(101, final=True)
    assert not recorder.due(100, final=True)


@pytest.mark.parametrize("keep", [2, 5, 50])
def test_thinned_keeps_both_ends_and_about_as_many_as_asked(keep):
    steps = list(range(0, 10_000, 7))
    left = thinned(steps, keep)
    assert left[0] == 0
    assert left[-1] == steps[-1]
    assert set(left) <= set(steps)
    assert 0.8 * keep <= len(left) <= keep + 1
    assert thinned([3, 9], 1) == [3, 9]


def test_a_resume_cuts_what_lies_past_its_checkpoint(run, recorder):
    reader = Recording(run)
    for step in (10, 20, 30):
        recorder.write(frame(step))
        recorder.write_sample(RecordedSample(step, "", "x"))
    assert len(reader.steps()) == 3
    truncate(run, 20)
    assert reader.steps().tolist() == [10, 20]
    assert reader.sample(99).step == 20


def test_a_damaged_file_is_one_clear_error_and_no_reason_not_to_resume(run):
    run.frames.parent.mkdir()
    run.frames.write_bytes(b"not a database at all" * 100)
    with pytest.raises(UserError, match="cannot read"):
        Recording(run).steps()
    with pytest.raises(UserError, match="cannot record"):
        Recorder(run, TOKENS)
    truncate(run, 5)
    Recorder(run, TOKENS).close()


def test_a_killed_writer_leaves_every_whole_frame(run):
    recorder = Recorder(run, TOKENS)
    recorder.write(frame(1))
    recorder._db.execute("BEGIN")
    recorder._db.execute("DELETE FROM frames")  # killed before this is finished
    copy = RunDir(run.path / "copy")
    copy.frames.parent.mkdir(parents=True)
    for file in run.frames.parent.iterdir():
        (copy.frames.parent / file.name).write_bytes(file.read_bytes())
    with sqlite3.connect(copy.frames) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert Recording(copy).steps().tolist() == [1]
    recorder.close()


def test_scrubbing_holds_one_frame_in_memory(run, recorder):
    for step in range(50):
        recorder.write(frame(step))
    recording = Recording(run)
    size = frame(0).weights.nbytes

    def scrub():
        for step in range(50):
            recording.frame(step, labels)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    sizes = [scrub() for _ in range(6)]
    tracemalloc.stop()
    assert sizes[-1] - sizes[1] < 10 * size  # 200 frames later there are not even ten more, whatever else ran
