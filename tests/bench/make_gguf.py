#!/usr/bin/env python3
"""Writes a GGUF file of a published shape with random F32 weights, complete enough for Strand and for llama.cpp.

    tests/bench/make_gguf.py mamba|rwkv7|llama FILE.gguf [--layers N] [--width N] [--vocabulary N]

    mamba  Mamba-130M: 24 layers, 768 wide, 50,280 tokens
    rwkv7  RWKV-7 0.19B: 12 layers, 768 wide, heads of 64, 65,536 tokens
    llama  12 layers, 768 wide, 12 heads on 4, feed-forward 2,048, 32,000 tokens: 126 M

Other sizes scale the shape (tests). `strand quantize FILE.gguf -t q8_0 -o ...` makes the other types. The vocabulary is SentencePiece's kind
with single characters and bytes, so that a text of n characters has n + 1 tokens. Values repeat after a million: they are for timing.
"""
import argparse, array, math, random, struct

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("family", choices=["mamba", "rwkv7", "llama"]), parser.add_argument("file")
parser.add_argument("--layers", type=int, default=0), parser.add_argument("--width", type=int, default=768), parser.add_argument("--vocabulary", type=int, default=0)
a = parser.parse_args()
random.seed(8)
d, L = a.width, a.layers or {"mamba": 24, "rwkv7": 12, "llama": 12}[a.family]
V = a.vocabulary or {"mamba": 50280, "rwkv7": 65536, "llama": 32000}[a.family]
U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
tensors, meta = [], []


