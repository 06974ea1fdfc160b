/* h3.c - H3: Fu et al., "Hungry Hungry Hippos", arXiv 2212.14052; repository HazyResearch/H3.
 *
 * Recognises that repository's state dictionaries (backbone.layers, and the older names whose norms stand one place later). The
 * uploads have no config.json: sizes come from the tensors' shapes, and the attention's heads from attn_cfg.num_heads, the
 * setting `heads`, or else from the sizes that were published.
 *
 * A layer, n = norm1 x:
 *   q, k, v = linears of n;  k' = shift SSM of k + D_k k;  y = diagonal SSM of k' v + D k' v;  x += output_linear(q y)
 *   in attention layers instead x += out_proj attention(n), without positions
 *   x += fc2 gelu(fc1 norm2 x).
 * The shift SSM, whose state is the last inputs, is a causal filter of N taps, K[t] = sum_j C[j + t] B[j]. The diagonal one is
 * y = 2 Re sum C s, s <- dA s + dB u, with the bilinear rule. States: the filter's inputs, s [d, N/2] complex, caches. */
#include "attention.h"

static const build_rename names[] = {{"model.", ""},
                                     {"s4seq.encoder.", "backbone."},
                                     {"embedding", "backbone.embeddings.word_embeddings"},
                                     {"backbone.norm", "backbone.ln_f"},
                                     {"backbone.", ""},
                                     {NULL, NULL}};

typedef struct h3 {
    int64_t d, layers, vocabulary, inner, states, taps;
    double eps;
    bool attends, later_norms; /* later_norms: each norm stands in the place after its own */
    build_attention attention;
} h3;

#define SHIFT    "layers.*.mixer.ssm_k_kernel.kernel."
#define DIAGONAL "layers.*.mixer.kernel.kernel."

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, names, "layers.0.mixer.ssm_k_kernel.kernel.C") ||
           build_recognises(w, names, "layers.1.mixer.ssm_k_kernel.kernel.C");
}

static strand_status read_attention(builder *b, h3 *p) {
    build_attention *a = &p->attention;
    const json *root = b->config->root, *c = root ? json_get(root, "attn_cfg") : NULL;
    int64_t published = p->d / (p->d <= 1024 ? 64 : 128);
    a->heads = build_int_of(b, c, "num_heads", published > 0 ? published : 1, 1, p->d);
    const char *given = config_given(b->config, "heads");
    if (given && (!config_parse_integer(given, &a->heads) || a->heads < 1 || a->heads > p->d))
        return error_set(b->e, STRAND_ERR_ARGUMENT, "setting heads=%.40s is not a whole number from 1 to %lld", given,
                         (long long)p->d);
    a->rotary = build_int_of(b, c, "rotary_emb_dim", 0, 0, p->d / (a->heads > 0 ? a->heads : 1));
    a->base = 10000;
    a->kv_heads = a->heads;
    if (build_failed(b) || p->d % a->heads || a->rotary % 2)
        return build_refuse(b, "%lld heads do not fit a width of %lld", (long long)a->heads, (long long)p->d);
    a->width = p->d / a->heads;
    return build_context(b, 0, 0);
}

static strand_status configure(builder *b, h3 *p) {
    const json *root = b->config->root;
    p->vocabulary = build_extent(b, "embeddings.word_embeddings.weight", 0);
    p->d = build_extent(b, "embeddings.word_embeddings.weight", 1);
    p->layers = build_count_layers(b, "layers.*.norm1.weight");
    p->inner = build_extent(b, "layers.*.mlp.fc1.weight", 0);
    p->eps = build_number(b, "layer_norm_epsilon", 1e-5, 0, 1);
    p->later_norms = build_has(b, "ln_0.weight");
    for (b->layer = p->layers - 1; b->layer >= 0; b->layer--) {
        const weights_tensor *shift = build_find(b, SHIFT "C"), *diagonal = build_find(b, DIAGONAL "C");
        p->attends = p->attends || build_has(b, "layers.*.mixer.Wqkv.weight");
        if (shift && shift->rank > 0) p->taps = shift->dims[shift->rank - 1];
        if (diagonal && diagonal->rank > 1) p->states = diagonal->dims[diagonal->rank - 2];
    }
    b->layer = 0;
    if (p->d < 1 || p->vocabulary < 1 || p->layers < 1 || p->inner < 1 || p->taps < 1 || p->taps > 4096 || p->states < 1)
        return build_refuse(b, "the embedding, mlp.fc1 or the state space's kernels are missing or have no usable shape");
    if (build_has(b, "embeddings.position_embeddings.weight"))
        return build_refuse(b, "position embeddings are not supported: no published H3 has them");
    if (build_int_of(b, root ? json_get(root, "ssm_cfg") : NULL, "head_dim", 1, 1, INT32_MAX) != 1)
        return build_refuse(b, "config.json: head_dim above 1 is not supported");
    if (p->attends) return read_attention(b, p);
    build_lengths(b, 0);
    return b->e->status;
}

