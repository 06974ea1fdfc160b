// long_conv_mma.cu - the long convolution with its transforms as matrix products on tensor cores (Monarch form, as
// FlashFFTConv, arXiv 2311.05908, has it), modulo z^n - i: a real row of n is n complex points, and the real part of the
// product is the convolution.
//
// n = R 256 points are R rows of 256. Down the columns a transform of R points (whose matrix holds the row's part of the twist,
// so real numbers go in), a turn, and along each row 256 points as a 16 x 16 matrix that stays in the registers of a warp:
// columns, turn, rows, the product with the spectrum, and all of it back. Rows wait in shared memory as halves, between the two
// sides of a group's barrier. Longer rows are C columns (long_conv_columns.cu) around that kernel.
//
// Numbers are T terms of F16 scaled by the row's power of two (transforms keep the sum of squares, so 16 bits of exponents hold
// everything): T = 1 where the node lets products round, T = 2 F32's own precision: 22 bits and products of the first two
// ranks.
#include "long_conv.h"

// A spectrum in parts of `scale` (a power of two, less than four of them), and the skip, as parts of a power of two that keeps
// their sum below one: times * spectrum + more, and that power, with which results are multiplied again. The last transform's
// 1/4 is in it.
FN void weights(float scale, float skip, float &times, float &more, float &total) {
    int of = (int)(BITS_OF(scale) >> 23), e = IMIN(IMAX(of + 2, (int)(BITS_OF(FABS(skip)) >> 23) + 1) + 2, 251);
    times = of + 125 > e ? FROM_BITS((uint)(of + 125 - e) << 23) : 0.0f;
    more = skip * FROM_BITS((uint)(252 - e) << 23);
    total = FROM_BITS((uint)e << 23);
}
// Two neighbours as register `part` of a fragment, by terms.
template <int T> FN void as_terms(uint (*f)[4], int part, const float *v) {
    uint terms[T];
    split_pair<T, true>(terms, v[0], v[1]);
#pragma unroll
    for (int j = 0; j < T; j++) f[j][part] = terms[j];
}

FN int log2_of(int n) {
    int l = 0;
    while (n >> (l + 1)) l++;
    return l;
}

// Shared memory: rows of 256 as planes of halves (terms, real and imaginary), turns between columns and rows as products of two
// factors [R][33] pairs, cosines of 4 R steps (terms), of 256 steps (times 1/4), of 64 steps (terms), the largest number that
// each warp has seen.
template <int R, int T> struct memory_of {
    static const int subrows = R < 16 ? 16 : R, planes = subrows * 2 * T * 512, turns = R * 33 * 8, steps = 4 * R * 4;
    static const int bytes = planes + turns + steps + 256 * 4 + 64 * 4 + 16 * 4;
};
// The place of 8 halves of a row's plane, such that no two that are touched together share a bank: by column chunks of a row
// (c, c + 1 ...), by rows 0 ... 7, by every other chunk.
template <int T> FN half_word *chunk_at(unsigned char *shared, int subrow, int plane, int c) {
    int turn = ((subrow & 1) << 2 | (subrow >> 1 & 3)) ^ (c >> 3 & 1);
    return (half_word *)(shared + (subrow * 2 * T + plane) * 512 + ((c ^ turn) << 4));
}

