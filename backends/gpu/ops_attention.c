/* ops_attention.c - ROTARY, ATTENTION and CACHE_WRITE on the GPU plugins (kernels/attention.k). */
#include "gpu.h"

#include <math.h>

static int words_of(const strand_plugin_tensor *t) {
    return !t ? 0 : t->dtype == STRAND_PLUGIN_I64 ? 2 : 1;
}

/* ---- rotary ---- */

bool gpu_supports_rotary(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_rotary *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0];
    const int64_t most = 1 << 24;
    (void)device;
    if (p->rotary > 1024) return cpu_no(why, why_bytes, "more than 1024 rotated elements");
    if (p->offset < -most || p->offset + y->origin[1] + y->dims[1] > most)
        return cpu_no(why, why_bytes, "positions beyond 2^24");
    return true;
}

/* value as the sum of two floats */
static void push_two(gpu_dispatch *d, double value) {
    float high = (float)value;
    gpu_float(d, high);
    gpu_float(d, (float)(value - (double)high));
}

GPU_RUN(rotary) {
    const strand_op_rotary *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *at = cpu_input(node, 1), *f = cpu_input(node, 2), *y = &node->outputs[0];
    int64_t width = y->dims[2] / p->heads, each = width - p->rotary / 2, items = y->dims[0] * y->dims[1] * p->heads * each;
    uint32_t last = at ? at->rank - 1 : 0;
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_rotary);
    gpu_bind(device, &d, x);
    gpu_bind_or(device, &d, at, x);
    gpu_bind_or(device, &d, f && f->dims[0] ? f : NULL, x);
    gpu_bind(device, &d, y);
    d.params[0] += (int32_t)(cpu_lead(x, 0, y, 0) * x->strides[0] + cpu_lead(x, 1, y, 1) * x->strides[1]);
    if (at)
        d.params[1] += (int32_t)((at->rank == 2 ? cpu_lead(at, 0, y, 0) * at->strides[0] : 0) +
                                 cpu_lead(at, last, y, 1) * at->strides[last]);
    const int64_t sizes[] = {items, p->heads, width, p->rotary, each, p->interleaved};
    gpu_ints(&d, sizes, 6);
    gpu_float(&d, p->magnitude);
    gpu_int(&d, p->offset + y->origin[1]);
    const int64_t strides[] = {x->strides[0], x->strides[1], y->strides[0], y->strides[1],
                               at && at->rank == 2 ? at->strides[0] : 0, at ? at->strides[last] : 0};
    gpu_ints(&d, strides, 6);
    gpu_int(&d, words_of(at));
    gpu_int(&d, y->dims[1]);
    gpu_int(&d, f != NULL);
    push_two(&d, (double)p->position_scale / 6.283185307179586476925);
    for (int bit = 0; bit < 9; bit++)
        push_two(&d, f || !p->rotary ? 1 : pow((double)p->base, -2.0 * (double)(1 << bit) / (double)p->rotary));
    return gpu_over(device, &d, items);
}

/* ---- attention ---- */

#define SPLIT_QUERIES 64   /* with more queries than this, blocks of them keep the device busy */
#define SPLIT_KEYS    512
#define MOST_SPLITS   64
#define TILE_QUERIES  8    /* with more queries than this, blocks of 64 of them (attention_tile.k) */

/* How many parts the keys are cut into; by the whole shape alone, so that a result does not depend on tiles or the batch. */
static int64_t splits_of(int64_t queries, int64_t keys) {
    int64_t n = (keys + SPLIT_KEYS - 1) / SPLIT_KEYS;
    if (queries > SPLIT_QUERIES || n < 2) return 1;
    return n < MOST_SPLITS ? n : MOST_SPLITS;
}

/* Parts of the keys where each item has one (attention_each.k), groups of 16; by the shape alone too. */
#define EACH_ITEMS  16
#define EACH_KEYS   64
#define EACH_GROUPS 8

