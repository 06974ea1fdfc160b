/* fft_leaf.h - the leaf of the long convolution's transform: LEAF points down to their numbers, times the spectrum, and up
 * again.
 *
 * A node's twiddles are powers of v = e^(i theta/LEAF), broadcast, down to single vectors. Then lanes are transposed, lane q
 * becomes the q-th child, and twiddles are vectors: a broadcast power times a constant vector (a narrow table), or the
 * vectors as they are (a wide one, which saves arithmetic as long as it is near). Functions take the constants, or NULL
 * where the table is wide. */
#ifndef STRAND_CPU_FFT_LEAF_H
#define STRAND_CPU_FFT_LEAF_H

#include "fft_kernel.h"

#define LEAF (CPU_LANES * (CPU_LANES < 8 ? CPU_LANES : 8)) /* points */

#if CPU_LANES == 16
/* Eight vectors stay in registers from the first load to the last store: eight ways across the vectors, a transposition of
 * pairs of lanes, eight ways across what were the pairs' places, two ways within the pairs, and back. A store costs as much
 * as two additions, so a leaf that stores each number once beats a larger one. A processor's window holds a quarter of a
 * leaf, and shuffles have two units of four: so they stand among the butterflies that they feed, two numbers at a time.
 * Twiddles: powers 16k for k = 1..7; then 2k; then 1. */
#define LANE_POWERS    8
#define LANE_POWERS_OF {2, 4, 6, 8, 10, 12, 14, 1}
#define TOP_FLOATS     16                               /* powers 16k */
#define LEAF_FLOATS    (TOP_FLOATS + 2 * LANE_POWERS)   /* of a narrow table: the other powers */
#define WIDE_FLOATS    (TOP_FLOATS + LANE_POWERS * STEP) /* of a wide one: vectors of the lanes' twiddles */

/* Lane p's child, times 1/LEAF of a turn. Once transposed, bits of the lane are 0, 2, 1 of the child j, then the number in
 * its pair; where pairs of vectors q and q + 4 are parted, the lanes of a quarter are (q, j), (q, j + 2), (q + 4, j), (q +
 * 4, j + 2). */
#define LANE_TURNS(power, p)                                                                                                   \
    ((power) < 7 ? ((p) / 8 + ((p) / 4 % 2) * 4 + (p) / 2 % 2 * 2) * 2 * ((power) + 1)                                         \
                 : (p) / 8 + (p) / 4 % 2 * 4 + (p) % 2 * 2 + (p) / 2 % 2 * 32)

/* Halves, quarters, pairs and numbers of two vectors. Taking even and odd quarters apart leaves the even ones of a in the
 * lower half; firsts and seconds are parted within quarters, and come together again in lower and upper. */
#define LANES_OF(name, ...)                                                                                                    \
    CPU_INLINE cv name(cv a, cv b) {                                                                                           \
        return (cv){__builtin_shufflevector(a.r, b.r, __VA_ARGS__), __builtin_shufflevector(a.i, b.i, __VA_ARGS__)};           \
    }
