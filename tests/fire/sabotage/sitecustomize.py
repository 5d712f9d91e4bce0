"""Start-up module that makes a process fail while it writes.

Python imports it at start-up if it is on the path. The environment variable SABOTAGE selects the
failure. "kill 7 replace" kills this process and its parent at the seventh call of os.replace, "kill
7 fsync" at the seventh fsync, with half of the file written. "full 7 fsync" makes that call and all
later ones fail as on a full disk, "denied 7 mkstemp" as without permission.
"""

import errno
import os
import signal
import sys
import tempfile

_how, _number, _where = os.environ.get("SABOTAGE", "no 0 fsync").split()
_left = int(_number)
_OF = {"replace": os, "fsync": os, "mkstemp": tempfile}


def _sabotaged(function):
    def call(*arguments, **options):
        global _left
        _left -= 1
        if _left <= 0 and _how == "kill":
            if _where == "fsync":
                os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
            if "--multiprocessing-fork" in sys.argv or "spawn_main" in " ".join(sys.orig_argv):
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        if _left <= 0 and _how in ("full", "denied"):
            number = errno.ENOSPC if _how == "full" else errno.EROFS
            raise OSError(number, os.strerror(number))
        return function(*arguments, **options)

    return call


if _how != "no":
    setattr(_OF[_where], _where, _sabotaged(getattr(_OF[_where], _where)))
