/* bench.c - loading, cases, rounds and rows. See bench.h. */
#define _GNU_SOURCE
#include "bench_device.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arena.h"
#include "peers.h"
#include "threads.h"

/* ---- threads ---- */

static thread_pool *pool;

static void *pool_alloc(void *user, size_t size, size_t align) {
    (void)user;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void pool_free(void *user, void *block, size_t size) {
    (void)user, (void)size;
    free(block);
}

static void pool_loop(void *context, int64_t n, void (*body)(void *arg, int64_t i, int32_t worker), void *arg) {
    (void)context;
    if (pool) {
        thread_pool_run(pool, n, body, arg);
        return;
    }
    for (int64_t i = 0; i < n; i++) body(arg, i, 0);
}

void bench_parallel(int threads, void (*body)(void *arg, int64_t i, int32_t worker), void *arg) {
    pool_loop(NULL, threads, body, arg);
}

/* ---- opening ---- */

static int load(ops_plugin *p, const char *path, int threads) {
    char why[300] = "";
    int code = ops_open(p, path, why, sizeof why);
    if (code) return fprintf(stderr, "%s: %s\n", path, why), code;
    p->host.workers = threads;
    p->host.table.parallel_for = pool_loop;
    return 0;
}

static int lanes(const ops_plugin *p) {
#if defined(__x86_64__)
    return strstr(p->info.description, "v4") ? 16 : strstr(p->info.description, "v3") ? 8 : 4;
#else
    (void)p;
    return 4;
#endif
}

int bench_open(bench *b, int argc, char **argv, const char *what) {
    const char *plugin = NULL, *against = NULL;
    memset(b, 0, sizeof *b);
    b->threads = 1, b->rounds = 11, b->spread = 1.15, b->random = 20261126;
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--json")) {
            b->json = true;
            continue;
        }
        if (!strcmp(argv[i], "--plugin")) plugin = next;
        if (!strcmp(argv[i], "--against")) against = next;
        if (!strcmp(argv[i], "--op")) b->only = next;
        if (!strcmp(argv[i], "--shape")) b->shape = next;
        if (!strcmp(argv[i], "--peers")) b->peers = next;
        if (!strcmp(argv[i], "--threads")) b->threads = atoi(next);
        if (!strcmp(argv[i], "--rounds")) b->rounds = atoi(next);
        if (!strcmp(argv[i], "--spread")) b->spread = atof(next);
        i++;
    }
    if (b->rounds < 1 || b->rounds > BENCH_ROUNDS) b->rounds = BENCH_ROUNDS;
    if (b->threads < 1 || b->threads > 64) b->threads = 1;
    if (!plugin)
        return fprintf(stderr, "usage: bench_%s --plugin FILE [--against FILE] [--op PART] [--shape PART] [--peers PART] "
                               "[--threads N] [--rounds N] [--spread X] [--json]\n", what), 2;
    const strand_allocator allocator = {pool_alloc, pool_free, NULL};
    if (b->threads > 1) pool = thread_pool_open(&allocator, b->threads);
    int code = load(&b->plugin, plugin, b->threads);
    b->device = !code && !ops_host_memory(&b->plugin);
    if (!code && against) code = load(&b->against, against, b->threads), b->compares = !code;
    if (code) return code;
    if (!bench_probes_open(&b->probes, lanes(&b->plugin), b->threads)) return fprintf(stderr, "no memory for the probes\n"), 1;
    if (!b->json)
        printf("%s: %s; %d thread%s, medians of %d interleaved rounds\n", b->plugin.table.name, b->plugin.info.description,
               b->threads,
               b->device         ? " (wall time)"
               : b->threads == 1 ? " (its own CPU time)"
                                 : "s (wall time)",
               b->rounds);
    return 0;
}

int bench_close(bench *b) {
    bench_clear(b);
    bench_probes_close(&b->probes);
    int64_t left = ops_close(&b->plugin);
    if (b->compares) ops_close(&b->against);
    if (pool) thread_pool_close(pool);
    pool = NULL;
    free(b->blocks);
    if (b->unsteady && !b->json)
        printf("? %d of %d rows were taken while the machine was not steady: not to be judged\n", b->unsteady, b->rows);
    return b->failed || left ? 1 : 0;
}

