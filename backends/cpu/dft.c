/* dft.c - Stockham's transform: each pass reads r numbers a stride apart and writes them side by side, so that the result
 * stands in its natural order without a reordering pass. A pass has one twiddle for each p, which all lanes and all inner
 * positions share.
 *
 * A longer row is cut into residues modulo d (the largest divisor that fits the lanes): d transforms of n/d points in the
 * lanes, then, for CPU_LANES results at a time, a turn, a transposition and a transform of d points over vectors. */
#include "dft.h"
#include "fft_pairs.h"

#include <math.h>

static const int radices[] = {8, 4, 2, 3, 5, 7, 11, 13};
#define N_RADICES (int)(sizeof radices / sizeof radices[0])
#define TURN      6.28318530717958647693

/* ---- sizes and tables ---- */

bool cpu_dft_smooth(int64_t n) {
    bool fits = n <= DFT_IN_ROWS;
    for (int64_t d = 2; d <= CPU_LANES; d++) fits = fits || n % d == 0;
    for (int i = 2; i < N_RADICES; i++)
        while (n % radices[i] == 0) n /= radices[i];
    return fits && n == 1;
}

int64_t cpu_dft_above(int64_t n) {
    int64_t best = INT64_MAX;
    for (int64_t odd = 1; odd <= 5; odd += 2) {
        int64_t size = odd;
        while (size < n) size *= 2;
        if (size < best) best = size;
    }
    return best;
}

static void split(cpu_dft *f, int64_t n) {
    *f = (cpu_dft){.n = n, .lanes = 1};
    for (int64_t d = 2; n > DFT_IN_ROWS && d <= CPU_LANES; d++)
        if (n % d == 0) f->lanes = d;
    int64_t rest = f->m = n / f->lanes;
    while (rest > 1) {
        int i = CPU_LANES == 16 && rest != 16 ? 0 : 1; /* eight complex vectors do not fit 16 registers */
        while (rest % radices[i]) i++;
        f->radix[f->passes++] = radices[i];
        rest /= radices[i];
    }
}

int64_t cpu_dft_blocks(int64_t n) {
    cpu_dft f;
    split(&f, n);
    return f.m;
}

int64_t cpu_dft_table_floats(int64_t n) {
    cpu_dft f;
    split(&f, n);
    int64_t floats = 2 * CPU_LANES, rest = f.m;
    for (int s = 0; s < f.passes; s++) {
        rest /= f.radix[s];
        floats += rest * 2 * (f.radix[s] - 1);
    }
    return floats + (f.lanes > 1 ? f.m * STEP : 0);
}

/* Every 64th angle anew, the others as products: all in double precision. */
void cpu_dft_roots(float *re, float *im, int64_t gap, int64_t count, int64_t step, int64_t n) {
    double near[64][2] = {{1, 0}}, turns = (double)(step % n) / (double)n, c = cos(TURN * turns), s = sin(TURN * turns);
    for (int i = 1; i < 64; i++) {
        near[i][0] = near[i - 1][0] * c - near[i - 1][1] * s;
        near[i][1] = near[i - 1][0] * s + near[i - 1][1] * c;
    }
    for (int64_t k = 0; k < count; k += 64) {
        turns = (double)(step * k % n) / (double)n, c = cos(TURN * turns), s = sin(TURN * turns);
        for (int64_t i = 0; i < cpu_min(64, count - k); i++) {
            re[(k + i) * gap] = (float)(c * near[i][0] - s * near[i][1]);
            im[(k + i) * gap] = (float)(c * near[i][1] + s * near[i][0]);
        }
    }
}

static void pairs(float *t, int64_t gap, int64_t count, int64_t step, int64_t n) {
    cpu_dft_roots(t, t + 1, gap, count, step, n);
}