static int64_t each_groups(int64_t keys) {
    return cpu_max(1, cpu_min(keys / (EACH_KEYS * EACH_ITEMS), EACH_GROUPS));
}

/* Bytes of a batch entry's parts: of each row sums, then a vector of four with the largest score and the sum of weights. */
static uint64_t each_bytes(const strand_plugin_node *node, int64_t queries) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *k = &node->inputs[1], *y = &node->outputs[0];
    int64_t columns = y->dims[2] / p->heads + 4;
    return (uint64_t)(queries * p->heads * each_groups(k->dims[1]) * EACH_ITEMS * columns) * sizeof(float);
}

static uint64_t each_most(const strand_plugin_device *device) {
    return device->limits.binding_bytes / 4 / sizeof(float) * sizeof(float);
}

/* Where items that wait for one another cost more than they share, few queries have kernels of their own, for the common heads
 * and where the parts of the most queries of a batch entry fit: neither batch nor tile decides. */
static bool is_for_each(const strand_plugin_device *device, const strand_plugin_node *node) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *q = &node->inputs[0], *k = &node->inputs[1], *v = &node->inputs[2];
    const int64_t d = q->dims[2] / p->heads;
    return device->limits.slow_barriers && v->dtype == k->dtype && (d == 64 || d == 128) && v->dims[2] == d * p->kv_heads &&
           !(p->softcap > 0) && !cpu_input(node, 4) && !cpu_input(node, 5) &&
           each_bytes(node, TILE_QUERIES) <= each_most(device);
}

uint64_t gpu_attention_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *k = &node->inputs[1], *y = &node->outputs[0];
    int64_t splits = splits_of(1, k->dims[1]), queries = cpu_min(y->dims[1], SPLIT_QUERIES), dv = y->dims[2] / p->heads;
    uint64_t bytes = splits < 2 ? 0 : (uint64_t)(y->dims[0] * p->heads * queries * splits * (dv + 2)) * sizeof(float);
    if (is_for_each(device, node)) {
        uint64_t each = (uint64_t)y->dims[0] * each_bytes(node, cpu_min(queries, TILE_QUERIES)), most = each_most(device);
        each = each < most ? each : most;
        bytes = bytes > each ? bytes : each;
    }
    return bytes;
}

bool gpu_supports_attention(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0];
    if (p->window > INT32_MAX || p->sinks > INT32_MAX || p->block > INT32_MAX || node->inputs[1].dims[1] > 1 << 30 ||
        y->whole[1] > 1 << 30)
        return cpu_no(why, why_bytes, "more than 2^30 queries or keys, or a window or block of as many");
    uint64_t partial = gpu_attention_scratch(device, node);
    if (partial > device->limits.binding_bytes / 2 || partial / sizeof(float) > INT32_MAX)
        return cpu_no(why, why_bytes, "partial sums are larger than a kernel sees");
    return true;
}

strand_plugin_status gpu_check_counts(strand_plugin_device *device, const strand_plugin_tensor *counts, int64_t most) {
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_check_counts);
    gpu_bind(device, &d, counts);
    gpu_bind_fault(device, &d);
    gpu_int(&d, counts->dims[0]);
    gpu_int(&d, counts->strides[0]);
    gpu_int(&d, words_of(counts));
    gpu_int(&d, most);
    return gpu_over(device, &d, counts->dims[0]);
}

