/* ssm_kernel.c - SSM_KERNEL_DIAGONAL: filters that are sums of powers of poles, filter[t] = Re sum_n coefficient[n] pole[n]^t.
 *
 * Taps come in blocks of BLOCK that begin at multiples of it: t = t0 + j. For a channel, pole^j is a table of BLOCK columns
 * a pole, coefficient pole^t0 is a pair a pole and block, and a few blocks together are a small matrix product: two
 * multiply-adds a pole and tap. The pairs go from block to block by multiplication in double precision and begin anew, from
 * the logarithm of the pole, at every multiple of PIECE; so the error does not grow with t, and a tile of the filter has the
 * bytes of the whole. */
#include "kernels.h"
#include "scans.h"

#include <math.h>

#define BLOCK   64
#define PIECE   16384 /* taps of a piece of work; a multiple of BLOCK */
#define VECTORS (CPU_LANES == 16 ? 4 : 2) /* of a tile of the product */
#define ROWS    (CPU_LANES == 16 ? 6 : 4) /* blocks of taps in it */
#define DOUBLES (CPU_LANES / 2)
#define SWIFT   0.02 /* a pole that grows faster than e^this a tap begins anew at every block, or it might begin from nothing */

typedef float half_vector __attribute__((vector_size(2 * CPU_LANES)));

typedef struct complex_number {
    double re, im;
} cn;

