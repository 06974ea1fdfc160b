/* matmul_quant_row.h - one row times quantised weights with vectors of 4 or 8 numbers: each block goes from the packed
 * weights through registers. Part of the template of matmul_quant_kernel.h. */

QUANT_FN vf one_q8_0(int way, vf sum, const uint8_t *const *rows, int64_t at, int64_t ahead, const rounded_block *a) {
    prefetch(rows, ahead, at, 34);
    vi whole = set_lanes(a->offset[0]), r[8];
    load_16(rows, at + 2, r);
    load_16(rows, at + 18, r + 4);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) whole = dot_signed(way, whole, r[j], a, j);
    return scaled(sum, whole, load_halves(rows, at), a);
}

QUANT_FN vf one_q4_0(int way, vf sum, const uint8_t *const *rows, int64_t at, int64_t ahead, const rounded_block *a) {
    prefetch(rows, ahead, at, 18);
    vi start = set_lanes(a->offset[0]), low = begin(way, start), high = {0}, r[4];
    load_16(rows, at + 2, r);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        low = dot_unsigned(way, low, r[j] & 0x0f0f0f0f, a, j);
        high = dot_unsigned(way, high, high_nibbles(way, r[j]), a, j + 4);
    }
    return scaled(sum, widened(way, start, low) + high_sum(way, high), load_halves(rows, at), a);
}

QUANT_FN vf one_q4_k(int way, vf sum, const uint8_t *const *rows, int64_t at, int64_t ahead, const rounded_block *a) {
    scales_q4_k s = load_scales_q4_k(rows, at);
#pragma GCC unroll 4
    for (int strip = 0; strip < 4; strip++, a += 2) {
        vi low = {0}, high = {0}, r[8];
        prefetch(rows, ahead, at + 36 * strip, 36);
        load_16(rows, at + 16 + 32 * strip, r);
        load_16(rows, at + 32 + 32 * strip, r + 4);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            low = dot_unsigned(way, low, r[j] & 0x0f0f0f0f, a, j);
            high = dot_unsigned(way, high, high_nibbles(way, r[j]), a + 1, j);
        }
        int j = 2 * strip;
        sum = scaled(sum, widened(way, (vi){0}, low), s.d * byte_of(s.scale[j / 4], j % 4), a);
        sum = vf_fnma(s.dmin * byte_of(s.minimum[j / 4], j % 4), vf_set(a->sum), sum);
        sum = scaled(sum, high_sum(way, high), s.d * byte_of(s.scale[j / 4], j % 4 + 1), a + 1);
        sum = vf_fnma(s.dmin * byte_of(s.minimum[j / 4], j % 4 + 1), vf_set(a[1].sum), sum);
    }
    return sum;
}

/* Two quads of each of four sub-blocks, from low nibbles x and y and their high bits h. */
QUANT_FN void two_quads_q6_k(int way, vi whole[4][2], int part, const vi *x, const vi *y, const vi *h, const rounded_block *a,
                             int j) {
    vi sum[4];
#pragma GCC unroll 4
    for (int b = 0; b < 4; b++) sum[b] = begin(way, whole[b][part]);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        sum[0] = dot_unsigned(way, sum[0], (x[i] & 0x0f0f0f0f) | (h[i] << 4 & 0x30303030), a, j + i);
        sum[1] = dot_unsigned(way, sum[1], (y[i] & 0x0f0f0f0f) | (h[i] << 2 & 0x30303030), a + 1, j + i);
        sum[2] = dot_unsigned(way, sum[2], (x[i] >> 4 & 0x0f0f0f0f) | (h[i] & 0x30303030), a + 2, j + i);
        sum[3] = dot_unsigned(way, sum[3], (y[i] >> 4 & 0x0f0f0f0f) | (h[i] >> 2 & 0x30303030), a + 3, j + i);
    }
#pragma GCC unroll 4
    for (int b = 0; b < 4; b++) whole[b][part] = widened(way, whole[b][part], sum[b]);
}

QUANT_FN vf one_q6_k(int way, vf sum, const uint8_t *const *rows, int64_t at, int64_t ahead, const rounded_block *a) {
    vi scales[4];
    vf d = load_halves(rows, at + 208);
    load_16(rows, at + 192, scales);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++, a += 4) {
        vi whole[4][2];
#pragma GCC unroll 2
        for (int part = 0; part < 2; part++) {
            vi x[4], y[4], h[4];
            prefetch(rows, ahead, at + 105 * half + 52 * part, 52);
            load_16(rows, at + 64 * half + 16 * part, x);
            load_16(rows, at + 64 * half + 32 + 16 * part, y);
            load_16(rows, at + 128 + 32 * half + 16 * part, h);
#pragma GCC unroll 4
            for (int b = 0; b < 4; b++) whole[b][part] = set_lanes(a[b].offset[part]);
            two_quads_q6_k(way, whole, part, x, y, h, a, 4 * part);
            two_quads_q6_k(way, whole, part, x + 2, y + 2, h + 2, a, 4 * part + 2);
        }
#pragma GCC unroll 4
        for (int b = 0; b < 4; b++) {
            int scale = 8 * half + 2 * b;
            vf first = signed_byte_of(scales[scale / 4], scale % 4), second = signed_byte_of(scales[scale / 4], scale % 4 + 1);
            sum = scaled_twice(sum, scaled_half(whole[b][0], first), whole[b][1], second, d, a + b);
        }
    }
    return sum;
}

QUANT_FN void one_row(uint32_t dtype, const cpu_quant_weights *w, int64_t column, const char *rounded, float *c) {
    const uint8_t *starts[CPU_LANES];
    vf sum = {0};
    const rounded_block *a = (const rounded_block *)(const void *)rounded;
    int unit = unit_of(dtype);
    int64_t bytes = cpu_span(dtype, 32 * unit);
    row_starts(w, column, CPU_LANES, starts);
    for (int64_t i = 0; i < w->k / 32 / unit; i++, a += unit) {
        if (dtype == STRAND_PLUGIN_Q8_0) sum = one_q8_0(way_of(dtype), sum, starts, i * bytes, CPU_LANES * w->stride, a);
        if (dtype == STRAND_PLUGIN_Q4_0) sum = one_q4_0(way_of(dtype), sum, starts, i * bytes, CPU_LANES * w->stride, a);
        if (dtype == STRAND_PLUGIN_Q4_K) sum = one_q4_k(way_of(dtype), sum, starts, i * bytes, CPU_LANES * w->stride, a);
        if (dtype == STRAND_PLUGIN_Q6_K) sum = one_q6_k(way_of(dtype), sum, starts, i * bytes, CPU_LANES * w->stride, a);
    }
    vf_store(c, sum);
}
