/* bench_probe.c - what this machine can do now: multiply-adds of the vectors that the plugin uses, and reading and copying from
 * each level of the caches. Measured anew in every round, because shared machines drift by tens of per cent. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

double bench_now(const bench *b) {
    struct timespec t;
    clock_gettime(b->threads == 1 && !b->device ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- multiply-adds: independent sums in registers by name, enough of them to hide the latency ---- */

#define FMA_LOOPS 8000

#if defined(__x86_64__)
#define TEN(f, d)  f(d##0) f(d##1) f(d##2) f(d##3) f(d##4) f(d##5) f(d##6) f(d##7) f(d##8) f(d##9)
#define ZMM(i)     "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #i "\n\t"
#define ZERO_Z(i)  "vpxord %%zmm" #i ", %%zmm" #i ", %%zmm" #i "\n\t"
#define YMM(i)     "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #i "\n\t"
#define ZERO_Y(i)  "vpxor %%ymm" #i ", %%ymm" #i ", %%ymm" #i "\n\t"
#define SUM_X(i)   "addps %%xmm14, %%xmm" #i "\n\t"
#define MUL_X(i)   "mulps %%xmm15, %%xmm" #i "\n\t"
#define ZERO_X(i)  "xorps %%xmm" #i ", %%xmm" #i "\n\t"
#define LOW16      "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

