/* matmul_pack.h - units of matrix products and how they are read: numbers, pairs, squares that are transposed in registers, and
 * panels. Part of the template of matmul_kernel.h, which says what a unit is. */
#include "half.h"
#include "matmul.h"
#include "simd.h"

#if UNIT_PAIRS
#define TARGET CPU_TARGET_BF16
#else
#define TARGET
#endif
#define INLINE static inline __attribute__((always_inline)) TARGET

#if CPU_LANES == 16
#define PANEL_ROWS    12
#define PANEL_VECTORS 2
#elif CPU_LANES == 8
#define PANEL_ROWS    6
#define PANEL_VECTORS 2
#elif defined(__aarch64__)
#define PANEL_ROWS    8
#define PANEL_VECTORS 3
#else
#define PANEL_ROWS    4
#define PANEL_VECTORS 3
#endif
#define PANEL_COLUMNS (PANEL_VECTORS * CPU_LANES)

/* Columns that are transposed at a time. Eight also with AVX-512: a power of two between the rows of B puts them all into one
 * set of the L1 cache, which has no room for sixteen. */
#define STRIP (CPU_LANES < 8 ? CPU_LANES : 8)
typedef float sv __attribute__((vector_size(4 * STRIP)));
typedef uint32_t su __attribute__((vector_size(4 * STRIP)));
typedef float sv_unaligned __attribute__((vector_size(4 * STRIP), aligned(4), may_alias));

/* Elements of type `dtype` in the 16 bytes (32 when F32 becomes BF16) that a square takes of a row, and units made of them. */
#define SQUARE_K(dtype)     (UNIT_PAIRS || (dtype) != STRAND_PLUGIN_F32 ? 8 : 4)
#define SQUARE_UNITS(dtype) (UNIT_PAIRS ? 4 : SQUARE_K(dtype))
#define UNIT_K              (UNIT_PAIRS ? 2 : 1)

CPU_INLINE int64_t units_of(int64_t k) {
    return UNIT_PAIRS ? (k + 1) / 2 : k;
}
CPU_INLINE int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

#define BLOCK_K 512   /* units: a panel of A stays in L1 */
#define CHAINS  STRIP /* sums of a segment of BLOCK_K units when B is dense along k: the lanes of a vector */

/* ---- units ---- */

#if UNIT_PAIRS
INLINE vf unit_fma(vf a, vf b, vf c) {
    return (vf)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
}
INLINE sv strip_fma(float a, sv b, sv c) {
    return (sv)_mm256_dpbf16_ps((__m256)c, (__m256bh)_mm256_set1_ps(a), (__m256bh)b);
}
#else
INLINE vf unit_fma(vf a, vf b, vf c) {
    return vf_fma(a, b, c);
}
INLINE sv strip_fma(float a, sv b, sv c) {
#if STRIP == 8
    return (sv)_mm256_fmadd_ps(_mm256_set1_ps(a), (__m256)b, (__m256)c);
#else
    return vf_fma(vf_set(a), b, c);
#endif
}
#endif

INLINE float load_one(const char *p, int64_t i, uint32_t dtype) {
    if (dtype == STRAND_PLUGIN_F32) return ((const float *)(const void *)p)[i];
    uint16_t h = ((const uint16_t *)(const void *)p)[i];
    return dtype == STRAND_PLUGIN_F16 ? cpu_f16_to_f32(h) : cpu_bf16_to_f32(h);
}

/* CPU_LANES numbers that lie side by side. */
INLINE vf load_numbers(const char *p, uint32_t dtype) {
    if (dtype == STRAND_PLUGIN_F32) return vf_load((const float *)(const void *)p);
#if CPU_LANES == 16
    __m256i h = _mm256_loadu_si256((const void *)p);
    if (dtype == STRAND_PLUGIN_F16) return (vf)_mm512_cvtph_ps(h);
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16);
#elif CPU_LANES == 8
    __m128i h = _mm_loadu_si128((const void *)p);
    if (dtype == STRAND_PLUGIN_F16) return (vf)_mm256_cvtph_ps(h);
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16);
#else
    float lanes[CPU_LANES];
    for (int i = 0; i < CPU_LANES; i++) lanes[i] = load_one(p, i, dtype);
    return vf_load(lanes);
#endif
}

