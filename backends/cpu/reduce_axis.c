/* reduce_axis.c - REDUCE_AXIS: sums, extremes and their like over one axis.
 *
 * Three ways, chosen by the shape: over an axis before the last one, columns are reduced side by side (`columns`); short
 * rows are transposed into columns first; a long row is reduced in a few running vectors. Sums run over at most BLOCK rows,
 * or ROW_BLOCK elements, in single precision and over those in double. The order depends on the reduced extent and the way
 * alone, so an element's bytes do not depend on its neighbours. */
#include "kernels.h"
#include "vecmath.h"

#include <string.h>

#define WIDTH     128  /* columns at once, at most */
#define BLOCK     64
#define ROW_BLOCK 4096
#define SHORT_ROW 64   /* rows up to this extent are transposed */

CPU_INLINE vf map(int kind, vf x) {
    return kind == STRAND_AXIS_L1 ? vf_abs(x) : kind == STRAND_AXIS_L2 ? x * x : x;
}

/* The larger or smaller; NaN where either is. */
CPU_INLINE vf extreme(int kind, vf a, vf b) {
    vi better = kind == STRAND_AXIS_MIN ? (vi)(a < b) : (vi)(a > b);
    return vf_select(better | (vi)(a != a), a, b);
}

/* Does b come before a in the order of ARGMAX, where NaN is the largest? Equals do not. */
CPU_INLINE vi outranks(vf b, vf a) {
    return (vi)(b > a) | ((vi)(b != b) & (vi)(a == a));
}

static double finish(int kind, double sum, int64_t n) {
    return kind == STRAND_AXIS_MEAN ? sum / (double)n : kind == STRAND_AXIS_L2 ? sqrt(sum) : sum;
}

/* What is subtracted before exponentials are taken: the largest element, if that is a number. */
CPU_INLINE vf shift_of(vf most) {
    return vf_select(vf_abs(most) == INFINITY, vf_zero(), most);
}

/* ---- columns: y[c] of x[t * stride + c], t < n, c < m <= WIDTH ---- */

/* acc[c] += sum of up to four rows */
CPU_INLINE void add_rows(int kind, float *acc, const float *x, int64_t stride, int64_t rows, int64_t m) {
    for (int64_t c = 0; c < m; c += CPU_LANES) {
        int64_t left = m - c;
        vf v[4];
        for (int k = 0; k < 4; k++) {
            const float *from = x + k * stride + c;
            v[k] = k >= rows ? vf_zero() : map(kind, left >= CPU_LANES ? vf_load(from) : vf_load_part(from, left));
        }
        vf_store(acc + c, vf_load(acc + c) + ((v[0] + v[1]) + (v[2] + v[3])));
    }
}

CPU_INLINE void sum_columns(int kind, float *y, const float *x, int64_t stride, int64_t n, int64_t m) {
    double total[WIDTH] = {0};
    for (int64_t t = 0; t < n; t += BLOCK) {
        float block[WIDTH] = {0};
        int64_t end = cpu_min(n, t + BLOCK), i = t;
        for (; i + 4 <= end; i += 4) add_rows(kind, block, x + i * stride, stride, 4, m);
        if (i < end) add_rows(kind, block, x + i * stride, stride, end - i, m);
        for (int64_t c = 0; c < m; c++) total[c] += (double)block[c];
    }
    for (int64_t c = 0; c < m; c++) y[c] = (float)finish(kind, total[c], n);
}

/* Rows in blocks, so that a block of wide rows is still in cache when the next columns want it. */
CPU_INLINE void extreme_columns(int kind, float *y, const float *x, int64_t stride, int64_t n, int64_t m) {
    float best[WIDTH] = {0};
    for (int64_t c = 0; c < m; c++) best[c] = x[c];
    for (int64_t from = 1; from < n; from += BLOCK) {
        int64_t end = cpu_min(n, from + BLOCK);
        for (int64_t c = 0; c < m; c += CPU_LANES) {
            vf most = vf_load(best + c);
            if (m - c >= CPU_LANES)
                for (int64_t t = from; t < end; t++) most = extreme(kind, most, vf_load(x + t * stride + c));
            else
                for (int64_t t = from; t < end; t++) most = extreme(kind, most, vf_load_part(x + t * stride + c, m - c));
            vf_store(best + c, most);
        }
    }
    for (int64_t c = 0; c < m; c++) y[c] = best[c];
}

