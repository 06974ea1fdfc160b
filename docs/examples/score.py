"""Scores a DNA sequence through libstrand with nothing but ctypes: no build step, no package.

    python3 score.py [ACGT...]        (STRAND_LIBRARY names libstrand.so when it is not installed)
"""
import ctypes as c
import math
import os
import sys

lib = c.CDLL(os.environ.get("STRAND_LIBRARY", "libstrand.so.0"))
lib.strand_error.restype = lib.strand_session_error.restype = c.c_char_p


class Tensor(c.Structure):
    _fields_ = [("name", c.c_char_p), ("dtype", c.c_int), ("rank", c.c_int32), ("dims", c.c_int64 * 8),
                ("data", c.c_void_p), ("bytes", c.c_uint64)]


F32, I64 = 1, 11
dna = (sys.argv[1] if len(sys.argv) > 1 else "GATTACAGATTACAGGGATTACCA").encode()
context, model, plan, session = (c.c_void_p() for _ in range(4))


def check(status, text):
    if status:
        sys.exit(text().decode())


check(lib.strand_context_open(None, c.byref(context)), lambda: b"no backend: set STRAND_BACKEND_PATH")
error = lambda: lib.strand_error(context)
check(lib.strand_model_open(context, b"hyenadna-tiny-strand", None, c.byref(model)), error)
check(lib.strand_plan_open(model, None, c.byref(plan)), error)
check(lib.strand_session_open(plan, None, c.byref(session)), error)

ids = (c.c_int64 * len(dna))()
count = c.c_size_t()
check(lib.strand_tokenize(model, dna, c.c_size_t(len(dna)), ids, c.c_size_t(len(dna)), c.byref(count)), error)
given = Tensor(b"input_ids", I64, 2, (c.c_int64 * 8)(1, len(dna)), c.cast(ids, c.c_void_p), c.sizeof(ids))
logits = Tensor(b"logits")
check(lib.strand_session_run(session, c.byref(given), 1, c.byref(logits), 1), lambda: lib.strand_session_error(session))

rows = c.cast(logits.data, c.POINTER(c.c_float))  # [1, n, 16]: row t predicts base t + 1
total = 0.0
for t in range(len(dna) - 1):
    row = rows[16 * t:16 * t + 16]
    total += row[ids[t + 1]] - math.log(sum(math.exp(row[i]) for i in (7, 8, 9, 10)))
print(f"{len(dna)} bases, mean log-likelihood {total / (len(dna) - 1):.6f}")

lib.strand_session_close(session)
lib.strand_plan_close(plan)
lib.strand_model_close(model)
lib.strand_context_close(context)
