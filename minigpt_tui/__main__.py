"""`python -m minigpt_tui`: the same program where the command is not on the path."""

from minigpt_tui.cli import main

main()
