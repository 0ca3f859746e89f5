"""Architectures, a family per file; each ends with its `ARCHITECTURES`, which `fpclass.models.registry` collects."""
