/* bench_attention.c - times attention over many queries, decoding steps, rotary positions and the cache, next to their floors:
 * multiply-adds and exponentials for the first, bytes of keys and values for the steps, bytes for the others.
 *
 *   bench_attention --plugin strand-cpu-x86-64-v4.so [--op attention|step|rotary|cache] */
#include "bench.h"

#include <math.h>
#include <stdio.h>

typedef struct shape {
    int64_t length, keys, heads, kv_heads, d;
    uint32_t type, causal, precision;
    int64_t window, batch; /* batch 0: 1 */
} shape;

static const char *const types[] = {"", "F32", "F16", "BF16"};

/* Pairs of a query and a key that it sees. */
static double pairs(const shape *s) {
    double n = 0;
    for (int64_t t = 0; t < s->length; t++) {
        int64_t end = s->causal ? s->keys - s->length + t + 1 : s->keys;
        n += (double)(s->window > 0 && end > s->window ? s->window : end);
    }
    return n * (double)s->heads * (double)(s->batch ? s->batch : 1);
}

static void attention(bench *b, const char *name, const shape *s) {
    const int64_t batch = s->batch ? s->batch : 1;
    int64_t q[3] = {batch, s->length, s->heads * s->d}, k[3] = {batch, s->keys, s->kv_heads * s->d};
    strand_op_attention p = {.heads = s->heads, .kv_heads = s->kv_heads, .window = s->window, .scale = 1 / sqrtf((float)s->d),
                             .causal = s->causal, .precision = s->precision};
    bench_case c;
    if (!bench_wants(b, name)) return;
    bench_begin(b, &c, name, STRAND_OP_ATTENTION, &p, sizeof p, "B=%lld L=%lld S=%lld H=%lld/%lld d=%lld %s%s%s%s",
                (long long)batch, (long long)s->length, (long long)s->keys, (long long)s->heads, (long long)s->kv_heads,
                (long long)s->d, types[s->type], s->causal ? " causal" : "", s->window ? " window" : "",
                s->precision ? " rounded" : "");
    bench_input(&c, bench_random(b, STRAND_PLUGIN_F32, 3, q, -1, 1));
    bench_input(&c, bench_random(b, s->type, 3, k, -1, 1));
    bench_input(&c, bench_random(b, s->type, 3, k, -1, 1));
    bench_output(&c, bench_zeros(b, STRAND_PLUGIN_F32, 3, q));
    c.flops = 4 * pairs(s) * (double)s->d;
    c.exps = pairs(s);
    bench_run(b, &c);
}

static void rotary(bench *b, int64_t length, int64_t heads, int64_t d, uint32_t interleaved) {
    int64_t dims[3] = {1, length, heads * d};
    strand_op_rotary p = {
        .heads = heads, .rotary = d, .interleaved = interleaved, .base = 10000, .position_scale = 1, .magnitude = 1};
    bench_case c;
    if (!bench_wants(b, "rotary")) return;
    bench_begin(b, &c, "rotary", STRAND_OP_ROTARY, &p, sizeof p, "L=%lld H=%lld d=%lld %s", (long long)length, (long long)heads,
                (long long)d, interleaved ? "pairs" : "halves");
    bench_input(&c, bench_random(b, STRAND_PLUGIN_F32, 3, dims, -1, 1));
    bench_output(&c, bench_zeros(b, STRAND_PLUGIN_F32, 3, dims));
    bench_run(b, &c);
}

static void cache(bench *b, int64_t length, uint32_t type) {
    int64_t rows[3] = {1, 4096, 1024}, x[3] = {1, length, 1024}, one = 1;
    strand_op_cache_write p = {0};
    bench_case c;
    if (!bench_wants(b, "cache")) return;
    bench_begin(b, &c, "cache", STRAND_OP_CACHE_WRITE, &p, sizeof p, "%lld rows of 1024 %s in place", (long long)length,
                types[type]);
    strand_plugin_tensor memory = bench_zeros(b, type, 3, rows);
    bench_input(&c, memory);
    bench_input(&c, bench_random(b, STRAND_PLUGIN_F32, 3, x, -1, 1));
    bench_input(&c, bench_zeros(b, STRAND_PLUGIN_I32, 1, &one));
    bench_output(&c, memory);
    c.reads = 4096 * (double)length;
    c.writes = 1024 * (double)length * (type == STRAND_PLUGIN_F32 ? 4 : 2);
    bench_run(b, &c);
}

