/* ring.c - the tree of the transform: a first pass from real input, passes down, leaves, passes up, a last pass to real output.
 * Depth first, so that each block is finished while it is in the nearest cache that holds it. */
#include "ring.h"
#include "fft_leaf.h"

#include <math.h>

#define LONGEST_WIDE (CPU_LANES == 16 ? 196608 : 0) /* points: leaves up to these have wide tables, eight bytes a point */
#define LOOK_AHEAD   (CPU_LANES == 16 ? 4 : 2)      /* leaves of the spectrum that are fetched before they are needed */

/* ---- sizes and tables ---- */

int64_t cpu_ring_size(int64_t length) {
    int64_t best = INT64_MAX;
    for (int64_t odd = 1; odd <= 5; odd += 2) {
        int64_t n = 256 * odd;
        while (n < length) n *= 2;
        if (n < best) best = n;
    }
    return best;
}

static bool wide(int64_t n) {
    return n <= LONGEST_WIDE;
}

static void split(cpu_ring *f, int64_t n) {
    int64_t rest = n / LEAF;
    *f = (cpu_ring){.n = n, .first = 1, .leaf_floats = wide(n) ? WIDE_FLOATS : LEAF_FLOATS};
    if (rest % 3 == 0) f->first = 3;
    if (rest % 5 == 0) f->first = 5;
    rest /= f->first;
    for (int all = f->first > 1; rest > 1; all++) {
        int radix = rest == 2 ? 2 : rest == 4 || rest == 16 ? 4 : 8;
        if (CPU_LANES < 16 && rest >= 16 && rest != 32) radix = 4; /* eight complex vectors do not fit 16 registers */
        if (rest % radix) radix = 2;
        rest /= radix;
        if (all == 0)
            f->first = radix;
        else
            f->radix[f->passes++] = radix;
    }
}

static int64_t round_up(int64_t n) {
    return (n + 15) / 16 * 16;
}

static int64_t table_floats(int64_t n) {
    cpu_ring f;
    split(&f, n);
    int64_t blocks = f.first, floats = LANE_POWERS * STEP + 16;
    for (int s = 0; s < f.passes; s++) {
        floats += round_up(blocks * 2 * (f.radix[s] - 1));
        blocks *= f.radix[s];
    }
    return floats + blocks * f.leaf_floats;
}

/* Never less for more points: what was asked for at the longest row serves shorter ones, whose leaves may be wide. */
int64_t cpu_ring_table_floats(int64_t n) {
    return wide(n) || !LONGEST_WIDE ? table_floats(n) : cpu_max(table_floats(n), table_floats(LONGEST_WIDE));
}

typedef struct z {
    double r, i;
} z;

/* Angles are counted in turns. */
static z turn(double turns) {
    return (z){cos(2 * 3.14159265358979323846 * turns), sin(2 * 3.14159265358979323846 * turns)};
}
static z product(z a, z b) {
    return (z){a.r * b.r - a.i * b.i, a.r * b.i + a.i * b.r};
}
static void put(float *t, z a) {
    t[0] = (float)a.r, t[1] = (float)a.i;
}

/* e^(i k angle) for k = 1 .. n */
static void powers(float *t, z v, int n) {
    z p = v;
    for (int k = 0; k < n; k++, p = product(p, v)) put(t + 2 * k, p);
}

static void fill_leaf(float *t, bool wide, double angle) {
    const int powers_of[] = LANE_POWERS_OF;
    powers(t, turn(angle * CPU_LANES / LEAF), CPU_LANES == 16 ? 7 : LANE_POWERS);
    t += TOP_FLOATS;
    for (int k = 0; k < LANE_POWERS; k++) {
        if (!wide) put(t + 2 * k, turn(angle * powers_of[k] / LEAF));
        for (int q = 0; wide && q < CPU_LANES; q++) {
            z w = turn((angle * powers_of[k] + LANE_TURNS(k, q)) / LEAF);
            t[k * STEP + q] = (float)w.r, t[k * STEP + CPU_LANES + q] = (float)w.i;
        }
    }
}