bool bench_wants(const bench *b, const char *op) {
    return !b->only || strstr(op, b->only);
}

/* ---- memory and tensors ---- */

void *bench_memory(bench *b, uint64_t bytes) {
    if (b->n_blocks == b->room) {
        b->room = b->room ? 2 * b->room : 64;
        b->blocks = realloc(b->blocks, (size_t)b->room * sizeof *b->blocks);
    }
    size_t all = (size_t)(bytes + 127) / 64 * 64;
    const strand_allocator *allocator = allocator_default(); /* as a session's memory is allocated */
    void *block = b->blocks ? allocator->alloc(NULL, all, 64) : NULL;
    if (!block) {
        fprintf(stderr, "out of memory: %llu bytes\n", (unsigned long long)bytes);
        exit(1);
    }
    if (!b->unwanted) memset(block, 0, all);
    return b->blocks[b->n_blocks++] = block;
}

void bench_later(bench *b, void (*run)(void *arg), void *arg) {
    if (b->n_later < (int)(sizeof b->later / sizeof *b->later))
        b->later[b->n_later].run = run, b->later[b->n_later++].arg = arg;
}

void bench_clear(bench *b) {
    while (b->n_later) b->n_later--, b->later[b->n_later].run(b->later[b->n_later].arg);
    for (int i = 0; i < b->n_blocks; i++) free(b->blocks[i]);
    b->n_blocks = 0;
}

int64_t bench_count(const strand_plugin_tensor *t) {
    int64_t n = t->dtype != STRAND_PLUGIN_NONE;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->dims[i];
    return n;
}

/* Elements and bytes of a block of a type. */
static void block_of(uint32_t dtype, int64_t *elements, int64_t *bytes) {
    *elements = dtype == STRAND_PLUGIN_Q8_0 || dtype == STRAND_PLUGIN_Q4_0 ? 32 : dtype == STRAND_PLUGIN_Q4_K || dtype == STRAND_PLUGIN_Q6_K ? 256 : 1;
    switch (dtype) {
    case STRAND_PLUGIN_Q8_0: *bytes = 34; break;
    case STRAND_PLUGIN_Q4_0: *bytes = 18; break;
    case STRAND_PLUGIN_Q4_K: *bytes = 144; break;
    case STRAND_PLUGIN_Q6_K: *bytes = 210; break;
    case STRAND_PLUGIN_I64: *bytes = 8; break;
    case STRAND_PLUGIN_F16:
    case STRAND_PLUGIN_BF16: *bytes = 2; break;
    default: *bytes = 4;
    }
}

uint64_t bench_bytes(const strand_plugin_tensor *t) {
    int64_t elements, bytes;
    block_of(t->dtype, &elements, &bytes);
    return (uint64_t)(bench_count(t) / elements * bytes);
}

strand_plugin_tensor bench_view(uint32_t dtype, void *data, int rank, const int64_t *dims) {
    strand_plugin_tensor t = {.dtype = dtype, .rank = (uint32_t)rank};
    int64_t stride = 1;
    for (int i = rank; i-- > 0; stride *= dims[i]) t.dims[i] = t.whole[i] = dims[i], t.strides[i] = stride;
    t.memory = (strand_plugin_memory){.data = data};
    t.memory.bytes = bench_bytes(&t);
    return t;
}

strand_plugin_tensor bench_absent(void) {
    return (strand_plugin_tensor){0};
}

typedef struct mapping {
    void *data;
    size_t bytes;
} mapping;

static void unmap(void *arg) {
    const mapping *m = arg;
    munmap(m->data, m->bytes);
}

strand_plugin_tensor bench_mapped(bench *b, strand_plugin_tensor t) {
    mapping *m = bench_memory(b, sizeof *m);
    m->bytes = (size_t)t.memory.bytes;
    FILE *f = b->unwanted ? NULL : tmpfile();
    if (b->unwanted) return t;
    bool written = f && fwrite(t.memory.data, 1, m->bytes, f) == m->bytes && !fflush(f);
    m->data = written ? mmap(NULL, m->bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fileno(f), 0) : MAP_FAILED;
    if (f) fclose(f);
    if (m->data == MAP_FAILED) {
        fprintf(stderr, "no file of %llu bytes could be mapped\n", (unsigned long long)t.memory.bytes);
        exit(1);
    }
    bench_later(b, unmap, m);
    t.memory.data = m->data;
    return t;
}

