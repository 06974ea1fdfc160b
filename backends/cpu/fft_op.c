/* fft_op.c - FFT: rows of any length. Real rows of even length are transformed as half as many complex numbers; lengths with a
 * large prime factor as a convolution with a chirp (Bluestein 1970), whose size is a power of two or nearly.
 *
 * Up to DFT_IN_ROWS points CPU_LANES rows are taken at once, a lane each; longer rows one by one. Which way is a question of
 * the length alone, and lanes do not meet, so a row's bytes do not depend on the other rows. Tables are made by each launch
 * in its working memory. */
#include "dft.h"
#include "fft_pairs.h"
#include "kernels.h"
#include "vecmath.h"

#include <math.h>

/* ---- shapes ---- */

typedef struct shape {
    int64_t n, width, points; /* transformed; numbers a row of x has; complex points of the inner transform */
    int64_t size;             /* of its plan: points, or the chirp's convolution */
    int64_t bins;             /* numbers of a result */
    int64_t room;             /* complex numbers that a row needs at most */
    bool packed, chirp, lanes, backward, pairs_in, pairs_out;
} shape;

static shape shape_of(const strand_plugin_node *node) {
    const strand_op_fft *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    shape s = {.pairs_in = p->kind != STRAND_FFT_R2C, .pairs_out = p->kind != STRAND_FFT_C2R && p->form == STRAND_FFT_COMPLEX};
    s.width = x->dims[x->rank - (s.pairs_in ? 2 : 1)];
    s.bins = out->dims[out->rank - (s.pairs_out ? 2 : 1)];
    s.n = p->kind == STRAND_FFT_R2C && p->n ? p->n : p->kind == STRAND_FFT_C2R ? s.bins : s.width;
    s.width = cpu_min(s.width, s.n);
    s.packed = p->kind <= STRAND_FFT_C2R && s.n % 2 == 0;
    s.backward = p->kind == STRAND_FFT_C2R || p->kind == STRAND_FFT_INVERSE;
    s.points = s.packed ? s.n / 2 : s.n;
    s.chirp = !cpu_dft_smooth(s.points);
    s.size = s.chirp ? cpu_dft_above(2 * s.points - 1) : s.points;
    s.lanes = s.size <= DFT_IN_ROWS;
    s.room = s.size + 1;
    return s;
}

/* Floats: of all tables, and of a worker. */
static int64_t table_floats(const shape *s) {
    return cpu_dft_table_floats(s->size) + 2 * (s->n + 1) + (s->chirp ? 4 * s->size : 0) + CPU_ALIGN;
}

static int64_t worker_floats(const shape *s) {
    int64_t floats = s->lanes ? 2 * s->room * STEP : 2 * s->room + 2 * cpu_dft_blocks(s->size) * STEP;
    return (floats + 15) / 16 * 16;
}

uint64_t cpu_fft_scratch(const cpu_device *device, const strand_plugin_node *node) {
    shape s = shape_of(node);
    return ((uint64_t)table_floats(&s) + 16 + (uint64_t)cpu_workers(device) * (uint64_t)worker_floats(&s)) * sizeof(float);
}

typedef struct side {
    float *base;
    int64_t strides[STRAND_PLUGIN_RANK], gap; /* of the rows' axes; of a row's numbers */
} side;

typedef struct job {
    shape s;
    const strand_op_fft *p;
    cpu_dft plan;
    const float *half, *chirp, *spectrum; /* e^(2 pi i k/n) for packed rows; the chirp; its spectrum, divided by the size */
    side x, y;
    int64_t dims[STRAND_PLUGIN_RANK], rows, rows_at_once;
    float *work;
    int64_t work_floats;
} job;

static side side_of(const strand_plugin_tensor *t, const strand_plugin_tensor *out, uint32_t axes, bool pairs) {
    side s = {.base = cpu_f32(t), .gap = pairs ? t->strides[t->rank - 2] : 1};
    for (uint32_t i = 0; i < axes; i++) {
        s.strides[i] = t->strides[i];
        s.base += cpu_lead(t, i, out, i) * t->strides[i];
    }
    return s;
}