/* [systems, ...] of the file, repeated for all d channels. */
static tensor_id for_channels(builder *b, const h3 *p, const char *name, tensor_id x, int64_t systems) {
    if (systems < 1 || p->d % systems) {
        build_refuse(b, "'%s' is for %lld channels of %lld", build_name(b, name), (long long)systems, (long long)p->d);
        return 0;
    }
    return build_repeat(b, name, x, 0, p->d / systems, false);
}

/* k' = filter of k + D_k k. The filter's taps, the last one for the current input, are the convolution of B with C reversed. */
static tensor_id shift(builder *b, const h3 *p, tensor_id k) {
    int64_t systems = build_extent(b, SHIFT "B", 0);
    strand_op_long_conv plain = {0};
    strand_op_short_conv tokens = {.flags = STRAND_SHORT_CONV_TOKEN_MAJOR};
    tensor_id in = for_channels(b, p, SHIFT "B", build_f32(b, SHIFT "B", 2, (int64_t[]){systems, p->taps}, false), systems);
    tensor_id out = build_reverse(b, SHIFT "C", build_f32(b, SHIFT "C", 2, (int64_t[]){p->d, p->taps}, false)), next;
    tensor_id state = p->taps > 1 ? build_state(b, "layers.*.mixer.shift.state", 2, (int64_t[]){p->taps - 1, p->d}) : 0;
    if (build_failed(b)) return 0;
    tensor_id taps = graph_op(b->g, build_name(b, SHIFT "taps"), STRAND_OP_LONG_CONV, &plain, (tensor_id[]){in, out}, 2, NULL);
    tensor_id y = graph_op2(b->g, build_name(b, "layers.*.mixer.shift"), STRAND_OP_SHORT_CONV, &tokens,
                            (tensor_id[]){k, taps, 0, state}, 4, NULL, &next);
    if (state) build_state_next(b, state, next);
    return build_add(b, "layers.*.mixer.shift.add", y,
                     build_mul(b, "layers.*.mixer.shift.skip", k, build_channels(b, "layers.*.mixer.ssm_k_D", p->d)));
}

/* -exp(inv_A_real) + i A_imag, [d, states, 2] */
static tensor_id poles(builder *b, const h3 *p) {
    int64_t systems = build_extent(b, DIAGONAL "inv_A_real", 0), dims[] = {systems, p->states, 1};
    strand_op_concat pair = {.axis = 2};
    tensor_id re = build_unary(b, DIAGONAL "A", STRAND_UNARY_EXP, build_f32(b, DIAGONAL "inv_A_real", 3, dims, false), 0, 0);
    re = build_unary(b, DIAGONAL "A", STRAND_UNARY_NEG, re, 0, 0);
    tensor_id im = build_f32(b, DIAGONAL "A_imag", 3, dims, false);
    if (build_failed(b)) return 0;
    return for_channels(b, p, DIAGONAL "A",
                        graph_op(b->g, build_name(b, DIAGONAL "A"), STRAND_OP_CONCAT, &pair, (tensor_id[]){re, im}, 2, NULL),
                        systems);
}

static tensor_id diagonal(builder *b, const h3 *p, tensor_id u) {
    int64_t systems = build_extent(b, DIAGONAL "B", 0), one[] = {p->d, p->states, 2};
    strand_op_ssm_discretize bilinear = {.method = STRAND_SSM_BILINEAR};
    strand_op_lti_scan scan = {.log_poles = 1, .scale = 2};
    tensor_id a = poles(b, p),
              dt = build_unary(b, DIAGONAL "dt", STRAND_UNARY_EXP, build_vector(b, DIAGONAL "log_dt", p->d), 0, 0);
    tensor_id in =
        for_channels(b, p, DIAGONAL "B", build_f32(b, DIAGONAL "B", 3, (int64_t[]){systems, p->states, 2}, false), systems);
    tensor_id out = build_f32(b, DIAGONAL "C", 3, one, false), skip = build_vector(b, "layers.*.mixer.D", p->d), next,
              coefficients;
    tensor_id state = build_state(b, "layers.*.mixer.ssm.state", 3, one);
    if (build_failed(b)) return 0;
    tensor_id log_poles = graph_op2(b->g, build_name(b, "layers.*.mixer.ssm.poles"), STRAND_OP_SSM_DISCRETIZE, &bilinear,
                                    (tensor_id[]){a, dt, in, out}, 4, NULL, &coefficients);
    tensor_id y = graph_op2(b->g, build_name(b, "layers.*.mixer.ssm"), STRAND_OP_LTI_SCAN, &scan,
                            (tensor_id[]){u, log_poles, 0, coefficients, skip, state}, 6, NULL, &next);
    build_state_next(b, state, next);
    return y;
}

