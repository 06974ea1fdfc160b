// long_conv_mma.cu - the long convolution with its transforms as matrix products on tensor cores (Monarch form, as FlashFFTConv, arXiv
// 2311.05908, has it), modulo z^n - i: a real row of n is n complex points, and the real part of the product is the convolution.
//
// n = R 256 points are R rows of 256. Down the columns a transform of R points (whose matrix holds the row's part of the twist, so real
// numbers go in), a turn, and along each row 256 points as a 16 x 16 matrix that stays in the registers of a warp: columns, turn, rows, the
// product with the spectrum, and all of it back. Rows wait in shared memory as halves, between the two sides of a group's barrier.
// Longer rows are C columns (long_conv_outer, long_conv_back) around that kernel.
//
// Numbers are T terms of F16 scaled by the row's power of two (transforms keep the sum of squares, so 16 bits of exponents hold everything):
// T = 1 where the node lets products round, T = 2 F32's own precision: 22 bits and products of the first two ranks.
#include "dialect_cuda.h"
#include "math.k"
#include "fft.k"
#include "numbers.h"
#include "warp.h"

#define SIGNS 0x80008000u

FN void copy4(uint *to, const void *from) {
#ifdef EMULATED_CUDA
    memcpy(to, from, 16);
#else
    uint4 v = *(const uint4 *)from;
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
#endif
}
FN void put4(void *to, const uint *from) {
#ifdef EMULATED_CUDA
    memcpy(to, from, 16);
#else
    *(uint4 *)to = make_uint4(from[0], from[1], from[2], from[3]);
#endif
}
FN void copy2(uint *to, const void *from) {
#ifdef EMULATED_CUDA
    memcpy(to, from, 8);
#else
    uint2 v = *(const uint2 *)from;
    to[0] = v.x, to[1] = v.y;
#endif
}
FN void put2(void *to, uint a, uint b) {
#ifdef EMULATED_CUDA
    uint w[2] = {a, b};
    memcpy(to, w, 8);
#else
    *(uint2 *)to = make_uint2(a, b);
#endif
}

// ---- products of numbers in T terms ----

