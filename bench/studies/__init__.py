"""Studies of the protocol, the tasks, saved results and speed."""
