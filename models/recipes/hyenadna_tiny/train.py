#!/usr/bin/env python3
"""Trains the built-in DNA model (HyenaDNA tiny layout) from scratch on a CPU.

  python3 train.py --data DIR --out DIR [--steps N | --minutes M] [--seed S] [--threads T]

Writes model.safetensors (F16), config.json and report.json into the --out folder.
A run with --steps gives the same weights again for the same seed, thread count and
libraries; a run with --minutes first measures how many steps fit, then behaves as
if that number had been given. See README.md beside this file.
"""

import argparse
import ctypes
import json
import math
import os
import struct
import sys
import time


def early_threads(argv):
    """The BLAS reads its thread count when it is loaded, so look before importing torch."""
    for i, a in enumerate(argv):
        if a == "--threads" and i + 1 < len(argv):
            return argv[i + 1]
        if a.startswith("--threads="):
            return a.split("=", 1)[1]
    return "1"


os.environ["OPENBLAS_NUM_THREADS"] = early_threads(sys.argv)
os.environ["OMP_NUM_THREADS"] = early_threads(sys.argv)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import data  # noqa: E402

# --- the architecture -------------------------------------------------------

D, LAYERS, INNER = 128, 2, 512
L_MAX = 1026                 # 1024 bases plus two special tokens
EMB_DIM, FILTER, INNER_MLPS, SINE_W = 5, 64, 2, 10.0
SHIFT = 0.0                  # added to the exponential window of the filter
VOCAB, ROWS = 12, 16         # rows are padded to a multiple of 8
CLS, UNK, FIRST_BASE, N_BASE = 0, 6, 7, 11
EPS = 1e-5


def position_grid(n):
    """The two inputs of the filter: features z [n,5] and time t [n,1]."""
    i = torch.arange(n, dtype=torch.float64)[:, None]
    t = i / (n - 1)
    bands = (EMB_DIM - 1) // 2
    f = torch.linspace(1e-4, bands - 1, bands, dtype=torch.float64)[None, :]
    w = 2 * math.pi * i / n
    z = torch.cat([t, torch.cos(f * w), -torch.sin(f * w)], dim=1)
    return z.float(), t.float()


def decay_window(t):
    """exp(-t |delta|) [n,D]: each channel forgets at its own speed."""
    slow, fast = math.log(1e-2) / 1.5, math.log(1e-2) / 0.3
    delta = torch.linspace(slow, fast, D, dtype=torch.float64).abs().float()
    return torch.exp(-t * delta[None, :])


def new_parameters(gen):
    """All trained tensors by their published (standalone) name, freshly drawn."""
    def normal(*shape, std=0.02):
        return torch.randn(*shape, generator=gen) * std

    def uniform(*shape, fan):
        return (torch.rand(*shape, generator=gen) * 2 - 1) / math.sqrt(fan)

    p = {"backbone.embeddings.word_embeddings.weight": normal(ROWS, D)}
    into_residual = 0.02 / math.sqrt(2 * LAYERS)   # keeps the residual stream small
    for i in range(LAYERS):
        b = "backbone.layers.%d." % i
        p[b + "mixer.in_proj.weight"] = normal(3 * D, D)
        p[b + "mixer.in_proj.bias"] = torch.zeros(3 * D)
        p[b + "mixer.short_filter.weight"] = uniform(3 * D, 1, 3, fan=3)
        p[b + "mixer.short_filter.bias"] = uniform(3 * D, fan=3)
        p[b + "mixer.filter_fn.bias"] = normal(D, std=1.0)
        f = b + "mixer.filter_fn.implicit_filter."
        p[f + "0.weight"] = uniform(FILTER, EMB_DIM, fan=EMB_DIM)
        p[f + "0.bias"] = uniform(FILTER, fan=EMB_DIM)
        p[f + "1.freq"] = torch.full((1, FILTER), SINE_W)
        for k in range(1, INNER_MLPS + 1):
            p[f + "%d.weight" % (2 * k)] = uniform(FILTER, FILTER, fan=FILTER)
            p[f + "%d.bias" % (2 * k)] = uniform(FILTER, fan=FILTER)
        p[f + "%d.weight" % (2 * INNER_MLPS + 2)] = uniform(D, FILTER, fan=FILTER)
        p[b + "mixer.out_proj.weight"] = normal(D, D, std=into_residual)
        p[b + "mixer.out_proj.bias"] = torch.zeros(D)
        for norm in ("norm1", "norm2"):
            p[b + norm + ".weight"] = torch.ones(D)
            p[b + norm + ".bias"] = torch.zeros(D)
        p[b + "mlp.fc1.weight"] = normal(INNER, D)
        p[b + "mlp.fc1.bias"] = torch.zeros(INNER)
        p[b + "mlp.fc2.weight"] = normal(D, INNER, std=into_residual)
        p[b + "mlp.fc2.bias"] = torch.zeros(D)
    p["backbone.ln_f.weight"] = torch.ones(D)
    p["backbone.ln_f.bias"] = torch.zeros(D)
    return p


