"""The app around the experiment screen."""

from __future__ import annotations

from minigpt_tui.base import Look, SmallApp
from minigpt_tui.lab.session import Lab
from minigpt_tui.screens.experiment import ExperimentScreen
from minigpt_tui.widgets.heatmap import ramp


class LabApp(SmallApp):
    """Runs and shows an experiment through a lab."""

    TITLE = "minigpt ablation lab"

    def __init__(self, lab: Lab, terminal: Look) -> None:
        super().__init__(terminal)
        self._lab = lab
        self.experiment = ExperimentScreen(lab, coloured=bool(ramp(terminal.color, terminal.ascii).colours))

    def on_mount(self) -> None:
        self.push_screen(self.experiment)

    def begin_leaving(self) -> None:
        self._lab.stop()
        self.experiment.poll()

    def has_ended(self) -> bool:
        return self._lab.join(0)