static float *row_of(const job *j, const side *s, int64_t row) {
    float *p = s->base;
    for (int i = STRAND_PLUGIN_RANK - 1; i >= 0; i--) {
        p += row % j->dims[i] * s->strides[i];
        row /= j->dims[i];
    }
    return p;
}

/* ---- before and after the transform ---- */

/* |r + i j|; neither overflows nor vanishes before the result does. */
CPU_INLINE float row_length(float r, float i) {
    float a = fabsf(r), b = fabsf(i), most = a > b ? a : b, least = a > b ? b : a, q = least / (most > 0 ? most : 1);
    return most * sqrtf(q * q + 1);
}
CPU_INLINE vf lanes_length(vf r, vf i) {
    vf a = vf_abs(r), b = vf_abs(i), most = vf_select(a > b, a, b), least = vf_select(a > b, b, a);
    vf q = least / vf_select(most > vf_zero(), most, vf_set(1)), square = q * q + vf_set(1);
    float all[CPU_LANES];
    vf_store(all, square);
    for (int k = 0; k < CPU_LANES; k++) all[k] = sqrtf(all[k]);
    return most * vf_load(all);
}

typedef float row_part __attribute__((may_alias));
#define E       float
#define U       row_part
#define IM      1
#define N(name) row_##name
#include "fft_op_rows.h"
#undef E
#undef U
#undef IM
#undef N
#define E       vf
#define U       vf_unaligned
#define IM      CPU_LANES
#define N(name) lanes_##name
#include "fft_op_rows.h"

/* ---- rows in lanes ---- */

/* The first `width` floats of up to CPU_LANES rows, then zeros to `count`: float i of every row to x + i gap. */
static void take_rows(float *x, int64_t gap, const float *const *rows, int64_t n_rows, int64_t width, int64_t count) {
    for (int64_t i = 0; i < count; i += CPU_LANES) {
        vf v[CPU_LANES];
        for (int64_t k = 0; k < CPU_LANES; k++) {
            int64_t left = k < n_rows ? width - i : 0;
            v[k] = left >= CPU_LANES ? vf_load(rows[k] + i) : left > 0 ? vf_load_part(rows[k] + i, left) : vf_zero();
        }
        vf_transpose(v);
        for (int64_t k = 0; k < cpu_min(CPU_LANES, count - i); k++) vf_store(x + (i + k) * gap, v[k]);
    }
}

static void give_rows(float *const *rows, int64_t n_rows, const float *x, int64_t gap, int64_t count) {
    for (int64_t i = 0; i < count; i += CPU_LANES) {
        vf v[CPU_LANES];
        for (int64_t k = 0; k < CPU_LANES; k++) v[k] = i + k < count ? vf_load(x + (i + k) * gap) : vf_zero();
        vf_transpose(v);
        for (int64_t k = 0; k < n_rows; k++) {
            if (count - i >= CPU_LANES)
                vf_store(rows[k] + i, v[k]);
            else
                vf_store_part(rows[k] + i, v[k], count - i);
        }
    }
}

static void lanes_load(const job *j, float *x, const float *const *rows, int64_t n_rows) {
    const shape *s = &j->s;
    if (!s->pairs_in) {
        take_rows(x, s->packed ? CPU_LANES : STEP, rows, n_rows, s->width, s->n);
        for (int64_t k = 0; !s->packed && k < s->n; k++) vf_store(x + k * STEP + CPU_LANES, vf_zero());
    } else if (j->x.gap == 2) {
        take_rows(x, CPU_LANES, rows, n_rows, 2 * s->width, 2 * s->width);
    } else {
        memset(x, 0, (size_t)(s->width * STEP) * sizeof *x);
        for (int64_t k = 0; k < s->width; k++)
            for (int64_t l = 0; l < n_rows; l++) {
                x[k * STEP + l] = rows[l][k * j->x.gap];
                x[k * STEP + CPU_LANES + l] = rows[l][k * j->x.gap + 1];
            }
    }
}

