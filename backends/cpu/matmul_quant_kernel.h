/* matmul_quant_kernel.h - the kernels of matmul_quant.h, included once for each kind of integer dot product:
 *
 *   QUANT_VNNI 1   four bytes at a time, weights unsigned and activations signed (VPDPBUSD)
 *   QUANT_VNNI 0   pairs of bytes to 16 bits (PMADDUBSW) where there are such and the weights have six bits or fewer, so that a
 *                  few pairs can be added; else pairs of 16-bit numbers (PMADDWD and its like)
 *   QUANT_TARGET   attribute of every function here, QUANT_NAME the table that is exported
 *
 * Lanes are columns. Four elements of a block of CPU_LANES rows of weights, transposed into one vector, are a "quad"; eight
 * quads and the scales are a block of 32 in a panel. Many rows share an unpacked panel; few rows (decoding) go along the
 * packed weights, unpacking to registers. Weights that are stored with an offset (q - 8) are multiplied as unsigned numbers:
 * the integer sum of a row then begins at minus offset times the sum of the row's block, which is exact. */
#include "simd.h"

#define QUANT_FN static inline __attribute__((always_inline)) QUANT_TARGET

#define DEPTH 64 /* blocks of 32 in a panel */
#if CPU_LANES == 16 || defined(__aarch64__)
#define TILE_ROWS 6
#else
#define TILE_ROWS 3
#endif

#define MOST_ROWS (TILE_ROWS > 4 ? TILE_ROWS : 4)

typedef int16_t vs __attribute__((vector_size(4 * CPU_LANES)));

#if QUANT_VNNI
#define QUAD 1 /* vectors of a quad at most */
#else
#define QUAD 2
#endif

enum { FOUR_BYTES, TWO_BYTES, TWO_WORDS };
QUANT_FN int way_of(uint32_t dtype) {
    (void)dtype;
#if QUANT_VNNI
    return FOUR_BYTES;
#elif CPU_LANES > 4
    return dtype == STRAND_PLUGIN_Q8_0 ? TWO_WORDS : TWO_BYTES;
#else
    return TWO_WORDS;
#endif
}

/* 32 activations x = scale q. offset: where integer sums begin, of the first and the second half for Q6_K, else of all in the
 * first. sum: scale times the sum of q. q: bytes, or words of which a quad stands in the
 * order 0, 2, 1, 3. */
typedef struct rounded_block {
    float scale, sum;
    int32_t offset[2];
    int8_t q[32 * QUAD];
} rounded_block;

/* extra: the minimum of Q4_K; of Q6_K the scale of the first half, and `second` that of the second half. */
typedef struct panel_block {
    vi quads[8 * QUAD];
    vf scale, extra, second;
} panel_block;

/* What differs between the types once they are unpacked. */
enum { ONE_SCALE, WITH_MINIMUM, TWO_SCALES };
QUANT_FN int form_of(uint32_t dtype) {
    return dtype == STRAND_PLUGIN_Q4_K ? WITH_MINIMUM : dtype == STRAND_PLUGIN_Q6_K ? TWO_SCALES : ONE_SCALE;
}
QUANT_FN int offset_of(uint32_t dtype) {
    return dtype == STRAND_PLUGIN_Q8_0   ? (QUANT_VNNI ? 128 : 0)
           : dtype == STRAND_PLUGIN_Q4_0 ? 8
           : dtype == STRAND_PLUGIN_Q6_K ? 32
                                         : 0;
}
#include "matmul_quant_unpack.h"

/* ---- products ---- */