static void log_sum_columns(float *y, const float *x, int64_t stride, int64_t n, int64_t m) {
    float most[WIDTH];
    extreme_columns(STRAND_AXIS_MAX, most, x, stride, n, m);
    for (int64_t c = 0; c < m; c += CPU_LANES) {
        int64_t left = cpu_min(CPU_LANES, m - c);
        vf shift = shift_of(vf_load_part(most + c, left)), sum = vf_zero();
        for (int64_t t = 0; t < n; t += BLOCK) {
            vf block = vf_zero();
            for (int64_t i = t; i < cpu_min(n, t + BLOCK); i++) block += vf_exp(vf_load_part(x + i * stride + c, left) - shift);
            sum += block;
        }
        vf_store_part(y + c, vf_log(sum) + shift, left);
    }
}

static void argmax_columns(int64_t *y, const float *x, int64_t stride, int64_t n, int64_t m) {
    float best[WIDTH] = {0};
    int32_t places[WIDTH] = {0};
    for (int64_t c = 0; c < m; c++) best[c] = x[c];
    for (int64_t from = 1; from < n; from += BLOCK) {
        int64_t end = cpu_min(n, from + BLOCK);
        for (int64_t c = 0; c < m; c += CPU_LANES) {
            int64_t left = cpu_min(CPU_LANES, m - c);
            vf most = vf_load(best + c);
            vi at;
            memcpy(&at, places + c, sizeof at);
            for (int64_t t = from; t < end; t++) {
                vf v = vf_load_part(x + t * stride + c, left);
                vi better = outranks(v, most);
                most = vf_select(better, v, most);
                at = (better & (int32_t)t) | (~better & at);
            }
            vf_store(best + c, most);
            memcpy(places + c, &at, sizeof at);
        }
    }
    for (int64_t c = 0; c < m; c++) y[c] = places[c];
}

static void columns(uint32_t kind, void *y, const float *x, int64_t stride, int64_t n, int64_t m) {
    switch (kind) {
    case STRAND_AXIS_SUM:
    case STRAND_AXIS_MEAN:
        if (kind == STRAND_AXIS_MEAN)
            sum_columns(STRAND_AXIS_MEAN, y, x, stride, n, m);
        else
            sum_columns(STRAND_AXIS_SUM, y, x, stride, n, m);
        return;
    case STRAND_AXIS_L1:
        sum_columns(STRAND_AXIS_L1, y, x, stride, n, m);
        return;
    case STRAND_AXIS_L2:
        sum_columns(STRAND_AXIS_L2, y, x, stride, n, m);
        return;
    case STRAND_AXIS_MAX:
        extreme_columns(STRAND_AXIS_MAX, y, x, stride, n, m);
        return;
    case STRAND_AXIS_MIN:
        extreme_columns(STRAND_AXIS_MIN, y, x, stride, n, m);
        return;
    case STRAND_AXIS_LOG_SUM_EXP:
        log_sum_columns(y, x, stride, n, m);
        return;
    case STRAND_AXIS_FINAL:
        memcpy(y, x + (n - 1) * stride, (size_t)m * sizeof *x);
        return;
    default:
        argmax_columns(y, x, stride, n, m);
    }
}

/* ---- one row ---- */

