"""Dagster's control room over the engine."""
