"""What the crash tests have in common: models, stores, the command under the shim of crash.c, and
what must hold of a store whatever happened to it.
"""
import argparse
import concurrent.futures
import itertools
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
MAKE_MODEL = HERE.parent / "cli" / "make_model.py"
# As in crash.c.
KINDS = ["create", "write", "truncate", "sync", "syncdir", "syncfs", "link", "rename", "unlink",
         "mkdir", "rmdir", "read", "other"]
STATE = struct.Struct(f"<II{len(KINDS)}I")
TIMEOUT = 120  # of one command, in seconds: only what hangs takes as long
SKIPPED = 77   # exit code of a test
MENDED = 4     # of fsck


class Failure(Exception):
    """What must hold does not."""


def skip(why):
    print("skipped:", why)
    sys.exit(SKIPPED)


def scratch():
    """A new folder, in memory where there is one: a program that is killed loses no page cache."""
    memory = pathlib.Path("/dev/shm")
    there = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**31
    return tempfile.mkdtemp(prefix="zipllm-crash.", dir=memory if there else None)


def build_shim(folder, zipllm):
    """Compiles crash.c; skips where that cannot be, or cannot be preloaded (sanitizers)."""
    if shutil.which("cc") is None:
        skip("no cc")
    shim = pathlib.Path(folder) / "crash.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", shim, HERE / "crash.c", "-ldl"],
                   check=True)
    done = subprocess.run([zipllm, "--version"], env={**os.environ, "LD_PRELOAD": str(shim)},
                          capture_output=True, check=False)
    if done.returncode or done.stderr:
        skip("no LD_PRELOAD here (sanitizers?)")
    return shim


def facts(path):
    """(kind, mode, contents or target)"""
    status = path.lstat()
    if path.is_symlink():
        return "symlink", os.readlink(path)
    if path.is_dir():
        return "directory", status.st_mode
    return "file", status.st_mode, path.read_bytes()


def described(root):
    """path -> facts of all that is below a folder; of a file: as if it were alone in one."""
    root = pathlib.Path(root)
    if not root.is_dir():
        return {root.name: facts(root)}
    return {str(path.relative_to(root)): facts(path) for path in root.rglob("*")}


class Trees:
    """Models to add: `families` of a base and its fine-tunes, in folders; the last of each family
    is a file alone."""

    def __init__(self, folder, families=2, tunes=3, weights=8192):
        self.paths = []
        folder = pathlib.Path(folder)
        for family, tune in itertools.product(range(families), range(tunes + 1)):
            path = folder / f"tree{family}{tune}"
            path.mkdir(parents=True)
            weights_file = path / "model.safetensors"
            if tune == 0:
                base = weights_file
                self._make(weights_file, str(weights), str(family + 1))
            else:
                self._make("--tuned", weights_file, base, str(tune))
            if tune == tunes:
                path = weights_file
            else:
                (path / "config.json").write_text(json.dumps({"family": family, "tune": tune}))
                (path / "sub").mkdir()
                (path / "sub" / "notes.txt").write_text(f"of family {family}\n" * 40)
                (path / "link").symlink_to("config.json")
            self.paths.append(path)
        self.contents = [described(path) for path in self.paths]

    @staticmethod
    def _make(*arguments):
        subprocess.run([sys.executable, MAKE_MODEL, *arguments], check=True)

    def __len__(self):
        return len(self.paths)


class Done:
    """A command that has ended, and what the shim saw of it."""

    def __init__(self, arguments, code, out, err, calls=0, hit=None, of_kind=None):
        self.arguments, self.code, self.out, self.err = arguments, code, out, err
        self.calls, self.hit, self.of_kind = calls, hit, of_kind

    @property
    def killed(self):
        return self.code == -signal.SIGKILL

    def told(self):
        return (f"zipllm {' '.join(self.arguments)}: exit code {self.code}\n"
                f"{self.out.decode(errors='replace')}{self.err.decode(errors='replace')}")


