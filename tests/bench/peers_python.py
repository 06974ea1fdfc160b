"""Times PyTorch or ONNX Runtime on the cases of Strand's benchmarks: the peer programs of tests/bench/run.

    bench_ops --json ... | python3 peers_python.py torch|ort THREADS ROUNDS

Reads the rows that a benchmark printed with --json and prints one JSON object for each case that the library has: op, shape, peer,
seconds (the median of the rounds; the thread's own CPU time with one thread). Data is random, of the case's shapes and types. A case
is written as a user of that library would write it; what is not written here is left out.
"""
import json
import math
import struct
import sys
import time

import numpy as np

MATMUL, LAYER_NORM, UNARY, SHORT_CONV, LONG_CONV, SOFTMAX, CONV1D, ATTENTION, GRU = 2, 3, 4, 6, 7, 14, 25, 28, 38
F32 = 1


class Case:
    def __init__(self, row):
        self.op, self.shape, self.node = row["op"], row["shape"], row["node"]
        self.params = bytes.fromhex(row["params"])
        self.inputs = [None if not i[0] else i[1:] for i in row["inputs"]]
        self.f32 = all(i[0] in (0, F32) for i in row["inputs"])

    def array(self, k):
        rng = np.random.default_rng(k)
        return (rng.random(self.inputs[k], dtype=np.float32) * 2 - 1)

    def given(self, k):
        return k < len(self.inputs) and self.inputs[k] is not None

    def words(self, fmt):
        return struct.unpack_from("<" + fmt, self.params)


def timed(run, threads, rounds):
    clock = time.thread_time if threads == 1 else time.perf_counter
    run()
    begin = clock()
    run()
    times = max(1, min(1000, int(5e-4 / max(clock() - begin, 1e-7)) + 1))
    taken = []
    for _ in range(rounds):
        begin = clock()
        for _ in range(times):
            run()
        taken.append((clock() - begin) / times)
    taken.sort()
    return taken[len(taken) // 2]


# ---- PyTorch


def torch_case(c, torch):
    import torch.nn.functional as F
    t = [torch.from_numpy(c.array(k)) if c.given(k) else None for k in range(len(c.inputs))]
    if c.node == MATMUL:
        transpose_a, transpose_b, _, activation = c.words("IIII")
        if transpose_a or activation:
            return None
        if transpose_b:
            return lambda: F.linear(t[0], t[1], t[2] if c.given(2) else None)
        return lambda: torch.matmul(t[0], t[1])
    if c.node == LAYER_NORM:
        return lambda: F.layer_norm(t[0], t[0].shape[-1:], t[1], t[2] if c.given(2) else None)
    if c.node == UNARY:
        kind = c.words("I")[0]
        f = {2: F.gelu, 3: F.silu, 4: torch.sigmoid, 5: torch.sin, 6: torch.exp, 7: torch.tanh, 8: F.relu, 9: F.softplus}.get(kind)
        if kind == 1:  # the tanh form has a name from 1.12 on
            f = lambda x: F.gelu(x, approximate="tanh")  # noqa: E731
        return f and (lambda: f(t[0]))
    if c.node == SOFTMAX:
        return lambda: torch.softmax(t[0], -1)
    if c.node == LONG_CONV and len(c.inputs) == 2:
        u, k = t
        n = 2 * u.shape[-1]
        spectrum = torch.fft.rfft(k, n)
        return lambda: torch.fft.irfft(torch.fft.rfft(u, n) * spectrum, n)[..., : u.shape[-1]]
    if c.node == SHORT_CONV and c.words("II") == (0, 0):
        x, w = t[0], t[1]
        x = x[None] if x.dim() == 2 else x
        taps = w.shape[1]
        return lambda: F.conv1d(x, w[:, None], t[2] if c.given(2) else None, padding=taps - 1, groups=w.shape[0])[..., : x.shape[-1]]
    if c.node == CONV1D:
        stride, dilation, groups, left, right, activation = c.words("qqqqqI")
        if activation:
            return None
        return lambda: F.conv1d(F.pad(t[0], (left, right)), t[1], t[2] if c.given(2) else None, stride, 0, dilation, groups)
    if c.node == ATTENTION and len([i for i in c.inputs if i]) == 3:
        heads, kv_heads, window, sinks, _, scale, cap, causal = c.words("qqqqqffI")
        if heads != kv_heads or window or sinks or cap:
            return None
        q, k, v = (x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2) for x in t)
        length, keys = q.shape[2], k.shape[2]
        if length * keys * heads * q.shape[0] > 1 << 26:  # minutes
            return None
        mask = torch.full((length, keys), -math.inf).triu(keys - length + 1) if causal and length > 1 else None
        if hasattr(F, "scaled_dot_product_attention"):
            return lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)

        def naive():
            s = torch.matmul(q, k.transpose(2, 3)) * scale
            return torch.matmul(torch.softmax(s if mask is None else s + mask, -1), v).transpose(1, 2)
        return naive
    if c.node == GRU and not c.words("I")[0]:
        hidden = t[1].shape[1]
        gru = torch.nn.GRU(hidden, hidden, batch_first=True)  # multiplies the input too: the same number of operations again
        x = torch.randn(t[0].shape[0], t[0].shape[1], hidden)
        return lambda: gru(x)
    return None


