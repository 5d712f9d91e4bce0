"""How jobs are executed: in processes of this machine, or on a Dask cluster."""
