/* fft_op_rows.h - what is done before and after a transform, once for blocks of lanes and once for pairs of a single row.
 * Included by fft_op.c with E (vf or float), U (the same in memory), N(name) and IM (distance of an imaginary part; a complex
 * number has 2 IM floats). */

#define RE_(z, k) (*(U *)((z) + 2 * IM * (k)))
#define IM_(z, k) (*(U *)((z) + 2 * IM * (k) + IM))

/* Of a transform z of x[2j] + i x[2j+1] with h points, p = z[k] and q = z[h - k]: numbers k and h - k of the transform of x.
 * w: e^(2 pi i k/(2h)). */
CPU_INLINE void N(parts)(const E *p, const E *q, const E *w, float scale, E *low, E *high) {
    E er = (p[0] + q[0]) * scale, ei = (p[1] - q[1]) * scale, odd_r = (p[1] + q[1]) * scale, odd_i = (q[0] - p[0]) * scale;
    E dr = odd_r * w[0] + odd_i * w[1], di = odd_i * w[0] - odd_r * w[1];
    low[0] = er + dr, low[1] = ei + di;
    high[0] = er - dr, high[1] = di - ei;
}

/* The way back. */
CPU_INLINE void N(joined)(const E *p, const E *q, const E *w, float scale, E *low, E *high) {
    E er = (p[0] + q[0]) * scale, ei = (p[1] - q[1]) * scale, dr = (p[0] - q[0]) * scale, di = (p[1] + q[1]) * scale;
    E odd_r = dr * w[0] - di * w[1], odd_i = di * w[0] + dr * w[1];
    low[0] = er - odd_i, low[1] = ei + odd_r;
    high[0] = er + odd_i, high[1] = odd_r - ei;
}

/* One of them for every k from `first` on, from z to y, which may be z. */
CPU_INLINE void N(both)(float *z, float *y, int64_t first, int64_t h, const float *w, float scale, bool join) {
    for (int64_t k = first; k <= h - k; k++) {
        E p[2] = {RE_(z, k), IM_(z, k)}, q[2] = {RE_(z, h - k), IM_(z, h - k)}, low[2], high[2];
        const E turn[2] = {w[2 * k] + (E){0}, w[2 * k + 1] + (E){0}};
        if (join)
            N(joined)(p, q, turn, scale, low, high);
        else
            N(parts)(p, q, turn, scale, low, high);
        RE_(y, k) = low[0], IM_(y, k) = low[1];
        RE_(y, h - k) = high[0], IM_(y, h - k) = high[1];
    }
}

/* The transform's first and last numbers are real; before the split they are one number. */
CPU_INLINE void N(split_ends)(float *z, float *y, int64_t h, float scale) {
    E a = RE_(z, 0), b = IM_(z, 0), none = {0};
    RE_(y, 0) = (a + b) * scale, IM_(y, 0) = none;
    RE_(y, h) = (a - b) * scale, IM_(y, h) = none;
}
CPU_INLINE void N(merge_ends)(float *z, float *y, int64_t h, float scale) {
    E a = RE_(z, 0), b = RE_(z, h);
    RE_(y, 0) = (a + b) * scale, IM_(y, 0) = (a - b) * scale;
}

/* Odd n: the half that symmetry gives. */
static void N(mirror)(float *z, int64_t n) {
    IM_(z, 0) = (E){0};
    for (int64_t k = 1; k <= n / 2; k++) RE_(z, n - k) = RE_(z, k), IM_(z, n - k) = -IM_(z, k);
}

/* z[k] times t[k]; zeros from n to room. */
static void N(turn)(float *z, int64_t n, int64_t room, const float *t) {
    for (int64_t k = 0; k < n; k++) {
        E r = RE_(z, k), i = IM_(z, k);
        RE_(z, k) = r * t[2 * k] - i * t[2 * k + 1], IM_(z, k) = i * t[2 * k] + r * t[2 * k + 1];
    }
    if (room > n) memset(z + 2 * IM * n, 0, (size_t)(room - n) * 2 * IM * sizeof *z);
}

static void N(scale)(float *z, int64_t n, float scale) {
    for (int64_t k = 0; k < n; k++) {
        E r = RE_(z, k), i = IM_(z, k);
        RE_(z, k) = r * scale, IM_(z, k) = i * scale;
    }
}

/* The real part becomes the amplitude or its square. Numbers are scaled first: the square of a small one would be lost. */
CPU_INLINE void N(size)(float *z, int64_t n, bool square) {
    for (int64_t k = 0; k < n; k++) {
        E r = RE_(z, k), i = IM_(z, k);
        RE_(z, k) = square ? r * r + i * i : N(length)(r, i);
    }
}

#undef RE_
#undef IM_