static tensor_id mixer(builder *b, const h3 *p, tensor_id n) {
    tensor_id q = build_linear(b, "layers.*.mixer.q_proj", n, p->d, p->d, STRAND_UNARY_IDENTITY),
              k = build_linear(b, "layers.*.mixer.k_proj", n, p->d, p->d, STRAND_UNARY_IDENTITY),
              v = build_linear(b, "layers.*.mixer.v_proj", n, p->d, p->d, STRAND_UNARY_IDENTITY);
    tensor_id y = diagonal(b, p, build_mul(b, "layers.*.mixer.kv", shift(b, p, k), v));
    return build_linear(b, "layers.*.mixer.output_linear", build_mul(b, "layers.*.mixer.gated", q, y), p->d, p->d,
                        STRAND_UNARY_IDENTITY);
}

static tensor_id attention(builder *b, const h3 *p, tensor_id n) {
    const char *qkv = "layers.*.mixer.Wqkv";
    tensor_id q = build_linear_rows(b, qkv, n, 3 * p->d, 0, p->d, p->d, STRAND_UNARY_IDENTITY),
              k = build_linear_rows(b, qkv, n, 3 * p->d, p->d, p->d, p->d, STRAND_UNARY_IDENTITY),
              v = build_linear_rows(b, qkv, n, 3 * p->d, 2 * p->d, p->d, p->d, STRAND_UNARY_IDENTITY);
    return build_linear(b, "layers.*.mixer.out_proj", build_attend(b, "layers.*.mixer", &p->attention, q, k, v), p->d, p->d,
                        STRAND_UNARY_IDENTITY);
}

/* Norm `which` (0 or 1) of layer `layer`; the one after the last layer is ln_f. */
static tensor_id norm(builder *b, const h3 *p, int which, tensor_id x) {
    if (!p->later_norms)
        return build_layer_norm(b,
                                b->layer == p->layers ? "ln_f"
                                : which               ? "layers.*.norm2"
                                                      : "layers.*.norm1",
                                x, p->d, p->eps);
    if (which) return build_layer_norm(b, "layers.*.norm1", x, p->d, p->eps);
    if (b->layer == 0) return build_layer_norm(b, "ln_0", x, p->d, p->eps);
    b->layer--;
    tensor_id y = build_layer_norm(b, "layers.*.norm2", x, p->d, p->eps);
    b->layer++;
    return y;
}

static tensor_id layer(builder *b, const h3 *p, tensor_id x) {
    tensor_id n = norm(b, p, 0, x);
    x = build_add(b, "layers.*.add1", x, build_has(b, "layers.*.mixer.Wqkv.weight") ? attention(b, p, n) : mixer(b, p, n));
    n = build_linear(b, "layers.*.mlp.fc1", norm(b, p, 1, x), p->inner, p->d, STRAND_UNARY_GELU_TANH);
    return build_add(b, "layers.*.add2", x, build_linear(b, "layers.*.mlp.fc2", n, p->d, p->inner, STRAND_UNARY_IDENTITY));
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    h3 p = {0};
    if (build_start(&b, m, config, e, names) || build_settings(&b) || configure(&b, &p)) return e->status;
    tensor_id x = build_embedding(&b, "embeddings.word_embeddings", p.vocabulary, p.d);
    for (b.layer = 0; b.layer < p.layers && !build_failed(&b); b.layer++) x = layer(&b, &p, x);
    build_head(&b, "lm_head", "embeddings.word_embeddings", norm(&b, &p, 0, x), p.vocabulary, p.d, 0);
    return e->status;
}

static const char *const setting_keys[] = {BUILD_SETTINGS, ATTENTION_SETTINGS, "heads", NULL};

const family family_h3 = {"h3", recognise, build, setting_keys};
