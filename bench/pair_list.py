"""The pairs that bench/pairs measures: what is coded against what, and what it must come to."""
import importlib.util
import os
import subprocess
import sys
from typing import NamedTuple

import files
import safetensors_io

DATA = os.path.join(os.path.dirname(files.ROOT), "shared", "data")
FAMILY = os.path.join(DATA, "family")
CHECKPOINTS = os.path.join(DATA, "checkpoints")
CACHE = os.path.join(os.path.expanduser(os.environ.get("ZIPLLM_DATA", "~/.cache/zipllm-data")),
                     "pairs")


class Goal(NamedTuple):
    """At most `limit` bits a weight, or times what the best peer or the named one needs."""
    limit: float
    of: str = ""  # "best" or a peer's name


class Part(NamedTuple):
    """One file, and the files that a peer may take for its base: the best counts."""
    target: str
    bases: list


class Pair(NamedTuple):
    name: str
    parts: list
    inputs: list  # what zipllm compresses, against `bases`
    bases: list
    goals: dict  # by level
    together: str = ""  # "chain", "folder": with their base, which does not count
    tools: tuple = ()  # these alone, and measured for speed


def family(name):
    return os.path.join(FAMILY, name + ".safetensors")


def changed(target, base):
    """A file of the tensors of `target` that `base` has with other values; made once."""
    made = os.path.join(CACHE, "changed." + os.path.basename(target))
    if os.path.basename(base).split(".")[1] != os.path.basename(target).split(".")[1]:
        made = made.replace("changed.", "changed." + os.path.basename(base).split(".")[1] + ".")
    old = safetensors_io.read(base)
    tensors = {name: tensor for name, tensor in safetensors_io.read(target).items()
               if name in old and safetensors_io.cast(old[name], tensor.dtype) != tensor}
    return store(made, tensors)


def like(target, base):
    """`base` as the peers need it: the tensors of `target` that it has, in this order and type.
    The file itself where it is so already."""
    new, old = safetensors_io.read(target), safetensors_io.read(base)
    tensors = {name: safetensors_io.cast(old[name], tensor.dtype)
               for name, tensor in new.items() if name in old}
    if tensors == old:
        return base
    name = f"base-of.{os.path.basename(target)}.{os.path.basename(base)}"
    return store(os.path.join(CACHE, name), tensors)


def store(path, tensors):
    os.makedirs(CACHE, exist_ok=True)
    safetensors_io.write(path + ".tmp", tensors)
    os.replace(path + ".tmp", path)
    return path


def made(script, *words):
    """Runs a script of bench/ that needs numpy."""
    python = sys.executable if importlib.util.find_spec("numpy") else "/usr/bin/python3"
    os.makedirs(CACHE, exist_ok=True)
    done = subprocess.run([python, os.path.join(files.BENCH, script), *words], check=False)
    if done.returncode != 0:
        raise files.Missing(f"bench/{script} failed (it needs numpy)")


def one(name, target, base, goals, more=()):
    """A file against one base; `more` bases are zipllm's alone."""
    return Pair(name, [Part(target, [like(target, base)])], [target], [base, *more], goals)


def best(default, nine=None):
    goals = {"-3": [Goal(default, "best")]}
    if nine is not None:
        goals["-9"] = [Goal(nine, "best")]
    return goals


def absolute(default, nine=None):
    goals = {"-3": [Goal(default)]}
    if nine is not None:
        goals["-9"] = [Goal(nine)]
    return goals


def fine_tunes():
    base = family("base.bf16")
    yield "ft-a", lambda n: one(n, family("ft-a.bf16"), base, best(0.70, 0.67))
    yield "ft-a FP32", lambda n: one(n, family("ft-a.fp32"), family("base.fp32"),
                                     {"-3": [Goal(0.89, "lmz")], "-9": [Goal(0.885, "lmz")]})
    yield "frozen embeddings", lambda n: one(n, family("ft-frozen-emb.bf16"), base, best(0.72))
    yield "BF16 master", lambda n: one(n, family("ft-d-purebf16.bf16"), base, best(0.72, 0.68))
    yield "masked LM", lambda n: one(n, family("ft-b-step200.bf16"), base, best(0.72, 0.68))


