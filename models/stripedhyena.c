/* stripedhyena.c - StripedHyena, Evo and Evo 2: Poli et al., "StripedHyena", 2023, with arXiv 2310.18780 (modal filters);
 * Nguyen et al., "Evo", Science 2024; Ku et al., "StripedHyena 2", arXiv 2503.01868. Repositories
 * togethercomputer/stripedhyena, Zymrael/vortex.
 *
 * Recognises their layouts (with or without "backbone."). What a layer is, is told by its tensors; sizes come from the shapes,
 * heads, epsilon, rotation, activations and how channels are split from config.json.
 *
 * A layer: x += mixer(pre_norm x);  x += l3(act(l1 n) * l2 n), n = post_norm x; norms x / (rms + eps) scale, with the epsilon
 * outside the root as in the published text (setting norm=inside: as in the fused kernel that the published runs used).
 * Mixers: z = projections n, a short causal convolution, and three parts x2, x1, v of d channels; u = x1 v; the result is
 * out_filter_dense(x2 y) with
 *   modal (StripedHyena, Evo)  s <- pole s + u, y = Re sum residue s + D u, complex
 *   hcl (Evo 2)                the same with real poles e^log_pole
 *   hcs, hcm (Evo 2)           y = a causal filter h of few taps, one for each group of channels; hcm with D u and
 *                              its first tap first
 * or softmax attention with rotary positions. In Evo 2 layers but the first have no activation in the MLP.
 * States: the convolutions' last inputs, s, caches; on request they are given too as the published code names and lays them out
 * (fir_state_layerN [B, 3 d, 2], iir_state_layerN, fir_inner_state_layerN [B, d, taps - 1]). */
#include <string.h>

#include "attention.h"

static const build_rename names[] = {{"model.", ""}, {"backbone.", ""}, {NULL, NULL}};

typedef struct striped {
    int64_t d, layers, vocabulary, inner, taps, heads;
    double eps;
    uint32_t eps_rule, activation;
    bool only_first; /* the activation is that of layer 0; identity elsewhere */
    bool by_head, interleaved, flipped;
    build_attention attention;
} striped;

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, names, "blocks.0.pre_norm.scale") && build_recognises(w, names, "embedding_layer.weight");
}

static strand_status read_attention(builder *b, striped *p) {
    const json *root = b->config->root;
    build_attention *a = &p->attention;
    int64_t groups = build_int(b, "proj_groups", 1, 1, p->heads);
    a->heads = p->heads;
    a->width = a->rotary = p->d / p->heads;
    a->kv_heads = p->heads / (groups > 0 ? groups : 1);
    a->base = build_number(b, "rotary_emb_base", 10000, 1e-6, 1e30);
    if (json_bool(root, "use_interpolated_rotary_pos_emb", false))
        a->position_scale = 1 / build_number(b, "rotary_emb_scaling_factor", 1, 1, 1e9);
    if (build_failed(b) || p->heads % groups || a->width % 2)
        return build_refuse(b, "config.json: heads and proj_groups do not fit");
    if (json_bool(root, "smeared_gqa", false)) return build_refuse(b, "config.json: smeared_gqa is not supported");
    int64_t longest =
        build_int(b, "max_seqlen", build_int(b, "max_sequence_len", build_int(b, "seqlen", 131072, 1, INT32_MAX), 1, INT32_MAX),
                  1, INT32_MAX);
    return build_context(b, longest, 0);
}

static strand_status read_splits(builder *b, striped *p, bool second) {
    const json *root = b->config->root;
    const char *rule = config_given(b->config, "norm");
    p->by_head = json_bool(root, "column_split_hyena", true);
    p->interleaved = !p->by_head && json_bool(root, "interleave", false);
    p->flipped = json_bool(root, "hyena_flip_x1x2", false);
    p->only_first = json_bool(root, "evo2_style_activations", false);
    p->activation = build_activation(b, json_text(root, "mlp_activation", second ? "gelu" : "silu"));
    if (rule && strcmp(rule, "inside") != 0 && strcmp(rule, "outside") != 0)
        return error_set(b->e, STRAND_ERR_ARGUMENT, "setting norm=%.40s is neither outside nor inside", rule);
    p->eps_rule = rule && !strcmp(rule, "inside") ? STRAND_EPS_INSIDE : STRAND_EPS_OUTSIDE;
    return config_record(b->m, "norm", p->eps_rule == STRAND_EPS_INSIDE ? "inside" : "outside", b->e);
}