template <int R, int T, int WARPS, bool POINTS>
FN void convolve(unsigned char *shared, const float *u, const float *pre, const float *post, float *y, void *points,
                 const uint *spectrum, const float *scale, const uint *live, const float *skip, const long_conv_numbers &N) {
    typedef memory_of<R, T> M;
    const int subrows = M::subrows, rows_here = subrows / R, tiles = subrows / 16, twist = POINTS ? 0 : 1, log_r = log2_of(R),
              log_n = log_r + 8;
    // Warps that share a row's columns of 32 have different rows of the columns' transform; `each` tiles of those at a time.
    const int columns = R < 16 ? R / 2 : 8, sharers = R < 16 ? 1 : WARPS / 8,
              each = tiles / sharers < 2 || (POINTS && T > 1 && R > 16) ? 1 : 2;
    const float down_by =
        FROM_BITS((uint)(127 - (log_r + 1) / 2) << 23); // of the columns' transform, so that numbers stay as they are
    float *turn = (float *)(shared + M::planes);
    uint *steps = (uint *)(shared + M::planes + M::turns), *steps16 = steps + 4 * R + 256;
    float *quarter = (float *)(steps + 4 * R), *largest = (float *)(steps16 + 64);
    const int lane = WARP_LANE, warp = WARP_NUMBER, g = lane >> 2, t = lane & 3;

    // This warp's row and columns.
    const int row_here = R < 16 ? warp / columns : 0, group = R < 16 ? warp % columns : warp & 7,
              share = R < 16 ? 0 : warp >> 3;
    const int items = POINTS ? N.rows << N.log_outer : N.rows * N.segments;
    int item = GROUP_X * rows_here + row_here;
    const bool there = item < items;
    if (!there) item = items - 1;
    const int row = POINTS ? item % N.rows : item / N.segments, start = POINTS ? 0 : item % N.segments * N.valid - N.lead;
    const long long at_points = POINTS ? ((long long)row << N.log_outer | item / N.rows) << log_n : 0;
    if (!POINTS) {
        u += place(N.u, N, row);
        if (N.has_pre) pre += place(N.pre, N, row);
        if (N.has_post) post += place(N.post, N, row);
        y += place(N.y, N, row);
    }
    // Four columns of row i (0 ... 15) of tile k: their place in the row.
#define PLACE(i, k) (R < 16 ? (((i) & (R - 1)) << 8) + (i) / R * 16 * R + 32 * group : ((16 * (k) + (i)) << 8) + 32 * group)
#define LINE(i) (2 * t + ((i) & 1) + 8 * ((i) >> 1))

    for (int i = LOCAL; i < 32 * R; i += 32 * WARPS) {
        int r = i >> 5, p = i & 31, k = p < 16 ? 16 * p : p - 16, angle = (-k * (4 * r - twist)) & ((4 << log_n) - 1);
        float c, s;
        TURN2(angle, log_n + 2, c, s)
        float by = p < 16 ? down_by : 1.0f;
        turn[2 * (r * 33 + p)] = c * by;
        turn[2 * (r * 33 + p) + 1] = s * by;
    }
    for (int i = LOCAL; i < 4 * R; i += 32 * WARPS) {
        float c, s;
        TURN2(i, log_r + 2, c, s)
        steps[i] = entry<T>(c);
    }
    if (LOCAL < 256) {
        float c, s;
        TURN2(LOCAL, 8, c, s)
        quarter[LOCAL] = 0.25f * c;
        if ((LOCAL & 3) == 0) steps16[LOCAL >> 2] = entry<T>(c);
    }

    // The row's largest number.
    float most = 0.0f, up, down;
    for (int k = share; k < tiles; k += sharers)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float f[4], im[4];
            if (POINTS) {
#pragma unroll
                for (int h = 0; h < 4; h += 2) take_points<T>(f + h, im + h, points, at_points + PLACE(LINE(i), k) + 4 * g + h);
#pragma unroll
                for (int q = 0; q < 4; q++) most = FMAX(most, FABS(im[q]));
            } else {
                take4(f, u, pre, start + PLACE(LINE(i), k) + 4 * g, N);
            }
#pragma unroll
            for (int q = 0; q < 4; q++) most = FMAX(most, FABS(f[q]));
        }
    most = warp_largest(most);
    if (lane == 0) largest[warp] = most;
    BARRIER
    for (int i = 0; i < (R < 16 ? columns : WARPS); i++) most = FMAX(most, largest[R < 16 ? row_here * columns + i : i]);
    scales(most, POINTS ? 7 : 8, up, down);

    // Down the columns, of which tile q has those at 4 j + q.
    for (int m0 = share; m0 < tiles; m0 += each * sharers) {
        float re[each][4][4], im[each][4][4];
#pragma unroll
        for (int i = 0; i < each * 4; i++) clear4(re[i >> 2][i & 3]), clear4(im[i >> 2][i & 3]);
        for (int k = 0; k < tiles; k++) {
            uint b[4][T][2], bi[POINTS ? 4 : 1][T][2];
#pragma unroll
            for (int i = 0; i < 4; i += 2) {
                float f[2][4], fi[2][4];
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    if (POINTS) {
#pragma unroll
                        for (int p = 0; p < 4; p += 2)
                            take_points<T>(f[h] + p, fi[h] + p, points, at_points + PLACE(LINE(i + h), k) + 4 * g + p);
                    } else {
                        take4(f[h], u, pre, start + PLACE(LINE(i + h), k) + 4 * g, N);
                    }
                }
#pragma unroll
                for (int q = 0; q < 4; q++) {
                    uint terms[T];
                    split_pair<T, true>(terms, f[0][q] * up, f[1][q] * up);
#pragma unroll
                    for (int j = 0; j < T; j++) b[q][j][i >> 1] = terms[j];
                    if (POINTS) {
                        split_pair<T, true>(terms, fi[0][q] * up, fi[1][q] * up);
#pragma unroll
                        for (int j = 0; j < T; j++) bi[POINTS ? q : 0][j][i >> 1] = terms[j];
                    }
                }
            }
#pragma unroll
            for (int i = 0; i < each; i++) {
                uint ar[T][4], ai[T][4], an[T][4];
                turns<T>(ar, ai, steps, (m0 + i * sharers) * 16, k * 16, R, twist, false);
#pragma unroll
                for (int j = 0; j < 4 * T; j++) an[j >> 2][j & 3] = ai[j >> 2][j & 3] ^ SIGNS;
#pragma unroll
                for (int q = 0; q < 4; q++) {
                    if (POINTS) {
                        product2<T>(re[i][q], ar, b[q], an, bi[POINTS ? q : 0]);
                        product2<T>(im[i][q], ar, bi[POINTS ? q : 0], ai, b[q]);
                    } else {
                        product1<T>(re[i][q], ar, b[q]);
                        product1<T>(im[i][q], ai, b[q]);
                    }
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 2 * each; i++) {
            int line = (m0 + (i >> 1) * sharers) * 16 + g + 8 * (i & 1), r = line & (R - 1);
            int k0 = (R < 16 ? line / R * 16 * R : 0) + 32 * group + 8 * t; // and seven more
            float ac = turn[2 * (r * 33 + (k0 >> 4))], as = turn[2 * (r * 33 + (k0 >> 4)) + 1];
            uint wr[T][4], wi[T][4];
#pragma unroll
            for (int e = 0; e < 8; e += 2) {
                float vr[2], vi[2];
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const float *other = turn + 2 * (r * 33 + 16 + (k0 & 15) + e + h);
                    float c = FMA(ac, other[0], -(as * other[1])), s = FMA(ac, other[1], as * other[0]);
                    float x = re[i >> 1][(e + h) & 3][2 * (i & 1) + ((e + h) >> 2)],
                          z = im[i >> 1][(e + h) & 3][2 * (i & 1) + ((e + h) >> 2)];
                    vr[h] = FMA(x, c, -(z * s));
                    vi[h] = FMA(x, s, z * c);
                }
                uint terms[T];
                split_pair<T, true>(terms, vr[0], vr[1]);
#pragma unroll
                for (int j = 0; j < T; j++) wr[j][e >> 1] = terms[j];
                split_pair<T, true>(terms, vi[0], vi[1]);
#pragma unroll
                for (int j = 0; j < T; j++) wi[j][e >> 1] = terms[j];
            }
#pragma unroll
            for (int j = 0; j < T; j++) {
                int subrow = row_here * R + r;
                put4(chunk_at<T>(shared, subrow, 2 * j, k0 >> 3), wr[j]);
                put4(chunk_at<T>(shared, subrow, 2 * j + 1, k0 >> 3), wi[j]);
            }
        }
    }
    BARRIER

    // Rows of 256, a warp each. The matrix of 16 points is symmetric: its fragment serves from the left and, as pairs of
    // registers, from the right.
    uint fr[T][4], fi[T][4], fn[T][4], cr[2][T][2], ci[2][T][2], cn[2][T][2];
    turns<T>(fr, fi, steps16, 0, 0, 16, 0, false);
