#!/usr/bin/env python3
"""Makes a long log of short ones: turn after turn, as if time went on.

usage: bench/make_log.py [--mb N] [--seed S] [--rare COUNT] [-o FILE] [SAMPLE ...]

A turn is all samples, one after the other (by default those of ../shared/data/logs; .xz is
unpacked). From turn to turn dates and times move on, so that those of a sample increase, and
numbers of four digits and more and hexadecimal ids become others, the same ones for the same ones
within a turn; all else stays. COUNT lines (7), about evenly spread, get a word that is nowhere
else. It is written to stderr with the numbers of these lines. The same arguments make the same
bytes. Samples are read as they are written: memory is bounded by the longest line.
"""
import argparse
import calendar
import datetime
import lzma
import os
import random
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.path.join(os.path.dirname(ROOT), "shared", "data", "logs")
BLOCK = 1 << 20
MONTHS = [name.encode() for name in calendar.month_abbr]

# Dates with hours and minutes: seconds and what follows them stay as they are. All begin with a
# digit, since that is looked for quickly.
TOKEN = re.compile(rb"""\d (?:
    (?<![0-9A-Za-z]\d) (?:
      (?P<iso>    \d{3}[-/.]\d\d[-/.]\d\d [ T-] \d\d[:.]\d\d (?=[:.]\d\d))
    | (?P<web>    \d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d (?=:\d\d))
    | (?P<short>  \d[-/]\d\d[-/]\d\d[ ]\d\d:\d\d (?=:\d\d))
    | (?P<month>  \d-\d\d[ ]\d\d:\d\d (?=:\d\d))
    | (?P<packed> \d{5}[ ]\d{4} (?=\d\d[ ]))
    | (?P<day>    \d{3}[-/.]\d\d[-/.]\d\d)
    | (?<=1) (?P<epoch> \d{9} (?=\.\d | \d{3}(?!\d) | (?!\d)))
    )
    | (?<![.,0-9]\d) (?P<id> (?:(?<=0)x)?[0-9a-f]{5,})
    | (?<![.,+0-9-]\d) (?P<number> \d{3,}))""", re.VERBOSE)
SYSLOG = re.compile(rb"(?<![A-Za-z])(?P<syslog>(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
                    rb" [ \d]\d \d\d:\d\d(?=:\d\d))")
DIGITS = re.compile(rb"\d+|[A-Za-z]{3}")


class Turn:
    """What the tokens of a turn become."""

    def __init__(self, number, seed, minutes):
        self._number, self._minutes = number, minutes
        self._random = random.Random(f"{seed} {number}")
        self._known = {}

    def text(self, block):
        if self._number == 0:
            return block
        if SYSLOG.search(block, 0, 1024):
            block = SYSLOG.sub(self._token, block)
        return TOKEN.sub(self._token, block)

    def _token(self, match):
        token = match.group()
        new = self._known.get(token)
        if new is None:
            if len(self._known) > 200_000:
                self._known.clear()
            kind = match.lastgroup
            new = (self._scrambled(token) if kind in ("id", "number") else
                   b"%d" % (int(token) + 60 * self._minutes) if kind == "epoch" else
                   self._moved(token, kind))
            self._known[token] = new
        return new

    def _scrambled(self, token):
        new = bytearray(token)
        for i, c in enumerate(token):
            if 48 <= c <= 57 and not (i == 0 and c == 48) and token[i:i + 2] != b"0x":
                new[i] = self._random.choice(b"123456789" if i == 0 else b"0123456789")
        return bytes(new)

    def _moved(self, token, kind):
        try:
            time = read_time(token, kind)
            return write_time(token, kind, time + datetime.timedelta(minutes=self._minutes))
        except (ValueError, OverflowError):  # looks like a date and is none
            return token


def read_time(token, kind):
    words = DIGITS.findall(token)
    if kind == "packed":
        words = [token[i:i + 2] for i in (0, 2, 4, 7, 9)]
    if kind == "web":
        words[:3] = words[2], b"%d" % MONTHS.index(words[1]), words[0]
    elif kind == "syslog":
        words[:2] = b"2000", b"%d" % MONTHS.index(words[0]), words[1]
    elif kind == "month":
        words.insert(0, b"2000")
    year, *rest = map(int, words)
    return datetime.datetime(year if year > 99 else 2000 + year, *rest)


