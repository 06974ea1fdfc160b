"""What mamba_ssm and flash-linear-attention need at the shapes of a run of bench_scans or bench_matrix_state --json, on the same NVIDIA GPU:

    python3 gpu_scan_peers.py STRAND.jsonl

One line of JSON a result, as gpu_peers.py writes them (its `say`, `absent` and `timed`): `row` the operator, `case` the shape, `who` the function and the
type that it was given. Single steps update a state in place. What is not installed, or does not do a shape, is a line with `absent`.
"""
import json
import re
import sys

from gpu_peers import absent, say, timed, torch_or_none


def numbers(shape):
    return {name: int(n) for name, n in re.findall(r"\b([A-Z])=(\d+)", shape)}


def random(torch, *dims, low=-1.0, high=1.0, kind=None):
    t = torch.rand(*dims, device="cuda") * (high - low) + low
    return t.to(kind) if kind is not None else t


def selective_scan(torch, shape, s, kind):
    length, d, n = s["L"], s["D"], s["N"]
    a = random(torch, d, n, low=-n, high=-0.5)
    gated = "gated" in shape
    if length == 1:
        from mamba_ssm.ops.triton.selective_state_update import selective_state_update

        state = torch.zeros(1, d, n, device="cuda")
        x, dt, b, c = random(torch, 1, d, kind=kind), random(torch, 1, d, low=-5, kind=kind), random(torch, 1, n, kind=kind), random(torch, 1, n, kind=kind)
        return "selective_state_update", lambda: selective_state_update(state, x, dt, a, b, c, dt_softplus=True)
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    u, dt = random(torch, 1, d, length, kind=kind), random(torch, 1, d, length, low=-5, kind=kind)
    b, c = random(torch, 1, n, length, kind=kind), random(torch, 1, n, length, kind=kind)
    skip, z = (random(torch, d), random(torch, 1, d, length, kind=kind)) if gated else (None, None)
    return "selective_scan_fn", lambda: selective_scan_fn(u, dt, a, b, c, D=skip, z=z, delta_softplus=True, return_last_state=True)


def ssd(torch, shape, s, kind):
    length, h, p, n = s["L"], s["H"], s["P"], s["N"]
    a, bias, skip = random(torch, h, low=-2, high=-0.1), random(torch, h), random(torch, h)
    if length == 1:
        from mamba_ssm.ops.triton.selective_state_update import selective_state_update

        state = torch.zeros(1, h, p, n, device="cuda")
        x, b, c = random(torch, 1, h, p, kind=kind), random(torch, 1, 1, n, kind=kind), random(torch, 1, 1, n, kind=kind)
        dt = random(torch, 1, h, kind=kind)[:, :, None].expand(1, h, p)
        wide = [a[:, None, None].expand(h, p, n), skip[:, None].expand(h, p), bias[:, None].expand(h, p)]
        return "selective_state_update", lambda: selective_state_update(state, x, dt, wide[0], b, c, D=wide[1], dt_bias=wide[2], dt_softplus=True)
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    x, dt = random(torch, 1, length, h, p, kind=kind), random(torch, 1, length, h, low=-3, kind=kind)
    b, c = random(torch, 1, length, 1, n, kind=kind), random(torch, 1, length, 1, n, kind=kind)
    return "mamba_chunk_scan_combined", lambda: mamba_chunk_scan_combined(x, dt, a, b, c, 256, D=skip, dt_bias=bias, dt_softplus=True, return_final_states=True)


def gated_linear_attention(torch, shape, s, kind, bonus=False):
    length, h, k, v = s["L"], s["H"], s["K"], s["V"]
    q, key, value = (random(torch, 1, length, h, w, kind=kind) for w in (k, k, v))
    w, state = random(torch, 1, length, h, k, high=-0.01, kind=kind), torch.zeros(1, h, k, v, device="cuda")
    more = {"scale": 0.125, "initial_state": state, "output_final_state": True}
    if bonus:
        from fla.ops.rwkv6 import chunk_rwkv6, fused_recurrent_rwkv6

        u = random(torch, h, k, kind=kind)
        return ("fused_recurrent_rwkv6", lambda: fused_recurrent_rwkv6(q, key, value, w, u, **more)) if length == 1 else \
               ("chunk_rwkv6", lambda: chunk_rwkv6(q, key, value, w, u, **more))
    from fla.ops.gla import chunk_gla, fused_recurrent_gla

    return ("fused_recurrent_gla", lambda: fused_recurrent_gla(q, key, value, gk=w, **more)) if length == 1 else \
           ("chunk_gla", lambda: chunk_gla(q, key, value, g=w, **more))


def delta_rule(torch, shape, s, kind):
    length, h, k, v = s["L"], s["H"], s["K"], s["V"]
    from fla.ops import rwkv7

    r, key, a = (random(torch, 1, length, h, k, low=-0.1, high=0.1, kind=kind) for _ in range(3))
    w, value, b = random(torch, 1, length, h, k, low=-0.6, high=-0.01, kind=kind), random(torch, 1, length, h, v, kind=kind), -a * 0.5
    more = {"scale": 1.0, "initial_state": torch.zeros(1, h, k, v, device="cuda"), "output_final_state": True}
    if length == 1 and hasattr(rwkv7, "fused_recurrent_rwkv7"):
        return "fused_recurrent_rwkv7", lambda: rwkv7.fused_recurrent_rwkv7(r, w, key, value, a, b, **more)
    return "chunk_rwkv7", lambda: rwkv7.chunk_rwkv7(r, w, key, value, a, b, **more)


MAKERS = {"selective_scan": selective_scan, "ssd": ssd, "gated_linear_attention": gated_linear_attention, "delta_rule": delta_rule,
          "gated_linear_attention+u": lambda torch, shape, s, kind: gated_linear_attention(torch, shape, s, kind, True)}


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    torch = torch_or_none("scans")
    if torch is None:
        return 0
    missing = set()
    for line in open(sys.argv[1]):
        row = json.loads(line) if line.startswith("{") else {}
        if row.get("op") not in MAKERS:
            continue
        for kind, name in ((torch.float32, "F32"), (torch.bfloat16, "BF16")):
            try:
                with torch.no_grad():
                    who, run = MAKERS[row["op"]](torch, row["shape"], numbers(row["shape"]), kind)
                    say(row["op"], row["shape"], f"{who}, {name}", timed(torch, run))
            except Exception as e:  # kernels that are compiled as they are called fail in many ways
                text = f"{row['shape']} {name}: {type(e).__name__}: {e}" if not isinstance(e, ImportError) else str(e)
                if (row["op"], text) not in missing:
                    absent(row["op"], "mamba_ssm" if row["op"] in ("selective_scan", "ssd") else "fla", text)
                missing.add((row["op"], text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
