"""Files packed and unpacked by several tools on one core each, for bench/text and bench/logs."""
import json
import os
import sys
import tempfile

import tools


def zipllm(path, level, *options, name="zipllm", threads=1):
    model = [option for option in options if option != "--no-verify"]
    return tools.Program(name, " ".join([f"-{level}"] + [o for o in options if o == "--no-verify"]),
                         threads,
                         [path, "compress", "-q", f"-{level}", f"-T{threads}", *options, "{i}",
                          "-o", "{o}"],
                         [path, "decompress", "-q", "--no-sync", f"-T{threads}", *model, "{i}",
                          "-o", "{o}"])


def shell(name, method, compress, decompress):
    return tools.Program(name, method, 1, ["sh", "-c", compress], ["sh", "-c", decompress])


def zpaq():
    return shell("zpaq", "-m5", "zpaq a '{o}.zpaq' '{i}' -m5 -t1 2>/dev/null && mv '{o}.zpaq' '{o}'",
                 "mv '{i}' '{i}.zpaq' && zpaq x '{i}.zpaq' -to '{o}.d' -t1 2>/dev/null; "
                 "mv '{i}.zpaq' '{i}'; mv $(find '{o}.d' -type f) '{o}' && rm -r '{o}.d'")


def xz():
    return shell("xz", "-9e", "xz -9e -T1 -c '{i}' > '{o}'", "xz -dc -T1 '{i}' > '{o}'")


def ready(tool):
    """A tool as of_file wants it."""
    return (tool.name, tool.method), lambda: tool


def version(command):
    """The first number with a point that a command prints."""
    return tools.output("sh", "-c", command + r" | grep -o '[0-9]\+\.[0-9.]*[0-9]' | head -1")


def measure(tool, path, place, args):
    """Its result, or None; in turns until they have taken args.budget seconds."""
    try:
        for _ in range(args.runs):
            tool.run(path, place, args.limit)
            if tool.seconds() > args.budget:
                break
    except tools.Failed as why:
        tools.warn(f"{tool.name} {tool.method}", str(why))
        return None
    finally:
        tool.close()
    return tool.result()


def of_file(name, data, wanted, kept, args):
    """{"size", "results"} of `wanted`, pairs of a tool's label and what makes the tool; peers' from
    `kept` where it has them for the same bytes."""
    out = {"size": len(data), "results": []}
    before = {}
    if kept and kept["size"] == len(data):
        before = {(r["tool"], r["method"]): r for r in kept["results"]}
    with tempfile.TemporaryDirectory(prefix="zipllm-bench-", dir="/dev/shm") as place:
        path = os.path.join(place, name.replace(" ", "-").replace("'", ""))
        with open(path, "wb") as f:
            f.write(data)
        for label, make in wanted:
            is_kept = label in before and not args.again and not label[0].startswith("zipllm")
            if is_kept:
                out["results"].append(before.pop(label))
                continue
            print(f"bench: {name} {' '.join(label)}", file=sys.stderr, flush=True)
            try:
                result = measure(make(), path, place, args)
            except tools.Failed as why:
                tools.warn(" ".join(label), str(why))
                continue
            if result is not None:
                before.pop(label, None)
                out["results"].append(result)
    out["results"] += before.values()  # of tools that were not asked for this time
    return out


def read(path):
    """What a JSON file keeps; nothing where it is not there."""
    if not path or not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def keep(path, data):
    if path:
        with open(path + ".tmp", "w", encoding="utf-8") as f:
            json.dump(data, f, indent=1)
        os.replace(path + ".tmp", path)
