#!/usr/bin/env python3
"""Markov baselines for the built-in DNA model, in bits per base.

  python3 markov.py --data DIR [--max-order 20] [--only "C. elegans"|human] [--json FILE]

Every model counts the training blocks of data.py on both strands (the network
sees both strands too) and is scored on the same held-out bases as the network.
Smoothing is chosen on the validation blocks, never on the test blocks.

  order k         P(a|c) = (n(c,a) + alpha) / (n(c) + 4 alpha), best alpha per k
  Witten-Bell     orders 0..K mixed, weight from the number of distinct followers
  Dirichlet mix   P_k = (n(c,a) + s_k P_{k-1}) / (n(c) + s_k), best s_k per order
  discount mix    absolute discounting, best discount per order

K is chosen on the validation blocks too, and every K is printed. All of them see
the k bases before each scored base, also across the network's window borders.
"""

import argparse
import json

import numpy as np

import data

ALPHAS = [0.001, 0.01, 0.03, 0.1, 0.3, 0.5, 1, 2, 4, 8, 16, 32, 64]
STRENGTHS = [0.1, 0.25, 0.5, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192,
             256, 384, 512, 1024, 2048, 4096, 16384, 65536]
DISCOUNTS = [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9,
             0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]


def contexts(codes, k):
    """(context number, valid) for each position; valid needs k real bases before."""
    n = len(codes)
    number = np.zeros(n, dtype=np.int64)
    good = np.zeros(n, dtype=bool)
    if n <= k:
        return number, good
    good[k:] = True
    for back in range(k, 0, -1):
        base = codes[k - back:n - back].astype(np.int64)
        number[k:] = number[k:] * 4 + np.minimum(base, 3)
        good[k:] &= base < 4
    return number, good


class CountTable:
    """n(context, base) for one order, as a sorted list of the contexts seen."""

    def __init__(self, blocks, k):
        self.k = k
        keys = []
        for _, _, forward in blocks:
            for codes in (forward, data.reverse_complement(forward)):
                number, good = contexts(codes, k)
                good &= codes < 4
                keys.append(number[good] * 4 + codes[good])
        pairs, counts = np.unique(np.concatenate(keys), return_counts=True)
        self.seen, row = np.unique(pairs >> 2, return_inverse=True)
        self.rows = np.zeros((len(self.seen) + 1, 4))
        self.rows[row, pairs & 3] = counts   # the extra last row stays zero

    def look_up(self, codes):
        """[n,4] counts at each position; zeros where the context was never seen."""
        number, good = contexts(codes, self.k)
        row = np.searchsorted(self.seen, number)
        inside = row < len(self.seen)
        row[~inside] = 0
        hit = good & inside & (self.seen[row] == number)
        return self.rows[np.where(hit, row, len(self.seen))], good


class Slice:
    """Bases to score, with the counts that every order offers for them."""

    def __init__(self, blocks, tables):
        codes = [b[2] for b in blocks]
        looked = [[t.look_up(c) for c in codes] for t in tables]
        self.counts = [np.concatenate([x[0] for x in per]) for per in looked]
        self.good = [np.concatenate([x[1] for x in per]) for per in looked]
        self.target = np.concatenate(codes)
        self.real = self.target < 4
        self.index = np.minimum(self.target, 3)
        self.species = np.concatenate([np.full(len(b[2]), b[1], dtype=object) for b in blocks])
        self.label = np.concatenate([np.full(len(b[2]), b[0], dtype=object) for b in blocks])
        self.tiled = self.real & np.concatenate([data.scored_tiled(len(c)) for c in codes])
        self.overlap = self.real & np.concatenate([data.scored_overlap(len(c)) for c in codes])

    def bits(self, p):
        """-log2 of the probability given to each base that is there."""
        return -np.log2(np.take_along_axis(p, self.index[:, None], 1)[:, 0])


def plain(part, k, alpha):
    """Order k with additive smoothing; near a block's start, the longest order that fits."""
    p = None
    for order in range(k + 1):
        c = part.counts[order]
        q = (c + alpha) / (c.sum(1, keepdims=True) + 4 * alpha)
        p = q if p is None else np.where(part.good[order][:, None], q, p)
    return p


def witten_bell(c, lower, _):
    total = c.sum(1, keepdims=True)
    kinds = (c > 0).sum(1, keepdims=True)
    return np.where(total > 0, (c + kinds * lower) / np.maximum(total + kinds, 1), lower)


def dirichlet(c, lower, strength):
    return (c + strength * lower) / (c.sum(1, keepdims=True) + strength)


def discount(c, lower, d):
    total = c.sum(1, keepdims=True)
    taken = np.minimum(c, d)
    mixed = (c - taken + taken.sum(1, keepdims=True) * lower) / np.maximum(total, 1)
    return np.where(total > 0, mixed, lower)


