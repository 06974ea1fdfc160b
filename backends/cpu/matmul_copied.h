/* matmul_copied.h - tens of rows times B that is dense along n: more rows than registers have sums for, and too few to pay for
 * packing B. Part of the template of matmul_kernel.h.
 *
 * The first PANEL_ROWS rows take a panel of B as it lies and leave a copy, whose stores are free beside so many multiply-adds;
 * the other rows, shared out evenly, read the copy from a near cache. Memory is asked for some steps ahead, down the columns of
 * the panel and on into the next one: few enough lines for the sets of L2 that they fall into when rows of B lie a power of two
 * apart. */
#define COPIED_ABOVE 16  /* rows */
#define COPIED_MOST  64  /* beyond, packing costs less */
#define COPIED_K     256 /* units at a time */
#define COPIED_AHEAD 24  /* units */

/* `units` steps of PANEL_ROWS rows and a panel of B, rows `inner` bytes apart; `odd`: the last unit has no neighbour. `next`
 * is where the panel begins that comes next. */
INLINE void copied_first(uint32_t dtype, const float *a, const char *b, int64_t inner, int64_t units, bool odd, float *copy,
                         float *c, int64_t c_stride, bool fresh, const char *next) {
    const int64_t bytes = cpu_element_bytes(dtype), width = PANEL_COLUMNS * bytes;
    vf sum[PANEL_ROWS][PANEL_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < PANEL_ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < PANEL_VECTORS; v++) sum[r][v] = fresh ? vf_zero() : vf_load(c + r * c_stride + v * CPU_LANES);
    const char *soon = b + COPIED_AHEAD * UNIT_K * inner;
    int64_t left = units - COPIED_AHEAD;
    if (left <= 0) soon = next - left * UNIT_K * inner, left = INT64_MAX;
#pragma GCC unroll 1
    for (int64_t u = 0; u < units; u++, a += PANEL_ROWS, b += UNIT_K * inner, copy += PANEL_COLUMNS) {
        const bool alone = UNIT_PAIRS && odd && u + 1 == units;
        vf right[PANEL_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < PANEL_VECTORS; v++) {
            const char *from = b + v * CPU_LANES * bytes;
            right[v] = load_units(from, UNIT_PAIRS && !alone ? from + inner : NULL, dtype, CPU_LANES);
            vf_store(copy + v * CPU_LANES, right[v]);
        }
        if (left-- == 0) soon = next, left = INT64_MAX;
        /* Lines that end in the panel: one that only ends in the next is asked for there. */
#pragma GCC unroll 2
        for (int64_t i = width < 64 ? width - 1 : 63; i < width; i += 64)
#pragma GCC unroll 2
            for (int pair = 0; pair < UNIT_K; pair++) __builtin_prefetch(soon + pair * inner + i, 0, 2);
        soon += UNIT_K * inner;
#pragma GCC unroll 16
        for (int r = 0; r < PANEL_ROWS; r++) {
            vf one = vf_set(a[r]);
#pragma GCC unroll 4
            for (int v = 0; v < PANEL_VECTORS; v++) sum[r][v] = unit_fma(one, right[v], sum[r][v]);
        }
    }
    put(PANEL_ROWS, PANEL_VECTORS, sum, c, c_stride);
}

/* More than PANEL_ROWS rows. Columns that do not fill a panel are packed. */
INLINE void few_copied(uint32_t dtype, const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c,
                       int64_t c_stride, float *a) {
    const int64_t bytes = cpu_element_bytes(dtype), inner = p->b.inner * bytes, most = COPIED_K * UNIT_K;
    const int64_t others = m - PANEL_ROWS, panels = (others + PANEL_ROWS - 1) / PANEL_ROWS;
    const int64_t height = (others + panels - 1) / panels;
    float *copy = a + packed_a(m, cpu_min(COPIED_K, units_of(p->k)));
    const ahead nothing = {0};
    for (int64_t k = 0; k < p->k; k += most) {
        const int64_t depth = cpu_min(most, p->k - k), units = units_of(depth), below = cpu_min(most, p->k - k - depth);
        const char *b = p->b.data + column * bytes + k * inner;
        float *rest = a + PANEL_ROWS * units;
        pack(a, PANEL_ROWS, false, false, &p->a, row, PANEL_ROWS, k, depth);
        pack(rest, height, false, false, &p->a, row + PANEL_ROWS, others, k, depth);
        for (int64_t j = 0; j < n; j += PANEL_COLUMNS) {
            const int64_t columns = cpu_min(PANEL_COLUMNS, n - j);
            if (columns < PANEL_COLUMNS) {
                pack(copy, PANEL_COLUMNS, true, false, &p->b, column + j, columns, k, depth);
                one_block(false, a, copy, units, c + j, c_stride, PANEL_ROWS, columns, k == 0, &nothing);
            } else {
                const bool last = j + 2 * PANEL_COLUMNS > n && below > 0;
                copied_first(dtype, a, b + j * bytes, inner, units, depth % UNIT_K != 0, copy, c + j, c_stride, k == 0,
                             last ? b + depth * inner : b + (j + PANEL_COLUMNS) * bytes);
            }
            for (int64_t i = 0; i < others; i += height)
                one_block(false, rest + i * units, copy, units, c + (PANEL_ROWS + i) * c_stride + j, c_stride,
                          cpu_min(height, others - i), columns, k == 0, &nothing);
        }
    }
}
