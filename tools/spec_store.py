#!/usr/bin/env python3
"""Restores a model of a store, by format-spec/store.md alone: a second reader, to check the first.

usage: spec_store.py STORE NAME[@REVISION] DIR     DIR is made

Decodes whole packs: for small stores.
"""
import argparse
import functools
import hashlib
import os
import pathlib
import re
import sys
import tempfile

from spec_decoder import (DTYPES, DIRECTORY, FILE, MAX_FILE, Damaged, Decoder, ENTRY, Extractor,
                          Fields, Lacking, Refused, Segment, TooNew, TRAILER, check, read_entry)
from xxh3 import xxh3_64

OBJECT = re.compile(rb"zllmobj-([0-9a-f]{64})")
PACK = re.compile(r"[0-9a-f]{32}")
MAX_TEXT = 65536
MAX_MANIFEST = 1 << 30
MAX_LITERAL = 128
MAX_DEPTH = 4


def read_value(store, *parts, longest=MAX_TEXT):
    """A value of a store in a folder; no link is followed."""
    path = pathlib.Path(store, *parts)
    for folder in [path, *path.parents][:len(parts)]:
        check(not folder.is_symlink(), f"{folder} is a link")
    check(path.stat().st_size <= longest, f"{path} is too long")
    return path.read_bytes()


def read_text(data, word):
    """The lines of a small text behind its first, but for the last."""
    lines = data.split(b"\n")
    check(lines.pop() == b"", f"{word}: cut off")
    first = lines[0].split(b" ")
    check(first[0] == word.encode() and len(first) == 2, f"{word}: begins otherwise")
    if first[1] != b"1":
        raise TooNew(f"{word}: version {first[1]!r}")
    covered = b"".join(line + b"\n" for line in lines[:-1])
    check(lines[-1] == b"check %016x" % xxh3_64(covered), f"{word}: wrong checksum")
    return [line.partition(b" ")[::2] for line in lines[1:-1]]


def number(text, name):
    check(re.fullmatch(rb"0|-?[1-9][0-9]*", text), f"{name}: {text!r} is no number")
    return int(text)


def escaped(text):
    """As one part of a key."""
    out = "".join(chr(byte) if re.fullmatch(rb"[A-Za-z0-9._+-]", bytes([byte])) and (byte != 46 or i)
                  else f"%{byte:02X}" for i, byte in enumerate(os.fsencode(text)))
    check(out and len(out) <= 255, f"{text!r} is no name")
    return out


class Part:
    """A segment of a file: its bytes, or the object that has them."""

    def __init__(self, length, literal, sha256):
        self.length, self.literal, self.sha256 = length, literal, sha256


def read_manifest(data):
    """Pairs of an Entry and, for a file, its parts."""
    check(len(data) <= MAX_MANIFEST, "manifest: too long")
    check(data[:8] == b"ZLLMMAN\n" and len(data) > 16, "manifest: begins otherwise")
    check(int.from_bytes(data[-8:], "little") == xxh3_64(data[:-8]), "manifest: wrong checksum")
    fields = Fields(data[8:-8])
    if fields.varint("version") != 1:
        raise TooNew("manifest of a newer version")
    files = []
    for _ in range(fields.varint("number of entries", 1)):
        head = Fields(fields.string("Entry head", 16384))
        entry = read_entry(head)
        head.end("Entry head")
        parts = []
        if entry.kind == FILE:
            entry.size = fields.varint("size", 0, MAX_FILE)
            entry.sha256 = fields.bytes(32, "SHA-256")
            fields.string("format", 64)
            entry.segments = []
            for _ in range(fields.varint("number of segments")):
                dtype = DTYPES.get(fields.u8("element type"), "bytes")
                length = fields.varint("length")
                name = fields.string("name", 65535)
                shape = [fields.varint("dimension")
                         for _ in range(fields.varint("number of dimensions", 0, 64))]
                entry.segments.append(Segment(dtype, length, name, shape))
                literal = length <= MAX_LITERAL
                content = fields.bytes(length if literal else 32, "content")
                parts.append(Part(length, content if literal else None, content))
            check(sum(part.length for part in parts) == entry.size, "manifest: sizes")
        files.append((entry, parts))
    fields.end("manifest")
    check_tree([entry for entry, _ in files])
    return files


def check_tree(entries):
    if entries[0].kind == FILE:
        check(len(entries) == 1 and entries[0].path and b"/" not in entries[0].path,
              "manifest: neither one file nor a tree")
        return
    check(entries[0].kind == DIRECTORY and not entries[0].path, "manifest: a tree without a root")
    paths, folders = {b""}, {b""}
    for entry in entries[1:]:
        check(entry.path not in paths, f"manifest: {entry.path!r} twice")
        check(entry.path.rpartition(b"/")[0] in folders, f"manifest: {entry.path!r} before its folder")
        paths.add(entry.path)
        if entry.kind == DIRECTORY:
            folders.add(entry.path)