static void lanes_give(const job *j, const float *x, float *const *rows, int64_t n_rows) {
    const shape *s = &j->s;
    if (!s->pairs_out) {
        give_rows(rows, n_rows, x, j->p->kind == STRAND_FFT_C2R && s->packed ? CPU_LANES : STEP, s->bins);
    } else if (j->y.gap == 2) {
        give_rows(rows, n_rows, x, CPU_LANES, 2 * s->bins);
    } else {
        for (int64_t k = 0; k < s->bins; k++)
            for (int64_t l = 0; l < n_rows; l++) {
                rows[l][k * j->y.gap] = x[k * STEP + l];
                rows[l][k * j->y.gap + 1] = x[k * STEP + CPU_LANES + l];
            }
    }
}

static float *lanes_transform(const job *j, float *x, float *other) {
    const shape *s = &j->s;
    if (!s->chirp) return cpu_dft_lanes(&j->plan, x, other, s->backward);
    lanes_turn(x, s->points, s->size, j->chirp);
    float *z = cpu_dft_lanes(&j->plan, x, other, false);
    lanes_turn(z, s->size, s->size, j->spectrum);
    z = cpu_dft_lanes(&j->plan, z, z == x ? other : x, true);
    lanes_turn(z, s->points, s->points, j->chirp);
    return z;
}

CPU_INLINE vf log_or_floor(vf y, float floor) {
    return vf_log(vf_select(y == 0.0f, vf_set(floor), y));
}

static void log_row(float *y, int64_t n, float floor) {
    int64_t k = 0;
    for (; k + CPU_LANES <= n; k += CPU_LANES) vf_store(y + k, log_or_floor(vf_load(y + k), floor));
    if (k < n) vf_store_part(y + k, log_or_floor(vf_load_part(y + k, n - k), floor), n - k);
}

static void lanes_body(const job *j, int64_t first, float *work) {
    const shape *s = &j->s;
    const strand_op_fft *p = j->p;
    const float *in[CPU_LANES];
    float *out[CPU_LANES], *x = work, *other = work + s->room * STEP;
    int64_t n_rows = cpu_min(CPU_LANES, j->rows - first);
    for (int64_t k = 0; k < n_rows; k++) in[k] = row_of(j, &j->x, first + k), out[k] = row_of(j, &j->y, first + k);
    lanes_load(j, x, in, n_rows);
    if (p->kind == STRAND_FFT_C2R && s->packed) {
        lanes_merge_ends(x, x, s->points, p->scale);
        lanes_both(x, x, 1, s->points, j->half, p->scale, true);
    }
    if (p->kind == STRAND_FFT_C2R && !s->packed) lanes_mirror(x, s->n);
    x = lanes_transform(j, x, other);
    if (!s->packed) lanes_scale(x, s->points, p->scale);
    if (p->kind == STRAND_FFT_R2C && s->packed) {
        lanes_split_ends(x, x, s->points, p->scale);
        lanes_both(x, x, 1, s->points, j->half, 0.5f * p->scale, false);
    }
    if (p->form != STRAND_FFT_COMPLEX) lanes_size(x, s->bins, p->form == STRAND_FFT_POWER);
    lanes_give(j, x, out, n_rows);
    for (int64_t k = 0; p->form == STRAND_FFT_LOG_AMPLITUDE && k < n_rows; k++) log_row(out[k], s->bins, p->floor);
}

/* ---- rows one by one ---- */

static void row_load(const job *j, float *z, const float *in) {
    const shape *s = &j->s;
    int64_t gap = s->pairs_in ? j->x.gap : s->packed ? 0 : 1;
    if (gap == 0 || gap == 2) {
        int64_t floats = s->pairs_in ? 2 * s->width : s->width;
        memcpy(z, in, (size_t)floats * sizeof *z);
        if (!s->pairs_in) memset(z + floats, 0, (size_t)(s->n - floats) * sizeof *z);
        return;
    }
    memset(z, 0, (size_t)(2 * s->points) * sizeof *z);
    for (int64_t k = 0; k < s->width; k++) {
        z[2 * k] = in[k * gap];
        if (s->pairs_in) z[2 * k + 1] = in[k * gap + 1];
    }
}

