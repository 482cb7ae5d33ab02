"""Drills: parts of a region are taken away under calls, on purpose, and what callers noticed is written down."""