void cpu_dft_plan(cpu_dft *f, int64_t n, float *table, bool fill) {
    split(f, n);
    float *next = table;
    int64_t rest = f->m;
    f->small = next;
    if (fill) pairs(next, 2, f->lanes, 1, f->lanes);
    next += 2 * CPU_LANES;
    for (int s = 0; s < f->passes; s++) {
        int64_t r = f->radix[s], whole = rest;
        rest /= r;
        f->twiddle[s] = next;
        for (int64_t j = 1; fill && j < r; j++) pairs(next + 2 * (j - 1), 2 * (r - 1), rest, j, whole);
        next += rest * 2 * (r - 1);
    }
    f->combine = next;
    for (int64_t l = 0; fill && f->lanes > 1 && l < CPU_LANES; l++)
        cpu_dft_roots(next + l, next + CPU_LANES + l, STEP, f->m, l, n);
}

/* ---- small transforms ---- */

/* Any odd number of points: pairs k and r - k share a cosine and a sine, taken from the r-th roots. */
CPU_INLINE void dft_odd(int r, cv *x) {
    static const float
        c7[] = {1, 0.623489801859f, -0.222520933956f, -0.900968867902f},
        s7[] = {0, 0.781831482468f, 0.974927912182f, 0.433883739118f},
        c11[] = {1, 0.841253532831f, 0.415415013002f, -0.142314838273f, -0.654860733945f, -0.959492973614f},
        s11[] = {0, 0.540640817456f, 0.909631995355f, 0.989821441881f, 0.755749574354f, 0.281732556841f},
        c13[] = {1, 0.885456025653f, 0.568064746731f, 0.120536680255f, -0.354604887043f, -0.748510748171f, -0.970941817426f},
        s13[] = {0, 0.464723172044f, 0.822983865894f, 0.992708874098f, 0.935016242685f, 0.663122658241f, 0.239315664288f};
    const float *c = r == 7 ? c7 : r == 11 ? c11 : c13, *s = r == 7 ? s7 : r == 11 ? s11 : s13;
    int half = (r - 1) / 2;
    cv sum[6], difference[6], y[13];
    y[0] = x[0];
    for (int k = 1; k <= half; k++) {
        sum[k - 1] = add(x[k], x[r - k]);
        difference[k - 1] = sub(x[k], x[r - k]);
        y[0] = add(y[0], sum[k - 1]);
    }
    for (int j = 1; j <= half; j++) {
        cv a = x[0], b = {vf_zero(), vf_zero()};
        for (int k = 1; k <= half; k++) {
            int i = j * k % r, low = i <= half ? i : r - i;
            vf cosine = vf_set(c[low]), sine = vf_set(i <= half ? s[low] : -s[low]);
            a = (cv){vf_fma(sum[k - 1].r, cosine, a.r), vf_fma(sum[k - 1].i, cosine, a.i)};
            b = (cv){vf_fma(difference[k - 1].r, sine, b.r), vf_fma(difference[k - 1].i, sine, b.i)};
        }
        y[j] = add_i(a, b), y[r - j] = sub_i(a, b);
    }
    for (int k = 0; k < r; k++) x[k] = y[k];
}

CPU_INLINE void points(int r, cv *x) {
    if (r > 5 && r != 8)
        dft_odd(r, x);
    else
        dft(r, x);
}

#if CPU_LANES == 16
/* 4 x 4 points. */
static __attribute__((noinline)) void points_16(const float *roots, cv *x) {
    cv rows[16], t[4];
#pragma GCC unroll 4
    for (int low = 0; low < 4; low++) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) t[k] = x[4 * k + low];
        dft(4, t);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) rows[4 * k + low] = k && low ? times_at(t[k], roots + 2 * (low * k)) : t[k];
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        dft(4, rows + 4 * k);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) x[k + 4 * j] = rows[4 * k + j];
    }
}
#endif

/* d points, d <= CPU_LANES, as two factors. roots: the d-th ones. */
static __attribute__((noinline)) void points_of_two(int d, const float *roots, cv *x) {
#if CPU_LANES == 16
    if (d == 16) {
        points_16(roots, x);
        return;
    }
#endif
    cv rows[16], t[13];
    int a = 1;
    for (int i = 1; i < N_RADICES && a == 1; i++)
        if (d % radices[i] == 0) a = radices[i];
    int b = d / a;
    for (int low = 0; low < b; low++) {
        for (int k = 0; k < a; k++) t[k] = x[b * k + low];
        points(a, t);
        for (int k = 0; k < a; k++) rows[k * b + low] = times(t[k], one(roots + 2 * (low * k)));
    }
    for (int k = 0; k < a; k++) {
        points(b, rows + k * b);
        for (int j = 0; j < b; j++) x[k + a * j] = rows[k * b + j];
    }
}