#pragma unroll
    for (int j = 0; j < T; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            fn[j][i] = fi[j][i] ^ SIGNS;
            cr[i & 1][j][i >> 1] = fr[j][i];
            ci[i & 1][j][i >> 1] = fi[j][i];
            cn[i & 1][j][i >> 1] = fn[j][i];
        }
    for (int subrow = warp; subrow < subrows; subrow += WARPS) {
        int r = R < 16 ? subrow & (R - 1) : subrow, of = GROUP_X * rows_here + subrow / R;
        of = IMIN(of, items - 1);
        int channel = POINTS ? (of % N.rows) / N.batch : of / N.segments / N.batch,
            line = POINTS ? channel << N.log_outer | of / N.rows : channel;
        float times, more, total;
        weights(scale[line], N.has_skip ? skip[(long long)channel * N.skip_stride] : 0.0f, times, more, total);
        const uint alive = more != 0.0f ? 3u : live[(long long)line * R + r];
        const uint *bins = spectrum + ((long long)line * R + r) * (T == 1 ? 256 : 512) + lane * (T == 1 ? 2 : 4);
        float xr[2][4], xi[2][4];
        uint br[2][T][2], bi[2][T][2], ar[T][4], ai[T][4];
        // Columns.
#pragma unroll
        for (int j = 0; j < T; j++) {
            uint w[4];
            int c = 2 * (lane & 15) + (lane >> 4);
            warp_load4_transposed(w, chunk_at<T>(shared, subrow, 2 * j, c));
#pragma unroll
            for (int i = 0; i < 4; i++) br[i >> 1][j][i & 1] = w[i];
            warp_load4_transposed(w, chunk_at<T>(shared, subrow, 2 * j + 1, c));
#pragma unroll
            for (int i = 0; i < 4; i++) bi[i >> 1][j][i & 1] = w[i];
        }
#pragma unroll
        for (int n = 0; n < 2; n++) {
            clear4(xr[n]);
            clear4(xi[n]);
            product2<T>(xr[n], fr, br[n], fn, bi[n]);
            product2<T>(xi[n], fr, bi[n], fi, br[n]);
        }
        // Turns; bins of the next transform begin at -4, so that the first eight are the lower half of the frequencies.
#pragma unroll
        for (int i = 0; i < 4; i++) { // tile i / 2 of columns, rows g + 8 (i % 2)
            float vr[2], vi[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int angle = ((8 * (i >> 1) + 2 * t + h) * (g + 8 * (i & 1) + 192)) & 255;
                float c = quarter[angle], s = quarter[(angle + 64) & 255], x = xr[i >> 1][2 * (i & 1) + h],
                      z = xi[i >> 1][2 * (i & 1) + h];
                vr[h] = FMA(x, c, -(z * s));
                vi[h] = FMA(x, s, z * c);
            }
            as_terms<T>(ar, i, vr);
            as_terms<T>(ai, i, vi);
        }
        // Rows, and the product with the spectrum. A half of the frequencies of which nothing is left is not computed.
#pragma unroll
        for (int n = 0; n < 2; n++) {
            clear4(xr[n]);
            clear4(xi[n]);
            if (alive >> n & 1) {
                uint w[2][4];
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    if (T == 1)
                        copy2(w[h], bins + (2 * n + h) * 64);
                    else
                        copy4(w[h], bins + (2 * n + h) * 128);
                }
                product2<T>(xr[n], ar, cr[n], ai, cn[n]);
                product2<T>(xi[n], ar, ci[n], ai, cr[n]);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    float hr = T == 1 ? unpack_f16(w[i >> 1][i & 1] & 0xffffu) : FROM_BITS(w[i >> 1][2 * (i & 1)]);
                    float hi =
                        T == 1 ? unpack_f16(w[i >> 1][i & 1] >> 16) : FROM_BITS(w[i >> 1][2 * (i & 1) + (T == 1 ? 0 : 1)]);
                    float x = xr[n][i], z = xi[n][i];
                    hr = FMA(hr, times, more);
                    hi *= times;
                    xr[n][i] = FMA(x, hr, -(z * hi));
                    xi[n][i] = FMA(x, hi, z * hr);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            as_terms<T>(ar, i, xr[i >> 1] + 2 * (i & 1));
            as_terms<T>(ai, i, xi[i >> 1] + 2 * (i & 1));
        }
        // And back: rows, turns, columns.
#pragma unroll
        for (int n = 0; n < 2; n++) {
            clear4(xr[n]);
            clear4(xi[n]);
            product2<T>(xr[n], ar, cr[n], ai, ci[n]);
            product2<T>(xi[n], ar, cn[n], ai, cr[n]);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float vr[2], vi[2];
            uint terms[T];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int angle = ((8 * (i >> 1) + 2 * t + h) * (g + 8 * (i & 1) + 192)) & 255;
                float c = quarter[angle], s = quarter[(angle + 64) & 255], x = xr[i >> 1][2 * (i & 1) + h],
                      z = xi[i >> 1][2 * (i & 1) + h];
                vr[h] = FMA(x, c, z * s);
                vi[h] = FMA(z, c, -(x * s));
            }
            split_pair<T, true>(terms, vr[0], vr[1]);
#pragma unroll
            for (int j = 0; j < T; j++) br[i >> 1][j][i & 1] = warp_transpose(terms[j]);
            split_pair<T, true>(terms, vi[0], vi[1]);
#pragma unroll
            for (int j = 0; j < T; j++) bi[i >> 1][j][i & 1] = warp_transpose(terms[j]);
        }