class PackNames(Decoder):
    """The objects that a pack names, by its Entry frames."""

    def names(self):
        found = []
        self._position = 1
        try:
            self._read_header(self._stream.read(1))
            while (frame := self._frame()).type != TRAILER:
                if frame.type == ENTRY:
                    found.append(read_entry(frame.fields).path)
        except Damaged:
            pass  # what stands before the damage is there
        return [bytes.fromhex(m[1].decode()) for m in map(OBJECT.fullmatch, found) if m]


class Base:
    """An object that a pack is coded against, of depth at most `depth`."""
    chain = 0

    def __init__(self, store, sha256, length, depth, limit):
        self._store, self._sha256, self._depth = store, sha256, depth
        self.length, self._limit = length, limit

    def read(self, offset, size):
        if self._depth >= self._limit:
            raise Lacking
        check(size <= self.length - offset, "elements that a reference has not")
        data = self._store.object(self._sha256, self._depth)
        check(len(data) == self.length, "a reference of another length")
        return data[offset:offset + size]


class PackBases:
    """What a pack is coded against, for copies of a depth of at most `limit`."""

    def __init__(self, store, limit):
        self._store, self._limit = store, limit

    def find(self, sha256, length, depth, _):
        return Base(self._store, sha256, length, depth, self._limit)


class Store:
    def __init__(self, root, scratch):
        self._root = root
        self._scratch = pathlib.Path(scratch)
        lines = read_text(read_value(root, "zipllm-store"), "zipllm-store")
        check([name for name, _ in lines] == [b"id", b"read", b"add", b"delete"], "zipllm-store: lines")
        if lines[1][1]:
            raise TooNew(f"the store has the features {lines[1][1]!r}")
        self._packs = {}  # object: packs that have it
        for path in sorted(pathlib.Path(root, "packs").glob("*/*.zllm")):
            if PACK.fullmatch(path.stem) and path.parent.name == path.stem[:2]:
                with open(path, "rb") as file:
                    for sha256 in PackNames(file).names():
                        self._packs.setdefault(sha256, []).append(path)

    def reference(self, name, revision):
        """SHA-256 and length of a model's manifest."""
        lines = read_text(read_value(self._root, "refs", escaped(name), escaped(revision)),
                          "zipllm-reference")
        check([word for word, _ in lines] == [b"manifest", b"length", b"created", b"files", b"bytes"],
              "zipllm-reference: lines")
        check(re.fullmatch(rb"[0-9a-f]{64}", lines[0][1]), "zipllm-reference: no manifest")
        return bytes.fromhex(lines[0][1].decode()), number(lines[1][1], "length")

    @functools.cache
    def _decoded(self, pack, limit):
        """The objects of a pack that have a depth of at most `limit`, as files by SHA-256."""
        folder = self._scratch / f"{pack.stem}-{limit}"
        folder.mkdir()
        objects = {}
        file = None
        with open(pack, "rb") as stream:
            try:
                for event, value in Decoder(stream, bases=PackBases(self, limit)).events():
                    if event == "entry" and value.kind == FILE:
                        if file:
                            file.close()
                        path = folder / str(len(list(folder.iterdir())))
                        file = open(path, "wb")  # pylint: disable=consider-using-with
                    elif event == "bytes":
                        file.write(value)
                    elif event == "end":
                        file.flush()
                        name = OBJECT.fullmatch(value.path)
                        if name and bytes.fromhex(name[1].decode()) == value.sha256:
                            objects[value.sha256] = path
            except Damaged as damage:
                print(f"spec_store: {pack}: {damage}", file=sys.stderr)
        if file:
            file.close()
        return objects

    def object(self, sha256, limit=MAX_DEPTH):
        """Its bytes, by a copy that needs no more than `limit` further packs."""
        for pack in self._packs.get(sha256, ()):
            path = self._decoded(pack, limit).get(sha256)
            if path:
                return path.read_bytes()
        raise Damaged(f"no pack has the object {sha256.hex()} with a depth of at most {limit}")

    def restore(self, name, revision, target):
        sha256, length = self.reference(name, revision)
        manifest = self.object(sha256)
        check(len(manifest) == length, "manifest of another length")
        files = read_manifest(manifest)
        extractor = Extractor(target)
        for entry, parts in files:
            extractor.entry(entry)
            if entry.kind != FILE:
                continue
            digest = hashlib.sha256()
            for part in parts:
                data = self.object(part.sha256) if part.literal is None else part.literal
                check(len(data) == part.length, "object of another length")
                digest.update(data)
                extractor.bytes(data)
            check(digest.digest() == entry.sha256, f"wrong SHA-256 of {entry.path!r}")
            extractor.end(entry)
        extractor.finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("name", metavar="NAME[@REVISION]")
    parser.add_argument("target", metavar="DIR", help="is made")
    options = parser.parse_args()
    name, _, revision = options.name.partition("@")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            Store(options.store, scratch).restore(name, revision or "main", options.target)
    except Refused as refused:
        sys.exit(f"spec_store: {options.store}: {refused.word}: {refused}")
    except OSError as error:
        sys.exit(f"spec_store: {error}")


if __name__ == "__main__":
    main()
