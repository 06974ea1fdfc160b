"""PyTorch's attention (Flash and cuDNN back ends) and what the card can do, at the rows of bench_attention on the same card.

    python3 attention_torch.py ROWS [ROUNDS]

ROWS: what bench_attention --json printed. Each row of F16 or BF16 keys without a window is done by PyTorch at the same shape (its queries
are of the keys' type), in ROUNDS (9) interleaved rounds with the floors: a copy of the row's bytes; its products, by a product of 8192 x
8192 x 8192 in that type; its exponentials, 2^x of the special unit in registers. Lines of JSON for tests/gpu/table.
"""
import json
import re
import statistics
import sys

SIDE, CHAIN, ITEMS = 8192, 1024, 1 << 22


def rows_of(path):
    with open(path) as file:
        return [json.loads(line) for line in file if line.startswith("{")]


def shape_of(row):
    if row.get("op") not in ("attention", "step"):
        return None
    found = re.match(r"B=(\d+) L=(\d+) S=(\d+) H=(\d+)/(\d+) d=(\d+) (\w+)(.*)", row["shape"])
    if not found or found[7] == "F32" or "window" in found[8]:
        return None
    return [int(found[i]) for i in range(1, 7)] + [found[7], "causal" in found[8]]


class Torch:
    def __init__(self):
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        if not torch.cuda.is_available():
            raise ImportError("no GPU")
        self.torch, self.kernel = torch, sdpa_kernel
        self.backends = {"Flash": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION}
        self.exponentials = torch.cuda.jiterator._create_jit_fn(
            """template <typename T> T exponentials(T x) {
                float a = x, b = x + 1, c = x + 2, d = x + 3;
                for (int i = 0; i < %d / 4; i++) {
                    asm volatile("ex2.approx.ftz.f32 %%0, %%0;" : "+f"(a));
                    asm volatile("ex2.approx.ftz.f32 %%0, %%0;" : "+f"(b));
                    asm volatile("ex2.approx.ftz.f32 %%0, %%0;" : "+f"(c));
                    asm volatile("ex2.approx.ftz.f32 %%0, %%0;" : "+f"(d));
                }
                return a + b + c + d;
            }"""
            % CHAIN
        )

    def seconds(self, run):
        begin, end = self.torch.cuda.Event(enable_timing=True), self.torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        self.torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1000

    def attention(self, backend, q, k, v, causal):
        def run():
            with self.kernel(self.backends[backend]):
                shared = {"enable_gqa": True} if q.shape[1] != k.shape[1] else {}
                return self.torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, **shared)

        return run

    def times(self, row, shape, rounds):
        """Seconds of each round by name; the floors' are those of this row's amounts. Also why back ends did not do it."""
        torch = self.torch
        batch, length, keys, heads, kv_heads, d, name, causal = shape
        kind = torch.float16 if name == "F16" else torch.bfloat16
        q = torch.randn(batch, heads, length, d, device="cuda", dtype=kind)
        k, v = (torch.randn(batch, kv_heads, keys, d, device="cuda", dtype=kind) for _ in range(2))
        halves = [torch.empty(int(row["bytes"]) // 2, device="cuda", dtype=torch.uint8) for _ in range(2)]
        a, b = (torch.randn(SIDE, SIDE, device="cuda", dtype=kind) for _ in range(2))
        x = torch.rand(ITEMS, device="cuda")
        all = {
            "copy": (lambda: halves[0].copy_(halves[1]), 1),
            "products": (lambda: a @ b, row["flops"] / (2 * SIDE**3)),
            "exponentials": (lambda: self.exponentials(x), row["exps"] / (CHAIN * ITEMS)),
        }
        refused = {}
        for backend in self.backends:
            run = self.attention(backend, q, k, v, causal and length > 1)
            try:
                run()
                all[backend] = (run, 1)
            except RuntimeError as e:
                refused[backend] = str(e).splitlines()[0]
        for run, _ in all.values():
            run()
        taken = {name: [] for name in all}
        for _ in range(rounds):
            for name, (run, _) in all.items():
                taken[name].append(self.seconds(run) * all[name][1])
        return taken, refused


NAMES = {
    "copy": "floor: copy",
    "products": "floor: products",
    "exponentials": "floor: exponentials",
    "Flash": "PyTorch SDPA Flash",
    "cuDNN": "PyTorch SDPA cuDNN",
}


def absent(who, why):
    print(json.dumps({"row": "attention", "who": who, "absent": why[:160]}), flush=True)


def main():
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    rows = [(row, shape_of(row)) for row in rows_of(sys.argv[1])]
    try:
        gpu = Torch()
    except ImportError as e:
        absent("PyTorch SDPA", str(e))
        return
    with gpu.torch.no_grad():
        for row, shape in rows:
            if not shape:
                continue
            try:
                taken, refused = gpu.times(row, shape, rounds)
            except gpu.torch.cuda.OutOfMemoryError:
                absent("PyTorch SDPA", f"not enough memory for {row['shape']}")
                continue
            for name, t in taken.items():
                t.sort()
                print(
                    json.dumps(
                        {
                            "row": row["op"],
                            "case": row["shape"],
                            "who": NAMES[name],
                            "seconds": statistics.median(t),
                            "p10": t[len(t) // 10],
                            "p90": t[-1 - len(t) // 10],
                        }
                    ),
                    flush=True,
                )
            for name, why in refused.items():
                absent(NAMES[name], f"{row['shape']}: {why}")


if __name__ == "__main__":
    main()
