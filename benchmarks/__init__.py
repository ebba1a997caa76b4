"""Benchmarks of gaxn, each run as `python -m benchmarks.NAME` from the project's root."""
