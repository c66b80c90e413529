"""Dagster's control room over the engine."""

import gc
import multiprocessing
import sys

# What Dagster has loaded by now stays loaded, and what follows is hundreds of modules more. The collector would look at all of it again
# and again: a fourth of what a process of a run spends on loading them.
gc.freeze()
gc.set_threshold(50_000)

# A run's process, which Dagster's code server made by `multiprocessing`. Its first check needs Great Expectations seconds from now.
if multiprocessing.parent_process() and "dagster._grpc.impl" in sys.modules:
    from pipeline_project.orchestration import expectations

    expectations.load()
