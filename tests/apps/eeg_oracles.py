#!/usr/bin/env python3
"""Readers against pyedflib (libedf) and mne, resamplers against scipy, scores against timescoring.

Usage: eeg_oracles.py EEG_DUMP DATA_FOLDER STRAND"""
import glob, json, os, subprocess, sys, warnings
from fractions import Fraction
import numpy as np

warnings.simplefilter("ignore")
dump, data, strand = sys.argv[1:4]
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
    if signal and not signals:  # without libedf our own samples are resampled
        info = json.loads(subprocess.run([strand, "eeg", "info", "-q", "-f", "json", path], capture_output=True, check=True).stdout)
        counts = [round(s["rate"] * info["duration"]) for s in info["signals"]]
        if sum(counts) == x.size and info["duration"] < 100 and len(counts) <= 80:
            signals = [(s, i["rate"]) for s, i in zip(np.split(x, np.cumsum(counts)[:-1]), info["signals"])]
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


def random_events(rng, duration):
    t, events = 0, []
    for _ in range(rng.integers(0, 8)):
        t += round(float(rng.exponential(duration / 8)), 1) + 0.1
        d = round(float(rng.exponential(120)), 1) + 1
        if t + d > duration:
            break
        events.append((round(t, 1), round(t + d, 1)))
        t = round(t + d, 1)
    return events


def write_events(path, events, duration):
    rows = [(a, b - a, "sz") for a, b in events] or [(0, duration, "bckg")]
    with open(path, "w") as f:
        f.write("onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration\n")
        for a, d, kind in rows:
            f.write(f"{a:.2f}\t{d:.2f}\t{kind}\tn/a\tn/a\t2020-01-01 00:00:00\t{duration:.2f}\n")


def check_scores(scoring, annotation):
    rng = np.random.default_rng(0)
    for i in range(20):
        duration = float(rng.integers(600, 20000))
        reference, found = random_events(rng, duration), random_events(rng, duration)
        write_events("a.tsv", reference, duration)
        write_events("b.tsv", found, duration)
        ours = json.loads(subprocess.run([strand, "eeg", "score", "a.tsv", "b.tsv", "-f", "json"], capture_output=True, check=True).stdout)
        a, b = (annotation(e, 10, int(duration * 10)) for e in (reference, found))
        for kind, theirs in (("event_results", scoring.EventScoring(a, b)), ("sample_results", scoring.SampleScoring(a, b, 1))):
            for key in ("tp", "fp", "refTrue", "sensitivity", "precision", "f1", "fpRate"):
                x, y = ours[kind][key], float(getattr(theirs, key))
                check(f"score {i}, {kind} {key}", np.array([np.nan_to_num(-1 if x is None else x)]), np.array([-1 if np.isnan(y) else y]), 1e-5)


scoring = module("timescoring.scoring")
if scoring and getattr(module("importlib.metadata"), "version")("timescoring") >= "0.0.7":
    check_scores(scoring, module("timescoring.annotations").Annotation)
for line in failed:
    print("FAIL:", line)
print(f"{checked - len(failed)} comparisons passed, {len(failed)} failed")
sys.exit(bool(failed) or not checked)
