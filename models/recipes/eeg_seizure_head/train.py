#!/usr/bin/env python3
"""Trains eeg-seizure-head: 64 weights and a bias on the encoder of a pretrained EEG predictor.

    python3 train.py --strand build/apps/strand --model pretrained_distance_graph_12s.pth.tar --clips DIR --out head.safetensors

DIR holds the clips SZ_sample1.mat ... Other_sample4.mat of bdsp-core/IIIC-SPaRCNet (code_for_figures/Data/Figure4to6/samples,
ODC-By 1.0): 24 recordings of 50 s, labelled by what is in their middle. `strand eeg embed --per-node` gives the encoder's last
state of every window of 12 s, one a second; the head is a logistic regression on the mean over the channels of max(state, 0).
Needs numpy. Deterministic: the same clips give the same bytes.
"""
import argparse, json, os, re, struct, subprocess, tempfile
import numpy as np

CENTRE = slice(13, 26)  # windows that hold the labelled middle of a clip


def embed(strand, model, clip):
    with tempfile.NamedTemporaryFile(suffix=".npy") as f:
        subprocess.run([strand, "eeg", "embed", "-q", "--per-node", "-m", model, clip, "--rate", "200", "--channels",
                        "iiic-sparcnet", "--step", "1", "-o", f.name], check=True)
        return np.maximum(np.load(f.name).astype(np.float64), 0).mean(1)


def fit(x, y, weight, strength):
    """Weighted logistic regression by Newton's method; the penalty is on standardised weights."""
    mean, std = x.mean(0), x.std(0) + 1e-6
    z = np.c_[(x - mean) / std, np.ones(len(x))]
    penalty = strength * np.eye(z.shape[1])
    penalty[-1, -1] = 1e-6
    b = np.zeros(z.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-z @ b))
        step = np.linalg.solve((z * (weight * p * (1 - p))[:, None]).T @ z + penalty, z.T @ (weight * (p - y)) + penalty @ b)
        b -= step
        if abs(step).max() < 1e-10:
            break
    w = b[:-1] / std
    return w, b[-1] - w @ mean


def training_rows(features, names):
    """Of a clip with a seizure the windows over its middle, of the others all; every clip weighs the same within its class."""
    x, y, weight = [], [], []
    for name in names:
        rows = features[name][CENTRE] if name.startswith("SZ") else features[name]
        x.append(rows)
        y.append(np.full(len(rows), float(name.startswith("SZ"))))
        weight.append(np.full(len(rows), 1 / len(rows)))
    x, y, weight = map(np.concatenate, (x, y, weight))
    for c in (0, 1):
        weight[y == c] *= len(names) / 2 / weight[y == c].sum()
    return x, y, weight


def auc(score, label):
    p, n = score[label], score[~label]
    return float(((p[:, None] > n) + 0.5 * (p[:, None] == n)).mean())


def leave_one_out(features, strength):
    names = sorted(features)
    scores = {}
    for name in names:
        w, b = fit(*training_rows(features, [n for n in names if n != name]), strength)
        scores[name] = features[name] @ w + b
    label = np.array([n.startswith("SZ") for n in names])
    clip = np.array([scores[n][CENTRE].mean() for n in names])
    windows = np.concatenate([scores[n][CENTRE] for n in names])
    window_label = np.repeat(label, 13)
    return names, label, clip, {
        "clip_auc": auc(clip, label), "window_auc": auc(windows, window_label),
        "sensitivity": float((clip[label] >= 0).mean()), "specificity": float((clip[~label] < 0).mean())}


def save(path, w, b):
    tensors = {"fc.weight": w.astype("<f4").reshape(1, -1), "fc.bias": np.array([b], "<f4"), "threshold": np.array([0.5], "<f4")}
    header, at, data = {}, 0, b""
    for name, value in tensors.items():
        raw = value.tobytes()
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def main():
    p = argparse.ArgumentParser()
    for name in ("strand", "model", "clips", "out"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--strength", type=float, default=30)
    a = p.parse_args()
    clips = sorted(c for c in os.listdir(a.clips) if re.fullmatch(r"(SZ|LPD|GPD|LRDA|GRDA|Other)_sample\d\.mat", c))
    features = {c[:-4]: embed(a.strand, a.model, os.path.join(a.clips, c)) for c in clips}
    for strength in sorted({0.3, 3.0, 30.0, 300.0, a.strength}):
        print(f"strength {strength:g}: leave one recording out:", json.dumps({k: round(v, 3) for k, v in leave_one_out(features, strength)[3].items()}))
    names, label, clip, _ = leave_one_out(features, a.strength)
    for name, score in zip(names, clip):
        print(f"{name}\t{1 / (1 + np.exp(-score)):.3f}")
    w, b = fit(*training_rows(features, names), a.strength)
    save(a.out, w, b)


main()
