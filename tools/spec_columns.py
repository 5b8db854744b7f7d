"""Second decoder of columns, written from format-spec/codecs/columns.md.

`spec` is the module spec_decoder, whose parts of other pages this one uses. Values are byte
strings; a column beside is (values, index), index None for value i beside value i."""

MOST_DEPTH = 4
U32 = (1 << 32) - 1
U64 = (1 << 64) - 1


def decode_column(spec, fields, count, most, beside):
    """The values of a whole column."""
    body = spec.Fields(fields.bytes(fields.varint("column: size"), "column"))
    if body.left() == 0:
        spec.check(count == 0, "column: no values")
        return []
    kind = body.u8("column: kind")
    if kind & 128:
        body.varint("column: longest value", 0, U32)
        body.u8("column: classes")
    return Column(spec, body, count, most, beside, 0).decode(kind & 127)


def decode_part(spec, fields, count, most, beside, depth):
    spec.check(depth < MOST_DEPTH, "column: parts too deep")
    body = spec.Fields(fields.bytes(fields.varint("part: size"), "part"))
    if body.left() == 0 and count == 0:
        return []
    return Column(spec, body, count, most, beside, depth + 1).decode(body.u8("part: kind"))


class Column:
    def __init__(self, spec, fields, count, most, beside, depth):
        self.spec, self.fields, self.check = spec, fields, spec.check
        self.count, self.most, self.beside, self.depth = count, most, beside, depth

    def decode(self, kind):
        kinds = [self.text, self.constant, self.dictionary, self.number, self.time, self.given,
                 self.characters, self.split, self.mixed, self.affix]
        self.check(kind < len(kinds) and self.count > 0, "column: kind")
        values = kinds[kind]()
        self.fields.end("column")
        self.check(len(values) == self.count, "column: number of values")
        self.check(sum(map(len, values)) <= self.most, "column: values too long")
        return values

    def numbers(self, count, beside=()):
        return decode_numbers(self.spec, self.fields, count, beside)

    def part(self, count, beside=(), most=None):
        return decode_part(self.spec, self.fields, count, self.most if most is None else most,
                           beside, self.depth)

    def column_beside(self, which):
        self.check(which < len(self.beside), "column: nothing beside")
        return beside_values(self.spec, self.beside[which], self.count)

    def exceptions(self):
        """By place."""
        count = self.fields.varint("exceptions", 0, self.count)
        places, place = [], -1
        for gap in self.numbers(count):
            place += gap + 1
            self.check(place < self.count, "exceptions: behind the column")
            places.append(place)
        return dict(zip(places, self.part(count) if count else []))

    def beside_rows(self, rows):
        return [(beside_values(self.spec, b, self.count), rows) for b in self.beside]

    # Kinds.

    def text(self):
        lengths = self.numbers(self.count, self.beside)
        self.check(sum(lengths) <= self.most, "text: too long")
        data, values, at = decode_bytes(self.spec, self.fields, sum(lengths)), [], 0
        for length in lengths:
            values.append(data[at:at + length])
            at += length
        return values

    def constant(self):
        value = self.fields.bytes(self.fields.left(), "constant")
        self.check(len(value) * self.count <= self.most, "constant: too long")
        return [value] * self.count

    def dictionary(self):
        size = self.fields.varint("dictionary: size", 0, self.count)
        entries = self.part(size)
        by_distance = self.fields.varint("dictionary: how", 0, 1)
        chosen, known, total = [], 0, 0
        for i, number in enumerate(self.numbers(self.count, self.beside)):
            if number == 0:
                chosen.append(known)
                known += 1
                self.check(known <= size, "dictionary: too small")
            elif by_distance:
                self.check(number <= i, "dictionary: distance")
                chosen.append(chosen[i - number])
            else:
                self.check(number <= known, "dictionary: entry")
                chosen.append(number - 1)
            total += len(entries[chosen[-1]])
            self.check(total <= self.most, "dictionary: too long")
        self.check(known == size, "dictionary: too large")
        return [entries[entry] for entry in chosen]

    def number(self):
        form = NumberFormat(self.spec, self.fields)
        relative = self.fields.varint("number: relative", 0, 32)
        base = self.column_beside(relative - 1) if relative else None
        exceptions = self.exceptions()
        rows = [i for i in range(self.count) if i not in exceptions]
        beside = self.beside_rows(rows) if exceptions else self.beside
        values = dict(exceptions)
        for i, number in zip(rows, self.numbers(len(rows), beside)):
            if form.signed or relative:
                number = unzigzag(number)
            if relative:
                number = (number + (form.parse(base[i]) or 0)) & U64
            values[i] = form.write(number)
        return [values[i] for i in range(self.count)]

    def time(self):
        form = TimeFormat(self.spec, self.fields.string("time: format", 64))
        values = self.exceptions()
        rows = [i for i in range(self.count) if i not in values]
        for i, ticks in zip(rows, self.numbers(len(rows))):
            values[i] = form.write(ticks)
        return [values[i] for i in range(self.count)]

    def given(self):
        keys = self.column_beside(self.fields.varint("given: column", 0, 32))
        misses = self.numbers(self.count, self.beside)
        self.check(all(miss <= 1 for miss in misses), "given: misses")
        rows = [i for i, miss in enumerate(misses) if miss]
        new = iter(self.part(len(rows), self.beside_rows(rows)))
        last, values = {}, []
        for key, miss in zip(keys, misses):
            values.append(next(new) if miss else last.get(key, key))
            last[key] = values[-1]
        return values

    def characters(self):
        values = self.exceptions()
        length = self.fields.varint("characters: length", 1, 64)
        rows = [i for i in range(self.count) if i not in values]
        self.check(rows and length * len(rows) <= self.most, "characters: too long")
        tables = self.spec.class_tables(self.fields)
        self.check(len(tables) in (1, length), "characters: tables")
        places = tables * (length if len(tables) == 1 else 1) * len(rows)
        data = bytes(self.spec.decode_class_rans(self.fields, places))
        for k, i in enumerate(rows):
            values[i] = data[k * length:(k + 1) * length]
        return [values[i] for i in range(self.count)]

    def split(self):
        self.check(self.depth <= 1, "split: too deep")
        number = self.fields.varint("split: fields", 2, 16)
        marks = [self.fields.string("split: mark", U64) for _ in range(number + 1)]
        values = self.exceptions()
        rows = [i for i in range(self.count) if i not in values]
        left = self.most - sum(map(len, marks)) * len(rows)
        self.check(rows and left >= 0, "split: too long")
        outer, parts = self.beside_rows(rows), []
        for _ in range(number):
            inner = [(part, None) for part in reversed(parts)]
            parts.append(self.part(len(rows), (inner + outer)[:32], left))
            left -= sum(map(len, parts[-1]))
        for k, i in enumerate(rows):
            pieces = [mark + part[k] for mark, part in zip(marks, parts)]
            values[i] = b"".join(pieces) + marks[-1]
        return [values[i] for i in range(self.count)]

    def mixed(self):
        end = self.fields.u8("mixed: end")
        size = self.fields.varint("mixed: size", 0, self.most + self.count)
        beside = read_besides(self.spec, self.fields, self.count, self.beside)
        data = decode_mix(self.spec, self.fields, size, 0, end, beside)
        values = data.split(bytes([end]))
        self.check(values.pop() == b"", "mixed: last value does not end")
        return values

    def affix(self):
        prefix = self.fields.string("affix: prefix", U64)
        suffix = self.fields.string("affix: suffix", U64)
        left = self.most - (len(prefix) + len(suffix)) * self.count
        self.check(left >= 0, "affix: too long")
        return [prefix + value + suffix for value in self.part(self.count, self.beside, left)]


