// row.h - a row of F32 by weights [N, K] of F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K: bytes decide. A warp has two columns, a lane eight numbers of every
// 256, 16 bytes at once where they lie so; the loads of four turns of both columns are under way together. A lane's sums are
// one chain and the lanes' are added as a butterfly, whatever is read at once: wherever a row is multiplied, the bytes are the
// same.

static __device__ __noinline__ float activated(int kind, float v, float alpha, float beta) {
    return f_unary(kind, v, alpha, beta);
}

// Element i of weights of a type; of the quantised ones i counts bytes.
FN const void *row_at(const void *b, int type, long long i) {
    if (type >= QUANT_Q8_0) return (const unsigned char *)b + i;
    return type == 1 ? (const void *)((const float *)b + i) : (const half_word *)b + i;
}

FN void row8(float (&f)[8], const void *b, int k, int left, int stride, int type, int fast) {
    if (type == 1) {
        const float *const w = (const float *)b;
        if (fast && left >= 8) {
            const float4 low = LOAD4(w + k, 0), high = LOAD4(w + k, 1);
            f[0] = low.x, f[1] = low.y, f[2] = low.z, f[3] = low.w, f[4] = high.x, f[5] = high.y, f[6] = high.z, f[7] = high.w;
        } else {
#pragma unroll
            for (int j = 0; j < 8; j++) f[j] = j < left ? w[(long long)(k + j) * stride] : 0.0f;
        }
        return;
    }
    const half_word *const h = (const half_word *)b;
    uint w[4] = {};
    if (fast && left >= 8) {
        const float4 v = LOAD4((const float *)(const void *)(h + k), 0);
        w[0] = BITS_OF(v.x), w[1] = BITS_OF(v.y), w[2] = BITS_OF(v.z), w[3] = BITS_OF(v.w);
    } else {
#pragma unroll
        for (int j = 0; j < 8; j++)
            if (j < left) w[j >> 1] |= (uint)h[(long long)(k + j) * stride] << (16 * (j & 1));
    }
#pragma unroll
    for (int j = 0; j < 8; j++) f[j] = f_16(type, (w[j >> 1] >> (16 * (j & 1))) & 0xffffu);
}

// All of it lies 16 bytes at a time: the loads of four turns are under way before the first is used.
template <bool F32> FN void row_turns(float (&sum)[2], const float *a, const void *const (&from)[2], int type, int kk) {
    constexpr int PARTS = F32 ? 2 : 1;
    for (int k0 = WARP_LANE * 8; k0 < kk; k0 += 1024) {
        float4 w[4][2][PARTS] = {};
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (k0 + 256 * i < kk)
#pragma unroll
                for (int c = 0; c < 2; c++)
#pragma unroll
                    for (int p = 0; p < PARTS; p++)
                        w[i][c][p] = LOAD4((const float *)row_at(from[c], type, k0 + 256 * i), p);
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (k0 + 256 * i < kk) {
                const float4 low = LOAD4(a + k0 + 256 * i, 0), high = LOAD4(a + k0 + 256 * i, 1);
                const float x[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    const float4 one = w[i][c][0], two = w[i][c][PARTS - 1];
                    const float f[8] = {one.x, one.y, one.z, one.w, two.x, two.y, two.z, two.w};
#pragma unroll
                    for (int j = 0; j < 8; j++)
                        sum[c] = FMA(x[j], F32 ? f[j] : f_16(type, (BITS_OF(f[j >> 1]) >> (16 * (j & 1))) & 0xffffu), sum[c]);
                }
            }
    }
}

