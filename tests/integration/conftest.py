"""Fixtures for tests of whole runs and of workers."""

import shutil

import pytest
import worker_jobs
from whole_runs import PLUGINS


@pytest.fixture
def simple(tmp_path):
    """Copy the plugin `simple`, which logs its fits to a file next to it."""
    return shutil.copy(PLUGINS / "simple.py", tmp_path)


@pytest.fixture
def jobs():
    """Return the module of job functions; spawned children get this process's sys.path."""
    return worker_jobs