static strand_status configure(builder *b, striped *p) {
    bool attends = false, second = false;
    p->vocabulary = build_extent(b, "embedding_layer.weight", 0);
    p->d = build_extent(b, "embedding_layer.weight", 1);
    p->layers = build_count_layers(b, "blocks.*.pre_norm.scale");
    p->inner = build_extent(b, "blocks.*.mlp.l1.weight", 0);
    for (b->layer = 0; b->layer < p->layers; b->layer++) {
        attends = attends || build_has(b, "blocks.*.inner_mha_cls.Wqkv.weight");
        second = second || build_has(b, "blocks.*.filter.log_poles") || build_has(b, "blocks.*.filter.h");
        if (!p->taps) p->taps = build_extent(b, "blocks.*.filter.short_filter_weight", 2);
    }
    b->layer = 0;
    if (p->d < 1 || p->vocabulary < 1 || p->layers < 1 || p->inner < 1 || p->taps > 64)
        return build_refuse(b, "embedding_layer, mlp.l1 or filter.short_filter_weight is missing or has no usable shape");
    p->heads = build_int(b, "num_attention_heads", -1, 1, p->d);
    p->eps = build_number(b, "eps", 1e-6, 0, 1);
    if (build_failed(b) || p->d % p->heads)
        return build_refuse(b, "config.json: num_attention_heads does not divide %lld", (long long)p->d);
    if (read_splits(b, p, second)) return b->e->status;
    if (attends) return read_attention(b, p);
    build_lengths(b, 0);
    return b->e->status;
}

static tensor_id norm(builder *b, const striped *p, const char *name, const char *scale, tensor_id x) {
    strand_op_norm rms = {.kind = STRAND_NORM_RMS, .eps_rule = p->eps_rule, .groups = 1, .eps = (float)p->eps};
    return build_norm(b, name, &rms, x, build_vector(b, scale, p->d), 0);
}

/* ---- filters ---- */

/* A convolution over tokens with these taps, [channels, taps]; the last inputs are the state NAME.state. */
static tensor_id convolve(builder *b, const char *name, const char *state_name, tensor_id x, tensor_id taps, tensor_id bias,
                          int64_t channels, int64_t n) {
    strand_op_short_conv tokens = {.flags = STRAND_SHORT_CONV_TOKEN_MAJOR};
    tensor_id state = n > 1 ? build_state(b, state_name, 2, (int64_t[]){n - 1, channels}) : 0, next;
    if (build_failed(b)) return 0;
    tensor_id y = graph_op2(b->g, build_name(b, name), STRAND_OP_SHORT_CONV, &tokens, (tensor_id[]){x, taps, bias, state}, 4,
                            NULL, &next);
    if (state) build_state_next(b, state, next);
    return y;
}

/* [systems, ...] of the file for all d channels: each system serves neighbours. */
static tensor_id for_channels(builder *b, const striped *p, const char *name, tensor_id x, int64_t systems) {
    if (systems < 1 || p->d % systems) {
        build_refuse(b, "'%s' is for %lld groups of %lld channels", build_name(b, name), (long long)systems, (long long)p->d);
        return 0;
    }
    return build_repeat(b, name, x, 0, p->d / systems, true);
}

static tensor_id scan(builder *b, const striped *p, tensor_id u, tensor_id poles, tensor_id residues, int64_t states,
                      bool complex_pairs) {
    strand_op_lti_scan rule = {.log_poles = !complex_pairs, .scale = 1};
    tensor_id skip = build_vector(b, "blocks.*.filter.D", p->d), next;
    tensor_id state = build_state(b, "blocks.*.filter.iir.state", complex_pairs ? 3 : 2, (int64_t[]){p->d, states, 2});
    if (build_failed(b)) return 0;
    tensor_id y = graph_op2(b->g, build_name(b, "blocks.*.filter.iir"), STRAND_OP_LTI_SCAN, &rule,
                            (tensor_id[]){u, poles, 0, residues, skip, state}, 6, NULL, &next);
    build_state_next(b, state, next);
    return y;
}