def beside_values(spec, beside, count):
    values, index = beside
    spec.check(len(values if index is None else index) >= count, "beside: too few values")
    if index is None:
        return values[:count]
    spec.check(all(i < len(values) for i in index[:count]), "beside: no such value")
    return [values[i] for i in index[:count]]


def decode_bytes(spec, fields, size):
    coded = fields.varint("bytes: coded size")
    if coded == 0:
        return fields.bytes(size, "bytes")
    data = spec.decode_zstd(fields.bytes(coded, "bytes"), None, size)
    spec.check(len(data) == size, "bytes: size")
    return data


# Numbers


def unzigzag(number):
    return (number >> 1 ^ -(number & 1)) & U64


def least_of(magnitude):
    return magnitude if magnitude < 16 else (4 + (magnitude & 3)) << low_bits(magnitude)


def low_bits(magnitude):
    return 0 if magnitude < 16 else (magnitude - 16) // 4 + 2


def unpack(spec, fields, widths):
    total = sum(widths)
    value = int.from_bytes(fields.bytes((total + 7) // 8, "numbers: bits"), "little")
    data, at = [], 0
    for width in widths:
        data.append(value >> at & (1 << width) - 1)
        at += width
    return data


def decode_numbers(spec, fields, count, beside):
    if count == 0:
        return []
    first = fields.u8("numbers: coding")
    coding, transform = first & 15, first >> 4
    spec.check(coding <= 6 and transform <= 2, "numbers: coding")
    if coding == 0:
        numbers = [fields.varint("numbers: all")] * count
    elif coding == 1:
        base, width = fields.varint("numbers: base"), fields.u8("numbers: width")
        spec.check(width <= 64, "numbers: width")
        numbers = [base + x & U64 for x in unpack(spec, fields, [width] * count)]
    elif coding in (2, 6):
        if coding == 2:
            tables = spec.class_tables(fields)
            magnitudes = spec.decode_class_rans(fields, [tables[0]] * count)[:count]
        else:
            besides = read_besides(spec, fields, count, beside)
            magnitudes = decode_mix(spec, fields, count, 1, None, besides)
        low = unpack(spec, fields, [low_bits(m) for m in magnitudes])
        numbers = [least_of(m) | x for m, x in zip(magnitudes, low)]
    else:
        width = fields.u8("numbers: width")
        spec.check(1 <= width <= 8, "numbers: width")
        if coding == 5:
            besides = read_besides(spec, fields, count, beside)
            data = decode_mix(spec, fields, count * width, width, None, besides)
            rows = [data[i * width:(i + 1) * width] for i in range(count)]
            numbers = [int.from_bytes(row, "big") for row in rows]
        else:
            data = decode_bytes(spec, fields, count * width)
            rows = [data[i * width:(i + 1) * width] if coding == 3 else data[i::count]
                    for i in range(count)]
            numbers = [int.from_bytes(row, "little") for row in rows]
    for _ in range(transform):
        numbers = numbers if _ else [unzigzag(x) for x in numbers]
        total = 0
        for i, number in enumerate(numbers):
            total = (total + number) & U64
            numbers[i] = total
    return numbers


class NumberFormat:
    def __init__(self, spec, fields):
        flags, self.width, self.scale = (fields.u8("number: format") for _ in range(3))
        self.hex, self.upper, self.signed, self.spaces, self.trimmed = (
            flags >> bit & 1 for bit in range(5))
        spec.check(flags < 32 and self.width <= 20 and self.scale <= 18, "number: format")
        spec.check(not (self.width and self.scale or self.hex and self.scale or
                        self.signed and self.width or self.upper and not self.hex or
                        self.spaces and not self.width or self.trimmed and not self.scale),
                   "number: format")

    def write(self, number):
        minus = b"-" if self.signed and number >> 63 else b""
        if minus:
            number = -number & U64
        if self.hex:
            digits = (b"%X" if self.upper else b"%x") % number
        elif self.scale:
            digits = b"%0*d" % (self.scale + 1, number)
            digits = digits[:-self.scale] + b"." + digits[-self.scale:]
            if self.trimmed:
                digits = digits.rstrip(b"0").rstrip(b".")
        else:
            digits = b"%d" % number
        return minus + digits.rjust(self.width, b" " if self.spaces else b"0")

    def parse(self, text):
        """The number that is written as `text`, or None."""
        digits = text.lstrip(b" ") if self.spaces else text
        minus = self.signed and digits.startswith(b"-")
        digits = digits[minus:]
        if self.scale:
            whole, _, fraction = digits.partition(b".")
            if len(fraction) > self.scale:
                return None
            digits = whole + fraction.ljust(self.scale, b"0")
        if not digits or any(c not in b"0123456789abcdefABCDEF" for c in digits):
            return None
        if not self.hex and not digits.isdigit():
            return None
        number = int(digits, 16 if self.hex else 10)
        if number > (U64 >> 1 if self.signed else U64):
            return None
        number = -number & U64 if minus else number
        return number if self.write(number) == text else None


class TimeFormat:
    MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    WEEKDAYS = b"Sun Mon Tue Wed Thu Fri Sat".split()

    def __init__(self, spec, text):
        self.spec, self.fields, digits, at = spec, [], 0, 0
        while at < len(text):
            kind = text[at:at + 1]
            at += 1
            if kind != b"%":
                self.fields.append(("", kind))
                continue
            kind = text[at:at + 1].decode("latin1")
            at += 1
            spec.check(kind and kind in "%123456789YymbdeaHMS", "time: field")
            if kind == "%":
                self.fields.append(("", b"%"))
                continue
            if kind.isdigit():
                digits, kind = int(kind), "f"
            spec.check(all(kind != other for other, _ in self.fields), "time: field twice")
            self.fields.append((kind, b""))
        kinds = {kind for kind, _ in self.fields if kind}
        spec.check(kinds and all(not {a, b} <= kinds for a, b in ("Yy", "mb", "de")),
                   "time: fields")
        self.digits, self.second = digits, 10 ** digits
        self.unit = 1 if kinds & {"S", "f"} else (
            60 if "M" in kinds else 3600 if "H" in kinds else 86400)

    def write(self, ticks):
        seconds = ticks // self.second * self.unit
        days, rest = divmod(seconds, 86400)
        self.spec.check(days < 2958464, "time: after the year 9999")
        year, month, day = civil(days)
        texts = {"Y": b"%04d" % year, "y": b"%02d" % (year % 100), "m": b"%02d" % month,
                 "b": self.MONTHS[month - 1], "d": b"%02d" % day, "e": b"%2d" % day,
                 "a": self.WEEKDAYS[(days + 1) % 7], "H": b"%02d" % (rest // 3600),
                 "M": b"%02d" % (rest // 60 % 60), "S": b"%02d" % (rest % 60),
                 "f": b"%0*d" % (self.digits, ticks % self.second)}
        return b"".join(texts[kind] if kind else literal for kind, literal in self.fields)


def civil(days):
    """Year, month and day of a number of days since the first of January 1900."""
    import datetime
    date = datetime.date(1900, 1, 1) + datetime.timedelta(days)
    return date.year, date.month, date.day


# Mixing


def hash_bytes(data):
    h = 2166136261
    for byte in data:
        h = (h ^ byte) * 16777619 & U32
    h ^= h >> 15
    return h * 0x85EBCA6B & U32


def hash2(a, b):
    h = (a * 0x2F0B4C47 + b * 0x9E3779B1) & U32
    h ^= h >> 15
    return h * 0x85EBCA6B & U32


def read_besides(spec, fields, count, beside):
    found = []
    for _ in range(fields.varint("besides", 0, 2)):
        which = fields.varint("besides: column", 0, 32)
        spec.check(which < len(beside), "besides: no such column")
        values = beside_values(spec, beside[which], count)
        found.append([hash_bytes(value) for value in values])
    return found


def make_histories():
    most = [41, 40, 12, 8, 6, 5]

    def exists(z, o):
        return min(z, o) <= 5 and max(z, o) <= most[min(z, o)]

    def knows(z, o):
        return z > 0 and o > 0 and z + o <= 12

    states = [(z, total - z, last) for total in range(83) for z in range(total, -1, -1)
              if exists(z, total - z) for last in range(1 + knows(z, total - z))]
    number = {state: i for i, state in enumerate(states)}
    steps, guesses = [], []
    for z, o, last in states:
        both = []
        for y in (0, 1):
            n = [z, o]
            n[y] += 1
            if n[1 - y] > 2:
                n[1 - y] = ([2, 3, 3, 4, 4, 4, 5, 5, 5] + [6] * 50)[n[1 - y] - 3]
            while not exists(*n):
                big = 0 if n[0] > n[1] else 1
                n[big if n[1 - big] <= 5 and n[big] > most[n[1 - big]] else 1 - big] -= 1
            both.append(number[n[0], n[1], y if knows(*n) else 0])
        steps.append(both)
        guess = (5 * o + 2) * 65536 // (5 * (z + o) + 4)
        guesses.append((7 * guess + 65536 * last) // 8 if knows(z, o) else guess)
    return steps, guesses


def make_curves():
    squash, e = {}, 1 << 32
    for x in range(3072):
        total = (1 << 32) + e
        squash[x] = min(((1 << 48) + total // 2) // total, 65535)
        if x:
            squash[-x] = 65536 - squash[x]
        e = (e * 4278222805 + (1 << 31)) >> 32
    stretch, x = [], -3071
    for p in range(4096):
        while squash[x] < p * 16 + 8:
            x += 1
        stretch.append(x)
    return squash, stretch


NEXT, GUESS = make_histories()
SQUASH, STRETCH = make_curves()


def wrap(x):
    return (x + (1 << 31)) % (1 << 32) - (1 << 31)


def limit(x):
    return max(-3071, min(3071, x))


def bit_length(x, least, greatest):
    return max(least, min(greatest, x.bit_length()))


class Mix:
    """Predicts the bits of records."""

    def __init__(self, size, width, end, besides):
        self.width, self.end, self.besides = width, end, besides
        self.line_bits = max(8, min(17, size.bit_length() - 1))
        self.index_bits = bit_length(size, 8, 20)
        self.lines, self.index = {}, {}
        self.maps = [[g << 16 for g in GUESS] for _ in range(8)]
        self.match_map = [[(65535 - 32768 // (2 + k)) << 6, 0] for k in range(32)]
        self.weights = [{}, {}]
        self.final = {}
        self.refined = {}
        self.arena = bytearray(32)
        self.line = self.above = 32
        self.place_of_match = self.length = 0
        self.expected = None
        self.before, self.record, self.place, self.prefix = [0] * 4, 0, 0, 0
        self.age = 0
        self.begin_byte()

    def besides_here(self):
        return [b[self.record] if self.record < len(b) else 0 for b in self.besides] + [0, 0]

    def begin_byte(self):
        h, v = self.prefix, self.before
        b0, b1 = self.besides_here()[:2]
        one, two = len(self.besides) > 0, len(self.besides) > 1

        def add(a, b):
            return (a + b) & U32

        if not self.width:
            back = [self.arena[-k] for k in range(1, 6)]
            above = self.arena[self.above] if self.above < len(self.arena) else 0
            self.hashes = [
                hash2(h, 0x10000), hash2(add(h, v[0]), 0x20000), hash2(h, add(b0, 0x30000)),
                hash2(h, add(b1, 0x40000)) if two else hash2(add(h, v[0]), add(v[1], 0x40000)),
                hash2(back[0] << 8 | above, 0x50000), hash2(back[1] << 8 | back[0], 0x60000),
                hash2(back[2] << 16 | back[1] << 8 | back[0], 0x70000),
                hash2(back[3] << 24 | back[2] << 16 | back[1] << 8 | back[0],
                      back[4] + 0x80000)]
        else:
            self.hashes = [
                hash2(h, 0x10000), hash2(add(h, v[0]), 0x20000),
                hash2(add(h, v[0]), add(v[1], 0x30000)),
                hash2(add(h, hash2(v[0], v[1])), add(v[2], 0x40000)),
                hash2(h, add(b0 if one else v[1], 0x50000)),
                hash2(h, add(b1 if two else v[2], 0x60000)),
                hash2(add(h, b0), add(v[0], 0x70000)) if one else
                hash2(add(h, v[1]), add(v[2], 0x70000)),
                hash2(add(h, b0), add(b1, 0x80000)) if two else
                hash2(add(h, hash2(v[0], v[1])), add(hash2(v[2], v[3]), 0x80000))]
        self.path = 1
        self.find_slots()

    def find_slots(self):
        self.slots = []
        for h in self.hashes:
            line = self.lines.setdefault(h >> 32 - self.line_bits,
                                         [[0] * 16 for _ in range(4)])
            slot = next((s for s in line if s[0] == h & 255), None)
            if slot is None:
                slot = min(line, key=lambda s: s[1])
                slot[:] = [h & 255] + [0] * 15
            self.slots.append(slot)
        self.known = sum(slot[1] != 0 for slot in self.slots)
        self.node = 1

    def predict(self):
        bits = self.path.bit_length() - 1
        inputs = [0] * 16
        for i, slot in enumerate(self.slots):
            average = self.maps[i][slot[self.node]]
            inputs[i] = STRETCH[average >> 20]
            if i:
                inputs[8 + i] = ((average >> 16) - 32768) >> 4
        certainty = min(self.place, 3)
        if not self.width:
            certainty = 0
            if self.expected is not None and (256 | self.expected) >> 8 - bits == self.path:
                entry = self.match_map[min(self.length, 31)]
                x = STRETCH[entry[0] >> 10]
                self.expected_bit = self.expected >> 7 - bits & 1
                inputs[8] = x if self.expected_bit else -x
                certainty = 1 if self.length < 12 else 2 if self.length < 24 else 3
            else:
                self.expected = None
        self.chosen = [self.path, (self.known * 4 + certainty) * 8 + bits]
        sets = [self.weights[s].setdefault(c, [14000] * 8 + [0] * 8)
                for s, c in enumerate(self.chosen)]
        final = self.final.setdefault(self.path, [32768] * 2)
        self.mixes = [limit(wrap(sum(x * w >> 8 for x, w in zip(inputs, weights)) + 128) >> 8)
                      for weights in sets]
        x = limit((sum(m * w for m, w in zip(self.mixes, final)) + 32768) >> 16)
        self.inputs, self.sets, self.final_set, self.p = inputs, sets, final, SQUASH[x]
        points = self.refined.setdefault(
            self.path, [SQUASH[limit(128 * j - 1984)] for j in range(32)])
        spot = max(-1984, min(1983, x)) + 1984
        j, w = spot >> 7, spot & 127
        self.point = (points, j + (w >> 6))
        return (self.p + (points[j] * (128 - w) + points[j + 1] * w >> 7) + 1) >> 1

    def learn(self, bit):
        for i, slot in enumerate(self.slots):
            average, state = self.maps[i], slot[self.node]
            p = average[state]
            average[state] = p + ((U32 - p) >> 6) if bit else p - (p >> 6)
        # After all maps, each with its own state: then the states move on.
        for slot in self.slots:
            slot[self.node] = NEXT[slot[self.node]][bit]
        if not self.width and self.expected is not None:
            entry = self.match_map[min(self.length, 31)]
            target = (1 << 22) - 1 if bit == self.expected_bit else 0
            entry[0] += (target - entry[0]) * (131072 // (2 * entry[1] + 3)) >> 16
            entry[1] += entry[1] < 255
        rate = 60 + (32768 - self.age >> 7)
        self.age += self.age < 32768
        one = 65536 * bit
        for mix, weights in zip(self.mixes, self.sets):
            error = (one - SQUASH[mix]) * rate >> 8
            for i, x in enumerate(self.inputs):
                weights[i] = wrap(weights[i] + (wrap(x * error + 32768) >> 16))
        error = (one - self.p) * 12 >> 8
        for s, mix in enumerate(self.mixes):
            self.final_set[s] = wrap(self.final_set[s] + (mix * error + 32768 >> 16))
        points, j = self.point
        points[j] += (65535 if bit else 1) - points[j] >> 5
        self.path = self.path << 1 | bit
        self.node = self.node << 1 | bit
        if self.path >= 256:
            self.enter(self.path & 255)
            self.begin_byte()
        elif 16 <= self.path < 32:
            self.hashes = [hash2(h, (self.path & 15) + 1) for h in self.hashes]
            self.find_slots()

    def enter(self, byte):
        self.place += 1
        self.prefix = hash2((self.prefix + byte + 1) & U32, self.place)
        if not self.width:
            self.arena.append(byte)
            position = len(self.arena)
            self.above += self.above + 1 < self.line
            self.follow(position)
            if byte != self.end:
                return
            self.above, self.line = self.line, position
        elif self.place < self.width:
            return
        self.before = [self.prefix] + self.before[:3]
        self.record, self.place, self.prefix = self.record + 1, 0, 0

    def follow(self, position):
        back = [self.arena[-k] for k in range(1, 6)]
        entry = hash2(back[3] << 24 | back[2] << 16 | back[1] << 8 | back[0],
                      back[4]) >> 32 - self.index_bits
        if self.length > 0 and self.arena[self.place_of_match] == back[0]:
            self.place_of_match += 1
            self.length = min(self.length + 1, 65535)
        else:
            at = self.index.get(entry, 0)
            self.place_of_match, self.length = at, 0
            if at:
                length = 0
                while length < 32 and self.arena[at - 1 - length] == self.arena[
                        position - 1 - length]:
                    length += 1
                self.length = length if length >= 5 else 0
        self.index[entry] = position
        self.expected = None
        if self.length > 0:
            at = self.place_of_match
            self.expected = self.arena[at] if at < position else 0


def decode_mix(spec, fields, size, width, end, besides):
    code = fields.bytes(fields.varint("mixing: size"), "mixing")
    coder, model, data = spec.BitCoder(code), Mix(size, width, end, besides), bytearray()
    for _ in range(size):
        byte = 0
        for _ in range(8):
            bit = coder.code(model.predict())
            model.learn(bit)
            byte = byte << 1 | bit
        data.append(byte)
    spec.check(coder.ended(), "mixing: size of the code")
    return bytes(data)