/* Constants of the lanes: how much further on a lane's child is than the leaf's share. */
static void fill_lanes(float *t) {
    for (int k = 0; k < LANE_POWERS; k++)
        for (int q = 0; q < CPU_LANES; q++) {
            z w = turn((double)LANE_TURNS(k, q) / LEAF);
            t[k * STEP + q] = (float)w.r, t[k * STEP + CPU_LANES + q] = (float)w.i;
        }
}

static void fill(const cpu_ring *f, float *const twiddle[], float *leaf, int level, int64_t at, double angle) {
    if (level == f->passes) {
        fill_leaf(leaf + at * f->leaf_floats, wide(f->n), angle);
        return;
    }
    int radix = f->radix[level];
    powers(twiddle[level] + at * 2 * (radix - 1), turn(angle / radix), radix - 1);
    for (int j = 0; j < radix; j++) fill(f, twiddle, leaf, level + 1, at * radix + j, (angle + j) / radix);
}

void cpu_ring_plan(cpu_ring *f, int64_t n, float *table, bool fill_in) {
    float *twiddle[RING_MOST_PASSES + 1], *lanes = table, *first = lanes + LANE_POWERS * STEP, *next = first + 16;
    split(f, n);
    int64_t blocks = f->first;
    for (int s = 0; s < f->passes; s++) {
        twiddle[s] = next;
        next += round_up(blocks * 2 * (f->radix[s] - 1));
        blocks *= f->radix[s];
    }
    f->lanes = lanes;
    f->twiddle[0] = first;
    for (int s = 0; s < f->passes; s++) f->twiddle[s + 1] = twiddle[s];
    f->leaf = next;
    if (!fill_in) return;
    fill_lanes(lanes);
    powers(first, turn(0.25 / f->first), f->first - 1);
    for (int j = 0; j < f->first; j++) fill(f, twiddle, next, 0, j, (0.25 + j) / f->first);
}

/* ---- passes ---- */

/* Real input at position t: zeros past the end. */
CPU_INLINE vf take(const cpu_ring_source *s, int64_t t) {
    int64_t left = s->length - t;
    if (__builtin_expect(left >= CPU_LANES, 1)) return s->gate ? vf_load(s->u + t) * vf_load(s->gate + t) : vf_load(s->u + t);
    if (left <= 0) return vf_zero();
    vf u = vf_load_part(s->u + t, left);
    return s->gate ? u * vf_load_part(s->gate + t, left) : u;
}

CPU_INLINE void first_down(int radix, const cpu_ring_source *s, float *p, int64_t vectors, const float *t) {
    for (int64_t v = 0; v < vectors; v++) {
        cv x[8], sum[4], difference[4];
        const int pairs = radix % 2 ? 0 : radix / 2; /* numbers half the block apart */
        x[0] = (cv){take(s, v * CPU_LANES), vf_zero()};
#pragma GCC unroll 8
        for (int k = 1; k < 8; k++) {
            if (k >= radix - pairs) break;
            vf u = take(s, (v + k * vectors) * CPU_LANES);
            x[k] = (cv){u * vf_set(t[2 * k - 2]), u * vf_set(t[2 * k - 1])};
        }
        if (!pairs) dft(radix, x);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            if (k >= pairs) break;
            int other = k + pairs;
            vf u = take(s, (v + other * vectors) * CPU_LANES), r = vf_set(t[2 * other - 2]), i = vf_set(t[2 * other - 1]);
            sum[k] = (cv){vf_fma(u, r, x[k].r), vf_fma(u, i, x[k].i)};
            difference[k] = (cv){vf_fnma(u, r, x[k].r), vf_fnma(u, i, x[k].i)};
        }
        finish(radix, sum, difference, x);
#pragma GCC unroll 8
        for (int k = 0; k < radix; k++) st(p + (v + k * vectors) * STEP, x[k]);
    }
}

