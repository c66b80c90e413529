"""Use cases: one method, its transactions begin and end there. No SQL, no algorithm."""
