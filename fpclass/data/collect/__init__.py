"""Image search to labelled folders: polite, resumable, and with a record of where every picture is from."""