CPU_INLINE void give(float *y, const float *gate, int64_t length, int64_t t, vf x) {
    int64_t left = length - t;
    if (__builtin_expect(left >= CPU_LANES, 1))
        vf_store(y + t, gate ? x * vf_load(gate + t) : x);
    else if (left > 0)
        vf_store_part(y + t, gate ? x * vf_load_part(gate + t, left) : x, left);
}

CPU_INLINE void last_up(int radix, float *y, const float *gate, int64_t length, const float *p, int64_t vectors,
                        const float *t) {
    for (int64_t v = 0; v < vectors; v++) {
        cv x[8];
#pragma GCC unroll 8
        for (int k = 0; k < radix; k++) x[k] = ld(p + (v + k * vectors) * STEP);
        dft(radix, x);
        give(y, gate, length, v * CPU_LANES, x[0].r);
#pragma GCC unroll 8
        for (int k = 1; k < radix; k++) {
            cv a = x[backwards(radix, k)];
            give(y, gate, length, (v + k * vectors) * CPU_LANES, vf_fma(a.i, vf_set(t[2 * k - 1]), a.r * vf_set(t[2 * k - 2])));
        }
    }
}

#define EACH_RADIX(X) X(1) X(2) X(3) X(4) X(5) X(8)

/* The same from complex input, of which the imaginary part is n long. */
CPU_INLINE void first_down_complex(int radix, const cpu_ring_source *s, float *p, int64_t vectors, const float *t) {
    cv w[7];
    ones(radix - 1, w, t);
    for (int64_t v = 0; v < vectors; v++) {
        cv x[8];
#pragma GCC unroll 8
        for (int k = 0; k < radix; k++) {
            int64_t at = (v + k * vectors) * CPU_LANES;
            x[k] = (cv){take(s, at), vf_load(s->imaginary + at)};
        }
        twiddled(radix, x, w);
#pragma GCC unroll 8
        for (int k = 0; k < radix; k++) st(p + (v + k * vectors) * STEP, x[k]);
    }
}

static void first_pass(const cpu_ring *f, const cpu_ring_source *s, float *p) {
    int64_t vectors = f->n / f->first / CPU_LANES;
#define CASE(r)                                                                                                                \
    if (f->first == r && !s->imaginary) first_down(r, s, p, vectors, f->twiddle[0]);                                           \
    if (f->first == r && s->imaginary) first_down_complex(r, s, p, vectors, f->twiddle[0]);
    EACH_RADIX(CASE)
#undef CASE
}

static void last_pass(const cpu_ring *f, float *y, const float *gate, int64_t length, const float *p) {
    int64_t vectors = f->n / f->first / CPU_LANES;
#define CASE(r)                                                                                                                \
    if (f->first == r) last_up(r, y, gate, length, p, vectors, f->twiddle[0]);
    EACH_RADIX(CASE)
#undef CASE
}

CPU_INLINE void pass(int radix, bool downwards, float *p, int64_t vectors, const float *t) {
    cv w[7];
    ones(radix - 1, w, t);
    for (int64_t v = 0; v < vectors; v++, p += STEP)
        if (downwards)
            down(radix, p, vectors * STEP, w);
        else
            up(radix, p, vectors * STEP, w);
}

static __attribute__((noinline)) void pass_down(int radix, float *p, int64_t vectors, const float *t) {
    if (radix == 2) pass(2, true, p, vectors, t);
    if (radix == 4) pass(4, true, p, vectors, t);
    if (radix == 8) pass(8, true, p, vectors, t);
}

static __attribute__((noinline)) void pass_up(int radix, float *p, int64_t vectors, const float *t) {
    if (radix == 2) pass(2, false, p, vectors, t);
    if (radix == 4) pass(4, false, p, vectors, t);
    if (radix == 8) pass(8, false, p, vectors, t);
}

/* ---- leaves and the tree ---- */

