/* cases_attention.c - ROTARY, ATTENTION (many queries, and steps of few) and CACHE_WRITE. Keys beyond the valid ones are
 * NaN, as is the memory of a cache that has not been written, and now and then a value in the middle. */
#include "ops_cases.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PICK(g, list) (list)[ops_between(g, 0, (int64_t)(sizeof(list) / sizeof *(list)) - 1)]

static uint32_t some_integer(ops_program *g) {
    return ops_between(g, 0, 1) ? STRAND_PLUGIN_I64 : STRAND_PLUGIN_I32;
}

/* Writes whole number `value` to element i of an integer tensor. */
static void set_id(ops_program *g, int index, int64_t i, int64_t value) {
    ops_tensor *t = &g->tensors[index];
    int32_t small = (int32_t)value;
    unsigned char *at = t->start + ops_place(t, &t->view, i);
    if (t->view.dtype == STRAND_PLUGIN_I64)
        memcpy(at, &value, 8);
    else
        memcpy(at, &small, 4);
}

static void make_rotary(ops_program *g, int index) {
    static const int64_t widths[] = {1, 2, 3, 6, 16, 31, 32, 33, 64, 80, 128, 256},
                         far[] = {0, 1, 100, 4095, 1000000, 70000000};
    int64_t heads = ops_between(g, 1, 5), width = PICK(g, widths),
            dims[3] = {ops_between(g, 1, 3), ops_extent(g, 90), heads * width};
    strand_op_rotary p = {.heads = heads, .rotary = width / 2 * 2, .interleaved = (uint32_t)index & 1, .base = 10000,
                          .position_scale = 1, .magnitude = 1};
    if (index % 3 == 1) p.rotary = 2 * ops_between(g, 0, width / 2);
    if (index % 5 == 2) p.base = 500000, p.position_scale = 0.25f, p.magnitude = 1.2f;
    p.offset = index % 4 == 3 ? PICK(g, far) : ops_between(g, -3, 3);
    int in[3] = {ops_add(g, F32, 3, dims, OPS_NORMAL), -1, -1};
    if (index & 2) {
        int rank = (int)ops_between(g, 1, 2);
        in[1] = ops_add_ids(g, some_integer(g), rank, dims + 2 - rank, 100000);
    }
    if (index & 4 && p.rotary) in[2] = ops_vector(g, p.rotary / 2);
    ops_add_node(g, STRAND_OP_ROTARY, &p, sizeof p, 3, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
    SAY("%lldx%lldx%lldx%lld, %lld rotated, interleaved %u, offset %lld, positions %d, frequencies %d", (long long)dims[0],
        (long long)dims[1], (long long)heads, (long long)width, (long long)p.rotary, p.interleaved, (long long)p.offset,
        in[1] >= 0, in[2] >= 0);
}

typedef struct shape {
    int64_t batch, length, keys, d, dv;
    strand_op_attention p;
    uint32_t type_k, type_v;
    int64_t valid[4];
    bool cached, bias, mask;
} shape;

/* Fills row s of a tensor [batch, keys, C] with ones: NaN. */
static void spoil(ops_program *g, int index, int64_t b, int64_t s) {
    ops_tensor *t = &g->tensors[index];
    int64_t c = t->view.dims[2], size = t->view.dtype == F32 ? 4 : 2;
    memset(t->start + ops_place(t, &t->view, (b * t->view.dims[1] + s) * c), 0xff, (size_t)(c * size));
}

static void add_attention(ops_program *g, shape *c, bool nan) {
    int64_t h = c->p.heads, hk = c->p.kv_heads, q[3] = {c->batch, c->length, h * c->d}, k[3] = {c->batch, c->keys, hk * c->d},
            v[3] = {c->batch, c->keys, hk * c->dv}, out[3] = {c->batch, c->length, h * c->dv},
            bias[3] = {ops_between(g, 0, 1) ? h : 1, c->length, c->keys};
    int in[6] = {ops_add(g, F32, 3, q, OPS_NORMAL), ops_add(g, c->type_k, 3, k, OPS_NORMAL),
                 ops_add(g, c->type_v, 3, v, OPS_NORMAL), -1, -1, -1};
    if (c->cached) {
        int64_t n = c->batch > 1 && ops_between(g, 0, 2) ? c->batch : 1;
        in[3] = ops_add_ids(g, some_integer(g), 1, &n, 1);
        for (int64_t b = 0; b < n; b++) set_id(g, in[3], b, c->valid[b]);
        for (int64_t b = 0; b < c->batch; b++)
            for (int64_t s = c->valid[n > 1 ? b : 0]; s < c->keys; s++) spoil(g, in[1], b, s), spoil(g, in[2], b, s);
    }
    if (c->bias) in[4] = ops_add(g, F32, 3, bias, OPS_NORMAL);
    if (c->bias && ops_between(g, 0, 1)) { /* masks are given as a bias too */
        ops_tensor *t = &g->tensors[in[4]];
        float hidden = -INFINITY;
        for (int64_t i = 0; i < ops_count(&t->view); i += ops_between(g, 1, 5))
            memcpy(t->start + ops_place(t, &t->view, i), &hidden, 4);
    }
    if (c->mask) {
        int64_t mask[3] = {ops_between(g, 0, 1) ? h : 1, (c->length + c->p.block - 1) / c->p.block,
                           (c->keys + c->p.block - 1) / c->p.block};
        in[5] = ops_add_ids(g, STRAND_PLUGIN_I32, 3, mask, 2);
    }
    if (nan) spoil(g, in[2], 0, ops_between(g, 0, c->keys - 1));
    ops_add_node(g, STRAND_OP_ATTENTION, &c->p, sizeof c->p, 6, in, ops_add(g, F32, 3, out, OPS_OUTPUT));
    SAY("%lldx%lld queries, %lld keys, %lld/%lld heads of %lld and %lld, causal %u, window %lld + %lld, softcap %g, cached %d, bias %d, mask %d "
        "of %lld, types %u %u, nan %d",
        (long long)c->batch, (long long)c->length, (long long)c->keys, (long long)h, (long long)hk, (long long)c->d,
        (long long)c->dv, c->p.causal, (long long)c->p.window, (long long)c->p.sinks, (double)c->p.softcap, c->cached, c->bias,
        c->mask, (long long)c->p.block, c->type_k, c->type_v, nan);
}

/* What cases with many queries and steps have in common. */
static shape some_shape(ops_program *g, int index, int64_t length, int64_t keys) {
    static const int64_t widths[] = {1, 3, 8, 15, 16, 17, 32, 40, 64, 64, 65, 80, 100, 128, 256},
                         groups[] = {1, 1, 1, 2, 3, 4, 8};
    shape c = {.batch = ops_between(g, 1, 3), .length = length, .keys = keys, .d = PICK(g, widths)};
    c.dv = ops_between(g, 0, 3) ? c.d : PICK(g, widths);
    c.p.kv_heads = ops_between(g, 1, 3);
    c.p.heads = c.p.kv_heads * PICK(g, groups);
    while (c.batch * c.p.heads * length * keys * (2 * c.d + c.dv) > 2500000) {
        if (c.batch > 1)
            c.batch--;
        else if (c.p.kv_heads > 1)
            c.p.heads /= c.p.kv_heads, c.p.kv_heads = 1;
        else if (c.d > 16)
            c.d /= 2, c.dv = (c.dv + 1) / 2;
        else if (c.p.heads > 1)
            c.p.heads = 1;
        else
            break;
    }
    const bool wide_halves = index % 20 == 18; /* rare by chance */
    if (wide_halves) c.batch = c.p.heads = c.p.kv_heads = 1, c.d = 100, c.dv = 128;
    c.p.scale = 1 / sqrtf((float)c.d);
    c.p.causal = (uint32_t)(index & 1);
    c.type_k = ops_any_float(g);
    c.type_v = ops_between(g, 0, 3) ? c.type_k : ops_any_float(g);
    if (wide_halves) c.type_k = c.type_v = STRAND_PLUGIN_F16;
    c.cached = index % 4 >= 2;
    for (int b = 0; b < 4; b++) c.valid[b] = ops_between(g, keys > length && ops_between(g, 0, 5) ? length : 0, keys);
    if (index % 3 == 2) c.p.window = ops_between(g, 1, keys / 2 + 1);
    if (index % 6 == 5 || index % 12 == 8) c.p.sinks = ops_between(g, 1, 9); /* causal, and not */
    if (index % 7 == 3) c.p.softcap = 5, g->slack = 2;
    c.bias = index % 5 == 4;
    if (index % 5 == 1) c.type_k = c.type_v = STRAND_PLUGIN_BF16, c.p.precision = STRAND_PRECISION_BF16, g->slack = 2000;
    c.mask = index % 8 == 6;
    c.p.block = ops_between(g, 0, 1) ? ops_between(g, 1, 9) : ops_between(g, 10, 90);
    return c;
}

static void make_attention(ops_program *g, int index) {
    static const int64_t corners[][2] = {{9, 9},    {16, 16},   {64, 64}, {65, 65},  {33, 130}, {100, 1},
                                         {10, 200}, {129, 129}, {1, 9},   {257, 64}, {31, 63},  {47, 128}};
    int64_t length = ops_between(g, 1, 150), keys = index & 1 ? length : ops_between(g, 1, 300);
    if (index < (int)(sizeof corners / sizeof *corners)) length = corners[index][0], keys = corners[index][1];
    shape c = some_shape(g, index, length, keys);
    if (index == 8) c.p.heads = 9, c.p.kv_heads = 1; /* many rows of one token */
    add_attention(g, &c, index % 9 == 7);
}

static void make_attention_step(ops_program *g, int index) {
    static const int64_t corners[] = {1, 2, 15, 16, 17, 63, 64, 65, 511, 512, 513, 1030, 2000, 1, 33000};
    int64_t keys = ops_between(g, 1, 1500), length = ops_between(g, 0, 1) ? 1 : ops_between(g, 1, 8);
    if (index < (int)(sizeof corners / sizeof *corners)) keys = corners[index];
    if (keys > 3000) length = 1;
    shape c = some_shape(g, index, length, keys);
    if (keys > 3000) c.batch = c.p.heads = c.p.kv_heads = 1, c.d = c.dv = 20, c.p.scale = 0.2f;
    add_attention(g, &c, index % 9 == 7);
}

/* Steps of the commonest heads without anything added to their scores, for which plugins have kernels: one query and several,
 * heads that share keys, keys of each type, more and fewer than there are valid ones. */
static void make_decoding_attention(ops_program *g, int index) {
    static const int64_t lengths[] = {1, 1, 2, 3, 4, 5, 8}, keys[] = {1, 7, 16, 17, 100, 127, 300, 700, 1024, 1025, 2100, 5000};
    static const uint32_t types[] = {F32, STRAND_PLUGIN_F16, STRAND_PLUGIN_BF16};
    shape c = some_shape(g, index, lengths[index % 7], keys[index % 12]);
    const bool alone = index % 5 == 2; /* one row a KV head */
    c.d = c.dv = index % 3 == 1 ? 128 : 64;
    c.batch = c.keys > 1024 ? 1 : ops_between(g, 1, 2);
    c.p.kv_heads = ops_between(g, 1, 2);
    c.p.heads = c.p.kv_heads * (c.keys > 1024 ? ops_between(g, 1, 2) : ops_between(g, 1, 5));
    c.type_k = c.type_v = types[alone ? ops_between(g, 0, 2) : (index / 2 + index / 12) % 3];
    if (alone) c.length = 1, c.p.heads = c.p.kv_heads;
    c.bias = c.mask = false;
    c.p.softcap = 0;
    c.p.precision = STRAND_PRECISION_F32;
    g->slack = 1;
    c.p.scale = 0.125f;
    add_attention(g, &c, index % 9 == 7);
}

/* Wide heads, heads that share keys, biased and masked scores, with keys of half precision: many queries and steps in turn,
 * so that 21 cases are all that a plugin may tell apart. */
static void make_wide_attention(ops_program *g, int index) {
    static const int64_t many[4][4] = {{64, 33, 64, 8}, {128, 65, 80, 127}, {192, 136, 160, 129}, {256, 256, 200, 193}},
                         few[3][4] = {{64, 64, 24, 63}, {128, 128, 96, 65}, {256, 136, 192, 256}}, groups[] = {1, 2, 4, 5};
    const int kind = index % 3, which = index / 3 % 7;
    const bool step = which > 3;
    int64_t length = step ? (index & 1 ? 1 : ops_between(g, 1, 15)) : ops_between(g, 16, 80),
            keys = step ? ops_between(g, 1, 1400) : ops_between(g, 1, 200);
    if (step && index % 5 == 2) length = ops_between(g, 16, 40), keys = ops_between(g, 513, 700);
    shape c = some_shape(g, index, length, keys);
    c.batch = ops_between(g, 1, 2);
    c.d = c.dv = step ? PICK(g, few[which - 4]) : PICK(g, many[which]);
    if (index % 4 == 1) c.d = ops_between(g, 1, c.dv);
    if (index % 4 == 2) c.dv = ops_between(g, 1, c.d);
    c.p.kv_heads = ops_between(g, 1, 2);
    c.p.heads = c.p.kv_heads * (step ? PICK(g, groups) : ops_between(g, 1, 2));
    if (c.p.heads * length * keys * c.d > 3000000) c.batch = c.p.kv_heads = 1, c.p.heads = step && length < 16 ? 4 : 1;
    c.type_k = c.type_v = kind == 2 ? STRAND_PLUGIN_F16 : STRAND_PLUGIN_BF16;
    c.p.precision = kind == 0 ? STRAND_PRECISION_BF16 : STRAND_PRECISION_F32;
    g->slack = kind == 0 ? 2000 : c.p.softcap > 0 ? 2 : 1;
    c.p.scale = 1 / sqrtf((float)c.d);
    if (!step && which < 2) c.mask = index & 1, c.bias = !c.mask || c.bias;
    add_attention(g, &c, index % 9 == 7);
}

/* Many queries with keys of half precision and leave to round: the shapes for which plugins have kernels of long tiles. Widths
 * of whole chunks of eight columns, now and then others; more than one tile of keys as a rule. */
static void make_rounded_attention(ops_program *g, int index) {
    static const int64_t widths[] = {64, 128, 40, 8, 72, 120, 64, 30}, lengths[] = {65, 128, 129, 200, 257, 70},
                         groups[] = {1, 2, 4};
    int64_t length = PICK(g, lengths),
            keys = index & 1 ? length + (index % 4 == 1 ? ops_between(g, 0, 300) : 0) : ops_between(g, 1, 500);
    if (index % 7 == 5) keys += 700; /* more tiles than are held at once */
    shape c = some_shape(g, index, length, keys);
    c.batch = ops_between(g, 1, 2);
    c.p.kv_heads = ops_between(g, 1, 2);
    c.p.heads = c.p.kv_heads * PICK(g, groups);
    c.d = widths[index % 8];
    c.dv = index % 6 == 2 ? PICK(g, widths) : c.d;
    while (c.p.heads > 1 && c.batch * c.p.heads * length * keys * (c.d + c.dv) > 12000000) {
        if (c.batch > 1)
            c.batch--;
        else
            c.p.heads = c.p.kv_heads = c.p.kv_heads > 1 || c.p.heads > 2 ? c.p.heads / 2 : 1;
    }
    c.type_k = c.type_v = index % 3 == 1 ? STRAND_PLUGIN_F16 : STRAND_PLUGIN_BF16;
    c.p.precision = STRAND_PRECISION_BF16;
    g->slack = index % 3 == 1 ? 400 : 2000; /* F16 and BF16 products, as strand_ops.h allows */
    c.p.scale = 1 / sqrtf((float)c.d);
    c.bias = c.mask = false;
    if (c.p.window && index % 4 == 2) c.p.window = ops_between(g, 1, 40); /* whole tiles are hidden */
    add_attention(g, &c, index % 9 == 7);
}

static void make_cache_write(ops_program *g, int index) {
    int64_t batch = ops_between(g, 1, 3), rows = ops_extent(g, 100), c = ops_extent(g, 300),
            length = ops_between(g, 1, index & 1 ? 2 * rows : rows);
    int64_t cache[3] = {batch, rows, c}, x[3] = {batch, length, c}, n = ops_between(g, 0, 1) ? batch : 1;
    strand_op_cache_write p = {.ring = (uint32_t)index & 1};
    uint32_t type = index % 3 == 0 ? F32 : index % 3 == 1 ? STRAND_PLUGIN_F16 : STRAND_PLUGIN_BF16;
    int in[3] = {ops_add(g, type, 3, cache, OPS_NORMAL), ops_add(g, F32, 3, x, OPS_NORMAL),
                 ops_add_ids(g, some_integer(g), 1, &n, 1)};
    if (!p.ring && rows > length && index % 4 == 2) p.slide = (uint32_t)ops_between(g, 1, rows - length);
    for (int64_t b = 0; b < n; b++)
        set_id(g, in[2], b, p.ring ? ops_between(g, -100, 100000) : ops_between(g, 0, p.slide ? 3 * rows : rows - length));
    ops_add_node(g, STRAND_OP_CACHE_WRITE, &p, sizeof p, 3, in, ops_add(g, type, 3, cache, OPS_OUTPUT));
    SAY("%lldx%lldx%lld of type %u, %lld rows, ring %u, slide %u", (long long)batch, (long long)rows, (long long)c, type,
        (long long)length, p.ring, p.slide);
}

OPS_CASES(attention,
    {"rotary", make_rotary, false},
    {"attention", make_attention, false},
    {"attention_step", make_attention_step, false},
    {"decoding_attention", make_decoding_attention, false},
    {"wide_attention", make_wide_attention, false},
    {"rounded_attention", make_rounded_attention, false},
    {"cache_write", make_cache_write, false});
