"""Runs, records and sweeps on disk, named by the content of their settings."""
