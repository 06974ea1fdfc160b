"""Sequences and the train / validation / test split of the built-in DNA model.

Shared by train.py (the network) and markov.py (the baselines), so that both
learn from the same bases and are measured on the same held-out bases.
Needs only numpy.
"""

import hashlib
import os

import numpy as np

# Files that hold training data, with the species that each one is reported under.
SOURCES = [
    ("ce.fa", "C. elegans"),
    ("ENST00000542803.fa", "human"),
    ("chr17.hg19.part.fa", "human"),
]

# Genomes that are never trained on: out-of-domain tests. The two mitochondrial
# genomes are near relatives, so leaving one in would leak the other.
UNSEEN = [
    ("MT-human.fa", "human mitochondrion"),
    ("MT-orang.fa", "orangutan mitochondrion"),
    ("NC_001422_1.fna", "phage phiX174"),
]

# The split rule. Records shorter than MIN_SPLIT are used for training whole.
MIN_SPLIT = 30_000     # bases a record needs before anything is held out of it
MIN_VALID = 100_000    # bases a record needs before it also gives a validation block
MIN_BLOCK = 8_000      # smallest held-out block
TEST_SHARE = 0.10      # the test block is the last tenth of the record
VALID_SHARE = 0.04     # the validation block starts in the middle of the record
GAP = 1_100            # unused bases on each side of a held-out block (> window)

WINDOW = 1024          # bases per evaluation window

_CODE = np.full(256, 4, dtype=np.uint8)
for _i, _b in enumerate("ACGT"):
    _CODE[ord(_b)] = _i
    _CODE[ord(_b.lower())] = _i   # soft-masked bases are bases


def find_file(root, name):
    """Path of the file called name anywhere below root."""
    for folder, _, files in sorted(os.walk(root)):
        if name in files:
            return os.path.join(folder, name)
    raise SystemExit("%s: not found below %s" % (name, root))


def read_fasta(path):
    """List of (record name, codes): A0 C1 G2 T3, anything else 4."""
    records = []
    with open(path, "rb") as f:
        for chunk in f.read().split(b">")[1:]:
            head, _, body = chunk.partition(b"\n")
            text = body.replace(b"\n", b"").replace(b"\r", b"")
            codes = _CODE[np.frombuffer(text, dtype=np.uint8)]
            records.append((head.split()[0].decode(), codes))
    return records


def split_record(n):
    """Cut points of a record of n bases: dict of part -> list of (start, end)."""
    if n < MIN_SPLIT:
        return {"train": [(0, n)], "valid": [], "test": []}
    held = []
    test = max(MIN_BLOCK, int(n * TEST_SHARE))
    held.append(("test", n - test, n))
    if n >= MIN_VALID:
        valid = max(MIN_BLOCK, int(n * VALID_SHARE))
        held.append(("valid", n // 2, n // 2 + valid))
    parts = {"train": [], "valid": [], "test": []}
    at = 0
    for part, start, end in sorted(held, key=lambda h: h[1]):
        parts["train"].append((at, start - GAP))
        parts[part].append((start, end))
        at = end + GAP
    if at < n:
        parts["train"].append((at, n))
    return parts


def load(root):
    """dict of part -> list of (label, species, codes), parts train, valid, test, unseen."""
    parts = {"train": [], "valid": [], "test": [], "unseen": []}
    for name, species in SOURCES:
        for record, codes in read_fasta(find_file(root, name)):
            for part, cuts in split_record(len(codes)).items():
                for start, end in cuts:
                    label = "%s:%s:%d-%d" % (name, record, start, end)
                    parts[part].append((label, species, codes[start:end]))
    for name, species in UNSEEN:
        for record, codes in read_fasta(find_file(root, name)):
            parts["unseen"].append(("%s:%s" % (name, record), species, codes))
    return parts


def reverse_complement(codes):
    """The other strand; code 4 (not a base) stays 4."""
    table = np.array([3, 2, 1, 0, 4], dtype=np.uint8)
    return table[codes[::-1]]


def fingerprint(parts):
    """Short hash of the whole split, printed by both programs to show they agree."""
    h = hashlib.sha256()
    for part in ("train", "valid", "test", "unseen"):
        for label, _, codes in parts[part]:
            h.update(("%s %s\n" % (part, label)).encode())
            h.update(codes.tobytes())
    return h.hexdigest()[:16]


def scored_tiled(n):
    """(a) Positions scored with non-overlapping windows: all but each window's first."""
    mask = np.ones(n, dtype=bool)
    mask[0::WINDOW] = False
    return mask


def scored_overlap(n):
    """(b) Positions scored with half-overlapping windows: all but the first base."""
    mask = np.ones(n, dtype=bool)
    mask[0] = False
    return mask


if __name__ == "__main__":
    import sys
    split = load(sys.argv[1])
    print("split", fingerprint(split))
    for part_name, blocks in split.items():
        for block in blocks:
            print("%-6s %-24s %8d  %s" % (part_name, block[1], len(block[2]), block[0]))
