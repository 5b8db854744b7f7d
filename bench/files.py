"""The files that bench/run measures: name, element type, and where they come from."""
import importlib.util
import os
import subprocess
import sys

BENCH = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(BENCH)
LADDER = os.path.join(os.path.dirname(ROOT), "shared", "data", "ladder")


class Missing(Exception):
    """A file that cannot be had here, and why."""


class File:
    """`dtype` is what most of its bytes are: bf16, fp16, fp32, fp8, or quant (ggml blocks)."""

    def __init__(self, name, dtype, path):
        self.name, self.dtype, self._path = name, dtype, path

    def path(self, python):
        """Where it lies, after fetching or making it. `python`: one that may have numpy."""
        return self._path(python)


def fetched(model):
    def path(_python):
        done = subprocess.run([os.path.join(ROOT, "tools", "fetch-model"), model],
                              stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise Missing(f"tools/fetch-model {model} failed")
        return done.stdout.strip()
    return path


def fp8(python):
    """MiniLM cast with a scale a tensor, as models made for inference are."""
    source = fetched("minilm-fp32")(python)
    target = os.path.join(os.path.dirname(source), "model.fp8-e4m3.safetensors")
    if not os.path.exists(target):
        python = sys.executable if importlib.util.find_spec("numpy") else python
        made = subprocess.run([python or sys.executable, os.path.join(BENCH, "make_fp8.py"),
                               "--scale", source, target + ".tmp"], check=False)
        if made.returncode != 0:
            raise Missing("bench/make_fp8.py failed (it needs numpy)")
        os.rename(target + ".tmp", target)
    return target


def in_place(path):
    def found(_python):
        if not os.path.exists(path):
            raise Missing(f"{path} is not there")
        return path
    return found


def ladder():
    """The quants of one small model, beside the repository (see shared/data)."""
    names = sorted(os.listdir(LADDER)) if os.path.isdir(LADDER) else []
    for name in names:
        kind = name.removeprefix("mpnet-part.").removesuffix(".gguf")
        yield File(f"ladder {kind}", "bf16" if kind == "BF16" else "quant",
                   in_place(os.path.join(LADDER, name)))


MODELS = [
    File("minilm-bf16", "bf16", fetched("minilm-bf16")),
    File("minilm-fp16", "fp16", fetched("minilm-fp16")),
    File("minilm-fp32", "fp32", fetched("minilm-fp32")),
    File("minilm-fp32-from-bf16", "fp32", fetched("minilm-fp32-from-bf16")),
    File("minilm-fp16-from-bf16", "fp16", fetched("minilm-fp16-from-bf16")),
    File("minilm-fp8", "fp8", fp8),
    File("whisper", "fp16", fetched("whisper")),
    File("gemma", "quant", fetched("gemma")),
    File("smollm2", "quant", fetched("smollm2")),
]


def chosen(names):
    """The files of these names; `ladder` stands for all of its files, `all` for everything."""
    everything = MODELS + list(ladder())
    by_name = {file.name: file for file in everything}
    found = []
    for name in names:
        if name == "all":
            found += everything
        elif name == "ladder":
            found += list(ladder())
            if not os.path.isdir(LADDER):
                print(f"bench: skipped the ladder: {LADDER} is not there", file=sys.stderr)
        elif name in by_name:
            found.append(by_name[name])
        else:
            sys.exit(f"bench: no file {name}; there are: {', '.join(by_name)}")
    return found
