#!/usr/bin/env python3
"""`strand eeg stage` against the published evaluation written out: scipy filters the signals, numpy cuts epochs and windows, each window
goes through the whole network by `strand run`, and log probabilities are added. Usage: eeg_stage_oracle.py STRAND MODEL"""
import subprocess, sys
import numpy as np
from scipy import signal

sys.dont_write_bytecode = True
from oracle_tensors import read_tensor, write_tensors

strand, model = sys.argv[1:3]
RATE, EPOCHS, CONTEXT = 250, 12, 21
LABELS = ["C3", "F3", "F4", "O1", "O2", "FP1", "FP2", "M1", "M2", "EMG", "ECG", "EOG1", "EOG2"]
CHANNELS = ["C3-M2", "F4-M1", "F3-F4", "F3-M2", "F4-O2", "F3-O1", "FP1-F3", "FP1-M2", "FP1-O1", "FP2-F4", "FP2-M1", "FP2-O2",
            "EMG", "ECG", "EOG1", "EOG2"]


def write_edf(path, signals):
    """Plain EDF, one-second records, -3276.8 to 3276.7 uV. Returns what a reader gets."""
    n = len(LABELS)
    pad = lambda text, width: str(text).encode().ljust(width)
    labels = [f"EEG {c}-REF" if c[0] != "E" else c for c in LABELS]
    head = pad(0, 8) + pad("X", 80) * 2 + pad("01.01.85", 8) + pad("00.00.00", 8) + pad(256 * (n + 1), 8) + pad("", 44)
    head += pad(EPOCHS * 30, 8) + pad(1, 8) + pad(n, 4) + b"".join(pad(c, 16) for c in labels)
    for text, width in (("", 80), ("uV", 8), (-3276.8, 8), (3276.7, 8), (-32768, 8), (32767, 8), ("", 80), (RATE, 8), ("", 32)):
        head += pad(text, width) * n
    stored = np.clip(np.rint(signals * 10), -32768, 32767).astype("<i2")
    with open(path, "wb") as f:
        f.write(head + stored.reshape(n, -1, RATE).transpose(1, 0, 2).tobytes())
    return stored / 10.0


rng = np.random.default_rng(3)
t = np.arange(RATE * 30 * EPOCHS) / RATE
raw = [np.cumsum(rng.normal(size=t.size)) for _ in LABELS]
raw = [signal.sosfilt(signal.butter(2, 0.3, "high", fs=RATE, output="sos"), x) * 20 + 30 * np.sin(2 * np.pi * (1 + 3 * (t // 90)) * t) for x in raw]
have = dict(zip(LABELS, write_edf("night.edf", np.stack(raw))))
x = np.stack([have[c] if "-" not in c else have[c.split("-")[0]] - have[c.split("-")[1]] for c in CHANNELS])
for order, band, kind in ((2, (0.4, 18), "bandpass"), (3, (58, 62), "bandstop"), (3, (48, 52), "bandstop"), (1, (62, 63), "bandstop")):
    x = signal.sosfilt(signal.iirfilter(order, [e * 2 / RATE for e in band], btype=kind, ftype="butter", output="sos"), x)
at = np.arange(0, t.size, RATE / 100)
x = np.stack([np.interp(at, np.arange(t.size), c) for c in x]).reshape(16, EPOCHS, 3000).transpose(1, 0, 2)
half = CONTEXT // 2
nothing = np.zeros((half, 16, 3000))
x = np.concatenate([nothing, x, nothing])
sums, counts = np.zeros((EPOCHS + 2 * half, 5)), np.zeros((EPOCHS + 2 * half, 1))
for e in range(EPOCHS):
    index = np.clip(np.arange(e - half, e + half + 1), 0, EPOCHS - 1).astype(float)
    cycles = np.cos(np.pi * index[:, None] / np.array([10, 30, 60, 90, 120]))
    write_tensors("in.st", {"signals": x[e:e + CONTEXT][None], "epoch_index": (index / 1200)[None, :, None], "epoch_cycle_index": cycles[None]})
    subprocess.run([strand, "run", model, "-q", "-i", "in.st", "-o", "out.st", "--outputs", "logits"], check=True)
    z = read_tensor("out.st", "logits").reshape(CONTEXT, 5).astype(float)
    sums[e:e + CONTEXT] += z - np.log(np.exp(z).sum(-1, keepdims=True))
    counts[e:e + CONTEXT] += 1
want = np.exp(sums[half:-half] / counts[half:-half])
want /= want.sum(-1, keepdims=True)
rows = subprocess.run([strand, "eeg", "stage", "-q", "--no-version", "-m", model, "night.edf"], capture_output=True, text=True, check=True).stdout.splitlines()[1:]
got = np.array([[float(v) for v in row.split("\t")[3:]] for row in rows])
error = np.abs(got - want).max() if got.shape == want.shape else np.inf
print(f"stages: {len(rows)} epochs, largest difference of a probability {error:.2e}")
sys.exit(not error < 2e-3)