strand_plugin_tensor bench_constant(strand_plugin_tensor t) {
    t.flags |= STRAND_TENSOR_CONSTANT;
    return t;
}

strand_plugin_tensor bench_zeros(bench *b, uint32_t dtype, int rank, const int64_t *dims) {
    strand_plugin_tensor t = bench_view(dtype, NULL, rank, dims);
    t.memory.data = bench_memory(b, t.memory.bytes);
    return t;
}

static uint16_t to_half(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    int exponent = (int)(u >> 23 & 255) - 112;
    uint32_t sign = u >> 16 & 0x8000;
    if (exponent <= 0) return (uint16_t)sign; /* too small for a normal number */
    return (uint16_t)(sign | (uint32_t)(exponent > 30 ? 30 : exponent) << 10 | (u >> 13 & 0x3ff));
}

/* Random bytes, with the F16 scales of each block in range. */
static void random_blocks(bench *b, strand_plugin_tensor *t, double scale) {
    int64_t elements, size, n;
    block_of(t->dtype, &elements, &size);
    n = bench_count(t) / elements;
    unsigned char *p = t->memory.data;
    for (uint64_t i = 0; i + 8 <= t->memory.bytes; i += 8) {
        uint64_t r = ops_random(&b->random);
        memcpy(p + i, &r, 8);
    }
    uint16_t d = to_half((float)scale);
    for (int64_t i = 0; i < n; i++) {
        memcpy(p + i * size + (t->dtype == STRAND_PLUGIN_Q6_K ? 208 : 0), &d, 2);
        if (t->dtype == STRAND_PLUGIN_Q4_K) memcpy(p + i * size + 2, &d, 2);
    }
}

strand_plugin_tensor bench_random(bench *b, uint32_t dtype, int rank, const int64_t *dims, double low, double high) {
    strand_plugin_tensor t = bench_zeros(b, dtype, rank, dims);
    int64_t n = bench_count(&t);
    void *p = t.memory.data;
    if (b->unwanted) return t;
    if (dtype >= STRAND_PLUGIN_Q8_0) return random_blocks(b, &t, (high - low) / 32), t;
    for (int64_t i = 0; i < n; i++) {
        double x = low + (high - low) * (double)(ops_random(&b->random) >> 11) * 0x1p-53;
        float f = (float)x;
        uint32_t u;
        memcpy(&u, &f, 4);
        switch (dtype) {
        case STRAND_PLUGIN_F16: ((uint16_t *)p)[i] = to_half(f); break;
        case STRAND_PLUGIN_BF16: ((uint16_t *)p)[i] = (uint16_t)(u >> 16); break;
        case STRAND_PLUGIN_I32: ((int32_t *)p)[i] = (int32_t)floor(x); break;
        case STRAND_PLUGIN_I64: ((int64_t *)p)[i] = (int64_t)floor(x); break;
        default: ((float *)p)[i] = f;
        }
    }
    return t;
}

/* ---- cases ---- */

void bench_begin(bench *b, bench_case *c, const char *op, uint32_t id, const void *params, size_t bytes, const char *shape,
                 ...) {
    va_list args;
    memset(c, 0, sizeof *c);
    c->op = op;
    if (bytes) memcpy(c->params, params, bytes < sizeof c->params ? bytes : sizeof c->params);
    c->node = (strand_plugin_node){
        .op = id, .version = 1, .inputs = c->inputs, .outputs = c->outputs, .params = c->params, .name = op};
    va_start(args, shape);
    vsnprintf(c->shape, sizeof c->shape, shape, args);
    va_end(args);
    b->unwanted = b->shape && !strstr(c->shape, b->shape);
}

void bench_input(bench_case *c, strand_plugin_tensor t) {
    c->inputs[c->node.n_inputs++] = t;
}

