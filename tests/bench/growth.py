#!/usr/bin/env python3
"""Draws how a model's time grows with its length, beside n log n.

    tests/bench/growth.py build/apps/strand MODEL [--lengths 1000,...,1000000] [--memory 6G] [-o docs/growth.svg] [-- OPTIONS OF STRAND BENCH]

Every length is a process of its own (`strand bench MODEL --length N`, one run after one to warm up at the longest, more at the shorter);
the figure has the time on axes of powers of ten, and the lines c n log2 n and c n^2 through the first point at which a run takes longer
than 50 ms. Prints the table, with planned and peak memory, in Markdown.
"""
import argparse
import csv
import io
import math
import subprocess
import sys


def measure(strand, model, length, memory, extra):
    repeat = 9 if length <= 16384 else 3 if length <= 131072 else 1
    command = [strand, "bench", model, "--length", str(length), "-n", str(repeat), "-f", "csv", "--memory", memory] + extra
    row = next(csv.DictReader(io.StringIO(subprocess.run(command, check=True, capture_output=True, text=True).stdout)))
    return {"length": length, "seconds": float(row["seconds"]), "first": float(row["first_seconds"]), "arena": int(float(row["arena_bytes"])),
            "rss": int(float(row["peak_rss_bytes"]))}


def draw(rows, path):
    wide, high, left, top, bottom = 760, 420, 64, 24, 48
    xs = [r["length"] for r in rows]
    x0, x1 = math.floor(math.log10(min(xs))), math.ceil(math.log10(max(xs)))
    start = next((r for r in rows if r["seconds"] > 0.05), rows[0])
    log_line = [(n, start["seconds"] * n * math.log2(n) / (start["length"] * math.log2(start["length"]))) for n in xs]
    square = [(n, start["seconds"] * (n / start["length"]) ** 2) for n in xs if n >= start["length"]]
    y0 = math.floor(math.log10(min(r["seconds"] for r in rows)))
    y1 = math.ceil(math.log10(max(r["seconds"] for r in rows))) + 1
    square = [p for p in square if p[1] <= 10 ** y1]
    def at(n, s):
        return (left + (math.log10(n) - x0) / (x1 - x0) * (wide - left - 130), high - bottom - (math.log10(s) - y0) / (y1 - y0) * (high - top - bottom))
    def line(points, style):
        return '<polyline fill="none" %s points="%s"/>' % (style, " ".join("%.1f,%.1f" % at(*p) for p in points))
    def text(x, y, s, more=""):
        return '<text x="%.1f" y="%.1f" %s>%s</text>' % (x, y, more, s)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">' % (wide, high),
           '<rect width="%d" height="%d" fill="#fff"/>' % (wide, high)]
    for e in range(x0, x1 + 1):
        x, y = at(10 ** e, 10 ** y0)
        out += ['<line x1="%.1f" x2="%.1f" y1="%d" y2="%.1f" stroke="#ddd"/>' % (x, x, top, y), text(x, y + 18, "{:,}".format(10 ** e), 'text-anchor="middle"')]
    for e in range(y0, y1 + 1):
        x, y = at(10 ** x0, 10 ** e)
        out += ['<line x1="%.1f" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>' % (x, wide - 130, y, y), text(x - 6, y + 4, ("%g" % 10 ** e) + " s", 'text-anchor="end"')]
    out += [line(square, 'stroke="#c60" stroke-dasharray="2 4"'), line(log_line, 'stroke="#888" stroke-dasharray="7 4"'),
            line([(r["length"], r["seconds"]) for r in rows], 'stroke="#06c" stroke-width="2"')]
    for r in rows:
        out.append('<circle cx="%.1f" cy="%.1f" r="3.5" fill="#06c"/>' % at(r["length"], r["seconds"]))
    for points, name, color in ((log_line, "n log n", "#666"), (square, "n&#178;", "#a50"), ([(r["length"], r["seconds"]) for r in rows], "Strand", "#06c")):
        x, y = at(*points[-1])
        shift = 16 if name == "Strand" else -6 if name == "n log n" else 0
        out.append(text(x + 8, y + 4 + shift, name, 'fill="%s"' % color))
    out += [text((left + wide - 130) / 2, high - 10, "length", 'text-anchor="middle"'), "</svg>"]
    with open(path, "w") as f:
        f.write("\n".join(out) + "\n")


def main():
    own, extra = (sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:]) if "--" in sys.argv else (sys.argv[1:], [])
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("strand")
    p.add_argument("model")
    p.add_argument("--lengths", default="1000,4000,16000,64000,250000,1000000")
    p.add_argument("--memory", default="6G")
    p.add_argument("-o", "--output", default="docs/growth.svg")
    a = p.parse_args(own)
    rows = [measure(a.strand, a.model, int(n), a.memory, extra) for n in a.lengths.split(",")]
    start = next((r for r in rows if r["seconds"] > 0.05), rows[0])
    print("| length | a run, s | ns / (n log2 n) | of the line | plan, MiB | peak RSS, MiB |\n|--:|--:|--:|--:|--:|--:|")
    unit = start["seconds"] / (start["length"] * math.log2(start["length"]))
    for r in rows:
        each = r["seconds"] / (r["length"] * math.log2(r["length"]))
        print("| {:,} | {:.3f} | {:.1f} | {:.2f} | {:.0f} | {:.0f} |".format(r["length"], r["seconds"], 1e9 * each, each / unit, r["arena"] / 2 ** 20, r["rss"] / 2 ** 20))
    draw(rows, a.output)


if __name__ == "__main__":
    main()
