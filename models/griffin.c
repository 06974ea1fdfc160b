/* griffin.c - Griffin and RecurrentGemma: De et al., arXiv 2402.19427; Botev et al., arXiv 2404.07839.
 *
 * Recognises Hugging Face's recurrent_gemma. Which layers are recurrent is told by their tensors. Sizes come from the shapes,
 * heads, window, epsilon and rotation from config.json.
 *
 * A layer (norms are x / rms (1 + weight)), n = norm x:
 *   recurrent: x += linear_out (gelu(linear_y n) * RG-LRU(short convolution(linear_x n)))
 *   attention: one key head (or more), rotary in the first part of each head, a window: the token itself and `window` before it
 *   x += down (gelu(gate n) * up n), n = norm x
 * RG-LRU, u its input, with block-diagonal W: i = sigmoid(W_i u + b_i), r = sigmoid(W_r u + b_r),
 *   ln a = -8 r softplus(recurrent_param),  h <- a h + sqrt(1 - a^2) (i u), and at a sequence's first token h = i u.
 * The embedding is multiplied by sqrt(d) rounded to BF16, as published. States: the convolutions' last inputs, h [width],
 * caches. */
#include <math.h>
#include <string.h>

#include "attention.h"

static const build_rename names[] = {
    {"model.", ""}, {"layers.*.temporal_block.", "layers.*."}, {"layers.*.mlp_block.", "layers.*."}, {NULL, NULL}};

typedef struct griffin {
    int64_t d, layers, vocabulary, width, taps, blocks, inner; /* width: of the recurrence; blocks: of its gates' matrices */
    double eps, softcap;
    bool attends;
    uint32_t activation;
    tensor_id later; /* [B, L, 1]: 0 for a sequence's first token, 1 for the others */
    build_attention attention;
} griffin;

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, names, "layers.*.rg_lru.recurrent_param") &&
           build_recognises(w, names, "layers.*.temporal_pre_norm.weight");
}

static strand_status read_attention(builder *b, griffin *p) {
    build_attention *a = &p->attention;
    a->heads = build_int(b, "num_attention_heads", -1, 1, p->d);
    a->kv_heads = build_int(b, "num_key_value_heads", 1, 1, p->d);
    a->width = build_int(b, "head_dim", p->d / (a->heads > 0 ? a->heads : 1), 1, 65536);
    a->window = build_int(b, "attention_window_size", 2048, 1, INT32_MAX) + 1;
    a->rotary = (int64_t)((double)a->width * build_number(b, "partial_rotary_factor", 0.5, 0, 1));
    if (build_failed(b)) return b->e->status;
    if (a->heads % a->kv_heads || a->rotary % 2)
        return build_refuse(b, "config.json: heads, key heads and rotary elements do not fit");
    return build_rope(b, a, 10000, 1 << 20) ? b->e->status : build_context(b, 0, a->window);
}

static strand_status configure(builder *b, griffin *p) {
    const json *root = b->config->root;
    const weights_tensor *gate = build_find(b, "layers.*.rg_lru.input_gate_weight");
    p->vocabulary = build_extent(b, "embed_tokens.weight", 0);
    p->d = build_extent(b, "embed_tokens.weight", 1);
    p->layers = build_count_layers(b, "layers.*.temporal_pre_norm.weight");
    p->width = build_extent(b, "layers.*.linear_x.weight", 0);
    p->taps = build_extent(b, "layers.*.conv_1d.weight", 2);
    p->blocks = gate && gate->rank == 3 ? gate->dims[0] : 0;
    p->inner = build_extent(b, "layers.*.gate_proj.weight", 0);
    if (p->d < 1 || p->vocabulary < 1 || p->layers < 1 || p->width < 1 || p->taps < 1 || p->taps > 64 || p->inner < 1 ||
        p->blocks < 1 || p->width % p->blocks)
        return build_refuse(
            b, "embed_tokens, linear_x, conv_1d, gate_proj or rg_lru of layer 0 is missing or has no usable shape");
    p->eps = build_number(b, "rms_norm_eps", 1e-6, 0, 1);
    p->softcap = build_number(b, "logits_soft_cap", 30, 0, 1e6);
    p->activation =
        build_activation(b, json_text(root, "hidden_activation", json_text(root, "hidden_act", "gelu_pytorch_tanh")));
    for (b->layer = 0; b->layer < p->layers; b->layer++) p->attends = p->attends || build_has(b, "layers.*.q_proj.weight");
    b->layer = 0;
    if (p->attends) return read_attention(b, p);
    build_lengths(b, 0);
    return b->e->status;
}

static tensor_id norm(builder *b, const griffin *p, const char *name, const char *weight, tensor_id x) {
    strand_op_norm rms = {.kind = STRAND_NORM_RMS, .groups = 1, .eps = (float)p->eps, .weight_offset = 1};
    return build_norm(b, name, &rms, x, build_vector(b, weight, p->d), 0);
}

/* sigmoid(blocks of W u + bias). The file's blocks are [inputs, outputs]. */
static tensor_id gate(builder *b, const griffin *p, const char *weight, const char *bias, tensor_id u) {
    int64_t n = p->width / p->blocks;
    strand_op_permute turn = {{0, 2, 1}};
    strand_op_block_diagonal sigmoid = {.activation = STRAND_UNARY_SIGMOID};
    tensor_id w = build_f32(b, weight, 3, (int64_t[]){p->blocks, n, n}, false), c = build_flat(b, bias, p->width);
    if (build_failed(b)) return 0;
    w = graph_op(b->g, build_name(b, weight), STRAND_OP_PERMUTE, &turn, &w, 1, NULL);
    return graph_op(b->g, build_name(b, weight), STRAND_OP_BLOCK_DIAGONAL, &sigmoid, (tensor_id[]){u, w, c}, 3, NULL);
}