#pragma unroll
        for (int n = 0; n < 2; n++) {
            clear4(xr[n]);
            clear4(xi[n]);
            product2<T>(xr[n], fr, br[n], fi, bi[n]);
            product2<T>(xi[n], fr, bi[n], fn, br[n]);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int line16 = g + 8 * (i & 1), column = 8 * (i >> 1) + 2 * t;
            const float ac = turn[2 * (r * 33 + line16)], as = turn[2 * (r * 33 + line16) + 1];
            float vr[2], vi[2];
            uint terms[T];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float *other = turn + 2 * (r * 33 + 16 + column + h);
                float c = FMA(ac, other[0], -(as * other[1])), s = FMA(ac, other[1], as * other[0]),
                      x = xr[i >> 1][2 * (i & 1) + h], z = xi[i >> 1][2 * (i & 1) + h];
                vr[h] = FMA(x, c, z * s);
                vi[h] = FMA(z, c, -(x * s));
            }
            split_pair<T, true>(terms, vr[0], vr[1]);
#pragma unroll
            for (int j = 0; j < T; j++) ((uint *)chunk_at<T>(shared, subrow, 2 * j, 2 * line16 + (i >> 1)))[t] = terms[j];
            split_pair<T, true>(terms, vi[0], vi[1]);
#pragma unroll
            for (int j = 0; j < T; j++) ((uint *)chunk_at<T>(shared, subrow, 2 * j + 1, 2 * line16 + (i >> 1)))[t] = terms[j];
        }
    }
    BARRIER

    // Up the columns, of which a tile has eight neighbours.
    const int log_factor = 6 + (log_r + 1) / 2 * 2 - log_n, channel = row / N.batch,
              line = POINTS ? channel << N.log_outer | item / N.rows : channel;
    float times, more, total;
    weights(scale[line], N.has_skip ? skip[(long long)channel * N.skip_stride] : 0.0f, times, more, total);
    down *= FROM_BITS((uint)(127 + log_factor) << 23);
    for (int m0 = share; m0 < tiles; m0 += each * sharers) {
        float re[each][4][4], im[POINTS ? each : 1][4][4];
#pragma unroll
        for (int i = 0; i < each * 4; i++) {
            clear4(re[i >> 2][i & 3]);
            if (POINTS) clear4(im[POINTS ? i >> 2 : 0][i & 3]);
        }
        for (int k = 0; k < tiles; k++) {
            uint br[4][T][2], bi[4][T][2];
            const int line = 16 * k + (lane & 15), subrow = row_here * R + (R < 16 ? line & (R - 1) : line);
            const int c = (R < 16 ? line / R * 2 * R : 0) + 4 * group + (lane >> 4);
#pragma unroll
            for (int j = 0; j < T; j++)
#pragma unroll
                for (int h = 0; h < 4; h += 2) {
                    uint w[4];
                    warp_load4_transposed(w, chunk_at<T>(shared, subrow, 2 * j, c + h));
#pragma unroll
                    for (int i = 0; i < 4; i++) br[h + (i >> 1)][j][i & 1] = w[i];
                    warp_load4_transposed(w, chunk_at<T>(shared, subrow, 2 * j + 1, c + h));
#pragma unroll
                    for (int i = 0; i < 4; i++) bi[h + (i >> 1)][j][i & 1] = w[i];
                }
#pragma unroll
            for (int i = 0; i < each; i++) {
                uint ar[T][4], ai[T][4], an[T][4];
                turns<T>(ar, ai, steps, (m0 + i * sharers) * 16, k * 16, R, twist, true);
#pragma unroll
                for (int j = 0; j < 4 * T; j++) an[j >> 2][j & 3] = ai[j >> 2][j & 3] ^ SIGNS;
#pragma unroll
                for (int q = 0; q < 4; q++) {
                    product2<T>(re[i][q], ar, br[q], ai, bi[q]);
                    if (POINTS) product2<T>(im[POINTS ? i : 0][q], ar, bi[q], an, br[q]);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 2 * each; i++)
#pragma unroll
            for (int q = 0; q < 4; q++) {
                const int at = PLACE(g + 8 * (i & 1), m0 + (i >> 1) * sharers) + 8 * q + 2 * t, h = 2 * (i & 1);
                float a = re[i >> 1][q][h] * down * total, b = re[i >> 1][q][h + 1] * down * total;
                if (POINTS) {
                    float vr[2] = {a, b}, vi[2] = {im[POINTS ? i >> 1 : 0][q][h] * down * total,
                                                   im[POINTS ? i >> 1 : 0][q][h + 1] * down * total};
                    if (there) give_points<T>(points, at_points + at, vr, vi);
                } else {
                    const int to = start + at, end = IMIN(N.lead + N.valid, N.length - start);
                    give2(y, post, to, a, b, there && at >= N.lead && at < end, there && at >= N.lead && at + 1 < end, N);
                }
            }
    }
#undef PLACE
#undef LINE
}

#define CONVOLVE(name, R, T, WARPS, POINTS)                                                                                                       \
    HEAD(name, 32 * WARPS)(const float *__restrict__ u, const float *__restrict__ pre, const float *post, float *y, void *points,                 \
                           const uint *__restrict__ spectrum, const float *__restrict__ scale, const uint *__restrict__ live, const float *__restrict__ skip, \
                           const __grid_constant__ long_conv_numbers N) {                                                                         \
        DYNAMIC_SHARED(shared)                                                                                                                    \
        convolve<R, T, WARPS, POINTS>(shared, u, pre, post, y, points, spectrum, scale, live, skip, N);                                           \
    }
CONVOLVE(long_conv_2_f16, 2, 1, 8, false)
CONVOLVE(long_conv_4_f16, 4, 1, 8, false)
CONVOLVE(long_conv_8_f16, 8, 1, 8, false)
CONVOLVE(long_conv_16_f16, 16, 1, 8, false)
CONVOLVE(long_conv_32_f16, 32, 1, 8, false)
CONVOLVE(long_conv_64_f16, 64, 1, 16, false)
CONVOLVE(long_conv_128_f16, 128, 1, 16, false)
CONVOLVE(long_conv_2_f16x2, 2, 2, 8, false)
CONVOLVE(long_conv_4_f16x2, 4, 2, 8, false)
CONVOLVE(long_conv_8_f16x2, 8, 2, 8, false)
CONVOLVE(long_conv_16_f16x2, 16, 2, 8, false)
CONVOLVE(long_conv_32_f16x2, 32, 2, 8, false)
CONVOLVE(long_conv_64_f16x2, 64, 2, 16, false)
CONVOLVE(long_conv_inner_8_f16, 8, 1, 8, true)
CONVOLVE(long_conv_inner_4_f16x2, 4, 2, 8, true)
CONVOLVE(long_conv_inner_8_f16x2, 8, 2, 8, true)
CONVOLVE(long_conv_inner_16_f16, 16, 1, 8, true)
CONVOLVE(long_conv_inner_64_f16, 64, 1, 16, true)
CONVOLVE(long_conv_inner_16_f16x2, 16, 2, 8, true)
CONVOLVE(long_conv_inner_64_f16x2, 64, 2, 16, true)