LANES_OF(lower_halves, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
LANES_OF(upper_halves, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)
LANES_OF(even_quarters, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27)
LANES_OF(odd_quarters, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31)
LANES_OF(even_pairs, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
LANES_OF(odd_pairs, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
LANES_OF(firsts, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30)
LANES_OF(seconds, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31)
LANES_OF(lower_again, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
LANES_OF(upper_again, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)

CPU_INLINE void exchange_halves(cv *a, cv *b) {
    cv x = *a, y = *b;
    *a = lower_halves(x, y), *b = upper_halves(x, y);
}
CPU_INLINE void exchange_pairs(cv *a, cv *b) {
    cv x = *a, y = *b;
    *a = even_pairs(x, y), *b = odd_pairs(x, y);
}

/* a e^(pi i/4) */
CPU_INLINE cv eighth(cv a) {
    const vf h = vf_set(0.707106781187f);
    return (cv){h * (a.r - a.i), h * (a.r + a.i)};
}

/* Twiddle of vectors q and q + 4, from that of 0 and 4: e^(2 pi i q/16) further on. */
CPU_INLINE cv pair_twiddle(int q, cv w) {
    const cv a = {vf_set(0.923879532511f), vf_set(0.382683432365f)}, b = {vf_set(0.382683432365f), vf_set(0.923879532511f)};
    return q == 0 ? w : q == 1 ? times(w, a) : q == 2 ? eighth(w) : times(w, b);
}

/* k = 1 .. 7, 8 for the pairs. */
CPU_INLINE cv lane_twiddle(int k, const float *lanes, const float *t) {
    const float *constant = (lanes ? lanes : t + TOP_FLOATS) + (k - 1) * STEP;
    return lanes ? times_at(ld(constant), t + 14 + 2 * k) : ld(constant);
}

/* Down to the halves of the second split: its results q and q + 4 are pair8(q, e[q], o[q]). */
CPU_INLINE void leaf_down(const float *p, const float *lanes, const float *t, cv *e, cv *o) {
    cv s[4], d[4], x[8];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        cv a = ld(p + k * STEP);
        if (k) a = times_at(a, t + 2 * k - 2);
        cv b = times_at(ld(p + (k + 4) * STEP), t + 2 * k + 6);
        s[k] = add(a, b), d[k] = sub(a, b);
    }
    halves8(s, d, e, o);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        pair8(j, e[j], o[j], &x[j], &x[j + 4]);
        exchange_halves(&x[j], &x[j + 4]);
    }
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; odd++) { /* numbers odd, odd + 4, then odd + 2, odd + 6 */
        cv y[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) y[k] = odd ? odd_quarters(x[2 * k], x[2 * k + 1]) : even_quarters(x[2 * k], x[2 * k + 1]);
#pragma GCC unroll 2
        for (int upper = 0; upper < 2; upper++) {
            int k = 2 * odd + upper; /* the transposition leaves number k where 2 * upper + odd was */
            cv a = upper ? odd_pairs(y[0], y[1]) : even_pairs(y[0], y[1]);
            cv b = upper ? odd_pairs(y[2], y[3]) : even_pairs(y[2], y[3]);
            if (k) a = times(a, lane_twiddle(k, lanes, t));
            b = times(b, lane_twiddle(k + 4, lanes, t));
            s[k] = add(a, b), d[k] = sub(a, b);
        }
    }
    halves8(s, d, e, o);
}

/* The last split, of vectors q and q + 4. */
CPU_INLINE void part_pairs(int q, cv e, cv o, cv w, cv *s, cv *d) {
    cv x, y;
    pair8(q, e, o, &x, &y);
    cv a = firsts(x, y), b = seconds(x, y);
    *s = plus_times(a, b, w), *d = twice_less(a, *s);
}

CPU_INLINE void leaf_up(float *p, const float *lanes, const float *t, cv *s, cv *d) {
    cv e[4], o[4], x[8];
    halves8(s, d, e, o);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) { /* results backwards: 0 and 4, 7 and 3, 6 and 2, 5 and 1 */
        int k = j ? 8 - j : 0, m = 4 - j;
        pair8(j, e[j], o[j], &x[k], &x[m]);
        if (k) x[k] = times_conjugate(x[k], lane_twiddle(k, lanes, t));
        x[m] = times_conjugate(x[m], lane_twiddle(m, lanes, t));
        if (j >= 2) exchange_pairs(&x[6 - 2 * j], &x[7 - 2 * j]), exchange_pairs(&x[10 - 2 * j], &x[11 - 2 * j]);
    }
#pragma GCC unroll 2
    for (int k = 0; k < 2; k++) {
        exchange_halves(&x[k], &x[k + 2]), exchange_halves(&x[k + 4], &x[k + 6]);
#pragma GCC unroll 2
        for (int upper = 0; upper < 2; upper++) {
            int j = 2 * k + upper; /* again 1 and 2 have changed places */
            cv c = x[k + 2 * upper], f = x[k + 2 * upper + 4], a = even_quarters(c, f), b = odd_quarters(c, f);
            s[j] = add_mixed(a, b), d[j] = sub_mixed(a, b);
        }
    }
    halves8(s, d, e, o);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        int k = j ? 8 - j : 0, m = 4 - j;
        cv a, b;
        pair8(j, e[j], o[j], &a, &b);
        st(p + k * STEP, k ? times_conjugate_at(a, t + 2 * k - 2) : a);
        st(p + m * STEP, times_conjugate_at(b, t + 2 * m - 2));
    }
}

CPU_INLINE void leaf_convolve(float *p, const float *spectrum, vf skip, const float *lanes, const float *t) {
    cv e[4], o[4], s[4], d[4];
    leaf_down(p, lanes, t, e, o);
    cv v = lane_twiddle(8, lanes, t);
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        cv vq = pair_twiddle(q, v), x, y, g = ld(spectrum + 2 * q * STEP), h = ld(spectrum + (2 * q + 1) * STEP);
        part_pairs(q, e[q], o[q], vq, &x, &y);
        g.r += skip, h.r += skip;
        x = times(x, g), y = times(y, h);
        cv a = add(x, y), b = times_conjugate(sub(x, y), vq);
        x = lower_again(a, b), y = upper_again(a, b);
        s[q] = add_mixed(x, y), d[q] = sub_mixed(x, y);
    }
    leaf_up(p, lanes, t, s, d);
}

