"""OpenZL: graphs of its own nodes, none of them trained; sign and fraction apart from exponent."""
NAME = "OpenZL"
PACKAGES = ("openzl", "numpy")
THREADS = (1,)


def methods(dtype):
    return ["FSE", "Huffman"] if dtype in ("bf16", "fp16", "fp32") else ["serial", "entropy"]


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
    import numpy
    from openzl import ext

    compressor = ext.Compressor()
    compressor.set_parameter(ext.CParam.FormatVersion, ext.MAX_FORMAT_VERSION)
    # A file whose length is no multiple of the element's is then taken as bytes.
    compressor.set_parameter(ext.CParam.PermissiveCompression, 1)
    compressor.select_starting_graph(graph(compressor, method, dtype))

    def compress(data):
        context = ext.CCtx()
        context.ref_compressor(compressor)
        return context.compress([ext.Input(ext.Type.Serial,
                                           numpy.frombuffer(data, numpy.uint8))])

    def decompress(data):
        return ext.DCtx().decompress(data)[0].content.as_bytes()

    return compress, decompress
