"""Dagster's control room over the engine."""

import gc

# What Dagster has loaded by now stays loaded. The collector would look at all of it again for every few modules that follow: a fifth of
# what a process of a run spends on loading them.
gc.freeze()
