"""The report: complete, self-contained, harmless whatever it shows, and in words where something is missing."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import sqlite3
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest

from minigpt_core import prober, timeline_plots
from minigpt_core.checkpoint import load_run
from minigpt_core.config import TrainConfig
from minigpt_core.engine import Engine
from minigpt_core.frame import HeadHistory
from minigpt_core.ladder import Ladder, Rung
from minigpt_core.page import visible
from minigpt_core.plan import Request, prepare
from minigpt_core.report import write_assets
from minigpt_core.reproduce import again
from minigpt_core.rundir import RunDir
from minigpt_core.runlog import RunLog
from minigpt_core.series import Series
from minigpt_core.status import Event, MetricsRow
from minigpt_core.stored import read_config
from minigpt_core.tail import standing
from tests.conftest import TINY

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202egnp\x07 &amp; \"'"


# --- a run to report on ---


def without_pictures(patch: pytest.MonkeyPatch) -> None:
    """They are tested elsewhere."""
    patch.setattr("minigpt_core.plots.attention_heads", lambda *_, **__: [])
    patch.setattr("minigpt_core.plots.loss_curve", lambda *_: None)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, text):
    """A run that recorded itself, and ended by itself with its report."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "<b> & 1.txt").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("RESTS", 2), ("IDLE_SECONDS", 0.001), ("SAMPLE_EVERY", 2)):
            patch.setattr(prober, name, value)
        patch.setattr("minigpt_core.report.SAMPLE_TOKENS", 20)
        without_pictures(patch)
        train = {"steps": 120, "batch_size": 4, "eval_every": 50, "device": "cpu", "threads": 1, "seed": 5}
        about = {"data": str(folder / "<b> & 1.txt"), "name": "a <i>", "out": str(folder)}
        request = Request(model=TINY, train=train, ablate=("no-positions",), **about)
        engine = Engine(prepare(request))
        engine.start()
        assert engine.join(120)
        engine.prober.close()
    assert engine.status().phase == "done"
    return engine.plan.run


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """A copy of it that a test may damage."""
    monkeypatch.setattr("minigpt_core.report.SAMPLE_TOKENS", 5)
    without_pictures(monkeypatch)
    shutil.copytree(finished.path, tmp_path / "run")
    (tmp_path / "run" / "control.json").unlink(missing_ok=True)
    return RunDir(tmp_path / "run")