def low_rank():
    def pair(name, target, base, goals, more=()):
        return one(name, changed(family(target), family(base)), family(base), goals, more)

    adapter = [family("ft-lora8.adapter")]
    yield "LoRA BF16 on FP32 base", lambda n: pair(n, "ft-lora8.bf16", "base.fp32", absolute(1.15))
    yield "LoRA BF16 on BF16 base", lambda n: pair(n, "ft-lora8.bf16", "base.bf16",
                                                 absolute(1.65, 1.5))
    yield "LoRA FP32", lambda n: pair(n, "ft-lora8.fp32", "base.fp32", absolute(2.6, 2.4))
    yield "LoRA BF16 + adapter", lambda n: pair(n, "ft-lora8.bf16", "base.fp32",
                                                     absolute(0.05), adapter)
    yield "LoRA FP32 + adapter", lambda n: pair(n, "ft-lora8.fp32", "base.fp32",
                                                     absolute(0.05), adapter)


def checkpoints():
    goals = {"-3": [Goal(0.95, "best"), Goal(0.92, "lmz")], "-9": [Goal(0.93, "best")]}
    for before, step in ((900, 1000), (1000, 1100), (1100, 1110)):
        new, old = (os.path.join(CHECKPOINTS, f"checkpoint-{n}") for n in (step, before))
        parts = [Part(os.path.join(new, f), [os.path.join(old, f)])
                 for f in ("model.safetensors", "optimizer.safetensors")]
        yield (f"checkpoint {step} to {before}",
               lambda n, p=parts, i=new, b=old: Pair(n, p, [i], [b], goals))


def merges():
    def pair(name, method, *parents):
        target = os.path.join(CACHE, ".".join((method.replace(":", "-"), *parents, "safetensors")))
        parents = [family(parent + ".bf16") for parent in parents]
        made("make_merges.py", method, target, *parents)
        return Pair(name, [Part(target, parents)], [target], parents, absolute(0.7))

    yield "soup of a and b", lambda n: pair(n, "soup", "ft-a", "ft-b-step200")
    yield "soup of a b and frozen", lambda n: pair(n, "soup", "ft-a", "ft-b-step200",
                                                 "ft-frozen-emb")
    yield "SLERP of a and frozen", lambda n: pair(n, "slerp:0.3", "ft-a", "ft-frozen-emb")
    yield "base + 0.8 (b - base)", lambda n: pair(n, "task:0.8", "base", "ft-b-step200")


FINE_TUNES = ("ft-a", "ft-b-step200", "ft-d-purebf16", "ft-frozen-emb", "ft-lora8")


def together():
    """The base and its fine-tunes; peers may take the one before or the base for each."""
    listed = [family(name + ".bf16") for name in ("base", *FINE_TUNES)]
    parts = [Part(listed[i], sorted({listed[i - 1], listed[0]})) for i in range(1, len(listed))]
    for how in ("chain", "folder"):
        yield (f"five fine-tunes as {how}",
               lambda n, how=how: Pair(n, parts, listed, [], best(0.75), how))


def large():
    """For speed: MiniLM and a fine-tune made of it, in which 60 % of the weights stay equal."""
    def make(name):
        base = files.fetched("minilm-bf16")(None)
        target = os.path.join(CACHE, "minilm-finetune.safetensors")
        if not os.path.exists(target):
            made("make_finetune.py", base, target + ".tmp")
            os.rename(target + ".tmp", target)
        return one(name, target, base, {})._replace(
            tools=("zipllm", "BitX -3", "lmz", "z4ai", "ZipNN", "glyd with base"))
    yield "MiniLM moved", make


def distractors():
    """Models that are no help for the large pair, but look like it or like others."""
    folders = [FAMILY, os.path.join(DATA, "ladder")]
    folders += [os.path.join(CHECKPOINTS, name) for name in sorted(os.listdir(CHECKPOINTS))]
    return [os.path.join(folder, name) for folder in folders for name in sorted(os.listdir(folder))
            if name.endswith((".safetensors", ".gguf"))]


def pairs():
    """(name, function that makes it) of all."""
    yield from fine_tunes()
    yield from low_rank()
    yield from checkpoints()
    yield from merges()
    yield from together()
    yield from large()
