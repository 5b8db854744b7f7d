"""OpenZL: graphs of its own nodes; sign and fraction apart from exponent. Its Python package lacks
the CSV profile of its command, so tables are cut into columns here as that does: delimiters apart,
each column by the graph that is smallest for it, as training would find it. Numbers likewise.
"""
NAME = "OpenZL"
PACKAGES = ("openzl", "numpy")
THREADS = (1,)


NUMBERS = {"int32": 4, "float32": 4, "float64": 8}  # and bytes of them


def methods(dtype):
    if dtype == "csv":
        return ["CSV columns"]
    if dtype in NUMBERS:
        return ["numbers"]
    return ["FSE", "Huffman"] if dtype in ("bf16", "fp16", "fp32") else ["serial", "entropy"]


def sequences(compressor):
    """The smallest of some graphs for numbers."""
    from openzl.ext import graphs, nodes
    generic, entropy = graphs.Compress()(compressor), graphs.Entropy()(compressor)
    lz = graphs.FieldLz(compression_level=9)(compressor)
    delta, split = nodes.DeltaInt(), nodes.TransposeSplit()
    alphabet = delta(compressor, generic)
    planes = nodes.ConvertNumToStructLE()(compressor, split(
        compressor, graphs.Zstd(compression_level=19)(compressor)))
    return graphs.BruteForce([
        generic, lz, entropy, planes, delta(compressor, lz), delta(compressor, planes),
        delta(compressor, nodes.Zigzag()(compressor, generic)),
        nodes.RangePack()(compressor, lz),
        delta(compressor, nodes.RangePack()(compressor, generic)),
        nodes.TokenizeNumeric(sort=True)(compressor, alphabet, generic),
        nodes.TokenizeNumeric(sort=True)(compressor, alphabet, entropy)])(compressor)


def column_graphs(compressor):
    """Graphs for the strings of a column."""
    from openzl.ext import graphs, nodes
    numbers = sequences(compressor)
    plain = nodes.SeparateStringComponents()(
        compressor, graphs.Zstd(compression_level=19)(compressor), numbers)
    prefixes = nodes.Prefix().build_graph(compressor, [plain, numbers])
    tokens = nodes.TokenizeString(sort=True)
    return [plain, tokens(compressor, plain, numbers), tokens(compressor, prefixes, numbers),
            nodes.ParseInt()(compressor, numbers)]


def cut_table(data):
    """Strings by column, delimiters being column 0, and the column of each string. The first line,
    and what others have beyond its columns, is of a last column."""
    import re
    most = min(data.split(b"\n", 1)[0].count(b",") + 2, 255)
    columns, tags, column = [[] for _ in range(most + 1)], [], most
    for string in re.findall(rb'"(?:[^"]|"")*"|[,\n]|[^,\n"]+|"', data):
        is_delimiter = string in (b",", b"\n")
        tags.append(0 if is_delimiter else column)
        columns[tags[-1]].append(string)
        if is_delimiter:
            column = 1 if string == b"\n" else min(column + 1, most)
    return columns, tags


def smallest(ext, content, lengths):
    """The number of the graph that is smallest for a column."""
    sizes = []
    for i in range(4):
        own = new_compressor(ext)
        own.select_starting_graph(column_graphs(own)[i])
        context = ext.CCtx()
        context.ref_compressor(own)
        try:
            sizes.append(len(context.compress([ext.Input(ext.Type.String, content, lengths)])))
        except RuntimeError:  # strings that are not all integers
            sizes.append(1 << 62)
    return sizes.index(min(sizes))


def csv_functions():
    import numpy
    from openzl import ext

    class Columns(ext.FunctionGraph):
        """What column each string is of; then the columns, each by a graph of its own."""

        def __init__(self, compressor):
            super().__init__()
            self._compressor = compressor

        def function_graph_description(self):
            return ext.FunctionGraphDescription(
                name="columns", input_type_masks=[ext.TypeMask.Numeric, ext.TypeMask.String],
                last_input_is_variable=True,
                custom_graphs=column_graphs(self._compressor) + [sequences(self._compressor)])

        def graph(self, state):
            tags, *columns = state.edges
            tags.set_destination(state.custom_graphs[-1])
            for column in columns:
                best = smallest(ext, column.input.content.as_nparray().copy(),
                                column.input.string_lens.as_nparray().copy())
                column.set_destination(state.custom_graphs[best])

    def compress(data):
        columns, tags = cut_table(data)
        compressor = new_compressor(ext)
        compressor.select_starting_graph(
            compressor.register_function_graph(Columns(compressor)))
        context = ext.CCtx()
        context.ref_compressor(compressor)
        # Inputs do not keep arrays alive.
        numbers = numpy.array(tags, numpy.uint8)
        arrays = [(numpy.frombuffer(b"".join(column), numpy.uint8),
                   numpy.array([len(string) for string in column], numpy.uint32))
                  for column in columns]
        return context.compress([ext.Input(ext.Type.Numeric, numbers)] + [
            ext.Input(ext.Type.String, *pair) for pair in arrays])

    def decompress(data):
        tags, *columns = ext.DCtx().decompress(data)
        columns = [strings(column.content.as_bytes(), column.string_lens.as_nparray().tolist())
                   for column in columns]
        return b"".join(next(columns[tag]) for tag in tags.content.as_nparray().tolist())

    return compress, decompress


def strings(data, lengths):
    at = 0
    for length in lengths:
        yield data[at:at + length]
        at += length


def numbers_graph(compressor, width):
    """The head of .npy, 128 bytes, is taken for numbers too: it costs next to nothing."""
    from openzl.ext import nodes
    convert = {4: nodes.ConvertSerialToNumLE32, 8: nodes.ConvertSerialToNumLE64}[width]
    return convert()(compressor, sequences(compressor))


def new_compressor(ext):
    compressor = ext.Compressor()
    compressor.set_parameter(ext.CParam.FormatVersion, ext.MAX_FORMAT_VERSION)
    return compressor


def graph(compressor, method, dtype):
    from openzl.ext import graphs, nodes
    if method == "serial":
        return graphs.Compress()(compressor)
    if method == "entropy":
        return graphs.Entropy()(compressor)
    exponents = graphs.Fse() if method == "FSE" else graphs.Huffman()
    convert, deconstruct, fraction = {
        "bf16": (nodes.ConvertSerialToNumLE16, nodes.BFloat16Deconstruct, graphs.Store()),
        "fp16": (nodes.ConvertSerialToNumLE16, nodes.Float16Deconstruct, graphs.Entropy()),
        "fp32": (nodes.ConvertSerialToNumLE32, nodes.Float32Deconstruct,
                 nodes.TransposeSplit()(compressor, graphs.Entropy())),
    }[dtype]
    return convert()(compressor, deconstruct()(compressor, fraction, exponents))


def load(method, dtype, threads):
    if dtype == "csv":
        return csv_functions()
    import numpy
    from openzl import ext

    compressor = new_compressor(ext)
    # A file whose length is no multiple of the element's is then taken as bytes.
    compressor.set_parameter(ext.CParam.PermissiveCompression, 1)
    if method == "numbers":
        start = numbers_graph(compressor, NUMBERS[dtype])
    else:
        start = graph(compressor, method, dtype)
    compressor.select_starting_graph(start)

    def compress(data):
        context = ext.CCtx()
        context.ref_compressor(compressor)
        return context.compress([ext.Input(ext.Type.Serial,
                                           numpy.frombuffer(data, numpy.uint8))])

    def decompress(data):
        return ext.DCtx().decompress(data)[0].content.as_bytes()

    return compress, decompress
