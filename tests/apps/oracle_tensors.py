"""Safetensors files for the oracles beside this file: F32 and I64, no dependency but numpy."""
import json
import struct

import numpy as np


def write_tensors(path, tensors):
    head, at, data = {}, 0, b""
    for name, value in tensors.items():
        value = np.ascontiguousarray(value)
        kind = "I64" if value.dtype.kind == "i" else "F32"
        raw = value.astype("<i8" if kind == "I64" else "<f4").tobytes()
        head[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        data += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def read_tensor(path, name):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8:8 + n])[name]
    a, b = entry["data_offsets"]
    return np.frombuffer(data[8 + n + a:8 + n + b], "<f4").reshape(entry["shape"])
