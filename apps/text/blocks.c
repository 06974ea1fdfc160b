/* blocks.c - quantisation by blocks. See blocks.h.
 *
 * Every block is the one of several candidates whose squared error is least: scales around the obvious one are tried, and for
 * each the best factor for the rounded numbers is solved for. What decides is the error with the stored (half precision, six
 * bit) scales. */
#include "blocks.h"

#include <math.h>
#include <string.h>

int64_t block_elements(strand_dtype type) {
    return type == STRAND_Q8_0 || type == STRAND_Q4_0 ? 32 : type == STRAND_Q4_K || type == STRAND_Q6_K ? 256 : 0;
}

int64_t block_bytes(strand_dtype type) {
    return type == STRAND_Q8_0 ? 34 : type == STRAND_Q4_0 ? 18 : type == STRAND_Q4_K ? 144 : type == STRAND_Q6_K ? 210 : 0;
}

uint16_t half_from(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    uint32_t sign = u >> 16 & 0x8000, e = u >> 23 & 255, m = u & 0x7FFFFF;
    if (e == 255) return (uint16_t)(sign | 0x7C00 | (m ? 0x200 : 0));
    if (e > 142) return (uint16_t)(sign | 0x7C00);
    if (e < 102) return (uint16_t)sign;
    int shift = e > 112 ? 13 : (int)(126 - e);
    uint32_t whole = e > 112 ? (e - 112) << 23 | m : m | 0x800000, kept = whole >> shift, rest = whole & ((1u << shift) - 1),
             half = 1u << (shift - 1);
    if (rest > half || (rest == half && (kept & 1))) kept++;
    return (uint16_t)(sign | kept);
}

float half_to(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023;
    float x = e == 31 ? (m ? NAN : INFINITY) : e ? ldexpf((float)(1024 + m), (int)e - 25) : ldexpf((float)m, -24);
    return sign ? -x : x;
}

static void put_half(unsigned char *out, float x) {
    uint16_t h = half_from(x);
    out[0] = (unsigned char)h;
    out[1] = (unsigned char)(h >> 8);
}

static int rounded(float x, int low, int high) {
    long i = lrintf(x);
    return i < low ? low : i > high ? high : (int)i;
}

/* ---- one scale for a run: x = d q, q in [low, high] ---- */

/* The best d among several; q gets the numbers. */
static float fit_scale(const float *x, int n, int low, int high, int *q) {
    float most = 0, best = 0, best_error = INFINITY;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    if (most == 0) {
        for (int i = 0; i < n; i++) q[i] = 0;
        return 0;
    }
    for (int k = -9; k <= 9; k++) {
        float inverse = ((float)low - 0.1f * (float)k) / most, xq = 0, qq = 0, error = 0;
        int trial[256];
        for (int i = 0; i < n; i++) {
            trial[i] = rounded(x[i] * inverse, low, high);
            xq += x[i] * (float)trial[i];
            qq += (float)(trial[i] * trial[i]);
        }
        if (qq == 0) continue;
        float d = xq / qq;
        for (int i = 0; i < n; i++) error += (x[i] - d * (float)trial[i]) * (x[i] - d * (float)trial[i]);
        if (error >= best_error) continue;
        best_error = error;
        best = d;
        memcpy(q, trial, (size_t)n * sizeof *q);
    }
    return best;
}

