"""Measurements as markdown tables. Pure functions: tests/bench/tables_test.py."""
import re

LEVELS = ("-1", "-3", "-6", "-9")
# Columns of the ratio table after zipllm's levels; a tool's best method stands for it.
PEERS = ("glyd", "OpenZL", "lmz", "ZipNN", "bigsmall", "z4ai", "pcodec", "hf-xet", "zstd", "xz")


def table(head, rows, left=1):
    """A markdown table; the first `left` columns are flush left, others flush right."""
    line = lambda cells: "| " + " | ".join(cells) + " |"
    rule = ["---" if i < left else "---:" for i in range(len(head))]
    return [line(head), line(rule)] + [line(row) for row in rows]


def percent(size, whole):
    return f"{100 * size / whole:.2f}"


def rate(bytes_a_second):
    """In MB/s, with two digits at least."""
    mega = bytes_a_second / 1e6
    return f"{mega:,.0f}" if mega >= 10 else f"{mega:.2g}"


def label(result):
    return (result["tool"] + " " + result["method"]).strip()


def smallest(results, tool):
    """The result of least size that a tool has, or None."""
    found = [r for r in results if r["tool"] == tool]
    return min(found, key=lambda r: r["size"]) if found else None


def ratio_table(files):
    """files: {name: {"size", "results": [...]}}. Sizes in percent; the best peer is bold."""
    shown = [p for p in PEERS
             if any(smallest(f["results"], p) for f in files.values())]
    rows = []
    for name, file in files.items():
        ours = {r["method"]: r for r in file["results"] if r["tool"] == "zipllm"}
        row = [name, f"{file['size'] / 1e6:,.1f}"]
        row += [percent(ours[level]["size"], file["size"]) if level in ours else ""
                for level in LEVELS]
        best = {p: smallest(file["results"], p) for p in shown}
        least = min((r["size"] for r in best.values() if r), default=None)
        for p in shown:
            text = percent(best[p]["size"], file["size"]) if best[p] else ""
            row.append(f"**{text}**" if best[p] and best[p]["size"] == least else text)
        rows.append(row)
    return table(["file", "MB"] + list(LEVELS) + shown, rows)


def methods_table(files):
    """All methods of all peers by file, the smallest result first: what ratio_table leaves out."""
    rows = []
    for name, file in files.items():
        others = [r for r in file["results"] if r["tool"] != "zipllm"]
        for r in sorted(others, key=lambda r: r["size"]):
            rows.append([name, label(r), percent(r["size"], file["size"])] +
                        [rate(file["size"] / max(r[step]["cpu"], 1e-9))
                         for step in ("compress", "decompress")])
    return table(["file", "tool", "%", "compress MB per CPU s", "decompress MB per CPU s"], rows,
                 left=2)


def speed_table(file):
    """One file, all tools: rates by the clock, each beside zstd -3 of the same run."""
    size, results = file["size"], file["results"]
    base = next((r for r in results if label(r) == "zstd -3"), None)

    def cells(result, step):
        seconds, peak = result[step]["wall"], result[step]["peak"] / 2 ** 20
        share = f"{base[step]['wall'] / seconds:.2f} x" if base else ""
        return [rate(size / seconds), share, f"{result[step]['cpu']:.2f}", f"{peak:,.0f}"]

    rows = []
    for r in results:
        rows.append([label(r), str(r["threads"]),
                     "" if r["tool"] == "cp" else percent(r["size"], size)]
                    + cells(r, "compress") + cells(r, "decompress"))
    head = ["tool", "threads", "size %"]
    for step in ("compress", "decompress"):
        head += [f"{step} MB/s", "of zstd -3", "CPU s", "peak MiB"]
    return table(head, rows)


def codec_bench(text):
    """What codec_bench printed: {"dtype", "level", "cpu", "size", "ratio", "rates": {what: MB/s}}."""
    head = re.search(r": (\d+) bytes of (\S+) in \d+ frames, level (\d+), (\S+)", text)
    ratio = re.search(r"ratio ([\d.]+) \((.*)\)", text)
    if not head or not ratio:
        raise ValueError("codec_bench printed something else")
    rates = re.findall(r"^  (\S.*?) +(\d+) MB/s", text, re.MULTILINE)
    return {"size": int(head[1]), "dtype": head[2], "level": int(head[3]), "cpu": head[4],
            "ratio": float(ratio[1]), "codecs": ratio[2],
            "rates": {what: float(rate) for what, rate in rates}}


def memory_table(file):
    """zipllm by level and kernel target, then peers; each in MB/s and as a share of the memcpy
    that ran beside it."""
    rows = []
    for m in file["levels"]:
        copy = m["rates"]["memcpy"]
        cells = [f"zipllm -{m['level']}", m["cpu"], f"{100 * m['ratio']:.2f}"]
        for what in ("plan + encode", "decode + XXH3"):
            mega = m["rates"][what]
            cells += [rate(mega * 1e6), f"{100 * mega / copy:.1f} %"]
        rows.append(cells)
    for r in file["results"]:
        if "in_memory" not in r["compress"]:
            continue
        cells = [label(r), "", percent(r["size"], file["size"])]
        for step in ("compress", "decompress"):
            seconds, copy = r[step]["in_memory"], r[step]["memcpy"]
            cells += [rate(file["size"] / seconds), f"{100 * copy / seconds:.1f} %"]
        rows.append(cells)
    return table(["tool", "kernels", "size %", "compress MB/s", "of memcpy",
                  "decompress MB/s", "of memcpy"], rows, left=2)


TITLES = {
    "ratio": "**Size in percent of the file**, by level and beside each peer at its best method (the "
             "best peer is bold). minilm: all-MiniLM-L6-v2, a sentence encoder of 22.7 M weights; "
             "gemma: Gemma 3 270M, Q4_K_M; smollm2: SmolLM2 135M, Q4_1; whisper: Whisper base, FP16 "
             "in a CTranslate2 file; ladder: two matrices of MPNet as llama.cpp quantizes them.",
    "speed": "**File to file** in memory, medians of tools that take turns (slow ones: one turn). "
             "Peak memory is what a library takes beyond its own code, and what a program takes in "
             "all, where 20 MiB and less cannot be told apart.",
    "memory": "**Memory to memory, one thread**, each beside memcpy of the same bytes in the same "
              "run.",
}


def markdown(data):
    """All that was measured. data: {part: {"machine", "files": {name: {...}}}}."""
    parts = [part for part in TITLES if data.get(part, {}).get("files")]
    machines = {data[part]["machine"] for part in parts}
    lines = []
    if len(machines) == 1:
        lines += ["Measured by [`bench/run`](bench/README.md), which decompresses and compares "
                  f"everything, on {machines.pop()}", ""]
    for part in parts:
        lines += [TITLES[part] + ("" if not machines else f" {data[part]['machine']}"), ""]
        files = data[part]["files"]
        if part == "ratio":
            lines += ratio_table(files) + [""]
            continue
        for name, file in files.items():
            if part == "speed":
                lines += [f"{name}, {file['size']:,} bytes; memcpy: {file['memcpy'] / 1e6:,.0f} MB/s",
                          ""] + speed_table(file) + [""]
            else:
                lines += [name, ""] + memory_table(file) + [""]
    return lines


def between_markers(text, lines, name="bench"):
    """The README's text with `lines` between its markers of this name. Raises ValueError without
    them."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if begin not in text or end not in text:
        raise ValueError(f"no markers {begin} and {end}")
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    return before + begin + "\n" + "\n".join(lines).rstrip() + "\n" + end + after
