/* bench.h - what the benchmarks share: a plugin loaded through its ABI, contestants that run in interleaved rounds, probes
 * of what this machine can do measured in the same rounds, and rows of one form.
 *
 *     int main(int argc, char **argv) {
 *         bench b;
 *         int code = bench_open(&b, argc, argv, "attention");
 *         if (code) return code;
 *         if (bench_wants(&b, "attention")) {
 *             strand_op_attention params = {...};
 *             bench_case c;
 *             bench_begin(&b, &c, "attention", STRAND_OP_ATTENTION, &params, sizeof params, "B=1 L=%d H=%d d=%d", 1024, 8, 64);
 *             bench_input(&c, bench_random(&b, STRAND_PLUGIN_F32, 3, (int64_t[]){1, 1024, 512}, -1, 1));
 *             ...
 *             bench_output(&c, bench_zeros(&b, STRAND_PLUGIN_F32, 3, (int64_t[]){1, 1024, 512}));
 *             c.flops = 4.0 * 8 * 1024 * 1024 * 64, c.exps = 8.0 * 1024 * 1024;
 *             bench_peer(&c, "a simple loop", simple, &job);     // as many as BENCH_PEERS; none is fine
 *             bench_run(&b, &c);                                 // runs, prints the row, frees what bench_random... made
 *         }
 *         return bench_close(&b);
 *     }
 *
 * Words and rules
 *  - Time is the thread's own CPU time with one thread (other jobs do not advance it), wall time with more, or on a device.
 *    All figures are medians of rounds; in each round every contestant runs once (often enough to fill half a millisecond),
 *    in an order that turns around from round to round, and the probes run between them. Ratios are medians of the rounds'
 *    own ratios. Only ratios are facts.
 *  - The floor of a case is the least time that its arithmetic or its memory needs here: the larger of (flops + 16 exps)
 *    over the multiply-add rate (an exponential is counted as eight vector instructions), and of the bytes that must be read
 *    and written once over the bandwidth of the cache level that holds them all. A case may bring its own floor kernel
 *    instead.
 *  - A row is judged only when the multiply-add probe was steady: its 90th percentile at most `spread` times its 10th. Else
 *    it is printed with a '?'.
 *  - --json prints one object a line: what tests/bench/run reads. */
#ifndef STRAND_TESTS_BENCH_H
#define STRAND_TESTS_BENCH_H

#include "ops_host.h"

#define BENCH_PEERS  5
#define BENCH_ROUNDS 61 /* at most */

typedef struct bench_contestant {
    const char *name;
    void (*run)(void *arg);
    void *arg;
    const float *result; /* what it made of the case's first output, to be compared; NULL: not compared */
    void (*settle)(void *arg); /* waits for what runs began; NULL: they are done when they return */
    void *settle_arg;
} bench_contestant;

/* What the machine did in one round; rates per second with all threads of the run together. */
typedef struct bench_rates {
    double flops;      /* multiply-adds of F32 vectors, two operations each */
    double read, copy; /* bytes (a copied byte counts twice) at the level of the case's working set */
} bench_rates;

enum { BENCH_L1, BENCH_L2, BENCH_L3, BENCH_DRAM, BENCH_LEVELS };

typedef struct bench_probes {
    int isa; /* vectors that are measured: 4, 8 or 16 lanes */
    int threads;
    int64_t bytes[BENCH_LEVELS]; /* of the buffer that is read or copied at this level, one a thread */
    int64_t holds[BENCH_LEVELS]; /* a working set of at most this much belongs here */
    unsigned char *buffer;       /* for all threads */
} bench_probes;

typedef struct bench {
    ops_plugin plugin, against; /* `against` is loaded when --against FILE asks for it */
    bool compares, unwanted; /* unwanted: the case that is being made is not one of --shape */
    int threads, rounds;
    bool json, device; /* device: the plugin's memory is its own */
    double spread;
    const char *only, *shape, *peers; /* --op, --shape, --peers: parts of names, NULL: all; --peers none: none of the
                                         libraries in peers.h */
    bench_probes probes;
    void **blocks;
    int n_blocks, room;
    struct {
        void (*run)(void *arg);
        void *arg;
    } later[16];
    int n_later;
    uint64_t random;
    int rows, unsteady, failed;
} bench;