void bench_output(bench_case *c, strand_plugin_tensor t) {
    c->outputs[c->node.n_outputs++] = t;
}

void bench_peer(bench_case *c, const char *name, void (*run)(void *arg), void *arg) {
    if (run && c->n_peers < BENCH_PEERS) c->peers[c->n_peers++] = (bench_contestant){name, run, arg, NULL};
}

void bench_peer_result(bench_case *c, const float *result) {
    if (c->n_peers) c->peers[c->n_peers - 1].result = result;
}

/* A node on a plugin, ready to be launched. */
typedef struct ready {
    const ops_plugin *p;
    bench_device *device; /* NULL: host memory */
    strand_plugin_node node;
    strand_plugin_memory scratch;
    bool failed;
} ready;

static void launch(void *arg) {
    ready *r = arg;
    if (r->p->api->launch(r->p->device, &r->node, 1, &r->scratch)) r->failed = true;
}

/* The same on a device: everything is copied there once. */
static bool make_ready_there(bench *b, const ops_plugin *p, ready *r, char *why, size_t why_bytes) {
    r->device = calloc(1, sizeof *r->device);
    if (!r->device) return false;
    bool good = bench_device_place(r->device, p, &r->node, why, why_bytes);
    bench_later(b, bench_device_free, r->device);
    if (!good) return false;
    uint64_t scratch = p->api->scratch_size(p->device, &r->node, 1), prepared = p->api->prepare_size(p->device, &r->node);
    good = bench_device_memory(r->device, scratch, &r->scratch) &&
           bench_device_memory(r->device, prepared, &r->node.prepared) &&
           (!prepared || !p->api->prepare(p->device, &r->node, &r->scratch));
    bench_device_settle(r->device);
    if (good && !r->device->failed) return true;
    snprintf(why, why_bytes, "it could not be made ready: %.200s", p->host.failure);
    return false;
}

static bool make_ready(bench *b, const ops_plugin *p, const bench_case *c, ready *r, char *why, size_t why_bytes) {
    *r = (ready){.p = p, .node = c->node};
    if (p->api->supports(p->device, &c->node, why, why_bytes)) return false;
    if (!ops_host_memory(p)) return make_ready_there(b, p, r, why, why_bytes);
    uint64_t scratch = p->api->scratch_size(p->device, &r->node, 1), prepared = p->api->prepare_size(p->device, &r->node);
    r->scratch = (strand_plugin_memory){.data = bench_memory(b, scratch), .bytes = scratch};
    if (!prepared) return true;
    r->node.prepared = (strand_plugin_memory){.data = bench_memory(b, prepared), .bytes = prepared};
    if (!p->api->prepare(p->device, &r->node, &r->scratch)) return true;
    snprintf(why, why_bytes, "prepare failed: %.200s", p->host.failure);
    return false;
}

/* ---- rounds ---- */

#define CONTESTANTS (BENCH_PEERS + 3)

typedef struct series {
    double v[BENCH_ROUNDS];
    int n;
} series;

typedef struct race {
    bench_contestant of[CONTESTANTS];
    series seconds[CONTESTANTS];
    int64_t times[CONTESTANTS]; /* runs a round */
    int n, floor;               /* floor: index of the floor kernel, or -1 */
    series flops, read, copy;
} race;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value below which the part q of the series lies. */
static double quantile(const series *s, double q) {
    double v[BENCH_ROUNDS];
    if (!s->n) return 0;
    memcpy(v, s->v, (size_t)s->n * sizeof *v);
    qsort(v, (size_t)s->n, sizeof *v, by_value);
    return v[(int)(q * (s->n - 1) + 0.5)];
}

static void note(series *s, double v) {
    s->v[s->n++] = v;
}

static double timed(const bench *b, const bench_contestant *c, int64_t times) {
    double begin = bench_now(b);
    for (int64_t k = 0; k < times; k++) c->run(c->arg);
    if (c->settle) c->settle(c->settle_arg);
    return (bench_now(b) - begin) / (double)times;
}