CPU_INLINE void leaf_spectrum(float *p, vf scale, const float *lanes, const float *t) {
    cv e[4], o[4], v = lane_twiddle(8, lanes, t), s, d;
    leaf_down(p, lanes, t, e, o);
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        part_pairs(q, e[q], o[q], pair_twiddle(q, v), &s, &d);
        st(p + 2 * q * STEP, scaled(s, scale)), st(p + (2 * q + 1) * STEP, scaled(d, scale));
    }
}
#else
/* What happens to r neighbouring vectors at the bottom: down, times the spectrum (or stored as one), up again. */
CPU_INLINE void bottom_convolve(int radix, float *p, const float *spectrum, vf skip, const cv *w) {
    cv x[8];
#pragma GCC unroll 8
    for (int k = 0; k < radix; k++) x[k] = ld(p + k * STEP);
    twiddled(radix, x, w);
#pragma GCC unroll 8
    for (int k = 0; k < radix; k++) {
        cv s = ld(spectrum + k * STEP);
        s.r += skip;
        x[k] = times(x[k], s);
    }
    dft(radix, x);
    st(p, x[0]);
#pragma GCC unroll 8
    for (int k = 1; k < radix; k++) st(p + k * STEP, times_conjugate(x[backwards(radix, k)], w[k - 1]));
}

CPU_INLINE void bottom_spectrum(int radix, float *p, vf scale, const cv *w) {
    cv x[8];
#pragma GCC unroll 8
    for (int k = 0; k < radix; k++) x[k] = ld(p + k * STEP);
    twiddled(radix, x, w);
#pragma GCC unroll 8
    for (int k = 0; k < radix; k++) st(p + k * STEP, scaled(x[k], scale));
}

CPU_INLINE void transpose(float *p) {
    vf x[CPU_LANES];
#pragma GCC unroll 2
    for (int part = 0; part < 2; part++, p += CPU_LANES) {
#pragma GCC unroll 16
        for (int i = 0; i < CPU_LANES; i++) x[i] = vf_load(p + i * STEP);
        vf_transpose(x);
#pragma GCC unroll 16
        for (int i = 0; i < CPU_LANES; i++) vf_store(p + i * STEP, x[i]);
    }
}

/* One level of CPU_LANES across the vectors, one across the lanes: powers CPU_LANES k; then k. */
#define LANE_POWERS          (CPU_LANES - 1)
#define LANE_POWERS_OF       {1, 2, 3, 4, 5, 6, 7}
#define TOP_FLOATS           (2 * LANE_POWERS)
#define LEAF_FLOATS          (4 * LANE_POWERS)
#define WIDE_FLOATS          (2 * LANE_POWERS + LANE_POWERS * STEP)
#define LANE_TURNS(power, p) ((p) * ((power) + 1)) /* of lane p, times LEAF */

CPU_INLINE void lane_twiddles(const float *lanes, const float *t, cv *w) {
    t += 2 * LANE_POWERS;
#pragma GCC unroll 8
    for (int k = 0; k < LANE_POWERS; k++) w[k] = lanes ? times(ld(lanes + k * STEP), one(t + 2 * k)) : ld(t + k * STEP);
}

CPU_INLINE void leaf_down(float *p, const float *t) {
    cv w[LANE_POWERS];
    ones(LANE_POWERS, w, t);
    down(CPU_LANES, p, STEP, w);
    transpose(p);
}

CPU_INLINE void leaf_convolve(float *p, const float *spectrum, vf skip, const float *lanes, const float *t) {
    cv w[LANE_POWERS], v[LANE_POWERS];
    lane_twiddles(lanes, t, v);
    leaf_down(p, t);
    bottom_convolve(CPU_LANES, p, spectrum, skip, v);
    transpose(p);
    ones(LANE_POWERS, w, t);
    up(CPU_LANES, p, STEP, w);
}

CPU_INLINE void leaf_spectrum(float *p, vf scale, const float *lanes, const float *t) {
    cv w[LANE_POWERS];
    lane_twiddles(lanes, t, w);
    leaf_down(p, t);
    bottom_spectrum(CPU_LANES, p, scale, w);
}
#endif

#endif
