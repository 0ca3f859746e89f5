"""Where pretrained numbers come from, and how they get into a network."""
