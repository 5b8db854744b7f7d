"""What a disk may hold after a power loss: of the calls that the shim logged, any of those may be
lost that no sync has made last.

The model is stricter than most file systems: a name lasts once its folder is synced, and no sooner;
writes that are not synced are lost or kept one by one, in pages; names likewise, in any order.
"""
import os
import pathlib
import struct

from crash import KINDS

RECORD = struct.Struct("<IIIIQQQ")
PAGE = 4096


class Call:
    def __init__(self, kind, inode, path, path2, offset, data):
        self.kind, self.inode, self.path, self.path2 = kind, inode, path, path2
        self.offset, self.data = offset, data
        self.lasts_from = None  # the number of the call that makes it last


def read_log(path):
    calls = []
    data = pathlib.Path(path).read_bytes()
    at = 0
    while at < len(data):
        kind, length, length2, _, inode, offset, size = RECORD.unpack_from(data, at)
        at += RECORD.size
        path, path2 = data[at:at + length].decode(), data[at + length:at + length + length2].decode()
        at += length + length2
        calls.append(Call(KINDS[kind], inode, path, path2, offset, data[at:at + size]))
        at += size
    return calls


def parent(path):
    return os.path.dirname(path)


class Disk:
    """A folder as it is now, all of it lasting; then what the calls of a log do to it."""

    def __init__(self, root):
        self.files = {}    # file number -> bytes
        self.names = {"": None}  # path -> file number, or None for a folder
        self.number_of = {}  # inode -> file number, as of the last call that was added
        self.calls = []
        for path in sorted(pathlib.Path(root).rglob("*")):
            name = str(path.relative_to(root))
            if path.is_dir():
                self.names[name] = None
            else:
                inode = path.stat().st_ino
                if inode not in self.number_of:
                    self.number_of[inode] = self._new_file(path.read_bytes())
                self.names[name] = self.number_of[inode]

    def _new_file(self, data=b""):
        self.files[len(self.files)] = data
        return len(self.files) - 1

    def add(self, calls):
        """Calls that come next; says what each does to which file, and what syncs make last."""
        for call in calls:
            at = len(self.calls)
            self.calls.append(call)
            if call.kind == "create":
                self.number_of[call.inode] = self._new_file()
            if call.kind in ("create", "write", "truncate", "link", "sync"):
                call.file = self.number_of[call.inode]
            if call.kind == "other":
                raise ValueError(f"the model does not know {call.path}")
            if call.kind in ("sync", "syncdir", "syncfs"):
                call.lasts_from = at
                for other in self.calls[:at]:
                    if other.lasts_from is None and self._covers(call, other):
                        other.lasts_from = at

    @staticmethod
    def _covers(sync, call):
        if sync.kind == "syncfs":
            return True
        if sync.kind == "sync":
            return call.kind in ("write", "truncate") and call.file == sync.file
        if call.kind == "rename":
            return sync.path == parent(call.path2)
        return call.kind in ("create", "link", "unlink", "mkdir", "rmdir") and (
            sync.path == parent(call.path))

    def after(self, when, rng, keep):
        """files, names after a power loss before call number `when`: of what does not last, each
        part is kept with probability `keep`."""
        files = {number: bytearray(data) for number, data in self.files.items()}
        names = dict(self.names)
        for call in self.calls[:when]:
            lasts = call.lasts_from is not None and call.lasts_from < when
            if call.kind == "write":
                self._write(files[call.file], call, lambda lasts=lasts: lasts or rng.random() < keep)
            elif call.kind in ("sync", "syncdir", "syncfs") or not (lasts or rng.random() < keep):
                continue
            elif call.kind == "truncate":
                data = files[call.file]
                data[:] = data[:call.offset].ljust(call.offset, b"\0")
            else:
                self._name(names, call)
        return files, names

    @staticmethod
    def _write(data, call, kept):
        at = call.offset
        while at < call.offset + len(call.data):
            end = min(call.offset + len(call.data), at // PAGE * PAGE + PAGE)
            if kept():
                if len(data) < end:
                    data.extend(bytes(end - len(data)))
                data[at:end] = call.data[at - call.offset:end - call.offset]
            at = end

    @staticmethod
    def _name(names, call):
        path = call.path2 if call.kind == "rename" else call.path
        if parent(path) not in names:
            return  # its folder was lost
        if call.kind in ("create", "link"):
            if path or call.kind == "link":
                names[path] = call.file
        elif call.kind == "mkdir":
            names.setdefault(path, None)
        elif call.kind == "rename":
            if call.path in names:
                names[path] = names.pop(call.path)
        else:
            names.pop(path, None)


def write_state(state, root, rng):
    """Makes the folder `root` of what Disk.after gave. What SQLite maps (-shm) holds anything."""
    files, names = state
    os.makedirs(root)
    for name in sorted(names):
        path = os.path.join(root, name)
        if name and not os.path.isdir(parent(path)):
            continue  # what it was in was lost
        if names[name] is None:
            os.makedirs(path, exist_ok=True)
            continue
        data = files[names[name]]
        if name.endswith("-shm"):
            data = rng.randbytes(len(data))
        with open(path, "wb") as f:
            f.write(data)
