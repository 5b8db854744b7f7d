"""What bench/run measures: programs and peers, each of which packs a file and gets it back."""
import contextlib
import filecmp
import functools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time

from peer_worker import peer

BENCH = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.expanduser(os.environ.get("ZIPLLM_PEERS", "~/.cache/zipllm-peers"))
STEPS = ("compress", "decompress")


class Failed(Exception):
    """A tool that gave no result for a file, and why."""


def peers_python():
    """The interpreter that bench/peers/setup made, or None."""
    path = os.path.join(PEERS, "bin", "python")
    return path if os.path.exists(path) else None


def peer_names():
    folder = os.path.join(BENCH, "peers")
    return sorted(name[:-3] for name in os.listdir(folder) if name.endswith(".py"))


@contextlib.contextmanager
def cpus(count):
    """Processes started meanwhile may use `count` CPUs of those that we may use."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(ours)[-count:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


@contextlib.contextmanager
def time_limit(process, seconds):
    """Kills the process when the time is over."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.unlink(path)


class Tool:
    """One way to pack a file on `threads` CPUs. Subclasses do the steps."""

    def __init__(self, name, method="", threads=1):
        self.name, self.method, self.threads = name, method, threads
        self.measured = {step: [] for step in STEPS}
        self.size = None

    def step(self, what, source, target, limit):
        """Does one step; returns {wall, cpu, peak, ...}. Raises Failed."""
        raise NotImplementedError

    def close(self):
        pass

    def run(self, source, folder, limit):
        """Packs and unpacks once, and compares."""
        packed, unpacked = os.path.join(folder, "packed"), os.path.join(folder, "unpacked")
        try:
            for what, i, o in ((STEPS[0], source, packed), (STEPS[1], packed, unpacked)):
                remove(o)
                self.measured[what].append(self.step(what, i, o, limit))
            if not self.same(source, unpacked):
                raise Failed("did not give the file back")
            self.size = self.size_of(packed)
        finally:
            remove(packed)
            remove(unpacked)

    def same(self, source, unpacked):
        return filecmp.cmp(source, unpacked, shallow=False)

    def size_of(self, packed):
        return os.path.getsize(packed)

    def seconds(self):
        return sum(m["wall"] for step in STEPS for m in self.measured[step])

    def result(self):
        """Medians of times, maxima of memory."""
        out = {"tool": self.name, "method": self.method, "threads": self.threads,
               "size": self.size}
        for step in STEPS:
            runs = self.measured[step]
            out[step] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            out[step]["peak"] = max(run["peak"] for run in runs)
            out[step]["runs"] = len(runs)
        return out


class Program(Tool):
    """Command lines with {i} for the input and {o} for the output."""

    def __init__(self, name, method, threads, compress, decompress):
        super().__init__(name, method, threads)
        self.commands = dict(zip(STEPS, (compress, decompress)))

    def step(self, what, source, target, limit):
        words = [word.format(i=source, o=target) for word in self.commands[what]]
        clock = time.perf_counter
        with cpus(self.threads):
            start = clock()
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        with time_limit(process, limit):
            _, status, used = os.wait4(process.pid, 0)
        wall = clock() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode < 0:
            raise Failed(f"more than {limit:.0f} s" if process.returncode == -9
                         else f"signal {-process.returncode}")
        if process.returncode != 0:
            raise Failed(f"exit status {process.returncode}")
        return {"wall": wall, "cpu": used.ru_utime + used.ru_stime,
                "peak": used.ru_maxrss * 1024}