// c += a b.
template <int T> FN void product1(float *c, const uint (*a)[4], const uint (*b)[2]) {
    if (T == 1) {
        warp_mma<true>(c, a[0], b[0][0], b[0][1]);
    } else { // small products first; each step is added outside of the tensor core, which cuts off where it should round
        float p[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        warp_mma<true>(p, a[T - 1], b[0][0], b[0][1]);
        warp_mma<true>(p, a[0], b[T - 1][0], b[T - 1][1]);
        warp_mma<true>(p, a[0], b[0][0], b[0][1]);
#pragma unroll
        for (int i = 0; i < 4; i++) c[i] += p[i];
    }
}
// c += a0 b0 + a1 b1.
template <int T> FN void product2(float *c, const uint (*a0)[4], const uint (*b0)[2], const uint (*a1)[4], const uint (*b1)[2]) {
    if (T == 1) {
        warp_mma<true>(c, a0[0], b0[0][0], b0[0][1]);
        warp_mma<true>(c, a1[0], b1[0][0], b1[0][1]);
    } else {
        float p[4] = {0.0f, 0.0f, 0.0f, 0.0f}, q[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        warp_mma<true>(p, a0[T - 1], b0[0][0], b0[0][1]);
        warp_mma<true>(p, a0[0], b0[T - 1][0], b0[T - 1][1]);
        warp_mma<true>(p, a1[T - 1], b1[0][0], b1[0][1]);
        warp_mma<true>(p, a1[0], b1[T - 1][0], b1[T - 1][1]);
        warp_mma<true>(p, a0[0], b0[0][0], b0[0][1]);
        warp_mma<true>(q, a1[0], b1[0][0], b1[0][1]);
#pragma unroll
        for (int i = 0; i < 4; i++) c[i] += p[i] + q[i];
    }
}
FN void clear4(float *c) { c[0] = c[1] = c[2] = c[3] = 0.0f; }

// A pair of table entries (two halves each: the number's terms, the first one low) as a register of a fragment, by terms.
template <int T> FN void entries(uint (*f)[4], int part, uint e0, uint e1) {
    f[0][part] = (e0 & 0xffffu) | (e1 << 16);
    if (T > 1) f[T - 1][part] = (e0 >> 16) | (e1 & 0xffff0000u);
}
template <int T> FN uint entry(float v) {
    uint terms[T];
    split_pair<T, true>(terms, v, 0.0f);
    return (terms[0] & 0xffffu) | (T > 1 ? terms[T - 1] << 16 : 0u);
}
// The fragment of rows row0 ..., columns column0 ... of e^(-2 pi i j (4 r - TWIST) / 4 R) as real and imaginary part, r the row and j the
// column, or with `back` the other way round; rows and columns of R < 16 are several blocks. table: cosines of 4 R steps.
template <int T> FN void turns(uint (*re)[4], uint (*im)[4], const uint *table, int row0, int column0, int R, int twist, bool back) {
    const int lane = WARP_LANE, mask = 4 * R - 1;
#pragma unroll
    for (int part = 0; part < 4; part++) {
        int row = row0 + (lane >> 2) + 8 * (part & 1), column = column0 + 2 * (lane & 3) + 8 * (part >> 1);
        uint c[2], s[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int a = row, b = column + i;
            bool same = R >= 16 || a / R == b / R;
            if (R < 16) a &= R - 1, b &= R - 1;
            int angle = (back ? a * (4 * b - twist) : b * (4 * a - twist)) & mask;
            c[i] = same ? table[angle] : 0u;
            s[i] = same ? table[(angle + R) & mask] : 0u;
        }
        entries<T>(re, part, c[0], c[1]);
        entries<T>(im, part, s[0], s[1]);
    }
}

// The largest of a warp; of numbers that are not negative.
FN float warp_largest(float v) {
#pragma unroll
    for (int i = 1; i < 32; i *= 2) v = FMAX(v, warp_xor(v, i));
    return v;
}
// Powers of two: what makes the largest number smaller than 2^bits, and its inverse.
FN void scales(float most, int bits, float &up, float &down) {
    int e = IMIN(IMAX((int)(BITS_OF(most) >> 23), bits), 255);
    up = FROM_BITS((uint)(253 + bits - e) << 23);
    down = FROM_BITS((uint)(e - bits + 1) << 23);
}

// ---- rows of the operator, and points in working memory ----

FN long long place(const int *strides, const long_conv_numbers &N, int row) {
    int entry = row % N.batch + N.entry, channel = row / N.batch;
    return (long long)(entry / N.inner) * strides[0] + (long long)(entry % N.inner) * strides[1] + (long long)channel * strides[2];
}
// Four numbers of a row from t on (a multiple of four), gated; zeros outside of it.
FN void take4(float *f, const float *u, const float *pre, int t, const long_conv_numbers &N) {
    uint w[4];
    if (N.fast && t >= 0 && t + 3 < N.length) {
        copy4(w, u + t);
#pragma unroll
        for (int i = 0; i < 4; i++) f[i] = FROM_BITS(w[i]);
        if (N.has_pre) {
            copy4(w, pre + t);
#pragma unroll
            for (int i = 0; i < 4; i++) f[i] *= FROM_BITS(w[i]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            f[i] = 0.0f;
            if (t + i >= 0 && t + i < N.length) f[i] = u[t + i] * (N.has_pre ? pre[t + i] : 1.0f);
        }
    }
}
// Two results, from t on (even).
FN void give2(float *y, const float *post, int t, float a, float b, bool first, bool second, const long_conv_numbers &N) {
    if (N.fast && first && second) {
        uint w[2];
        if (N.has_post) {
            copy2(w, post + t);
            a *= FROM_BITS(w[0]);
            b *= FROM_BITS(w[1]);
        }
        put2(y + t, BITS_OF(a), BITS_OF(b));
    } else {
        if (first) y[t] = N.has_post ? a * post[t] : a;
        if (second) y[t + 1] = N.has_post ? b * post[t + 1] : b;
    }
}
// Points in working memory: pairs of F32 (T = 2), or of BF16 (T = 1). Two of them from `at` on.
template <int T> FN void take_points(float *re, float *im, const void *points, long long at) {
    if (T == 1) {
        uint w[2];
        copy2(w, (const uint *)points + at);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            re[i] = FROM_BITS(w[i] << 16);
            im[i] = FROM_BITS(w[i] & 0xffff0000u);
        }
    } else {
        uint w[4];
        copy4(w, (const float *)points + 2 * at);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            re[i] = FROM_BITS(w[2 * i]);
            im[i] = FROM_BITS(w[2 * i + 1]);
        }
    }
}
template <int T> FN void give_points(void *points, long long at, const float *re, const float *im) {
    if (T == 1) {
        put2((uint *)points + at, pack_bf16(re[0], im[0]), pack_bf16(re[1], im[1]));
    } else {
        uint w[4] = {BITS_OF(re[0]), BITS_OF(im[0]), BITS_OF(re[1]), BITS_OF(im[1])};
        put4((float *)points + 2 * at, w);
    }
}

// ---- rows that one group holds ----

// A spectrum in parts of `scale` (a power of two, less than four of them), and the skip, as parts of a power of two that keeps their sum below one:
// times * spectrum + more, and that power, with which results are multiplied again. The last transform's 1/4 is in it.
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

// Shared memory: rows of 256 as planes of halves (terms, real and imaginary), turns between columns and rows as products of two factors
// [R][33] pairs, cosines of 4 R steps (terms), of 256 steps (times 1/4), of 64 steps (terms), the largest number that each warp has seen.
template <int R, int T> struct memory_of {
    static const int subrows = R < 16 ? 16 : R, planes = subrows * 2 * T * 512, turns = R * 33 * 8, steps = 4 * R * 4;
    static const int bytes = planes + turns + steps + 256 * 4 + 64 * 4 + 16 * 4;
};
// The place of 8 halves of a row's plane, such that no two that are touched together share a bank: by column chunks of a row (c, c + 1 ...),
// by rows 0 ... 7, by every other chunk.
template <int T> FN half_word *chunk_at(unsigned char *shared, int subrow, int plane, int c) {
    int turn = ((subrow & 1) << 2 | (subrow >> 1 & 3)) ^ (c >> 3 & 1);
    return (half_word *)(shared + (subrow * 2 * T + plane) * 512 + ((c ^ turn) << 4));
}

template <int R, int T, int WARPS, bool POINTS>
FN void convolve(unsigned char *shared, const float *u, const float *pre, const float *post, float *y, void *points, const uint *spectrum, const float *scale,
                 const uint *live, const float *skip, const long_conv_numbers &N) {
    typedef memory_of<R, T> M;
    const int subrows = M::subrows, rows_here = subrows / R, tiles = subrows / 16, twist = POINTS ? 0 : 1, log_r = log2_of(R), log_n = log_r + 8;
    // Warps that share a row's columns of 32 have different rows of the columns' transform; `each` tiles of those at a time.
    const int columns = R < 16 ? R / 2 : 8, sharers = R < 16 ? 1 : WARPS / 8, each = tiles / sharers < 2 || (POINTS && T > 1 && R > 16) ? 1 : 2;
    const float down_by = FROM_BITS((uint)(127 - (log_r + 1) / 2) << 23); // of the columns' transform, so that numbers stay as they are
    float *turn = (float *)(shared + M::planes);
    uint *steps = (uint *)(shared + M::planes + M::turns), *steps16 = steps + 4 * R + 256;
    float *quarter = (float *)(steps + 4 * R), *largest = (float *)(steps16 + 64);
    const int lane = WARP_LANE, warp = WARP_NUMBER, g = lane >> 2, t = lane & 3;

    // This warp's row and columns.
    const int row_here = R < 16 ? warp / columns : 0, group = R < 16 ? warp % columns : warp & 7, share = R < 16 ? 0 : warp >> 3;
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
                        for (int p = 0; p < 4; p += 2) take_points<T>(f[h] + p, fi[h] + p, points, at_points + PLACE(LINE(i + h), k) + 4 * g + p);
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
                    float x = re[i >> 1][(e + h) & 3][2 * (i & 1) + ((e + h) >> 2)], z = im[i >> 1][(e + h) & 3][2 * (i & 1) + ((e + h) >> 2)];
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

    // Rows of 256, a warp each. The matrix of 16 points is symmetric: its fragment serves from the left and, as pairs of registers, from the right.
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
        int channel = POINTS ? (of % N.rows) / N.batch : of / N.segments / N.batch, line = POINTS ? channel << N.log_outer | of / N.rows : channel;
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
                float c = quarter[angle], s = quarter[(angle + 64) & 255], x = xr[i >> 1][2 * (i & 1) + h], z = xi[i >> 1][2 * (i & 1) + h];
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
                    float hi = T == 1 ? unpack_f16(w[i >> 1][i & 1] >> 16) : FROM_BITS(w[i >> 1][2 * (i & 1) + (T == 1 ? 0 : 1)]);
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
                float c = quarter[angle], s = quarter[(angle + 64) & 255], x = xr[i >> 1][2 * (i & 1) + h], z = xi[i >> 1][2 * (i & 1) + h];
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
                float c = FMA(ac, other[0], -(as * other[1])), s = FMA(ac, other[1], as * other[0]), x = xr[i >> 1][2 * (i & 1) + h], z = xi[i >> 1][2 * (i & 1) + h];
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
    const int log_factor = 6 + (log_r + 1) / 2 * 2 - log_n, channel = row / N.batch, line = POINTS ? channel << N.log_outer | item / N.rows : channel;
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
                    float vr[2] = {a, b}, vi[2] = {im[POINTS ? i >> 1 : 0][q][h] * down * total, im[POINTS ? i >> 1 : 0][q][h + 1] * down * total};
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

// ---- spectra ----

// From F32 in bit-reversed order to the order in which fragments hold them, each row of m = 256 R points scaled to less than 4 (scale: of
// what), pairs of F32 (T = 2) or F16. live: which halves of the frequencies of each row of 256 are there at all.
template <int T> FN void arrange(const float *bins, uint *spectrum, float *scale, uint *live, const spectra_numbers &N) {
    SHARED(float, largest, 8)
    SHARED(uint, there, 256)
    const int log_m = 8 + N.log_r, R = 1 << N.log_r, line = GROUP_X, channel = line >> N.log_outer, outer = line & ((1 << N.log_outer) - 1);
    bins += ((long long)channel << (log_m + N.log_outer) | (long long)(N.log_outer ? f_reverse(outer) >> (16 - N.log_outer) : 0) << log_m) * 2;
    float most = 0.0f, up, down;
    for (int i = LOCAL; i < 2 << log_m; i += 256) most = FMAX(most, FABS(bins[i]));
    most = warp_largest(most);
    if (WARP_LANE == 0) largest[WARP_NUMBER] = most;
    if (LOCAL < 2 * R) there[LOCAL] = 0u;
    BARRIER
    for (int i = 0; i < 8; i++) most = FMAX(most, largest[i]);
    scales(most, 2, up, down);
    for (int i = LOCAL; i < 1 << (log_m - 1); i += 256) {
        int r = i >> 7, n = i >> 6 & 1, lane = i & 31, alpha = (lane >> 2) + 8 * (i >> 5 & 1);
        float v[4];
        bool any = false;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int beta = (8 * n + 2 * (lane & 3) + h + 12) & 15, from = f_reverse(r + ((alpha + 16 * beta) << N.log_r)) >> (16 - log_m);
            v[2 * h] = bins[2 * from] * up;
            v[2 * h + 1] = bins[2 * from + 1] * up;
        }
        if (T == 1) {
            uint a = pack_f16(v[0], v[1]), b = pack_f16(v[2], v[3]);
            any = ((a | b) & 0x7fff7fffu) != 0u;
            put2(spectrum + ((long long)line << log_m) + 2 * i, a, b);
        } else {
            uint w[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                w[j] = BITS_OF(v[j]);
                any = any || (w[j] & 0x7fffffffu) > 0x31000000u; // 2^-30 of the largest, which is below 4
            }
            put4(spectrum + ((long long)line << (log_m + 1)) + 4 * i, w);
        }
        if (any) there[2 * r + n] = 1u;
    }
    BARRIER
    if (LOCAL < R) live[(long long)line * R + LOCAL] = there[2 * LOCAL] | there[2 * LOCAL + 1] << 1;
    if (LOCAL == 0) scale[line] = down;
}
HEAD(long_conv_spectra_f16, 256)(const float *__restrict__ bins, uint *spectrum, float *scale, uint *live, const __grid_constant__ spectra_numbers N) {
    arrange<1>(bins, spectrum, scale, live, N);
}
HEAD(long_conv_spectra_f16x2, 256)(const float *__restrict__ bins, uint *spectrum, float *scale, uint *live, const __grid_constant__ spectra_numbers N) {
    arrange<2>(bins, spectrum, scale, live, N);
}

// ---- columns of longer rows ----

// Of C 16 ... 256 columns' points a group has W (C W = 4096 or, of 256, 8192), in shared memory as planes of halves with rows of W + 8, behind
// the cosines of 4 C steps. Eight warps have tiles of 16 rows and 32 columns.
#define OUTER_START                                                                                                              \
    const int log_c = N.log_outer, C = 1 << log_c, W = log_c > 7 ? 32 : 4096 >> log_c, log_w = log_c > 7 ? 5 : 12 - log_c;       \
    const int log_n = log_c + N.log_inner, row = GROUP_Y, column0 = GROUP_X * W, stride = W + 8;                                 \
    const int lane = WARP_LANE, warp = WARP_NUMBER, g = lane >> 2, t = lane & 3;                                                 \
    const long long at_points = (long long)row << log_n;                                                                         \
    uint *steps = (uint *)shared;                                                                                                \
    float *largest = (float *)(steps + 4 * C);                                                                                   \
    half_word *tile = (half_word *)(largest + 16);                                                                               \
    float most = 0.0f, up, down;                                                                                                 \
    for (int i = LOCAL; i < 4 * C; i += 256) {                                                                                   \
        float c, s;                                                                                                              \
        TURN2(i, log_c + 2, c, s)                                                                                                \
        steps[i] = entry<T>(c);                                                                                                  \
    }
#define OUTER_SCALE(bits)                                                                                                        \
    most = warp_largest(most);                                                                                                   \
    if (lane == 0) largest[warp] = most;                                                                                         \
    BARRIER                                                                                                                      \
    for (int i = 0; i < 8; i++) most = FMAX(most, largest[i]);                                                                   \
    scales(most, bits, up, down);

template <int T> FN void outer_forward(unsigned char *shared, const float *u, const float *pre, void *points, const long_conv_numbers &N) {
    OUTER_START
    u += place(N.u, N, row);
    if (N.has_pre) pre += place(N.pre, N, row);
    for (int i = LOCAL; i < (C << log_w) / 4; i += 256) {
        float f[4];
        take4(f, u, pre, (i >> (log_w - 2) << N.log_inner) + column0 + 4 * (i & (W / 4 - 1)), N);
#pragma unroll
        for (int q = 0; q < 4; q++) most = FMAX(most, FABS(f[q]));
    }
    OUTER_SCALE(8)
    for (int i = LOCAL; i < (C << log_w) / 4; i += 256) {
        float f[4];
        uint a[T], b[T];
        take4(f, u, pre, (i >> (log_w - 2) << N.log_inner) + column0 + 4 * (i & (W / 4 - 1)), N);
        split_pair<T, true>(a, f[0] * up, f[1] * up);
        split_pair<T, true>(b, f[2] * up, f[3] * up);
#pragma unroll
        for (int j = 0; j < T; j++) put2(tile + (j * C + (i >> (log_w - 2))) * stride + 4 * (i & (W / 4 - 1)), a[j], b[j]);
    }
    BARRIER
    for (int i = warp; i < C / 16 * (W / 32); i += 8) {
        const int m = i & (C / 16 - 1), columns = i >> (log_c - 4) << 5;
        float re[4][4], im[4][4];
#pragma unroll
        for (int q = 0; q < 4; q++) clear4(re[q]), clear4(im[q]);
        for (int k = 0; k < C; k += 16) {
            uint b[4][T][2], ar[T][4], ai[T][4];
#pragma unroll
            for (int j = 0; j < T; j++)
#pragma unroll
                for (int h = 0; h < 4; h += 2) {
                    uint w[4];
                    warp_load4_transposed(w, tile + (j * C + k + (lane & 15)) * stride + columns + 8 * (h + (lane >> 4)));
#pragma unroll
                    for (int p = 0; p < 4; p++) b[h + (p >> 1)][j][p & 1] = w[p];
                }
            turns<T>(ar, ai, steps, 16 * m, k, C, 1, false);
#pragma unroll
            for (int q = 0; q < 4; q++) {
                product1<T>(re[q], ar, b[q]);
                product1<T>(im[q], ai, b[q]);
            }
        }
        const int first = column0 + columns + 2 * t, all = (4 << log_n) - 1;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int r = 16 * m + g + 8 * h, step = 4 * r - 1;
            float c0, s0, c1, s1, c8, s8;
            int angle = (-first * step) & all;
            TURN2(angle, log_n + 2, c0, s0)
            angle = -step & all;
            TURN2(angle, log_n + 2, c1, s1)
            angle = (-8 * step) & all;
            TURN2(angle, log_n + 2, c8, s8)
#pragma unroll
            for (int q = 0; q < 4; q++) {
                float vr[2], vi[2], c = c0, s = s0;
#pragma unroll
                for (int p = 0; p < 2; p++) {
                    float x = re[q][2 * h + p] * down, z = im[q][2 * h + p] * down;
                    vr[p] = FMA(x, c, -(z * s));
                    vi[p] = FMA(x, s, z * c);
                    c = FMA(c0, c1, -(s0 * s1));
                    s = FMA(c0, s1, s0 * c1);
                }
                give_points<T>(points, at_points + ((long long)r << N.log_inner) + first + 8 * q, vr, vi);
                c = FMA(c0, c8, -(s0 * s8));
                s0 = FMA(c0, s8, s0 * c8);
                c0 = c;
            }
        }
    }
}

