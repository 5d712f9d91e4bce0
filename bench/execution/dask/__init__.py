"""Execution on a Dask cluster."""
