/* attention.h - what the two kernels of ATTENTION share: the node unpacked, which keys a query sees, and the softmax's
 * exponential.
 *
 * A query's row is one query head at one token; the rows of one key head are counted token by token, head by head of its group,
 * so that those which share keys stand side by side. attention_rows.c gives each row a lane of its own and is for many rows;
 * attention_step.c puts a row's elements into lanes and is for the few rows of a decoding step. Which of them runs follows
 * from the whole length alone.
 *
 * Invariants, for the same bytes whatever the tiles and neighbours: keys are taken in tiles of TILE, anchored at key 0; within
 * and between tiles a row's sums run in the order of keys; and a key that a row does not see adds an exact zero and does not
 * touch its maximum, so that leaving it out, alone or with its tile, changes nothing. */
#ifndef STRAND_CPU_ATTENTION_H
#define STRAND_CPU_ATTENTION_H

#include "half.h"
#include "kernels.h"
#include "vecmath.h"

#define TILE      64
#define STEP_ROWS 8 /* so many rows of a key head, or fewer, go to attention_step.c */
#define LOG2_E    1.4426950408889634f

typedef struct cpu_heads {
    const strand_plugin_node *node;
    const strand_op_attention *p;
    int64_t batch, tokens, first, length;       /* the tile: tokens [first, first + tokens) of the whole length */
    int64_t keys, heads, kv_heads, group, d, dv;
    const strand_plugin_tensor *bias, *mask;    /* or NULL */
    float factor;                               /* of q: scores come out in units of log 2, or plain ones under a softcap */
    bool sees_all;                              /* no window and no mask */
} cpu_heads;

/* A row: its vectors, and the keys that it sees: those below `high` that are not below `low` or are below the sinks. */
typedef struct cpu_attention_row {
    int64_t token, head; /* token of the tile */
    int64_t low, high;
    const float *bias;   /* of key 0; or NULL */
    const int32_t *mask; /* of key block 0; or NULL */
} cpu_attention_row;

void cpu_attention_of(const strand_plugin_node *node, cpu_heads *a);
cpu_attention_row cpu_attention_row_at(const cpu_heads *a, int64_t b, int64_t kv_head, int64_t row);
/* The number of valid keys of batch entry b of the tile. */
int64_t cpu_attention_valid(const cpu_heads *a, int64_t b);

/* Where head `head` of token (or key) t stands in q, k, v or the output; the number of elements from one token to the next. */
CPU_INLINE char *cpu_attention_at(const cpu_heads *a, const strand_plugin_tensor *x, int64_t b, int64_t t, int64_t head,
                                  int64_t width) {
    const strand_plugin_tensor *out = &a->node->outputs[0];
    int64_t place = (out->origin[0] - x->origin[0] + b) * x->strides[0] + t * x->strides[1] + head * width;
    return (char *)x->memory.data + place * cpu_element_bytes(x->dtype);
}

uint64_t cpu_attention_rows_scratch(const cpu_device *device, const cpu_heads *a);
uint64_t cpu_attention_step_scratch(const cpu_device *device, const cpu_heads *a);
void cpu_attention_rows(const cpu_device *device, const cpu_heads *a, void *scratch);
void cpu_attention_step(const cpu_device *device, const cpu_heads *a, void *scratch);

/* ---- numbers ---- */

/* n <= CPU_LANES elements of p from element i on, zeros after them. */
CPU_INLINE vf cpu_attention_load(const char *p, uint32_t dtype, int64_t i, int64_t n) {
    if (dtype == STRAND_PLUGIN_F32) {
        const float *f = (const float *)(const void *)p + i;
        return n == CPU_LANES ? vf_load(f) : vf_load_part(f, n);
    }
    uint16_t h[CPU_LANES] = {0};
    if (n == CPU_LANES)
        memcpy(h, p + 2 * i, sizeof h);
    else
        memcpy(h, p + 2 * i, (size_t)n * sizeof *h);
#if CPU_LANES == 16
    if (dtype == STRAND_PLUGIN_F16) return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)h));
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)h)), 16);
#elif CPU_LANES == 8 && defined(__F16C__)
    if (dtype == STRAND_PLUGIN_F16) return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)h));
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)h)), 16);
#else
    float f[CPU_LANES];
    for (int l = 0; l < CPU_LANES; l++) f[l] = dtype == STRAND_PLUGIN_F16 ? cpu_f16_to_f32(h[l]) : cpu_bf16_to_f32(h[l]);
    return vf_load(f);
#endif
}

/* The larger of two, the second where one is NaN. */
CPU_INLINE vf cpu_attention_max(vf a, vf b) {
#if CPU_LANES == 16
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif CPU_LANES == 8
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (vf)_mm_max_ps((__m128)a, (__m128)b);
#else
    return vf_select(a > b, a, b);
#endif
}

/* 2^x for x <= 0: exactly 1 at 0, exactly 0 below -125 (no denormals are made) and at -infinity, NaN for NaN; error 1 ulp. */
CPU_INLINE vf cpu_attention_exp2(vf x) {
    vf near = cpu_attention_max(vf_set(-125.0f), x);
#if CPU_LANES == 16
    vf whole = (vf)_mm512_roundscale_ps((__m512)near, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    vf shifted = near + CPU_ROUNDER, whole = shifted - CPU_ROUNDER;
#endif
    vf r = near - whole;
    vf p = vf_fma(r, vf_set(0.00015453163f), vf_set(0.00133908633f));
    p = vf_fma(p, r, vf_set(0.009618083f));
    p = vf_fma(p, r, vf_set(0.05550357f));
    p = vf_fma(p, r, vf_set(0.2402265072f));
    p = vf_fma(p, r, vf_set(0.6931471825f));
    p = vf_fma(p, r, vf_set(1.0f));
#if CPU_LANES == 16
    __mmask16 seen = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-125.0f), _CMP_NLT_UQ);
    return (vf)_mm512_maskz_scalef_ps(seen, (__m512)p, (__m512)whole);
#else
    vf scale = (vf)((vu)((vi)shifted - CPU_ROUNDER_BITS + 127) << 23);
    return (vf)(~(vi)(x < -125.0f) & (vi)(p * scale));
#endif
}

/* The number that scores are taken off from: the maximum, but 0 where nothing has been seen. */
CPU_INLINE vf cpu_attention_base(vf most) {
    return vf_select(most == -INFINITY, vf_zero(), most);
}

#endif
