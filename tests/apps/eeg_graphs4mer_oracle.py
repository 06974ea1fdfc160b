#!/usr/bin/env python3
"""GraphS4mer in its DOD-H sleep configuration (16 nodes, 7500 samples, windows of 2500, K 3, sum, 5 classes; arXiv 2211.11176 and the
published run_dodh.sh) against its equations in double precision: random weights under the published keys, `strand run` beside numpy. The
filters come from the state space itself, A = diag(w) - p p* made discrete by the bilinear rule and run tap by tap, and not from the
published Cauchy kernel. Once with whole clips, once with true lengths. Usage: eeg_graphs4mer_oracle.py STRAND"""
import math, subprocess, sys
import numpy as np
from scipy.special import erf

sys.dont_write_bytecode = True
from oracle_tensors import read_tensor, write_tensors

strand = sys.argv[1]
NODES, T, WINDOW, H, N, LAYERS, CLASSES, K, THRESH, RESIDUAL = 16, 7500, 2500, 128, 32, 4, 5, 3, 0.1, 0.6
rng = np.random.default_rng(11)


def uniform(*shape, by):
    return rng.uniform(-by, by, shape)


def checkpoint():
    w = {"t_model.encoder.weight": uniform(H, 1, by=1), "t_model.encoder.bias": uniform(H, by=1)}
    for i in range(LAYERS):
        s, k = f"t_model.s4_layers.{i}.", f"t_model.s4_layers.{i}.kernel.kernel."
        w[s + "D"] = rng.normal(size=(1, H))
        w[k + "C"] = rng.normal(size=(1, H, N, 2)) * 0.7
        w[k + "B"] = rng.normal(size=(1, H, N, 2))
        w[k + "P"] = rng.normal(size=(1, H, N, 2)) * 0.5
        w[k + "log_dt"] = rng.uniform(math.log(1e-3), math.log(1e-1), H)
        w[k + "inv_w_real"] = np.full((H, N), math.log(0.5)) + uniform(H, N, by=0.1)
        w[k + "w_imag"] = -np.pi * np.arange(N)[None, :] - rng.uniform(0.1, 0.5, (H, N))
        w[k + "L"] = np.array(T)
        w[s + "output_linear.weight"] = uniform(H, H, 1, by=0.09)
        w[s + "output_linear.bias"] = uniform(H, by=0.09)
        w[f"t_model.norms.{i}.weight"] = 1 + uniform(H, by=0.2)
        w[f"t_model.norms.{i}.bias"] = uniform(H, by=0.2)
    w["attn_layers.linear_Q.weight"], w["attn_layers.linear_K.weight"] = uniform(H, H, by=0.2), uniform(H, H, by=0.2)
    g = "gnn_layers.0."
    w.update({g + "eps": np.array([0.3]), g + "nn.0.weight": uniform(H, H, by=0.13), g + "nn.0.bias": uniform(H, by=0.09),
              g + "nn.2.weight": uniform(H, H, by=0.13), g + "nn.2.bias": uniform(H, by=0.09), g + "lin.weight": uniform(H, 1, by=1.5),
              g + "lin.bias": uniform(H, by=1)})
    w["classifier.weight"], w["classifier.bias"] = uniform(CLASSES, H, by=0.2), uniform(CLASSES, by=0.2)
    return {k: v if v.dtype.kind == "i" else v.astype(np.float32).astype(float) for k, v in w.items()}


def filters(w, i):
    """K[t] = Re C A^t B of the discrete system, [H, T]; the file's C is C (1 - A^T)."""
    k = f"t_model.s4_layers.{i}.kernel.kernel."
    pair = lambda name: w[k + name][0, ..., 0] + 1j * w[k + name][0, ..., 1]
    both = lambda x: np.concatenate([x, x.conj()], -1)
    poles, p, b, c = both(-np.exp(w[k + "inv_w_real"]) + 1j * w[k + "w_imag"]), both(pair("P")), both(pair("B")), both(pair("C"))
    a = np.zeros((H, 2 * N, 2 * N), complex)
    a[:, np.arange(2 * N), np.arange(2 * N)] = poles
    a -= p[:, :, None] * p.conj()[:, None, :]
    half = np.exp(w[k + "log_dt"])[:, None, None] / 2
    one = np.eye(2 * N)
    back = np.linalg.inv(one - half * a)
    step, b = back @ (one + half * a), (back @ (2 * half * b[:, :, None]))[..., 0]
    c = np.linalg.solve((one - np.linalg.matrix_power(step, T)).transpose(0, 2, 1), c[..., None])[..., 0]
    m = math.isqrt(T) + 1 # K[m i + j] = (c A^j) (A^(m i) b)
    rows, columns, leap = [c], [b], np.linalg.matrix_power(step, m)
    for _ in range(m - 1):
        rows.append(np.einsum("hi,hij->hj", rows[-1], step))
        columns.append(np.einsum("hij,hj->hi", leap, columns[-1]))
    return np.einsum("ahn,bhn->hab", np.stack(columns), np.stack(rows)).reshape(H, -1)[:, :T].real


