"""One hand of the engine: packing problems in, certified selections out. Pure, and never trusted: `core.verification` is the gate."""
