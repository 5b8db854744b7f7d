#!/usr/bin/env python3
"""kill -9 at any call that changes a store: what was committed is there, what was interrupted is
there wholly or not at all, the next operation works at once, gc removes the rest.

Half of the points are spread over all calls of each operation on one store; the others come up in
stores that live on through one kill after another.

usage: kill_test.py ZIPLLM [--points N] [--seed S] [--jobs N]
"""
import random
import shutil

import crash
from crash import Operation

KILLS_OF_A_CHAIN = 25


def check_kill(store, case):
    """One operation on a copy of `store`, killed at a call; the Done."""
    operation, at, how, thorough = case
    try:
        copy = store.copy(store.path.parent / "copy")
        done = copy.attempt(operation, at=at, how=how)
        if not done.killed:
            return done
        copy.check(operation.outcomes(copy.expected))
        if thorough:
            copy.check_clean()
        copy.do(Operation("add", "next", 2))
        copy.check()
        if thorough:
            copy.check_no_leak()
        return done
    except crash.Failure as failure:
        raise crash.Failure(f"{operation}, {how} at call {at}:\n{failure}") from None


def random_operation(rng, state, trees):
    kind = rng.choices(["add", "replace", "rm", "gc", "repack", "rebuild", "fsck"],
                       [40, 10, 15, 15, 12, 3, 5])[0]
    names = sorted(state)
    free = [name for name in (f"m{i}" for i in range(6)) if name not in state]
    if kind in ("replace", "rm") and not names:
        kind = "add"
    if kind == "add" and not free:
        kind = "rm"
    if kind == "add":
        return Operation("add", rng.choice(free), rng.randrange(len(trees)))
    if kind == "replace":
        return Operation("replace", rng.choice(names), rng.randrange(len(trees)))
    if kind == "rm":
        return Operation("rm", rng.choice(names))
    return Operation(kind)


def check_chain(store, kills, rng, covered):
    """One store through many kills."""
    store.init()
    calls = {}  # of operations that were not killed
    history = []
    try:
        while kills:
            operation = random_operation(rng, store.expected, store.trees)
            at = rng.randrange(0, calls.get(operation.kind, 60) + 2)
            how = rng.choice(["kill", "torn"])
            history.append(f"{operation}, {how} at {at}")
            done = store.attempt(operation, at=at, how=how)
            outcomes = operation.outcomes(store.expected)
            if done.killed:
                covered.add(operation, done.hit)
                kills -= 1
                store.check(outcomes)
                if store.expected != outcomes[-1] and rng.random() < 0.5:
                    history.append(str(operation))
                    store.do(operation)
                    store.check()
            elif not operation.succeeded(done):
                raise crash.Failure(done.told())
            else:
                calls[operation.kind] = done.calls
                store.expected = outcomes[-1]
        store.check()
        store.check_clean()
        store.check_no_leak()
    except crash.Failure as failure:
        raise crash.Failure("\n".join(history) + f"\n{failure}") from None
    shutil.rmtree(store.path)


def run(place, points, seed, jobs):
    prepared = place.prepared()
    stores = place.copies(prepared, jobs)
    calls = place.calls(prepared, place.operations())
    chosen = crash.spread([(*call, how) for call in calls for how in ("kill", "torn")], points // 2)
    cases = [(*case, i % 10 < 2) for i, case in enumerate(chosen)]
    left = points - len(cases)
    cases += [(f"{seed}.{begin}", min(KILLS_OF_A_CHAIN, left - begin))
              for begin in range(0, left, KILLS_OF_A_CHAIN)]

    def check(case, job, covered):
        if len(case) == 2:
            check_chain(place.store("chain", job), case[1], random.Random(case[0]), covered)
            return
        done = check_kill(stores[job], case)
        if done.killed:
            covered.add(case[0], done.hit)

    return place.share(cases, jobs, check)


if __name__ == "__main__":
    crash.main(__doc__, run, points=300)