def mix(part, upto, rule, knobs):
    """Interpolated model of orders 0..upto."""
    p = np.full((len(part.index), 4), 0.25)
    for k in range(upto + 1):
        p = rule(part.counts[k], p, knobs[k])
    return p


def tune(part, orders, rule, grid):
    """Best knob for each order in turn, then one pass of joint refinement."""
    use = part.overlap
    knobs, p = [], np.full((len(part.index), 4), 0.25)
    for k in range(orders + 1):
        tried = [(part.bits(rule(part.counts[k], p, g))[use].mean(), g) for g in grid]
        knobs.append(min(tried)[1])
        p = rule(part.counts[k], p, knobs[k])
    best = part.bits(mix(part, orders, rule, knobs))[use].mean()
    for k in range(orders + 1):
        at = grid.index(knobs[k])
        for g in grid[max(0, at - 2):at + 3]:
            trial = knobs[:k] + [g] + knobs[k + 1:]
            b = part.bits(mix(part, orders, rule, trial))[use].mean()
            if b < best:
                best, knobs = b, trial
    return knobs


def report(part, p, use):
    """Mean bits per base: overall, per species and per block."""
    bits = part.bits(p)
    out = {"all": bits[use].mean()}
    for kind in (part.species, part.label):
        for name in dict.fromkeys(kind):
            out[name] = bits[use & (kind == name)].mean()
    return out


def all_models(valid, max_order):
    """Yield (name, validation bits, function from a slice to probabilities)."""
    use = valid.overlap
    for k in range(max_order + 1):
        tried = [(valid.bits(plain(valid, k, a))[use].mean(), a) for a in ALPHAS]
        bits, alpha = min(tried)
        yield ("order %d" % k, "alpha %g" % alpha, bits,
               lambda part, k=k, alpha=alpha: plain(part, k, alpha))
    for name, rule, grid in (("Witten-Bell", witten_bell, None),
                             ("Dirichlet mix", dirichlet, STRENGTHS),
                             ("discount mix", discount, DISCOUNTS)):
        for upto in range(1, max_order + 1):
            if grid is None:
                knobs = [0] * (upto + 1)
            else:
                knobs = tune(valid, upto, rule, grid)
            bits = valid.bits(mix(valid, upto, rule, knobs))[use].mean()
            yield ("%s 0..%d" % (name, upto), "", bits,
                   lambda part, upto=upto, rule=rule, knobs=knobs: mix(part, upto, rule, knobs))


def main():
    ap = argparse.ArgumentParser(description="Markov baselines, bits per base")
    ap.add_argument("--data", required=True, help="folder that holds the FASTA files")
    ap.add_argument("--max-order", type=int, default=20)
    ap.add_argument("--only", help="count, tune and score this species alone (default: all)")
    ap.add_argument("--json", help="also write the figures to this file")
    args = ap.parse_args()

    parts = data.load(args.data)
    print("split", data.fingerprint(parts))
    if args.only:
        for part in ("train", "valid", "test"):
            parts[part] = [b for b in parts[part] if b[1] == args.only]
    tables = [CountTable(parts["train"], k) for k in range(args.max_order + 1)]
    valid, test, unseen = (Slice(parts[n], tables) for n in ("valid", "test", "unseen"))
    species = list(dict.fromkeys(test.species)) + list(dict.fromkeys(unseen.species))
    print("scored bases: tiled %d, overlap %d" % (test.tiled.sum(), test.overlap.sum()))
    print("%-20s %-12s %8s | %8s %8s | %s" % ("model", "knob", "valid", "test(a)", "test(b)",
                                          "  ".join("(b) " + s for s in species)))
    rows = []
    for name, knob, bits, model in all_models(valid, args.max_order):
        p_test, p_unseen = model(test), model(unseen)
        row = {"model": name, "knob": knob, "valid": bits,
               "tiled": report(test, p_test, test.tiled),
               "overlap": report(test, p_test, test.overlap),
               "tiled_unseen": report(unseen, p_unseen, unseen.tiled),
               "overlap_unseen": report(unseen, p_unseen, unseen.overlap)}
        rows.append(row)
        both = dict(row["overlap_unseen"], **row["overlap"])
        print("%-20s %-12s %8.4f | %8.4f %8.4f | %s" % (
            name, knob, bits, row["tiled"]["all"], row["overlap"]["all"],
            "  ".join("%8.4f" % both[s] for s in species)), flush=True)
    chosen = min(rows, key=lambda r: r["valid"])
    best = min(rows, key=lambda r: r["overlap"]["all"])
    print("chosen on validation: %s, test (b) %.4f" % (chosen["model"], chosen["overlap"]["all"]))
    print("best on the test itself: %s, test (b) %.4f" % (best["model"], best["overlap"]["all"]))
    if args.json:
        with open(args.json, "w") as f:
            json.dump(rows, f, indent=1)


if __name__ == "__main__":
    main()
