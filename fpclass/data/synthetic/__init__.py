"""Drawn footprints: `dataset` writes a folder of them, of `anatomy`, `shape` and `drawing`."""
