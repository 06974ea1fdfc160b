/* reference_attention.c - ROTARY, ATTENTION and CACHE_WRITE as their definitions say them: every score is computed anew
 * wherever it is needed, which costs time and no memory. */
#include "reference.h"

#include <stdbool.h>

/* Entry `b` of the output's batch in a tensor [1] or [batch]. */
static int64_t count_at(const strand_plugin_tensor *t, const strand_plugin_tensor *out, int64_t b) {
    return get_id(t, t->whole[0] == 1 ? 0 : (b + out->origin[0] - t->origin[0]) * t->strides[0]);
}

/* Element (b, t, c) of a tensor with the output's batch, and tokens counted from the first of the whole. */
static double at3(const strand_plugin_tensor *x, const strand_plugin_tensor *out, int64_t b, int64_t t, int64_t c) {
    return get(x, (b + out->origin[0] - x->origin[0]) * x->strides[0] + (t - x->origin[1]) * x->strides[1] + c);
}

static int64_t position_of(const strand_op_rotary *p, const strand_plugin_tensor *at, const strand_plugin_tensor *out,
                           int64_t b, int64_t t) {
    if (!at) return p->offset + t;
    uint32_t last = at->rank - 1;
    int64_t row = at->rank == 2 ? (b + out->origin[0] - at->origin[0]) * at->strides[0] : 0;
    return get_id(at, row + (t - at->origin[last]) * at->strides[last]);
}

CPU_KERNEL(cpu_reference_rotary) {
    (void)device, (void)scratch;
    const strand_op_rotary *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *given = cpu_input(node, 2), *out = &node->outputs[0];
    int64_t width = out->dims[2] / p->heads, half = p->rotary / 2;
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t b = w.index[0], t = w.index[1] + out->origin[1], c = w.index[2], i = c % width;
        int64_t pair = p->interleaved ? i / 2 : i % (half ? half : 1);
        bool second = p->interleaved ? i % 2 : i >= half;
        if (i >= p->rotary) {
            put(out, here(&w), at3(x, out, b, t, c));
            continue;
        }
        if (second) continue; /* the first of a pair writes both: the output may lie over x */
        double f = given ? get(given, pair) : pow((double)p->base, -2.0 * (double)pair / (double)p->rotary);
        double angle = (double)position_of(p, cpu_input(node, 1), out, b, t) * (double)p->position_scale * f;
        int64_t apart = p->interleaved ? 1 : half;
        double x0 = at3(x, out, b, t, c), x1 = at3(x, out, b, t, c + apart);
        put(out, here(&w), (x0 * cos(angle) - x1 * sin(angle)) * (double)p->magnitude);
        put(out, here(&w) + apart, (x0 * sin(angle) + x1 * cos(angle)) * (double)p->magnitude);
    }
    return STRAND_PLUGIN_OK;
}

/* One query head at one token. */
typedef struct query {
    const strand_plugin_node *node;
    int64_t b, t, head, valid, position, d;
} query;

static bool sees(const query *y, int64_t s) {
    const strand_op_attention *p = y->node->params;
    const strand_plugin_tensor *mask = cpu_input(y->node, 5);
    int64_t behind = y->position - s;
    if (s >= y->valid || (p->causal && behind < 0)) return false;
    if (p->window > 0 && (behind >= p->window || -behind >= p->window) && s >= p->sinks) return false;
    if (!mask) return true;
    int64_t h = mask->dims[0] == 1 ? 0 : y->head;
    return get_id(mask, h * mask->strides[0] + y->t / p->block * mask->strides[1] + s / p->block) != 0;
}

static double score(const query *y, int64_t s) {
    const strand_op_attention *p = y->node->params;
    const strand_plugin_tensor *q = &y->node->inputs[0], *k = &y->node->inputs[1], *bias = cpu_input(y->node, 4);
    int64_t kv_head = y->head / (p->heads / p->kv_heads);
    double sum = 0;
    if (!sees(y, s)) return -INFINITY;
    for (int64_t i = 0; i < y->d; i++)
        sum += at3(q, &y->node->outputs[0], y->b, y->t, y->head * y->d + i) *
               at3(k, &y->node->outputs[0], y->b, s, kv_head * y->d + i);
    sum *= (double)p->scale;
    if (p->softcap > 0) sum = (double)p->softcap * tanh(sum / (double)p->softcap);
    if (bias)
        sum +=
            get(bias, (bias->dims[0] == 1 ? 0 : y->head) * bias->strides[0] + (y->t - bias->origin[1]) * bias->strides[1] + s);
    return sum;
}

