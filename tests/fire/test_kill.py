"""Runs that are killed, at random and during writes, and resumed without a difference."""

import os
import random
import re
import shutil
import signal
import time

import psutil

SEED = 20
MOMENTS = 10  # at random times, and as many during writes
WRITES = ("fsync", "replace", "mkstemp")


def workers(process):
    return [
        child
        for child in psutil.Process(process.pid).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]


def kill(place, process, victim):
    """Kill the run, its group, or one of its workers; return the exit status."""
    if process.poll() is None and victim == "worker":
        for child in workers(process)[:1]:
            child.kill()
        return place.finish(process)[0]
    if process.poll() is None:
        (os.kill if victim == "run" else os.killpg)(process.pid, signal.SIGKILL)
    return place.finish(process)[0]


def test_killed_at_any_moment(place, same):
    random_ = random.Random(SEED)
    moments = [("", random_.uniform(0, 3)) for _ in range(MOMENTS)]
    moments += [
        (f"kill {random_.randint(1, 9)} {where}", 0.0)
        for _, where in zip(range(MOMENTS), WRITES * MOMENTS, strict=False)
    ]
    random_.shuffle(moments)
    ends = []
    for sabotage, moment in moments:
        before = place.finished()
        process = place.start("--workers", 2, sabotage=sabotage)
        if sabotage:
            ends.append(place.finish(process)[0])
        else:
            while process.poll() is None and not workers(process):
                time.sleep(0.02)
            time.sleep(moment)
            ends.append(kill(place, process, random_.choice(["run", "group", "worker"])))
        after = place.finished()
        assert before.items() <= after.items()
        if ends[-1] == 0:  # the run was faster
            same(place)
            shutil.rmtree(place.root)
    assert ends.count(-signal.SIGKILL) > MOMENTS
    before = place.finished()
    status, _, err = place.run()
    assert status == 0, err
    assert before.items() <= place.finished().items()
    same(place)


def test_leftovers_are_swept_away(place, same):
    status, _, _ = place.run(sabotage="kill 5 fsync")
    assert status == -signal.SIGKILL
    (part,) = (p for p in place.litter())
    assert place.run()[0] == 0
    assert place.litter() == [part]  # may belong to another run
    os.utime(part, (0, 0))
    status, _, err = place.run()
    assert re.match("0 made", err)
    assert place.litter() == []
    same(place)


def test_a_worker_in_the_grip_of_c_dies_with_its_parent(place):
    (place.folder / "simple.py").write_text(
        "from bench.contracts import Method\n"
        "class Simple(Method):\n"
        "    name = 'simple'\n"
        "    configurations = {'default': {}, 'wide': {}}\n"
        "    def restore(self, *arguments): ...\n"
        "    def fit(self, fit_context):\n"
        "        open('busy', 'w').close()\n"
        "        sum(range(10**12))\n"  # takes hours and holds the interpreter's lock
    )
    process = place.start("--method", "simple:default")
    while not (place.folder / "busy").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    time.sleep(0.5)
    process.kill()
    assert place.finish(process)[0] == -signal.SIGKILL
