"""The terminal side of minigpt-tui: command line, app, panes. It asks a `Session`, and never touches torch itself."""

import gc
import os

gc.set_threshold(100_000)  # what is imported stays: to walk over it after every 700 objects delays the first frame

# Read when NumPy is imported, which multiplies for prompts, one vector at a time, beside the threads that train.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