CPU_KERNEL(cpu_reference_attention) {
    (void)scratch;
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *q = &node->inputs[0], *v = &node->inputs[2], *valid = cpu_input(node, 3),
                               *out = &node->outputs[0];
    int64_t keys = v->dims[1], dv = out->dims[2] / p->heads, group = p->heads / p->kv_heads;
    for (walk w = walk_over(out); w.left > 0;) {
        query y = {node, w.index[0], w.index[1] + out->origin[1], w.index[2] / dv, keys, 0, q->dims[2] / p->heads};
        if (valid) y.valid = count_at(valid, out, y.b);
        if (y.valid < 0 || y.valid > keys)
            return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: kv_length %lld is outside [0, %lld]",
                            node->name ? node->name : "attention", (long long)y.valid, (long long)keys);
        y.position = y.valid - out->whole[1] + y.t;
        double most = -INFINITY, total = 0, sum[64] = {0};
        int64_t first = w.index[2] % dv, n = cpu_min(64, dv - first); /* so many elements of the result at once */
        for (int64_t s = 0; s < keys; s++) most = fmax(most, score(&y, s));
        for (int64_t s = 0; s < keys; s++) {
            double x = score(&y, s), weight = exp(x - most);
            if (x == -INFINITY) continue;
            total += weight;
            for (int64_t i = 0; i < n; i++) sum[i] += weight * at3(v, out, y.b, s, y.head / group * dv + first + i);
        }
        for (int64_t i = 0; i < n; i++, step(&w)) put(out, here(&w), total == 0 ? 0 : sum[i] / total);
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_cache_write) {
    (void)scratch;
    const strand_op_cache_write *p = node->params;
    const strand_plugin_tensor *cache = &node->inputs[0], *x = &node->inputs[1], *at = &node->inputs[2],
                               *out = &node->outputs[0];
    int64_t rows = out->whole[1], length = x->dims[1];
    for (int64_t b = 0; b < out->dims[0]; b++) {
        int64_t first = count_at(at, out, b), have = first < rows ? first : rows,
                keep = have < rows - length ? have : rows - length;
        if (p->slide && first >= 0) {
            if (keep < (have < p->slide ? have : p->slide))
                return cpu_fail(
                    device, STRAND_PLUGIN_ERR_ARGUMENT,
                    "%s: %lld tokens at once leave too few of those before them in a window of %lld rows; give them in pieces",
                    node->name ? node->name : "cache_write", (long long)length, (long long)rows);
            continue;
        }
        if (!p->ring && (first < 0 || first > rows - length))
            return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: %lld rows from %lld on are outside the cache of %lld",
                            node->name ? node->name : "cache_write", (long long)length, (long long)first, (long long)rows);
    }
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t first = count_at(at, out, w.index[0]), s = w.index[1] + out->origin[1], l = s - first;
        if (p->ring) { /* the last of the tokens that share this row */
            l = (s - first % rows + rows) % rows;
            if (l < length) l += (length - 1 - l) / rows * rows;
        }
        int64_t moved = 0; /* rows that an old one comes from behind itself */
        if (p->slide) {
            int64_t have = first < rows ? first : rows, keep = have < rows - length ? have : rows - length;
            l = s - keep;
            if (l < 0) moved = have - keep;
        }
        bool old = l < 0 || l >= length;
        int64_t from = old ? there(&w, cache, 0, false) + moved * cache->strides[1]
                           : (w.index[0] + out->origin[0] - x->origin[0]) * x->strides[0] + l * x->strides[1] + w.index[2] +
                                 out->origin[2] - x->origin[2];
        double value = get(old ? cache : x, from);
        uint16_t *half = (uint16_t *)out->memory.data + here(&w);
        if (out->dtype == STRAND_PLUGIN_F32) put(out, here(&w), value);
        if (out->dtype == STRAND_PLUGIN_F16) *half = cpu_f32_to_f16((float)value);
        if (out->dtype == STRAND_PLUGIN_BF16) *half = cpu_f32_to_bf16((float)value);
    }
    return STRAND_PLUGIN_OK;
}
