"""Changing the sampling settings in a title: which there are, what a step up or down is, what may be typed."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple

from rich.cells import cell_len

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UsageError
from minigpt_tui.safetext import safe
from minigpt_tui.widgets import slash

SEPARATOR = " · "
MORE = "◂", "▸"
"""Where there are more settings than shown."""
CARET = "_"
"""After what has been typed."""
MAX_TYPED = 40

TEMPERATURES = tuple(n / 10 for n in range(21))
TOKENS = (20, 50, 100, 200, 400, 800, 1500, 3000, 5000, 10_000)
TOP_K = (1, 2, 3, 5, 10, 20, 40, 100, 200)
TOP_P = tuple(n / 20 for n in range(1, 21))
MIN_P = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
PENALTIES = tuple(n / 20 for n in range(20, 41))


def step(values: Sequence[float], value: float, by: int) -> float:
    """The next of some ascending values above (`by` 1) or below (-1); at the ends, and beyond them, `value` itself."""
    i = bisect_right(values, value) if by > 0 else bisect_left(values, value) - 1
    return values[i] if 0 <= i < len(values) else value


def step_temperature(config: SampleConfig, by: int) -> dict[str, object]:
    """Several temperatures keep their distances, and stop together."""
    old = config.temperatures or (config.temperature,)
    new = [step(TEMPERATURES, temperature, by) for temperature in old]
    return {} if len(set(new)) < len(new) else slash.temperatures(new)


def step_top_k(config: SampleConfig, by: int) -> dict[str, object]:
    """Beyond the largest k are all tokens, which is 0."""
    if not config.top_k:
        return {} if by > 0 else {"top_k": TOP_K[-1]}
    return {"top_k": 0 if by > 0 and config.top_k >= TOP_K[-1] else int(step(TOP_K, config.top_k, by))}


def step_seed(config: SampleConfig, by: int) -> dict[str, object]:
    """Before 0 a fresh seed is drawn for each answer."""
    seed = (-1 if config.seed is None else config.seed) + by
    return {"seed": seed if seed >= 0 else None}


def step_samples(config: SampleConfig, by: int) -> dict[str, object]:
    samples = max(1, min(len(config.rows) + by, slash.MAX_SAMPLES))
    return {"num_samples": samples, "temperatures": (), "temperature": config.rows[0]}


def along(field: str, values: Sequence[float]) -> Callable[[SampleConfig, int], dict[str, object]]:
    """Steps of one field along some values."""
    return lambda config, by: {field: type(values[0])(step(values, getattr(config, field), by))}


class Field(NamedTuple):
    """A setting: how it is shown, and which settings a step changes.

    Attributes:
        command: what takes a typed value.
        rank: 0 is the last to leave a narrow title.
        form: what is shown, with the value for the braces.
        idle: whether it does nothing at the moment, and so is only shown to be changed.
    """

    command: str
    rank: int
    form: str
    value: Callable[[SampleConfig], str]
    step: Callable[[SampleConfig, int], dict[str, object]]
    idle: Callable[[SampleConfig], bool] = lambda config: False

    def show(self, config: SampleConfig) -> str:
        value = self.value(config)
        text = self.form.format(value)
        return text.removesuffix("s") if value == "1" else text


FIELDS = (
    Field(
        "temp",
        0,
        "T {}",
        lambda c: " ".join(f"{t:g}" for t in c.temperatures or (c.temperature,)),
        step_temperature,
    ),
    Field("tokens", 1, "{} tokens", lambda c: f"{c.max_new_tokens:,}", along("max_new_tokens", TOKENS)),
    Field("topk", 5, "top-k {}", lambda c: str(c.top_k or "all"), step_top_k),
    Field("topp", 6, "top-p {}", lambda c: f"{c.top_p:g}", along("top_p", TOP_P)),
    Field("minp", 4, "min-p {}", lambda c: f"{c.min_p:g}", along("min_p", MIN_P), lambda c: not c.min_p),
    Field(
        "penalty",
        4,
        "penalty {}",
        lambda c: f"{c.repetition_penalty:g}",
        along("repetition_penalty", PENALTIES),
        lambda c: c.repetition_penalty == 1,
    ),
    Field(
        "seed",
        2,
        "seed {}",
        lambda c: "random" if c.seed is None else str(c.seed),
        step_seed,
        lambda c: c.seed is None,
    ),
    Field(
        "samples",
        3,
        "{} samples",
        lambda c: str(len(c.rows)),
        step_samples,
        lambda c: len(c.rows) == 1 or bool(c.temperatures),
    ),
)


STOP_RANK = 7

Shown = list[tuple[int | None, str]]
"""Numbers of `FIELDS`, None for what is none of them, and their texts."""


def shown(config: SampleConfig, columns: int | None = None) -> Shown:
    """The settings that do something.

    Args:
        columns: cells for all, with `SEPARATOR` between; what does not fit leaves whole, and all that matters less.
    """
    found: list[tuple[int, int | None, str]] = [
        (field.rank, i, field.show(config)) for i, field in enumerate(FIELDS) if not field.idle(config)
    ]
    found += [(STOP_RANK, None, f"stop {safe(text, newlines=False)!r}") for text in config.stop]
    kept: set[int] = set()
    left = float("inf") if columns is None else columns + len(SEPARATOR)
    for place, (_, _, text) in sorted(enumerate(found), key=lambda item: item[1][0]):
        need = cell_len(text) + len(SEPARATOR)
        if need > left:
            break
        kept.add(place)
        left -= need
    return [found[place][1:] for place in sorted(kept)]


def summary(config: SampleConfig) -> str:
    """The settings that do something, in one line."""
    return SEPARATOR.join(map(itemgetter(1), shown(config)))


class SettingsEditor:
    """The settings, and while somebody edits them the field that is chosen.

    Attributes:
        typed: what stands in for the field's value until `take`; None where nothing was typed.
    """

    def __init__(self, config: SampleConfig) -> None:
        self.config = config
        self.chosen: int | None = None
        self.typed: str | None = None

    def shown(self, columns: int | None = None) -> Shown:
        """The settings that do something or, while one is chosen, as many of its neighbours as fit beside it."""
        if self.chosen is None:
            return shown(self.config, columns)
        texts = [field.show(self.config) for field in FIELDS]
        if self.typed is not None:
            texts[self.chosen] = FIELDS[self.chosen].form.format(self.typed + CARET)
        for first in range(self.chosen + 1):
            for end in range(len(texts), self.chosen, -1):
                found: Shown = [(n, texts[n]) for n in range(first, end)]
                found = [*[(None, MORE[0])] * (first > 0), *found, *[(None, MORE[1])] * (end < len(texts))]
                if columns is None or cell_len(SEPARATOR.join(map(itemgetter(1), found))) <= columns:
                    return found
        return [(self.chosen, texts[self.chosen])]

    def choose(self, by: int) -> None:
        """The next field, or the one before; around the ends."""
        self.chosen = ((self.chosen or 0) + by) % len(FIELDS)

    def change(self, by: int) -> bool:
        """One step up or down; False where there is none."""
        before = self.config
        if self.chosen is not None:
            try:
                self.config = before.replace(**FIELDS[self.chosen].step(before, by))
            except UsageError:  # what may be typed goes further than what steps reach
                return False
        return self.config != before

    def type(self, character: str) -> None:
        """Begin a new value of the chosen field, or add to it."""
        self.typed = ((self.typed or "") + character)[:MAX_TYPED]

    def erase(self) -> None:
        """Take the last character off what was typed or, at first, off the number that stands there."""
        if self.chosen is not None and self.typed is None:
            value = FIELDS[self.chosen].value(self.config).replace(",", "")
            self.typed = "" if value.isalpha() else value
        self.typed = (self.typed or "")[:-1]

    def take(self) -> bool:
        """Take what was typed as the field's value; whether that changed it. Nothing is a random seed, else no value.

        Raises:
            UsageError: it does not do, and the field keeps its value.
        """
        before, typed, self.typed = self.config, self.typed, None
        if self.chosen is None or typed is None:
            return False
        command = FIELDS[self.chosen].command
        if not typed.strip():
            if command != "seed":
                return False
            typed = "random"
        self.config = slash.apply(f"/{command} {typed}", before)
        return self.config != before