/* row_both, of which most takes CPU_LANES numbers from each end at a time. */
static void row_wide(float *z, float *y, int64_t h, const float *w, float scale, bool join) {
    int64_t k = 1;
    for (; 2 * (k + CPU_LANES) - 2 < h; k += CPU_LANES) {
        int64_t back = h - k - (CPU_LANES - 1);
        cv a = load_pairs(z + 2 * k, CPU_LANES), b = load_pairs(z + 2 * back, CPU_LANES), t = load_pairs(w + 2 * k, CPU_LANES);
        vf p[2] = {a.r, a.i}, q[2] = {turned_round(b.r), turned_round(b.i)}, turn[2] = {t.r, t.i}, low[2], high[2];
        if (join)
            lanes_joined(p, q, turn, scale, low, high);
        else
            lanes_parts(p, q, turn, scale, low, high);
        store_pairs(y + 2 * k, (cv){low[0], low[1]}, CPU_LANES);
        store_pairs(y + 2 * back, (cv){turned_round(high[0]), turned_round(high[1])}, CPU_LANES);
    }
    row_both(z, y, k, h, w, scale, join);
}

/* Amplitudes of n pairs, or their squares. */
static void row_sizes(const float *z, float *y, int64_t n, bool square) {
    for (int64_t k = 0; k < n; k += CPU_LANES) {
        int64_t count = cpu_min(CPU_LANES, n - k);
        cv a = load_pairs(z + 2 * k, count);
        vf size = square ? a.r * a.r + a.i * a.i : lanes_length(a.r, a.i);
        if (count == CPU_LANES)
            vf_store(y + k, size);
        else
            vf_store_part(y + k, size, count);
    }
}

/* The transform of the row `from`, which may be z, to y or z: returns where it is. */
static float *row_transform(const job *j, float *from, float *z, float *y, float *x, float *other) {
    const shape *s = &j->s;
    if (!s->chirp) {
        cpu_dft_row(&j->plan, from, y, x, other, s->backward);
        return y;
    }
    if (from != z) memcpy(z, from, (size_t)(2 * s->points) * sizeof *z);
    row_turn(z, s->points, s->size, j->chirp);
    cpu_dft_row(&j->plan, z, z, x, other, false);
    row_turn(z, s->size, s->size, j->spectrum);
    cpu_dft_row(&j->plan, z, z, x, other, true);
    row_turn(z, s->points, s->points, j->chirp);
    return z;
}

static void row_give(const job *j, const float *z, float *out) {
    const shape *s = &j->s;
    if (s->pairs_out) {
        for (int64_t k = 0; k < s->bins; k++) out[k * j->y.gap] = z[2 * k], out[k * j->y.gap + 1] = z[2 * k + 1];
    } else {
        int64_t gap = s->packed ? 1 : 2; /* real numbers, or complex ones whose imaginary parts are zeros */
        for (int64_t k = 0; k < s->bins; k++) out[k] = z[gap * k];
    }
}

/* Numbers that lie as the transform wants them are read where they are, and written where they belong. */
static void row_body(const job *j, int64_t row, float *work) {
    const shape *s = &j->s;
    const strand_op_fft *p = j->p;
    bool sizes = p->form != STRAND_FFT_COMPLEX, to_real = p->kind == STRAND_FFT_C2R;
    bool split = p->kind == STRAND_FFT_R2C && s->packed, merge = to_real && s->packed, mirror = to_real && !s->packed;
    float *in = row_of(j, &j->x, row), *out = row_of(j, &j->y, row);
    float *x = work, *other = x + j->plan.m * STEP, *z = other + j->plan.m * STEP, *from = in, *to = out;
    if (mirror || (s->pairs_in ? j->x.gap != 2 : !split || s->width < s->n)) row_load(j, from = z, in);
    bool dense = j->y.gap == 2 && (!split || s->bins > s->points); /* is there a place for every number? */
    if (sizes || mirror || (s->pairs_in ? s->pairs_out && !dense : !split || !dense)) to = z;
    if (merge) {
        row_merge_ends(from, z, s->points, p->scale);
        row_wide(from, z, s->points, j->half, p->scale, true);
        from = z;
    }
    if (mirror) row_mirror(z, s->n);
    float *y = row_transform(j, from, z, split ? z : to, x, other);
    if (!s->packed) row_scale(y, s->points, p->scale);
    if (split) {
        row_split_ends(y, to, s->points, p->scale);
        row_wide(y, to, s->points, j->half, 0.5f * p->scale, false);
        y = to;
    }
    if (sizes)
        row_sizes(y, out, s->bins, p->form == STRAND_FFT_POWER);
    else if (y != out)
        row_give(j, y, out);
    if (p->form == STRAND_FFT_LOG_AMPLITUDE) log_row(out, s->bins, p->floor);
}

