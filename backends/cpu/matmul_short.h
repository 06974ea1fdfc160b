/* matmul_short.h - few rows times weights as they are stored, B dense along k, where k is so short that an element is one
 * chain. Part of the template of matmul_kernel.h.
 *
 * STRIP columns are turned in registers, a square at a time, and a vector of one unit of all of them goes to the sums of every
 * row: nothing is packed. As many strips go side by side as keep multiply-adds from waiting for each other. */

/* `rows` rows by `strips` strips of columns from b on, all there; the first m rows are stored. */
INLINE void short_strips(int rows, int strips, uint32_t dtype, const float *a, const char *b, int64_t outer, int64_t depth,
                         float *c, int64_t c_stride, int64_t m) {
    const int64_t bytes = cpu_element_bytes(dtype), step = SQUARE_K(dtype);
    const int made = SQUARE_UNITS(dtype);
    sv sum[8], u[8];
    int64_t k = 0;
#pragma GCC unroll 8
    for (int i = 0; i < rows * strips; i++) sum[i] = (sv){0};
    for (; k + step <= depth; k += step, a += made * rows)
#pragma GCC unroll 4
        for (int s = 0; s < strips; s++) {
            square(u, b + s * STRIP * outer + k * bytes, outer, dtype);
#pragma GCC unroll 8
            for (int i = 0; i < made; i++)
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++) sum[s * rows + r] = strip_fma(a[i * rows + r], u[i], sum[s * rows + r]);
        }
#pragma GCC unroll 4
    for (int s = 0; s < strips && k < depth; s++) {
        edge e;
        edge_copy(&e, b + s * STRIP * outer + k * bytes, outer, dtype, STRIP, depth - k);
        square(u, e.rows[0], EDGE_K * 4, dtype);
#pragma GCC unroll 8
        for (int i = 0; i < made; i++)
            if (i < units_of(depth - k))
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++) sum[s * rows + r] = strip_fma(a[i * rows + r], u[i], sum[s * rows + r]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        if (r >= m) break;
#pragma GCC unroll 4
        for (int s = 0; s < strips; s++) *(sv_unaligned *)(c + r * c_stride + s * STRIP) = sum[s * rows + r];
    }
}

/* Any number of rows. Columns that do not fill a strip are read from a copy with zeros around it. */
INLINE void few_short(int rows, uint32_t dtype, const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n,
                      float *c, int64_t c_stride, float *a) {
    const int64_t bytes = cpu_element_bytes(dtype), outer = p->b.outer * bytes, floats = units_of(p->k) * rows;
    const int strips = rows == 1 ? 4 : 8 / rows;
    const char *b = p->b.data + column * outer;
    pack(a, rows, true, false, &p->a, row, m, 0, p->k);
    for (int64_t j = 0, wide; j < n; j += wide) {
        char copy[STRIP][SHORT_K * 4];
        float tile[8 * STRIP];
        wide = j + strips * STRIP <= n ? strips * STRIP : cpu_min(STRIP, n - j);
        for (int64_t i = 0; i < wide && wide < STRIP; i++) memcpy(copy[i], b + (j + i) * outer, (size_t)(p->k * bytes));
        for (int64_t i = wide; i < STRIP; i++) memset(copy[i], 0, sizeof copy[i]);
        for (int64_t r = 0; r < m; r += rows) {
            const float *left = a + r / rows * floats;
            float *to = c + r * c_stride + j;
            int64_t here = cpu_min(rows, m - r);
            if (wide == strips * STRIP) {
                short_strips(rows, strips, dtype, left, b + j * outer, outer, p->k, to, c_stride, here);
            } else if (wide == STRIP) {
                short_strips(rows, 1, dtype, left, b + j * outer, outer, p->k, to, c_stride, here);
            } else {
                short_strips(rows, 1, dtype, left, copy[0], sizeof copy[0], p->k, tile, STRIP, here);
                for (int64_t i = 0; i < here; i++) memcpy(to + i * c_stride, tile + i * STRIP, (size_t)wide * sizeof *to);
            }
        }
    }
}