static cn product(cn a, cn b) {
    return (cn){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
static cn exponential(cn a) {
    double r = exp(a.re);
    return r == 0 ? (cn){0, 0} : (cn){r * cos(a.im), r * sin(a.im)};
}

typedef struct job {
    const float *poles, *coefficients;
    int64_t pole_channel, pole_state, coefficient_channel, coefficient_state;
    float *out;
    int64_t out_channel, begin, end, taps; /* the tile's taps, and all of them */
    int64_t channels, states, first_piece, pieces;
    bool log_poles, normalise;
    double scale, eps;
    char *scratch;
    uint64_t scratch_bytes; /* a worker */
} job;

/* What a piece works with: for each pole its logarithm, its coefficient and the exponent's shift; the pair that goes from
 * block to block and its factor; the tables. */
typedef struct tables {
    double *log_re, *log_im, *c_re, *c_im, *shift, *z_re, *z_im, *w_re, *w_im;
    float *powers; /* [states][re, im][BLOCK] */
    float *starts; /* [ROWS][re, im][states] */
} tables;

static uint64_t table_bytes(int64_t states) {
    return cpu_round((uint64_t)states * 9 * sizeof(double)) + cpu_round((uint64_t)states * 2 * (BLOCK + ROWS) * sizeof(float));
}

static tables tables_at(char *at, int64_t states) {
    tables t;
    double **columns[9] = {&t.log_re, &t.log_im, &t.c_re, &t.c_im, &t.shift, &t.z_re, &t.z_im, &t.w_re, &t.w_im};
    for (int i = 0; i < 9; i++) *columns[i] = (double *)(void *)at + i * states;
    t.powers = (float *)(void *)(at + cpu_round((uint64_t)states * 9 * sizeof(double)));
    t.starts = t.powers + states * 2 * BLOCK;
    return t;
}

/* pole^t = e^(t logarithm), and 1 for t = 0 whatever the pole. */
static cn power(cn logarithm, double t) {
    if (t == 0) return (cn){1, 0};
    return exponential((cn){t * logarithm.re, t * logarithm.im});
}

static cn expm1_of(cn a) {
    double s = sin(a.im / 2);
    return (cn){expm1(a.re) * cos(a.im) - 2 * s * s, exp(a.re) * sin(a.im)};
}

/* The sum of e^(r logarithm) over r < taps, or of e^(-r logarithm) where that falls. */
static cn geometric(cn logarithm, int64_t taps) {
    double sign = logarithm.re > 0 ? -1 : 1, n = (double)taps;
    if (logarithm.re < -700) return (cn){1, 0};
    cn one = expm1_of((cn){sign * logarithm.re, sign * logarithm.im}),
       all = expm1_of((cn){sign * n * logarithm.re, sign * n * logarithm.im});
    double square = one.re * one.re + one.im * one.im;
    if (square == 0) return (cn){n, 0};
    cn r = product(all, (cn){one.re, -one.im});
    return (cn){r.re / square, r.im / square};
}

/* Powers 0 .. BLOCK - 1 of a pole, in double precision before they are rounded. */
static void fill_powers(float *to, cn pole) {
    double re[DOUBLES], im[DOUBLES];
    cn p = {1, 0};
    for (int i = 0; i < DOUBLES; i++, p = product(p, pole)) re[i] = p.re, im[i] = p.im;
    vd v_re, v_im, w_re = vd_set(p.re), w_im = vd_set(p.im);
    memcpy(&v_re, re, sizeof re);
    memcpy(&v_im, im, sizeof im);
    for (int k = 0; k < BLOCK; k += DOUBLES) {
        half_vector a = __builtin_convertvector(v_re, half_vector), b = __builtin_convertvector(v_im, half_vector);
        memcpy(to + k, &a, sizeof a);
        memcpy(to + BLOCK + k, &b, sizeof b);
        vd next = v_re * w_re - v_im * w_im;
        v_im = v_re * w_im + v_im * w_re;
        v_re = next;
    }
}

/* All that does not depend on t. Is any pole a swift one? */
static bool prepare_poles(const job *j, const tables *t, int64_t channel) {
    bool swift = false;
    for (int64_t n = 0; n < j->states; n++) {
        const float *p = j->poles + channel * j->pole_channel + n * j->pole_state;
        const float *c = j->coefficients + channel * j->coefficient_channel + n * j->coefficient_state;
        cn value = {(double)p[0], (double)p[1]}, logarithm = value, coefficient = {(double)c[0], (double)c[1]};
        if (j->log_poles)
            value = exponential(value);
        else
            logarithm = (cn){log(hypot(value.re, value.im)), atan2(value.im, value.re)};
        t->shift[n] = 0;
        if (j->normalise) {
            cn sum = geometric(logarithm, j->taps);
            double square = sum.re * sum.re + sum.im * sum.im + j->eps;
            coefficient = product(coefficient, (cn){sum.re / square, -sum.im / square});
            if (logarithm.re > 0) t->shift[n] = (double)(j->taps - 1);
        }
        t->log_re[n] = logarithm.re, t->log_im[n] = logarithm.im;
        t->c_re[n] = coefficient.re, t->c_im[n] = coefficient.im;
        fill_powers(t->powers + n * 2 * BLOCK, value);
        cn far = value;
        for (int i = 1; i < BLOCK; i *= 2) far = product(far, far);
        t->w_re[n] = far.re, t->w_im[n] = far.im;
        swift = swift || logarithm.re > SWIFT;
    }
    return swift;
}

/* The pairs for a block that begins at tap t0, from the logarithms. */
static void begin_anew(const job *j, const tables *t, int64_t t0, bool swift_only) {
    for (int64_t n = 0; n < j->states; n++) {
        if (swift_only && !(t->log_re[n] > SWIFT)) continue;
        cn z = product((cn){t->c_re[n], t->c_im[n]}, power((cn){t->log_re[n], t->log_im[n]}, (double)t0 - t->shift[n]));
        t->z_re[n] = z.re, t->z_im[n] = z.im;
    }
}

/* The pairs of one row of the product, rounded; then on to the next block. */
static void take_row(const job *j, const tables *t, float *restrict row) {
    double *restrict z_re = t->z_re, *restrict z_im = t->z_im;
    const double *restrict w_re = t->w_re, *restrict w_im = t->w_im;
    float *restrict row_im = row + j->states;
    for (int64_t n = 0; n < j->states; n++) {
        double re = z_re[n], im = z_im[n];
        row[n] = (float)re;
        row_im[n] = (float)im;
        z_re[n] = re * w_re[n] - im * w_im[n];
        z_im[n] = re * w_im[n] + im * w_re[n];
    }
}

/* `rows` blocks of taps times VECTORS vectors of their columns, into sums [rows][BLOCK]. */
CPU_INLINE void multiply(const tables *t, const int rows, int64_t states, int column, float *sums) {
    vf acc[ROWS][VECTORS];
    const float *powers = t->powers + column, *starts = t->starts;
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) acc[m][v] = vf_zero();
    for (int64_t n = 0; n < states; n++, powers += 2 * BLOCK) {
        vf re[VECTORS], im[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) re[v] = vf_load(powers + v * CPU_LANES);
#pragma GCC unroll 6
        for (int m = 0; m < rows; m++) {
            vf z = vf_set(starts[m * 2 * states + n]);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) acc[m][v] = vf_fma(z, re[v], acc[m][v]);
        }
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) im[v] = vf_load(powers + BLOCK + v * CPU_LANES);
#pragma GCC unroll 6
        for (int m = 0; m < rows; m++) {
            vf z = vf_set(starts[(m * 2 + 1) * states + n]);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) acc[m][v] = vf_fnma(z, im[v], acc[m][v]);
        }
    }
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) vf_store(sums + m * BLOCK + column + v * CPU_LANES, acc[m][v]);
}

