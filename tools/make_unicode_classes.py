#!/usr/bin/env python3
"""Writes src/llm/unicode_classes.inc: ranges of letters, numbers and spaces.

Usage: tools/make_unicode_classes.py > src/llm/unicode_classes.inc

The classes are those of this Python's unicodedata (named in the file); a newer
one changes how new scripts are cut into tokens, and no coded byte's meaning.
"""
import unicodedata

SPACES = [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
          0x2028, 0x2029, 0x202F, 0x205F, 0x3000]


def character_class(code):
    if code in (0x0A, 0x0D):
        return "Newline"
    if code in SPACES:
        return "Space"
    category = unicodedata.category(chr(code))
    return {"L": "Letter", "N": "Number"}.get(category[0])


def main():
    ranges = []
    for code in range(0x80, 0x110000):
        name = character_class(code)
        if ranges and ranges[-1][1] == code - 1 and ranges[-1][2] == name:
            ranges[-1][1] = code
        elif name:
            ranges.append([code, code, name])
    print(f"// Classes of characters from 0x80 on, Unicode "
          f"{unicodedata.unidata_version}: first, last, class.")
    print("// Made by tools/make_unicode_classes.py.")
    print("// clang-format off")
    line = ""
    for first, last, name in ranges:
        item = f"{{0x{first:X}, 0x{last:X}, k{name}}},"
        if len(line) + 1 + len(item) > 80:
            print(line)
            line = ""
        line += (" " if line else "") + item
    print(line)
    print("// clang-format on")


if __name__ == "__main__":
    main()
