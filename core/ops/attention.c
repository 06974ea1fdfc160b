/* attention.c - rows of attention: rotary positions, the attention itself, and the cache of keys and values.
 *
 * Each query (batch entry and token) is computed by itself, so results can be cut along both. Keys cannot: which of them a
 * query sees follows from numbers that are known only when it runs (kv_length). */
#include "rules.h"

#include <math.h>

static const op_dim one = {OP_DIM_FIXED, 1};

static bool integers(strand_dtype t) {
    return t == STRAND_I32 || t == STRAND_I64;
}

static bool batched(const op_shape *x) {
    return x->rank == 3 && x->dims[2].kind == OP_DIM_FIXED;
}

/* Is input i absent, or one whole number for all batch entries, or one for each? */
static bool counts_or_absent(const op_shape *in, uint32_t n, uint32_t i, op_dim batch) {
    return !present(in, n, i) || (integers(in[i].dtype) && in[i].rank == 1 &&
                                  (op_dim_equal(in[i].dims[0], one) || op_dim_equal(in[i].dims[0], batch)));
}

/* Does input i have one entry for each of the batch? (One for all of a batch of one is the same.) */
static bool follows_batch(const op_shape *in, uint32_t n, uint32_t i, op_dim batch) {
    return present(in, n, i) && op_dim_equal(in[i].dims[0], batch);
}

/* ---- rotary ---- */

static strand_status rotary_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_rotary *p = params;
    const op_shape *x = &in[0], *positions = &in[1];
    if (x->dtype != STRAND_F32 || !batched(x)) return bad(e, "x must be F32, [batch, length, heads * width]");
    int64_t c = x->dims[2].size;
    if (p->heads < 1 || p->heads > c || c % p->heads) return bad(e, "the channels must be a whole number of heads");
    if (p->rotary < 0 || p->rotary % 2 || p->rotary > c / p->heads)
        return bad(e, "rotary must be even and at most a head's width");
    if (p->interleaved > 1) return bad(e, "interleaved is 0 or 1");
    if (!present(in, n, 2) && !(p->base > 0 && p->base <= 3e38f)) return bad(e, "the base must be positive");
    if (!isfinite(p->position_scale) || !isfinite(p->magnitude)) return bad(e, "position_scale and magnitude must be finite");
    if (p->offset < -((int64_t)1 << 52) || p->offset > (int64_t)1 << 52) return bad(e, "the offset is out of range");
    if (present(in, n, 1)) {
        if (!integers(positions->dtype) || positions->rank < 1 || positions->rank > 2 ||
            !op_dim_equal(positions->dims[positions->rank - 1], x->dims[1]) ||
            (positions->rank == 2 && !op_dim_equal(positions->dims[0], x->dims[0])))
            return bad(e, "positions must be I32 or I64, [length] or [batch, length]");
    }
    if (!vector_or_absent(in, n, 2, (op_dim){OP_DIM_FIXED, p->rotary / 2}))
        return bad(e, "frequencies must be F32, [rotary / 2]");
    *out = *x;
    return STRAND_OK;
}

static bool rotary_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                        op_axis_rule *rules) {
    (void)out, (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    if (present(in, n, 1) && axis == 1) rules[1] = (op_axis_rule){in[1].rank - 1, 0, 0};
    if (present(in, n, 1) && axis == 0 && in[1].rank == 2) rules[1] = (op_axis_rule){0, 0, 0};
    return axis < 2;
}

/* ---- attention ---- */

/* Blocks of `block` that cover `d`; an extent that is not known yet agrees with any number of them. */
static bool covers_in_blocks(op_dim blocks, op_dim d, int64_t block) {
    if (block == 1) return op_dim_equal(blocks, d);
    if (blocks.kind != OP_DIM_FIXED) return false;
    return d.kind != OP_DIM_FIXED || blocks.size == d.size / block + (d.size % block != 0);
}

static bool per_head(op_dim d, int64_t heads) {
    return op_dim_equal(d, one) || op_dim_equal(d, (op_dim){OP_DIM_FIXED, heads});
}

static strand_status attention_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_attention *p = params;
    const op_shape *q = &in[0], *k = &in[1], *v = &in[2], *bias = &in[4], *mask = &in[5];
    if (q->dtype != STRAND_F32 || !batched(q)) return bad(e, "q must be F32, [batch, length, heads * d]");
    if (!floating(k->dtype) || !batched(k)) return bad(e, "k must be F32, F16 or BF16, [batch, keys, kv_heads * d]");
    if (!floating(v->dtype) || !batched(v)) return bad(e, "v must be F32, F16 or BF16, [batch, keys, kv_heads * dv]");
    if (p->heads < 1 || p->kv_heads < 1 || p->heads % p->kv_heads) return bad(e, "heads must be a multiple of kv_heads");
    if (p->heads > q->dims[2].size || q->dims[2].size % p->heads) return bad(e, "q's channels must be a whole number of heads");
    int64_t d = q->dims[2].size / p->heads, dv = v->dims[2].size / p->kv_heads;
    if (k->dims[2].size % p->kv_heads || k->dims[2].size / p->kv_heads != d) return bad(e, "k's heads must be as wide as q's");
    if (dv < 1 || v->dims[2].size % p->kv_heads) return bad(e, "v's channels must be a whole number of heads");
    if (d > 65536 || dv > 65536 || dv > INT64_MAX / p->heads) return bad(e, "heads are too wide");
    if (!op_dim_equal(k->dims[0], q->dims[0]) || !op_dim_equal(v->dims[0], q->dims[0]) || !op_dim_equal(k->dims[1], v->dims[1]))
        return bad(e, "the batch, or the lengths of k and v, differ");
    if (p->window < 0 || p->sinks < 0 || p->causal > 1)
        return bad(e, "window and sinks must not be negative, causal is 0 or 1");
    if (!isfinite(p->scale) || !(p->softcap >= 0 && p->softcap <= 3e38f))
        return bad(e, "scale must be finite, softcap 0 or more");
    if (p->precision > STRAND_PRECISION_BF16) return bad(e, "unknown precision");
    if (!counts_or_absent(in, n, 3, q->dims[0])) return bad(e, "kv_length must be I32 or I64, [1] or [batch]");
    if (present(in, n, 4) && (bias->dtype != STRAND_F32 || bias->rank != 3 || !per_head(bias->dims[0], p->heads) ||
                              !op_dim_equal(bias->dims[1], q->dims[1]) || !op_dim_equal(bias->dims[2], k->dims[1])))
        return bad(e, "the bias must be F32, [1 or heads, length, keys]");
    if (present(in, n, 5) &&
        (p->block < 1 || mask->dtype != STRAND_I32 || mask->rank != 3 || !per_head(mask->dims[0], p->heads) ||
         !covers_in_blocks(mask->dims[1], q->dims[1], p->block) || !covers_in_blocks(mask->dims[2], k->dims[1], p->block)))
        return bad(e, "the mask must be I32, [1 or heads, length / block, keys / block], rounded up");
    *out = (op_shape){STRAND_F32, 3, {q->dims[0], q->dims[1], {OP_DIM_FIXED, p->heads * dv}}};
    return STRAND_OK;
}

