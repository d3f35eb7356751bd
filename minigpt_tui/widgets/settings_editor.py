"""Changing the sampling settings with four arrow keys: which there are, and what a step up or down is."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple

from rich.cells import cell_len

from minigpt_core.config import SampleConfig
from minigpt_core.errors import UsageError
from minigpt_tui.safetext import safe
from minigpt_tui.widgets.slash import MAX_SAMPLES, temperatures

SEPARATOR = " · "

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
    return {} if len(set(new)) < len(new) else temperatures(new)


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
    samples = max(1, min(len(config.rows) + by, MAX_SAMPLES))
    return {"num_samples": samples, "temperatures": (), "temperature": config.rows[0]}


def along(field: str, values: Sequence[float]) -> Callable[[SampleConfig, int], dict[str, object]]:
    """Steps of one field along some values."""
    return lambda config, by: {field: type(values[0])(step(values, getattr(config, field), by))}


class Field(NamedTuple):
    """A setting: how it is shown, and which settings a step changes.

    Attributes:
        rank: 0 is the last to leave a narrow title.
        idle: whether it does nothing at the moment, and so is only shown to be changed.
    """

    rank: int
    show: Callable[[SampleConfig], str]
    step: Callable[[SampleConfig, int], dict[str, object]]
    idle: Callable[[SampleConfig], bool] = lambda config: False


FIELDS = (
    Field(0, lambda c: f"T {' '.join(f'{t:g}' for t in c.temperatures or (c.temperature,))}", step_temperature),
    Field(1, lambda c: f"{c.max_new_tokens:,} tokens", along("max_new_tokens", TOKENS)),
    Field(5, lambda c: f"top-k {c.top_k or 'all'}", step_top_k),
    Field(6, lambda c: f"top-p {c.top_p:g}", along("top_p", TOP_P)),
    Field(4, lambda c: f"min-p {c.min_p:g}", along("min_p", MIN_P), lambda c: not c.min_p),
    Field(
        4,
        lambda c: f"penalty {c.repetition_penalty:g}",
        along("repetition_penalty", PENALTIES),
        lambda c: c.repetition_penalty == 1,
    ),
    Field(2, lambda c: f"seed {'random' if c.seed is None else c.seed}", step_seed, lambda c: c.seed is None),
    Field(
        3,
        lambda c: f"{len(c.rows)} sample{'s' * (len(c.rows) > 1)}",
        step_samples,
        lambda c: len(c.rows) == 1 or bool(c.temperatures),
    ),
)


STOP_RANK = 7


def shown(config: SampleConfig, chosen: int | None = None, columns: int | None = None) -> list[tuple[int | None, str]]:
    """The settings that do something, or all of them while one is chosen: numbers of `FIELDS`, and their texts.

    Args:
        columns: cells for all, with `SEPARATOR` between; what does not fit leaves whole, and all that matters less.
    """
    found: list[tuple[int, int | None, str]] = [
        (-1 if i == chosen else field.rank, i, field.show(config))
        for i, field in enumerate(FIELDS)
        if chosen is not None or not field.idle(config)
    ]
    if chosen is None:
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
    """The settings, and while somebody edits them the field that is chosen."""

    def __init__(self, config: SampleConfig) -> None:
        self.config = config
        self.chosen: int | None = None

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
