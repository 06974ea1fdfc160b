"""What other programs need on the same NVIDIA GPU, for tests/gpu/run. Every result is one line of JSON: row, case, who, seconds (a
median), p10, p90; what is not here is one line {"row", "who", "absent": why}. Needs PyTorch with CUDA; no network.

    python3 gpu_peers.py products STRAND.jsonl        torch.matmul at the shapes of a run of bench_matmul --json
    python3 gpu_peers.py hyenadna FOLDER LENGTHS      the forward pass of hyenadna_torch.py in F32 and in BF16, and its memory
    python3 gpu_peers.py mamba [TOKENS]               mamba_ssm's generation with CUDA graphs, of the shape that make-mamba makes
    python3 gpu_peers.py make-mamba FOLDER            random weights of Mamba-130M's shape (MAMBA_LAYERS: fewer than 24)
    python3 gpu_peers.py llama-mamba FILE.gguf        llama-bench's tokens, where a build with CUDA is on PATH
"""
import importlib.util
import json
import math
import os
import random
import re
import shutil
import statistics
import struct
import subprocess
import sys
import time

ROUNDS = int(os.environ.get("ROUNDS", "9"))


def say(row, case, who, seconds, **more):
    t = sorted(seconds)
    n = len(t)
    line = {"row": row, "case": case, "who": who, "seconds": statistics.median(t), "p10": t[n // 10], "p90": t[n - 1 - n // 10]}
    print(json.dumps({**line, **more}), flush=True)


def absent(row, who, why):
    print(json.dumps({"row": row, "who": who, "absent": why.strip().splitlines()[0][:160] if why.strip() else "no reason given"}), flush=True)


def torch_or_none(row):
    try:
        import torch
    except ImportError:
        return absent(row, "PyTorch", "PyTorch is not installed")
    if not torch.cuda.is_available():
        return absent(row, "PyTorch", "PyTorch sees no CUDA device")
    return torch


def timed(torch, run, rounds=ROUNDS, at_least=2e-3):
    """Seconds of a run, each round long enough for the clock."""
    run()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    run()
    torch.cuda.synchronize()
    times = max(1, int(at_least / max(time.perf_counter() - begin, 1e-6)))
    out = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(times):
            run()
        torch.cuda.synchronize()
        out.append((time.perf_counter() - begin) / times)
    return out


def products(path):
    torch = torch_or_none("matmul")
    if torch is None:
        return
    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    torch.backends.cuda.matmul.allow_tf32 = False
    for line in open(path):
        shape = json.loads(line).get("shape", "") if line.startswith("{") else ""
        m = re.match(r"(\d+)x(\d+)x(\d+) \[(N,K|K,N)\] (F32|F16|BF16)( as BF16)?, batch (\d+)$", shape)
        if not m:
            continue
        rows, n, k, batch = int(m[1]), int(m[2]), int(m[3]), int(m[7])
        kind = torch.bfloat16 if m[6] else types[m[5]]
        try:
            a = torch.randn(batch, rows, k, device="cuda", dtype=kind)
            b = torch.randn(*((batch, n, k) if m[4] == "N,K" else (batch, k, n)), device="cuda", dtype=kind)
            b = b.transpose(1, 2) if m[4] == "N,K" else b
            say("matmul", shape, "PyTorch", timed(torch, lambda: torch.matmul(a, b)))
        except torch.cuda.OutOfMemoryError:
            absent("matmul", "PyTorch", f"{shape}: not enough memory")


def hyenadna(folder, lengths):
    torch = torch_or_none("hyenadna")
    if torch is None:
        return
    spec = importlib.util.spec_from_file_location("hyenadna_torch", os.path.join(os.path.dirname(__file__), "hyenadna_torch.py"))
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    config = json.load(open(os.path.join(folder, "config.json")))
    n, shift = config.get("layer", config)["l_max"], config.get("layer", {}).get("shift", 0.05)
    w = {name: t.cuda() for name, t in peer.read(os.path.join(folder, "model.safetensors")).items()}
    torch.backends.cuda.matmul.allow_tf32 = False
    for length in lengths:
        ids = torch.randint(7, 11, (1, length), device="cuda")
        for name, kind in (("f32", None), ("bf16", torch.bfloat16)):
            spectra = {}
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            try:
                with torch.no_grad(), torch.autocast("cuda", kind or torch.bfloat16, enabled=kind is not None):
                    seconds = timed(torch, lambda: peer.forward(w, ids, n, shift, spectra), max(3, ROUNDS // 2 + 1))
                say("hyenadna", f"{length} {name}", "PyTorch", seconds, memory=torch.cuda.max_memory_allocated())
            except torch.cuda.OutOfMemoryError:
                absent("hyenadna", "PyTorch", f"{length} {name}: not enough memory")


MAMBA = {"d_model": 768, "n_layer": int(os.environ.get("MAMBA_LAYERS", "24")), "vocab_size": 50280}


def make_mamba(folder):
    """The published names and shapes, F16, random values that keep a run finite: a pool of them, again and again."""
    d, inner, states, rank, taps = MAMBA["d_model"], 2 * MAMBA["d_model"], 16, MAMBA["d_model"] // 16, 4
    tensors = {"backbone.embedding.weight": (0.02, (MAMBA["vocab_size"], d)), "backbone.norm_f.weight": (1, (d,))}
    for i in range(MAMBA["n_layer"]):
        p = f"backbone.layers.{i}."
        tensors.update({p + "norm.weight": (1, (d,)), p + "mixer.A_log": ("A", (inner, states)), p + "mixer.D": (1, (inner,)),
                        p + "mixer.in_proj.weight": (0.03, (2 * inner, d)), p + "mixer.conv1d.weight": (0.3, (inner, 1, taps)),
                        p + "mixer.conv1d.bias": (0.1, (inner,)), p + "mixer.x_proj.weight": (0.02, (rank + 2 * states, inner)),
                        p + "mixer.dt_proj.weight": (0.1, (inner, rank)), p + "mixer.dt_proj.bias": (0.1, (inner,)),
                        p + "mixer.out_proj.weight": (0.02, (d, inner))})
    header, at = {}, 0
    for name, (_, shape) in tensors.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    chance, pools = random.Random(1), {"A": [math.log(s + 1) for s in range(states)], 1: [1.0]}
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for scale, shape in tensors.values():
            pool = pools.setdefault(scale, pools.get(scale) or [scale * chance.gauss(0, 1) for _ in range(99991)])
            size = 2 * math.prod(shape)
            part = struct.pack(f"<{len(pool)}e", *pool)
            f.write((part * (size // len(part) + 1))[:size])
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({**MAMBA, "ssm_cfg": {}, "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": 8, "tie_embeddings": True}, f)


def mamba(tokens):
    torch = torch_or_none("mamba-decode")
    if torch is None:
        return
    try:
        from mamba_ssm.models.config_mamba import MambaConfig
        from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel
    except Exception as e:  # a build for another PyTorch fails in many ways
        return absent("mamba-decode", "mamba_ssm", f"it cannot be imported: {e}")
    model = MambaLMHeadModel(MambaConfig(**MAMBA), device="cuda", dtype=torch.float16).eval()
    prompt = torch.randint(0, 50000, (1, 16), device="cuda")

    def run(n):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        model.generate(input_ids=prompt, max_length=prompt.shape[1] + n, cg=True, temperature=1.0, top_k=1)
        torch.cuda.synchronize()
        return time.perf_counter() - begin

    with torch.no_grad():
        run(tokens)  # records the graph
        say("mamba-decode", "130M F16", "mamba_ssm, CUDA graphs", [(run(tokens) - run(1)) / (tokens - 1) for _ in range(ROUNDS)])


def llama_mamba(path):
    program = shutil.which("llama-bench")
    if not program or not path or not os.path.exists(path):
        return absent("mamba-decode", "llama.cpp", "llama-bench is not on PATH" if not program else "no GGUF of Mamba-130M: set MAMBA_GGUF")
    done = subprocess.run([program, "-m", path, "-p", "0", "-n", "128", "-ngl", "99", "-r", str(ROUNDS), "-o", "json"], capture_output=True, text=True)
    try:
        result = json.loads(done.stdout)[0]
        if "CUDA" not in str(result.get("backends", "")):
            return absent("mamba-decode", "llama.cpp", "this llama-bench was built without CUDA")
        say("mamba-decode", "130M F16", "llama.cpp", [1 / t for t in result["samples_ts"]])
    except (ValueError, KeyError, IndexError):
        absent("mamba-decode", "llama.cpp", done.stderr or "llama-bench printed no result")


def main():
    what, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if what == "products" and len(rest) == 1:
        products(rest[0])
    elif what == "hyenadna" and len(rest) == 2:
        hyenadna(rest[0], [int(n) for n in rest[1].split(",")])
    elif what == "mamba" and len(rest) < 2:
        mamba(int(rest[0]) if rest else 128)
    elif what == "make-mamba" and len(rest) == 1:
        make_mamba(rest[0])
    elif what == "llama-mamba" and len(rest) < 2:
        llama_mamba(rest[0] if rest else "")
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
