#!/usr/bin/env python3
"""Trains the built-in forecaster (SpaceTime, ETTh1 oil temperature, 336 hours to 720) on a CPU.

  python3 train.py --data ETTh1.csv --out DIR [--minutes M | --steps N] [--seed S] ...

Writes spacetime-etth1-strand.pth (the published checkpoint layout), config.json and
report.json into the --out folder. Only the training part is fitted and only the validation
part chooses; the test part is read by --test alone. See README.md beside this file.
"""

import argparse
import csv
import json
import math
import os
import sys
import time

THREADS = next((b for a, b in zip(sys.argv, sys.argv[1:]) if a == "--threads"), "1")
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = THREADS

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

# --- the task: the standard split of ETTh1, 12, 4 and 4 months of 30 days ----------------

LAG, HORIZON = 336, 720
TRAIN, VALID, TEST = (0, 8640), (8640 - LAG, 11520), (11520 - LAG, 14400)
NAME = "spacetime-etth1-strand"

# --- the architecture: the README command of the published code ---------------------------

D, STATE = 128, 64           # channels; state of each companion system
KERNELS, HEADS = 16, 8       # first encoder block: 16 systems, each drives 8 channels
DIFF, TAPS = 4, 64           # orders of differencing; taps of the moving averages


def read_columns(path):
    """(names, values [rows, columns] in double precision)."""
    with open(path, newline="") as f:
        rows = list(csv.reader(f))
    return rows[0][1:], np.array([[float(v) for v in r[1:]] for r in rows[1:]])


class Series:
    """The z-scored series and its windows. Mean and deviation come from the training rows."""

    def __init__(self, path, column="OT"):
        names, values = read_columns(path)
        self.scale_rows = TRAIN[1]
        train = values[:TRAIN[1]]
        self.means, self.stds = train.mean(0), train.std(0)
        z = (values - self.means) / self.stds
        self.target = names.index(column)
        self.mean, self.std = float(self.means[self.target]), float(self.stds[self.target])
        self.z = torch.tensor(z[:, self.target], dtype=torch.float32)

    def starts(self, part):
        return torch.arange(part[0], part[1] - LAG - HORIZON + 1)

    def windows(self, starts):
        """(lag [n, 336], future [n, 720]) of these first rows."""
        at = starts[:, None] + torch.arange(LAG + HORIZON)[None, :]
        w = self.z[at]
        return w[:, :LAG], w[:, LAG:]


def fixed_filters():
    """The first block's preprocessing: differences of order 0..3, and what is left when a
    moving average is taken away. The published code draws the widths of the averages; here
    they are spread evenly (by ratio) from 4 to 63 hours, with the day and its halves hit."""
    binomial = [[1, 0, 0, 0], [1, -1, 0, 0], [1, -2, 1, 0], [1, -3, 3, -1]]
    diff = torch.tensor(binomial, dtype=torch.float32).repeat(KERNELS, 1)
    n = KERNELS * (8 - DIFF)
    widths = [int(round(4 * (63 / 4) ** (i / (n - 1)))) for i in range(n)]
    widths = [24 if w in (23, 25) else 12 if w in (11, 13) else 48 if w in (47, 49) else w for w in widths]
    average = torch.zeros(n, TAPS)
    for row, w in enumerate(widths):
        average[row, 0] = 1
        average[row, :w] -= 1.0 / w
    return diff, average