/* A GPU's rows: 16k tokens or more of 1024 columns, so that the working set is several times its L2;
 * tests/bench/attention_torch.py times PyTorch at the same. */
static void rows_of_gpus(bench *b) {
    static const int64_t lengths[] = {1024, 4096, 16384, 65536};
    for (int64_t d = 64; d <= 128; d *= 2)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            for (uint32_t kind = 0; kind < 3; kind++) {
                const int64_t l = lengths[i], heads = 1024 / d;
                attention(b, "attention", &(shape){l, l, heads, heads, d, kind == 2 ? STRAND_PLUGIN_F16 : STRAND_PLUGIN_BF16,
                                                   kind != 0, STRAND_PRECISION_BF16, 0, l < 16384 ? 16384 / l : 1});
            }
    for (uint32_t type = STRAND_PLUGIN_F16; type <= STRAND_PLUGIN_BF16; type++) {
        attention(b, "step", &(shape){1, 16384, 16, 16, 64, type, 0, STRAND_PRECISION_BF16, 0, 8});
        attention(b, "step", &(shape){1, 16384, 32, 8, 128, type, 0, STRAND_PRECISION_BF16, 0, 8});
    }
}

int main(int argc, char **argv) {
    static const shape many[] = {
        {1024, 1024, 8, 8, 64, STRAND_PLUGIN_F32, 0, 0, 0},       {1024, 1024, 8, 8, 64, STRAND_PLUGIN_F32, 1, 0, 0},
        {4096, 4096, 2, 2, 64, STRAND_PLUGIN_F32, 0, 0, 0},       {4096, 4096, 2, 2, 64, STRAND_PLUGIN_F32, 1, 0, 0},
        {16384, 16384, 1, 1, 64, STRAND_PLUGIN_F32, 0, 0, 0},     {16384, 16384, 1, 1, 64, STRAND_PLUGIN_F32, 1, 0, 0},
        {16384, 16384, 4, 1, 64, STRAND_PLUGIN_F32, 1, 0, 1024},  {1024, 1024, 8, 8, 64, STRAND_PLUGIN_F16, 0, 0, 0},
        {1024, 1024, 8, 8, 64, STRAND_PLUGIN_BF16, 0, 0, 0},      {1024, 1024, 8, 8, 64, STRAND_PLUGIN_BF16, 0, 1, 0},
        {4096, 4096, 2, 2, 64, STRAND_PLUGIN_BF16, 0, 1, 0},      {4096, 4096, 4, 4, 64, STRAND_PLUGIN_BF16, 1, 1, 0},
        {2048, 2048, 8, 2, 128, STRAND_PLUGIN_F32, 1, 0, 0},      {1024, 1024, 8, 8, 40, STRAND_PLUGIN_F32, 0, 0, 0},
        {512, 512, 2, 2, 256, STRAND_PLUGIN_F32, 0, 0, 0},        {32, 4096, 8, 8, 64, STRAND_PLUGIN_F32, 1, 0, 0}};
    static const shape steps[] = {
        {1, 1024, 16, 16, 64, STRAND_PLUGIN_F32, 1, 0, 0},   {1, 1024, 16, 16, 64, STRAND_PLUGIN_F16, 1, 0, 0},
        {1, 4096, 16, 16, 64, STRAND_PLUGIN_F32, 1, 0, 0},   {1, 4096, 16, 16, 64, STRAND_PLUGIN_F16, 1, 0, 0},
        {1, 4096, 16, 16, 64, STRAND_PLUGIN_BF16, 1, 0, 0},  {1, 16384, 16, 16, 64, STRAND_PLUGIN_F32, 1, 0, 0},
        {1, 16384, 16, 16, 64, STRAND_PLUGIN_F16, 1, 0, 0},  {1, 16384, 32, 8, 128, STRAND_PLUGIN_BF16, 1, 0, 0},
        {4, 4096, 16, 16, 64, STRAND_PLUGIN_F32, 1, 0, 0}};
    bench b;
    int code = bench_open(&b, argc, argv, "attention");
    if (code) return code;
    if (b.device) rows_of_gpus(&b);
    for (size_t i = 0; i < sizeof many / sizeof *many; i++) attention(&b, "attention", &many[i]);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) attention(&b, "step", &steps[i]);
    rotary(&b, 1024, 16, 64, 0);
    rotary(&b, 1024, 16, 64, 1);
    rotary(&b, 1, 32, 128, 0);
    cache(&b, 1, STRAND_PLUGIN_F16);
    cache(&b, 512, STRAND_PLUGIN_BF16);
    return bench_close(&b);
}
