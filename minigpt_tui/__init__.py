"""The terminal side of minigpt-tui: command line, app, panes. It asks a `Session`, and never touches torch itself."""

import os

# Read when NumPy is imported, which multiplies for prompts, one vector at a time, beside the threads that train.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
