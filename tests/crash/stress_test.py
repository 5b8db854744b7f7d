#!/usr/bin/env python3
"""Eight writers and sixteen readers at one store, while gc and repack run all the time: every byte
is right, nobody hangs, and in the end fsck finds nothing and gc leaves nothing.

The name of a model says which tree it is of, so that whoever reads it knows what must be there:
OWNER/KIND-TREE-NUMBER. Of KIND "keep" are those that stay.

usage: stress_test.py ZIPLLM [--seconds S] [--writers N] [--readers N] [--seed S]
"""
import argparse
import json
import mmap
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback

import crash

KEPT = 3       # models of a writer that stay
PASSING = 3    # that come and go
HANGS = 120    # seconds without a sign of life


class Worker:
    """What a process of the test has at hand."""

    def __init__(self, place, store, mount, job, seed, beats, stop):
        self.command, self.trees = place.command, place.trees
        self.store, self.mount, self.job = store, mount, job
        self.rng = random.Random(f"{seed}.{job}")
        self.beats, self.stop = beats, stop
        self.target = place.folder / f"got{job}"
        self.done = {}

    def beat(self, what, count=1):
        self.beats[self.job] = time.monotonic()
        self.done[what] = self.done.get(what, 0) + count

    def zipllm(self, *arguments):
        return self.command.run("store", *arguments)

    def get(self, name):
        """The Done of `get`; what it made, if it did."""
        done = self.zipllm("get", self.store, name, "-o", self.target)
        if done.code != 0:
            return done, None
        got = crash.described(self.target)
        shutil.rmtree(self.target)
        return done, got

    def check_got(self, name):
        done, got = self.get(name)
        if done.code != 0:
            if is_kept(name) or b"no model" not in done.err:
                raise crash.Failure(done.told())
            self.beat("get: gone")
        elif got != self.trees.contents[tree_of(name)]:
            raise crash.Failure(f"{name} is not what was added")
        else:
            self.beat("get")


def tree_of(name):
    return int(name.split("-")[1])


def is_kept(name):
    return "/keep-" in name


def listed(worker):
    done = worker.command.succeed("store", "ls", worker.store, "--json")
    return {model["name"] for model in json.loads(done.out)["models"]}


def write(worker):
    """Adds and removes models of its own."""
    rng = worker.rng
    mine, number = set(), 0
    while not worker.stop.is_set():
        kept = sum(map(is_kept, mine))
        passing = sorted(name for name in mine if not is_kept(name))
        if passing and (len(passing) >= PASSING or rng.random() < 0.3):
            name = rng.choice(passing)
            done = worker.zipllm("rm", worker.store, name)
            if done.code != 0:
                raise crash.Failure(done.told())
            mine.remove(name)
            worker.beat("rm")
        else:
            kind = "keep" if kept < KEPT and rng.random() < 0.3 else "pass"
            tree = rng.randrange(len(worker.trees))
            number += 1
            name = f"w{worker.job}/{kind}-{tree}-{number}"
            add(worker, name, worker.trees.paths[tree], mine)
        found = {name for name in listed(worker) if name.startswith(f"w{worker.job}/")}
        if found != mine:
            raise crash.Failure(f"models: {sorted(found)}, expected: {sorted(mine)}")
        if mine:
            worker.check_got(rng.choice(sorted(mine)))


def add(worker, name, path, mine):
    """Adds a model; one in ten that is to pass is killed at it."""
    started = worker.command.start(["store", "add", worker.store, name, path])
    if not is_kept(name) and worker.rng.random() < 0.1:
        time.sleep(worker.rng.random() * 0.2)
        started[0].kill()
    done = worker.command.finish(started)
    if done.killed:
        worker.beat("add: killed")
        mine |= listed(worker) & {name}
    elif done.code == 0:
        mine.add(name)
        worker.beat("add")
    else:
        raise crash.Failure(done.told())


def read(worker):
    """Reads any model, by the mount where there is one."""
    while not worker.stop.is_set():
        if worker.mount is None or worker.job % 8 == 0:
            names = sorted(listed(worker))
            if names:
                worker.check_got(worker.rng.choice(names))
        else:
            read_mounted(worker)


