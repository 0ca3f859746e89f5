"""From files to arrays: sources make a `Table`, decoding fills in the pixels, the audit judges, splits divide."""