def write_time(token, kind, time):
    """In the token's own form: its delimiters, its padding."""
    month, year = MONTHS[time.month], time.year
    clock = b"%02d%c%02d" % (time.hour, token[-3], time.minute)
    if kind == "web":
        return b"%02d/%s/%d:%s" % (time.day, month, year, clock)
    if kind == "syslog":
        return (b"%s %2d %s" if token[4:5] == b" " else b"%s %02d %s") % (month, time.day, clock)
    if kind == "packed":
        return b"%02d%02d%02d %02d%02d" % (year % 100, time.month, time.day, time.hour, time.minute)
    if kind == "month":
        return b"%02d-%02d %s" % (time.month, time.day, clock)
    first = token[4:5] if kind != "short" else token[2:3]
    day = b"%02d%s%02d%s%02d" % (year if kind != "short" else year % 100, first, time.month, first,
                                 time.day)
    return day if kind == "day" else day + token[-6:-5] + clock


def span(path):
    """Minutes from the earliest time at the head of a line to the latest one, and some more."""
    times = []
    with opened(path) as sample:
        while lines := sample.readlines(BLOCK):
            found = [time for time in map(first_time, lines) if time]
            if found:
                times += min(found), max(found)
                times = [min(times), max(times)]
    return int((times[1] - times[0]).total_seconds()) // 60 + 7 if times else 1440


def first_time(line):
    match = SYSLOG.search(line, 0, 40) or TOKEN.search(line, 0, 40)
    if not match or match.lastgroup in ("id", "number"):
        return None
    if match.lastgroup == "epoch":
        return datetime.datetime.utcfromtimestamp(int(match.group()))
    try:
        return read_time(match.group(), match.lastgroup)
    except ValueError:
        return None


def opened(path):
    return lzma.open(path) if path.endswith(".xz") else open(path, "rb")


def samples():
    return sorted(os.path.join(DATA, name) for name in os.listdir(DATA))


class Rare:
    """Puts the word at the end of the first line behind each of `places`."""

    def __init__(self, seed, count, size):
        source = random.Random(f"rare {seed}")
        self.word = b"rare-event-%08x" % source.getrandbits(32)
        self._places = sorted(int((i + source.random()) * size / count) for i in range(count))
        self.lines, self._done, self._lines_done = [], 0, 0

    def put(self, block):
        """A block of whole lines."""
        out, start = [], 0
        while self._places and self._done + len(block) > self._places[0]:
            end = block.find(b"\n", max(self._places.pop(0) - self._done, start))
            if end < 0:
                break
            self.lines.append(self._lines_done + 1 + block.count(b"\n", 0, end))
            out += [block[start:end], b" ", self.word]
            start = end
        self._done += len(block)
        self._lines_done += block.count(b"\n")
        return b"".join(out) + block[start:] if out else block


def blocks(paths, size, seed):
    """`size` bytes at least, to the end of a line."""
    minutes = {path: span(path) for path in paths}
    done = number = 0
    while done < size:
        before = done
        for path in paths:
            turn = Turn(number, seed, number * minutes[path])
            with opened(path) as sample:
                while lines := sample.readlines(BLOCK):
                    block = turn.text(b"".join(lines))
                    if not block.endswith(b"\n"):
                        block += b"\n"
                    if done + len(block) >= size:
                        yield block[:block.index(b"\n", size - done - 1) + 1]
                        return
                    done += len(block)
                    yield block
        if done == before:
            raise ValueError("samples are empty")
        number += 1


def make(out, paths, size, seed=1, rare=7):
    """Writes the log; returns the rare word and the numbers of its lines, the first being 1."""
    words = Rare(seed, rare, size)
    for block in blocks(paths, size, seed):
        out.write(words.put(block))
    return words.word, words.lines


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", nargs="*", metavar="SAMPLE")
    parser.add_argument("--mb", type=float, default=100, help="size in MB, 10^6 bytes (100)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rare", type=int, default=7, metavar="COUNT")
    parser.add_argument("-o", metavar="FILE", help="instead of standard output")
    args = parser.parse_args()
    with open(args.o, "wb") if args.o else os.fdopen(os.dup(1), "wb") as out:
        word, lines = make(out, args.samples or samples(), int(args.mb * 1e6), args.seed, args.rare)
    print(f"{word.decode()} in lines {' '.join(map(str, lines))}", file=sys.stderr)


if __name__ == "__main__":
    main()