#if !QUANT_VNNI
QUANT_FN vi multiply_16(vi a, vi b) {
#if CPU_LANES == 16
    return (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif CPU_LANES == 8
    return (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return (vi)_mm_madd_epi16((__m128i)a, (__m128i)b);
#elif defined(__aarch64__)
    int16x8_t x = (int16x8_t)a, y = (int16x8_t)b;
    return (vi)vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
#else
    return (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
}
#if CPU_LANES == 16
QUANT_FN vs multiply_bytes(vi a, vi b) {
    return (vs)_mm512_maddubs_epi16((__m512i)a, (__m512i)b);
}
#elif CPU_LANES == 8
QUANT_FN vs multiply_bytes(vi a, vi b) {
    return (vs)_mm256_maddubs_epi16((__m256i)a, (__m256i)b);
}
#endif
#endif

QUANT_FN vi set_lanes(int32_t x) {
    return (vi){0} + x;
}

/* sum + a quad times activations 4j .. 4j+3, the same in every lane. TWO_BYTES: sum has words. */
QUANT_FN vi dot(int way, vi sum, const vi quad[QUAD], const rounded_block *a, int j) {
    int32_t four;
#if QUANT_VNNI
    (void)way;
    memcpy(&four, a->q + 4 * j, 4);
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)quad[0], _mm512_set1_epi32(four));
#else
#if CPU_LANES > 4
    if (way == TWO_BYTES) {
        memcpy(&four, a->q + 4 * j, 4);
        return (vi)((vs)sum + multiply_bytes(quad[0], set_lanes(four)));
    }
#endif
    (void)way;
    memcpy(&four, a->q + 8 * j, 4);
    sum += multiply_16(quad[0], set_lanes(four));
    memcpy(&four, a->q + 8 * j + 4, 4);
    return sum + multiply_16(quad[QUAD - 1], set_lanes(four));
#endif
}

/* The same for four bytes a lane. */
QUANT_FN vi dot_unsigned(int way, vi sum, vi w, const rounded_block *a, int j) {
    vi quad[QUAD];
    split_unsigned(way, w, quad);
    return dot(way, sum, quad, a, j);
}
QUANT_FN vi dot_signed(int way, vi sum, vi w, const rounded_block *a, int j) {
    vi quad[QUAD];
    split_signed(way, w, quad);
    return dot(way, sum, quad, a, j);
}

/* An integer sum that begins at `start`: with words, pairs are added up for a few quads (eight of four bits, two of six) and
 * then widened. */
QUANT_FN vi begin(int way, vi start) {
    return way == TWO_BYTES ? (vi){0} : start;
}
QUANT_FN vi widened(int way, vi start, vi sum) {
#if !QUANT_VNNI
    if (way == TWO_BYTES) return start + multiply_16(sum, set_lanes(0x00010001));
#endif
    (void)way, (void)start;
    return sum;
}

/* whole[r][v] += quads [first, last) of p[v] times those of a[r]; `few` quads fit a sum of words. */
QUANT_FN void multiply(int way, int few, int rows, int vectors, const panel_block *const *p, const rounded_block *const *a,
                       int first, int last, vi whole[][2]) {
    const int step = way == TWO_BYTES ? few : last - first;
#pragma GCC unroll 4
    for (int from = first; from < last; from += step) {
        vi sum[MOST_ROWS][2];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[r][v] = begin(way, whole[r][v]);
#pragma GCC unroll 8
        for (int j = from; j < from + step; j++)
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) sum[r][v] = dot(way, sum[r][v], p[v]->quads + QUAD * j, a[r], j);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) whole[r][v] = widened(way, whole[r][v], sum[r][v]);
    }
}

/* What is added to a sum: a block's integer sum with the product of the two scales. With scales for both halves of a block
 * (Q6_K) those are whole numbers, so that the sum is one too, below 2^24 and exact. */
QUANT_FN vf scaled(vf sum, vi whole, vf scale, const rounded_block *a) {
    return vf_fma(__builtin_convertvector(whole, vf), scale * a->scale, sum);
}
QUANT_FN vf scaled_half(vi whole, vf scale) {
    return __builtin_convertvector(whole, vf) * scale;
}
QUANT_FN vf scaled_twice(vf sum, vf first, vi whole, vf second, vf scale, const rounded_block *a) {
    return vf_fma(vf_fma(__builtin_convertvector(whole, vf), second, first), scale * a->scale, sum);
}

/* High nibbles are multiplied where they stand, 16 times too large, where the integer sum still holds that. */
QUANT_FN vi high_nibbles(int way, vi x) {
    return way == TWO_BYTES ? x >> 4 & 0x0f0f0f0f : x & (int32_t)0xf0f0f0f0;
}
QUANT_FN vi high_sum(int way, vi sum) {
    return way == TWO_BYTES ? widened(way, (vi){0}, sum) : sum >> 4;
}

/* sum[r][v] += block p[v] times block a[r]. The first halves of blocks with two scales wait in memory: there are not
 * registers enough. */
