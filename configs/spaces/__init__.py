"""Spaces for `launch.py tune --space=FILE`: which keys of a config are searched, and between what (docs/tune.md)."""
