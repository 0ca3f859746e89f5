"""Whether the maps of what is trained mean anything, and whether the configs of a study look at the same things."""
