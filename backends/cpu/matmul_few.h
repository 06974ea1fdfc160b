/* matmul_few.h - few rows times weights as they are stored, B dense along k. Part of the template of matmul_kernel.h, whose
 * chains are made so that a vector takes CHAINS units of one column as they lie: nothing is transposed, and a load of B serves
 * all rows of a tile.
 *
 * A tile is up to FEW_ROWS rows by up to eight columns, whose sums stay in registers for a segment and are folded together at
 * its end, STRIP of them by one set of exchanges; columns are few enough for their lines to stay in L1 whatever lies between
 * them. Loads bound one row (a vector of B for each multiply-add), multiply-adds two and more. */
#define FEW_ROWS 4
#if CPU_LANES == 16 || defined(__aarch64__)
#define FEW_MOST      16 /* rows; panels are better for more */
#define FEW_REGISTERS 16 /* sums of a tile, at most */
#else
#define FEW_MOST      8
#define FEW_REGISTERS 8
#endif
#define FEW_COLUMNS 8
#define FEW_FOLDS   (FEW_REGISTERS / STRIP)

/* The reads of one column are asked for this many bytes ahead, at its end those of the column that comes next, unless all of B
 * is in a cache together with what else is there. Eight columns that lie 4 or 8 KiB apart are read from L3 at 92 GB/s as they
 * are and at 77 when they are asked for; from memory at 42, and at 49 to 52 when they are asked for 1 KiB ahead, 55 to 57 for
 * 2 KiB, 55 for 4; sixteen columns, or all lines in the order of their addresses, at 33 to 55. A model in F32 whose matrices
 * are smaller than this is taken for a small one. */
#define AHEAD      2048
#define FITS_IN_L2 (512 << 10)
#define FITS_IN_L3 (16 << 20)

/* Elements that a step takes of a column: one vector of units, or two where halves come as eight and vectors have four
 * lanes. */
#define FEW_GROUPS(dtype) (STRIP == 4 && (dtype) != STRAND_PLUGIN_F32 ? 2 : 1)
#define FEW_STEP(dtype)   (CHAINS * UNIT_K * FEW_GROUPS(dtype))

/* CHAINS units of a column, FEW_GROUPS times. */
#if STRIP == 8
INLINE void few_vectors(sv out[2], const char *p, uint32_t dtype) {
#if UNIT_PAIRS
    if (dtype == STRAND_PLUGIN_F32)
        out[0] = (sv)_mm512_cvtneps_pbh(_mm512_loadu_ps((const void *)p));
    else if (dtype == STRAND_PLUGIN_F16)
        out[0] = (sv)_mm512_cvtneps_pbh(_mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)));
    else
        out[0] = (sv)_mm256_loadu_ps((const void *)p);
#else
    if (dtype == STRAND_PLUGIN_F32)
        out[0] = (sv)_mm256_loadu_ps((const void *)p);
    else if (dtype == STRAND_PLUGIN_F16)
        out[0] = (sv)_mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
    else
        out[0] = (sv)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p)), 16);
