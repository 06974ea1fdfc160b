#!/usr/bin/env python3
"""Times one forecast and many of a SpaceTime model: Strand beside PyTorch running the published code, in one process and in turns.

    python3 tests/bench/spacetime.py --libstrand build/libstrand.so.0 --code REPOSITORY [--data ETTh1.csv] [--model FOLDER]
    python3 tests/bench/spacetime.py --libstrand build/libstrand.so.0 --onnx [--data ETTh1.csv]

REPOSITORY is a copy of github.com/HazyResearch/spacetime; its model needs torch, einops and opt_einsum. Without --code a PyTorch model
written from the paper stands in, whose maps (state and horizon) are made once and not in every run: the fastest that PyTorch can do
here. With --onnx that one is exported and run by ONNX Runtime (onnx and onnxruntime must be there); the published code does not export. Both get one thread and the thread's own CPU time counts (STRAND_BACKEND_PATH as for the command, OPENBLAS_CORETYPE as wanted).
Results are compared. With --data the windows are those of the test part, scaled as the model's config says; otherwise random walks.

Columns: lag, horizon, windows in a run; the median time of a run; PyTorch / Strand, median of the rounds' own ratios [p10, p90].
"""
import argparse
import csv
import ctypes as c
import json
import os
import statistics
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np  # noqa: E402
import torch  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "models", "recipes", "spacetime_etth1"))


class Tensor(c.Structure):
    _fields_ = [("name", c.c_char_p), ("dtype", c.c_int), ("rank", c.c_int32), ("dims", c.c_int64 * 8), ("data", c.c_void_p), ("bytes", c.c_uint64)]


class ContextParams(c.Structure):
    _fields_ = [("size", c.c_uint32), ("threads", c.c_int32), ("rest", c.c_byte * 512)]


class ModelParams(c.Structure):
    _fields_ = [("size", c.c_uint32), ("n_settings", c.c_int32), ("config", c.c_char_p), ("settings", c.POINTER(c.c_char_p))]


class PlanParams(c.Structure):
    _fields_ = [("size", c.c_uint32), ("no_tiling", c.c_int32), ("max_batch", c.c_int64), ("max_length", c.c_int64), ("memory_limit", c.c_uint64), ("backends", c.c_char_p), ("outputs", c.c_char_p)]


class Strand:
    def __init__(self, library, model, settings, batch, lag):
        self.lib = lib = c.CDLL(library)
        lib.strand_error.restype = lib.strand_session_error.restype = c.c_char_p
        self.context, self.model, self.plan, self.session = (c.c_void_p() for _ in range(4))
        params = ContextParams()
        lib.strand_context_params_init(c.byref(params))
        params.threads = 1
        self.check(lib.strand_context_open(c.byref(params), c.byref(self.context)), lambda: b"the library does not open; is STRAND_BACKEND_PATH set?")
        items = (c.c_char_p * len(settings))(*[s.encode() for s in settings])
        how = ModelParams(c.sizeof(ModelParams), len(settings), None, items)
        error = lambda: lib.strand_error(self.context)  # noqa: E731
        self.check(lib.strand_model_open(self.context, model.encode(), c.byref(how), c.byref(self.model)), error)
        plan = PlanParams(c.sizeof(PlanParams), 0, batch, lag, 0, None, b"forecast")
        self.check(lib.strand_plan_open(self.model, c.byref(plan), c.byref(self.plan)), error)
        self.check(lib.strand_session_open(self.plan, None, c.byref(self.session)), error)

    @staticmethod
    def check(status, text):
        if status:
            sys.exit(text().decode())

    def run(self, windows):
        """[n, lag] float32 -> [n, horizon], a view that lives until the next run."""
        n, lag = windows.shape
        given = Tensor(b"window", 1, 3, (c.c_int64 * 8)(n, lag, 1), windows.ctypes.data, windows.nbytes)
        got = Tensor(b"forecast")
        self.check(self.lib.strand_session_run(self.session, c.byref(given), 1, c.byref(got), 1), lambda: self.lib.strand_session_error(self.session))
        count = got.dims[0] * got.dims[1]
        return np.ctypeslib.as_array(c.cast(got.data, c.POINTER(c.c_float)), (count,)).reshape(got.dims[0], got.dims[1])

    def close(self):
        for name, what in (("session", self.session), ("plan", self.plan), ("model", self.model), ("context", self.context)):
            getattr(self.lib, "strand_%s_close" % name)(what)