// Eight of a row of blocks from k on, a multiple of eight: two bytes at a time, of which blocks have an even number (Q4_K: four,
// its blocks being multiples of 16). The numbers are the formats', to the bit.
template <int TYPE> FN void quantised8(float (&f)[8], const void *row, int k) {
    const int i = k & (TYPE == QUANT_Q4_K || TYPE == QUANT_Q6_K ? 255 : 31), j = i >> 5, e = i & 31;
    uint w[4];
    if (TYPE == QUANT_Q8_0) {
        const half_word *const p = (const half_word *)row + (k >> 5) * 17;
        const float d = f_half(p[0]);
#pragma unroll
        for (int n = 0; n < 4; n++) w[n] = p[1 + e / 2 + n];
#pragma unroll
        for (int n = 0; n < 8; n++) f[n] = d * FLOAT(INT(((w[n >> 1] >> (8 * (n & 1))) & 0xffu) ^ 0x80u) - 128);
    } else if (TYPE == QUANT_Q4_0) {
        const half_word *const p = (const half_word *)row + (k >> 5) * 9;
        const float d = f_half(p[0]);
#pragma unroll
        for (int n = 0; n < 4; n++) w[n] = p[1 + (e & 15) / 2 + n];
#pragma unroll
        for (int n = 0; n < 8; n++) f[n] = d * FLOAT(INT((w[n >> 1] >> (8 * (n & 1) + (e >> 4) * 4)) & 15u) - 8);
    } else if (TYPE == QUANT_Q4_K) {
        const uint *const p = (const uint *)row + (k >> 8) * 36; // d and the least one, 12 bytes of scales, 128 of numbers
        const uint head = p[0], at = 8 * (j & 3), low = p[1] >> at, mid = p[2] >> at, high = p[3] >> at;
        const uint s = j < 4 ? low & 63u : (high & 15u) | ((low >> 6) & 3u) << 4,
                   m = j < 4 ? mid & 63u : ((high >> 4) & 15u) | ((mid >> 6) & 3u) << 4;
        w[0] = p[4 + (j >> 1) * 8 + e / 4];
        w[1] = p[5 + (j >> 1) * 8 + e / 4];
        const float scale = f_half(head & 0xffffu) * FLOAT(INT(s)), least = f_half(head >> 16) * FLOAT(INT(m));
#pragma unroll
        for (int n = 0; n < 8; n++) f[n] = scale * FLOAT(INT((w[n >> 2] >> (8 * (n & 3) + (j & 1) * 4)) & 15u)) - least;
    } else {
        const half_word *const p = (const half_word *)row + (k >> 8) * 105;
        uint h[4];
#pragma unroll
        for (int n = 0; n < 4; n++) {
            w[n] = (uint)p[(j >> 2) * 32 + (j & 1) * 16 + e / 2 + n] >> ((j & 2) * 2);
            h[n] = (uint)p[64 + (j >> 2) * 16 + e / 2 + n] >> ((j & 3) * 2);
        }
        const uint two = p[96 + (i >> 5)] >> (8 * ((i >> 4) & 1));
        const float scale = f_half(p[104]) * FLOAT(INT((two & 0xffu) ^ 0x80u) - 128);
#pragma unroll
        for (int n = 0; n < 8; n++) {
            const uint q = ((w[n >> 1] >> (8 * (n & 1))) & 15u) | ((h[n >> 1] >> (8 * (n & 1))) & 3u) << 4;
            f[n] = scale * FLOAT(INT(q) - 32);
        }
    }
}

// FAST: the row is read 16 bytes at a time; no branch stands between the loads of the turns that are unrolled.
template <int TYPE, int FAST>
FN void quantised_turns(float (&sum)[2], const float *a, int a_k, const void *const (&from)[2], int kk) {
#pragma unroll 4
    for (int k = WARP_LANE * 8; k < kk; k += 256) {
        float x[8], w[2][8];
#pragma unroll
        for (int c = 0; c < 2; c++) quantised8<TYPE>(w[c], from[c], k);
        row8(x, a, k, 8, a_k, 1, FAST);
#pragma unroll
        for (int c = 0; c < 2; c++)
#pragma unroll
            for (int j = 0; j < 8; j++) sum[c] = FMA(x[j], w[c][j], sum[c]);
    }
}

template <int TYPE>
FN void quantised_row(float (&sum)[2], const float *a, int a_k, int fast_a, const void *const (&from)[2], int kk) {
    if (fast_a)
        quantised_turns<TYPE, 1>(sum, a, 1, from, kk);
    else
        quantised_turns<TYPE, 0>(sum, a, a_k, from, kk);
}

// Columns column0 and the next (of n; beyond them rubbish): all lanes have both sums.
FN void row_pair(float (&sum)[2], const float *a, int a_k, int fast_a, const void *b, int b_n, int b_k, int type, int fast_b,
                 int column0, int n, int kk) {
    const void *from[2];
#pragma unroll
    for (int c = 0; c < 2; c++) {
        from[c] = row_at(b, type, (long long)IMIN(column0 + c, n - 1) * b_n);
        sum[c] = 0.0f;
    }
    if (type == QUANT_Q8_0) {
        quantised_row<QUANT_Q8_0>(sum, a, a_k, fast_a, from, kk);
    } else if (type == QUANT_Q4_0) {
        quantised_row<QUANT_Q4_0>(sum, a, a_k, fast_a, from, kk);
    } else if (type == QUANT_Q4_K) {
        quantised_row<QUANT_Q4_K>(sum, a, a_k, fast_a, from, kk);
    } else if (type == QUANT_Q6_K) {
        quantised_row<QUANT_Q6_K>(sum, a, a_k, fast_a, from, kk);
    } else if (fast_a && fast_b && kk % 8 == 0) {
        if (type == 1)
            row_turns<true>(sum, a, from, type, kk);
        else
            row_turns<false>(sum, a, from, type, kk);
    } else {
        for (int k = WARP_LANE * 8; k < kk; k += 256) {
            float x[8], w[2][8];
            const int left = kk - k;
#pragma unroll
            for (int c = 0; c < 2; c++) row8(w[c], from[c], k, left, b_k, type, fast_b);
            row8(x, a, k, left, a_k, 1, fast_a);
#pragma unroll
            for (int c = 0; c < 2; c++)
#pragma unroll
                for (int j = 0; j < 8; j++) sum[c] = j < left ? FMA(x[j], w[c][j], sum[c]) : sum[c];
        }
    }
#pragma unroll
    for (int c = 0; c < 2; c++)
        for (int mask = 1; mask < 32; mask *= 2) sum[c] += warp_xor(sum[c], mask);
}
