"""Ten tasks with different names, for tests of scaling with the number of tasks."""

from bench.tasks.gaussians import RotatedGaussians

for _number in range(10):
    globals()[f"task_{_number}"] = RotatedGaussians(f"task-{_number}", f"Task {_number}", 1.0)
