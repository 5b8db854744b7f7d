#!/usr/bin/env python3
"""Checks that libzipllm.so shows what the public headers mark ZIPLLM_EXPORT, no more, no less.

usage: exports_test.py NM LIBRARY HEADER...
"""
import re
import subprocess
import sys

nm, library, *headers = sys.argv[1:]

declared = set()
for header in headers:
    with open(header, encoding="utf-8") as f:
        text = re.sub(r"//[^\n]*|/\*.*?\*/|#define[^\n]*", "", f.read(), flags=re.S)
    declared.update(re.findall(r"(?:class|struct)\s+ZIPLLM_EXPORT\s+(\w+)", text))
    declared.update(re.findall(r"ZIPLLM_EXPORT\s[^;{(]*?(\w+)\s*\(", text))

exported, foreign = set(), []
lines = subprocess.run([nm, "-D", "--defined-only", "-C", library],
                       check=True, capture_output=True, text=True).stdout
for line in lines.splitlines():
    kind, symbol = line.split(maxsplit=2)[1:]
    if kind == "A":  # the version node itself
        continue
    symbol = re.sub(r"^(vtable|typeinfo|typeinfo name) for ", "", symbol)
    name = re.match(r"zipllm::(\w+)|(zipllm_\w+)", symbol)
    if name:
        exported.add(name[1] or name[2])
    else:
        foreign.append(symbol)

failures = [f"{symbol}: exported, and not of zipllm" for symbol in foreign]
failures += [f"{name}: exported, and not marked ZIPLLM_EXPORT in a public header"
             for name in sorted(exported - declared)]
failures += [f"{name}: marked ZIPLLM_EXPORT, and not exported" for name in sorted(declared - exported)]
print("\n".join(failures) or f"{len(exported)} names exported, all of them declared")
sys.exit(bool(failures or not declared))
