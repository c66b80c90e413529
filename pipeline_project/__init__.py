"""Selects the best set of pending work under shared constraints, over data in PostgreSQL that never stops changing."""

__version__ = "0.1.0"
