"""Altered copies of decoded images: corrupted ones, and versions that keep only one thing. Pure functions of uint8."""
