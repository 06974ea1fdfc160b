"""Causal long convolutions in PyTorch, and in FlashFFTConv where it can be imported: the peers of bench_long_conv on a GPU.

    python3 long_conv_torch.py [ROUNDS] [--json]

One entry of 64M positions (several times an L2) at each length, random data, the filter's spectrum made beforehand as Strand's is.
Medians of ROUNDS (9) interleaved rounds, in ns an element, and as parts of a copy of 16 bytes an element in the same rounds. --json: a
line a result for tests/gpu/table, by the shapes of bench_long_conv; FlashFFTConv that is not there is one line too.
"""
import json
import statistics
import sys

import torch

POSITIONS = 1 << 26


def missing(why, who="FlashFFTConv"):
    if "--json" not in sys.argv:
        print(f"{who}: {why}")
    elif why not in missing.said:
        print(json.dumps({"row": "long_conv", "who": who, "absent": why.strip().splitlines()[0][:160]}))
        missing.said.add(why)


missing.said = set()


def torch_convolution(u, spectrum):
    n = 2 * u.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(u, n=n) * spectrum, n=n)[..., : u.shape[-1]]


def contestants(length):
    channels = POSITIONS // length
    u = torch.randn(1, channels, length, device="cuda")
    k = torch.randn(channels, length, device="cuda") / length
    spectrum = torch.fft.rfft(k, n=2 * length)
    halves = torch.empty(2, channels, length, device="cuda"), torch.empty(2, channels, length, device="cuda")
    yield "copy", lambda: halves[0].copy_(halves[1])
    yield "torch", lambda: torch_convolution(u, spectrum)
    yield "torch, gated", lambda: torch_convolution(u * u, spectrum) * u
    try:
        from flashfftconv import FlashFFTConv

        flash, low = FlashFFTConv(2 * length, dtype=torch.bfloat16).cuda(), u.to(torch.bfloat16)
        flash(low, k)
        yield "flashfftconv", lambda: flash(low, k)
        yield "flashfftconv, gated", lambda: flash(low, k, low, low)
    except ImportError as e:
        missing(f"it cannot be imported: {e}")
    except Exception as e:
        missing(f"L={length}: it does not do it: {e}")


def seconds(run):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def say_lines(length, times):
    """Each contestant under every case of bench_long_conv that it is the peer of."""
    cases = {"torch": ("PyTorch", ("plain", "rounded")), "torch, gated": ("PyTorch", ("rounded, gated",)),
             "flashfftconv": ("FlashFFTConv", ("rounded",)), "flashfftconv, gated": ("FlashFFTConv", ("rounded, gated",))}
    for name, t in times.items():
        t = sorted(t)
        who, of = cases.get(name, ("copy of 16 bytes", ("plain",)))
        for case in of:
            print(json.dumps({"row": "long_conv", "case": f"{case} B=1 C={POSITIONS // length} L={length}", "who": who, "seconds": statistics.median(t),
                              "p10": t[len(t) // 10], "p90": t[len(t) - 1 - len(t) // 10]}), flush=True)


def main():
    numbers = [a for a in sys.argv[1:] if a != "--json"]
    rounds = int(numbers[0]) if numbers else 9
    if "--json" not in sys.argv:
        print(torch.cuda.get_device_name(), "torch", torch.__version__)
    with torch.no_grad():
        for log in range(10, 23):
            length = 1 << log
            try:
                all = list(contestants(length))
                for _, run in all:
                    run()
                times = {name: [] for name, _ in all}
                for _ in range(rounds):
                    for name, run in all:
                        times[name].append(seconds(run))
            except torch.cuda.OutOfMemoryError:
                missing(f"L={length}: not enough memory", "PyTorch")
                continue
            if "--json" in sys.argv:
                say_lines(length, times)
                continue
            middle = {name: statistics.median(t) for name, t in times.items()}
            print(f"L={length} C={POSITIONS // length}: " + ", ".join(f"{name} {1e9 * t / POSITIONS:.4f} ns ({t / middle['copy']:.2f} copies)" for name, t in middle.items()), flush=True)


if __name__ == "__main__":
    main()