static tensor_id modal(builder *b, const striped *p, tensor_id u) {
    int64_t systems = build_extent(b, "blocks.*.filter.poles", 0), states = build_extent(b, "blocks.*.filter.poles", 1),
            dims[] = {systems, states, 2};
    tensor_id poles =
        for_channels(b, p, "blocks.*.filter.poles", build_f32(b, "blocks.*.filter.poles", 3, dims, false), systems);
    tensor_id residues =
        for_channels(b, p, "blocks.*.filter.residues", build_f32(b, "blocks.*.filter.residues", 3, dims, false), systems);
    return scan(b, p, u, poles, residues, states, true);
}

static tensor_id hcl(builder *b, const striped *p, tensor_id u) {
    int64_t systems = build_extent(b, "blocks.*.filter.log_poles", 0), states = build_extent(b, "blocks.*.filter.log_poles", 1),
            dims[] = {systems, states};
    tensor_id poles =
        for_channels(b, p, "blocks.*.filter.log_poles", build_f32(b, "blocks.*.filter.log_poles", 2, dims, false), systems);
    tensor_id residues =
        for_channels(b, p, "blocks.*.filter.residues", build_f32(b, "blocks.*.filter.residues", 2, dims, false), systems);
    return scan(b, p, u, poles, residues, states, false);
}

/* hcm has a D, and its first tap meets the current input; of hcs the last one does. */
static tensor_id few_taps(builder *b, const striped *p, tensor_id u) {
    const weights_tensor *h = build_find(b, "blocks.*.filter.h");
    int64_t groups = h->rank > 0 ? h->dims[0] : 0, n = h->rank > 0 ? h->dims[h->rank - 1] : 0;
    bool medium = build_has(b, "blocks.*.filter.D");
    if (n < 1 || n > 65536) build_refuse(b, "tensor '%.120s' has %lld taps", h->name, (long long)n);
    tensor_id taps =
        for_channels(b, p, "blocks.*.filter.h", build_f32(b, "blocks.*.filter.h", 2, (int64_t[]){groups, n}, false), groups);
    if (medium) taps = build_reverse(b, "blocks.*.filter.h", taps);
    tensor_id y = convolve(b, "blocks.*.filter.fir", "blocks.*.filter.inner.state", u, taps, 0, p->d, n);
    if (!medium) return y;
    return build_add(b, "blocks.*.filter.add", y,
                     build_mul(b, "blocks.*.filter.skip", u, build_channels(b, "blocks.*.filter.D", p->d)));
}

/* ---- layers ---- */

/* Part 0, 1 or 2 of the 3 d channels. */
static tensor_id part(builder *b, const striped *p, tensor_id z, int which) {
    static const char *const labels[] = {"blocks.*.filter.x2", "blocks.*.filter.x1", "blocks.*.filter.v"};
    const char *label = labels[which];
    int64_t width = p->by_head ? p->d / p->heads : p->interleaved ? 1 : p->d;
    if (width == p->d) return build_slice(b, label, z, which * p->d, p->d);
    return build_join_heads(
        b, label, build_slice(b, label, build_split_heads(b, label, z, p->d / width, 3 * width), which * width, width), p->d);
}