/* Queries, keys, strides: everything that the kernel is told but the columns. */
static void push_attention(gpu_dispatch *d, const strand_plugin_node *node, int64_t splits, int64_t each) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *q = &node->inputs[0], *k = &node->inputs[1], *v = &node->inputs[2], *y = &node->outputs[0];
    const strand_plugin_tensor *n = cpu_input(node, 3), *bias = cpu_input(node, 4), *mask = cpu_input(node, 5);
    const int64_t sizes[] = {y->dims[1], y->origin[1], y->whole[1], k->dims[1], q->dims[2] / p->heads, y->dims[2] / p->heads,
                             p->heads,   p->kv_heads,  p->causal,   p->window,  p->sinks,              mask ? p->block : 1};
    gpu_ints(d, sizes, 12);
    gpu_float(d, p->scale);
    gpu_float(d, p->softcap);
    gpu_int(d, words_of(n));
    gpu_int(d, n && n->whole[0] != 1 ? n->strides[0] : 0);
    gpu_int(d, bias != NULL);
    gpu_int(d, mask != NULL);
    const strand_plugin_tensor *const four[] = {q, k, v, y};
    for (int i = 0; i < 4; i++) {
        gpu_int(d, four[i]->strides[0]);
        gpu_int(d, four[i]->strides[1]);
    }
    gpu_int(d, bias && bias->dims[0] > 1 ? bias->strides[0] : 0);
    gpu_int(d, bias ? bias->strides[1] : 0);
    gpu_int(d, mask && mask->dims[0] > 1 ? mask->strides[0] : 0);
    gpu_int(d, mask ? mask->strides[1] : 0);
    gpu_int(d, k->dtype);
    gpu_int(d, v->dtype);
    gpu_int(d, splits);
    gpu_int(d, each);
}

strand_plugin_status gpu_attention_merge(strand_plugin_device *device, const strand_plugin_node *node,
                                         const strand_plugin_memory *scratch, int64_t splits) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0];
    int64_t dv = y->dims[2] / p->heads, items = gpu_count(y);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_attention_merge);
    gpu_bind_memory(device, &d, scratch, 0, (uint64_t)(y->dims[0] * p->heads * y->dims[1] * splits * (dv + 2)) * sizeof(float),
                    sizeof(float));
    gpu_bind(device, &d, y);
    const int64_t sizes[] = {items, dv, p->heads, y->dims[1], splits, y->strides[0], y->strides[1]};
    gpu_ints(&d, sizes, 7);
    return gpu_over(device, &d, items);
}

/* By the whole number of queries, types and what is asked for: a tile's rows are as the whole's. */
static gpu_kernel kernel_of(const strand_plugin_node *node) {
    const strand_op_attention *p = node->params;
    const uint32_t type = node->inputs[1].dtype;
    bool plain = node->inputs[2].dtype == type && !(p->softcap > 0) && !cpu_input(node, 4) && !cpu_input(node, 5);
    if (node->outputs[0].whole[1] > TILE_QUERIES)
        return plain && type == STRAND_PLUGIN_F32 ? GPU_K_attention_tile : GPU_K_attention_tile_any;
    return !plain                      ? GPU_K_attention
           : type == STRAND_PLUGIN_F32 ? GPU_K_attention_step_f32
           : type == STRAND_PLUGIN_F16 ? GPU_K_attention_step_f16
                                       : GPU_K_attention_step_bf16;
}

/* Do rows of q, k and v begin at vectors of four? (Tiles add in the same order if not; whether steps do depends on the tensors'
 * whole extents and strides, as which kernel takes them does.) */
static bool whole_vectors(const gpu_dispatch *d) {
    static const int numbers[] = {0, 1, 2, 12, 13, 26, 27, 28, 29, 30, 31};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (d->params[numbers[i]] % 4) return false;
    return true;
}

/* By the heads' width, the whole number of rows and the type: runs of four rows, or one. */
static gpu_kernel each_kernel(const strand_plugin_node *node, int64_t d, int64_t rows) {
    static const gpu_kernel kernels[2][2][3] = {
        {{GPU_K_attention_each1_64_f32, GPU_K_attention_each1_64_f16, GPU_K_attention_each1_64_bf16},
         {GPU_K_attention_each4_64_f32, GPU_K_attention_each4_64_f16, GPU_K_attention_each4_64_bf16}},
        {{GPU_K_attention_each1_128_f32, GPU_K_attention_each1_128_f16, GPU_K_attention_each1_128_bf16},
         {GPU_K_attention_each4_128_f32, GPU_K_attention_each4_128_f16, GPU_K_attention_each4_128_bf16}}};
    const uint32_t type = node->inputs[1].dtype;
    return kernels[d == 128][rows > 1][type == STRAND_PLUGIN_F32 ? 0 : type == STRAND_PLUGIN_F16 ? 1 : 2];
}