SHAPE_STEPS = 2000


def wanted_filters():
    """Filter shapes to start from, [L_MAX,D], each of unit energy. Half of the channels
    look at one place in the past (single bases for the nearest 16, wider and wider ones
    up to 512 bases back), half forget exponentially at speeds from 4 to 400 bases."""
    t = torch.arange(L_MAX).float()[:, None]
    half = D // 2
    near = torch.arange(16).float()
    far = 16 * (512 / 16) ** (torch.arange(half - 16).float() / (half - 17))
    lag = torch.cat([near, far])
    place = torch.exp(-0.5 * ((t - lag) / torch.clamp(lag / 8, min=0.5)) ** 2)
    tau = 4 * (400 / 4) ** (torch.arange(half).float() / (half - 1))
    k = torch.cat([place, torch.exp(-t / tau)], dim=1)
    return k / k.norm(dim=0)


def shape_filters(p, steps, lr=2e-3):
    """Fits the filter networks to wanted_filters(). A freshly drawn filter is smooth over
    some ten bases, so the network could not tell neighbouring bases apart; it needs very
    many steps to find sharp filters by itself, and half a minute here."""
    net, want = Network(p), wanted_filters()
    for i in range(LAYERS):
        b = "backbone.layers.%d." % i
        mine = [v for k, v in p.items() if k.startswith(b + "mixer.filter_fn.implicit")]
        for v in mine:
            v.requires_grad_()
        opt = torch.optim.Adam(mine, lr=lr)
        for step in range(steps):
            opt.param_groups[0]["lr"] = lr * rate(step, steps, 20)
            error = ((net.long_filter(b, L_MAX).t() - want) ** 2).sum() / D
            opt.zero_grad()
            error.backward()
            opt.step()
        for v in mine:
            v.requires_grad_(False)
        if steps > 1:
            print("filters of layer %d: %.1f %% of the wanted energy missed"
                  % (i, 100 * error.item()), flush=True)


class TanhGelu(torch.autograd.Function):
    """GELU, tanh form. Written with the sigmoid, 0.5(1+tanh u) = sigmoid(2u), because
    that one is vectorised on the CPU and the built-in is several times slower."""
    C = 2 * math.sqrt(2 / math.pi)

    A = 3 * 0.044715 * C

    @staticmethod
    def forward(ctx, x):
        s = (x * x).mul_(TanhGelu.A / 3).add_(TanhGelu.C).mul_(x).sigmoid_()
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx, g):
        x, s = ctx.saved_tensors
        # d(x s) = s + s (1-s) x u'(x) with x u' = (A x^2 + C) x; in place, memory is slow
        slope = (x * x).mul_(TanhGelu.A).add_(TanhGelu.C).mul_(x)
        return slope.addcmul_(slope, s, value=-1).add_(1).mul_(s).mul_(g)


class LongConv(torch.autograd.Function):
    """y[b,c,t] = sum over s<=t of k[c,t-s] v[b,c,s], by zero-padded FFT."""

    @staticmethod
    def forward(ctx, v, k):
        n = 2 * v.shape[-1]
        vf, kf = torch.fft.rfft(v, n), torch.fft.rfft(k, n)
        ctx.save_for_backward(vf, kf)
        return torch.fft.irfft(vf * kf, n)[..., :v.shape[-1]]

    @staticmethod
    def backward(ctx, g):
        vf, kf = ctx.saved_tensors
        length = g.shape[-1]
        n = 2 * length
        gf = torch.fft.rfft(g, n)
        dv = torch.fft.irfft(gf * kf.conj(), n)[..., :length]
        dk = torch.fft.irfft((gf * vf.conj()).sum(0), n)[..., :length]
        return dv, dk


