/* matmul_few.h - few rows times weights as they are stored, B dense along k. Part of the template of matmul_kernel.h, whose
 * chains are made so that a vector can take CHAINS units of a column as they lie, next to those of other columns: nothing is
 * transposed.
 *
 * A tile is up to FEW_ROWS rows by up to eight columns, whose sums stay in registers for a segment; columns are few enough for
 * their lines to stay in L1 whatever lies between them. Vectors are no longer than STRIP: 64 bytes would have to be put
 * together from four columns, which costs more than it saves. */
#if CPU_LANES == 16 || defined(__aarch64__)
#define FEW_ROWS      8
#define FEW_REGISTERS 16 /* sums of a tile, at most */
#else
#define FEW_ROWS      4
#define FEW_REGISTERS 8
#endif
#define FEW_COLUMNS 8
#define ABREAST_OF  (STRIP / CHAINS) /* columns in a vector */
#define FEW_VECTORS (FEW_COLUMNS / ABREAST_OF)

/* The reads of one column are asked for this many bytes ahead, at its end those of the column that comes next, unless all of B
 * fits L2 together with what else is there. */
#define AHEAD      1024
#define FITS_IN_L2 (512 << 10)

typedef float few_sums __attribute__((vector_size(4 * FEW_COLUMNS)));

/* 16 bytes of units of each of ABREAST_OF columns; of halves, the units of the first and of the second 8 bytes. */
#if STRIP == 8
INLINE sv few_numbers(__m128i h, uint32_t dtype) {
    return dtype == STRAND_PLUGIN_F16 ? (sv)_mm256_cvtph_ps(h) : (sv)_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16);
}
INLINE void few_vectors(sv out[2], const char *p, int64_t outer, uint32_t dtype) {
    __m128 a = square_row(p, dtype), b = square_row(p + outer, dtype);
    if (UNIT_PAIRS || dtype == STRAND_PLUGIN_F32) {
        out[0] = (sv)_mm256_insertf128_ps(_mm256_castps128_ps256(a), b, 1);
        return;
    }
    out[0] = few_numbers(_mm_unpacklo_epi64((__m128i)a, (__m128i)b), dtype);
    out[1] = few_numbers(_mm_unpackhi_epi64((__m128i)a, (__m128i)b), dtype);
}
INLINE sv few_left(const float *a) {
    return (sv)_mm256_broadcast_ps((const void *)a);
}
INLINE sv few_fma(sv a, sv b, sv c) {
#if UNIT_PAIRS
    return (sv)_mm256_dpbf16_ps((__m256)c, (__m256bh)a, (__m256bh)b);
#else
    return (sv)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#endif
}
/* (0 + 2) + (1 + 3) of each column. */
INLINE few_sums few_fold(const sv *sum, int vectors) {
    __m256d x[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) x[v] = (__m256d)sum[v < vectors ? v : 0];
    __m256 a = _mm256_add_ps((__m256)_mm256_unpacklo_pd(x[0], x[1]), (__m256)_mm256_unpackhi_pd(x[0], x[1])); /* 0 + 2, 1 + 3 of both */
    __m256 b = _mm256_add_ps((__m256)_mm256_unpacklo_pd(x[2], x[3]), (__m256)_mm256_unpackhi_pd(x[2], x[3]));
    __m256 evens = _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xdd)); /* columns 0, 2, 4, 6 and 1, 3, 5, 7 */
    return (few_sums)_mm256_permutevar8x32_ps(evens, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
#else
typedef uint16_t few_halves __attribute__((vector_size(8), aligned(2), may_alias));
INLINE void few_vectors(sv out[2], const char *p, int64_t outer, uint32_t dtype) {
    (void)outer;
    if (dtype == STRAND_PLUGIN_F32) {
        out[0] = vf_load((const float *)(const void *)p);
        return;
    }
    for (int i = 0; i < 2; i++) {
        su h = __builtin_convertvector(((const few_halves *)(const void *)p)[i], su);
        out[i] = dtype == STRAND_PLUGIN_F16 ? f16_numbers(h) : (sv)(h << 16);
    }
}
INLINE sv few_left(const float *a) {
    return vf_load(a);
}
INLINE sv few_fma(sv a, sv b, sv c) {
    return vf_fma(a, b, c);
}
INLINE few_sums few_fold(const sv *sum, int vectors) {
    few_sums to = {0};
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) to[v] = (sum[v][0] + sum[v][2]) + (sum[v][1] + sum[v][3]);
    return to;
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
    __m128 pairs = (__m128)_mm256_cvtneps_pbh(_mm256_loadu_ps(numbers));
    _mm_storeu_ps(to, pairs);
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

/* CHAINS units, or twice as many: `groups`. */
INLINE void few_units_of(int rows, int vectors, int groups, sv sum[FEW_ROWS][FEW_VECTORS], uint32_t dtype, const float *a,
                         const char *b, int64_t outer) {
    sv right[FEW_VECTORS][2];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) few_vectors(right[v], b + v * ABREAST_OF * outer, outer, dtype);
#pragma GCC unroll 2
    for (int g = 0; g < groups; g++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            sv left = few_left(a + (g * rows + r) * CHAINS);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[r][v] = few_fma(left, right[v][g], sum[r][v]);
        }
}