__attribute__((target("avx512f"), noinline)) static double fma16(void) {
    long n = FMA_LOOPS;
    __asm__ volatile(TEN(ZERO_Z, ) TEN(ZERO_Z, 1) TEN(ZERO_Z, 2) ZERO_Z(30) ZERO_Z(31)
                     "1:\n\t" TEN(ZMM, ) TEN(ZMM, 1) ZMM(20) ZMM(21) ZMM(22) ZMM(23) "dec %0\n\tjnz 1b"
                     : "+r"(n)
                     :
                     : "cc", LOW16, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",
                       "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
    return 2.0 * 16 * 24 * FMA_LOOPS;
}

__attribute__((target("avx2,fma"), noinline)) static double fma8(void) {
    long n = FMA_LOOPS;
    __asm__ volatile(TEN(ZERO_Y, ) ZERO_Y(10) ZERO_Y(11) ZERO_Y(12) ZERO_Y(13) ZERO_Y(14) ZERO_Y(15)
                     "1:\n\t" TEN(YMM, ) YMM(10) YMM(11) YMM(12) YMM(13) "dec %0\n\tjnz 1b"
                     : "+r"(n)
                     :
                     : "cc", LOW16);
    return 2.0 * 8 * 14 * FMA_LOOPS;
}

/* Without fused multiply-adds: as many sums as products, each on its own. */
__attribute__((noinline)) static double fma4(void) {
    long n = FMA_LOOPS;
    __asm__ volatile(TEN(ZERO_X, ) ZERO_X(10) ZERO_X(11) ZERO_X(12) ZERO_X(13) ZERO_X(14) ZERO_X(15)
                     "1:\n\t" SUM_X(0) MUL_X(7) SUM_X(1) MUL_X(8) SUM_X(2) MUL_X(9) SUM_X(3) MUL_X(10) SUM_X(4) MUL_X(11)
                         SUM_X(5) MUL_X(12) SUM_X(6) MUL_X(13) "dec %0\n\tjnz 1b"
                     : "+r"(n)
                     :
                     : "cc", LOW16);
    return 4.0 * 14 * FMA_LOOPS;
}

static double multiply_adds(int isa) {
    return isa == 16 ? fma16() : isa == 8 ? fma8() : fma4();
}
#elif defined(__aarch64__)
#define TEN(f, d) f(d##0) f(d##1) f(d##2) f(d##3) f(d##4) f(d##5) f(d##6) f(d##7) f(d##8) f(d##9)
#define VEC(i)    "fmla v" #i ".4s, v30.4s, v31.4s\n\t"
#define ZERO(i)   "movi v" #i ".4s, #0\n\t"
static double multiply_adds(int isa) {
    long n = FMA_LOOPS;
    (void)isa;
    __asm__ volatile(TEN(ZERO, ) TEN(ZERO, 1) TEN(ZERO, 2) ZERO(30) ZERO(31) "1:\n\t" TEN(VEC, ) TEN(VEC, 1) VEC(20) VEC(21)
                         VEC(22) VEC(23) "subs %0, %0, #1\n\tb.ne 1b"
                     : "+r"(n)
                     :
                     : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14",
                       "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29",
                       "v30", "v31");
    return 2.0 * 4 * 24 * FMA_LOOPS;
}
#else
static double multiply_adds(int isa) {
    float sum[24] = {0};
    (void)isa;
    for (int k = 0; k < FMA_LOOPS; k++)
        for (int i = 0; i < 24; i++) sum[i] += 1.0000001f * 0.5f;
    __asm__ volatile("" : : "m"(sum));
    return 2.0 * 24 * FMA_LOOPS;
}
#endif

/* ---- memory ---- */

typedef float line __attribute__((vector_size(64)));
typedef float loose_line __attribute__((vector_size(64), aligned(2), may_alias));

#define STREAMS 16

#define MEMORY(name, isa)                                                                                                      \
    isa __attribute__((noinline)) static void rows_##name(const char *p, int64_t rows, int64_t bytes) {                        \
        line s[STREAMS] = {{0}};                                                                                               \
        for (int64_t r = 0; r + STREAMS <= rows; r += STREAMS, p += STREAMS * bytes)                                           \
            for (int64_t k = 0; k + 64 <= bytes; k += 64) {                                                                    \
                _Pragma("GCC unroll 16") for (int i = 0; i < STREAMS; i++) {                                                   \
                    s[i] += *(const loose_line *)(const void *)(p + i * bytes + k);                                            \
                    __builtin_prefetch(p + STREAMS * (bytes + k) + 64 * i, 0, 2);                                              \
                }                                                                                                              \
            }                                                                                                                  \
        for (int i = 1; i < STREAMS; i++) s[0] += s[i];                                                                        \
        __asm__ volatile("" : : "m"(s[0]));                                                                                    \
    }                                                                                                                          \
    isa __attribute__((noinline)) static void read_##name(const line *p, int64_t n) {                                          \
        line s0 = {0}, s1 = s0, s2 = s0, s3 = s0;                                                                              \
        for (int64_t i = 0; i < n; i += 4) {                                                                                   \
            s0 += p[i], s1 += p[i + 1], s2 += p[i + 2], s3 += p[i + 3];                                                        \
        }                                                                                                                      \
        s0 += s1 + s2 + s3;                                                                                                    \
        __asm__ volatile("" : : "m"(s0));                                                                                      \
    }                                                                                                                          \
    isa __attribute__((noinline)) static void copy_##name(line *to, const line *from, int64_t n) {                             \
        for (int64_t i = 0; i < n; i += 4) {                                                                                   \
            to[i] = from[i], to[i + 1] = from[i + 1], to[i + 2] = from[i + 2], to[i + 3] = from[i + 3];                        \
            __asm__ volatile("" : : : "memory");                                                                               \
        }                                                                                                                      \
    }

MEMORY(4, )
#if defined(__x86_64__)
MEMORY(8, __attribute__((target("avx2"))))
MEMORY(16, __attribute__((target("avx512f"))))
#endif

static void read_bytes(int isa, const void *p, int64_t bytes) {
#if defined(__x86_64__)
    if (isa == 16) read_16(p, bytes / 64);
    if (isa == 8) read_8(p, bytes / 64);
    if (isa > 4) return;
#endif
    (void)isa;
    read_4(p, bytes / 64);
}

void bench_read_rows(int isa, const void *p, int64_t rows, int64_t bytes) {
#if defined(__x86_64__)
    if (isa == 16) rows_16(p, rows, bytes);
    if (isa == 8) rows_8(p, rows, bytes);
    if (isa > 4) return;
#endif
    (void)isa;
    rows_4(p, rows, bytes);
}