static void enter(race *r, const char *name, void (*run)(void *), void *arg, const float *result) {
    r->of[r->n++] = (bench_contestant){name, run, arg, result};
}

#define ROUND_SECONDS 5e-4 /* a contestant runs at least so long in a round */

static void run_race(const bench *b, race *r, double working_set) {
    double all = 0;
    for (int i = 0; i < r->n; i++) { /* warms up, and counts how often half a millisecond has room for it */
        timed(b, &r->of[i], 1);
        double once = timed(b, &r->of[i], 1);
        r->times[i] = once > 0 ? (int64_t)(ROUND_SECONDS / once) + 1 : 1000;
        if (r->times[i] > 100000) r->times[i] = 100000;
        all += once * (double)r->times[i];
    }
    int rounds = all * b->rounds < 20 ? b->rounds : all * 5 < 40 ? 5 : 3;
    if (rounds > b->rounds) rounds = b->rounds;
    for (int k = 0; k < rounds; k++) {
        bench_rates rates = bench_probe(b, working_set);
        note(&r->flops, rates.flops);
        note(&r->read, rates.read);
        note(&r->copy, rates.copy);
        for (int j = 0; j < r->n; j++) {
            int i = (k / 2 + (k & 1 ? r->n - 1 - j : j)) % r->n; /* nobody always follows the probes, or one other */
            /* They and the others leave caches that are not this one's: what may stay there is brought back. */
            if (r->times[i] > 1) timed(b, &r->of[i], r->times[i]);
            note(&r->seconds[i], timed(b, &r->of[i], r->times[i]));
        }
    }
}

/* ---- rows ---- */

typedef struct row {
    double seconds, low, high;          /* of a launch */
    double floor, ratio;                /* seconds, times it */
    const char *bound;                  /* what the floor is made of */
    double peer, peer_ratio, peer_low, peer_high; /* a peer's seconds over ours */
    double difference; /* of its result, by the largest value of ours; below 0: not compared */
} row;

/* Seconds that round k's probes allow. */
static double probe_floor(const race *r, const bench_case *c, int k, const char **bound) {
    double work = (c->flops + 16 * c->exps) / r->flops.v[k];
    double copied = c->writes < c->reads ? c->writes : c->reads;
    double memory = (c->reads + c->writes - 2 * copied) / r->read.v[k] + 2 * copied / r->copy.v[k];
    *bound = work > memory ? "arithmetic" : "memory";
    return work > memory ? work : memory;
}

static long peak_kib(void) {
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "VmHWM:", 6)) kib = strtol(line + 6, NULL, 10);
    if (f) fclose(f);
    return kib;
}

/* Largest difference of a peer's result from the plugin's, by the largest value of that. */
static double difference(const bench_case *c, const float *theirs) {
    const float *ours = c->outputs[0].memory.data;
    double most = 0, worst = 0;
    if (!theirs || c->outputs[0].dtype != STRAND_PLUGIN_F32) return -1;
    for (int64_t i = 0, n = bench_count(&c->outputs[0]); i < n; i++) {
        double d = fabs((double)ours[i] - (double)theirs[i]);
        if (!(d <= worst)) worst = isnan(d) ? INFINITY : d;
        if (fabs((double)ours[i]) > most) most = fabs((double)ours[i]);
    }
    return worst / (most > 1e-30 ? most : 1);
}

/* Starts the peak anew, where the system can. */
static void forget_peak(void) {
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (f) {
        fputs("5", f);
        fclose(f);
    }
}

