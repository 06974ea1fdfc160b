/* matmul_quant_row16.h - one row times quantised weights with vectors of 16 numbers; part of the template of
 * matmul_quant_kernel.h, whose sums it forms bit by bit.
 *
 * Sixteen rows of weights at a time, one a lane. What counts is that memory never waits: rows are found by what an
 * instruction can add up (four addresses, two distances), so that no register is spilled for them, and of the rows that lie
 * 32 rows ahead as many bytes are asked for as are used up, a line here and a line there: in a heap they would keep this
 * block's own loads waiting. */

typedef struct lines {
    const uint8_t *quarter[4]; /* row 4i, at the block that comes next */
    int64_t stride, thrice;
    const uint8_t *ahead;
} lines;

#define LINES_AHEAD 32 /* rows: sixteen would do for their time, but not for the pages that are looked up first */

QUANT_FN lines lines_at(const cpu_quant_weights *w, int64_t column) {
    const uint8_t *p = w->data + column * w->stride;
    lines t = {.stride = w->stride,
               .thrice = 3 * w->stride,
               .ahead = (const uint8_t *)((uintptr_t)p + (uintptr_t)(LINES_AHEAD * w->stride))};
    for (int i = 0; i < 4; i++) t.quarter[i] = p + 4 * i * w->stride;
    return t;
}

/* On to the block that comes next, `bytes` further. The compiler is not to find out how the addresses depend on each other:
 * it would keep all sixteen. */
QUANT_FN void next_block(lines *t, int64_t bytes) {
    for (int i = 0; i < 4; i++) t->quarter[i] += bytes;
    t->ahead = (const uint8_t *)((uintptr_t)t->ahead + (uintptr_t)(CPU_LANES * bytes));
    __asm__(""
            : "+r"(t->quarter[0]), "+r"(t->quarter[1]), "+r"(t->quarter[2]), "+r"(t->quarter[3]), "+r"(t->stride),
              "+r"(t->thrice));
}

QUANT_FN const uint8_t *line(const lines *t, int i) {
    const uint8_t *p = t->quarter[i / 4];
    return i % 4 == 0 ? p : i % 4 == 1 ? p + t->stride : i % 4 == 2 ? p + 2 * t->stride : p + t->thrice;
}

/* Cache lines [first, first + count) of what this block's turn asks for, here and not somewhere else. */
QUANT_FN void ask(const lines *t, int first, int count) {
#pragma GCC unroll 8
    for (int i = 0; i < count; i++)
        __builtin_prefetch((const void *)((uintptr_t)t->ahead + (uintptr_t)(64 * (first + i))), 0, 2);
    __asm__ volatile("");
}

/* ---- 16 or 32 bytes of each row, transposed as load_16 and load_32 do ---- */

QUANT_FN __m256i lines_two(const lines *t, int i, int j, int at) {
    __m256i v = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(line(t, i) + at)));
    return _mm256_inserti128_si256(v, _mm_loadu_si128((const __m128i *)(const void *)(line(t, j) + at)), 1);
}

QUANT_FN void lines_16(const lines *t, int at, vi r[4]) {
    vi x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i low = _mm512_castsi256_si512(lines_two(t, i, i + 4, at));
        x[i] = (vi)_mm512_inserti64x4(low, lines_two(t, i + 8, i + 12, at), 1); /* 256 bits are loaded twice as fast */
    }
    transpose_4(x, r);
}

QUANT_FN void lines_32(const lines *t, int at, vi r[8]) {
    vi z[2][4];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        vi x[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            __m512i v = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(const void *)(line(t, 8 * h + i) + at)));
            __m256i second = _mm256_loadu_si256((const __m256i *)(const void *)(line(t, 8 * h + i + 4) + at));
            x[i] = (vi)_mm512_mask_broadcast_i64x4(v, 0xf0, second);
        }
        transpose_4(x, z[h]);
    }
    join_halves(z, r);
}

