"""`launch.py eda`: the audit as a page that a person reads, with suspected label errors and outliers."""