class Command:
    """`zipllm`, under the shim where that is asked for."""

    def __init__(self, zipllm, shim=None):
        self.zipllm, self.shim = str(zipllm), shim

    def start(self, arguments, root=None, at=0, how="kill", all=False, reads=False, log=None):
        """Popen and the file of the shim's state. `root`: the folder that is watched."""
        env = dict(os.environ)
        state = None
        if root is not None:
            state = tempfile.NamedTemporaryFile(prefix="state.", dir=os.path.dirname(self.shim))
            state.write(bytes(STATE.size))
            state.flush()
            env.update(LD_PRELOAD=str(self.shim), CRASH_ROOT=str(root), CRASH_STATE=state.name,
                       CRASH_AT=str(at), CRASH_HOW=str(how))
            if all:
                env["CRASH_ALL"] = "1"
            if reads:
                env["CRASH_READS"] = "1"
            if log is not None:
                env["CRASH_LOG"] = str(log)
        arguments = [str(a) for a in arguments]
        process = subprocess.Popen([self.zipllm, *arguments], env=env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return process, arguments, state

    def finish(self, started):
        process, arguments, state = started
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise Failure(f"hangs: {Done(arguments, 'none', out, err).told()}") from None
        if state is None:
            return Done(arguments, process.returncode, out, err)
        with state:
            state.seek(0)
            calls, hit, *of_kind = STATE.unpack(state.read(STATE.size))
        return Done(arguments, process.returncode, out, err, calls, KINDS[hit - 1] if hit else None,
                    dict(zip(KINDS, of_kind)))

    def run(self, *arguments, **crash):
        return self.finish(self.start(arguments, **crash))

    def succeed(self, *arguments, **crash):
        done = self.run(*arguments, **crash)
        if done.code != 0:
            raise Failure(done.told())
        return done


class Operation:
    """What is done to a store. A state is a dictionary from the name of a model to the number of
    its tree."""

    def __init__(self, kind, name=None, tree=None):
        self.kind, self.name, self.tree = kind, name, tree

    @property
    def reads(self):
        """It changes nothing but leases: its reads are what is of interest."""
        return self.kind in ("fsck", "get")

    def succeeded(self, done):
        return done.code in {"rebuild": (MENDED,), "fsck": (0, MENDED)}.get(self.kind, (0,))

    def __str__(self):
        return " ".join(str(x) for x in (self.kind, self.name, self.tree) if x is not None)

    def arguments(self, store, trees, target):
        return {
            "add": lambda: ["add", store, self.name, trees.paths[self.tree]],
            "replace": lambda: ["add", "--replace", store, self.name, trees.paths[self.tree]],
            "rm": lambda: ["rm", store, self.name],
            "condemn": lambda: ["gc", store],
            "gc": lambda: ["gc", store, "--grace", "0"],
            "repack": lambda: ["repack", store],
            "rebuild": lambda: ["fsck", store, "--rebuild"],
            "fsck": lambda: ["fsck", store],
            "get": lambda: ["get", store, self.name, "-o", target],
        }[self.kind]()

    def outcomes(self, state):
        """States that may be found after this was interrupted, the last that after it succeeded.
        """
        if self.kind in ("add", "replace"):
            return [state, {**state, self.name: self.tree}]
        if self.kind == "rm":
            return [state, {name: tree for name, tree in state.items() if name != self.name}]
        return [state]


OPERATIONS = ["add", "replace", "rm", "condemn", "gc", "repack", "rebuild", "fsck", "get"]


class Store:
    """A store, with what is expected of it kept outside of it."""

    def __init__(self, command, trees, path, targets):
        self.command, self.trees = command, trees
        self.path, self.targets = pathlib.Path(path), pathlib.Path(targets)
        self.targets.mkdir(parents=True, exist_ok=True)
        self.expected = {}

    def init(self):
        self.command.succeed("store", "init", self.path)
        return self

    def copy(self, path):
        """The store as it is, elsewhere."""
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.path, path, symlinks=True)
        other = Store(self.command, self.trees, path, self.targets)
        other.expected = dict(self.expected)
        return other

    def start(self, operation, **crash):
        if crash:
            crash["root"] = self.path
        return self.command.start(
            ["store", *operation.arguments(self.path, self.trees, self.targets / "got")],
            **crash)

    def attempt(self, operation, **crash):
        """Done, whatever its exit code; `expected` stays as it was."""
        return self.command.finish(self.start(operation, **crash))

    def do(self, operation, **crash):
        done = self.attempt(operation, **crash)
        if not operation.succeeded(done):
            raise Failure(done.told())
        self.expected = operation.outcomes(self.expected)[-1]
        return done

    def listed(self):
        out = self.command.succeed("store", "ls", self.path, "--json").out
        return {self._name(model) for model in json.loads(out)["models"]}

    @staticmethod
    def _name(model):
        return model["name"]

    def get(self, name):
        self.do(Operation("get", name))
        return self.got()

    def got(self):
        """What a "get" has made; takes it away."""
        target = self.targets / "got"
        got = described(target)
        shutil.rmtree(target)
        return got

    def check(self, outcomes=None):
        """All that is committed is there and nothing else, byte by byte: one of `outcomes`, by
        default `expected`. It is expected from now on."""
        if outcomes is None:
            outcomes = [self.expected]
        names = self.listed()
        left = [state for state in outcomes if state.keys() == names]
        if not left:
            raise Failure(f"models: {sorted(names)}, expected: "
                          f"{' or '.join(str(sorted(state)) for state in outcomes)}")
        for name in sorted(names):
            got = self.get(name)
            left = [state for state in left if got == self.trees.contents[state[name]]]
            if not left:
                raise Failure(f"{name} is not what was added")
        self.expected = left[-1]

    def check_clean(self):
        """fsck finds nothing; it may tidy up after those that are gone."""
        done = self.command.run("store", "fsck", self.path, "--json")
        found = json.loads(done.out) if done.code in (0, MENDED) else {}
        if not found.get("ok") or found["problems"] or found["bad_objects"]:
            raise Failure(done.told())

    def check_no_leak(self):
        """Without models, gc leaves nothing."""
        for name in list(self.expected):
            self.do(Operation("rm", name))
        # Temporary files are removed when they are old.
        for path in self.path.rglob(".*.tmp"):
            os.utime(path, (0, 0))
        self.do(Operation("gc"))
        # Leases that one process at a time may have keep their key.
        left = {str(path.relative_to(self.path)) for path in self.path.rglob("*")
                if not path.is_dir() and not path.name.startswith("exclusive-")}
        left -= {"zipllm-store", ".lock", *(f"catalogue.sqlite{x}" for x in ("", "-wal", "-shm", ".lock"))}
        if left:
            raise Failure(f"left after gc: {sorted(left)}")


