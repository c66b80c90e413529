"""Show rooms: whole days played through the engine."""
