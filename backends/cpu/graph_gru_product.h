/* graph_gru_product.h - the products of graph_gru.c: y += q s, in one chain of UNIT_FMA an element. A template: TARGET and
 * UNIT_FMA say what a unit of 32 bits is, an F32 number or a pair of BF16 along the sum; PRODUCT(name) names what is made. */

CPU_INLINE TARGET void PRODUCT(block)(const product *p, int64_t row, int64_t column, const int rows, const int vectors) {
    vf sum[MOST_ROWS][2];
    const float *q = p->q + row * p->q_pitch, *s = p->s + column;
    float *y = p->y + row * p->y_pitch + column;
#pragma GCC unroll 10
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[r][v] = vf_load(y + r * p->y_pitch + v * CPU_LANES);
    for (int64_t k = 0; k < p->depth; k++, s += p->s_pitch) {
        vf x[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) x[v] = vf_load(s + v * CPU_LANES);
#pragma GCC unroll 10
        for (int r = 0; r < rows; r++) {
            vf one = vf_set(q[r * p->q_pitch + k]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[r][v] = UNIT_FMA(one, x[v], sum[r][v]);
        }
    }
#pragma GCC unroll 10
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) vf_store(y + r * p->y_pitch + v * CPU_LANES, sum[r][v]);
}

CPU_INLINE TARGET void PRODUCT(columns)(const product *p, int64_t row, int64_t column, const int rows) {
    if (p->columns - column >= 2 * CPU_LANES)
        PRODUCT(block)(p, row, column, rows, 2);
    else
        PRODUCT(block)(p, row, column, rows, 1);
}

/* Two vectors of columns at a time, whose part of s stays in L1 for all rows; rows in blocks as equal as can be. */
TARGET static void PRODUCT(multiply)(const product *p, int64_t rows) {
    int64_t blocks = (rows + MOST_ROWS - 1) / MOST_ROWS;
    for (int64_t c = 0; c < p->columns; c += 2 * CPU_LANES)
        for (int64_t i = 0, at = 0; i < blocks; i++) {
            int64_t end = (i + 1) * rows / blocks;
#define ROWS(n)                                                                                                                \
    case n:                                                                                                                    \
        PRODUCT(columns)(p, at, c, n);                                                                                         \
        break;
            switch (end - at) {
#if MOST_ROWS == 10
                ROWS(10) ROWS(9) ROWS(8) ROWS(7) ROWS(6) ROWS(5)
#endif
                ROWS(4) ROWS(3) ROWS(2)
            default:
                PRODUCT(columns)(p, at, c, 1);
                break;
            }
#undef ROWS
            at = end;
        }
}

#undef TARGET
#undef UNIT_FMA
#undef PRODUCT