CPU_INLINE float sum_row(int kind, const float *x, int64_t n) {
    double total = 0;
    for (int64_t t = 0; t < n; t += ROW_BLOCK) {
        vf sums[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
        int64_t end = cpu_min(n, t + ROW_BLOCK), i = t;
        for (; i + 4 * CPU_LANES <= end; i += 4 * CPU_LANES)
            for (int k = 0; k < 4; k++) sums[k] += map(kind, vf_load(x + i + k * CPU_LANES));
        for (; i < end; i += CPU_LANES) sums[0] += map(kind, vf_load_part(x + i, cpu_min(CPU_LANES, end - i)));
        total += (double)vf_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    }
    return (float)finish(kind, total, n);
}

CPU_INLINE float extreme_row(int kind, const float *x, int64_t n) {
    vf best[4], first = vf_set(x[0]);
    int64_t i = 0;
    for (int k = 0; k < 4; k++) best[k] = first;
    for (; i + 4 * CPU_LANES <= n; i += 4 * CPU_LANES)
        for (int k = 0; k < 4; k++) best[k] = extreme(kind, best[k], vf_load(x + i + k * CPU_LANES));
    for (; i + CPU_LANES <= n; i += CPU_LANES) best[0] = extreme(kind, best[0], vf_load(x + i));
    for (; i < n; i++) best[1] = extreme(kind, best[1], vf_set(x[i]));
    float lanes[CPU_LANES];
    vf_store(lanes, extreme(kind, extreme(kind, best[0], best[1]), extreme(kind, best[2], best[3])));
    vf all = vf_set(lanes[0]);
    for (int k = 1; k < CPU_LANES; k++) all = extreme(kind, all, vf_set(lanes[k]));
    return all[0];
}

static float log_sum_row(const float *x, int64_t n) {
    vf shift = shift_of(vf_set(extreme_row(STRAND_AXIS_MAX, x, n)));
    double total = 0;
    for (int64_t t = 0; t < n; t += ROW_BLOCK) {
        vf sum = vf_zero();
        int64_t end = cpu_min(n, t + ROW_BLOCK), i = t;
        for (; i + CPU_LANES <= end; i += CPU_LANES) sum += vf_exp(vf_load(x + i) - shift);
        if (i < end) {
            float lanes[CPU_LANES];
            vf_store(lanes, vf_exp(vf_load_part(x + i, end - i) - shift));
            sum += vf_load_part(lanes, end - i); /* lanes beyond the row must not count */
        }
        total += (double)vf_sum(sum);
    }
    vf y = vf_log(vf_set((float)total)) + shift;
    return y[0];
}

static int64_t argmax_row(const float *x, int64_t n) {
    vf best = vf_set(x[0]);
    vi at = {0}, index;
    int64_t i = 0;
    for (int k = 0; k < CPU_LANES; k++) index[k] = k;
    for (; i + CPU_LANES <= n; i += CPU_LANES, index += CPU_LANES) {
        vf v = vf_load(x + i);
        vi better = outranks(v, best);
        best = vf_select(better, v, best);
        at = (better & index) | (~better & at);
    }
    float top = x[0];
    int64_t where = 0;
    for (int k = 0; k < CPU_LANES; k++) {
        vi higher = outranks(vf_set(best[k]), vf_set(top)), equal = ~higher & ~outranks(vf_set(top), vf_set(best[k]));
        if (higher[0] || (equal[0] && at[k] < where)) top = best[k], where = at[k];
    }
    for (; i < n; i++) {
        vi higher = outranks(vf_set(x[i]), vf_set(top));
        if (higher[0]) top = x[i], where = i;
    }
    return where;
}

static void one_row(uint32_t kind, void *y, const float *x, int64_t n) {
    float *value = y;
    switch (kind) {
    case STRAND_AXIS_SUM:
        *value = sum_row(STRAND_AXIS_SUM, x, n);
        return;
    case STRAND_AXIS_MEAN:
        *value = sum_row(STRAND_AXIS_MEAN, x, n);
        return;
    case STRAND_AXIS_L1:
        *value = sum_row(STRAND_AXIS_L1, x, n);
        return;
    case STRAND_AXIS_L2:
        *value = sum_row(STRAND_AXIS_L2, x, n);
        return;
    case STRAND_AXIS_MAX:
        *value = extreme_row(STRAND_AXIS_MAX, x, n);
        return;
    case STRAND_AXIS_MIN:
        *value = extreme_row(STRAND_AXIS_MIN, x, n);
        return;
    case STRAND_AXIS_LOG_SUM_EXP:
        *value = log_sum_row(x, n);
        return;
    case STRAND_AXIS_FINAL:
        *value = x[n - 1];
        return;
    default:
        *(int64_t *)y = argmax_row(x, n);
    }
}

/* ---- the operator ---- */

typedef struct loop {
    int64_t n, x, y; /* how often, and the strides of both tensors in elements */
} loop;

typedef struct job {
    const float *x;
    char *y;
    int64_t y_bytes;
    uint32_t kind;
    loop outer[STRAND_PLUGIN_RANK]; /* what is neither reduced nor a column; the last one is the innermost */
    int64_t n, stride, m;           /* the reduction; m 0: along the last axis */
    int64_t items, height, across;  /* items: of the outer loops; a piece is `height` of them by WIDTH columns */
    const strand_plugin_tensor *lengths;
    int64_t lengths_lead, per_length; /* items that share a length */
} job;

static void item_at(const job *j, int64_t item, const float **x, char **y) {
    int64_t at_x = 0, at_y = 0;
    for (int i = STRAND_PLUGIN_RANK; i-- > 0; item /= j->outer[i].n) {
        int64_t index = item % j->outer[i].n;
        at_x += index * j->outer[i].x;
        at_y += index * j->outer[i].y;
    }
    *x = j->x + at_x;
    *y = j->y + at_y * j->y_bytes;
}

static int64_t length_at(const strand_plugin_tensor *lengths, int64_t i) {
    int64_t at = i * lengths->strides[0];
    return lengths->dtype == STRAND_PLUGIN_I64 ? ((const int64_t *)lengths->memory.data)[at]
                                               : ((const int32_t *)lengths->memory.data)[at];
}

static int64_t extent_of(const job *j, int64_t item) {
    return j->lengths ? length_at(j->lengths, j->lengths_lead + item / j->per_length) : j->n;
}

/* Up to CPU_LANES rows at once, each in a lane. */
static void short_rows(const job *j, int64_t item, int64_t count) {
    float turned[SHORT_ROW * CPU_LANES], values[CPU_LANES];
    int64_t places[CPU_LANES];
    const float *x[CPU_LANES];
    char *y[CPU_LANES];
    const loop *inner = &j->outer[STRAND_PLUGIN_RANK - 1];
    item_at(j, item, &x[0], &y[0]);
    for (int64_t i = 1, index = item % inner->n; i < count; i++) {
        if (++index < inner->n) {
            x[i] = x[i - 1] + inner->x;
            y[i] = y[i - 1] + inner->y * j->y_bytes;
        } else {
            index = 0;
            item_at(j, item + i, &x[i], &y[i]);
        }
    }
    for (int64_t c = 0; c < j->n; c += CPU_LANES) {
        vf r[CPU_LANES];
        int64_t left = cpu_min(CPU_LANES, j->n - c);
        for (int64_t i = 0; i < CPU_LANES; i++) r[i] = i < count ? vf_load_part(x[i] + c, left) : vf_zero();
        vf_transpose(r);
        for (int64_t k = 0; k < left; k++) vf_store(turned + (c + k) * CPU_LANES, r[k]);
    }
    bool ids = j->kind == STRAND_AXIS_ARGMAX;
    columns(j->kind, ids ? (void *)places : (void *)values, turned, CPU_LANES, j->n, CPU_LANES);
    for (int64_t i = 0; i < count; i++) {
        if (ids)
            *(int64_t *)(void *)y[i] = places[i];
        else
            *(float *)(void *)y[i] = values[i];
    }
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t item = i / j->across * j->height, end = cpu_min(item + j->height, j->items), column = i % j->across * WIDTH;
    (void)worker;
    if (!j->m && !j->lengths && j->n <= SHORT_ROW) {
        for (; item < end; item += CPU_LANES) short_rows(j, item, cpu_min(CPU_LANES, end - item));
        return;
    }
    for (; item < end; item++) {
        const float *x;
        char *y;
        item_at(j, item, &x, &y);
        if (j->m)
            columns(j->kind, y + column * j->y_bytes, x + column, j->stride, extent_of(j, item), cpu_min(WIDTH, j->m - column));
        else
            one_row(j->kind, y, x, extent_of(j, item));
    }
}

/* The loops over both tensors: what comes before the axis, its windows, and what comes after it. Dense axes at the end are
 * columns. */
static void plan(job *j, const strand_plugin_node *node) {
    const strand_op_reduce_axis *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    int rank = (int)x->rank, axis = p->axis < 0 ? p->axis + rank : p->axis, n = 0;
    int64_t columns_x = 1, columns_y = 1;
    for (int i = 0; i < STRAND_PLUGIN_RANK; i++) j->outer[i] = (loop){1, 0, 0};
    j->n = p->window ? p->window : x->dims[axis];
    j->stride = x->strides[axis];
    j->m = axis + 1 < rank ? 1 : 0;
    bool dense = true;
    for (int i = rank - 1; i >= 0; i--) {
        uint32_t oi = (uint32_t)(i > axis && out->rank < x->rank ? i - 1 : i);
        loop l = {1, 0, 0};
        if (i == axis && p->window) l = (loop){out->dims[oi], x->strides[i] * p->window, out->strides[oi]};
        if (i != axis) {
            l = (loop){out->dims[oi], x->strides[i], out->strides[oi]};
            j->x += cpu_lead(x, (uint32_t)i, out, oi) * l.x;
        }
        if (i == rank - 1 && i != axis) l.x = l.y = 1; /* an extent of 1 may come with any stride */
        dense = dense && i > axis && (l.n == 1 || (l.x == columns_x && l.y == columns_y));
        if (dense) {
            j->m *= l.n;
            columns_x *= l.n;
            columns_y *= l.n;
        } else if (l.n != 1) {
            j->outer[STRAND_PLUGIN_RANK - 1 - n++] = l;
        }
    }
}

/* Lengths must lie between 1 and the axis's extent. */
static strand_plugin_status check_lengths(const cpu_device *device, const strand_plugin_node *node, const job *j,
                                          int64_t count) {
    for (int64_t b = 0; b < count; b++) {
        int64_t length = length_at(j->lengths, j->lengths_lead + b);
        if (length < 1 || length > j->n) {
            return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: length %lld is not between 1 and %lld",
                            node->name ? node->name : "reduce_axis", (long long)length, (long long)j->n);
        }
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reduce_axis) {
    const strand_op_reduce_axis *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    job j = {.x = cpu_f32(&node->inputs[0]), .y = out->memory.data, .y_bytes = cpu_element_bytes(out->dtype), .kind = p->kind};
    (void)scratch;
    for (uint32_t i = 0; i < out->rank; i++)
        if (out->dims[i] < 1) return STRAND_PLUGIN_OK;
    plan(&j, node);
    j.items = 1;
    for (int i = 0; i < STRAND_PLUGIN_RANK; i++) j.items *= j.outer[i].n;
    j.lengths = cpu_input(node, 1);
    if (j.lengths) {
        int64_t count = out->dims[0];
        j.lengths_lead = cpu_lead(j.lengths, 0, out, 0);
        j.per_length = j.items / count;
        strand_plugin_status status = check_lengths(device, node, &j, count);
        if (status != STRAND_PLUGIN_OK) return status;
    }
    j.across = j.m ? (j.m + WIDTH - 1) / WIDTH : 1;
    j.height = cpu_max(1, 16384 / cpu_max(1, cpu_max(1, cpu_min(j.m, WIDTH)) * j.n));
    if (!j.m) j.height = (j.height + CPU_LANES - 1) / CPU_LANES * CPU_LANES;
    cpu_parallel(device, j.across * ((j.items + j.height - 1) / j.height), body, &j);
    return STRAND_PLUGIN_OK;
}