static __attribute__((noinline)) void multiply_rows(const tables *t, int64_t states, int column, float *sums) {
    multiply(t, ROWS, states, column, sums);
}
static __attribute__((noinline)) void multiply_row(const tables *t, int64_t states, int column, float *sums) {
    multiply(t, 1, states, column, sums);
}

/* Stores the part of block [t0, t0 + BLOCK) that belongs to the tile. */
static void store_block(const job *j, int64_t channel, int64_t t0, const float *sums) {
    int64_t begin = cpu_max(t0, j->begin), end = cpu_min(t0 + BLOCK, j->end);
    float *to = j->out + channel * j->out_channel + (begin - j->begin);
    const float *from = sums + (begin - t0), scale = (float)j->scale;
    for (int64_t i = 0; i < end - begin; i++) to[i] = scale * from[i];
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t channel = i / j->pieces, piece = j->first_piece + i % j->pieces;
    int64_t start = piece * PIECE, end = cpu_min(start + PIECE, j->end), t0 = start;
    tables t = tables_at(j->scratch + (uint64_t)worker * j->scratch_bytes, j->states);
    float sums[ROWS * BLOCK] __attribute__((aligned(CPU_ALIGN)));
    bool swift = prepare_poles(j, &t, channel);
    begin_anew(j, &t, start, false);
    while (t0 < end) {
        int64_t left = (end - t0 + BLOCK - 1) / BLOCK, rows = left >= ROWS ? ROWS : 1;
        for (int64_t m = 0; m < rows; m++) {
            if (swift) begin_anew(j, &t, t0 + m * BLOCK, true);
            take_row(j, &t, t.starts + m * j->states * 2);
        }
        if (t0 + rows * BLOCK > j->begin) {
            for (int column = 0; column < BLOCK; column += VECTORS * CPU_LANES)
                (rows == 1 ? multiply_row : multiply_rows)(&t, j->states, column, sums);
            for (int64_t m = 0; m < rows; m++) store_block(j, channel, t0 + m * BLOCK, sums + m * BLOCK);
        }
        t0 += rows * BLOCK;
    }
}

uint64_t cpu_ssm_kernel_diagonal_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)cpu_workers(device) * table_bytes(node->inputs[1].dims[1]);
}

CPU_KERNEL(cpu_ssm_kernel_diagonal) {
    const strand_op_ssm_kernel_diagonal *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *poles = &node->inputs[0], *coefficients = &node->inputs[1];
    job j = {.log_poles = p->log_poles != 0, .normalise = p->normalise != 0, .scale = (double)p->scale, .eps = (double)p->eps};
    j.poles = scan_channels(poles, out, 0), j.pole_channel = scan_channel_stride(poles), j.pole_state = poles->strides[1];
    j.coefficients = scan_channels(coefficients, out, 0), j.coefficient_channel = scan_channel_stride(coefficients);
    j.coefficient_state = coefficients->strides[1];
    j.out = cpu_f32(out), j.out_channel = out->strides[0];
    j.begin = out->origin[1], j.end = out->origin[1] + out->dims[1], j.taps = out->whole[1];
    j.channels = out->dims[0], j.states = coefficients->dims[1];
    j.scratch = scratch, j.scratch_bytes = table_bytes(j.states);
    if (j.end <= j.begin) return STRAND_PLUGIN_OK;
    j.first_piece = j.begin / PIECE;
    j.pieces = (j.end - 1) / PIECE + 1 - j.first_piece;
    cpu_parallel(device, j.channels * j.pieces, body, &j);
    return STRAND_PLUGIN_OK;
}
