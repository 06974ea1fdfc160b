/* supports_attention.c - what the plugin accepts of ROTARY, ATTENTION and CACHE_WRITE. Whatever passes here is inside its views
 * for every kernel: heads and keys whole, queries and batch entries any tile. What depends on values (kv_length, the cache's
 * place) is checked when it is known, by the kernels. */
#include "check.h"

#include <math.h>

#define MOST ((int64_t)1 << 48) /* an extent beyond this is a mistake, and may overflow positions */

/* Input i, [1] or [batch]: one whole number for all batch entries, or one for each. */
static bool counts(const strand_plugin_node *node, uint32_t i, char *why, size_t why_bytes) {
    const strand_plugin_tensor *t = cpu_input(node, i);
    if (!t) return true;
    if (t->dtype != STRAND_PLUGIN_I32 && t->dtype != STRAND_PLUGIN_I64) NO("%s is neither I32 nor I64", what[i]);
    if (t->rank != 1 || t->dims[0] < 1 || (t->whole[0] != 1 && !covers(node, i, 0, 0))) NO("%s is not [1] or [batch]", what[i]);
    return true;
}

bool cpu_supports_rotary(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 1, 3, why, why_bytes));
    const strand_op_rotary *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *at = cpu_input(node, 1), *f = cpu_input(node, 2),
                               *out = &node->outputs[0];
    TRY(f32(node, 0, 1, why, why_bytes));
    TRY(f32(node, 2, node->n_inputs, why, why_bytes));
    if (out->rank != 3 || x->rank != 3) NO("x and the output are [B, L, heads * width]");
    TRY(placed(node, 0, false, why, why_bytes));
    int64_t c = x->dims[2];
    if (x->origin[2] || out->origin[2] || out->dims[2] != c) NO("heads must be whole");
    if (p->heads < 1 || p->heads > c || c % p->heads) NO("%lld channels are not %lld heads", (long long)c, (long long)p->heads);
    if (p->rotary < 0 || p->rotary % 2 || p->rotary > c / p->heads)
        NO("%lld elements of a head cannot be rotated", (long long)p->rotary);
    if (out->origin[1] < 0 || out->origin[1] > MOST || p->offset > MOST * 16 || p->offset < -MOST * 16)
        NO("positions are out of range");
    if (!f && !(p->base > 0)) NO("the base is not positive");
    if (f && (f->rank != 1 || f->dims[0] != p->rotary / 2 || f->origin[0])) NO("the frequencies are not [rotary / 2]");
    if (!at) return true;
    if (at->dtype != STRAND_PLUGIN_I32 && at->dtype != STRAND_PLUGIN_I64) NO("positions are neither I32 nor I64");
    if (at->rank > 2 || !covers(node, 1, at->rank - 1, 1)) NO("positions do not cover the output");
    if (at->rank == 2 && !covers(node, 1, 0, 0)) NO("positions do not cover the batch");
    return true;
}

/* Input i, [1 or heads, ...]: whole along its first and last axes. */
static bool per_head(const strand_plugin_node *node, uint32_t i, int64_t heads, char *why, size_t why_bytes) {
    const strand_plugin_tensor *t = &node->inputs[i];
    if (t->rank != 3 || (t->dims[0] != 1 && t->dims[0] != heads)) NO("%s is not [1 or heads, queries, keys]", what[i]);
    if (t->origin[0] || t->origin[2]) NO("%s is a tile of heads or keys", what[i]);
    return true;
}

bool cpu_supports_attention(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 3, 6, why, why_bytes));
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *q = &node->inputs[0], *k = &node->inputs[1], *v = &node->inputs[2], *out = &node->outputs[0];
    const strand_plugin_tensor *bias = cpu_input(node, 4), *mask = cpu_input(node, 5);
    TRY(f32(node, 0, 1, why, why_bytes));
    if (!cpu_is_float(k->dtype) || !cpu_is_float(v->dtype)) NO("k and v are F32, F16 or BF16");
    if (q->rank != 3 || k->rank != 3 || v->rank != 3 || out->rank != 3) NO("q, k, v and the output have rank 3");
    for (uint32_t i = 0; i < 3; i++)
        if (!covers(node, i, 0, 0) || node->inputs[i].origin[2]) NO("%s does not cover the batch and the heads", what[i]);
    if (!covers(node, 0, 1, 1) || out->origin[2]) NO("q does not cover the output");
    if (k->origin[1] || v->origin[1] || k->dims[1] != v->dims[1]) NO("keys and values must be whole, and as many");
    int64_t heads = p->heads, kv = p->kv_heads;
    if (heads < 1 || kv < 1 || heads % kv) NO("heads are not a multiple of kv_heads");
    if (q->dims[2] % heads || k->dims[2] % kv || v->dims[2] % kv || out->dims[2] % heads)
        NO("channels are not a whole number of heads");
    int64_t d = q->dims[2] / heads, dv = v->dims[2] / kv;
    if (d < 1 || dv < 1 || d > 65536 || dv > 65536 || k->dims[2] / kv != d || out->dims[2] / heads != dv)
        NO("the heads' widths differ");
    if (out->whole[1] > MOST || k->dims[1] > MOST || out->whole[1] < out->origin[1] + out->dims[1])
        NO("too many queries or keys");
    if (p->window < 0 || p->sinks < 0 || p->causal > 1 || p->precision > STRAND_PRECISION_BF16) NO("unknown parameters");
    if (!isfinite(p->scale) || !(p->softcap >= 0)) NO("scale or softcap is not a number");
    TRY(counts(node, 3, why, why_bytes));
    if (bias) {
        TRY(per_head(node, 4, heads, why, why_bytes));
        if (bias->dtype != STRAND_PLUGIN_F32 || !covers(node, 4, 1, 1) || bias->dims[2] < k->dims[1])
            NO("the bias does not cover the scores");
    }
    if (mask) {
        TRY(per_head(node, 5, heads, why, why_bytes));
        if (mask->dtype != STRAND_PLUGIN_I32 || p->block < 1 || mask->origin[1])
            NO("the mask is not I32 with a block of at least 1");
        int64_t end = out->origin[1] + out->dims[1];
        if (mask->dims[1] < end / p->block + (end % p->block != 0) ||
            mask->dims[2] < k->dims[1] / p->block + (k->dims[1] % p->block != 0))
            NO("the mask does not cover the scores");
    }
    return true;
}

bool cpu_supports_cache_write(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 3, 3, why, why_bytes));
    const strand_plugin_tensor *cache = &node->inputs[0], *x = &node->inputs[1], *out = &node->outputs[0];
    if (!cpu_is_float(cache->dtype) || out->dtype != cache->dtype) NO("the cache is not F32, F16 or BF16");
    if (x->dtype != STRAND_PLUGIN_F32) NO("x is not F32");
    if (cache->rank != 3 || x->rank != 3 || out->rank != 3) NO("cache, x and the output have rank 3");
    TRY(placed(node, 0, false, why, why_bytes));
    if (!covers(node, 1, 0, 0) || !covers(node, 1, 2, 2) || x->origin[1]) NO("x does not cover the output");
    if (out->whole[1] < out->origin[1] + out->dims[1] || out->whole[1] > MOST) NO("the cache's rows are out of range");
    return counts(node, 2, why, why_bytes);
}
