"""The other hand of the engine: what PostgreSQL and the artifact files keep.

Functions take the open transaction first; they never begin or commit.
"""
