"""Probes: L2-regularised logistic regression on pooled features of a frozen network."""