class Network:
    """Forward pass over a dict of tensors p; dropout rates are zero outside training."""

    def __init__(self, p):
        self.p = p
        self.z, t = position_grid(L_MAX)
        self.window = decay_window(t) + SHIFT
        self.embed_drop = self.resid_drop = 0.0

    def long_filter(self, b, length):
        """k [D,length]: the first rows of the grid that belongs to L_MAX."""
        p, f = self.p, b + "mixer.filter_fn.implicit_filter."
        h = self.z[:length]
        for k in range(INNER_MLPS + 1):
            h = torch.sin(p[f + "1.freq"] * F.linear(h, p[f + "%d.weight" % (2 * k)],
                                                     p[f + "%d.bias" % (2 * k)]))
        h = F.linear(h, p[f + "%d.weight" % (2 * INNER_MLPS + 2)])
        return (h * self.window[:length]).t().contiguous()

    def mixer(self, b, u):
        p, (batch, length, _) = self.p, u.shape
        w = p[b + "mixer.in_proj.weight"].expand(batch, 3 * D, D)
        x = torch.baddbmm(p[b + "mixer.in_proj.bias"][None, :, None], w, u.transpose(1, 2))
        x = F.conv1d(x, p[b + "mixer.short_filter.weight"], p[b + "mixer.short_filter.bias"],
                     padding=2, groups=3 * D)[..., :length]
        x0, x1, v = x.split(D, dim=1)
        v = v * x1
        y = LongConv.apply(v, self.long_filter(b, length))
        y = (y + v * p[b + "mixer.filter_fn.bias"][:, None]) * x0
        return F.linear(y.transpose(1, 2), p[b + "mixer.out_proj.weight"],
                        p[b + "mixer.out_proj.bias"])

    def norm(self, name, x):
        return F.layer_norm(x, (D,), self.p[name + ".weight"], self.p[name + ".bias"], EPS)

    def dropped(self, x, rate):
        return F.dropout(x, rate) if rate > 0 else x

    def logits(self, ids):
        """ids [B,L] -> logits [B,L,16]."""
        p = self.p
        table = p["backbone.embeddings.word_embeddings.weight"]
        r = self.dropped(F.embedding(ids, table), self.embed_drop)
        for i in range(LAYERS):
            b = "backbone.layers.%d." % i
            r = r + self.dropped(self.mixer(b, self.norm(b + "norm1", r)), self.resid_drop)
            h = F.linear(self.norm(b + "norm2", r), p[b + "mlp.fc1.weight"], p[b + "mlp.fc1.bias"])
            h = F.linear(TanhGelu.apply(h), p[b + "mlp.fc2.weight"], p[b + "mlp.fc2.bias"])
            r = r + self.dropped(h, self.resid_drop)
        return F.linear(self.norm("backbone.ln_f", r), table)


# --- windows of training data -----------------------------------------------

class Windows:
    """Endless random windows: each pass tiles every block from a fresh random
    offset, on random strands, in random order, so all bases are seen equally."""

    def __init__(self, blocks, rng):
        self.blocks = [(c, data.reverse_complement(c)) for _, _, c in blocks]
        self.rng = rng
        self.queue = []

    def refill(self, length):
        for i, pair in enumerate(self.blocks):
            n = len(pair[0])
            start = int(self.rng.integers(0, min(length, n - length)))
            while start + length + 1 <= n:
                self.queue.append((i, int(self.rng.integers(0, 2)), start))
                start += length
        self.rng.shuffle(self.queue)

    def batch(self, size, length):
        """[size, length+1] base codes."""
        rows = []
        while len(rows) < size:
            if not self.queue:
                self.refill(length)
            i, strand, start = self.queue.pop()
            rows.append(self.blocks[i][strand][start:start + length + 1])
        return np.stack(rows).astype(np.int64)


def inputs_and_targets(codes, rng, blank):
    """Ids to read and ids to predict. A few read bases are blanked to N or UNK, and a
    few windows start with [CLS], so that those rows of the embedding mean something
    and the model does not lean on single bases. -100 = not scored."""
    ids = np.where(codes < 4, codes + FIRST_BASE, N_BASE)
    read, target = ids[:, :-1].copy(), ids[:, 1:].copy()
    target[codes[:, 1:] > 3] = -100
    if blank > 0:
        gone = rng.random(read.shape) < blank
        read[gone] = np.where(rng.random(read.shape) < 0.75, N_BASE, UNK)[gone]
    first = rng.random(len(read)) < 0.1
    read[first, 0] = CLS
    return torch.from_numpy(read), torch.from_numpy(target)


# --- measuring ----------------------------------------------------------------

