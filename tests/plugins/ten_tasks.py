"""Ten tasks that differ in name: for what must scale with their number."""

from bench.tasks.gaussians import RotatedGaussians

for _number in range(10):
    globals()[f"task_{_number}"] = RotatedGaussians(f"task-{_number}", f"Task {_number}", 1.0)