/* Ones, shifted by a token: what stands before the first one is the state's zero. */
static tensor_id mark_later(builder *b, tensor_id x) {
    tensor_id ones = build_unary(b, "later", STRAND_UNARY_CLAMP, build_slice(b, "later", x, 0, 1), 1, 1);
    build_shift s = build_shift_begin(b, "later", ones, 1);
    tensor_id later = build_shift_mix(b, "later", &s, 0, STRAND_SHIFT_LERP_X);
    build_shift_end(b, &s);
    return later;
}

static tensor_id rg_lru(builder *b, const griffin *p, tensor_id u) {
    strand_op_linear_recurrence rule = {.log_a = 1, .form = STRAND_RECURRENCE_RGLRU};
    tensor_id in = gate(b, p, "layers.*.rg_lru.input_gate_weight", "layers.*.rg_lru.input_gate_bias", u), next;
    tensor_id r = gate(b, p, "layers.*.rg_lru.recurrent_gate_weight", "layers.*.rg_lru.recurrent_gate_bias", u);
    tensor_id rate = build_unary(b, "layers.*.rg_lru.rate", STRAND_UNARY_SOFTPLUS,
                                 build_channels(b, "layers.*.rg_lru.recurrent_param", p->width), 0, 0);
    rate = build_unary(b, "layers.*.rg_lru.rate", STRAND_UNARY_AFFINE, rate, -8, 0);
    tensor_id log_a = build_mul(b, "layers.*.rg_lru.log_a", r, rate);
    /* The first token's a is 0, so that its input enters whole. */
    log_a = build_add(b, "layers.*.rg_lru.log_a", log_a,
                      build_unary(b, "layers.*.rg_lru.first", STRAND_UNARY_AFFINE, p->later, 1e4f, -1e4f));
    tensor_id x = build_mul(b, "layers.*.rg_lru.input", in, u), state = build_state(b, "layers.*.rg_lru.state", 1, &p->width);
    if (build_failed(b)) return 0;
    tensor_id h = graph_op2(b->g, build_name(b, "layers.*.rg_lru"), STRAND_OP_LINEAR_RECURRENCE, &rule,
                            (tensor_id[]){x, log_a, state}, 3, NULL, &next);
    build_state_next(b, state, next);
    return h;
}

static tensor_id recurrent(builder *b, const griffin *p, tensor_id n) {
    tensor_id y = build_linear(b, "layers.*.linear_y", n, p->width, p->d, p->activation);
    tensor_id u =
        build_short_conv(b, "layers.*.conv_1d", build_linear(b, "layers.*.linear_x", n, p->width, p->d, STRAND_UNARY_IDENTITY),
                         p->width, p->taps, STRAND_UNARY_IDENTITY);
    return build_linear(b, "layers.*.linear_out", build_mul(b, "layers.*.gated", y, rg_lru(b, p, u)), p->d, p->width,
                        STRAND_UNARY_IDENTITY);
}

static tensor_id attention(builder *b, const griffin *p, tensor_id n) {
    const build_attention *a = &p->attention;
    tensor_id q = build_linear(b, "layers.*.q_proj", n, a->heads * a->width, p->d, STRAND_UNARY_IDENTITY);
    tensor_id k = build_linear(b, "layers.*.k_proj", n, a->kv_heads * a->width, p->d, STRAND_UNARY_IDENTITY);
    tensor_id v = build_linear(b, "layers.*.v_proj", n, a->kv_heads * a->width, p->d, STRAND_UNARY_IDENTITY);
    return build_linear(b, "layers.*.o_proj", build_attend(b, "layers.*.attention", a, q, k, v), p->d, a->heads * a->width,
                        STRAND_UNARY_IDENTITY);
}

static tensor_id layer(builder *b, const griffin *p, tensor_id x) {
    const build_glu mlp = {"layers.*.gate_proj", "layers.*.up_proj", "layers.*.down_proj", p->activation};
    tensor_id n = norm(b, p, "layers.*.norm1", "layers.*.temporal_pre_norm.weight", x);
    x = build_add(b, "layers.*.add1", x,
                  build_has(b, "layers.*.rg_lru.recurrent_param") ? recurrent(b, p, n) : attention(b, p, n));
    n = norm(b, p, "layers.*.norm2", "layers.*.channel_pre_norm.weight", x);
    return build_add(b, "layers.*.add2", x, build_gated_mlp(b, &mlp, n, p->d, p->inner));
}

/* To the nearest BF16. */
static float bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    griffin p = {0};
    if (build_start(&b, m, config, e, names) || build_settings(&b) || configure(&b, &p)) return e->status;
    tensor_id x = build_embedding(&b, "embed_tokens", p.vocabulary, p.d);
    x = build_unary(&b, "embedding", STRAND_UNARY_AFFINE, x, bf16((float)sqrt((double)p.d)), 0);
    p.later = mark_later(&b, x);
    for (b.layer = 0; b.layer < p.layers && !build_failed(&b); b.layer++) x = layer(&b, &p, x);
    build_head(&b, "lm_head", "embed_tokens", norm(&b, &p, "final_norm", "final_norm.weight", x), p.vocabulary, p.d, p.softcap);
    return e->status;
}

static const char *const setting_keys[] = {BUILD_SETTINGS, ATTENTION_SETTINGS, NULL};

const family family_griffin = {"griffin", recognise, build, setting_keys};
