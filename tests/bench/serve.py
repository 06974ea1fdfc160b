#!/usr/bin/env python3
"""Times strand serve: throughput and latency of 1, 8 and 32 clients at once, and what a second turn of a conversation costs.

    tests/bench/serve.py STRAND MODEL [--clients 1,8,32] [--prompt 64] [--tokens 64] [--rounds 3] [--set KEY=VALUE]

Starts the server itself. One row a number of clients: tokens a second over all of them, the median and the 99th percentile of the time
to the first token and between tokens. The last row is a prompt of 1,024 tokens, then the same with 32 more: its own tokens alone are run.
Times are wall times: other programs make them worse; the rows of one run can be compared with each other.
"""
import argparse, json, os, random, resource, socket, subprocess, sys, threading, time

a = argparse.ArgumentParser()
a.add_argument("strand"), a.add_argument("model")
a.add_argument("--clients", default="1,8,32"), a.add_argument("--prompt", type=int, default=64), a.add_argument("--tokens", type=int, default=64)
a.add_argument("--rounds", type=int, default=3), a.add_argument("--set", action="append", default=[])
a = a.parse_args()
most = max(int(n) for n in a.clients.split(","))
settings = [x for s in a.set for x in ("--set", s)]
server = subprocess.Popen([a.strand, "serve", "-m", a.model, "--port", "0", "--sessions", str(most), "--queue", "256", *settings], stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "STRAND_API_KEY": ""})
port = int(server.stdout.readline().rsplit(":", 1)[1])


def stream(prompt, tokens):
    """Times of the events, and the usage."""
    body = json.dumps({"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 1, "stream": True, "stream_options": {"include_usage": True}}).encode()
    s = socket.create_connection(("127.0.0.1", port))
    begun, times, text = time.perf_counter(), [], b""
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    while True:
        data = s.recv(65536)
        if not data:
            break
        text += data
        times += [time.perf_counter() - begun] * data.count(b'"finish_reason":null')
    usage = text.rsplit(b'"usage":{', 1)
    if len(usage) < 2:
        sys.exit(text.decode(errors="replace")[-300:])
    return times, json.loads(b"{" + usage[1].split(b"}\n")[0])


def ids(n):
    return [random.randrange(200) for _ in range(n)]


def quantile(v, q):
    v = sorted(v)
    return v[min(len(v) - 1, int(q * len(v)))]


print(f"{'clients':>8} {'tokens/s':>10} {'first token p50':>16} {'p99':>9} {'between p50':>12} {'p99':>9}")
stream(ids(a.prompt), 4)
for n in (int(x) for x in a.clients.split(",")):
    rates, first, between = [], [], []
    for _ in range(a.rounds):
        got = [None] * n

        def one(i):
            got[i] = stream(ids(a.prompt), a.tokens)

        begun = time.perf_counter()
        threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        rates.append(sum(u["completion_tokens"] for _, u in got) / (time.perf_counter() - begun))
        for times, _ in got:
            first.append(times[0])
            between += [y - x for x, y in zip(times, times[1:])]
    print(f"{n:8} {quantile(rates, 0.5):10.1f} {1e3 * quantile(first, 0.5):13.1f} ms {1e3 * quantile(first, 0.99):6.1f} ms {1e3 * quantile(between, 0.5):9.2f} ms {1e3 * quantile(between, 0.99):6.2f} ms", flush=True)
prompt, rows = ids(1024), []
for _ in range(a.rounds):
    prompt = ids(1024)
    whole, u = stream(prompt, 1)
    again, v = stream(prompt + ids(32), 1)
    rows.append((whole[0], again[0], v["prompt_tokens_details"]["cached_tokens"]))
print(f"a prompt of 1,024 tokens: {1e3 * quantile([r[0] for r in rows], 0.5):.1f} ms to the first token; with 32 more: {1e3 * quantile([r[1] for r in rows], 0.5):.1f} ms ({rows[-1][2]} tokens were not run)")
server.terminate()
server.wait()
print(f"peak RSS of the server {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MiB")