/* The first n of them, zeros after them. */
INLINE vf load_numbers_part(const char *p, uint32_t dtype, int64_t n) {
    if (dtype == STRAND_PLUGIN_F32) return vf_load_part((const float *)(const void *)p, n);
    uint16_t lanes[CPU_LANES] = {0};
    memcpy(lanes, p, (size_t)n * sizeof *lanes);
    return load_numbers((const char *)lanes, dtype);
}

/* The units of n columns (CPU_LANES of them when n is that constant) that lie side by side at p; their neighbours along k, if
 * there are any, lie at `pair`. */
#if UNIT_PAIRS
INLINE __m512i load_bf16(const char *p, uint32_t dtype, int64_t n) {
    if (dtype == STRAND_PLUGIN_BF16 && n == CPU_LANES) return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p));
    vf x = n == CPU_LANES ? load_numbers(p, dtype) : load_numbers_part(p, dtype, n);
    return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)x));
}
INLINE vf load_units(const char *p, const char *pair, uint32_t dtype, int64_t n) {
    __m512i low = load_bf16(p, dtype, n);
    return (vf)(pair ? _mm512_or_si512(low, _mm512_slli_epi32(load_bf16(pair, dtype, n), 16)) : low);
}
#else
INLINE vf load_units(const char *p, const char *pair, uint32_t dtype, int64_t n) {
    (void)pair;
    return n == CPU_LANES ? load_numbers(p, dtype) : load_numbers_part(p, dtype, n);
}
#endif

/* ---- squares ---- */

/* What a square takes of one row: 16 bytes that hold four units, or eight when they are halves and units are F32. */
#if STRIP == 8
INLINE __m128 square_row(const char *p, uint32_t dtype) {
#if UNIT_PAIRS
    if (dtype == STRAND_PLUGIN_F32) return (__m128)_mm256_cvtneps_pbh(_mm256_loadu_ps((const void *)p));
    if (dtype == STRAND_PLUGIN_F16) return (__m128)_mm256_cvtneps_pbh(_mm256_cvtph_ps(_mm_loadu_si128((const void *)p)));
#endif
    (void)dtype;
    return _mm_loadu_ps((const void *)p);
}
#endif

/* Four columns of 32 bits of STRIP rows, each column a vector. */
INLINE void square_columns(sv t[4], const char *p, int64_t outer, uint32_t dtype) {
#if STRIP == 8
    __m256 r[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(square_row(p + i * outer, dtype)),
                                    square_row(p + (i + 4) * outer, dtype), 1);
    }
    __m256d a = (__m256d)_mm256_unpacklo_ps(r[0], r[1]), b = (__m256d)_mm256_unpackhi_ps(r[0], r[1]);
    __m256d c = (__m256d)_mm256_unpacklo_ps(r[2], r[3]), d = (__m256d)_mm256_unpackhi_ps(r[2], r[3]);
    t[0] = (sv)_mm256_unpacklo_pd(a, c);
    t[1] = (sv)_mm256_unpackhi_pd(a, c);
    t[2] = (sv)_mm256_unpacklo_pd(b, d);
    t[3] = (sv)_mm256_unpackhi_pd(b, d);
#else
    (void)dtype;
    for (int i = 0; i < 4; i++) t[i] = vf_load_bytes(p + i * outer);
    vf_transpose(t);
#endif
}

#if !UNIT_PAIRS && STRIP != 8
/* As cpu_f16_to_f32. */
INLINE sv f16_numbers(su h) {
    su magnitude = (h & 0x7fffu) << 13, bits = (su)((sv)magnitude * 0x1p112f);
    su large = (su)(magnitude >= 0x0f800000u);
    bits = (large & (magnitude | 0x70000000u)) | (~large & bits);
    return (sv)(bits | (h & 0x8000u) << 16);
}
#endif

/* The two numbers of a column of pairs of halves. */
INLINE void split_halves(sv out[2], sv pairs, uint32_t dtype) {
    su x = (su)pairs;
    if (dtype == STRAND_PLUGIN_BF16) {
        out[0] = (sv)(x << 16);
        out[1] = (sv)(x & 0xffff0000u);
        return;
    }
#if !UNIT_PAIRS && STRIP == 8
    __m256i both = _mm256_packus_epi32((__m256i)(x & 0xffffu), (__m256i)(x >> 16));
    both = _mm256_permute4x64_epi64(both, 0xd8);
    out[0] = (sv)_mm256_cvtph_ps(_mm256_castsi256_si128(both));
    out[1] = (sv)_mm256_cvtph_ps(_mm256_extracti128_si256(both, 1));
#elif !UNIT_PAIRS
    out[0] = f16_numbers(x & 0xffffu);
    out[1] = f16_numbers(x >> 16);
#endif
}

