#!/usr/bin/env python3
"""EIO and ENOSPC at any call that changes a store, once or from then on: the operation says so or
does without, what was committed is there, what failed is there wholly or not at all, and once the
disk is well again the same operation works.

usage: fault_test.py ZIPLLM [--points N] [--seed S] [--jobs N]
"""
import errno

import crash


def check_fault(store, case, covered):
    (operation, at), error, all_later = case
    try:
        copy = store.copy(store.path.parent / "copy")
        outcomes = operation.outcomes(copy.expected)
        done = copy.attempt(operation, at=at, how=error, all=all_later)
        if done.hit is None:
            return  # fewer calls than before
        covered.add(operation, done.hit)
        succeeded = operation.succeeded(done)
        if done.code < 0 or not succeeded and not done.err.startswith(b"zipllm: "):
            raise crash.Failure(done.told())
        copy.check(outcomes[-1:] if succeeded else outcomes)
        if copy.expected != outcomes[-1] or operation.kind != "rm":
            copy.do(operation)
        copy.check()
        if at % 5 == 0:
            copy.check_clean()
            copy.check_no_leak()
    except crash.Failure as failure:
        raise crash.Failure(f"{operation}, {errno.errorcode[error]} at call {at}"
                            f"{' and later' if all_later else ''}:\n{failure}") from None


def run(place, points, seed, jobs):
    del seed
    prepared = place.prepared()
    stores = place.copies(prepared, jobs)
    cases = [(call, error, all_later) for call in place.calls(prepared, place.operations())
             for error in (errno.EIO, errno.ENOSPC) for all_later in (False, True)]
    return place.share(crash.spread(cases, points), jobs,
                       lambda case, job, covered: check_fault(stores[job], case, covered))


if __name__ == "__main__":
    crash.main(__doc__, run, points=50)
