/* rwkv.c - see rwkv.h. */
#include "rwkv.h"

#include <string.h>

const build_rename rwkv_names[] = {
    /* Hugging Face, RWKV-4 */
    {"rwkv.", ""},
    {"embeddings", "emb"},
    {"blocks.*.pre_ln", "blocks.*.ln0"},
    {"blocks.*.attention.", "blocks.*.att."},
    {"blocks.*.feed_forward.", "blocks.*.ffn."},
    {"blocks.*.att.time_mix_key", "blocks.*.att.time_mix_k"},
    {"blocks.*.att.time_mix_value", "blocks.*.att.time_mix_v"},
    {"blocks.*.att.time_mix_receptance", "blocks.*.att.time_mix_r"},
    {"blocks.*.ffn.time_mix_key", "blocks.*.ffn.time_mix_k"},
    {"blocks.*.ffn.time_mix_receptance", "blocks.*.ffn.time_mix_r"},
    /* Hugging Face, RWKV-7 of flash-linear-attention */
    {"model.", ""},
    {"embeddings", "emb"},
    {"layers.*.pre_norm", "blocks.*.ln0"},
    {"layers.*.attn_norm", "blocks.*.ln1"},
    {"layers.*.ffn_norm", "blocks.*.ln2"},
    {"layers.*.attn.r_proj", "blocks.*.att.receptance"},
    {"layers.*.attn.k_proj", "blocks.*.att.key"},
    {"layers.*.attn.v_proj", "blocks.*.att.value"},
    {"layers.*.attn.o_proj", "blocks.*.att.output"},
    {"layers.*.attn.g_norm", "blocks.*.att.ln_x"},
    {"layers.*.attn.w_lora.lora.0.weight", "blocks.*.att.w1"},
    {"layers.*.attn.w_lora.lora.2.weight", "blocks.*.att.w2"},
    {"layers.*.attn.w_lora.lora.2.bias", "blocks.*.att.w0"},
    {"layers.*.attn.a_lora.lora.0.weight", "blocks.*.att.a1"},
    {"layers.*.attn.a_lora.lora.2.weight", "blocks.*.att.a2"},
    {"layers.*.attn.a_lora.lora.2.bias", "blocks.*.att.a0"},
    {"layers.*.attn.v_lora.lora.0.weight", "blocks.*.att.v1"},
    {"layers.*.attn.v_lora.lora.2.weight", "blocks.*.att.v2"},
    {"layers.*.attn.v_lora.lora.2.bias", "blocks.*.att.v0"},
    {"layers.*.attn.g_lora.lora.0.weight", "blocks.*.att.g1"},
    {"layers.*.attn.g_lora.lora.2.weight", "blocks.*.att.g2"},
    {"layers.*.attn.", "blocks.*.att."},
    {"layers.*.ffn.", "blocks.*.ffn."},
    {"norm", "ln_out"},
    {"lm_head", "head"},
    /* The RWKV-8 experiments: layers count from 1 */
    {"e", "emb"},
    {"o", "head"},
    {"lno", "ln_out"},
    {"ln*a", "blocks.*.ln1"},
    {"ln*b", "blocks.*.ln2"},
    {"rwkv*.", "blocks.*.att."},
    {"ffn*.", "blocks.*.ffn."},
    {"rosa*.o.bias", "blocks.*.rosa"},
    {"rosa*.rosa_qkv.emb", "blocks.*.rosa_table"},
    /* GGUF */
    {"token_embd_norm", "blocks.0.ln0"},
    {"token_embd", "emb"},
    {"output_norm", "ln_out"},
    {"output", "head"},
    {"blk.*.attn_norm_2", "blocks.*.ln2"},
    {"blk.*.attn_norm", "blocks.*.ln1"},
    {"blk.*.time_mix_w0.weight", "blocks.*.att.w0"},
    {"blk.*.time_mix_w1.weight", "blocks.*.att.w1"},
    {"blk.*.time_mix_w2.weight", "blocks.*.att.w2"},
    {"blk.*.time_mix_a0.weight", "blocks.*.att.a0"},
    {"blk.*.time_mix_a1.weight", "blocks.*.att.a1"},
    {"blk.*.time_mix_a2.weight", "blocks.*.att.a2"},
    {"blk.*.time_mix_v0.weight", "blocks.*.att.v0"},
    {"blk.*.time_mix_v1.weight", "blocks.*.att.v1"},
    {"blk.*.time_mix_v2.weight", "blocks.*.att.v2"},
    {"blk.*.time_mix_g1.weight", "blocks.*.att.g1"},
    {"blk.*.time_mix_g2.weight", "blocks.*.att.g2"},
    {"blk.*.time_mix_k_k.weight", "blocks.*.att.k_k"},
    {"blk.*.time_mix_k_a.weight", "blocks.*.att.k_a"},
    {"blk.*.time_mix_r_k.weight", "blocks.*.att.r_k"},
    {"blk.*.time_mix_lerp_fused.weight", "blocks.*.att.x_rwkvag"},
    {"blk.*.time_mix_lerp_x.weight", "blocks.*.att.time_maa_x"},
    {"blk.*.time_mix_lerp_w.weight", "blocks.*.att.time_maa_w"},
    {"blk.*.time_mix_lerp_k.weight", "blocks.*.att.time_maa_k"},
    {"blk.*.time_mix_lerp_v.weight", "blocks.*.att.time_maa_v"},
    {"blk.*.time_mix_lerp_r.weight", "blocks.*.att.time_maa_r"},
    {"blk.*.time_mix_lerp_g.weight", "blocks.*.att.time_maa_g"},
    {"blk.*.time_mix_first.weight", "blocks.*.att.time_faaaa"},
    {"blk.*.time_mix_decay.weight", "blocks.*.att.time_decay"},
    {"blk.*.time_mix_decay_w1.weight", "blocks.*.att.time_decay_w1"},
    {"blk.*.time_mix_decay_w2.weight", "blocks.*.att.time_decay_w2"},
    {"blk.*.time_mix_ln", "blocks.*.att.ln_x"},
    {"blk.*.time_mix_", "blocks.*.att."},
    {"blk.*.channel_mix_lerp_k.weight", "blocks.*.ffn.x_k"},
    {"blk.*.channel_mix_lerp_r.weight", "blocks.*.ffn.time_maa_r"},
    {"blk.*.channel_mix_", "blocks.*.ffn."},
    {NULL, NULL}};

