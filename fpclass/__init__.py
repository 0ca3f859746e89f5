"""From labelled images to an answer that holds: which model, how good, why, and the thing to hand in."""

__version__ = "0.4.0"
