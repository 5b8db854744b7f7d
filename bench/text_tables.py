"""What bench/text measures as markdown. Pure functions: tests/bench/text_tables_test.py."""
import tables

UNVERIFIED = " --no-verify"
TITLE = ("**Text**, one thread; sizes in bytes, the best peer is bold. Each file is packed by itself; "
         "`sources` are those of this repository. Measured by [`bench/text`](bench/README.md), which "
         "unpacks and compares everything, on ")


def size_table(data):
    """data: {file: {"size", "results": [...]}}. Tools by file; sizes in bytes."""
    methods = []
    for file in data.values():
        for result in file["results"]:
            label = tables.label(result)
            if label not in methods and not label.endswith(UNVERIFIED):
                methods.append(label)
    sizes = {name: {tables.label(r): r["size"] for r in file["results"]}
             for name, file in data.items()}
    best = {name: min((r["size"] for r in file["results"] if not is_ours(r)), default=None)
            for name, file in data.items()}
    rows = [["(as it is)"] + [f"{file['size']:,}" for file in data.values()]]
    for label in methods:
        row = [label]
        for name in data:
            size = sizes[name].get(label)
            text = "" if size is None else f"{size:,}"
            is_peer = not label.startswith("zipllm")
            row.append(f"**{text}**" if is_peer and size == best[name] else text)
        rows.append(row)
    return tables.table(["tool"] + list(data), rows)


def is_ours(result):
    return result["tool"].startswith("zipllm")


def speed_table(file):
    """One file: rates by the clock, with verification and without, and peak memory."""
    by_label = {tables.label(r): r for r in file["results"]}
    rows = []
    for label, result in by_label.items():
        if label.endswith(UNVERIFIED):
            continue
        unverified = by_label.get(label + UNVERIFIED)
        rows.append([label, f"{result['size']:,}",
                     f"{8 * result['size'] / file['size']:.3f}",
                     tables.rate(file["size"] / result["compress"]["wall"]),
                     tables.rate(file["size"] / unverified["compress"]["wall"])
                     if unverified else "",
                     tables.rate(file["size"] / result["decompress"]["wall"]),
                     f"{result['compress']['peak'] / 2 ** 20:,.0f}",
                     f"{result['decompress']['peak'] / 2 ** 20:,.0f}"])
    return tables.table(["tool", "bytes", "bits a byte", "compress MB/s", "not verified",
                         "decompress MB/s", "compress MiB", "decompress MiB"], rows)


def markdown(data):
    if not data:
        return []
    lines = [TITLE + list(data.values())[-1]["machine"], ""]
    whole = {name: file for name, file in data.items() if "first 200 KB" not in name}
    if whole:
        lines += size_table(whole)
    for name, file in data.items():
        if name.startswith("enwik8"):
            lines += ["", f"{name}: speed and memory, program start included", ""]
            lines += speed_table(file)
    return lines