typedef struct bench_case {
    const char *op;
    char shape[120];
    strand_plugin_node node;
    strand_plugin_tensor inputs[STRAND_PLUGIN_MAX_INPUTS], outputs[2];
    uint64_t params[STRAND_PLUGIN_PARAMS / 8];
    double flops, exps;   /* that the mathematics needs; 0: only memory counts */
    double reads, writes; /* bytes that must move; 0: all inputs, all outputs once */
    double elements;      /* for ns an element; 0: those of the first output */
    const void *peer_weights; /* where peers find what the second input holds; NULL: in the same place */
    bench_contestant floor; /* run NULL: from the probes */
    bench_contestant peers[BENCH_PEERS];
    int n_peers;
} bench_case;

/* Reads the options (--plugin FILE [--against FILE] [--op PART] [--shape PART] [--peers PART] [--threads N]
 * [--rounds N] [--spread X] [--json]) and loads the plugin. Returns 0, or the exit code after a line on stderr. `what` names
 * the program in the usage. */
int bench_open(bench *b, int argc, char **argv, const char *what);
/* Frees all; returns the exit code. */
int bench_close(bench *b);
/* Does --op take this operator? */
bool bench_wants(const bench *b, const char *op);

/* Tensors with memory that lives until bench_run or bench_clear. Floating-point values in [low, high), whole numbers likewise;
 * the quantised types get scales of about (high - low) / 32 and random quants. */
strand_plugin_tensor bench_random(bench *b, uint32_t dtype, int rank, const int64_t *dims, double low, double high);
strand_plugin_tensor bench_zeros(bench *b, uint32_t dtype, int rank, const int64_t *dims);
/* Marks it as made of weights alone: it may be prepared. */
strand_plugin_tensor bench_constant(strand_plugin_tensor t);
/* A contiguous view of data that you own; an absent optional input. */
strand_plugin_tensor bench_view(uint32_t dtype, void *data, int rank, const int64_t *dims);
strand_plugin_tensor bench_absent(void);
/* The same tensor in a file that is mapped, as models are by loaders that do not copy them. */
strand_plugin_tensor bench_mapped(bench *b, strand_plugin_tensor t);
/* Memory aligned to 64 bytes, freed as above. Ends the program when there is none. */
void *bench_memory(bench *b, uint64_t bytes);
void bench_clear(bench *b);
/* run(arg) in the next bench_clear, before the memory goes. */
void bench_later(bench *b, void (*run)(void *arg), void *arg);
int64_t bench_count(const strand_plugin_tensor *t);
uint64_t bench_bytes(const strand_plugin_tensor *t);

/* The case must stay where it is until bench_run: its node points into it. */
void bench_begin(bench *b, bench_case *c, const char *op, uint32_t id, const void *params, size_t bytes, const char *shape, ...)
    __attribute__((format(printf, 7, 8)));
void bench_input(bench_case *c, strand_plugin_tensor t);
void bench_output(bench_case *c, strand_plugin_tensor t);
/* The floor of products of one row: reads a matrix of `rows` rows of `bytes` bytes in the fastest way that is known, sixteen
 * rows side by side, with the next sixteen asked for. */
void bench_read_rows(int isa, const void *p, int64_t rows, int64_t bytes);
/* Ignored when run is NULL (a peer that is not installed). */
void bench_peer(bench_case *c, const char *name, void (*run)(void *arg), void *arg);
/* Where the peer added last leaves its F32 result, in the order of the case's first output: it is compared with the
 * plugin's. */
void bench_peer_result(bench_case *c, const float *result);
/* Prepares, runs the rounds, prints, and frees the tensors. Returns the median seconds of a launch, 0 when it was not run. */
double bench_run(bench *b, bench_case *c);

/* bench_probe.c */
bool bench_probes_open(bench_probes *p, int isa, int threads);
void bench_probes_close(bench_probes *p);
/* Measures once; the level is that of a working set of so many bytes. */
bench_rates bench_probe(const bench *b, double working_set);
/* Now, on the clock that the run is timed by. */
double bench_now(const bench *b);
/* body(arg, i) for i in [0, threads) at once. */
void bench_parallel(int threads, void (*body)(void *arg, int64_t i, int32_t worker), void *arg);

#endif