class Peer(Tool):
    """A library, by peer_worker.py; with `base` it codes against that file."""

    def __init__(self, module_name, method, dtype, threads, base=None):
        self.module = peer(module_name)
        super().__init__(self.module.NAME, method, threads)
        with cpus(threads):
            self.process = subprocess.Popen(
                [peers_python(), os.path.join(BENCH, "peer_worker.py"), module_name, method,
                 dtype, str(threads)] + ([base] if base else []),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True)
        try:
            self.version = self.answer(120)["version"]
        except Failed:
            self.close()
            raise

    def answer(self, limit):
        with time_limit(self.process, limit):
            line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise Failed(f"more than {limit:.0f} s" if code == -9 else f"died ({code})")
        value = json.loads(line)
        if "error" in value:
            raise Failed(value["error"].splitlines()[0])
        return value

    def step(self, what, source, target, limit):
        if self.process.poll() is not None:
            raise Failed("died")
        print(what, source, target, sep="\t", file=self.process.stdin, flush=True)
        return self.answer(limit)

    def same(self, source, unpacked):
        if hasattr(self.module, "same"):
            return self.module.same(source, unpacked)
        return super().same(source, unpacked)

    def size_of(self, packed):
        told = self.measured[STEPS[0]][-1].get("size")
        if told is not None:
            return told
        if hasattr(self.module, "size"):
            return self.module.size(packed)
        return super().size_of(packed)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def zipllm(path, level, threads):
    return Program("zipllm", f"-{level}", threads,
                   [path, "compress", "-q", f"-{level}", f"-T{threads}", "{i}", "-o", "{o}"],
                   [path, "decompress", "-q", f"-T{threads}", "{i}", "-o", "{o}"])


def zstd(level):
    one = ["zstd", "-q", "--single-thread", "--no-asyncio"]
    return Program("zstd", f"-{level}", 1, one + [f"-{level}", "{i}", "-o", "{o}"],
                   one + ["-d", "{i}", "-o", "{o}"])


def xz():
    return Program("xz", "-6", 1, ["sh", "-c", "xz -6 -T1 -c '{i}' > '{o}'"],
                   ["sh", "-c", "xz -dc -T1 '{i}' > '{o}'"])


def cp():
    return Program("cp", "", 1, ["cp", "{i}", "{o}"], ["cp", "{i}", "{o}"])


def is_wanted(wanted, name, method):
    return not wanted or name in wanted or f"{name} {method}" in wanted


def peers(dtype, suffix, threads, accept=lambda module, method: True, wanted=None):
    """The peers that take such a file, opened one by one; says which are not there. `wanted`:
    names of tools, or of one method (`glyd max`)."""
    if peers_python() is None:
        warn("peers", "bench/peers/setup was not run")
        return
    for name in peer_names():
        module = peer(name)
        if suffix != getattr(module, "SUFFIX", suffix):
            continue
        for method in module.methods(dtype):
            if not accept(module, method) or not is_wanted(wanted, module.NAME, method):
                continue
            for count in module.THREADS:
                if count in threads:
                    try:
                        yield Peer(name, method, dtype, count)
                    except Failed as why:
                        warn(module.NAME, str(why))


def peers_against(base, dtype, wanted=None):
    """The peers that code a safetensors file against a base, on one thread, opened one by one."""
    if peers_python() is None:
        warn("peers", "bench/peers/setup was not run")
        return
    for name in peer_names():
        module = peer(name)
        for method in getattr(module, "methods_against", lambda _: [])(dtype):
            if is_wanted(wanted, module.NAME, method):
                try:
                    yield Peer(name, method, dtype, 1, base)
                except Failed as why:
                    warn(module.NAME, str(why))


def output(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


@functools.cache
def machine():
    """Where and with what this was measured, for the tables."""
    cpu = platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    root = os.path.dirname(BENCH)
    versions = {"zipllm": output("git", "-C", root, "rev-parse", "--short", "HEAD"),
                "zstd": output("sh", "-c", "zstd --version | grep -o 'v[0-9.]*'"),
                "xz": output("sh", "-c", "xz --version | grep -o '[0-9][0-9.]*' | head -1")}
    python = peers_python()
    for name in peer_names() if python else []:
        module = peer(name)
        if not module.methods("bf16"):  # it takes pairs only
            continue
        code = f"import importlib.metadata as m; print(m.version({module.PACKAGES[0]!r}))"
        versions[module.NAME] = output(python, "-c", code)
    listed = ", ".join(f"{tool} {version}" for tool, version in versions.items() if version)
    return (f"{cpu}, {os.cpu_count()} CPUs, Linux {platform.release().split('-')[0]}, "
            f"{time.strftime('%Y-%m-%d')}; {listed}.")


def warn(name, why):
    print(f"bench: skipped {name}: {why}", file=sys.stderr, flush=True)