def new_parameters(gen):
    def normal(*shape, std):
        return torch.randn(*shape, generator=gen) * std

    def uniform(*shape, fan):
        return (torch.rand(*shape, generator=gen) * 2 - 1) / math.sqrt(fan)

    diff, average = fixed_filters()
    return {
        "encoder.blocks.0.pre.diff_kernel": diff,
        "encoder.blocks.0.pre.ma_r_kernel": average,
        "encoder.blocks.0.ssm.skip": normal(D, std=1.0),
        "encoder.blocks.0.ssm.a": normal(KERNELS, STATE, std=1.0),
        "encoder.blocks.0.ssm.b": normal(KERNELS, STATE, std=0.1),
        "encoder.blocks.0.ssm.c": normal(KERNELS, STATE, std=1.0 / math.sqrt(STATE)),
        "encoder.blocks.0.mlp.layers.2.weight": uniform(D, D, fan=D),
        "encoder.blocks.0.mlp.layers.2.bias": uniform(D, fan=D),
        "decoder.blocks.ssm.skip": torch.zeros(D),
        "decoder.blocks.ssm.a": normal(D, STATE, std=1.0),
        "decoder.blocks.ssm.b": normal(D, STATE, std=0.1),
        "decoder.blocks.ssm.c": normal(D, STATE, std=1.0),
        "decoder.blocks.ssm.k": normal(D, STATE, std=1.0),
        "output.layers.2.weight": uniform(1, D, fan=D),
        "output.layers.2.bias": torch.zeros(1),
    }


BUFFERS = ("encoder.blocks.0.pre.diff_kernel", "encoder.blocks.0.pre.ma_r_kernel", "decoder.blocks.ssm.skip")


def companion(a):
    """[n, d, d]: ones under the diagonal, a / |a|_1 as the last column."""
    n, d = a.shape
    shift = torch.diag(torch.ones(d - 1, dtype=a.dtype), -1).expand(n, d, d)
    last = F.pad((a / a.abs().sum(-1, keepdim=True))[..., None], (d - 1, 0))
    return shift + last


def krylov(m, v, length, block=32):
    """[n, d, length]: v, m v, m^2 v, ... ; columns double up to a block, then go block by block."""
    k = v[..., None]
    while k.shape[-1] < min(block, length):
        k, m = torch.cat([k, m @ k], -1), m @ m
    parts, have = [k], k.shape[-1]
    while have < length:
        parts.append(m @ parts[-1])
        have += k.shape[-1]
    return torch.cat(parts, -1)[..., :length]


def unit(v):
    return v / v.abs().sum(-1, keepdim=True)


class Network:
    """The forward pass over a dict of tensors p. Windows come transformed (mean taken away)."""

    def __init__(self, p):
        self.p = p

    def maps(self, horizon=HORIZON):
        """What depends on the weights alone: filters [336, D] of the first block before and after its
        system, the decoder's state map [D, 336, STATE] and its horizon map [D, STATE, horizon]."""
        p, e, d = self.p, "encoder.blocks.0.", "decoder.blocks.ssm."
        pre = torch.cat([F.pad(p[e + "pre.diff_kernel"], (0, TAPS - DIFF)).view(KERNELS, DIFF, TAPS),
                         p[e + "pre.ma_r_kernel"].view(KERNELS, 8 - DIFF, TAPS)], 1)
        f = (p[e + "ssm.c"][:, None] @ krylov(companion(p[e + "ssm.a"]), p[e + "ssm.b"], LAG))[:, 0]
        n = 1024                                     # holds 64 + 336 taps: nothing wraps into the first 336
        hf = torch.fft.rfft(pre.double(), n)
        full = torch.fft.irfft(hf * torch.fft.rfft(f.double(), n)[:, None], n)[..., :LAG].float()
        pre = pre.reshape(D, TAPS)
        g = full.reshape(D, LAG) + p[e + "ssm.skip"][:, None] * F.pad(pre, (0, LAG - TAPS))
        a = companion(p[d + "a"])
        state = krylov(a, p[d + "b"], LAG).flip(-1).transpose(1, 2)
        closed = a + unit(p[d + "b"])[..., None] * unit(p[d + "k"])[:, None]
        future = krylov(closed.transpose(1, 2), unit(p[d + "c"]), horizon)
        return pre.t(), g.t(), state, future

    def forward(self, u, maps, drop=0.0, hours=None):
        """u [n, 336] -> [n, 720], or the columns that hours names."""
        p = self.p
        pre, g, state, future = maps
        past = F.pad(u, (LAG - 1, 0)).unfold(1, LAG, 1).flip(-1)     # [n, t, s] = u[t - s]
        y = past @ g
        z = past[..., :TAPS] @ pre
        h = F.dropout(F.gelu(y), drop) if drop else F.gelu(y)
        y = F.linear(h, p["encoder.blocks.0.mlp.layers.2.weight"], p["encoder.blocks.0.mlp.layers.2.bias"]) + y + z
        x = torch.bmm(y.permute(2, 0, 1), state)                     # [D, n, STATE]
        if hours is not None:
            future = future[..., hours]
        o = F.gelu(torch.bmm(x, future))                             # [D, n, hours]
        if drop:                                                     # one mask a window and channel
            o = o * (torch.rand(D, o.shape[1], 1) >= drop) / (1 - drop)
        return (p["output.layers.2.weight"][0][:, None, None] * o).sum(0) + p["output.layers.2.bias"]