def window_bits(net, codes, starts, length):
    """-log2 p over ACGT of positions start+1.. of each window: [len(starts), length-1]."""
    rows = np.stack([codes[s:s + length] for s in starts]).astype(np.int64)
    ids = torch.from_numpy(np.where(rows < 4, rows + FIRST_BASE, N_BASE))
    logp = F.log_softmax(net.logits(ids)[:, :-1, FIRST_BASE:FIRST_BASE + 4], dim=-1)
    target = torch.from_numpy(np.minimum(rows[:, 1:], 3))
    return (-logp.gather(2, target[..., None])[..., 0] / math.log(2)).numpy()


@torch.no_grad()
def block_bits(net, codes, step):
    """Bits of every base of a block, nan where not scored. Windows start every `step`
    bases; a base already scored by an earlier window (longer left context) keeps that."""
    n, w = len(codes), data.WINDOW
    bits = np.full(n, np.nan)
    full = list(range(0, n - w + 1, step))
    tail = full[-1] + step if full else 0
    for at in range(0, len(full), 16):
        group = full[at:at + 16]
        for s, b in zip(group, window_bits(net, codes, group, w)):
            fill(bits, s, b)
    if n - tail > 1:
        fill(bits, tail, window_bits(net, codes, [tail], n - tail)[0])
    bits[codes > 3] = np.nan
    return bits


def fill(bits, start, new):
    """Writes a window's bits at start+1.. but keeps what is there already."""
    part = bits[start + 1:start + 1 + len(new)]
    empty = np.isnan(part)
    part[empty] = new[empty]


def evaluate(net, blocks, step):
    """Bits per base: all, per species, per block."""
    per = {}
    for label, species, codes in blocks:
        bits = block_bits(net, codes, step)
        bits = bits[~np.isnan(bits)]
        for name in ("all", species, label):
            per.setdefault(name, []).append(bits)
    return {name: float(np.concatenate(x).mean()) for name, x in per.items()}


# --- files ----------------------------------------------------------------------

def rounded(p):
    """What is stored: matrices as F16, small vectors as F32."""
    return {k: (v.detach().half() if v.dim() >= 2 else v.detach().float()) for k, v in p.items()}


def write_safetensors(path, tensors, meta):
    """8-byte header length, JSON header padded to 8, then the data without holes."""
    kinds = {torch.float16: "F16", torch.float32: "F32"}
    header, blobs, at = {"__metadata__": meta}, [], 0
    # largest element first keeps every tensor aligned to its own element size
    for name, t in sorted(tensors.items(), key=lambda x: (-x[1].element_size(), x[0])):
        raw = t.contiguous().numpy().tobytes()
        header[name] = {"dtype": kinds[t.dtype], "shape": list(t.shape),
                        "data_offsets": [at, at + len(raw)]}
        blobs.append(raw)
        at += len(raw)
        assert len(raw) % 8 == 0, "every tensor here is a multiple of 8 bytes"
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".part", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    os.replace(path + ".part", path)


def read_safetensors(path):
    """The tensors of a file written above, as float32."""
    with open(path, "rb") as f:
        (n,) = struct.unpack("<Q", f.read(8))
        header, body = json.loads(f.read(n)), f.read()
    types = {"F16": np.float16, "F32": np.float32}
    out = {}
    for name, h in header.items():
        if name != "__metadata__":
            a, b = h["data_offsets"]
            values = np.frombuffer(body[a:b], dtype=types[h["dtype"]]).reshape(h["shape"])
            out[name] = torch.from_numpy(values.astype(np.float32))
    return out


CONFIG = {
    "model_name": "hyenadna-tiny-strand",
    "d_model": D, "n_layer": LAYERS, "d_inner": INNER, "vocab_size": VOCAB,
    "resid_dropout": 0.0, "embed_dropout": 0.05, "fused_mlp": False,
    "fused_dropout_add_ln": False, "residual_in_fp32": True,
    "pad_vocab_size_multiple": 8, "checkpoint_mixer": False, "checkpoint_mlp": False,
    "layer": {"_name_": "hyena", "emb_dim": EMB_DIM, "filter_order": FILTER,
              "local_order": 3, "l_max": L_MAX, "modulate": True, "w": int(SINE_W),
              "shift": SHIFT, "lr": 0.0006, "wd": 0.0, "lr_pos_emb": 0.0},
}