static __attribute__((noinline)) void convolve_wide(float *p, const float *spectrum, float skip, const float *t) {
    leaf_convolve(p, spectrum, vf_set(skip), NULL, t);
}

static __attribute__((noinline)) void convolve_narrow(float *p, const float *spectrum, float skip, const float *lanes,
                                                      const float *t) {
    leaf_convolve(p, spectrum, vf_set(skip), lanes, t);
}

static void convolve_leaf(const cpu_ring *f, float *p, const float *spectrum, float skip, int64_t at) {
    const float *t = f->leaf + at * f->leaf_floats;
    if (wide(f->n))
        convolve_wide(p, spectrum, skip, t);
    else
        convolve_narrow(p, spectrum, skip, f->lanes, t);
}

static __attribute__((noinline)) void spectrum_of_leaf(const cpu_ring *f, float *p, float scale, int64_t at) {
    const float *t = f->leaf + at * f->leaf_floats;
    if (wide(f->n))
        leaf_spectrum(p, vf_set(scale), NULL, t);
    else
        leaf_spectrum(p, vf_set(scale), f->lanes, t);
}

/* Asks for the leaf `ahead` floats further on; behind the last leaf stands the next channel's spectrum, or nothing: fetching
 * does not fail. */
CPU_INLINE void fetch(const float *spectrum, int64_t ahead) {
    uintptr_t p = (uintptr_t)spectrum + (uintptr_t)ahead * sizeof *spectrum;
    for (int i = 0; i < 2 * LEAF; i += 16) __builtin_prefetch((const void *)(p + (uintptr_t)i * sizeof *spectrum), 0, 2);
}

/* The next call's rows, a leaf's share of each. */
CPU_INLINE void fetch_soon(const cpu_ring_source *from, int64_t at) {
    for (int k = 0; k < RING_SOON && from->soon[k]; k++) {
        const char *p = (const char *)(from->soon[k] + at * LEAF);
        for (int i = 0; i < LEAF; i += 16) __builtin_prefetch(p + (size_t)i * sizeof(float), 0, 2);
    }
}

/* Block `at` of `level`: m points, in place. With a spectrum it is convolved, without one it becomes one. */
static void tree(const cpu_ring *f, const cpu_ring_source *from, float *p, const float *spectrum, float factor, int64_t m,
                 int level, int64_t at) {
    if (level == f->passes) {
        if (!spectrum) {
            spectrum_of_leaf(f, p, factor, at);
            return;
        }
        fetch(spectrum, LOOK_AHEAD * 2 * LEAF);
        fetch_soon(from, at);
        convolve_leaf(f, p, spectrum, factor, at);
        return;
    }
    int radix = f->radix[level];
    int64_t part = m / radix;
    const float *t = f->twiddle[level + 1] + at * 2 * (radix - 1);
    pass_down(radix, p, part / CPU_LANES, t);
    for (int j = 0; j < radix; j++) {
        tree(f, from, p + 2 * j * part, spectrum ? spectrum + 2 * j * part : NULL, factor, part, level + 1, at * radix + j);
    }
    if (spectrum) pass_up(radix, p, part / CPU_LANES, t);
}

void cpu_ring_spectrum(const cpu_ring *f, const cpu_ring_source *from, float *spectrum) {
    int64_t part = f->n / f->first;
    first_pass(f, from, spectrum);
    for (int j = 0; j < f->first; j++) tree(f, from, spectrum + 2 * j * part, NULL, 1.0f / (float)f->n, part, 0, j);
}

void cpu_ring_convolve(const cpu_ring *f, const cpu_ring_source *from, const float *spectrum, float skip, float *y,
                      const float *gate, int64_t length, float *work) {
    int64_t part = f->n / f->first;
    first_pass(f, from, work);
    for (int j = 0; j < f->first; j++) {
        tree(f, from, work + 2 * j * part, spectrum + 2 * j * part, skip / (float)f->n, part, 0, j);
    }
    last_pass(f, y, gate, length, work);
}