static void print_json(const bench *b, const bench_case *c, const row *r, const race *a, int peer, bool steady) {
    printf(
        "{\"op\": \"%s\", \"shape\": \"%s\", \"threads\": %d, \"lanes\": %d, \"seconds\": %.9g, \"p10\": %.9g, \"p90\": %.9g, "
        "\"elements\": %.17g, \"flops\": %.17g, \"exps\": %.17g, \"bytes\": %.17g, \"floor\": %.9g, \"bound\": \"%s\", "
        "\"ratio\": %.5g, \"peak_flops\": %.5g, \"read\": %.5g, \"copy\": %.5g, \"spread\": %.4g, \"steady\": %s, "
        "\"peak_kib\": %ld",
        c->op, c->shape, b->threads, b->probes.isa, r->seconds, r->low, r->high, c->elements, c->flops, c->exps,
        c->reads + c->writes, r->floor, r->bound, r->ratio, quantile(&a->flops, 0.5), quantile(&a->read, 0.5),
        quantile(&a->copy, 0.5), quantile(&a->flops, 0.9) / quantile(&a->flops, 0.1), steady ? "true" : "false", peak_kib());
    printf(", \"node\": %u, \"params\": \"", c->node.op);
    for (size_t i = 0; i < sizeof c->params; i++) printf("%02x", ((const unsigned char *)c->params)[i]);
    printf("\", \"inputs\": [");
    for (uint32_t i = 0; i < c->node.n_inputs; i++) {
        const strand_plugin_tensor *t = &c->inputs[i];
        printf("%s[%u", i ? ", " : "", t->dtype);
        for (uint32_t k = 0; k < t->rank; k++) printf(", %lld", (long long)t->dims[k]);
        printf("]");
    }
    printf("]");
    if (peer >= 0)
        printf(", \"peer\": \"%s\", \"peer_seconds\": %.9g, \"peer_ratio\": %.5g, \"peer_p10\": %.5g, \"peer_p90\": %.5g, "
               "\"difference\": %.3g",
               a->of[peer].name, r->peer, r->peer_ratio, r->peer_low, r->peer_high,
               r->difference < 1e30 ? r->difference : 1e30);
    puts("}");
}

static void time_text(double seconds, char *text, size_t size) {
    snprintf(text, size,
             seconds < 1e-3 ? "%.2f us"
             : seconds < 1  ? "%.3f ms"
                            : "%.3f s",
             seconds * (seconds < 1e-3 ? 1e6
                        : seconds < 1  ? 1e3
                                       : 1));
}

static void print_text(bench *b, const bench_case *c, const row *r, const race *a, int peer, bool steady) {
    char took[32], rate[32], than[128] = "";
    if (!b->rows++)
        printf("  %-18s %-36s %12s %14s %12s %22s  %s\n", "operator", "shape", "time", "rate", "ns/element", "x floor (bound)",
               "peer / Strand [p10, p90]");
    time_text(r->seconds, took, sizeof took);
    if (c->flops > 0)
        snprintf(rate, sizeof rate, "%.1f GFLOP/s", 1e-9 * c->flops / r->seconds);
    else
        snprintf(rate, sizeof rate, "%.1f GB/s", 1e-9 * (c->reads + c->writes) / r->seconds);
    if (peer >= 0)
        snprintf(than, sizeof than, "%.2f [%.2f, %.2f] %.60s", r->peer_ratio, r->peer_low, r->peer_high, a->of[peer].name);
    if (peer >= 0 && r->difference >= 0)
        snprintf(than + strlen(than), sizeof than - strlen(than), ", differs by %.1e", r->difference);
    printf("%c %-18s %-36s %12s %14s %12.3f %8.2f (%s)  %s\n", steady ? ' ' : '?', c->op, c->shape, took, rate,
           1e9 * r->seconds / c->elements, r->ratio, r->bound, than);
}

static void print_row(bench *b, bench_case *c, const race *a, int peer) {
    row r = {
        .seconds = quantile(&a->seconds[0], 0.5), .low = quantile(&a->seconds[0], 0.1), .high = quantile(&a->seconds[0], 0.9)};
    series floor = {0}, ratio = {0}, than = {0};
    for (int k = 0; k < a->seconds[0].n; k++) {
        double f = a->floor >= 0 ? a->seconds[a->floor].v[k] : probe_floor(a, c, k, &r.bound);
        note(&floor, f);
        note(&ratio, a->seconds[0].v[k] / f);
        if (peer >= 0) note(&than, a->seconds[peer].v[k] / a->seconds[0].v[k]);
    }
    if (a->floor >= 0) r.bound = a->of[a->floor].name;
    r.floor = quantile(&floor, 0.5), r.ratio = quantile(&ratio, 0.5);
    r.peer_ratio = quantile(&than, 0.5), r.peer_low = quantile(&than, 0.1), r.peer_high = quantile(&than, 0.9);
    if (peer >= 0) r.peer = quantile(&a->seconds[peer], 0.5), r.difference = difference(c, a->of[peer].result);
    bool steady = quantile(&a->flops, 0.9) <= b->spread * quantile(&a->flops, 0.1);
    b->unsteady += !steady;
    if (b->json)
        print_json(b, c, &r, a, peer, steady);
    else
        print_text(b, c, &r, a, peer, steady);
    fflush(stdout);
}

