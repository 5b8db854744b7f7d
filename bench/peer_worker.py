"""Runs one peer for bench/run in a process of its own, so that neither the interpreter's start
nor an import counts.

usage: peer_worker.py PEER METHOD DTYPE THREADS [BASE]

With a base it codes against that file.
A line "compress|decompress, input, output" (tabs between) is answered by a line of JSON:
seconds of wall and of CPU, file to file; the greatest memory above what the process held before,
in bytes; what it packed to, if it says so itself; for a peer that works on bytes also the seconds of its work alone and those of memcpy.
The first line says which version was loaded, or the error.
"""
import importlib.metadata
import importlib.util
import json
import os
import resource
import sys
import time


def peer(name):
    """The module bench/peers/NAME.py, under another name than the library it loads."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers", name + ".py")
    spec = importlib.util.spec_from_file_location("bench_peer_" + name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def memory(field):
    with open("/proc/self/status", encoding="ascii") as f:
        for line in f:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0


def cpu_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def memcpy_seconds(data):
    copy = bytearray(len(data))
    copy[:] = data  # the pages are there from now on
    start = time.perf_counter()
    copy[:] = data
    return time.perf_counter() - start


def step(function, on_files, source, target):
    """One step, file to file, measured."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as f:
        f.write("5")  # VmHWM starts anew
    if hasattr(function, "prepare"):
        function.prepare(source, target)
    before = memory("VmRSS")
    answer, data = {}, b""
    cpu, start = cpu_seconds(), time.perf_counter()
    if on_files:
        size = function(source, target)
        if isinstance(size, int):
            answer["size"] = size
    else:
        with open(source, "rb") as f:
            data = f.read()
        begin = time.perf_counter()
        result = function(data)
        answer["in_memory"] = time.perf_counter() - begin
        with open(target, "wb") as f:
            f.write(result)
    answer["wall"] = time.perf_counter() - start
    answer["cpu"] = cpu_seconds() - cpu
    answer["peak"] = memory("VmHWM") - before
    if data:
        larger = result if len(result) > len(data) else data
        answer["memcpy"] = memcpy_seconds(larger)
    return answer


def main(name, method, dtype, threads, base=None):
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the peer prints is not an answer

    def answer(value):
        print(json.dumps(value), file=answers, flush=True)

    module = peer(name)
    try:
        compress, decompress = (
            module.load(method, dtype, int(threads)) if base is None
            else module.load_against(method, dtype, int(threads), base))
        answer({"version": importlib.metadata.version(module.PACKAGES[0])})
    except Exception as error:  # whatever a library raises
        answer({"error": f"{type(error).__name__}: {error}"})
        return
    functions = {"compress": compress, "decompress": decompress}
    for line in sys.stdin:
        what, source, target = line.rstrip("\n").split("\t")
        try:
            answer(step(functions[what], getattr(module, "FILES", False), source, target))
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main(*sys.argv[1:])
