/* rwkv4.c - RWKV-4: Peng et al., "RWKV: Reinventing RNNs for the Transformer Era", arXiv 2305.13048.
 *
 * Recognises BlinkDL's .pth files, Hugging Face's and rwkv.cpp's .bin files (which hold -exp(time_decay) as time_decay).
 *
 * A layer: with x_c = n mix_c + (n of the token before) (1 - mix_c), n = ln1 x:
 *   x += O (sigmoid(R x_r) * wkv(K x_k, V x_v)), wkv as operator WKV4 defines it with w = -exp(time_decay), u = time_first
 *   x += sigmoid(R x_r) * V relu(K x_k)^2 of n = ln2 x.
 * States: the two last n, and [3, width] of wkv. The published halving of x every few layers serves half precision and is not
 * needed. */
#include "rwkv.h"

#define ATT(part) "blocks.*.att." part

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, rwkv_names, "blocks.0.att.time_mix_k") &&
           !build_recognises(w, rwkv_names, "blocks.0.att.ln_x.weight");
}

/* Nothing is summed yet, and the largest exponent so far is far below any. */
static void wkv_start(builder *b, tensor_id state, int64_t c) {
    float *row = build_failed(b) ? NULL : ARENA_ARRAY(b->g->arena, float, (size_t)(3 * c));
    if (!row && !build_failed(b)) error_set(b->e, STRAND_ERR_MEMORY, "out of memory while loading");
    for (int64_t i = 0; row && i < c; i++) row[2 * c + i] = -1e30f;
    if (row) graph_state_start(b->g, state, row);
}

static tensor_id wkv(builder *b, const rwkv *p, tensor_id k, tensor_id v) {
    int64_t c = p->attention, dims[] = {3, c};
    tensor_id w = build_flat(b, ATT("time_decay"), c), u = build_flat(b, ATT("time_first"), c),
              state = build_state(b, ATT("state"), 2, dims), next;
    wkv_start(b, state, c);
    if (!p->transposed)
        w = build_unary(b, ATT("decay"), STRAND_UNARY_NEG, build_unary(b, ATT("decay"), STRAND_UNARY_EXP, w, 0, 0), 0, 0);
    if (build_failed(b)) return 0;
    tensor_id y =
        graph_op2(b->g, build_name(b, ATT("wkv")), STRAND_OP_WKV4, NULL, (tensor_id[]){k, v, w, u, state}, 5, NULL, &next);
    build_state_next(b, state, next);
    return y;
}

static tensor_id layer(builder *b, const rwkv *p, tensor_id x) {
    build_shift s = build_shift_begin(b, ATT("shift"), rwkv_norm(b, p, "blocks.*.ln1", x), p->d);
    tensor_id xk = build_shift_mix(b, ATT("mix_k"), &s, build_flat(b, ATT("time_mix_k"), p->d), STRAND_SHIFT_LERP_X);
    tensor_id xv = build_shift_mix(b, ATT("mix_v"), &s, build_flat(b, ATT("time_mix_v"), p->d), STRAND_SHIFT_LERP_X);
    tensor_id xr = build_shift_mix(b, ATT("mix_r"), &s, build_flat(b, ATT("time_mix_r"), p->d), STRAND_SHIFT_LERP_X);
    build_shift_end(b, &s);
    tensor_id r = build_linear(b, ATT("receptance"), xr, p->attention, p->d, STRAND_UNARY_SIGMOID);
    tensor_id k = build_linear(b, ATT("key"), xk, p->attention, p->d, STRAND_UNARY_IDENTITY);
    tensor_id v = build_linear(b, ATT("value"), xv, p->attention, p->d, STRAND_UNARY_IDENTITY);
    tensor_id y = build_mul(b, ATT("gated"), r, wkv(b, p, k, v));
    x = build_add(b, "blocks.*.add1", x, build_linear(b, ATT("output"), y, p->d, p->attention, STRAND_UNARY_IDENTITY));
    y = rwkv_channel_mix(b, p, "blocks.*.ffn.time_mix_k", "blocks.*.ffn.time_mix_r", STRAND_SHIFT_LERP_X,
                         rwkv_norm(b, p, "blocks.*.ln2", x));
    return build_add(b, "blocks.*.add2", x, y);
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    rwkv p = {0};
    if (build_start(&b, m, config, e, rwkv_names) || build_settings(&b) || rwkv_configure(&b, &p)) return e->status;
    tensor_id x = rwkv_embedding(&b, &p);
    for (b.layer = 0; b.layer < p.layers && !build_failed(&b); b.layer++) x = layer(&b, &p, x);
    return rwkv_end(&b, &p, x);
}

static const char *const setting_keys[] = {BUILD_SETTINGS, NULL};

const family family_rwkv4 = {"rwkv4", recognise, build, setting_keys};