QUANT_FN void add_block(int form, int way, int rows, int vectors, const panel_block *const *p, const rounded_block *const *a,
                        vf sum[][2]) {
    vi whole[MOST_ROWS][2];
    vf waiting[MOST_ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) whole[r][v] = set_lanes(a[r]->offset[0]);
    multiply(way, form == TWO_SCALES ? 2 : 8, rows, vectors, p, a, 0, form == TWO_SCALES ? 4 : 8, whole);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            if (form == TWO_SCALES) {
                waiting[r][v] = scaled_half(whole[r][v], p[v]->extra);
                whole[r][v] = set_lanes(a[r]->offset[1]);
                continue;
            }
            sum[r][v] = scaled(sum[r][v], whole[r][v], p[v]->scale, a[r]);
            if (form == WITH_MINIMUM) sum[r][v] = vf_fnma(p[v]->extra, vf_set(a[r]->sum), sum[r][v]);
        }
    if (form != TWO_SCALES) return;
    if (rows > 4) __asm__ volatile("" : "+m"(waiting));
    multiply(way, 2, rows, vectors, p, a, 4, 8, whole);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[r][v] = scaled_twice(sum[r][v], waiting[r][v], whole[r][v], p[v]->second, p[v]->scale, a[r]);
}

QUANT_FN vf load_edge(const float *c, int64_t n) {
    return n >= CPU_LANES ? vf_load(c) : vf_load_part(c, cpu_max(n, 0));
}
QUANT_FN void store_edge(float *c, vf x, int64_t n) {
    if (n >= CPU_LANES)
        vf_store(c, x);
    else
        vf_store_part(c, x, cpu_max(n, 0));
}

/* `real` of the rows are there, the others repeat one and are not stored. */
QUANT_FN void tile(int form, int way, int rows, const panel_block *panel, int64_t blocks, int64_t first,
                   const char *const *rounded, float *const *c, int64_t column, int64_t width, int64_t real) {
    vf sum[TILE_ROWS][2];
    const rounded_block *a[TILE_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        int64_t from = cpu_min(r, real - 1);
        a[r] = (const rounded_block *)(const void *)rounded[from] + first;
#pragma GCC unroll 2
        for (int v = 0; v < 2; v++)
            sum[r][v] = first ? load_edge(c[from] + column + v * CPU_LANES, width - v * CPU_LANES) : vf_zero();
    }
#pragma GCC unroll 1
    for (int64_t b = 0; b < blocks; b++) {
        const panel_block *p[2] = {panel + b, panel + DEPTH + b};
        add_block(form, way, rows, 2, p, a, sum);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) a[r]++;
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        if (r < real) {
#pragma GCC unroll 2
            for (int v = 0; v < 2; v++) store_edge(c[r] + column + v * CPU_LANES, sum[r][v], width - v * CPU_LANES);
        }
}

QUANT_FN void many_rows(int form, int way, const panel_block *panel, int64_t blocks, int64_t first, const char *const *rounded,
                        float *const *c, int64_t column, int64_t width, int64_t rows) {
    for (int64_t r = 0; r < rows;) {
        int64_t left = rows - r;
        if (left > TILE_ROWS / 2) {
            tile(form, way, TILE_ROWS, panel, blocks, first, rounded + r, c + r, column, width, cpu_min(left, TILE_ROWS));
            r += TILE_ROWS;
        } else {
            tile(form, way, 1, panel, blocks, first, rounded + r, c + r, column, width, 1);
            r++;
        }
    }
}

/* Where the rows of weights that make `count` columns from `column` on begin; beyond the last one it is repeated. */
QUANT_FN void row_starts(const cpu_quant_weights *w, int64_t column, int count, const uint8_t **rows) {
    for (int i = 0; i < count; i++) rows[i] = w->data + cpu_min(column + i, w->n - 1) * w->stride;
}

QUANT_FN void panel_columns(uint32_t dtype, const cpu_quant_weights *w, int64_t column, int64_t at, int64_t width,
                            const char *const *rounded, float *const *c, int64_t rows, panel_block *panel) {
    const uint8_t *starts[2 * CPU_LANES];
    int unit = unit_of(dtype);
    row_starts(w, column, 2 * CPU_LANES, starts);
    for (int64_t first = 0; first < w->k / 32; first += DEPTH) {
        int64_t blocks = cpu_min(DEPTH, w->k / 32 - first);
        for (int v = 0; v < 2; v++)
            for (int64_t b = 0; b < blocks; b += unit)
                unpack(dtype, starts + v * CPU_LANES, (first + b) / unit, panel + v * DEPTH + b);
        many_rows(form_of(dtype), way_of(dtype), panel, blocks, first, rounded, c, at, width, rows);
    }
}
/* Rows of CPU_LANES columns lie one after the other; while one group of them is read, the next comes to the second cache: of
 * what lies as far ahead as `ahead`, bytes [at, at + bytes) of each row in a piece. A few lines at a time, or loads would
 * wait. */