/* Batch entries [begin, begin + n). */
static strand_plugin_status merge_each(strand_plugin_device *device, const strand_plugin_node *node,
                                       const strand_plugin_memory *scratch, int64_t begin, int64_t n) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0];
    int64_t items = gpu_count(y) / y->dims[0] * n / 4, share = p->heads / p->kv_heads;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_attention_each_merge);
    gpu_bind_memory(device, &d, scratch, 0, (uint64_t)n * each_bytes(node, y->dims[1]), sizeof(float));
    gpu_bind(device, &d, y);
    d.params[1] += (int32_t)(begin * y->strides[0]);
    GPU_INTS(&d, items, y->dims[1] * share, p->kv_heads, share, y->dims[2] / p->heads,
             each_groups(node->inputs[1].dims[1]) * EACH_ITEMS, y->strides[0], y->strides[1]);
    return gpu_over(device, &d, items);
}

/* A step on a processor, as many batch entries at a time as spare memory holds; *done stays false where rows do not begin at
 * whole vectors. */
static strand_plugin_status run_each(strand_plugin_device *device, const strand_plugin_node *node,
                                     const strand_plugin_memory *scratch, bool *done) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *q = &node->inputs[0], *k = &node->inputs[1], *v = &node->inputs[2], *y = &node->outputs[0];
    const strand_plugin_tensor *n = cpu_input(node, 3);
    int64_t share = p->heads / p->kv_heads, rows = y->dims[1] * share, groups = each_groups(k->dims[1]);
    gpu_dispatch d;
    gpu_begin(&d, each_kernel(node, q->dims[2] / p->heads, y->whole[1] * share));
    gpu_bind(device, &d, q);
    gpu_bind(device, &d, k);
    gpu_bind(device, &d, v);
    gpu_bind_or(device, &d, n, q);
    const uint64_t entry = each_bytes(node, y->dims[1]);
    const int64_t at_once = cpu_min(y->dims[0], (int64_t)(each_most(device) / entry));
    gpu_bind_memory(device, &d, scratch, 0, (uint64_t)at_once * entry, sizeof(float));
    d.params[0] += (int32_t)(cpu_lead(q, 0, y, 0) * q->strides[0] + cpu_lead(q, 1, y, 1) * q->strides[1]);
    d.params[1] += (int32_t)(cpu_lead(k, 0, y, 0) * k->strides[0]);
    d.params[2] += (int32_t)(cpu_lead(v, 0, y, 0) * v->strides[0]);
    if (n && n->whole[0] != 1) d.params[3] += (int32_t)(cpu_lead(n, 0, y, 0) * n->strides[0]);
    GPU_INTS(&d, rows, y->origin[1], y->whole[1], k->dims[1], 0, p->heads, p->kv_heads);
    GPU_INTS(&d, p->causal, p->window, p->sinks);
    gpu_float(&d, p->scale);
    GPU_INTS(&d, words_of(n), n && n->whole[0] != 1 ? n->strides[0] : 0, q->strides[0], q->strides[1], k->strides[0],
             k->strides[1], v->strides[0], v->strides[1], groups);
    const int vector = k->dtype == STRAND_PLUGIN_F32 ? 4 : 8;
    static const int fours[] = {0, 4, 18, 19}, vectors[] = {1, 2, 20, 21, 22, 23};
    for (size_t i = 0; i < sizeof fours / sizeof *fours; i++)
        if (d.params[fours[i]] % 4) return STRAND_PLUGIN_OK;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        if (d.params[vectors[i]] % vector) return STRAND_PLUGIN_OK;
    *done = true;
    int64_t run = y->whole[1] * share > 1 ? 4 : 1;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    for (int64_t begin = 0; begin < y->dims[0] && !status; begin += at_once) {
        int64_t now = cpu_min(at_once, y->dims[0] - begin);
        gpu_dispatch piece = d;
        piece.params[0] += (int32_t)(begin * q->strides[0]);
        piece.params[1] += (int32_t)(begin * k->strides[0]);
        piece.params[2] += (int32_t)(begin * v->strides[0]);
        if (n && n->whole[0] != 1) piece.params[3] += (int32_t)(begin * n->strides[0]);
        status = gpu_groups(device, &piece, (rows + run - 1) / run * groups, p->kv_heads, now);
        if (!status) status = merge_each(device, node, scratch, begin, now);
    }
    return status;
}