#endif
}
INLINE sv few_load(const float *a) {
    return (sv)_mm256_loadu_ps(a);
}
INLINE sv few_fma(sv a, sv b, sv c) {
#if UNIT_PAIRS
    return (sv)_mm256_dpbf16_ps((__m256)c, (__m256bh)a, (__m256bh)b);
#else
    return (sv)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#endif
}
/* Lane i is the sum of the lanes of r[i], in the order that matmul_kernel.h says. */
INLINE sv few_fold(const sv r[8]) {
    __m256 x[4], y[2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m256 a = (__m256)r[i], b = (__m256)r[i + 4];
        x[i] = _mm256_add_ps(_mm256_blend_ps(a, b, 0xf0), _mm256_permute2f128_ps(a, b, 0x21));
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        y[i] = _mm256_add_ps(_mm256_blend_ps(x[i], x[i + 2], 0xcc), _mm256_shuffle_ps(x[i], x[i + 2], 0x4e));
    __m256 others = _mm256_permute_ps(_mm256_blend_ps(y[1], y[0], 0xaa), 0xb1);
    return (sv)_mm256_add_ps(_mm256_blend_ps(y[0], y[1], 0xaa), others);
}
#else
typedef uint16_t few_halves __attribute__((vector_size(8), aligned(2), may_alias));
INLINE void few_vectors(sv out[2], const char *p, uint32_t dtype) {
    if (dtype == STRAND_PLUGIN_F32) {
        out[0] = vf_load((const float *)(const void *)p);
        return;
    }
    for (int i = 0; i < 2; i++) {
        su h = __builtin_convertvector(((const few_halves *)(const void *)p)[i], su);
        out[i] = dtype == STRAND_PLUGIN_F16 ? f16_numbers(h) : (sv)(h << 16);
    }
}
INLINE sv few_load(const float *a) {
    return vf_load(a);
}
INLINE sv few_fma(sv a, sv b, sv c) {
    return vf_fma(a, b, c);
}
INLINE sv few_fold(const sv r[4]) {
    vf x[4] = {r[0], r[1], r[2], r[3]};
    return vf_sums_of_rows(x);
}
#endif

/* CHAINS units of a row of A from element k on; zeros for those that are not there. */
INLINE void few_of_row(float *to, const cpu_factor *f, int64_t row, int64_t k, int64_t n) {
    const int64_t bytes = cpu_element_bytes(f->dtype);
    const char *p = f->data + (row * f->outer + k * f->inner) * bytes;
    float numbers[CHAINS * UNIT_K] = {0};
    if (f->inner == 1 && f->dtype == STRAND_PLUGIN_F32 && n == CHAINS * UNIT_K)
        memcpy(numbers, p, sizeof numbers);
    else
        for (int64_t i = 0; i < n; i++) numbers[i] = load_one(p + i * f->inner * bytes, 0, f->dtype);
#if UNIT_PAIRS
    _mm256_storeu_ps(to, (__m256)_mm512_cvtneps_pbh(_mm512_loadu_ps(numbers)));
#else
    memcpy(to, numbers, sizeof numbers);
#endif
}

/* m rows of A as units, CHAINS of each of `rows` rows after those of the row before; rows that are not there are zeros. */
INLINE void few_pack(float *room, int rows, const cpu_factor *f, int64_t row, int64_t m, int64_t k, int64_t depth) {
    int64_t at = 0;
#if !UNIT_PAIRS
    if (f->inner == 1 && f->dtype == STRAND_PLUGIN_F32 && m >= rows) { /* as they lie */
        const float *p = (const float *)(const void *)f->data + row * f->outer + k;
        for (; at + CHAINS <= depth; at += CHAINS)
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++, room += CHAINS) memcpy(room, p + r * f->outer + at, CHAINS * sizeof *room);
    }
#endif
    for (; at < depth; at += CHAINS * UNIT_K)
        for (int r = 0; r < rows; r++, room += CHAINS) {
            if (r < m)
                few_of_row(room, f, row + r, k + at, cpu_min(CHAINS * UNIT_K, depth - at));
            else
                memset(room, 0, CHAINS * sizeof *room);
        }
}

/* A step of rows x vectors, `groups` vectors a column. */
INLINE void few_step_of(int rows, int vectors, int groups, sv sum[FEW_REGISTERS], uint32_t dtype, const float *a, const char *b,
                        int64_t outer) {
    sv right[FEW_COLUMNS][2];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) few_vectors(right[v], b + v * outer, dtype);
#pragma GCC unroll 2
    for (int g = 0; g < groups; g++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            sv left = few_load(a + (g * rows + r) * CHAINS);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[r * vectors + v] = few_fma(left, right[v][g], sum[r * vectors + v]);
        }
}

#define FEW_LINES (CPU_LANES == 16 && !UNIT_PAIRS)
#if FEW_LINES
/* Two steps of F32: a line of a column is one load, and its second half an exchange, so that a line that L1 lacks is asked
 * for once. */
INLINE void few_line_of(int rows, int vectors, sv sum[FEW_REGISTERS], const float *a, const char *b, int64_t outer) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
        __m512 line = _mm512_loadu_ps((const void *)(b + v * outer));
        sv half[2] = {(sv)_mm512_castps512_ps256(line), (sv)_mm512_extractf32x8_ps(line, 1)};