/* The F16 at byte `at` of every row: a register's low 16 bits are loaded without touching the others. */
QUANT_FN vf lines_halves(const lines *t, int at) {
    uint64_t four[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        __asm__("movzwl %c4(%1,%3), %k0\n\tshl $16, %0\n\tmovw %c4(%1,%2,2), %w0\n\tshl $16, %0\n\tmovw %c4(%1,%2), %w0\n\tshl "
                "$16, %0\n\t"
                "movw %c4(%1), %w0"
                : "=&r"(four[i])
                : "r"(t->quarter[i]), "r"(t->stride), "r"(t->thrice), "i"(at)
                : "cc");
    return (vf)_mm512_cvtph_ps(_mm256_set_epi64x((int64_t)four[3], (int64_t)four[2], (int64_t)four[1], (int64_t)four[0]));
}

/* ---- the types ---- */

QUANT_FN vf lines_q8_0(int way, vf sum, lines *t, const rounded_block *a) {
    vi whole = set_lanes(a->offset[0]), r[8];
    lines_32(t, 2, r);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        whole = dot_signed(way, whole, r[j], a, j);
        ask(t, j, 1);
    }
    ask(t, 8, 1);
    sum = scaled(sum, whole, lines_halves(t, 0), a);
    next_block(t, 34);
    return sum;
}

QUANT_FN vf lines_q4_0(int way, vf sum, lines *t, const rounded_block *a) {
    vi start = set_lanes(a->offset[0]), low = begin(way, start), high = {0}, r[4];
    lines_16(t, 2, r);
    ask(t, 0, 1);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        low = dot_unsigned(way, low, r[j] & 0x0f0f0f0f, a, j);
        high = dot_unsigned(way, high, high_nibbles(way, r[j]), a, j + 4);
        ask(t, j + 1, 1);
    }
    sum = scaled(sum, widened(way, start, low) + high_sum(way, high), lines_halves(t, 0), a);
    next_block(t, 18);
    return sum;
}

QUANT_FN vf lines_q4_k(int way, vf sum, lines *t, const rounded_block *a) {
    vi head[4];
    lines_16(t, 0, head);
    scales_q4_k s = split_scales_q4_k(head);
#pragma GCC unroll 4
    for (int strip = 0; strip < 4; strip++, a += 2) {
        vi low = {0}, high = {0}, r[8];
        lines_32(t, 16 + 32 * strip, r);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            low = dot_unsigned(way, low, r[j] & 0x0f0f0f0f, a, j);
            high = dot_unsigned(way, high, high_nibbles(way, r[j]), a + 1, j);
            ask(t, 9 * strip + j, 1);
        }
        ask(t, 9 * strip + 8, 1);
        int j = 2 * strip;
        sum = scaled(sum, widened(way, (vi){0}, low), s.d * byte_of(s.scale[j / 4], j % 4), a);
        sum = vf_fnma(s.dmin * byte_of(s.minimum[j / 4], j % 4), vf_set(a->sum), sum);
        sum = scaled(sum, high_sum(way, high), s.d * byte_of(s.scale[j / 4], j % 4 + 1), a + 1);
        sum = vf_fnma(s.dmin * byte_of(s.minimum[j / 4], j % 4 + 1), vf_set(a[1].sum), sum);
    }
    next_block(t, 144);
    return sum;
}

/* Q6_K is not transposed before it is multiplied: its rows are unpacked whole, 64 weights to a vector, and the sums of pairs of
 * places, multiplied by the scales of their 16, come together afterwards. All of it is exact. */

QUANT_FN __m512i bytes_dot(__m512i sum, __m512i w, __m512i a) {
#if QUANT_VNNI
    return _mm512_dpbusd_epi32(sum, w, a);
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(w, a), _mm512_set1_epi16(1)));
#endif
}

QUANT_FN __m512i even_and_odd(__m512i a, __m512i b) {
    __m512 x = _mm512_castsi512_ps(a), y = _mm512_castsi512_ps(b);
    return _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(x, y, 0x88)),
                            _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0xdd)));
}

/* 128 weights of a row by the activations: lane l of 128 bits holds two sums of the places of scale l and two of scale l +
 * 4. */
QUANT_FN __m512i half_q6_k(const uint8_t *low, const uint8_t *high, __m512i scales, const __m512i a[2],
                           const __m512i start[2]) {
    const __m512i nibble = _mm512_set1_epi8(0x0f), mask = _mm512_set1_epi8(0x30), zero = _mm512_setzero_si512(),
                  left = _mm512_inserti64x4(_mm512_set1_epi16(4), _mm256_set1_epi16(2), 1),
                  right = _mm512_inserti64x4(zero, _mm256_set1_epi16(2), 1);
    __m512i x = _mm512_loadu_si512(low), h = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)high));
    __m512i first =
        _mm512_ternarylogic_epi32(_mm512_and_si512(x, nibble), _mm512_sllv_epi16(h, left), mask, 0xf8); /* a | b & c */
    __m512i second =
        _mm512_ternarylogic_epi32(_mm512_and_si512(_mm512_srli_epi16(x, 4), nibble), _mm512_srlv_epi16(h, right), mask, 0xf8);
    return _mm512_madd_epi16(_mm512_packs_epi32(bytes_dot(start[0], first, a[0]), bytes_dot(start[1], second, a[1])), scales);
}