GPU_RUN(attention) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *q = &node->inputs[0], *k = &node->inputs[1], *v = &node->inputs[2], *y = &node->outputs[0];
    const strand_plugin_tensor *n = cpu_input(node, 3), *bias = cpu_input(node, 4), *mask = cpu_input(node, 5);
    int64_t keys = k->dims[1], dv = y->dims[2] / p->heads, splits = splits_of(y->whole[1], keys),
            each = ((keys + splits - 1) / splits + 63) / 64 * 64;
    gpu_kernel kernel = kernel_of(node);
    strand_plugin_status status = n ? gpu_check_counts(device, n, keys) : STRAND_PLUGIN_OK;
    bool done = false;
    if (!status && keys && y->whole[1] <= TILE_QUERIES && is_for_each(device, node))
        status = run_each(device, node, scratch, &done);
    if (done) return status;
    for (int64_t column = 0; column < dv && !status; column += 64) {
        gpu_dispatch d;
        gpu_begin(&d, kernel);
        gpu_bind(device, &d, q);
        gpu_bind_or(device, &d, keys ? k : NULL, q);
        gpu_bind_or(device, &d, keys ? v : NULL, q);
        gpu_bind_or(device, &d, n, q);
        gpu_bind_or(device, &d, keys ? bias : NULL, q);
        gpu_bind_or(device, &d, keys ? mask : NULL, q);
        gpu_bind(device, &d, y);
        if (splits > 1)
            gpu_bind_memory(device, &d, scratch, 0,
                            (uint64_t)(y->dims[0] * p->heads * y->dims[1] * splits * (dv + 2)) * sizeof(float), sizeof(float));
        else
            gpu_bind(device, &d, y);
        d.params[0] += (int32_t)(cpu_lead(q, 0, y, 0) * q->strides[0] + cpu_lead(q, 1, y, 1) * q->strides[1]);
        d.params[1] += (int32_t)(cpu_lead(k, 0, y, 0) * k->strides[0]);
        d.params[2] += (int32_t)(cpu_lead(v, 0, y, 0) * v->strides[0]);
        if (n && n->whole[0] != 1) d.params[3] += (int32_t)(cpu_lead(n, 0, y, 0) * n->strides[0]);
        if (bias) d.params[4] += (int32_t)(cpu_lead(bias, 1, y, 1) * bias->strides[1]);
        push_attention(&d, node, splits, each);
        gpu_int(&d, column);
        if (!whole_vectors(&d)) d.kernel = y->whole[1] > TILE_QUERIES ? GPU_K_attention_tile_any : GPU_K_attention;
        int64_t block = y->whole[1] > TILE_QUERIES ? 64 : d.kernel == GPU_K_attention ? 16 : 1;
        status = gpu_groups(device, &d, (y->dims[1] + block - 1) / block * splits, p->heads, y->dims[0]);
    }
    return status || splits < 2 ? status : gpu_attention_merge(device, node, scratch, splits);
}

/* ---- the cache ---- */

bool gpu_supports_cache_write(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device;
    if (node->outputs[0].whole[1] > 1 << 30) return cpu_no(why, why_bytes, "a cache of more than 2^30 rows");
    return true;
}

