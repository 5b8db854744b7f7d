"""What bench/logs measures as markdown. Pure functions: tests/bench/log_tables_test.py."""
import tables

UNVERIFIED = " --no-verify"
TITLES = {"logs": "**Logs**, bytes, archive included, on one thread; the best peer is bold.",
          "tables": "**Tables and arrays**, likewise."}
# Columns after zipllm's levels: a tool's smallest result stands for it.
PEERS = ("glyd", "OpenZL", "pcodec", "zpaq", "xz", "zstd")


def is_ours(result):
    return result["tool"] == "zipllm"


def by_column(file):
    """{column: result}: zipllm's levels, then peers."""
    found = {r["method"]: r for r in file["results"] if is_ours(r)}
    for peer in PEERS:
        best = tables.smallest(file["results"], peer)
        if best:
            found[peer] = best
    return found


def columns_of(files):
    """zipllm's levels and the peers that have a result, in their order."""
    found = [column for file in files.values() for column in by_column(file)]
    levels = sorted({c for c in found if c.startswith("-") and not c.endswith(UNVERIFIED)})
    return levels + [peer for peer in PEERS if peer in found]


def titles(files, columns):
    """A peer's name with its method, where it has the same one for all files."""
    out = []
    for column in columns:
        methods = {by_column(file)[column]["method"] for file in files.values()
                   if column in by_column(file)}
        out.append(column if column.startswith("-") or len(methods) > 1 else
                   f"{column} {methods.pop()}")
    return out


def size_row(name, size, sizes, columns):
    """`sizes`: {column: bytes}. The best peer is bold."""
    best = min((sizes[c] for c in columns if c in sizes and not c.startswith("-")), default=None)
    cells = [f"{sizes[c]:,}" if c in sizes else "" for c in columns]
    return [name, f"{size:,}"] + [
        f"**{cell}**" if c in sizes and not c.startswith("-") and sizes[c] == best else cell
        for c, cell in zip(columns, cells)]


def totals(files, column, value):
    """The sum of value(result) over all files, or None where one lacks the column."""
    results = [by_column(file).get(column) for file in files.values()]
    return sum(map(value, results)) if all(results) else None


def size_table(files, has_total):
    """files: {name: {"size", "results"}}. With a total: also its share of xz's, and speed."""
    columns = columns_of(files)
    rows = [size_row(name, file["size"], {c: r["size"] for c, r in by_column(file).items()}, columns)
            for name, file in files.items()]
    if has_total:
        whole = sum(file["size"] for file in files.values())
        sizes = {c: totals(files, c, lambda r: r["size"]) for c in columns}
        sizes = {c: size for c, size in sizes.items() if size is not None}
        rows.append(size_row("total", whole, sizes, columns))
        if "xz" in sizes:
            rows.append(["of xz", ""] + [f"{100 * sizes[c] / sizes['xz']:.1f} %" if c in sizes else ""
                                         for c in columns])
        for title, suffix, step in (("compress MB/s", "", "compress"),
                                    ("not verified", UNVERIFIED, "compress"),
                                    ("decompress MB/s", "", "decompress")):
            seconds = [totals(files, c + suffix, lambda r: r[step]["wall"]) for c in columns]
            rows.append([title, ""] + [tables.rate(whole / s) if s else "" for s in seconds])
    return tables.table(["file", "as it is"] + titles(files, columns), rows)


def grep_lines(data):
    """What a search took, in a sentence and a table."""
    seconds = data["seconds"]
    ours = seconds["zipllm grep"]
    rows = [[name, f"{s:.2f}", f"{s / ours:.1f} x"] for name, s in seconds.items()]
    return [f"**Search**: a word that {data['found']} lines have, of a log of "
            f"{data['size'] / 1e6:,.0f} MB that is {data['packed'] / 1e6:,.1f} MB at "
            f"-{data['level']}; one thread.", ""] + tables.table(["", "seconds", "of the first"], rows)


def markdown(data):
    """data: {"logs", "tables": {"machine", "files": {...}}, "grep": {...}}."""
    lines = []
    machines = {part["machine"] for part in data.values()}
    if len(machines) == 1:
        lines += ["Measured by [`bench/logs`](bench/README.md), which unpacks and compares everything, "
                  f"on {machines.pop()}", ""]
    for part, title in TITLES.items():
        if data.get(part, {}).get("files"):
            lines += [title + (f" {data[part]['machine']}" if machines else ""), ""]
            lines += size_table(data[part]["files"], part == "logs") + [""]
    if "grep" in data:
        lines += grep_lines(data["grep"]) + [""]
    return lines[:-1]