template <int T> FN void outer_back(unsigned char *shared, const void *points, const float *post, float *y, const long_conv_numbers &N) {
    OUTER_START
    const int all = (4 << log_n) - 1;
    y += place(N.y, N, row);
    if (N.has_post) post += place(N.post, N, row);
    for (int i = LOCAL; i < (C << log_w) / 2; i += 256) {
        float re[2], im[2];
        take_points<T>(re, im, points, at_points + ((long long)(i >> (log_w - 1)) << N.log_inner) + column0 + 2 * (i & (W / 2 - 1)));
#pragma unroll
        for (int q = 0; q < 2; q++) most = FMAX(most, FMAX(FABS(re[q]), FABS(im[q])));
    }
    OUTER_SCALE(7)
    for (int i = LOCAL; i < (C << log_w) / 2; i += 256) {
        const int r = i >> (log_w - 1), column = column0 + 2 * (i & (W / 2 - 1)), step = 4 * r - 1;
        float re[2], im[2], vr[2], vi[2];
        take_points<T>(re, im, points, at_points + ((long long)r << N.log_inner) + column);
#pragma unroll
        for (int q = 0; q < 2; q++) {
            int angle = ((column + q) * step) & all;
            float c, s;
            TURN2(angle, log_n + 2, c, s)
            vr[q] = FMA(re[q], c, -(im[q] * s)) * up;
            vi[q] = FMA(re[q], s, im[q] * c) * up;
        }
        uint a[T], b[T];
        split_pair<T, true>(a, vr[0], vr[1]);
        split_pair<T, true>(b, vi[0], vi[1]);
#pragma unroll
        for (int j = 0; j < T; j++) {
            *(uint *)(tile + (2 * j * C + r) * stride + column - column0) = a[j];
            *(uint *)(tile + ((2 * j + 1) * C + r) * stride + column - column0) = b[j];
        }
    }
    BARRIER
    down *= FROM_BITS((uint)(127 - log_c) << 23);
    for (int i = warp; i < C / 16 * (W / 32); i += 8) {
        const int m = i & (C / 16 - 1), columns = i >> (log_c - 4) << 5;
        float sum[4][4];
#pragma unroll
        for (int q = 0; q < 4; q++) clear4(sum[q]);
        for (int k = 0; k < C; k += 16) {
            uint br[4][T][2], bi[4][T][2], ar[T][4], ai[T][4];
#pragma unroll
            for (int j = 0; j < T; j++)
#pragma unroll
                for (int h = 0; h < 4; h += 2) {
                    uint w[4];
                    warp_load4_transposed(w, tile + (2 * j * C + k + (lane & 15)) * stride + columns + 8 * (h + (lane >> 4)));
#pragma unroll
                    for (int p = 0; p < 4; p++) br[h + (p >> 1)][j][p & 1] = w[p];
                    warp_load4_transposed(w, tile + ((2 * j + 1) * C + k + (lane & 15)) * stride + columns + 8 * (h + (lane >> 4)));
#pragma unroll
                    for (int p = 0; p < 4; p++) bi[h + (p >> 1)][j][p & 1] = w[p];
                }
            turns<T>(ar, ai, steps, 16 * m, k, C, 1, true);
#pragma unroll
            for (int q = 0; q < 4; q++) product2<T>(sum[q], ar, br[q], ai, bi[q]);
        }
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int q = 0; q < 4; q++) {
                const int to = ((16 * m + g + 8 * h) << N.log_inner) + column0 + columns + 8 * q + 2 * t;
                give2(y, post, to, sum[q][2 * h] * down, sum[q][2 * h + 1] * down, to < N.length, to + 1 < N.length, N);
            }
    }
}

#define OUTER(name, T)                                                                                                                             \
    HEAD(long_conv_outer_##name, 256)(const float *__restrict__ u, const float *__restrict__ pre, void *points, const __grid_constant__ long_conv_numbers N) { \
        DYNAMIC_SHARED(shared)                                                                                                                     \
        outer_forward<T>(shared, u, pre, points, N);                                                                                               \
    }                                                                                                                                              \
    HEAD(long_conv_back_##name, 256)(const void *__restrict__ points, const float *post, float *y, const __grid_constant__ long_conv_numbers N) { \
        DYNAMIC_SHARED(shared)                                                                                                                     \
        outer_back<T>(shared, points, post, y, N);                                                                                                 \
    }
OUTER(f16, 1)
OUTER(f16x2, 2)