/* ---- passes ---- */

CPU_INLINE void pass(int r, bool backward, const float *x, float *y, int64_t rest, int64_t inner, const float *t) {
    for (int64_t p = 0; p < rest; p++, t += 2 * (r - 1))
        for (int64_t q = 0; q < inner; q++) {
            const float *from = x + (q + inner * p) * STEP;
            float *to = y + (q + inner * r * p) * STEP;
            cv a[13];
#pragma GCC unroll 8
            for (int k = 0; k < r; k++) a[k] = ld(from + inner * rest * k * STEP);
            points(r, a);
            st(to, a[0]);
#pragma GCC unroll 8
            for (int j = 1; j < r; j++) {
                cv w = one(t + 2 * (j - 1));
                st(to + inner * j * STEP, backward ? times(a[j], w) : times_conjugate(a[backwards(r, j)], w));
            }
        }
}

#define PASS(r)                                                                                                               \
    static __attribute__((noinline)) void pass##r(bool backward, const float *x, float *y, int64_t rest, int64_t inner,       \
                                                  const float *t) {                                                           \
        if (backward)                                                                                                         \
            pass(r, true, x, y, rest, inner, t);                                                                              \
        else                                                                                                                  \
            pass(r, false, x, y, rest, inner, t);                                                                             \
    }
PASS(2) PASS(3) PASS(4) PASS(5) PASS(7) PASS(8) PASS(11) PASS(13)

float *cpu_dft_lanes(const cpu_dft *f, float *x, float *other, bool backward) {
    static void (*const of[])(bool, const float *, float *, int64_t, int64_t, const float *) = {
        [2] = pass2, [3] = pass3, [4] = pass4, [5] = pass5, [7] = pass7, [8] = pass8, [11] = pass11, [13] = pass13};
    int64_t rest = f->m, inner = 1;
    for (int s = 0; s < f->passes; s++) {
        int r = f->radix[s];
        rest /= r;
        of[r](backward, x, other, rest, inner, f->twiddle[s]);
        inner *= r;
        float *swap = x;
        x = other, other = swap;
    }
    return x;
}

/* ---- a long row ---- */

/* Results k .. k + CPU_LANES of all residues become results k + m j of the row. */
CPU_INLINE void combine(const cpu_dft *f, const float *x, float *out, int64_t k, bool backward) {
    int64_t width = cpu_min(CPU_LANES, f->m - k);
    int d = (int)f->lanes;
    vf r[CPU_LANES], i[CPU_LANES];
    cv y[CPU_LANES];
    for (int64_t v = 0; v < CPU_LANES; v++) {
        if (v < width) {
            cv a = ld(x + (k + v) * STEP), w = ld(f->combine + (k + v) * STEP);
            y[v] = backward ? times(a, w) : times_conjugate(a, w);
        } else {
            y[v] = (cv){vf_zero(), vf_zero()};
        }
        r[v] = y[v].r, i[v] = y[v].i;
    }
    vf_transpose(r);
    vf_transpose(i);
    for (int l = 0; l < CPU_LANES; l++) y[l] = (cv){r[l], i[l]};
    points_of_two(d, f->small, y);
    for (int j = 0; j < d; j++) store_pairs(out + 2 * (k + f->m * j), y[backward || !j ? j : d - j], width);
}

void cpu_dft_row(const cpu_dft *f, const float *in, float *out, float *x, float *other, bool backward) {
    int64_t d = f->lanes;
    for (int64_t p = 0; p < f->m; p++) {
        int64_t left = f->n - p * d; /* lanes from d on hold what follows, and are not looked at */
        st(x + p * STEP, load_pairs(in + 2 * p * d, left));
    }
    x = cpu_dft_lanes(f, x, other, backward);
    for (int64_t k = 0; k < f->m; k += CPU_LANES) combine(f, x, out, k, backward);
}
