#!/usr/bin/env python3
"""Strand beside llama.cpp on the same GGUF files: prompt processing and generation, in alternating rounds, one thread each.

    tests/bench/llama.py STRAND LLAMA_BENCH FILE.gguf... [--rounds 5] [--pp 512] [--tg 64] [--threads 1] [--format md|json]

Each round runs `llama-bench -r 1` and `strand bench -n 1` on the file, the other one first in every second round; both warm up. A row is
the medians of the rates, the median of the rounds' own ratios [least, most], and the most memory that each process had. The files come
from tests/bench/make_gguf.py and `strand quantize`. With more than one processor both are pinned to as many as there are threads.
"""
import argparse, json, os, statistics, subprocess, sys

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("strand"), parser.add_argument("llama_bench"), parser.add_argument("files", nargs="+")
parser.add_argument("--rounds", type=int, default=5), parser.add_argument("--pp", type=int, default=512), parser.add_argument("--tg", type=int, default=64)
parser.add_argument("--threads", type=int, default=1), parser.add_argument("--format", choices=["md", "json"], default="md")
a = parser.parse_args()
cores = set(sorted(os.sched_getaffinity(0))[: a.threads])


def child(command):
    """Its standard output and its peak RSS in MiB."""
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, cores))
    text = p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    if status:
        sys.exit("failed: " + " ".join(command))
    return json.loads(text), usage.ru_maxrss / 1024


def llama(file):
    rows, rss = child([a.llama_bench, "-m", file, "-t", str(a.threads), "-p", str(a.pp), "-n", str(a.tg), "-r", "1", "-o", "json"])
    return [next(r["avg_ts"] for r in rows if r["n_prompt" if kind == "pp" else "n_gen"]) for kind in ("pp", "tg")] + [rss]


def strand(file):
    rows, rss = child([a.strand, "bench", file, "-q", "-n", "1", "-@", str(a.threads), "--pp", str(a.pp), "--tg", str(a.tg), "-f", "json"])
    rows = rows if isinstance(rows, list) else rows["rows"]
    return [next(r["tokens_per_second"] for r in rows if r["test"].startswith(kind)) for kind in ("pp", "tg")] + [rss]


out = []
for file in a.files:
    ours, theirs = [], []
    for i in range(a.rounds):
        for who, to in ((strand, ours), (llama, theirs)) if i % 2 else ((llama, theirs), (strand, ours)):
            to.append(who(file))
    row = {"file": os.path.basename(file), "rounds": a.rounds, "threads": a.threads}
    for k, kind in enumerate(("pp", "tg")):
        ratios = [o[k] / t[k] for o, t in zip(ours, theirs)]
        row[kind] = {"strand": statistics.median(o[k] for o in ours), "llama": statistics.median(t[k] for t in theirs),
                     "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    row["rss"] = {"strand": max(o[2] for o in ours), "llama": max(t[2] for t in theirs)}
    out.append(row)
    if a.format == "md":
        if len(out) == 1:
            print(f"| file | pp{a.pp}, t/s: Strand | llama.cpp | ratio | tg{a.tg}, t/s: Strand | llama.cpp | ratio | peak RSS, MiB: Strand | llama.cpp |")
            print("|---|--:|--:|---|--:|--:|---|--:|--:|")
        cells = " | ".join(f"{row[k]['strand']:.1f} | {row[k]['llama']:.1f} | {row[k]['ratio']:.2f} [{row[k]['least']:.2f}, {row[k]['most']:.2f}]" for k in ("pp", "tg"))
        print(f"| {row['file'].removesuffix('.gguf')} | {cells} | {row['rss']['strand']:.0f} | {row['rss']['llama']:.0f} |", flush=True)
if a.format == "json":
    print(json.dumps(out, indent=1))
