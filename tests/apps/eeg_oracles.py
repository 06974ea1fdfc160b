#!/usr/bin/env python3
"""Readers against pyedflib (libedf) and mne, resamplers against scipy. Usage: eeg_oracles.py EEG_DUMP DATA_FOLDER"""
import glob, os, subprocess, sys, warnings
from fractions import Fraction
import numpy as np

warnings.simplefilter("ignore")
dump, data = sys.argv[1:3]
checked, failed = 0, []


def ours(path, *how):
    return np.frombuffer(subprocess.run([dump, path, *(how or ("all",))], capture_output=True, check=True).stdout)


def check(what, a, b, tolerance):
    global checked
    checked += 1
    if a.shape != b.shape or not np.all(np.abs(a - b) <= tolerance * np.maximum(1, np.abs(b))):
        failed.append(f"{what}: {'shapes ' + str((a.shape, b.shape)) if a.shape != b.shape else np.abs(a - b).max()}")


def module(name):
    try:
        return __import__(name, fromlist=["x"])
    except ImportError:
        print(f"note: no {name}: its comparisons are skipped")


pyedflib, mne, signal, scipy_io = module("pyedflib"), module("mne"), module("scipy.signal"), module("scipy.io")
files = sorted(glob.glob(data + "/edf/*.[eb]df") + glob.glob(data + "/iiic-sparcnet/*.edf"))
for path in files:
    name, x = os.path.basename(path), ours(path)
    signals = None
    if pyedflib:
        try:
            with pyedflib.EdfReader(path) as f:
                signals = [(f.readSignal(i), f.getSampleFrequency(i)) for i in range(f.signals_in_file)]
        except OSError as e:
            print(f"note: libedf refuses {name}: {str(e)[-60:]}")
    if signals:
        check(f"{name}, libedf", x, np.concatenate([s for s, _ in signals]), 1e-12)
    if mne:
        mne.set_log_level("ERROR")
        read = mne.io.read_raw_bdf if name.endswith("bdf") else mne.io.read_raw_edf
        try:
            raw = read(path, preload=True, stim_channel=False, encoding="latin1")
            y = raw.get_data()
            if y.size == x.size:  # mne brings signals of different rates to one
                scale = [1e6 if raw._orig_units.get(c) in ("uV", "µV") else 1 for c in raw.ch_names]
                check(f"{name}, mne", x, (y * np.array(scale)[:, None]).ravel(), 1e-9)
        except Exception as e:
            print(f"note: mne refuses {name}: {str(e)[:80]}")
    if signals and signal:
        for rate in (200, 100, 173):
            lengths = [rate * int(len(s) / q) for s, q in signals]
            if min(lengths) < 1:
                continue
            y = np.concatenate([signal.resample(s, n) for (s, _), n in zip(signals, lengths)])
            check(f"{name}, scipy.signal.resample to {rate} Hz", ours(path, "fourier", str(rate)), y, 1e-6)
            ratios = [Fraction(rate) / Fraction(q).limit_denominator(1000) for _, q in signals]
            if max(max(r.numerator, r.denominator) for r in ratios) <= 2000:
                y = np.concatenate([signal.resample_poly(s, r.numerator, r.denominator) for (s, _), r in zip(signals, ratios)])
                check(f"{name}, scipy.signal.resample_poly to {rate} Hz", ours(path, "polyphase", str(rate)), y, 1e-6)
if scipy_io:
    for path in sorted(glob.glob(data + "/iiic-sparcnet/*.mat")):
        check(os.path.basename(path) + ", scipy.io.loadmat", ours(path), scipy_io.loadmat(path)["seg"].ravel(), 0)
for line in failed:
    print("FAIL:", line)
print(f"{checked - len(failed)} comparisons passed, {len(failed)} failed")
sys.exit(bool(failed) or not checked)
