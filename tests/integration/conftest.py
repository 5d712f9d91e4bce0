"""For the tests of whole runs, the plugin that says what it fits; for those of workers, jobs."""

import shutil

import pytest
import worker_jobs
from whole_runs import PLUGINS


@pytest.fixture
def simple(tmp_path):
    """The plugin `simple`, which writes beside itself what it fits."""
    return shutil.copy(PLUGINS / "simple.py", tmp_path)


@pytest.fixture
def jobs():
    """The module of job functions; spawned children get this process's sys.path."""
    return worker_jobs
