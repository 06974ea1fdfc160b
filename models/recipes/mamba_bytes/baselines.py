#!/usr/bin/env python3
"""Bits per byte of the held-out text (train.py's last 5 %) by gzip, xz and an order-5 model of bytes.

    baselines.py TEXT

gzip and xz are given twice: the held-out text alone, and what it adds behind the training text (which is all that xz can use of it).
The order-5 model counts the training text's contexts of 0 to 5 bytes and mixes them as Witten and Bell (1991) do."""
import gzip, lzma, math, sys
from collections import defaultdict


def order(train, test, n):
    counts = [defaultdict(lambda: defaultdict(int)) for _ in range(n + 1)]
    for i in range(len(train)):
        for k in range(min(n, i) + 1):
            counts[k][train[i - k:i]][train[i]] += 1
    text, bits = train[-n:] + test, 0.0
    for i in range(n, len(text)):
        p = 1 / 256
        for k in range(n + 1):
            seen = counts[k].get(text[i - k:i])
            if seen:
                total, kinds = sum(seen.values()), len(seen)
                p = (seen.get(text[i], 0) + kinds * p) / (total + kinds)
        bits -= math.log2(p)
    return bits / len(test)


text = open(sys.argv[1], 'rb').read()
n = len(text)
train, test = text[:n * 90 // 100], text[n * 95 // 100:]
pack_gzip, pack_xz = lambda t: len(gzip.compress(t, 9)), lambda t: len(lzma.compress(t, preset=9 | lzma.PRESET_EXTREME))
for name, pack in (('gzip -9', pack_gzip), ('xz -9e', pack_xz)):
    print(f'{name}: {8 * pack(test) / len(test):.3f} alone, {8 * (pack(train + test) - pack(train)) / len(test):.3f} behind the training text')
print(f'order-5: {order(train, test, 5):.3f}')
