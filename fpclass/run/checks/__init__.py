"""Whether the maps of a run mean anything, and what its features are like."""
