#!/usr/bin/env python3
"""One process stands still at any of its calls while others add, remove, gc and repack: when it
goes on, it and they have the right bytes, and nothing is left behind.

usage: pause_test.py ZIPLLM [--points N] [--seed S] [--jobs N]
"""
import itertools
import os
import signal
import time

import crash
from crash import Operation

# What may wait for the one that stands still (an SQLite transaction) is given so long.
PATIENCE = 0.3


def intruders(last):
    """Lists of operations that are done meanwhile."""
    gc, repack = Operation("gc"), Operation("repack")
    return {
        "gc": [gc],
        "rm, gc": [Operation("rm", "a/base"), gc],
        "repack, gc": [repack, gc],
        "rm all, gc twice": [Operation("rm", name) for name in ("a/base", "tuned", "other", "file")]
                            + [gc, gc],
        "add what is dead": [Operation("add", "again", 2)],
        "add, rm, gc": [Operation("add", "new2", last - 1), Operation("rm", "new2"), gc],
    }


def stops(process):
    """Waits until the process has stopped (True) or ended."""
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return True
    process.returncode = os.waitstatus_to_exitcode(status)
    return False


def wait(started, seconds):
    deadline = time.monotonic() + seconds
    while started[0].poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return started[0].poll() is not None


def busy(done):
    """It could not be done because another was at it, and said so."""
    return done.code == 1 and b"is being done by" in done.err


def check_pause(store, case, covered):
    (operation, at), (what, meanwhile) = case
    copy = store.copy(store.path.parent / "copy")
    history = [f"{operation} stops at call {at}"]
    before = dict(copy.expected)
    running = None
    try:
        running = copy.start(operation, at=at, how="stop", reads=operation.reads)
        stopped = stops(running[0])
        for other in meanwhile:
            history.append(str(other))
            started = copy.start(other)
            if stopped and not wait(started, PATIENCE):
                history.append("which waits; the first goes on")
                os.kill(running[0].pid, signal.SIGCONT)
                stopped = False
            done = copy.command.finish(started)
            if other.succeeded(done):
                copy.expected = other.outcomes(copy.expected)[-1]
            elif not (other.kind in ("gc", "repack") and busy(done)):
                raise crash.Failure(done.told())
        if stopped:
            os.kill(running[0].pid, signal.SIGCONT)
        history.append("the first goes on")
        done = copy.command.finish(running)
        running = None
        if done.hit is None:  # it made fewer calls than before: threads share the reads
            if operation.kind == "get" and operation.succeeded(done):
                copy.got()
            return
        covered.add(operation, done.hit)
        outcomes = [copy.expected]
        if operation.kind == "get" and operation.succeeded(done):
            if copy.got() != copy.trees.contents[before[operation.name]]:
                raise crash.Failure(f"{operation.name} is not what was added")
        elif operation.kind == "get" and operation.name not in copy.expected:
            if b"no model" not in done.err:
                raise crash.Failure(done.told())
        elif operation.succeeded(done):
            outcomes = operation.outcomes(copy.expected)
            if operation.name not in before or operation.name in copy.expected:
                outcomes = outcomes[-1:]  # else it was replaced before it was removed, or after
        elif operation.kind == "replace" and before[operation.name] != copy.expected.get(
                operation.name):
            if b"was changed meanwhile" not in done.err:
                raise crash.Failure(done.told())
        elif not (operation.kind in ("gc", "repack", "rebuild") and busy(done)):
            raise crash.Failure(done.told())
        copy.check(outcomes)
        copy.check_clean()
        copy.do(Operation("add", "next", 1))
        copy.check()
        copy.check_no_leak()
    except crash.Failure as failure:
        raise crash.Failure("; ".join(history) + f" ({what}):\n{failure}") from None
    finally:
        if running is not None:
            running[0].kill()
            running[0].communicate()


def run(place, points, seed, jobs):
    del seed
    last = len(place.trees) - 1
    cases = []
    for prepared, operations, meanwhile in (
            (place.prepared(),
             [Operation("add", "new", 2), Operation("add", "copy", 1),
              Operation("replace", "tuned", last - 1), Operation("gc"), Operation("repack"),
              Operation("get", "tuned"), Operation("fsck")], intruders(last)),
            (place.condemned(), [Operation("add", "new", 2)], {"gc": [Operation("gc")]})):
        stores = place.copies(prepared, jobs)
        cases += [(stores, *case) for case in itertools.product(
            place.calls(prepared, operations), meanwhile.items())]
    return place.share(crash.spread(cases, points), jobs,
                       lambda case, job, covered: check_pause(case[0][job], case[1:], covered))


if __name__ == "__main__":
    crash.main(__doc__, run, points=50)
