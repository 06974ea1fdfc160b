"""The HyenaDNA forward pass in plain PyTorch: the peer that tests/bench/run times Strand against.

    python3 hyenadna_torch.py MODEL_FOLDER INPUT.safetensors OUTPUT.safetensors

Written from the paper and the notes in models/hyenadna.c, as a user would write it: FFT convolution through torch.fft of twice
the length, products through torch's BLAS. Prints the seconds of the forward pass alone (imports and loading not counted).
"""
import json
import math
import os
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

TYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64}


def read(path):
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(n))
        data = f.read()
    out = {}
    for name, t in header.items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            out[name] = torch.from_numpy(np.frombuffer(data[a:b], TYPES[t["dtype"]]).reshape(t["shape"]).copy())
    return out


def write(path, name, array):
    header = json.dumps({name: {"dtype": "F32", "shape": list(array.shape), "data_offsets": [0, array.nbytes]}}).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header + array.tobytes())


def filter_taps(w, p, length, n, shift):
    at = w[p + "implicit_filter.6.weight"].device
    i = torch.arange(length, dtype=torch.float64, device=at)
    t, angle = i / (n - 1), 2 * math.pi * i / n
    bands = torch.linspace(1e-4, 1, 2, dtype=torch.float64, device=at)
    z = torch.cat([t[:, None], torch.cos(bands * angle[:, None]), -torch.sin(bands * angle[:, None])], 1).float()
    freq = w[p + "implicit_filter.1.freq"]
    h = z
    for j in (0, 2, 4):
        h = torch.sin(freq * F.linear(h, w[p + f"implicit_filter.{j}.weight"], w[p + f"implicit_filter.{j}.bias"]))
    k = F.linear(h, w[p + "implicit_filter.6.weight"])
    d = k.shape[1]
    rates = torch.linspace(math.log(0.01) / 1.5, math.log(0.01) / 0.3, d, dtype=torch.float64, device=at).float().abs()
    return (k * (torch.exp(-t.float()[:, None] * rates) + shift)).t()


def forward(w, ids, n, shift, spectra=None):
    """spectra: a dictionary that keeps the filters' transforms from run to run, as Strand does."""
    length = ids.shape[1]
    x = w["backbone.embeddings.word_embeddings.weight"][ids]
    d = x.shape[2]
    layer = 0
    while f"backbone.layers.{layer}.norm1.weight" in w:
        p = f"backbone.layers.{layer}."
        u = F.layer_norm(x, (d,), w[p + "norm1.weight"], w[p + "norm1.bias"])
        u = F.linear(u, w[p + "mixer.in_proj.weight"], w[p + "mixer.in_proj.bias"]).transpose(1, 2)
        u = F.conv1d(u, w[p + "mixer.short_filter.weight"], w[p + "mixer.short_filter.bias"], padding=2, groups=3 * d)[..., :length]
        x0, x1, v = u.split(d, 1)
        v = (v * x1).float()
        spectrum = spectra.get((layer, length)) if spectra is not None else None
        if spectrum is None:
            with torch.autocast(v.device.type, enabled=False):
                spectrum = torch.fft.rfft(filter_taps(w, p + "mixer.filter_fn.", length, n, shift), 2 * length)
            if spectra is not None:
                spectra[layer, length] = spectrum
        y = torch.fft.irfft(torch.fft.rfft(v, 2 * length) * spectrum, 2 * length)[..., :length]
        y = ((y + v * w[p + "mixer.filter_fn.bias"][:, None]) * x0).transpose(1, 2)
        x = x + F.linear(y, w[p + "mixer.out_proj.weight"], w[p + "mixer.out_proj.bias"])
        u = F.layer_norm(x, (d,), w[p + "norm2.weight"], w[p + "norm2.bias"])
        u = F.linear(u, w[p + "mlp.fc1.weight"], w[p + "mlp.fc1.bias"])
        cube = 0.5 * u * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u ** 3)))
        x = x + F.linear(cube, w[p + "mlp.fc2.weight"], w[p + "mlp.fc2.bias"])
        layer += 1
    x = F.layer_norm(x, (d,), w["backbone.ln_f.weight"], w["backbone.ln_f.bias"])
    return F.linear(x, w["backbone.embeddings.word_embeddings.weight"])


def main():
    folder, given, out = sys.argv[1:4]
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    w = read(os.path.join(folder, "model.safetensors"))
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    n = config.get("layer", config)["l_max"]
    ids = read(given)["input_ids"]
    with torch.no_grad():
        begin = time.monotonic()
        logits = forward(w, ids, n, config.get("layer", {}).get("shift", 0.05))
        print(time.monotonic() - begin)
    write(out, "logits", logits.numpy())


if __name__ == "__main__":
    main()