#pragma GCC unroll 2
        for (int g = 0; g < 2; g++)
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                sum[r * vectors + v] = few_fma(few_load(a + (g * rows + r) * CHAINS), half[g], sum[r * vectors + v]);
    }
}

INLINE __m512 few_numbers(const char *p, uint32_t dtype) {
    __m256i h = _mm256_loadu_si256((const void *)p);
    return dtype == STRAND_PLUGIN_F16 ? _mm512_cvtph_ps(h) : (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16);
}
/* Four steps of one row and halves: two loads for a line. */
INLINE void few_halves_of(int vectors, sv sum[FEW_REGISTERS], uint32_t dtype, const float *a, const char *b, int64_t outer) {
    sv left[4];
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) left[g] = few_load(a + g * CHAINS);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
        __m512 low = few_numbers(b + v * outer, dtype), high = few_numbers(b + v * outer + 32, dtype);
        sum[v] = few_fma(left[0], (sv)_mm512_castps512_ps256(low), sum[v]);
        sum[v] = few_fma(left[1], (sv)_mm512_extractf32x8_ps(low, 1), sum[v]);
        sum[v] = few_fma(left[2], (sv)_mm512_castps512_ps256(high), sum[v]);
        sum[v] = few_fma(left[3], (sv)_mm512_extractf32x8_ps(high, 1), sum[v]);
    }
}
#endif