def text(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def put(key, kind, value):
    meta.append(text(key) + struct.pack("<I", kind) + value)


def u32(key, v):
    put(f"{a.family}.{key}", U32, struct.pack("<I", v))


def f32(key, v):
    put(f"{a.family}.{key}", F32, struct.pack("<f", v))


def tensor(name, *dims, mean=0.0, spread=None):
    """dims as in torch. spread: None for a matrix (1 / sqrt(columns))."""
    tensors.append((name, dims, mean, 1 / math.sqrt(dims[-1]) if spread is None else spread))


def norm(name, n, bias=False):
    tensor(name + ".weight", n, mean=1, spread=0.05)
    if bias:
        tensor(name + ".bias", n, spread=0.05)


put("general.architecture", STRING, text(a.family))
put("general.name", STRING, text(f"{a.family} of random weights"))
u32("context_length", 1 << 20 if a.family != "llama" else 8192), u32("embedding_length", d), u32("block_count", L)
u32("vocab_size", V)
tensor("token_embd.weight", V, d, spread=0.5 if a.family != "rwkv7" else 1)
norm("output_norm", d, a.family == "rwkv7")
if a.family == "mamba":
    inner, states, rank = 2 * d, 16, max(1, d // 16)
    u32("feed_forward_length", 0), u32("attention.head_count", 0), f32("attention.layer_norm_rms_epsilon", 1e-5)
    u32("ssm.conv_kernel", 4), u32("ssm.inner_size", inner), u32("ssm.state_size", states), u32("ssm.time_step_rank", rank)
    for i in range(L):
        p = f"blk.{i}."
        norm(p + "attn_norm", d)
        tensor(p + "ssm_in.weight", 2 * inner, d), tensor(p + "ssm_conv1d.weight", inner, 4), tensor(p + "ssm_conv1d.bias", inner, spread=0.1)
        tensor(p + "ssm_x.weight", rank + 2 * states, inner), tensor(p + "ssm_dt.weight", inner, rank), tensor(p + "ssm_dt.bias", inner, mean=-4, spread=1)
        tensor(p + "ssm_a", inner, states, mean=-8, spread=1.5), tensor(p + "ssm_d", inner, mean=1, spread=0.1), tensor(p + "ssm_out.weight", d, inner)
elif a.family == "rwkv7":
    ranks, inner = {"w": 64, "a": 64, "v": 32, "g": 128}, 4 * d
    u32("feed_forward_length", inner), u32("attention.head_count", 0), f32("attention.layer_norm_epsilon", 1e-5), u32("wkv.head_size", 64)
    for key, r in (("decay", "w"), ("iclr", "a"), ("value_residual_mix", "v"), ("gate", "g")):
        u32(f"attention.{key}_lora_rank", ranks[r])
    u32("token_shift_count", 2)
    norm("token_embd_norm", d, True), tensor("output.weight", V, d)
    for i in range(L):
        p = f"blk.{i}."
        norm(p + "attn_norm", d, True), norm(p + "attn_norm_2", d, True), norm(p + "time_mix_ln", d, True)
        for r, n in ranks.items():
            n = ranks["a"] if r == "v" and i == 0 else n
            tensor(p + f"time_mix_{r}1.weight", n, d), tensor(p + f"time_mix_{r}2.weight", d, n)
        for v, mean in (("w0", -2), ("a0", 0), ("v0", 0), ("k_k", 0.8), ("k_a", 1), ("r_k", 0)):
            tensor(p + f"time_mix_{v}.weight", d, mean=mean, spread=0.2)
        tensor(p + "time_mix_lerp_fused.weight", 6, 1, 1, d, mean=0.5, spread=0.2), tensor(p + "channel_mix_lerp_k.weight", 1, 1, d, mean=0.5, spread=0.2)
        for m in ("key", "value", "receptance", "output"):
            tensor(p + f"time_mix_{m}.weight", d, d)
        tensor(p + "channel_mix_key.weight", inner, d), tensor(p + "channel_mix_value.weight", d, inner)
else:
    heads, inner = max(1, d // 64), d * 8 // 3
    shared = heads // 3 if heads % 3 == 0 else heads
    u32("feed_forward_length", inner), f32("attention.layer_norm_rms_epsilon", 1e-5), u32("rope.dimension_count", d // heads), f32("rope.freq_base", 10000)
    u32("attention.head_count", heads), u32("attention.head_count_kv", shared)
    tensor("output.weight", V, d)
    for i in range(L):
        p = f"blk.{i}."
        norm(p + "attn_norm", d), norm(p + "ffn_norm", d)
        tensor(p + "attn_q.weight", d, d), tensor(p + "attn_k.weight", shared * d // heads, d), tensor(p + "attn_v.weight", shared * d // heads, d)
        tensor(p + "attn_output.weight", d, d)
        tensor(p + "ffn_gate.weight", inner, d), tensor(p + "ffn_up.weight", inner, d), tensor(p + "ffn_down.weight", d, inner)

# kinds: 1 normal, 2 unknown, 3 control, 6 byte
words = [("<unk>", 2), ("<s>", 3), ("</s>", 3)] + [(f"<0x{i:02X}>", 6) for i in range(256)] + [(c, 1) for c in "\u2581" + "".join(map(chr, range(33, 127)))]
words = (words + [(f"\u2581word{i}", 1) for i in range(len(words), V)])[:V]
put("tokenizer.ggml.model", STRING, text("llama"))
put("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, V) + b"".join(text(w) for w, _ in words))
put("tokenizer.ggml.scores", ARRAY, struct.pack(f"<IQ{V}f", F32, V, *(-float(i) for i in range(V))))
put("tokenizer.ggml.token_type", ARRAY, struct.pack(f"<IQ{V}i", I32, V, *(k for _, k in words)))
for key, n in (("unknown", 0), ("bos", 1), ("eos", 2)):
    put(f"tokenizer.ggml.{key}_token_id", U32, struct.pack("<I", n))

BASE = [random.gauss(0, 1) for _ in range(1000003)]
tables = {}


def values(n, mean, spread):
    """n floats as bytes, from a table that repeats."""
    if (mean, spread) not in tables:
        tables[mean, spread] = array.array("f", (mean + spread * x for x in BASE)).tobytes()
    table, at = tables[mean, spread], 4 * random.randrange(len(BASE))
    out = table[at : at + 4 * n]
    while len(out) < 4 * n:
        yield out
        n -= len(out) // 4
        out = table[: 4 * n]
    yield out


with open(a.file, "wb") as f:
    f.write(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(meta)) + b"".join(meta))
    at = 0
    for name, dims, _, _ in tensors:
        f.write(text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *reversed(dims), 0, at))
        at += (4 * math.prod(dims) + 31) // 32 * 32
    f.write(b"\0" * (-f.tell() % 32))
    for name, dims, mean, spread in tensors:
        for part in values(math.prod(dims), mean, spread):
            f.write(part)
        f.write(b"\0" * (-f.tell() % 32))