/* quads[q]: of rows 4q .. 4q+3, row r and block b of four at 8 (r / 2) + 4 (b % 2) + 2 (r % 2) + b / 2. whole[b]: all rows. */
QUANT_FN void rows_to_lanes(const __m512i quads[4], __m512i whole[4]) {
    const __m512i at = _mm512_setr_epi32(0, 2, 8, 10, 16, 18, 24, 26, 4, 6, 12, 14, 20, 22, 28, 30);
#pragma GCC unroll 2
    for (int b = 0; b < 2; b++) {
        __m512i from = _mm512_add_epi32(at, _mm512_set1_epi32(b));
        __m512i x = _mm512_permutex2var_epi32(quads[0], from, quads[1]),
                y = _mm512_permutex2var_epi32(quads[2], from, quads[3]);
        whole[2 * b] = _mm512_shuffle_i64x2(x, y, 0x44);
        whole[2 * b + 1] = _mm512_shuffle_i64x2(x, y, 0xee);
    }
}

QUANT_FN vf lines_q6_k(vf sum, lines *t, const rounded_block *a) {
    /* Scales of four bytes each, as words: those of sub-blocks 0 and 4 in a lane, and so on. */
    const __m512i spread =
        _mm512_set_epi16(7, 7, 7, 7, 3, 3, 3, 3, 6, 6, 6, 6, 2, 2, 2, 2, 5, 5, 5, 5, 1, 1, 1, 1, 4, 4, 4, 4, 0, 0, 0, 0);
    const __m512i spreads[2] = {spread, _mm512_add_epi16(spread, _mm512_set1_epi16(8))};
    __m512i x[4], start[4], quads[2][4], whole[4];
    vf d = lines_halves(t, 208);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m256i two[2];
        memcpy(&two[0], a[2 * i].q, 32);
        memcpy(&two[1], a[2 * i + 1].q, 32);
        x[i] = _mm512_inserti64x4(_mm512_castsi256_si512(two[0]), two[1], 1);
        start[i] = _mm512_sub_epi32(_mm512_setzero_si512(), bytes_dot(_mm512_setzero_si512(), _mm512_set1_epi8(32), x[i]));
    }
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        __m512i m[2][4];
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            const uint8_t *p = line(t, 4 * q + r);
            ask(t, 13 * q + 3 * r + (r > 0), 3 + (r == 0) + (r == 3 && q == 3));
            for (int i = 0; i < 3 + r % 2; i++)
                __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)(420 + 64 * i)), 0, 3); /* to L1 */
            __m512i scales =
                _mm512_castsi256_si512(_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(p + 192))));
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++) {
                m[half][r] = half_q6_k(p + 64 * half, p + 128 + 32 * half, _mm512_permutexvar_epi16(spreads[half], scales),
                                       x + 2 * half, start + 2 * half);
            }
        }
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            __m512i u = even_and_odd(m[half][0], m[half][1]), v = even_and_odd(m[half][2], m[half][3]);
            quads[half][q] = _mm512_add_epi32(_mm512_shuffle_i32x4(u, v, 0x88), _mm512_shuffle_i32x4(u, v, 0xdd));
        }
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++, a += 4) {
        rows_to_lanes(quads[half], whole);
#pragma GCC unroll 4
        for (int b = 0; b < 4; b++) sum = scaled(sum, (vi)whole[b], d, a + b);
    }
    next_block(t, 210);
    return sum;
}

QUANT_FN void one_row(uint32_t dtype, const cpu_quant_weights *w, int64_t column, const char *rounded, float *c) {
    const rounded_block *a = (const rounded_block *)(const void *)rounded;
    const int unit = unit_of(dtype), way = way_of(dtype);
    lines t = lines_at(w, column);
    vf sum = {0};
    for (int64_t left = w->k / 32 / unit; left > 0; left--, a += unit) {
        if (dtype == STRAND_PLUGIN_Q8_0) sum = lines_q8_0(way, sum, &t, a);
        if (dtype == STRAND_PLUGIN_Q4_0) sum = lines_q4_0(way, sum, &t, a);
        if (dtype == STRAND_PLUGIN_Q4_K) sum = lines_q4_k(way, sum, &t, a);
        if (dtype == STRAND_PLUGIN_Q6_K) sum = lines_q6_k(sum, &t, a);
    }
    vf_store(c, sum);
}