/* A segment of `depth` elements: the sums of rows x vectors, row after row, added to what `total` has unless `fresh`. */
INLINE void few_segment(int rows, int vectors, uint32_t dtype, const float *a, const char *b, int64_t outer, int64_t depth,
                        sv total[FEW_FOLDS], bool fresh, const char *next, int64_t left, int64_t row_bytes, int64_t jump,
                        bool ahead) {
    const int64_t step = FEW_STEP(dtype), bytes = cpu_element_bytes(dtype), chunk = step * bytes > 64 ? step : 64 / bytes;
    const int64_t floats = step / UNIT_K * rows;
    const int groups = FEW_GROUPS(dtype);
    sv sum[FEW_REGISTERS];
#pragma GCC unroll 16
    for (int i = 0; i < FEW_REGISTERS; i++) sum[i] = (sv){0};
    int64_t k = 0;
    for (; k + chunk <= depth; k += chunk, next += chunk * bytes, left -= chunk * bytes) {
        if (left <= 0) next += jump, left += row_bytes; /* the columns that come next */
        if (ahead)
#pragma GCC unroll 8
            for (int i = 0; i < vectors; i++) __builtin_prefetch(next + i * outer, 0, 2);
#if FEW_LINES
        /* F32: with one row both ways wait for L2 alike, with four multiply-adds take longer. */
        if (dtype == STRAND_PLUGIN_F32 && rows == 2) {
            few_line_of(rows, vectors, sum, a, b + k * bytes, outer);
            a += 2 * floats;
            continue;
        }
        if (dtype != STRAND_PLUGIN_F32 && rows == 1) {
            few_halves_of(vectors, sum, dtype, a, b + k * bytes, outer);
            a += 4 * floats;
            continue;
        }
#endif
#pragma GCC unroll 4
        for (int64_t s = 0; s < chunk; s += step, a += floats) {
            few_step_of(rows, vectors, groups, sum, dtype, a, b + (k + s) * bytes, outer);
        }
    }
    for (; k + step <= depth; k += step, a += floats) few_step_of(rows, vectors, groups, sum, dtype, a, b + k * bytes, outer);
    if (k < depth) {
        char edge[FEW_COLUMNS][CHAINS * UNIT_K * 4 * 2] = {{0}};
        for (int i = 0; i < vectors; i++) memcpy(edge[i], b + i * outer + k * bytes, (size_t)((depth - k) * bytes));
        few_step_of(rows, vectors, depth - k > CHAINS * UNIT_K ? groups : 1, sum, dtype, a, edge[0], sizeof edge[0]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < FEW_FOLDS; i++) {
        if (i * STRIP >= rows * vectors) break;
        sv folded = few_fold(sum + i * STRIP);
        total[i] = fresh ? folded : total[i] + folded;
    }
}

/* Sums of a tile, most of which are whole: a call to copy them would take longer than the copy. */
INLINE void few_copy(float *to, const float *from, int vectors, int64_t count) {
    if (count == vectors)
        memcpy(to, from, (size_t)vectors * sizeof(float));
    else
        memcpy(to, from, (size_t)count * sizeof(float));
}

/* m rows and `count` columns of the result; with fewer than `vectors` of them `outer` is 0. */
INLINE void few_tile(int rows, int vectors, uint32_t dtype, const float *a, const char *b, int64_t outer, int64_t apart,
                     int64_t depth, float *c, int64_t c_stride, int64_t m, int64_t count, bool fresh, bool ahead) {
    const int64_t bytes = cpu_element_bytes(dtype), row_bytes = depth * bytes;
    sv total[FEW_FOLDS];
    float *tile = (float *)total;
    if (!fresh) memset(total, 0, sizeof total);
#pragma GCC unroll 1
    for (int64_t r = 0; r < m && !fresh; r++) few_copy(tile + r * vectors, c + r * c_stride, vectors, count);
    for (int64_t k = 0; k < depth; k += BLOCK_K * UNIT_K) {
        int64_t turns = (k * bytes + AHEAD) / row_bytes, soon = (k * bytes + AHEAD) % row_bytes;
        few_segment(rows, vectors, dtype, a + k / UNIT_K * rows, b + k * bytes, outer, cpu_min(BLOCK_K * UNIT_K, depth - k),
                    total, fresh && k == 0, b + turns * vectors * apart + soon, row_bytes - soon, row_bytes,
                    vectors * apart - row_bytes, ahead);
    }
#pragma GCC unroll 1
    for (int64_t r = 0; r < m; r++) few_copy(c + r * c_stride, tile + r * vectors, vectors, count);
}

/* Tiles of `rows` x `columns` over n columns of `depth` elements, `rows` rows at a time. */
INLINE void few_tiles(int rows, int columns, uint32_t dtype, const float *a, const char *b, int64_t outer, int64_t depth,
                      float *c, int64_t c_stride, int64_t m, int64_t n, bool fresh, bool ahead) {
    const int64_t floats = round_up(units_of(depth), CHAINS) * rows;
    for (int64_t j = 0; j < n;) {
        bool whole = j + columns <= n;
        for (int64_t r = 0; r < m; r += rows) {
            few_tile(rows, columns, dtype, a + r / rows * floats, b + j * outer, whole ? outer : 0, outer, depth,
                     c + r * c_stride + j, c_stride, cpu_min(rows, m - r), whole ? columns : 1, fresh, ahead && r == 0);
        }
        j += whole ? columns : 1;
    }
}

/* Any number of rows. */
INLINE void few_weights(int rows, uint32_t dtype, const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n,
                        float *c, int64_t c_stride, float *a) {
    const int64_t bytes = cpu_element_bytes(dtype), outer = p->b.outer * bytes;
    const int columns = FEW_REGISTERS / rows < FEW_COLUMNS ? FEW_REGISTERS / rows : FEW_COLUMNS;
    const int64_t tall = round_up(m, rows), most = cpu_max(1, FEW_ROOM / tall / BLOCK_K) * BLOCK_K * UNIT_K;
    const bool ahead = p->n * p->k * bytes > (dtype == STRAND_PLUGIN_F32 ? FITS_IN_L3 : FITS_IN_L2);
    for (int64_t k = 0; k < p->k; k += most) {
        int64_t depth = cpu_min(most, p->k - k), floats = round_up(units_of(depth), CHAINS) * rows;
        const char *b = p->b.data + column * outer + k * bytes;
        for (int64_t r = 0; r < m; r += rows) few_pack(a + r / rows * floats, rows, &p->a, row + r, m - r, k, depth);
        few_tiles(rows, columns, dtype, a, b, outer, depth, c, c_stride, m, n, k == 0, ahead);
    }
}
