/* fft_op_rows.h - what is done before and after a transform, once for blocks of lanes and once for pairs of a single row.
 * Included by fft_op.c with E (vf or float), N(name) and IM (distance of an imaginary part; a complex number has 2 IM
 * floats). */

#define RE_(z, k) (*(U *)((z) + 2 * IM * (k)))
#define IM_(z, k) (*(U *)((z) + 2 * IM * (k) + IM))

/* z: the transform of x[2j] + i x[2j+1], h points. Becomes the h + 1 first ones of the transform of x. w: e^(2 pi i k/(2h)). */
static void N(split)(float *z, int64_t h, const float *w, float scale) {
    E a = RE_(z, 0), b = IM_(z, 0), none = {0};
    RE_(z, 0) = (a + b) * scale, IM_(z, 0) = none;
    RE_(z, h) = (a - b) * scale, IM_(z, h) = none;
    scale *= 0.5f;
    for (int64_t k = 1; k <= h - k; k++) {
        E pr = RE_(z, k), pi = IM_(z, k), qr = RE_(z, h - k), qi = IM_(z, h - k);
        E er = (pr + qr) * scale, ei = (pi - qi) * scale, odd_r = (pi + qi) * scale, odd_i = (qr - pr) * scale;
        E dr = odd_r * w[2 * k] + odd_i * w[2 * k + 1], di = odd_i * w[2 * k] - odd_r * w[2 * k + 1];
        RE_(z, k) = er + dr, IM_(z, k) = ei + di;
        RE_(z, h - k) = er - dr, IM_(z, h - k) = di - ei;
    }
}

/* The way back: from h + 1 numbers to the h whose backward transform is x[2j] + i x[2j+1]. */
static void N(merge)(float *z, int64_t h, const float *w, float scale) {
    E a = RE_(z, 0), b = RE_(z, h);
    RE_(z, 0) = (a + b) * scale, IM_(z, 0) = (a - b) * scale;
    for (int64_t k = 1; k <= h - k; k++) {
        E pr = RE_(z, k), pi = IM_(z, k), qr = RE_(z, h - k), qi = IM_(z, h - k);
        E er = (pr + qr) * scale, ei = (pi - qi) * scale, dr = (pr - qr) * scale, di = (pi + qi) * scale;
        E odd_r = dr * w[2 * k] - di * w[2 * k + 1], odd_i = di * w[2 * k] + dr * w[2 * k + 1];
        RE_(z, k) = er - odd_i, IM_(z, k) = ei + odd_r;
        RE_(z, h - k) = er + odd_i, IM_(z, h - k) = odd_r - ei;
    }
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
static void N(size)(float *z, int64_t n, bool square) {
    for (int64_t k = 0; k < n; k++) {
        E r = RE_(z, k), i = IM_(z, k);
        RE_(z, k) = square ? r * r + i * i : N(length)(r, i);
    }
}

#undef RE_
#undef IM_