/* Words of the view from its first element's to its last one's, with room for a beginning in the middle of a word. */
static int64_t cache_words(const strand_plugin_tensor *t) {
    int64_t last = 0;
    for (uint32_t i = 0; i < t->rank; i++) last += (t->dims[i] - 1) * t->strides[i];
    return ((last + 1) * (t->dtype == STRAND_PLUGIN_F32 ? 4 : 2) + 3) / 4 + 1;
}

uint64_t gpu_cache_write_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    const strand_op_cache_write *p = node->params;
    (void)device;
    return p->slide && gpu_count(&node->outputs[0]) ? (uint64_t)cache_words(&node->inputs[0]) * 4 : 0;
}

/* Rows that move while others are written are read from a copy: the result may lie over the cache. Binding 0 of `d` becomes
 * the copy. */
static strand_plugin_status copy_cache(strand_plugin_device *device, const strand_plugin_node *node,
                                       const strand_plugin_memory *scratch, gpu_dispatch *d) {
    const strand_plugin_tensor *cache = &node->inputs[0];
    int64_t words = cache_words(cache), a_word = cache->dtype == STRAND_PLUGIN_F32 ? 1 : 2, first = d->params[0] / a_word;
    gpu_dispatch copy;
    gpu_begin(&copy, GPU_K_cache_copy);
    copy.bindings[copy.n_bindings++] = d->bindings[0];
    gpu_int(&copy, 0);
    gpu_bind_memory(device, &copy, scratch, 0, (uint64_t)words * 4, 4);
    uint64_t there = d->bindings[0].bytes / 4 - (uint64_t)first;
    gpu_int(&copy, (int64_t)there < words ? (int64_t)there : words);
    gpu_int(&copy, first);
    d->bindings[0] = copy.bindings[1];
    d->params[0] = (int32_t)(copy.params[1] * a_word + d->params[0] % a_word);
    return gpu_over(device, &copy, copy.params[2]);
}

GPU_RUN(cache_write) {
    const strand_op_cache_write *p = node->params;
    const strand_plugin_tensor *cache = &node->inputs[0], *x = &node->inputs[1], *at = &node->inputs[2], *y = &node->outputs[0];
    int64_t words = y->dtype == STRAND_PLUGIN_F32 ? y->dims[2] : y->dims[2] / 2 + 1, items = y->dims[0] * y->dims[1] * words;
    gpu_dispatch d;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    gpu_begin(&d, GPU_K_cache_write);
    gpu_bind(device, &d, cache);
    gpu_bind_or(device, &d, x->dims[1] ? x : NULL, cache);
    gpu_bind(device, &d, at);
    gpu_bind(device, &d, y);
    gpu_bind_fault(device, &d);
    for (uint32_t i = 0; i < 3; i++) d.params[0] += (int32_t)(cpu_lead(cache, i, y, i) * cache->strides[i]);
    d.params[1] += (int32_t)(cpu_lead(x, 0, y, 0) * x->strides[0]);
    if (at->whole[0] != 1) d.params[2] += (int32_t)(cpu_lead(at, 0, y, 0) * at->strides[0]);
    const int64_t sizes[] = {items,
                             words,
                             y->dims[1],
                             y->dims[2],
                             y->origin[1],
                             y->whole[1],
                             x->dims[1],
                             p->ring,
                             words_of(at),
                             at->whole[0] != 1 ? at->strides[0] : 0,
                             y->dtype,
                             cache->strides[0],
                             cache->strides[1],
                             x->strides[0],
                             x->strides[1],
                             y->strides[0],
                             y->strides[1],
                             cpu_lead(x, 2, y, 2),
                             p->slide};
    gpu_ints(&d, sizes, 19);
    if (p->slide) status = copy_cache(device, node, scratch, &d);
    return status ? status : gpu_over(device, &d, items);
}
