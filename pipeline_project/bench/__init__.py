"""Show rooms: measurements with peers beside us."""