def published(code, weights, lag, horizon):
    """The published network with these weights, for whole forecasts (inference only, closed loop)."""
    sys.path.insert(0, code)
    from model.network import SpaceTime

    def kernel(method, n, heads, **more):
        kwargs = dict(model_dim=128, n_kernels=n, kernel_dim=64, kernel_repeat=1, n_heads=heads, head_dim=1, kernel_weights=None, kernel_init="normal", kernel_train=True,
                      skip_connection=True, norm_order=1)
        return {"method": method, "kwargs": dict(kwargs, **more)}

    def mlp(out, skip):
        return {"method": "mlp", "kwargs": dict(input_dim=128, output_dim=out, activation="gelu", dropout=0.25, layernorm=False, n_layers=1, n_activations=1, pre_activation=True,
                                                input_shape="bld", skip_connection=skip, average_pool=None)}

    pre = {"method": "residual", "kwargs": dict(max_diff_order=4, min_avg_window=4, max_avg_window=64, model_dim=128, n_kernels=8, kernel_dim=2, kernel_repeat=16, n_heads=1, head_dim=1,
                                                kernel_weights=None, kernel_init=None, kernel_train=False, skip_connection=False, seed=0)}
    none = {"method": "identity", "kwargs": None}
    net = SpaceTime({"method": "repeat", "kwargs": dict(input_dim=1, embedding_dim=128, n_heads=4, n_kernels=32)},
                    {"blocks": [dict(input_dim=128, pre_config=pre, ssm_config=kernel("companion", 16, 8), mlp_config=mlp(128, True), skip_connection=True, skip_preprocess=False)]},
                    {"blocks": [dict(input_dim=128, pre_config=none, ssm_config=kernel("closed_loop_companion", 128, 1, lag=lag, horizon=horizon, skip_connection=False, use_initial=False),
                                     mlp_config=none, skip_connection=False, skip_preprocess=False)]},
                    dict(mlp(1, False), input_dim=128, output_dim=1), inference_only=True, lag=lag, horizon=horizon)
    net.load_state_dict(weights)
    net.set_eval()
    net.set_closed_loop(True)

    def run(windows):
        u = torch.from_numpy(windows)[..., None]
        mean = u.mean(1, keepdim=True)
        y = net(u - mean)[0][0]
        return (y + mean)[..., 0].numpy()

    return run


def rearranged(weights, lag, horizon):
    import train  # the recipe's
    train.LAG = lag
    net = train.Network(weights)
    maps = net.maps(horizon)

    def run(windows):
        u = torch.from_numpy(windows)
        mean = u.mean(1, keepdim=True)
        return (net.forward(u - mean, maps) + mean).numpy()

    return run


def exported(weights, lag, horizon):
    """The network with its maps made once, by ONNX Runtime."""
    import io

    import onnxruntime
    import train
    train.LAG = lag
    net = train.Network(weights)
    pre, g, state, future = (x.contiguous() for x in net.maps(horizon))
    t = torch.arange(lag)
    past_of = t[:, None] - t[None, :] + lag - 1  # [t, s] = u[t - s] of what lag - 1 zeros stand before

    class Whole(torch.nn.Module):
        def forward(self, window):
            mean = window.mean(1, keepdim=True)
            past = torch.nn.functional.pad(window - mean, (lag - 1, 0))[:, past_of]
            y, gelu = past @ g, torch.nn.functional.gelu
            mixed = torch.nn.functional.linear(gelu(y), weights["encoder.blocks.0.mlp.layers.2.weight"], weights["encoder.blocks.0.mlp.layers.2.bias"])
            x = torch.matmul((mixed + y + past[..., :train.TAPS] @ pre).permute(2, 0, 1), state)
            o = weights["output.layers.2.weight"][0][:, None, None] * gelu(torch.matmul(x, future))
            return o.sum(0) + weights["output.layers.2.bias"] + mean

    file = io.BytesIO()
    more = {"dynamo": False} if "dynamo" in torch.onnx.export.__code__.co_varnames else {}
    torch.onnx.export(Whole().eval(), (torch.randn(2, lag),), file, input_names=["window"], output_names=["forecast"], opset_version=17,
                      dynamic_axes={"window": {0: "n"}, "forecast": {0: "n"}}, **more)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda windows: session.run(None, {"window": windows})[0]