def report(run: RunDir) -> str:
    write_assets(run)
    return (run.assets / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Checks that every tag is closed where it must be, and collects what matters."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.texts: dict[str, str] = {}
        """The words of each section."""
        self._section = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        values = dict(attrs)
        assert len(values) == len(attrs), f"{tag} has an attribute twice"
        self.tags.append((tag, values))
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "section":
            self._section = values["id"]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts[self._section] = self.texts.get(self._section, "") + data


# --- the page ---


def test_a_run_ends_with_a_page_that_tells_all(finished):
    html = (finished.assets / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    sections = ["curves", "happened", "attention", "heads", "through", "temperatures", "configuration", "text"]
    assert [name for name in page.texts if name] == [*sections, "machine", "again"]
    config = read_config(finished)
    for section, words in {
        "curves": ["training, smoothed", "Best validation loss", "uniform", "5-gram", "Learning rate", "Gradient norm"],
        "happened": ["passed unigram", "final validation loss"],
        "heads": ["recorded frames", "to 120", "L1 H1"],
        "through": ["step 120"],
        "temperatures": ["Temperature 0.2", "Temperature 1.2", "seed 5"],
        "configuration": ["embed_dim", "32", "learning_rate", "0.02"],
        "text": ["<b> & 1.txt", config["corpus"]["sha256"]],
        "machine": ["asked for", "torch", config["versions"]["torch"]],
        "again": ["--ablate no-positions", "--resume", "--steps 240"],
    }.items():
        for word in words:
            assert word in page.texts[section], (section, word)
    assert sum(tag == "image" for tag, _ in page.tags) == 4  # 2 layers of 2 heads
    assert "missing" not in html
    assert len(html) < 500_000


def test_the_page_needs_nothing_and_runs_nothing(finished):
    html = (finished.assets / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "img", "base"} & {tag for tag, _ in page.tags}
    for tag, values in page.tags:
        assert not [name for name in values if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href", "action"):
            target = values.get(name, "#")
            assert target.startswith(("#", "data:image/png;base64,")), (tag, target)
            if target.startswith("#") and len(target) > 1:
                assert target[1:] in page.ids
    assert not re.search(r"url\((?!#)|@import|https?:", html)
    assert len(set(page.ids)) == len(page.ids)
    for tag, values in page.tags:
        if tag == "svg":
            assert values.get("aria-hidden") or values.get("aria-label") or values.get("aria-labelledby")


def test_the_same_run_gives_the_same_page(run):
    assert report(run) == report(run)


def test_births_are_named_and_marked(run):
    log = RunLog(run)
    data = {"layer": 1, "head": 0, "role": "induction", "score": 0.6}
    log.event(Event(kind="birth", step=60, time=0.0, message="layer 1 head 0 became an induction head", data=data))
    log.close()
    with open(run.events, "ab") as file:
        file.write(b'{"kind": "birth", "step": 70, "time": 0.0, "message": "by another program"}\n')
    page = Page(report(run))
    assert "layer 1 head 0 became an induction head" in page.texts["happened"]
    assert "an induction head from step 60" in page.texts["heads"]
    assert sum(tag == "circle" and values["class"] == "s-induction" for tag, values in page.tags) == 1


# --- hostile text ---


def test_text_can_neither_write_tags_nor_hide(run):
    log = RunLog(run)
    log.event(Event(kind="warning", step=120, time=0.0, message=HOSTILE))
    log.close()
    with sqlite3.connect(run.frames) as db:
        db.execute("INSERT OR REPLACE INTO samples VALUES (119, ?, ?)", ("<i>x", HOSTILE + "é\n\tΩ 漢"))
    html = report(run)
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    seen = "<script>alert(1)</script>␛[2J⟨U+202E⟩gnp␇ &amp; \"'"
    assert seen in page.texts["happened"]
    assert seen + "é\n\tΩ 漢" in page.texts["through"]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)


def test_visible_leaves_prose_alone_and_shows_the_rest():
    assert visible("Ä, 漢字\n\t🎈 e\u0301") == "Ä, 漢字\n\t🎈 e\u0301"
    assert visible("\x00\r\x7f\x9b") == "␀␍␡⟨U+009B⟩"
    assert visible("a\ud800\u200b\u2066") == "a⟨U+D800⟩⟨U+200B⟩⟨U+2066⟩"


# --- what is missing is said ---


def test_a_run_without_a_recording(run):
    run.frames.unlink()
    page = Page(report(run))
    assert "no recorded frames" in page.texts["heads"]
    assert "recorded no samples" in page.texts["through"]


@pytest.mark.parametrize("damage", [b"not a database, but something quite else", None])
def test_a_damaged_recording_is_a_sentence(run, damage):
    if damage:
        run.frames.write_bytes(damage * 100)
    else:
        with sqlite3.connect(run.frames) as db:
            db.execute("UPDATE frames SET scores = x'0102'")
    page = Page(report(run))
    assert "cannot be shown" in page.texts["heads"]
    assert "cannot be read" in page.texts["through"]


def test_a_run_without_text_ladder_events_or_configuration(run):
    for path in (run.tokens / "tokens.npy", run.path / "ladder.json", run.events):
        path.unlink()
    run.config.write_text("{", encoding="utf-8")
    page = Page(report(run))
    assert "is damaged: not JSON" in page.texts[""]
    assert "some other text" in page.texts["attention"]
    assert "no n-gram ladder" in page.texts["curves"]
    assert "Nothing but training" in page.texts["happened"]
    assert "not recorded" in page.texts["text"]
    assert "not recorded" in page.texts["machine"]
    assert "embed_dim" in page.texts["configuration"]  # the checkpoint's
    assert "--data TEXT" in page.texts["again"]


def test_a_run_whose_stored_text_is_damaged(run):
    (run.tokens / "tokens.npy").write_bytes(b"\x93NUMPY")
    assert "The stored text cannot be used" in Page(report(run)).texts["attention"]


def rewrite(run: RunDir, change) -> None:
    rows = [msgspec.json.decode(line) for line in run.metrics.read_bytes().splitlines()]
    run.metrics.write_bytes(b"".join(msgspec.json.encode(change(row)) + b"\n" for row in rows))


def test_a_run_stopped_before_its_first_evaluation(run):
    rewrite(run, lambda row: {name: value for name, value in row.items() if name != "val_loss"})
    page = Page(report(run))
    assert "ended before its first evaluation" in page.texts["curves"]
    run.metrics.write_bytes(b"")
    page = Page(report(run))
    assert "No step was logged" in page.texts["curves"]


def test_a_diverged_run(run):
    rewrite(run, lambda row: row | ({"train_loss": "nan", "grad_norm": "inf"} if row["step"] > 100 else {}))
    page = Page(report(run))
    assert "Training diverged: from step 101 on" in page.texts[""]
    assert "20 of 120 logged losses are not finite numbers" in page.texts["curves"]
    rewrite(run, lambda row: row | {"train_loss": "nan", "grad_norm": "nan", "val_loss": "nan"})
    html = report(run)
    assert "no value that could be drawn" in Page(html).texts["curves"]
    drawn = " ".join(value for _, values in Page(html).tags for name, value in values.items() if name == "d")
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_branches_that_a_resume_left_are_not_told():
    data = {"rung": {"rung": "bigram"}, "birth": {"layer": 0, "head": 0, "role": "sink"}}

    def event(kind, step):
        return Event(kind=kind, step=step, time=0.0, message="", data=data.get(kind, {}))

    before = [event("rung", 10), event("birth", 50), event("warning", 60)]
    told = standing([*before, event("resumed", 40), event("birth", 55)])
    assert [(e.kind, e.step) for e in told] == [("rung", 10), ("warning", 60), ("resumed", 40), ("birth", 55)]


# --- how to reproduce ---


def test_the_command_makes_the_same_run(finished, monkeypatch, tmp_path):
    from minigpt_tui import cli, launch

    plans = []
    monkeypatch.setattr(launch, "train", lambda plan, **_: plans.append(plan) or 0)
    run = load_run(finished.checkpoint)
    words, remarks = again(run, read_config(finished))
    assert remarks == []
    cli.app(args=[*shlex.split(" ".join(words))[1:], "--out", str(tmp_path)], standalone_mode=False)
    (plan,) = plans
    trainer = plan.build()
    assert trainer.model.config == run.model.config
    asked = {"precision": "fp32"}  # decided then, asked for now
    assert trainer.config.to_dict() == run.config.to_dict() | asked
    losses = [row.train_loss for _, row in zip(range(10), trainer, strict=False)]
    assert losses == [row.train_loss for row in run.history[:10]]
    plan.release()


def test_the_command_says_what_it_cannot_say(finished):
    run = load_run(finished.checkpoint)
    run.config = TrainConfig(minutes=5, beta1=0.5, compile="on", deterministic=True, device="cpu")
    words, remarks = again(run, read_config(finished) | {"corpus": {"source": "standard input", "name": "stdin"}})
    assert {"--data -", "--compile", "--deterministic", "--steps 120"} <= set(words)
    assert not [word for word in words if word.startswith(("--minutes", "--beta1"))]
    assert "standard input" in remarks[0]
    assert "beta1=0.5" in remarks[1]


# --- geometry ---


def series(losses: list[float]) -> Series:
    made = Series()
    fixed = {"epoch": 0.0, "tokens": 1, "time": 1.0, "lr": 1e-3, "clipped": 0.0, "tok_s": 1.0}
    for step, loss in enumerate(losses, 1):
        made.append(MetricsRow(step=step, train_loss=loss, grad_norm=loss, **fixed))
    return made


def test_a_loss_that_blows_up_does_not_flatten_the_rest():
    chart = timeline_plots.loss_chart(series([4.0, 3.0, 2.0, 1e30]), 4, 50, None, {})
    assert "above the picture" in chart.note
    assert max(float(label) for _, label in chart.y_ticks) <= 1.6 * math.log(50)
    assert all(-2000 < float(number) < 2000 for _, path in chart.lines for number in re.findall(r"[\d.]+", path))


def test_the_ladder_is_labelled_without_overlap_and_in_order():
    losses = (4.0, 3.0, 2.0, 1.99, 1.98, 1.97)
    rungs = tuple(Rung(str(i), loss) for i, loss in enumerate(losses))
    ladder = Ladder(rungs=rungs, train_tokens=1, val_tokens=1)
    chart = timeline_plots.loss_chart(series([4.0, 2.5]), 2, 50, ladder, {"1": 2, "unknown": 3})
    places = [place for _, place, _ in chart.levels]
    assert places == sorted(places)
    assert min(np.diff(places)) >= timeline_plots.LABEL_GAP - 0.2
    assert [kind for kind, *_ in chart.marks] == ["rung"]


def test_a_long_series_is_reduced_and_gaps_stay_gaps():
    chart = timeline_plots.small_chart(
        series([1.0 + step % 7 for step in range(20_000)]), "grad_norm", 20_000, log=True
    )
    assert chart is not None
    assert sum(len(path) for _, path in chart.lines) < 40_000
    gap = timeline_plots.small_chart(series([1.0, 2.0, math.nan, 2.0]), "grad_norm", 4, log=True)
    assert gap is not None
    assert gap.lines[1][1].count("M") == 2
    assert timeline_plots.small_chart(series([0.0, math.nan]), "grad_norm", 2, log=True) is None
    flat = timeline_plots.small_chart(series([0.7, 0.7]), "grad_norm", 2, log=True)
    assert flat is not None
    assert len(flat.y_ticks) >= 2


def test_of_many_heads_the_telling_ones_have_a_panel():
    scores = np.zeros((3, 4, 10, 10), np.float32)
    scores[1:, 1, 9, 9] = 0.8
    panels, left_out = timeline_plots.head_panels(
        HeadHistory(np.array([0, 10, 20]), scores), [(10, 9, 9, "induction"), (10, 0, 99, "sink")]
    )
    assert (len(panels), left_out) == (timeline_plots.PANELS, 100 - timeline_plots.PANELS)
    panel = panels[-1]
    assert (panel.layer, panel.head, panel.role) == (9, 9, "induction")
    assert panel.births == [(90.0, timeline_plots.y_of_birth(), "induction", 10)]


def test_a_map_is_a_picture_of_its_weights(tmp_path):
    import base64

    from matplotlib.image import imread

    weights = np.array([[1, 9, 9], [0.25, 0.75, 9], [np.nan, 0, 1]], np.float32)
    data = timeline_plots.map_png(weights).removeprefix("data:image/png;base64,")
    (tmp_path / "map.png").write_bytes(base64.b64decode(data))
    pixels = np.rint(imread(tmp_path / "map.png") * 255).astype(int)  # (3, 3, 4)
    assert (pixels[..., 3] > 0).tolist() == [[True, False, False], [True, True, False], [False, True, True]]
    scale = timeline_plots.shades(timeline_plots.GREYS)
    assert tuple(pixels[0, 0, :3]) == scale[-1]
    assert tuple(pixels[1, 0, :3]) == scale[31]  # the square root of a quarter is half way
    assert tuple(pixels[2, 1, :3]) == scale[0]


def test_a_thousand_heads_still_fit():
    assert timeline_plots.tokens_shown(16, 64) == 64
    assert timeline_plots.tokens_shown(1200, 64) == 22