def save(folder, p, args, step):
    """Writes the rounded weights and the config."""
    os.makedirs(folder, exist_ok=True)
    config = dict(CONFIG, resid_dropout=args.resid_drop, embed_dropout=args.embed_drop)
    config["layer"] = dict(CONFIG["layer"], lr=round(args.lr * args.filter_lr, 9))
    write_safetensors(os.path.join(folder, "model.safetensors"), rounded(p), {
        "format": "pt", "model_name": CONFIG["model_name"], "shift": str(SHIFT),
        "steps": str(step), "seed": str(args.seed), "licence": "see MODEL_CARD.md"})
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")


# --- training -------------------------------------------------------------------

def by_optimizer(p):
    """The big matrices (Muon), the vectors with the embedding, the filter networks. The
    last two go to AdamW without weight decay; the filters, which turn small changes of a
    weight into big changes of shape, at a lower rate."""
    matrices, vectors, filters = [], [], []
    for name, v in p.items():
        if "implicit_filter" in name:
            filters.append(v)
        elif v.dim() == 2 and "embeddings" not in name:
            matrices.append(v)
        else:
            vectors.append(v)
    return matrices, vectors, filters


class Muon:
    """Momentum whose update is made orthogonal (all singular values near one) before it
    is applied: the published Muon rule, for the big matrices only. It learns the many
    rare patterns of a small data set in fewer steps than AdamW does."""

    def __init__(self, matrices, momentum=0.95):
        self.matrices = matrices
        self.memory = [torch.zeros_like(m) for m in matrices]
        self.momentum = momentum

    @staticmethod
    def orthogonal(g):
        """Newton-Schulz iteration with the quintic coefficients of the Muon paper."""
        tall = g.shape[0] > g.shape[1]
        x = g.t() if tall else g
        x = x / (x.norm() + 1e-7)
        for _ in range(5):
            a = x @ x.t()
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
        return x.t() if tall else x

    @torch.no_grad()
    def step(self, lr, wd):
        for m, old in zip(self.matrices, self.memory):
            old.lerp_(m.grad, 1 - self.momentum)
            g = m.grad.lerp(old, self.momentum)
            # in_proj is three square matrices stacked: each is made orthogonal by itself
            parts = g.split(D) if m.shape[0] == 3 * D else [g]
            update = torch.cat([self.orthogonal(x) for x in parts])
            scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5 if len(parts) == 1 else 1.0
            m.mul_(1 - lr * wd).add_(update, alpha=-lr * scale)


def rate(step, total, warmup):
    """Share of the peak rate: linear warm-up, then a cosine down to 0.02."""
    if step < warmup:
        return (step + 1) / warmup
    x = (step - warmup) / max(1, total - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, x)))