def windows_of(path, config, lag, n):
    """n windows of the test part, evenly apart; random walks without a file."""
    if not path:
        return np.cumsum(np.random.default_rng(3).normal(0, 0.1, (n, lag)), 1).astype(np.float32)
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    z = (np.array([float(r[config["columns"][0]]) for r in rows]) - config["scaler_mean"][0]) / config["scaler_std"][0]
    first, last = config["test_rows"][0], config["test_rows"][1] - lag - config["horizon"]
    return np.stack([z[s:s + lag] for s in np.linspace(first, last, n).astype(int)]).astype(np.float32)


def measure(what, windows, batch):
    began = time.thread_time()
    for i in range(0, len(windows), batch):
        out = what(windows[i:i + batch])
    return time.thread_time() - began, out


def row(args, peer_of, config, weights, lag, horizon, n, batch, peer_batch, mode, rounds):
    windows = windows_of(args.data if lag == config["lag"] else None, config, lag, n)
    ours = Strand(args.libstrand, args.model, ["horizon=%d" % horizon, "lag=%d" % lag, "mode=" + mode], batch, lag)
    peer = peer_of(weights, lag, horizon)
    a, b, ratios, worst = [], [], [], 0.0
    for i in range(rounds + (rounds > 1)):
        mine, got = measure(ours.run, windows, batch)
        got = got[-1].copy()
        theirs, want = measure(peer, windows, peer_batch)
        worst = max(worst, float(np.abs(got - want[-1]).max()))
        if i or rounds == 1:
            a.append(mine), b.append(theirs), ratios.append(theirs / mine)
    ours.close()
    ratios.sort()
    spread = ("%.0f [%.0f, %.0f]" if ratios[0] >= 10 else "%.1f [%.1f, %.1f]") % (statistics.median(ratios), ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10])
    print("| %d | %d | %d | %s | %.2f ms | %.1f ms | %s | %.1e |" % (lag, horizon, n, mode, 1e3 * statistics.median(a), 1e3 * statistics.median(b), spread, worst), flush=True)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--libstrand", default="libstrand.so.0")
    a.add_argument("--model", default=os.path.join(ROOT, "models", "weights", "spacetime-etth1-strand"))
    a.add_argument("--code", help="copy of the published repository")
    a.add_argument("--onnx", action="store_true", help="ONNX Runtime in PyTorch's place")
    a.add_argument("--data", help="ETTh1.csv")
    a.add_argument("--rounds", type=int, default=7)
    a.add_argument("--all", action="store_true", help="all 2,161 test windows too, once")
    a.add_argument("--growth", action="store_true", help="other lags and horizons too")
    args = a.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    with open(os.path.join(args.model, "config.json")) as f:
        config = json.load(f)
    weights = torch.load(os.path.join(args.model, config["weights"]))["state_dict"]
    peer_of = exported if args.onnx else (lambda w, lag, horizon: published(args.code, w, lag, horizon)) if args.code else rearranged
    lag, horizon = config["lag"], config["horizon"]
    what = "rearranged, by ONNX Runtime" if args.onnx else "published code" if args.code else "rearranged (maps made once)"
    print("torch %s, %s" % (torch.__version__, what))
    print("| lag | horizon | windows | mode | Strand | PyTorch | PyTorch / Strand | worst difference |\n|--:|--:|--:|---|--:|--:|--:|--:|")
    for least in (lag, 192, 96):
        row(args, peer_of, config, weights, least, horizon, 1, 1, 1, "conv", args.rounds)
    for mode in ("conv", "matrix"):
        row(args, peer_of, config, weights, lag, horizon, 32, 32, 32, mode, max(3, args.rounds // 2))
    if args.all:  # takes PyTorch with the published code some minutes
        row(args, peer_of, config, weights, lag, horizon, 2161, 32, 32, "matrix", 1)
    if args.growth:
        for l, h in ((672, 720), (1344, 720), (336, 96), (336, 192), (336, 1440), (336, 2880)):
            row(args, peer_of, config, weights, l, h, 1, 1, 1, "conv", 3)


if __name__ == "__main__":
    main()