strand_status rwkv_configure(builder *b, rwkv *p) {
    const char *format = weights_format(b->m->weights);
    p->first = b->layer = build_has(b, "blocks.0.ln1.weight") ? 0 : 1;
    p->vocabulary = build_extent(b, "emb.weight", 0);
    p->d = build_extent(b, "emb.weight", 1);
    while (build_has(b, "blocks.*.ln1.weight")) p->layers++, b->layer++;
    b->layer = p->first;
    p->attention = build_extent(b, "blocks.*.att.key.weight", 0);
    p->inner = build_extent(b, "blocks.*.ffn.key.weight", 0);
    p->eps = build_number(b, "layer_norm_epsilon", build_number(b, "norm_eps", 1e-5, 0, 1), 0, 1);
    p->head_eps = 64e-5;
    p->transposed = !strcmp(format, "rwkv.cpp") || build_architecture(b);
    if (build_architecture(b)) {
        int64_t width = build_meta_int(b, "wkv.head_size", 64, 1, INT32_MAX);
        p->eps = build_meta_number(b, "attention.layer_norm_epsilon", 1e-5, 0, 1);
        p->rescale = build_meta_int(b, "rescale_every_n_layers", 0, 0, INT32_MAX);
        p->heads = width > 0 && p->attention % width == 0 ? p->attention / width : 0;
    }
    if (p->layers < 1 || p->d < 1 || p->vocabulary < 1 || p->attention < 1 || p->inner < 1)
        return build_refuse(b,
                            "emb.weight, blocks.0.att.key.weight or blocks.0.ffn.key.weight is missing or has no usable shape");
    build_lengths(b, 0);
    return b->e->status;
}

