"""Execution of jobs in processes of this machine or on a Dask cluster."""