def encode(w, kernels, x, length):
    """One clip [NODES, T] -> [NODES, T, H]."""
    x = x[..., None] * w["t_model.encoder.weight"][:, 0] + w["t_model.encoder.bias"]
    for i in range(LAYERS):
        s = f"t_model.s4_layers.{i}."
        u = x.transpose(0, 2, 1) * (np.arange(T) < length)
        y = np.fft.irfft(np.fft.rfft(u, 2 * T) * np.fft.rfft(kernels[i], 2 * T), 2 * T)[..., :T] + w[s + "D"][0][:, None] * u
        y = 0.5 * y * (1 + erf(y / math.sqrt(2)))
        x = x + y.transpose(0, 2, 1) @ w[s + "output_linear.weight"][..., 0].T + w[s + "output_linear.bias"]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        x = x * w[f"t_model.norms.{i}.weight"] + w[f"t_model.norms.{i}.bias"]
    return x


def soft(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def window(w, x):
    """[NODES, H] of one window -> attention, adjacency, messages."""
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    cosine, near = unit @ unit.T, np.zeros((NODES, NODES))
    for i in range(NODES):
        best = np.argsort(-cosine[i])[:K]
        near[i, best] = cosine[i, best]
    near = np.clip(near, 0, None)
    near = (near + near.T) / 2
    np.fill_diagonal(near, 1)
    q, k = x @ w["attn_layers.linear_Q.weight"].T, x @ w["attn_layers.linear_K.weight"].T
    attention = soft(q @ k.T / math.sqrt(H))
    attention = (attention + attention.T) / 2
    adjacency = RESIDUAL * near + (1 - RESIDUAL) * attention
    closest = np.abs(adjacency - THRESH).min()
    adjacency = np.where(adjacency > THRESH, adjacency, 0)
    edges = adjacency.copy()
    np.fill_diagonal(edges, 1)
    g, out = "gnn_layers.0.", np.zeros_like(x)
    for to in range(NODES):
        total = (1 + w[g + "eps"][0]) * x[to]
        for of in np.flatnonzero(edges[:, to]):
            total = total + np.maximum(x[of] + edges[of, to] * w[g + "lin.weight"][:, 0] + w[g + "lin.bias"], 0)
        out[to] = total
    out = np.maximum(out @ w[g + "nn.0.weight"].T + w[g + "nn.0.bias"], 0) @ w[g + "nn.2.weight"].T + w[g + "nn.2.bias"]
    return attention, adjacency, np.where(out > 0, out, 0.01 * out), closest


w = checkpoint()
kernels = [filters(w, i) for i in range(LAYERS)]
write_tensors("dodh.safetensors", {"model." + k: v for k, v in w.items()})
t = np.arange(T) / 250
clips = np.stack([[np.sin(2 * np.pi * (0.5 + 0.4 * c + 7 * b) * t + c) + rng.normal(size=T) for c in range(NODES)] for b in range(2)])
clips = clips.astype(np.float32).astype(float)
worst = 0
for lengths in (None, [T, 4321]):
    given = {"x": clips}
    if lengths:
        given["lengths"] = np.array(lengths)
    write_tensors("in.st", given)
    subprocess.run([strand, "run", "dodh.safetensors", "-q", "-i", "in.st", "-o", "out.st"] + (["--set", "lengths=given"] if lengths else []), check=True)
    want = {name: [] for name in ("window_mean", "attention", "adjacency", "features", "logits", "probabilities")}
    for b in range(2):
        length = lengths[b] if lengths else T
        x = encode(w, kernels, clips[b], length)
        means = [x[:, :length].mean(1)] if lengths else [x[:, i:i + WINDOW].mean(1) for i in range(0, T, WINDOW)]
        made = [window(w, x) for x in means]
        if min(m[3] for m in made) < 1e-4:
            sys.exit("the case has an edge at the threshold: choose another seed")
        features = np.mean([m[2] for m in made], 0).sum(0)
        logits = w["classifier.weight"] @ features + w["classifier.bias"]
        for name, value in zip(want, (np.squeeze(means), np.squeeze([m[0] for m in made]), np.squeeze([m[1] for m in made]), features, logits, soft(logits))):
            want[name].append(value)
    for name, values in want.items():
        values, got = np.stack(values), read_tensor("out.st", name).astype(float)
        error = np.abs(got.ravel() - values.ravel()).max() / max(1, np.abs(values).max()) if got.size == values.size else np.inf
        worst = max(worst, error)
        if not error < (1e-4 if name in ("window_mean", "attention", "adjacency") else 1e-3):
            sys.exit(f"{name}, lengths {lengths}: differs by {error:.2e} of the largest value")
print(f"GraphS4mer, DOD-H configuration, whole clips and true lengths: largest difference {worst:.1e} of the largest value")
