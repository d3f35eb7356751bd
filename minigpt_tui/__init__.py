"""The terminal side of minigpt-tui: command line, app, panes. It asks a `Session`, and never touches torch itself."""