# ---- ONNX Runtime


def ort_case(c, ort, threads):
    from onnx import TensorProto, helper, numpy_helper
    ins, made, out = {}, [], "y"
    weights = {}
    domain = ""

    def given(k, name):
        ins[name] = c.array(k)

    def weight(k, name):
        weights[name] = c.array(k)
    if c.node == MATMUL:
        transpose_a, transpose_b, _, activation = c.words("IIII")
        if transpose_a or activation or len(c.inputs) > 2:
            return None
        given(0, "a")
        weights["b"] = np.ascontiguousarray(np.swapaxes(c.array(1), -1, -2)) if transpose_b else c.array(1)
        made = [helper.make_node("MatMul", ["a", "b"], [out])]
    elif c.node == LAYER_NORM:
        given(0, "a")
        weight(1, "w")
        if c.given(2):
            weight(2, "b")
        made = [helper.make_node("LayerNormalization", ["a", "w"] + (["b"] if c.given(2) else []), [out], epsilon=1e-5)]
    elif c.node == UNARY:
        kind = c.words("I")[0]
        name = {4: "Sigmoid", 5: "Sin", 6: "Exp", 7: "Tanh", 8: "Relu", 9: "Softplus"}.get(kind)
        given(0, "a")
        if kind in (1, 2):
            made = [helper.make_node("FastGelu" if kind == 1 else "Gelu", ["a"], [out], domain="com.microsoft")]
        elif name:
            made = [helper.make_node(name, ["a"], [out])]
        else:
            return None
    elif c.node == SOFTMAX:
        given(0, "a")
        made = [helper.make_node("Softmax", ["a"], [out], axis=-1)]
    elif c.node == SHORT_CONV and c.words("II") == (0, 0):
        x, w = c.array(0), c.array(1)
        ins["a"] = x[None] if x.ndim == 2 else x
        weights["w"] = w[:, None]
        if c.given(2):
            weight(2, "b")
        made = [helper.make_node("Conv", ["a", "w"] + (["b"] if c.given(2) else []), [out], group=w.shape[0], pads=[w.shape[1] - 1, 0])]
    elif c.node == ATTENTION and len([i for i in c.inputs if i]) == 3:
        heads, kv_heads, window, sinks, _, scale, cap, causal = c.words("qqqqqffI")
        if heads != kv_heads or window or sinks or cap or (causal and c.inputs[0][1] not in (1, c.inputs[1][1])):
            return None
        for k, name in enumerate("qkv"):
            given(k, name)
        made = [helper.make_node("MultiHeadAttention", ["q", "k", "v"], [out], domain="com.microsoft", num_heads=heads, scale=scale,
                                 unidirectional=1 if causal and c.inputs[0][1] > 1 else 0)]
    else:
        return None
    del domain
    graph = helper.make_graph(made, "case", [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in ins.items()],
                              [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(a, n) for n, a in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, ins)


def main():
    peer, threads, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if peer == "torch":
        import torch
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        name = f"PyTorch {torch.__version__}"
    else:
        import onnxruntime as ort
        ort.set_default_logger_severity(4)
        name = f"ONNX Runtime {ort.__version__}"
    seen = set()
    for line in sys.stdin:
        row = json.loads(line)
        if row.get("missing") or (row["op"], row["shape"]) in seen:
            continue
        seen.add((row["op"], row["shape"]))
        c = Case(row)
        if not c.f32:
            continue
        try:
            run = torch_case(c, torch) if peer == "torch" else ort_case(c, ort, threads)
            if run is None:
                continue
            seconds = timed(run, threads, rounds)
        except Exception as e:  # a case that this release of the library cannot do
            print(f"{name}: {c.op} {c.shape}: {e}".splitlines()[0], file=sys.stderr)
            continue
        print(json.dumps({"op": c.op, "shape": c.shape, "peer": name, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