strand_status rwkv_head_epsilon(builder *b, rwkv *p) {
    const char *given = config_given(b->config, "head_epsilon");
    if (given && (!config_parse_number(given, &p->head_eps) || !(p->head_eps >= 0 && p->head_eps < 1)))
        return build_refuse(b, "setting head_epsilon=%.40s is not a number from 0 to 1", given);
    return STRAND_OK;
}

tensor_id rwkv_norm(builder *b, const rwkv *p, const char *name, tensor_id x) {
    return build_layer_norm(b, name, x, p->d, p->eps);
}

tensor_id rwkv_embedding(builder *b, const rwkv *p) {
    tensor_id x = build_embedding(b, "emb", p->vocabulary, p->d);
    return build_has(b, "blocks.0.ln0.weight") ? rwkv_norm(b, p, "blocks.0.ln0", x) : x;
}

tensor_id rwkv_head_norm(builder *b, const rwkv *p, tensor_id x) {
    strand_op_norm n = {.kind = STRAND_NORM_LAYER, .groups = p->heads, .eps = (float)p->head_eps};
    tensor_id weight = build_vector(b, "blocks.*.att.ln_x.weight", p->attention),
              bias = build_vector_if(b, "blocks.*.att.ln_x.bias", p->attention);
    return build_norm(b, "blocks.*.att.ln_x", &n, x, weight, bias);
}

tensor_id rwkv_low_rank(builder *b, const rwkv *p, const char *name, tensor_id x, int64_t in, int64_t out, tensor_id bias,
                        uint32_t activation) {
    if (p->transposed) return build_product(b, name, x, build_matrix(b, name, out, in), bias, activation);
    return build_product_plain(b, name, x, build_matrix(b, name, in, out), bias, activation);
}

int64_t rwkv_rank(const builder *b, const rwkv *p, const char *name) {
    return build_extent(b, name, p->transposed ? 0 : 1);
}

tensor_id rwkv_channel_mix(builder *b, const rwkv *p, const char *mix_k, const char *mix_r, uint32_t form, tensor_id x) {
    build_shift s = build_shift_begin(b, "blocks.*.ffn.shift", x, p->d);
    tensor_id xk = build_shift_mix(b, "blocks.*.ffn.mix_k", &s, build_flat(b, mix_k, p->d), form);
    tensor_id xr = build_shift_mix(b, "blocks.*.ffn.mix_r", &s, build_flat(b, mix_r, p->d), form);
    build_shift_end(b, &s);
    tensor_id k = build_linear(b, "blocks.*.ffn.key", xk, p->inner, p->d, STRAND_UNARY_SQUARED_RELU);
    tensor_id v = build_linear(b, "blocks.*.ffn.value", k, p->d, p->inner, STRAND_UNARY_IDENTITY);
    tensor_id r = build_linear(b, "blocks.*.ffn.receptance", xr, p->d, p->d, STRAND_UNARY_SIGMOID);
    return build_mul(b, "blocks.*.ffn.gate", r, v);
}

tensor_id rwkv_rescale(builder *b, const rwkv *p, tensor_id x) {
    if (!p->rescale || (b->layer + 1) % p->rescale) return x;
    return build_unary(b, "blocks.*.rescale", STRAND_UNARY_AFFINE, x, 0.5f, 0);
}

strand_status rwkv_end(builder *b, const rwkv *p, tensor_id x) {
    build_head(b, "head", "emb", rwkv_norm(b, p, "ln_out", x), p->vocabulary, p->d, 0);
    return b->e->status;
}