/* SQUARE_UNITS(dtype) vectors of units of STRIP rows from p on, `outer` bytes apart. */
INLINE void square(sv out[8], const char *p, int64_t outer, uint32_t dtype) {
    if (UNIT_PAIRS || dtype == STRAND_PLUGIN_F32) {
        square_columns(out, p, outer, dtype);
        return;
    }
    sv pairs[4];
    square_columns(pairs, p, outer, dtype);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) split_halves(out + 2 * i, pairs[i], dtype);
}

/* Squares that would read past the matrix are read from a copy with zeros around it. */
#define EDGE_K 64
typedef struct edge {
    char rows[STRIP][EDGE_K * 4];
} edge;

INLINE void edge_copy(edge *e, const char *p, int64_t outer, uint32_t dtype, int64_t rows, int64_t k) {
    memset(e, 0, sizeof *e);
    for (int64_t i = 0; i < rows; i++) memcpy(e->rows[i], p + i * outer, (size_t)(k * cpu_element_bytes(dtype)));
}

/* ---- packing ---- */

/* Places from one chain to the next: one more than there are units, lest they all begin in one set of L1. */
CPU_INLINE int64_t chain_apart(int64_t units) {
    return (units + CHAINS - 1) / CHAINS + 1;
}

/* Where unit u of a block stands in a panel: in order, or one chain after the other (0, 4, 2, 6, 1, 5, 3, 7: their numbers'
 * bits turned round), `apart` places from one to the next. */
CPU_INLINE int64_t panel_place(int64_t u, int64_t apart) {
    int64_t turned = CHAINS == 8 ? u % 2 * 4 + u / 2 % 2 * 2 + u / 4 % 2 : u % 2 * 2 + u / 2 % 2;
    return apart ? turned * apart + u / CHAINS : u;
}

INLINE void store_some(float *to, sv x, int64_t n) {
#if CPU_LANES == 16
    _mm256_mask_storeu_ps(to, (__mmask8)((1u << n) - 1), (__m256)x);
#else
    vf_store_part(to, x, n);
#endif
}

/* `rows` (at most STRIP) rows that are dense along k, `step` floats from place to place. STRIP floats are stored each time; in
 * a narrower panel they cover what the next place gets, which comes later when places are in order. The last one needs STRIP
 * floats of slack. */
INLINE void pack_strip(float *to, int64_t step, const char *p, int64_t outer, uint32_t dtype, int64_t rows, int64_t depth,
                       int64_t chain) {
    const int64_t bytes = cpu_element_bytes(dtype);
    const int made = SQUARE_UNITS(dtype);
    sv u[8];
    int64_t k = 0;
    for (; rows == STRIP && k + SQUARE_K(dtype) <= depth; k += SQUARE_K(dtype)) {
        square(u, p + k * bytes, outer, dtype);
#pragma GCC unroll 8
        for (int i = 0; i < made; i++) *(sv_unaligned *)(to + panel_place(k / UNIT_K + i, chain) * step) = u[i];
    }
    while (k < depth) {
        edge e;
        int64_t some = cpu_min(EDGE_K, depth - k);
        edge_copy(&e, p + k * bytes, outer, dtype, rows, some);
        for (int64_t at = 0; at < some; at += SQUARE_K(dtype)) {
            int64_t n = cpu_min(SQUARE_UNITS(dtype), units_of(some - at));
            square(u, e.rows[0] + at * bytes, EDGE_K * 4, dtype);
            for (int64_t i = 0; i < n; i++) {
                float *unit = to + panel_place((k + at) / UNIT_K + i, chain) * step;
                if (step < STRIP && chain)
                    store_some(unit, u[i], rows);
                else
                    *(sv_unaligned *)unit = u[i];
            }
        }
        k += some;
    }
}