/* A segment of `depth` elements: rows x (vectors * ABREAST_OF) of it. */
INLINE void few_segment(int rows, int vectors, uint32_t dtype, const float *a, const char *b, int64_t outer, int64_t depth,
                        few_sums total[FEW_ROWS], bool fresh, const char *next, bool ahead) {
    const int64_t step = SQUARE_K(dtype), bytes = cpu_element_bytes(dtype), chunk = 64 / bytes;
    const int64_t floats = step / UNIT_K * rows;
    const int groups = UNIT_PAIRS || dtype == STRAND_PLUGIN_F32 ? 1 : 2;
    sv sum[FEW_ROWS][FEW_VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) sum[r][v] = (sv){0};
    int64_t k = 0;
    for (; k + chunk <= depth; k += chunk, next += 64) {
        if (ahead)
#pragma GCC unroll 8
            for (int i = 0; i < vectors * ABREAST_OF; i++) __builtin_prefetch(next + i * outer, 0, 2);
#pragma GCC unroll 4
        for (int64_t s = 0; s < chunk; s += step, a += floats) {
            few_units_of(rows, vectors, groups, sum, dtype, a, b + (k + s) * bytes, outer);
        }
    }
    for (; k + step <= depth; k += step, a += floats) few_units_of(rows, vectors, groups, sum, dtype, a, b + k * bytes, outer);
    if (k < depth) {
        char edge[FEW_COLUMNS][32] = {{0}};
        for (int i = 0; i < vectors * ABREAST_OF; i++)
            memcpy(edge[i], b + i * outer + k * bytes, (size_t)((depth - k) * bytes));
        few_units_of(rows, vectors, depth - k > CHAINS * UNIT_K ? groups : 1, sum, dtype, a, edge[0], sizeof edge[0]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        few_sums folded = few_fold(sum[r], vectors);
        total[r] = fresh ? folded : total[r] + folded;
    }
}

/* Sums of a tile, most of which are whole: a call to copy them would take longer than the copy. */
INLINE void few_copy(void *to, const void *from, int64_t count) {
    if (count == FEW_COLUMNS)
        memcpy(to, from, FEW_COLUMNS * sizeof(float));
    else if (count == FEW_COLUMNS / 2)
        memcpy(to, from, FEW_COLUMNS / 2 * sizeof(float));
    else
        memcpy(to, from, (size_t)count * sizeof(float));
}

/* m rows and `count` columns of the result; with fewer than vectors * ABREAST_OF of them `outer` is 0. */
INLINE void few_tile(int rows, int vectors, uint32_t dtype, const float *a, const char *b, int64_t outer, int64_t apart,
                     int64_t depth, float *c, int64_t c_stride, int64_t m, int64_t count, bool fresh, bool ahead) {
    const int64_t bytes = cpu_element_bytes(dtype), row_bytes = depth * bytes;
    few_sums sum[FEW_ROWS];
#pragma GCC unroll 1
    for (int64_t r = 0; r < m && !fresh; r++) few_copy(&sum[r], c + r * c_stride, count);
    for (int64_t k = 0; k < depth; k += BLOCK_K * UNIT_K) {
        int64_t soon = k * bytes + AHEAD;
        const char *next = b + (soon < row_bytes ? soon : vectors * ABREAST_OF * apart + soon - row_bytes);
        few_segment(rows, vectors, dtype, a + k / UNIT_K * rows, b + k * bytes, outer, cpu_min(BLOCK_K * UNIT_K, depth - k),
                    sum, fresh && k == 0, next, ahead);
    }
#pragma GCC unroll 1
    for (int64_t r = 0; r < m; r++) few_copy(c + r * c_stride, &sum[r], count);
}

/* Any number of rows, `rows` at a time. */
INLINE void few_weights(int rows, uint32_t dtype, const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n,
                        float *c, int64_t c_stride, float *a) {
    const int64_t bytes = cpu_element_bytes(dtype), outer = p->b.outer * bytes;
    const int vectors = FEW_REGISTERS / rows < FEW_VECTORS ? FEW_REGISTERS / rows : FEW_VECTORS, columns = vectors * ABREAST_OF;
    const int64_t tall = round_up(m, rows), most = FEW_ROOM / tall / BLOCK_K * BLOCK_K * UNIT_K;
    const bool ahead = n * p->k * bytes > FITS_IN_L2;
    for (int64_t k = 0; k < p->k; k += most) {
        int64_t depth = cpu_min(most, p->k - k), floats = round_up(units_of(depth), CHAINS) * rows;
        const char *b = p->b.data + column * outer + k * bytes;
        for (int64_t r = 0; r < m; r += rows) few_pack(a + r / rows * floats, rows, &p->a, row + r, m - r, k, depth);
        for (int64_t j = 0; j < n;) {
            bool whole = j + columns <= n;
            for (int64_t r = 0; r < m; r += rows) {
                few_tile(rows, vectors, dtype, a + r / rows * floats, b + j * outer, whole ? outer : 0, outer, depth,
                         c + r * c_stride + j, c_stride, cpu_min(rows, m - r), whole ? columns : 1, k == 0, ahead && r == 0);
            }
            j += whole ? columns : 1;
        }
    }
}