/* ---- tables, and the launch ---- */

/* chirp[k] = e^(-+pi i k^2/n); the spectrum is that of its conjugate at -n < k < n, wrapped around. */
static void make_chirp(const job *j, float *chirp, float *spectrum, float *work) {
    const shape *s = &j->s;
    int64_t n = s->points, step = s->lanes ? STEP : 2, im = s->lanes ? CPU_LANES : 1;
    float *x = work, *other = x + (s->lanes ? s->room : j->plan.m) * STEP, *z = s->lanes ? x : other + j->plan.m * STEP;
    memset(z, 0, (size_t)(s->size * step) * sizeof *z);
    for (int64_t k = 0; k < n; k++) {
        double angle = 3.14159265358979323846 * (double)(k * k % (2 * n)) / (double)n;
        chirp[2 * k] = (float)cos(angle);
        chirp[2 * k + 1] = (float)(s->backward ? sin(angle) : -sin(angle));
        int64_t mirrored = k ? s->size - k : 0;
        z[k * step] = z[mirrored * step] = chirp[2 * k];
        z[k * step + im] = z[mirrored * step + im] = -chirp[2 * k + 1];
    }
    if (s->lanes)
        z = cpu_dft_lanes(&j->plan, x, other, false);
    else
        cpu_dft_row(&j->plan, z, z, x, other, false);
    float scale = 1 / (float)s->size;
    for (int64_t k = 0; k < s->size; k++) spectrum[2 * k] = z[k * step] * scale, spectrum[2 * k + 1] = z[k * step + im] * scale;
}

static void make_tables(job *j, float *table) {
    const shape *s = &j->s;
    cpu_dft_plan(&j->plan, s->size, table, true);
    table += cpu_dft_table_floats(s->size);
    if (s->packed) cpu_dft_roots(table, table + 1, 2, s->points + 1, 1, s->n);
    j->half = table;
    table += 2 * (s->n + 1);
    if (!s->chirp) return;
    make_chirp(j, table, table + 2 * s->size, j->work);
    j->chirp = table;
    j->spectrum = table + 2 * s->size;
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    float *work = j->work + worker * j->work_floats;
    int64_t at_once = j->s.lanes ? CPU_LANES : 1, end = cpu_min(j->rows, (i + 1) * j->rows_at_once);
    for (int64_t row = i * j->rows_at_once; row < end; row += at_once) {
        if (j->s.lanes)
            lanes_body(j, row, work);
        else
            row_body(j, row, work);
    }
}

CPU_KERNEL(cpu_fft) {
    const strand_plugin_tensor *out = &node->outputs[0];
    job j = {.s = shape_of(node), .p = node->params, .dims = {1, 1, 1, 1}, .rows = 1};
    uint32_t axes = out->rank - (j.s.pairs_out ? 2 : 1);
    for (uint32_t i = 0; i < axes; i++) j.rows *= j.dims[i] = out->dims[i];
    if (j.rows < 1) return STRAND_PLUGIN_OK;
    j.x = side_of(&node->inputs[0], out, axes, j.s.pairs_in);
    j.y = side_of(out, out, axes, j.s.pairs_out);
    j.work = (float *)scratch + (table_floats(&j.s) + 15) / 16 * 16;
    j.work_floats = worker_floats(&j.s);
    make_tables(&j, scratch);
    j.rows_at_once = j.s.lanes ? CPU_LANES * cpu_max(1, 2048 / j.s.size) : 1;
    cpu_parallel(device, (j.rows + j.rows_at_once - 1) / j.rows_at_once, body, &j);
    return STRAND_PLUGIN_OK;
}
