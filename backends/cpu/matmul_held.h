/* matmul_held.h - few rows times B that is dense along n and fits the second cache: sums stay in registers for all of k. Part
 * of the template of matmul_kernel.h, for F32. */

#if CPU_LANES == 16 || defined(__aarch64__)
#define HELD_REGISTERS 16
#else
#define HELD_REGISTERS 8
#endif
#define HELD_ROWS 8

/* A's rows, where they lie when they are F32 dense along k, else packed: number k of row r at p[k * step + r * row]. */
typedef struct held {
    const float *p;
    int64_t step, row;
} held;

INLINE held held_of_a(float *room, const cpu_product *p, int64_t row, int64_t m, int64_t rows, int64_t k, int64_t depth) {
    if (m == rows && p->a.inner == 1 && p->a.dtype == STRAND_PLUGIN_F32)
        return (held){(const float *)(const void *)p->a.data + row * p->a.outer + k, 1, p->a.outer};
    for (int64_t i = 0; i < depth; i++)
        for (int64_t r = 0; r < rows; r++) /* zeros for rows that are not there */
            room[i * rows + r] = r < m ? load_one(p->a.data, (row + r) * p->a.outer + (k + i) * p->a.inner, p->a.dtype) : 0;
    return (held){room, rows, 1};
}

/* m of `rows` rows, n columns of `vectors` vectors (all of them when n is vectors * CPU_LANES). */
INLINE void held_strip(int rows, int vectors, held a, const float *b, int64_t inner, int64_t depth, float *c, int64_t c_stride,
                       int64_t m, int64_t n, bool fresh) {
    vf sum[HELD_ROWS][8];
    const bool whole = n >= vectors * CPU_LANES;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            const float *from = c + (r < m ? r : 0) * c_stride + v * CPU_LANES;
            sum[r][v] = fresh ? vf_zero() : whole ? vf_load(from) : vf_load_part(from, n);
        }
#pragma GCC unroll 2
    for (int64_t k = 0; k < depth; k++, a.p += a.step, b += inner) {
        vf right[8];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) right[v] = whole ? vf_load(b + v * CPU_LANES) : vf_load_part(b, n);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            vf left = vf_set(a.p[r * a.row]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[r][v] = vf_fma(left, right[v], sum[r][v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            if (r >= m) continue;
            if (whole)
                vf_store(c + r * c_stride + v * CPU_LANES, sum[r][v]);
            else
                vf_store_part(c + r * c_stride, sum[r][v], n);
        }
}

INLINE void few_held(int rows, const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c,
                     int64_t c_stride, float *a) {
    const int most = HELD_REGISTERS / rows, vectors = most > 8 ? 8 : most;
    const float *b = (const float *)(const void *)p->b.data + column;
    for (int64_t k = 0; k < p->k; k += FEW_K) {
        int64_t depth = cpu_min(FEW_K, p->k - k), inner = p->b.inner, j = 0;
        const float *from = b + k * inner;
        held units = held_of_a(a, p, row, m, rows, k, depth);
        for (; j + vectors * CPU_LANES <= n; j += vectors * CPU_LANES)
            held_strip(rows, vectors, units, from + j, inner, depth, c + j, c_stride, m, vectors * CPU_LANES, k == 0);
        for (; j + CPU_LANES <= n; j += CPU_LANES)
            held_strip(rows, 1, units, from + j, inner, depth, c + j, c_stride, m, CPU_LANES, k == 0);
        if (j < n) held_strip(rows, 1, units, from + j, inner, depth, c + j, c_stride, m, n - j, k == 0);
    }
}
