#!/usr/bin/env python3
"""A store on a small tmpfs with less and less room left: what does not fit is refused and leaves
nothing behind, models can be read even where nothing is free, and room can be made by rm and gc.

usage: disk_full_test.py ZIPLLM [--points N] [--seed S] [--jobs N]
"""
import subprocess

import crash
from crash import Operation

KIB = 1024
SIZE = 8 << 20
MARGIN = 256 * KIB  # for leases, and the journal of the catalogue


class SmallDisk:
    """A tmpfs with a file that takes what room there is."""

    def __init__(self, path):
        self.path = path
        self.ballast = path / "ballast"
        path.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", path],
                              capture_output=True, check=False)
        if done.returncode:
            crash.skip("mount is not permitted")

    def close(self):
        subprocess.run(["umount", self.path], check=True)

    def leave(self, room):
        """All but `room` bytes are taken."""
        with open(self.ballast, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(4 * KIB))
            except OSError:
                pass
            f.truncate(max(0, f.tell() - room))


def check_full(store, disk, room, covered):
    operation = Operation("add", "new", 2)
    try:
        disk.leave(room)
        done = store.attempt(operation)
        outcomes = operation.outcomes(store.expected)
        if done.code == 0:
            store.expected = outcomes[-1]
        elif done.code != 1 or b"No space left" not in done.err:
            raise crash.Failure(done.told())
        else:
            covered.add(operation, "end")
        store.check(outcomes if done.code else outcomes[-1:])
        disk.leave(0)
        store.check()
        # Room is made by taking away what is there. That needs a little.
        disk.leave(MARGIN)
        store.do(Operation("rm", "other"))
        store.do(Operation("gc"))
        store.check()
        disk.ballast.unlink()
        store.do(operation)
        store.check()
        store.check_clean()
        store.check_no_leak()
    except crash.Failure as failure:
        raise crash.Failure(f"{room} bytes of room:\n{failure}") from None


def run(place, points, seed, jobs):
    del seed, jobs
    prepared = place.prepared()
    covered = crash.Covered()
    disk = SmallDisk(place.folder / "disk")
    try:
        for point in range(points):
            store = prepared.copy(disk.path / "store")
            check_full(store, disk, point * 4 * KIB, covered)
            disk.ballast.unlink(missing_ok=True)
    finally:
        disk.close()
    return covered


if __name__ == "__main__":
    crash.main(__doc__, run, points=8)