static void copy_bytes(int isa, void *to, const void *from, int64_t bytes) {
#if defined(__x86_64__)
    if (isa == 16) copy_16(to, from, bytes / 64);
    if (isa == 8) copy_8(to, from, bytes / 64);
    if (isa > 4) return;
#endif
    (void)isa;
    copy_4(to, from, bytes / 64);
}

/* ---- one measurement ---- */

static int64_t cache(int name, int64_t otherwise) {
    long bytes = -1;
#ifdef _SC_LEVEL1_DCACHE_SIZE
    bytes = sysconf(name);
#endif
    return bytes > 0 ? bytes : otherwise;
}

bool bench_probes_open(bench_probes *p, int isa, int threads) {
#ifdef _SC_LEVEL1_DCACHE_SIZE
    int64_t l1 = cache(_SC_LEVEL1_DCACHE_SIZE, 32768), l2 = cache(_SC_LEVEL2_CACHE_SIZE, 1 << 20),
            l3 = cache(_SC_LEVEL3_CACHE_SIZE, 8 << 20);
#else
    int64_t l1 = cache(0, 32768), l2 = cache(0, 1 << 20), l3 = cache(0, 8 << 20);
#endif
    if (l3 < 4 * l2) l3 = 4 * l2;
    if (l3 > 64 << 20) l3 = 64 << 20;
    *p = (bench_probes){.isa = isa,
                        .threads = threads,
                        .bytes = {l1 / 2 & -1024, l2 / 2 & -1024, l3 / 4 & -1024, 2 * l3 & -1024},
                        /* the last level is shared with others */
                        .holds = {l1, l2, l3 / 2, INT64_MAX}};
    size_t all = (size_t)p->bytes[BENCH_DRAM] * (size_t)threads;
    p->buffer = aligned_alloc(4096, all + (4096 - all % 4096) % 4096);
    if (p->buffer) memset(p->buffer, 0, all);
    return p->buffer;
}

void bench_probes_close(bench_probes *p) {
    free(p->buffer);
    p->buffer = NULL;
}

typedef struct probe_job {
    const bench_probes *p;
    int kind; /* 0 multiply-adds, 1 read, 2 copy */
    int level;
    double done; /* of one thread */
} probe_job;

static void probe_body(void *arg, int64_t i, int32_t worker) {
    probe_job *j = arg;
    const bench_probes *p = j->p;
    int64_t bytes = p->bytes[j->level], times = j->level == BENCH_DRAM ? 1 : ((8 << 20) + bytes - 1) / bytes;
    unsigned char *mine = p->buffer + i * p->bytes[BENCH_DRAM];
    double done = 0;
    (void)worker;
    if (j->kind == 0) {
        done = multiply_adds(p->isa);
    } else {
        for (int64_t k = 0; k < times; k++) {
            if (j->kind == 1)
                read_bytes(p->isa, mine, bytes & -256);
            else
                copy_bytes(p->isa, mine + (bytes / 2 & -256), mine, bytes / 2 & -256);
            done += (double)(bytes & -256);
        }
    }
    if (i == 0) j->done = done;
}

static double rate(const bench *b, int kind, int level) {
    probe_job j = {&b->probes, kind, level, 0};
    if (kind && level != BENCH_DRAM) { /* brings the buffer into its level */
        probe_job warm = j;
        bench_parallel(b->threads, probe_body, &warm);
    }
    double begin = bench_now(b);
    bench_parallel(b->threads, probe_body, &j);
    return j.done * b->threads / (bench_now(b) - begin);
}

bench_rates bench_probe(const bench *b, double working_set) {
    int level = 0;
    while (level < BENCH_DRAM && working_set / (level < BENCH_L3 ? b->threads : 1) > (double)b->probes.holds[level]) level++;
    return (bench_rates){rate(b, 0, BENCH_L1), rate(b, 1, level), rate(b, 2, level)};
}
