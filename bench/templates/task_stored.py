"""my-task: simulations of a file. Check the ranges of the parameters.

bench check ./my_task.py                                  check the file and the declarations
bench run smoke --plugin ./my_task.py --task my-task      run the methods on it
"""

from pathlib import Path

from bench.contracts import Parameter, StoredTask

my_task = StoredTask(
    "my-task",
    Path(__file__).parent / "simulations.npz",
    [
        # Name, range of all rows, role, and the inner range of test datasets. Add scale="log" to
        # a parameter whose values spread over orders of magnitude.
        Parameter("theta1", 0.0, 1.0, "interest", (0.1, 0.9)),
    ],
    observations=1,  # observations in a row, all at the same parameters
)