static void fill_defaults(bench_case *c) {
    if (c->reads <= 0)
        for (uint32_t i = 0; i < c->node.n_inputs; i++) c->reads += (double)bench_bytes(&c->inputs[i]);
    if (c->writes <= 0)
        for (uint32_t i = 0; i < c->node.n_outputs; i++) c->writes += (double)bench_bytes(&c->outputs[i]);
    if (c->elements <= 0) c->elements = (double)bench_count(&c->outputs[0]);
}

static void refuse(bench *b, const bench_case *c, const char *why) {
    if (b->json)
        printf("{\"op\": \"%s\", \"shape\": \"%s\", \"threads\": %d, \"missing\": true}\n", c->op, c->shape, b->threads);
    else
        printf("  %-18s %-36s not here: %s\n", c->op, c->shape, why);
    bench_clear(b);
}

static void enter_ready(race *r, const char *name, ready *x) {
    enter(r, name, launch, x, NULL);
    if (x->device) r->of[r->n - 1].settle = bench_device_settle, r->of[r->n - 1].settle_arg = x->device;
}

/* The device's own copy of as many bytes, half of them read. */
static bool device_copy(bench *b, double bytes, bench_case *c, ready *r) {
    const strand_op_unary same = {.kind = STRAND_UNARY_AFFINE, .alpha = 1};
    char why[256];
    double elements = bytes / 8;
    int64_t n = elements < 64 ? 64 : elements > 5e8 ? 500000000 : (int64_t)elements;
    bench_begin(b, c, "copy", STRAND_OP_UNARY, &same, sizeof same, "%lld", (long long)n);
    bench_input(c, bench_zeros(b, STRAND_PLUGIN_F32, 1, &n));
    bench_output(c, bench_zeros(b, STRAND_PLUGIN_F32, 1, &n));
    return make_ready(b, &b->plugin, c, r, why, sizeof why);
}

double bench_run(bench *b, bench_case *c) {
    char why[256] = "";
    ready ours, other, copy;
    bench_case copied;
    race a = {.floor = -1};
    if (b->unwanted) return bench_clear(b), 0;
    fill_defaults(c);
    if (!b->peers || strcmp(b->peers, "none")) bench_peers_add(b, c);
    forget_peak();
    if (!make_ready(b, &b->plugin, c, &ours, why, sizeof why)) return refuse(b, c, why), 0;
    enter_ready(&a, "Strand", &ours);
    if (b->compares && make_ready(b, &b->against, c, &other, why, sizeof why)) enter_ready(&a, "the other plugin", &other);
    for (int i = 0; i < c->n_peers; i++)
        if (!b->peers || strstr(c->peers[i].name, b->peers))
            enter(&a, c->peers[i].name, c->peers[i].run, c->peers[i].arg, c->peers[i].result);
    int last = a.n;
    if (b->device) {
        if (device_copy(b, c->reads + c->writes, &copied, &copy))
            a.floor = a.n, enter_ready(&a, "memory: a copy by the device", &copy);
    } else if (c->floor.run) {
        a.floor = a.n, enter(&a, c->floor.name, c->floor.run, c->floor.arg, NULL);
    }
    run_race(b, &a, c->reads + c->writes);
    if (ours.device) bench_device_fetch(ours.device, c);
    if (ours.failed || (ours.device && ours.device->failed)) {
        b->failed++;
        return refuse(b, c, "the launch failed"), 0;
    }
    for (int i = last > 1 ? 1 : 0; i < last; i++) print_row(b, c, &a, i ? i : -1);
    bench_clear(b);
    return quantile(&a.seconds[0], 0.5);
}