class Covered:
    """How often each kind of call was hit in each operation."""

    def __init__(self):
        self.table = {}  # (kind of operation, kind of call) -> how often

    def add(self, operation, hit):
        key = operation.kind, hit
        self.table[key] = self.table.get(key, 0) + 1

    def update(self, other):
        for key, count in other.table.items():
            self.table[key] = self.table.get(key, 0) + count

    def total(self):
        return sum(self.table.values())

    def markdown(self):
        kinds = [kind for kind in [*KINDS, "end"] if any(hit == kind for _, hit in self.table)]
        lines = ["| operation | " + " | ".join(kinds) + " | all |",
                 "| --- |" + " ---: |" * (len(kinds) + 1)]
        for name in OPERATIONS:
            row = [self.table.get((name, kind), 0) for kind in kinds]
            if sum(row):
                lines.append(f"| {name} | " + " | ".join(map(str, row)) + f" | {sum(row)} |")
        return "\n".join(lines)


class Workplace:
    """Models, a command under the shim, and a folder for stores; gone in the end."""

    def __init__(self, zipllm):
        self.zipllm = os.path.abspath(zipllm)

    def __enter__(self):
        self.folder = pathlib.Path(scratch())
        try:
            self.command = Command(self.zipllm, build_shim(self.folder, self.zipllm))
            self.trees = Trees(self.folder / "trees")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def copies(self, store, jobs):
        """One for each job."""
        copies = []
        for job in range(jobs):
            copies.append(store.copy(self.store(f"{store.path.name}{job}", job).path))
            copies[-1].targets = self.store("", job).targets
        return copies

    def store(self, name, job=0):
        folder = self.folder / f"job{job}"
        return Store(self.command, self.trees, folder / name, folder / "targets")

    def prepared(self):
        """A store with models that are coded against each other, packs that nothing needs, and one
        of which a part is dead."""
        store = self.store("prepared").init()
        last = len(self.trees) - 1
        for name, tree in (("a/base", 0), ("tuned", 1), ("other", last - 3), ("gone", 2),
                           ("file", last)):
            store.do(Operation("add", name, tree))
        store.do(Operation("rm", "gone"))
        store.do(Operation("replace", "other", last - 1))
        store.check()
        return store

    def condemned(self):
        """A store with a pack that is condemned, whose objects have come back deeper in another."""
        store = self.store("condemned").init()
        for operation in (Operation("add", "first", 0), Operation("rm", "first"),
                          Operation("condemn"), Operation("add", "tuned", 1),
                          Operation("add", "a/base", 0)):
            store.do(operation)
        store.check()
        return store

    def operations(self):
        """Each kind, with something to do on the prepared store."""
        return [Operation("add", "new", 2), Operation("add", "copy", 1),
                Operation("replace", "tuned", len(self.trees) - 2), Operation("rm", "a/base"),
                Operation("gc"), Operation("repack"), Operation("rebuild")]

    def calls(self, store, operations):
        """Pairs of an operation and the number of a call that it makes: all."""
        points = []
        for operation in operations:
            copy = store.copy(self.folder / "count")
            done = copy.do(operation, at=0, reads=operation.reads)
            if operation.kind == "get":
                copy.got()
            points += [(operation, at) for at in range(1, done.calls + 1)]
        return points

    def share(self, cases, jobs, check):
        """Calls check(case, job, covered) for all cases, in `jobs` threads; the sum of what was
        covered."""
        def work(job):
            covered = Covered()
            for case in cases[job::jobs]:
                if failed:
                    break
                try:
                    check(case, job, covered)
                except BaseException:
                    failed.append(case)
                    raise
            return covered

        failed = []
        total = Covered()
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for part in [pool.submit(work, job) for job in range(jobs)]:
                total.update(part.result())
        return total


def spread(points, most):
    """About `most` of them, evenly."""
    stride = max(1, len(points) / max(1, most))
    return [points[int(i * stride)] for i in range(int(len(points) / stride))]


def main(description, run, points):
    """The command line of a test: run(workplace, points, seed, jobs) gives what was covered."""
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zipllm")
    parser.add_argument("--points", type=int, default=points)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    try:
        with Workplace(options.zipllm) as place:
            covered = run(place, options.points, options.seed, options.jobs)
    except Failure as failure:
        sys.exit(f"FAILED: {failure}")
    print(covered.markdown())
    print(f"{covered.total()} points")
    if covered.total() < options.points * 9 // 10:
        sys.exit("FAILED: too few points were reached")