static void q8_0(const float *x, unsigned char *out) {
    float most = 0;
    for (int i = 0; i < 32; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    put_half(out, most / 127);
    float d = half_to(half_from(most / 127)), inverse = d > 0 ? 1 / d : 0;
    for (int i = 0; i < 32; i++) out[2 + i] = (unsigned char)rounded(x[i] * inverse, -127, 127);
}

static void q4_0(const float *x, unsigned char *out) {
    int q[32];
    put_half(out, fit_scale(x, 32, -8, 7, q));
    float d = half_to((uint16_t)(out[0] | out[1] << 8)), inverse = d != 0 ? 1 / d : 0;
    for (int i = 0; i < 32; i++) q[i] = rounded(x[i] * inverse, -8, 7) + 8;
    for (int i = 0; i < 16; i++) out[2 + i] = (unsigned char)(q[i] | q[i + 16] << 4);
}

/* Strip j is 32 elements: the low nibbles of 32 bytes that it shares with its neighbour, whose are the high ones. */
static void q6_k(const float *x, unsigned char *out) {
    float scales[16], most = 0;
    int q[256];
    for (int j = 0; j < 16; j++) {
        scales[j] = fit_scale(x + 16 * j, 16, -32, 31, q + 16 * j);
        if (fabsf(scales[j]) > fabsf(most)) most = scales[j];
    }
    memset(out, 0, 210);
    if (most == 0) {
        memset(out, 0, 128);
        memset(out + 128, 0xAA, 64); /* every q is 32: zero */
        return;
    }
    put_half(out + 208, most / -128);
    float d = half_to((uint16_t)(out[208] | out[209] << 8));
    for (int j = 0; j < 16; j++) {
        int s = d != 0 ? rounded(scales[j] / d, -128, 127) : 0;
        float unit = d * (float)s, inverse = unit != 0 ? 1 / unit : 0;
        out[192 + j] = (unsigned char)s;
        for (int i = 0; i < 16; i++) q[16 * j + i] = rounded(x[16 * j + i] * inverse, -32, 31) + 32;
    }
    for (int j = 0; j < 8; j++) { /* as they are read: see cpu's and GGUF's layout */
        unsigned char *low = out + j / 4 * 64 + (j & 1) * 32, *high = out + 128 + j / 4 * 32;
        for (int i = 0; i < 32; i++) {
            low[i] = (unsigned char)(low[i] | (q[32 * j + i] & 15) << (j & 2) * 2);
            high[i] = (unsigned char)(high[i] | q[32 * j + i] >> 4 << (j & 3) * 2);
        }
    }
}

/* ---- a scale and a minimum: x = s q - m, q in [0, 15], m >= 0 ---- */

static float fit_both(const float *x, int n, float *minimum) {
    float low = x[0] < 0 ? x[0] : 0, high = x[0], best_s = 0, best_m = 0, best_error = INFINITY;
    for (int i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (high <= low) {
        *minimum = -low;
        return 0;
    }
    for (int k = -10; k <= 10; k++) {
        float inverse = (15 + 0.1f * (float)k) / (high - low), sq = 0, sqq = 0, sx = 0, sxq = 0, error = 0;
        for (int i = 0; i < n; i++) {
            float q = (float)rounded(inverse * (x[i] - low), 0, 15);
            sq += q, sqq += q * q, sx += x[i], sxq += x[i] * q;
        }
        float determinant = (float)n * sqq - sq * sq;
        if (determinant <= 0) continue;
        float s = ((float)n * sxq - sx * sq) / determinant, m = (sx * sqq - sq * sxq) / determinant;
        if (m > 0) m = 0, s = sqq > 0 ? sxq / sqq : 0;
        for (int i = 0; i < n; i++) {
            float q = (float)rounded(inverse * (x[i] - low), 0, 15), off = x[i] - s * q - m;
            error += off * off;
        }
        if (error < best_error) best_error = error, best_s = s, best_m = -m;
    }
    *minimum = best_m;
    return best_s > 0 ? best_s : 0;
}

static void q4_k(const float *x, unsigned char *out) {
    float scales[8], minima[8], most_s = 0, most_m = 0;
    for (int j = 0; j < 8; j++) {
        scales[j] = fit_both(x + 32 * j, 32, &minima[j]);
        most_s = scales[j] > most_s ? scales[j] : most_s;
        most_m = minima[j] > most_m ? minima[j] : most_m;
    }
    memset(out, 0, 144);
    put_half(out, most_s / 63);
    put_half(out + 2, most_m / 63);
    float d = half_to((uint16_t)(out[0] | out[1] << 8)), dmin = half_to((uint16_t)(out[2] | out[3] << 8));
    for (int j = 0; j < 8; j++) {
        int s = d > 0 ? rounded(scales[j] / d, 0, 63) : 0, m = dmin > 0 ? rounded(minima[j] / dmin, 0, 63) : 0;
        float unit = d * (float)s, under = dmin * (float)m;
        if (j < 4) {
            out[4 + j] = (unsigned char)(out[4 + j] | s);
            out[8 + j] = (unsigned char)(out[8 + j] | m);
        } else {
            out[8 + j] = (unsigned char)((s & 15) | (m & 15) << 4);
            out[j] = (unsigned char)(out[j] | s >> 4 << 6);
            out[4 + j] = (unsigned char)(out[4 + j] | m >> 4 << 6);
        }
        unsigned char *q = out + 16 + j / 2 * 32;
        for (int i = 0; i < 32; i++)
            q[i] = (unsigned char)(q[i] | (unit > 0 ? rounded((x[32 * j + i] + under) / unit, 0, 15) : 0) << (j & 1) * 4);
    }
}

void block_quantise(strand_dtype type, const float *x, int64_t n, unsigned char *out) {
    int64_t elements = block_elements(type);
    float clean[256];
    for (int64_t at = 0; at < n; at += elements, out += block_bytes(type)) {
        for (int64_t i = 0; i < elements; i++) clean[i] = x[at + i] == x[at + i] ? x[at + i] : 0;
        if (type == STRAND_Q8_0) q8_0(clean, out);
        if (type == STRAND_Q4_0) q4_0(clean, out);
        if (type == STRAND_Q4_K) q4_k(clean, out);
        if (type == STRAND_Q6_K) q6_k(clean, out);
    }
}
