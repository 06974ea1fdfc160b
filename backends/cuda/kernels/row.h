// row.h - a row of F32 by weights [N, K] of F32, F16 or BF16: bytes decide. A warp has two columns, a lane eight numbers of every
// 256, 16 bytes at once where they lie so; the loads of four turns of both columns are under way together. A lane's sums are
// one chain and the lanes' are added as a butterfly, whatever is read at once: wherever a row is multiplied, the bytes are the
// same.

static __device__ __noinline__ float activated(int kind, float v, float alpha, float beta) {
    return f_unary(kind, v, alpha, beta);
}

// Element i of weights of a type.
FN const void *row_at(const void *b, int type, long long i) {
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

// Columns column0 and the next (of n; beyond them rubbish): all lanes have both sums.
FN void row_pair(float (&sum)[2], const float *a, int a_k, int fast_a, const void *b, int b_n, int b_k, int type, int fast_b,
                 int column0, int n, int kk) {
    const void *from[2];
#pragma unroll
    for (int c = 0; c < 2; c++) {
        from[c] = row_at(b, type, (long long)IMIN(column0 + c, n - 1) * b_n);
        sum[c] = 0.0f;
    }
    if (fast_a && fast_b && kk % 8 == 0) {
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
