/* cache_write.c - CACHE_WRITE: new rows into a cache of keys or values, rounded to its type. Over the cache itself only the new
 * rows are touched; else the old ones are copied first. No two tokens that are written share a row. */
#include "half.h"
#include "kernels.h"

typedef struct job {
    const strand_plugin_node *node;
    cpu_operand out, cache;
    int64_t dims[STRAND_PLUGIN_RANK], step; /* step: rows of a piece */
    int64_t first, tokens, ring;            /* tokens [first, first + tokens) are written; ring: rows of it, or 0 */
    int64_t slide;
    const strand_plugin_tensor *x, *at;
} job;

static int64_t place_of(const job *j, int64_t b) {
    const strand_plugin_tensor *at = j->at, *out = &j->node->outputs[0];
    int64_t i = at->whole[0] == 1 ? 0 : (cpu_lead(at, 0, out, 0) + b) * at->strides[0];
    return at->dtype == STRAND_PLUGIN_I64 ? ((const int64_t *)at->memory.data)[i] : ((const int32_t *)at->memory.data)[i];
}

/* SLIDE: rows of the cache that stay before x, of the at (>= 0) tokens so far. Negative: x leaves fewer than it must. */
static int64_t staying(int64_t rows, int64_t slide, int64_t at, int64_t length) {
    int64_t have = cpu_min(at, rows), keep = cpu_min(have, rows - length);
    return keep < cpu_min(have, slide) ? -1 : keep;
}

static void convert(uint32_t to, char *y, const float *x, int64_t n) {
    uint16_t *h = (uint16_t *)(void *)y;
    if (to == STRAND_PLUGIN_F32) memcpy(y, x, (size_t)n * sizeof *x);
    if (to == STRAND_PLUGIN_F16)
        for (int64_t i = 0; i < n; i++) h[i] = cpu_f32_to_f16(x[i]);
    if (to == STRAND_PLUGIN_BF16)
        for (int64_t i = 0; i < n; i++) h[i] = cpu_f32_to_bf16(x[i]);
}

static void copy_rows(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t end = cpu_min((i + 1) * j->step, cpu_rows(j->dims));
    (void)worker;
    for (int64_t row = i * j->step; row < end; row++)
        memcpy(cpu_row(&j->out, j->dims, row), cpu_row(&j->cache, j->dims, row), (size_t)(j->dims[3] * j->out.bytes));
}

static void write_tokens(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const strand_plugin_tensor *out = &j->node->outputs[0], *x = j->x;
    int64_t end = cpu_min((i + 1) * j->step, j->dims[1] * j->tokens);
    (void)worker;
    for (int64_t row = i * j->step; row < end; row++) {
        int64_t b = row / j->tokens, l = j->first + row % j->tokens, at = place_of(j, b);
        if (j->slide) at = staying(j->dims[2], j->slide, at, j->tokens);
        int64_t s = (j->ring ? ((at % j->ring + j->ring) % j->ring + l % j->ring) % j->ring : at + l) - out->origin[1];
        if (s < 0 || s >= j->dims[2]) continue; /* in another tile */
        const float *from =
            cpu_f32(x) + (cpu_lead(x, 0, out, 0) + b) * x->strides[0] + l * x->strides[1] + cpu_lead(x, 2, out, 2);
        convert(out->dtype, cpu_row(&j->out, j->dims, b * j->dims[2] + s), from, j->dims[3]);
    }
}

/* Moves the rows of batch entry b that stay to the front. */
static void slide_rows(void *arg, int64_t b, int32_t worker) {
    const job *j = arg;
    (void)worker;
    int64_t have = cpu_min(place_of(j, b), j->dims[2]), keep = staying(j->dims[2], j->slide, have, j->tokens);
    for (int64_t i = 0; i < keep && keep < have; i++)
        memcpy(cpu_row(&j->out, j->dims, b * j->dims[2] + i), cpu_row(&j->out, j->dims, b * j->dims[2] + have - keep + i),
               (size_t)(j->dims[3] * j->out.bytes));
}

/* Is every element of the result the same element of the cache? */
static bool in_place(const job *j) {
    bool same = j->out.base == j->cache.base;
    for (int axis = 0; axis < STRAND_PLUGIN_RANK; axis++)
        same = same && (j->dims[axis] == 1 || j->out.strides[axis] == j->cache.strides[axis]);
    return same;
}

CPU_KERNEL(cpu_cache_write) {
    const strand_op_cache_write *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *x = &node->inputs[1];
    int64_t length = x->dims[1], rows = out->whole[1];
    job j = {.node = node, .x = x, .at = &node->inputs[2], .tokens = length};
    (void)scratch;
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    cpu_place(out, &node->inputs[0], false, &j.cache);
    for (int64_t b = 0; b < out->dims[0] && !p->ring; b++) {
        int64_t first = place_of(&j, b);
        if (p->slide && first >= 0 && staying(rows, p->slide, first, length) < 0)
            return cpu_fail(
                device, STRAND_PLUGIN_ERR_ARGUMENT,
                "%s: %lld tokens at once leave too few of those before them in a window of %lld rows; give them in pieces",
                node->name ? node->name : "cache_write", (long long)length, (long long)rows);
        if (p->slide && first >= 0) continue;
        if (first < 0 || first > rows - length)
            return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: %lld rows from %lld on are outside the cache of %lld",
                            node->name ? node->name : "cache_write", (long long)length, (long long)first, (long long)rows);
    }
    j.slide = p->slide;
    if (p->ring) {
        j.ring = rows;
        j.tokens = cpu_min(length, rows); /* earlier tokens would be written over */
        j.first = length - j.tokens;
    }
    j.step = cpu_max(1, 65536 / cpu_max(1, j.dims[3]));
    if (!in_place(&j)) cpu_parallel(device, (cpu_rows(j.dims) + j.step - 1) / j.step, copy_rows, &j);
    if (j.slide) cpu_parallel(device, j.dims[1], slide_rows, &j);
    cpu_parallel(device, (j.dims[1] * j.tokens + j.step - 1) / j.step, write_tokens, &j);
    return STRAND_PLUGIN_OK;
}