/* A panel of `width` rows (or columns of B) dense along k; only `count` of them are there, the others are undefined numbers. */
INLINE void pack_dense_k(float *to, int64_t width, const char *p, int64_t outer, uint32_t dtype, int64_t count, int64_t depth,
                         int64_t chain) {
    for (int64_t i = 0; i < count; i += STRIP) {
        int64_t at =
            width - i < STRIP && width >= STRIP && count == width ? width - STRIP : i; /* the last one may go over twice */
        pack_strip(to + at, width, p + at * outer, outer, dtype, cpu_min(STRIP, count - at), depth, chain);
    }
}

/* `panels` panels whose rows or columns lie side by side, `apart` floats from one to the next; the last has `last` of them. */
INLINE void pack_dense_outer(float *to, int64_t width, int64_t apart, const char *p, int64_t inner, uint32_t dtype,
                             int64_t panels, int64_t last, int64_t depth, int64_t chain) {
    const int64_t bytes = cpu_element_bytes(dtype);
    for (int64_t k = 0; k < depth; k += UNIT_K, p += inner * UNIT_K)
        for (int64_t j = 0; j < panels; j++) {
            const char *from = p + j * width * bytes, *pair = UNIT_PAIRS && k + 1 < depth ? from + inner : NULL;
            float *unit = to + panel_place(k / UNIT_K, chain) * width + j * apart;
            int64_t count = j + 1 < panels ? width : last, i = 0;
            for (; i + CPU_LANES <= count; i += CPU_LANES) {
                vf_store(unit + i, load_units(from + i * bytes, pair ? pair + i * bytes : NULL, dtype, CPU_LANES));
            }
            if (i < count) {
                vf rest = load_units(from + i * bytes, pair ? pair + i * bytes : NULL, dtype, count - i);
                vf_store_part(unit + i, rest, count - i);
            }
        }
}

/* Zeros for the units that the last chains lack. */
INLINE void pack_zeros(float *to, int64_t width, int64_t units, int64_t chain) {
    for (int64_t u = units; u < round_up(units, CHAINS); u++)
        memset(to + panel_place(u, chain) * width, 0, (size_t)width * sizeof *to);
}

/* Packs `count` rows or columns from `first` on, for elements [k, k + depth): panels of `width` one after the other, the last
 * one only as wide as there are rows left (A) or as wide as the others (B: `full`). */
INLINE void pack_typed(float *to, int64_t width, bool full, bool chains, const cpu_factor *f, uint32_t dtype, int64_t first,
                       int64_t count, int64_t k, int64_t depth) {
    const int64_t bytes = cpu_element_bytes(dtype), units = units_of(depth), chain = chains ? chain_apart(units) : 0;
    const int64_t apart = width * (chains ? CHAINS * chain : units);
    const char *p = f->data + (first * f->outer + k * f->inner) * bytes;
    for (int64_t i = 0; i < count && chains; i += width)
        pack_zeros(to + i / width * apart, full ? width : cpu_min(width, count - i), units, chain);
    if (f->inner == 1) {
        for (int64_t i = 0; i < count; i += width, to += apart) {
            int64_t here = cpu_min(width, count - i);
            pack_dense_k(to, full ? width : here, p + i * f->outer * bytes, f->outer * bytes, dtype, here, depth, chain);
        }
        return;
    }
    int64_t whole = full ? (count + width - 1) / width : count / width, rest = count - whole * width;
    if (whole > 0)
        pack_dense_outer(to, width, apart, p, f->inner * bytes, dtype, whole, cpu_min(width, count - (whole - 1) * width),
                         depth, chain);
    if (rest > 0)
        pack_dense_outer(to + whole * apart, rest, 0, p + whole * width * bytes, f->inner * bytes, dtype, 1, rest, depth,
                         chain);
}

TARGET static void pack(float *to, int64_t width, bool full, bool chains, const cpu_factor *f, int64_t first, int64_t count,
                        int64_t k, int64_t depth) {
    if (f->dtype == STRAND_PLUGIN_F32) pack_typed(to, width, full, chains, f, STRAND_PLUGIN_F32, first, count, k, depth);
    if (f->dtype == STRAND_PLUGIN_F16) pack_typed(to, width, full, chains, f, STRAND_PLUGIN_F16, first, count, k, depth);
    if (f->dtype == STRAND_PLUGIN_BF16) pack_typed(to, width, full, chains, f, STRAND_PLUGIN_BF16, first, count, k, depth);
}