def read_mounted(worker):
    owners = sorted(os.listdir(worker.mount))
    if not owners:
        time.sleep(0.05)
        return
    name = None
    try:
        owner = worker.rng.choice(owners)
        name = f"{owner}/{worker.rng.choice(sorted(os.listdir(worker.mount / owner)) or [''])}"
        tree = worker.trees.contents[tree_of(name)]
        path = worker.rng.choice(sorted(x for x in tree if tree[x][0] == "file"))
        expected = tree[path][2]
        with open(worker.mount / name / "main" / path, "rb", buffering=0) as f:
            if os.fstat(f.fileno()).st_size != len(expected):
                raise crash.Failure(f"{name}/{path} has another size")
            for _ in range(4):
                begin = worker.rng.randrange(len(expected))
                size = worker.rng.choice((512, 4096, 65536, len(expected)))
                part = expected[begin:begin + size]
                if worker.rng.random() < 0.5:
                    got = os.pread(f.fileno(), len(part), begin)
                else:
                    with mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                        got = mapped[begin:begin + len(part)]
                if got != part:
                    raise crash.Failure(f"wrong bytes in {name}/{path} at {begin}")
                worker.beat("mounted bytes", len(got))
        worker.beat("mounted")
    except (FileNotFoundError, IndexError, NotADirectoryError) as error:
        if name is not None and is_kept(name):
            raise crash.Failure(f"{name}: {error}") from None
        worker.beat("mounted: gone")


def maintain(worker):
    """gc and repack, all the time."""
    while not worker.stop.is_set():
        for what in (["gc", worker.store, "--grace", "0"], ["repack", worker.store]):
            done = worker.zipllm(*what)
            if done.code != 0:
                raise crash.Failure(done.told())
            worker.beat(what[0])


def main_of_worker(worker, work, failures, results):
    try:
        work(worker)
        results.put(worker.done)
    except Exception:  # whatever it is, the test has failed
        failures.put(traceback.format_exc())


class Mounted:
    """`zipllm mount` of a store; path is None where that cannot be."""

    def __init__(self, command, store, path):
        self.path, self.process = None, None
        if not os.access("/dev/fuse", os.W_OK) or command.run("mount", "--help").code != 0:
            print("no mount here: readers get")
            return
        path.mkdir()
        self.process = subprocess.Popen([command.zipllm, "mount", store, path, "--foreground"])
        deadline = time.monotonic() + 20
        while not os.path.ismount(path):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise crash.Failure("mount: it does not come up")
            time.sleep(0.05)
        self.path = path

    def close(self):
        """Unmounts on a signal; exit code 0."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(HANGS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise crash.Failure("mount: it does not end") from None
        if code != 0:
            raise crash.Failure(f"mount: exit code {code}")

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            subprocess.run(["umount", "-l", self.path], check=False)


def watch(processes, beats, failures, seconds):
    """Until the time is over; the failure of one, or who hangs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not failures.empty():
            raise crash.Failure(failures.get())
        check_alive(processes, beats)
        time.sleep(0.2)


def check_alive(processes, beats):
    for job, process in enumerate(processes):
        if process.is_alive() and time.monotonic() - beats[job] > HANGS:
            raise crash.Failure(f"process {job} hangs")


def run(place, seconds, writers, readers, seed):
    """What was done how often."""
    store = place.store("store").init()
    mounted = Mounted(place.command, store.path, place.folder / "mounted")
    context = multiprocessing.get_context("fork")
    jobs = [write] * writers + [read] * readers + [maintain]
    beats = context.Array("d", [time.monotonic()] * len(jobs), lock=False)
    stop, failures, results = context.Event(), context.Queue(), context.Queue()
    processes = [context.Process(target=main_of_worker, args=(
        Worker(place, store.path, mounted.path, job, seed, beats, stop), work, failures, results))
        for job, work in enumerate(jobs)]
    try:
        for process in processes:
            process.start()
        watch(processes, beats, failures, seconds)
        stop.set()
        total = {}
        for _ in jobs:
            while results.empty():
                watch(processes, beats, failures, 0.2)
            for what, count in results.get().items():
                total[what] = total.get(what, 0) + count
        for process in processes:
            process.join(HANGS)
        mounted.close()
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
        mounted.kill()
    store.check_clean()
    for name in store.listed():
        store.expected[name] = tree_of(name)
    store.check()
    store.check_no_leak()
    return total


def main(description=__doc__, seconds=60, zipllm=None):
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    if zipllm is None:
        parser.add_argument("zipllm")
    else:
        parser.add_argument("--zipllm", default=zipllm)
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--readers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        with crash.Workplace(options.zipllm) as place:
            total = run(place, options.seconds, options.writers, options.readers, options.seed)
    except crash.Failure as failure:
        sys.exit(f"FAILED: {failure}")
    for what, count in sorted(total.items()):
        print(f"{count:>12,} {what}")


if __name__ == "__main__":
    main()
