/* quant.c - quantised rows as floats, for look-ups and casts; products read the packed blocks themselves (matmul_quant.c). Each
 * element is one product of two floats, or a difference of two such products: the value that the format defines. */
#include "quant.h"

static void q8_0(const uint8_t *b, float *y) {
    float d = cpu_half_at(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(int8_t)b[2 + i];
}

static void q4_0(const uint8_t *b, float *y) {
    float d = cpu_half_at(b);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b[2 + i] & 15) - 8);
        y[i + 16] = d * (float)((b[2 + i] >> 4) - 8);
    }
}

/* Strips of 64 elements: 32 low nibbles, then 32 high ones; each half has a scale and a minimum. */
static void q4_k(const uint8_t *b, float *y) {
    float d = cpu_half_at(b), dmin = cpu_half_at(b + 2);
    for (int j = 0; j < 8; j++) {
        int scale, minimum;
        cpu_q4_k_scale(b + 4, j, &scale, &minimum);
        const uint8_t *q = b + 16 + j / 2 * 32;
        float s = d * (float)scale, m = dmin * (float)minimum;
        for (int i = 0; i < 32; i++) y[32 * j + i] = s * (float)(q[i] >> (j & 1) * 4 & 15) - m;
    }
}

/* Two halves of 128 elements, each four runs of 32 whose high bits share the bytes of qh; a scale for every 16. */
static void q6_k(const uint8_t *b, float *y) {
    float d = cpu_half_at(b + 208);
    for (int j = 0; j < 8; j++) {
        const uint8_t *low = b + j / 4 * 64 + (j & 1) * 32, *high = b + 128 + j / 4 * 32;
        const int8_t *scales = (const int8_t *)b + 192 + 2 * j;
        for (int i = 0; i < 32; i++) {
            int q = (low[i] >> (j & 2) * 2 & 15) | (high[i] >> (j & 3) * 2 & 3) << 4;
            y[32 * j + i] = d * (float)scales[i / 16] * (float)(q - 32);
        }
    }
}

/* 32 nibbles with their fifth bits at `high` (NULL: none): x = d q + m. */
static void nibbles(const uint8_t *q, const uint8_t *high, float d, float m, float *y) {
    uint32_t fifth = high ? (uint32_t)high[0] | (uint32_t)high[1] << 8 | (uint32_t)high[2] << 16 | (uint32_t)high[3] << 24 : 0;
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((q[i] & 15) | (fifth >> i & 1) << 4) + m;
        y[i + 16] = d * (float)((q[i] >> 4) | (fifth >> (i + 16) & 1) << 4) + m;
    }
}

static void q5_0(const uint8_t *b, float *y) {
    float d = cpu_half_at(b);
    uint32_t fifth = (uint32_t)b[2] | (uint32_t)b[3] << 8 | (uint32_t)b[4] << 16 | (uint32_t)b[5] << 24;
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((int)((b[6 + i] & 15) | (fifth >> i & 1) << 4) - 16);
        y[i + 16] = d * (float)((int)((b[6 + i] >> 4) | (fifth >> (i + 16) & 1) << 4) - 16);
    }
}

static void q5_k(const uint8_t *b, float *y) {
    float d = cpu_half_at(b), dmin = cpu_half_at(b + 2);
    for (int j = 0; j < 8; j++) {
        int scale, minimum;
        cpu_q4_k_scale(b + 4, j, &scale, &minimum);
        const uint8_t *q = b + 48 + j / 2 * 32, *high = b + 16;
        float s = d * (float)scale, m = dmin * (float)minimum;
        for (int i = 0; i < 32; i++) y[32 * j + i] = s * (float)((q[i] >> (j & 1) * 4 & 15) | (high[i] >> j & 1) << 4) - m;
    }
}

void cpu_dequantise_block(uint32_t dtype, const uint8_t *block, float y[CPU_QUANT_BLOCK]) {
    if (dtype == STRAND_PLUGIN_Q8_0) q8_0(block, y);
    if (dtype == STRAND_PLUGIN_Q4_0) q4_0(block, y);
    if (dtype == STRAND_PLUGIN_Q4_K) q4_k(block, y);
    if (dtype == STRAND_PLUGIN_Q6_K) q6_k(block, y);
    if (dtype == STRAND_PLUGIN_Q4_1) nibbles(block + 4, NULL, cpu_half_at(block), cpu_half_at(block + 2), y);
    if (dtype == STRAND_PLUGIN_Q5_0) q5_0(block, y);
    if (dtype == STRAND_PLUGIN_Q5_1) nibbles(block + 8, block + 4, cpu_half_at(block), cpu_half_at(block + 2), y);
    if (dtype == STRAND_PLUGIN_Q5_K) q5_k(block, y);
}

void cpu_dequantise(uint32_t dtype, const void *row, int64_t first, int64_t n, float *y) {
    const uint8_t *blocks = row;
    int64_t length = cpu_block_elements(dtype);
    for (int64_t done = 0; done < n;) {
        int64_t at = first + done, inside = at % length, some = cpu_min(length - inside, n - done);
        float all[CPU_QUANT_BLOCK];
        const uint8_t *block = blocks + at / length * cpu_block_bytes(dtype);
        cpu_dequantise_block(dtype, block, some == length ? y + done : all);
        if (some < length) memcpy(y + done, all + inside, (size_t)some * sizeof *y);
        done += some;
    }
}
