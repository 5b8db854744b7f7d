#!/usr/bin/env python3
"""Power loss at any call of the life of a store, by the calls that the command really makes: what
was committed is there, what was interrupted is there wholly or not at all, the next add works at
once. power_loss.py says what may be lost.

usage: power_loss_test.py ZIPLLM [--points N] [--seed S] [--jobs N]
"""
import random
import shutil

import crash
import power_loss
from crash import Operation


def life(trees):
    """Operations, one after the other, each of which has something to do."""
    last = len(trees) - 1
    return [Operation("add", "a/base", 0), Operation("add", "tuned", 1),
            Operation("add", "other", last - 3), Operation("replace", "other", last - 2),
            Operation("rm", "tuned"), Operation("gc"), Operation("repack"), Operation("gc"),
            Operation("add", "tuned", 2), Operation("rm", "a/base"), Operation("rebuild"),
            Operation("repack"), Operation("gc")]


class Recorded:
    """The life of a store: its disk, and for each operation the calls that it made and what may be
    found while it runs."""

    def __init__(self, place):
        store = place.store("life").init()
        self.disk = power_loss.Disk(store.path)
        self.spans = []  # (first call, end, operation, outcomes)
        log = place.folder / "log"
        for operation in life(place.trees):
            log.write_bytes(b"")
            outcomes = operation.outcomes(store.expected)
            store.do(operation, log=log)
            begin = len(self.disk.calls)
            self.disk.add(power_loss.read_log(log))
            self.spans.append((begin, len(self.disk.calls), operation, outcomes))
        # Where nothing is lost, the model of the disk must come to what is there.
        files, names = self.disk.after(len(self.disk.calls), random.Random(0), 1)
        for name, number in names.items():
            path = store.path / name
            if number is not None and not name.endswith("-shm") and (
                    not path.exists() or path.read_bytes() != files[number]):
                raise crash.Failure(f"the log of calls does not explain {name}")


def check_state(store, recorded, seed, covered):
    rng = random.Random(seed)
    begin, end, operation, outcomes = rng.choice(recorded.spans)
    when = rng.randint(begin, end)
    keep = rng.choice((0, 0.1, 0.5, 0.9, 1))
    shutil.rmtree(store.path, ignore_errors=True)
    power_loss.write_state(recorded.disk.after(when, rng, keep), store.path, rng)
    try:
        # What was done when the command had ended well is not lost.
        store.check(outcomes if when < end else outcomes[-1:])
        store.do(Operation("add", "next", rng.randrange(len(store.trees))))
        store.check()
        if rng.random() < 0.25:
            store.do(Operation("repack"))
            store.check()
        if rng.random() < 0.25:
            store.check_clean()
            store.check_no_leak()
    except crash.Failure as failure:
        raise crash.Failure(f"{operation}, power lost at its call {when - begin} of {end - begin}, "
                            f"seed {seed}:\n{failure}") from None
    covered.add(operation, recorded.disk.calls[when].kind if when < end else "end")


def run(place, points, seed, jobs):
    recorded = Recorded(place)
    return place.share(
        [f"{seed}.{i}" for i in range(points)], jobs,
        lambda case, job, covered: check_state(place.store("state", job), recorded, case, covered))


if __name__ == "__main__":
    crash.main(__doc__, run, points=60)