def keep_freed_memory():
    """glibc gives big freed blocks back to the kernel and then faults them in again on
    every step, which is slow; so tell it to keep them."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-8, 1)                # M_ARENA_MAX: the backward thread shares ours
        libc.mallopt(-3, 32 << 20)         # M_MMAP_THRESHOLD, the largest it accepts
        libc.mallopt(-1, 0x7fffffff)       # M_TRIM_THRESHOLD
        libc.mallopt(-2, 1 << 28)          # M_TOP_PAD
    except (OSError, AttributeError):
        pass


class Trainer:
    def __init__(self, args, parts, shape_steps=SHAPE_STEPS):
        self.args = args
        gen = torch.Generator().manual_seed(args.seed)
        torch.manual_seed(args.seed)   # dropout
        self.rng = np.random.default_rng(args.seed)
        fresh = new_parameters(gen)
        shape_filters(fresh, shape_steps)
        self.p = {k: v.requires_grad_() for k, v in fresh.items()}
        self.mean = {k: v.detach().clone() for k, v in self.p.items()}   # running average
        self.net = Network(self.p)
        self.windows = Windows(parts["train"], self.rng)
        matrices, vectors, filters = by_optimizer(self.p)
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW([{"params": vectors, "peak": args.lr},
                                       {"params": filters, "peak": args.lr * args.filter_lr}],
                                      lr=args.lr, betas=(0.9, 0.98), weight_decay=0.0)

    def step(self, step, total):
        args = self.args
        codes = self.windows.batch(args.tokens // data.WINDOW, data.WINDOW)
        read, target = inputs_and_targets(codes, self.rng, args.blank)
        now = rate(step, total, args.warmup)
        self.net.embed_drop, self.net.resid_drop = args.embed_drop, args.resid_drop
        loss = F.cross_entropy(self.net.logits(read).reshape(-1, ROWS), target.reshape(-1),
                               ignore_index=-100)
        for v in self.p.values():
            v.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.p.values()), args.clip)
        self.muon.step(args.muon * now, args.wd)
        for g in self.adam.param_groups:
            g["lr"] = g["peak"] * now
        self.adam.step()
        # short memory at first, so that the average forgets the random start
        keep = min(args.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for k, v in self.p.items():
                self.mean[k].lerp_(v, 1 - keep)
        return loss.item() / math.log(2)


def averaged(mean):
    """A network as a reader of the stored file sees it: average, rounded, back to F32."""
    return Network({k: v.float() for k, v in rounded(mean).items()})


def measure_steps(args, parts):
    """How many steps fit in --minutes: time a few on a throwaway."""
    trial = Trainer(args, parts, shape_steps=1)
    for i in range(13):
        if i == 3:
            began = time.time()
        trial.step(i, 10 ** 6)
    each = (time.time() - began) / 10
    return max(1, int((args.minutes * 60 - 40) / (each * 1.05)))   # validation, filter shaping


def train(args, parts):
    total = measure_steps(args, parts) if args.minutes else args.steps
    t = Trainer(args, parts)
    print("split %s, %d parameters, %d steps" % (
        data.fingerprint(parts), sum(v.numel() for v in t.p.values()), total), flush=True)
    began, best, smooth, kept = time.time(), 9.0, None, 0
    for step in range(total):
        bits = t.step(step, total)
        smooth = bits if smooth is None else 0.98 * smooth + 0.02 * bits
        done = step + 1
        if done % args.every == 0 or done == total:
            valid = evaluate(averaged(t.mean), parts["valid"], data.WINDOW)
            mark = ""
            if valid["all"] < best:      # early choice: on the validation blocks only
                best, kept, mark = valid["all"], done, " *"
                save(args.out, t.mean, args, done)
            print("%6d  %6.1f min  train %.4f  valid %.4f (%s)%s" % (
                done, (time.time() - began) / 60, smooth, valid["all"],
                " ".join("%.4f" % valid[s] for s in ("C. elegans", "human")), mark), flush=True)
    return {"steps": total, "kept_step": kept, "minutes": (time.time() - began) / 60,
            "bases_seen": total * args.tokens}


def final_report(args, parts, report):
    """Held-out figures, measured with the file as written."""
    net = Network(read_safetensors(os.path.join(args.out, "model.safetensors")))
    for part in ("valid", "test", "unseen"):
        report[part] = {"tiled": evaluate(net, parts[part], data.WINDOW),
                        "overlap": evaluate(net, parts[part], data.WINDOW // 2)}
        for way, figures in report[part].items():
            for name, bits in figures.items():
                print("%-7s %-8s %8.4f  %s" % (part, way, bits, name))
    with open(os.path.join(args.out, "report.json"), "w") as f:
        json.dump(report, f, indent=1)


def arguments():
    ap = argparse.ArgumentParser(description="train the built-in DNA model")
    ap.add_argument("--data", required=True, help="folder that holds the FASTA files")
    ap.add_argument("--out", required=True, help="folder for the weights")
    ap.add_argument("--steps", type=int, default=14000, help="number of steps")
    ap.add_argument("--minutes", type=float, default=0, help="time to fill, instead of --steps")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--tokens", type=int, default=4096, help="bases per step")
    ap.add_argument("--muon", type=float, default=0.02, help="rate of the big matrices")
    ap.add_argument("--lr", type=float, default=2e-3, help="rate of vectors and embedding")
    ap.add_argument("--filter-lr", type=float, default=0.3, help="filter rate, share of --lr")
    ap.add_argument("--wd", type=float, default=0.05, help="weight decay of the big matrices")
    ap.add_argument("--warmup", type=int, default=200)
    ap.add_argument("--clip", type=float, default=1.0)
    ap.add_argument("--ema", type=float, default=0.998, help="memory of the running average")
    ap.add_argument("--embed-drop", type=float, default=0.05)
    ap.add_argument("--resid-drop", type=float, default=0.0)
    ap.add_argument("--blank", type=float, default=0.003, help="share of read bases blanked")
    ap.add_argument("--every", type=int, default=250, help="steps between validations")
    ap.add_argument("--eval-only", action="store_true", help="only measure the file in --out")
    return ap.parse_args()


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    parts = data.load(args.data)
    report = {"command": " ".join(sys.argv[1:])}
    if not args.eval_only:
        report.update(train(args, parts))
    final_report(args, parts, report)


if __name__ == "__main__":
    main()