static tensor_id hyena(builder *b, const striped *p, tensor_id n) {
    tensor_id z = build_linear(b, "blocks.*.projections", n, 3 * p->d, p->d, STRAND_UNARY_IDENTITY);
    tensor_id taps = build_f32(b, "blocks.*.filter.short_filter_weight", 2, (int64_t[]){3 * p->d, p->taps}, false);
    tensor_id bias = build_vector_if(b, "blocks.*.filter.short_filter_bias", 3 * p->d);
    z = convolve(b, "blocks.*.filter.short", "blocks.*.filter.short.state", z, taps, bias, 3 * p->d, p->taps);
    tensor_id x2 = part(b, p, z, p->flipped ? 1 : 0), x1 = part(b, p, z, p->flipped ? 0 : 1), v = part(b, p, z, 2), y;
    tensor_id u = build_mul(b, "blocks.*.filter.x1v", x1, v);
    if (build_has(b, "blocks.*.filter.poles"))
        y = modal(b, p, u);
    else if (build_has(b, "blocks.*.filter.h"))
        y = few_taps(b, p, u);
    else
        y = hcl(b, p, u);
    return build_linear(b, "blocks.*.out_filter_dense", build_mul(b, "blocks.*.filter.gated", y, x2), p->d, p->d,
                        STRAND_UNARY_IDENTITY);
}

static tensor_id attention(builder *b, const striped *p, tensor_id n) {
    const build_attention *a = &p->attention;
    const char *qkv = "blocks.*.inner_mha_cls.Wqkv";
    int64_t kv = a->kv_heads * a->width, all = p->d + 2 * kv;
    tensor_id q = build_linear_rows(b, qkv, n, all, 0, p->d, p->d, STRAND_UNARY_IDENTITY),
              k = build_linear_rows(b, qkv, n, all, p->d, kv, p->d, STRAND_UNARY_IDENTITY),
              v = build_linear_rows(b, qkv, n, all, p->d + kv, kv, p->d, STRAND_UNARY_IDENTITY);
    return build_linear(b, "blocks.*.inner_mha_cls.out_proj", build_attend(b, "blocks.*.attention", a, q, k, v), p->d, p->d,
                        STRAND_UNARY_IDENTITY);
}

static tensor_id layer(builder *b, const striped *p, tensor_id x) {
    const build_glu mlp = {"blocks.*.mlp.l1", "blocks.*.mlp.l2", "blocks.*.mlp.l3",
                           p->only_first && b->layer > 0 ? STRAND_UNARY_IDENTITY : p->activation};
    tensor_id n = norm(b, p, "blocks.*.pre_norm", "blocks.*.pre_norm.scale", x);
    x = build_add(b, "blocks.*.add1", x,
                  build_has(b, "blocks.*.inner_mha_cls.Wqkv.weight") ? attention(b, p, n) : hyena(b, p, n));
    n = norm(b, p, "blocks.*.post_norm", "blocks.*.post_norm.scale", x);
    return build_add(b, "blocks.*.add2", x, build_gated_mlp(b, &mlp, n, p->d, p->inner));
}

/* A state under its published name, channels before time. */
static void offer(builder *b, const char *state, const char *published, bool time_first) {
    tensor_id x = build_state_after(b, state);
    if (!x || build_failed(b)) return;
    if (time_first) x = build_permute(b, published, x, 0, 2, 1, 0);
    graph_output_on_request(b->g, build_name(b, published), x);
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    striped p = {0};
    if (build_start(&b, m, config, e, names) || build_settings(&b) || configure(&b, &p)) return e->status;
    tensor_id x = build_embedding(&b, "embedding_layer", p.vocabulary, p.d);
    for (b.layer = 0; b.layer < p.layers && !build_failed(&b); b.layer++) x = layer(&b, &p, x);
    if (build_has(&b, "norm.scale")) x = norm(&b, &p, "norm", "norm.scale", x);
    build_head(&b, "unembed", "embedding_layer", x, p.vocabulary, p.d, 0);
    m->byte_level = p.vocabulary == 512; /* Evo and Evo 2 */
    for (b.layer = 0; b.layer < p.layers; b.layer++) {
        offer(&b, "blocks.*.filter.short.state", "fir_state_layer*", true);
        offer(&b, "blocks.*.filter.iir.state", "iir_state_layer*", false);
        offer(&b, "blocks.*.filter.inner.state", "fir_inner_state_layer*", true);
    }
    return e->status;
}

static const char *const setting_keys[] = {BUILD_SETTINGS, ATTENTION_SETTINGS, "norm", NULL};

const family family_stripedhyena = {"stripedhyena", recognise, build, setting_keys};