def score(p, series, starts, batch=120):
    """(MSE, MAE) in z-scored units over all these windows."""
    net, square, absolute = Network(p), 0.0, 0.0
    with torch.no_grad():
        maps = net.maps()
        for i in range(0, len(starts), batch):
            lag, future = series.windows(starts[i:i + batch])
            level = lag.mean(1, keepdim=True)
            e = (net.forward(lag - level, maps) + level - future).double()
            square += (e * e).sum().item()
            absolute += e.abs().sum().item()
    n = len(starts) * HORIZON
    return square / n, absolute / n


def baselines(series, starts):
    """{name: (MSE, MAE)} of forecasts that need no training."""
    lag, future = (w.double() for w in series.windows(starts))
    n = torch.arange(HORIZON)
    guesses = {"mean of lag": lag.mean(1, keepdim=True).expand_as(future),
               "naive (last value)": lag[:, -1:].expand_as(future),
               "seasonal naive (last day)": lag[:, LAG - 24 + n % 24],
               "drift": lag[:, -1:] + (lag[:, -1:] - lag[:, :1]) / (LAG - 1) * (n + 1)}
    return {k: (((v - future) ** 2).mean().item(), (v - future).abs().mean().item()) for k, v in guesses.items()}


def rate(step, steps, warm):
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train(args, series):
    gen = torch.Generator().manual_seed(args.seed)
    torch.manual_seed(args.seed)
    p = new_parameters(gen)
    learn = {k: v.requires_grad_() for k, v in p.items() if k not in BUFFERS}
    decay = [v for k, v in learn.items() if k.endswith("weight")]
    plain = [v for k, v in learn.items() if not k.endswith("weight")]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": args.decay}, {"params": plain, "weight_decay": 0.0}],
                            lr=args.lr)
    average = {k: v.detach().clone() for k, v in p.items()}
    starts, net, began = series.starts(TRAIN), Network(p), time.time()
    best, log, left, steps = (math.inf,), [], torch.empty(0, dtype=torch.long), args.steps
    valid = series.starts(VALID)
    total = 0.0
    for step in range(steps):
        if len(left) < args.batch:
            left = starts[torch.randperm(len(starts), generator=gen)]
        lag, future = series.windows(left[:args.batch])
        left = left[args.batch:]
        level = lag.mean(1, keepdim=True)
        lag, future = lag - level, future - level
        if args.stretch > 0:                         # a window is as good upside down, or larger
            s = torch.exp(torch.randn(len(lag), 1, generator=gen) * args.stretch)
            s = s * (1 - 2 * (torch.rand(len(lag), 1, generator=gen) < args.flip).float())
            lag, future = lag * s, future * s
        if args.blend > 0:                           # and so is a mixture of two
            other = torch.randperm(len(lag), generator=gen)
            m = torch.rand(len(lag), 1, generator=gen) * args.blend
            lag, future = (1 - m) * lag + m * lag[other], (1 - m) * future + m * future[other]
        if args.noise > 0:
            lag = lag + args.noise * torch.randn(lag.shape, generator=gen)
        hours = torch.randperm(HORIZON, generator=gen)[:args.hours].sort().values
        for g in opt.param_groups:
            g["lr"] = args.lr * rate(step, steps, 50)
        error = net.forward(lag, net.maps(), args.dropout, hours) - future[:, hours]
        loss = F.smooth_l1_loss(error, torch.zeros_like(error), beta=args.huber) if args.huber else (error ** 2).mean()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(learn.values()), 1.0)
        opt.step()
        total += loss.item()
        keep = min(args.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for k in learn:
                average[k].mul_(keep).add_(p[k], alpha=1 - keep)
        if (step + 1) % args.every == 0 or step + 1 == steps:
            mse, mae = score(average, series, valid[::args.thin])
            log.append((step + 1, total / args.every, mse, mae))
            mark = ""
            if mse < best[0]:
                best, mark = (mse, step + 1, {k: v.clone() for k, v in average.items()}), " *"
            print("step %d  loss %.4f  valid MSE %.4f MAE %.4f  %.0f s%s"
                  % (step + 1, total / args.every, mse, mae, time.time() - began, mark), flush=True)
            total = 0.0
            if step + 1 - best[1] >= args.patience:
                break
    return best, log


def config(series, best, valid):
    """What a reader needs beside the weights: the shapes, the scaling, what the data looked like."""
    return {"model": "spacetime", "weights": NAME + ".pth", "lag": LAG, "horizon": HORIZON, "n_blocks": 1,
            "kernel_dim": STATE, "norm_order": 1, "model_dim": D, "input_dim": 1, "data_transform": "mean",
            "columns": ["OT"], "freq": "1h", "season": 24, "unit": "\u00b0C",
            "scaler_mean": [series.mean], "scaler_std": [series.std], "scaler_rows": series.scale_rows,
            "train_rows": list(TRAIN), "validation_rows": list(VALID), "test_rows": list(TEST),
            "best_step": best[1], "val_mse": valid[0], "val_mae": valid[1]}


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--data", required=True, help="ETTh1.csv")
    a.add_argument("--out", required=True)
    a.add_argument("--test", action="store_true", help="only measure the file in --out on validation and test")
    for name, value in (("steps", 1000), ("seed", 1), ("threads", 1), ("batch", 32), ("hours", 240), ("every", 50),
                        ("patience", 150), ("thin", 6)):
        a.add_argument("--" + name, type=int, default=value)
    for name, value in (("lr", 8e-3), ("decay", 0.05), ("dropout", 0.25), ("average", 0.995), ("stretch", 0.0), ("flip", 0.5),
                        ("blend", 0.0), ("noise", 0.0), ("huber", 0.0)):
        a.add_argument("--" + name, type=float, default=value)
    args = a.parse_args()
    torch.set_num_threads(args.threads)
    series = Series(args.data)
    path = os.path.join(args.out, NAME + ".pth")
    if args.test:
        p = torch.load(path)["state_dict"]
        for part, rows in (("validation", VALID), ("test", TEST)):
            starts = series.starts(rows)
            print("%s, %d windows: MSE %.6f MAE %.6f" % ((part, len(starts)) + score(p, series, starts)))
            for k, v in baselines(series, starts).items():
                print("    %-26s MSE %.6f MAE %.6f" % ((k,) + v))
        return
    os.makedirs(args.out, exist_ok=True)
    began = time.time()
    best, log = train(args, series)
    valid = score(best[2], series, series.starts(VALID))
    print("best step %d: validation MSE %.6f MAE %.6f over all windows" % ((best[1],) + valid))
    torch.save({"epoch": best[1] * args.batch // len(series.starts(TRAIN)), "val_metric": valid[0],
                "state_dict": best[2]}, path)
    with open(os.path.join(args.out, "config.json"), "w") as f:
        json.dump(config(series, best, valid), f, indent=1)
    with open(os.path.join(args.out, "report.json"), "w") as f:
        json.dump({"arguments": vars(args), "seconds": round(time.time() - began), "log": log}, f, indent=1)


if __name__ == "__main__":
    main()