static bool attention_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                           op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    if (axis == 0) {
        rules[1] = rules[2] = (op_axis_rule){0, 0, 0};
        if (follows_batch(in, n, 3, out->dims[0]) && !op_dim_equal(out->dims[0], one)) rules[3] = (op_axis_rule){0, 0, 0};
    }
    if (axis == 1 && present(in, n, 4)) rules[4] = (op_axis_rule){1, 0, 0};
    return axis < 2;
}

/* Two products of every query with every key; half of them when the future is not seen. */
static double attention_work(const op_shape *in, const op_shape *out, const void *params) {
    const strand_op_attention *p = params;
    double keys = (double)in[1].dims[1].size, each = 2 * (double)in[0].dims[2].size + 2 * (double)out->dims[2].size;
    if (p->window > 0 && (double)p->window < keys) keys = (double)p->window;
    return (double)out->dims[0].size * (double)out->dims[1].size * keys * each *
           (p->causal && in[1].dims[1].size == out->dims[1].size ? 0.5 : 1);
}

/* ---- cache ---- */

static strand_status cache_write_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_cache_write *p = params;
    const op_shape *cache = &in[0], *x = &in[1];
    if (!floating(cache->dtype) || cache->rank != 3)
        return bad(e, "the cache must be F32, F16 or BF16, [batch, rows, channels]");
    if (x->dtype != STRAND_F32 || x->rank != 3 || !op_dim_equal(x->dims[0], cache->dims[0]) ||
        !op_dim_equal(x->dims[2], cache->dims[2]))
        return bad(e, "x must be F32, [batch, length, channels]");
    if (!present(in, n, 2) || !counts_or_absent(in, n, 2, cache->dims[0]))
        return bad(e, "the place must be I32 or I64, [1] or [batch]");
    if (p->ring > 1) return bad(e, "ring is 0 or 1");
    if (p->slide && (p->ring || (cache->dims[1].kind == OP_DIM_FIXED && p->slide >= cache->dims[1].size)))
        return bad(e, "slide is for caches without a ring, and for fewer rows than there are");
    *out = *cache;
    return STRAND_OK;
}

static bool cache_write_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                             op_axis_rule *rules) {
    const strand_op_cache_write *p = params;
    if (p->slide && axis == 1) return false; /* rows move */
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    if (axis != 1) rules[1] = (op_axis_rule){axis, 0, 0};
    if (axis == 0 && follows_batch(in, n, 2, out->dims[0]) && !op_dim_equal(out->dims[0], one))
        rules[2] = (op_axis_rule){0, 0, 0};
    return true;
}

const op_row op_rows_attention[] = {
    /* id, version, name, inputs min/max, params, in place, prepared, tolerance, shape, axis rule, work */
    {STRAND_OP_ROTARY, 1, "rotary", 1, 3, PARAMS(strand_op_rotary), 1, 0, 1e-6f, rotary_shape, rotary_axis, light_work, 0, 0},
    {STRAND_OP_ATTENTION, 1, "attention", 3, 6, PARAMS(strand_op_attention), 0, 0, 4e-6f, attention_shape, attention_axis,
     attention_work, 0, 0},
    {STRAND_OP_CACHE_WRITE, 1, "cache_write", 3, 3, PARAMS(strand_op_cache_write), 1, 0, 0.0f, cache_write_shape,
     cache_write_axis, light_work, 0, 0},
};
const uint32_t op_n_attention = N_OF(op_rows_attention);