QUANT_FN void prefetch(const uint8_t *const *rows, int64_t ahead, int64_t at, int64_t bytes) {
    uintptr_t first = (uintptr_t)rows[0] + (uintptr_t)(ahead + CPU_LANES * at) / 64 * 64;
#pragma GCC unroll 16
    for (int64_t i = 0; i < CPU_LANES * bytes / 64 + 1; i++)
        __builtin_prefetch((const void *)(first + (uintptr_t)(64 * i)), 0, 2);
}

#if CPU_LANES == 16
#include "matmul_quant_row16.h"
#else
#include "matmul_quant_row.h"
#endif

/* ---- a few rows: each block is unpacked beside them ---- */

QUANT_FN void direct_columns(uint32_t dtype, int rows, const cpu_quant_weights *w, int64_t column, int64_t at, int64_t width,
                             const char *const *rounded, float *const *c, int64_t real) {
    const uint8_t *starts[CPU_LANES];
    vf sum[4][2];
    const rounded_block *a[4];
    int unit = unit_of(dtype);
    row_starts(w, column, CPU_LANES, starts);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        a[r] = (const rounded_block *)(const void *)rounded[cpu_min(r, real - 1)];
        sum[r][0] = vf_zero();
    }
    for (int64_t i = 0; i < w->k / 32 / unit; i++) {
        panel_block some[8];
        prefetch(starts, CPU_LANES * w->stride, i * cpu_span(dtype, 32 * unit), cpu_span(dtype, 32 * unit));
        unpack(dtype, starts, i, some);
#pragma GCC unroll 8
        for (int b = 0; b < unit; b++) {
            const panel_block *p[2] = {&some[b], NULL};
            add_block(form_of(dtype), way_of(dtype), rows, 1, p, a, sum);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) a[r]++;
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        if (r < real) store_edge(c[r] + at, sum[r][0], width);
}

QUANT_FN void columns_of(uint32_t dtype, const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded,
                         float *const *c, int64_t rows, void *panel) {
    if (rows > 4) {
        for (int64_t at = 0; at < width; at += 2 * CPU_LANES)
            panel_columns(dtype, w, column + at, at, width - at, rounded, c, rows, panel);
        return;
    }
    for (int64_t at = 0; at < width; at += CPU_LANES) {
        if (rows == 1 && width - at >= CPU_LANES)
            one_row(dtype, w, column + at, rounded[0], c[0] + at);
        else
            direct_columns(dtype, 4, w, column + at, at, width - at, rounded, c, rows);
    }
}

static QUANT_TARGET void columns_q8_0(const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded,
                                      float *const *c, int64_t rows, void *panel) {
    columns_of(STRAND_PLUGIN_Q8_0, w, column, width, rounded, c, rows, panel);
}
static QUANT_TARGET void columns_q4_0(const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded,
                                      float *const *c, int64_t rows, void *panel) {
    columns_of(STRAND_PLUGIN_Q4_0, w, column, width, rounded, c, rows, panel);
}
static QUANT_TARGET void columns_q4_k(const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded,
                                      float *const *c, int64_t rows, void *panel) {
    columns_of(STRAND_PLUGIN_Q4_K, w, column, width, rounded, c, rows, panel);
}
static QUANT_TARGET void columns_q6_k(const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded,
                                      float *const *c, int64_t rows, void *panel) {
    columns_of(STRAND_PLUGIN_Q6_K, w, column, width, rounded, c, rows, panel);
}

static void columns(const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded, float *const *c,
                    int64_t rows, void *panel) {
    for (int64_t r = 0; r < rows && w->k == 0; r++) memset(c[r], 0, (size_t)width * sizeof *c[r]);
    if (w->k == 0) return;
    if (w->dtype == STRAND_PLUGIN_Q8_0) columns_q8_0(w, column, width, rounded, c, rows, panel);
    if (w->dtype == STRAND_PLUGIN_Q4_0) columns_q4_0(w, column, width, rounded, c, rows, panel);
    if (w->dtype == STRAND_PLUGIN_Q4_K) columns_q4_k(w, column, width, rounded, c, rows, panel);
    if (w->dtype == STRAND_PLUGIN_Q6_K) columns_q6_k(w, column, width, rounded, c, rows, panel);
}

const cpu_quant_kernel QUANT_NAME = {sizeof(rounded_block), 2 * DEPTH * sizeof(panel_block), round_row, columns};
