"""Measurements of bench/pairs as markdown. Pure functions: tests/bench/pair_tables_test.py."""
import tables

PEERS = ("BitX", "lmz", "z4ai", "bigsmall", "glyd", "ZipNN")
LEVELS = ("-3", "-9")


def bits(size, elements):
    """Bits a weight."""
    return 8 * size / elements


def best_peer(results):
    others = [r for r in results if r["tool"] != "zipllm"]
    return min(others, key=lambda r: r["size"]) if others else None


def limits(goals, results, elements):
    """(text, bits a weight) of each goal; None where its peer was not measured."""
    for limit, of in goals:
        if not of:
            yield f"{limit:.2f}", limit
            continue
        peer = best_peer(results) if of == "best" else tables.smallest(results, of)
        yield f"{limit:g} {of}", peer and limit * bits(peer["size"], elements)


def goal_cell(goals, results, elements, ours):
    cells = []
    for text, limit in limits(goals, results, elements):
        if ours is None or limit is None:
            cells.append(f"≤ {text}")
        else:
            met = bits(ours["size"], elements) <= limit
            cells.append(f"≤ {text} {'met' if met else 'MISSED'}")
    return ", ".join(cells)


def pairs_table(data):
    """data: {name: {"elements", "goals": {level: [[limit, of]]}, "results"}}. Bits a weight; the
    best peer is bold."""
    shown = [p for p in PEERS if any(tables.smallest(d["results"], p) for d in data.values())]
    rows = []
    for name, pair in data.items():
        results, elements = pair["results"], pair["elements"]
        best = best_peer(results)
        row = [name, f"{elements / 1e6:,.2f}"]
        for tool in shown:
            found = tables.smallest(results, tool)
            text = f"{bits(found['size'], elements):.3f}" if found else "-"
            row.append(f"**{text}**" if best and tool == best["tool"] else text)
        for level in LEVELS:
            ours = next((r for r in results if tables.label(r) == f"zipllm {level}"), None)
            row.append(f"{bits(ours['size'], elements):.3f}" if ours else "-")
            row.append(f"{ours['size'] / best['size']:.3f}" if ours and best else "-")
            row.append(goal_cell(pair["goals"].get(level, []), results, elements, ours))
        rows.append(row)
    head = ["pair", "M weights", *shown]
    for level in LEVELS:
        head += [f"zipllm {level}", "of best", "goal"]
    return tables.table(head, rows)


def methods_table(data):
    """All that was measured, the smallest first."""
    rows = []
    for name, pair in data.items():
        for r in sorted(pair["results"], key=lambda r: r["size"]):
            rows.append([name, tables.label(r), f"{r['size']:,}",
                         f"{bits(r['size'], pair['elements']):.3f}"] +
                        [tables.rate(pair["size"] / r[step]["wall"])
                         for step in ("compress", "decompress")])
    return tables.table(["pair", "tool", "bytes", "bits a weight", "compress MB/s",
                         "decompress MB/s"], rows, left=2)


def speed_table(pair):
    """One pair: sizes and rates of the target's bytes, each beside lmz's."""
    beside = tables.smallest(pair["results"], "lmz")
    rows = []
    for r in pair["results"]:
        row = [tables.label(r), f"{bits(r['size'], pair['elements']):.3f}"]
        for step in ("compress", "decompress"):
            seconds = r[step]["wall"]
            row += [tables.rate(pair["size"] / seconds),
                    f"{beside[step]['wall'] / seconds:.1f} x" if beside else ""]
        rows.append(row)
    return tables.table(["tool", "bits a weight", "compress MB/s", "of lmz", "decompress MB/s",
                         "of lmz"], rows)


TITLE = ("**Against a base**, bits a weight (the best peer is bold) beside what this was to come "
         "to, one thread. Fine-tunes and checkpoints of `../shared/data`; of LoRA merges the "
         "tensors that they changed. BitX: XOR and zstd by planes, the better of -3 and -19. Peers "
         "take the base of the target's type, and the best of the bases where there are several. "
         "Measured by [`bench/pairs`](bench/README.md), which decompresses and compares everything, "
         "on ")


def markdown(data):
    """data: {name: what bench/pairs kept}."""
    pairs = {name: d for name, d in data.items() if not d.get("speed")}
    machine = [d["machine"] for d in data.values() if "machine" in d][-1:] or [""]
    lines = [TITLE + machine[0], ""] + pairs_table(pairs) if pairs else []
    for name, pair in data.items():
        if pair.get("speed"):
            lines += ["", f"Speed: {name}, {pair['size']:,} bytes, file to file on one thread; codecs "
                      "from memory to memory.", ""] + speed_table(pair)
    return lines
