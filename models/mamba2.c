/* mamba2.c - Mamba-2: Dao & Gu, "Transformers are SSMs", arXiv 2405.21060.
 *
 * Recognises state-spaces' own checkpoints, Hugging Face's, Codestral's (model.backbone) and GGUF's names. Sizes come from the
 * tensors' shapes; the number of groups, epsilons and the limits of the time step from config.json, or
 * from a GGUF file's metadata.
 *
 * A layer, x [batch, length, d] (H heads of P channels, Di = H P; G groups of N states):
 *   norm -> in_proj -> (z Di, x Di, B G N, C G N, dt H); x, B, C = silu(short convolution)
 *   y = SSD with softplus(dt + bias), A = -exp(A_log), D;  y = RMS norm, group by group, of y silu(z);  x += out_proj y
 * then, where there is an MLP, x += fc2(a silu(b)), (a, b) = fc1(norm2 x). Where the state space has fewer channels than the
 * layer, the first ones of in_proj are a gated pair of their own, which goes before y into out_proj. Layers without a dt_bias
 * are attention (mamba2attn): in_proj -> q, k, v and, where it has more rows, a gated pair; a short convolution of q, k, v;
 * rotary positions. States: the convolution's last inputs, and [H, P, N]. Hugging Face's norm_before_gate is published as true
 * and means nothing; over several groups their own code normalises all channels at once, where the authors', followed here,
 * does each group. */
#include <math.h>

#include "attention.h"

static const build_rename names[] = {{"model.", ""},
                                     {"backbone.", ""},
                                     {"embeddings", "embedding"},
                                     {"layers.*.mixer.norm", "layers.*.gated_norm"},
                                     {"layers.*.mixer.", "layers.*."},
                                     /* GGUF */
                                     {"token_embd", "embedding"},
                                     {"output_norm", "norm_f"},
                                     {"output", "lm_head"},
                                     {"blk.*.attn_norm", "layers.*.norm"},
                                     {"blk.*.ssm_in", "layers.*.in_proj"},
                                     {"blk.*.ssm_conv1d", "layers.*.conv1d"},
                                     {"blk.*.ssm_dt.bias", "layers.*.dt_bias"},
                                     {"blk.*.ssm_a", "layers.*.A"},
                                     {"blk.*.ssm_d", "layers.*.D"},
                                     {"blk.*.ssm_norm", "layers.*.gated_norm"},
                                     {"blk.*.ssm_out", "layers.*.out_proj"},
                                     {NULL, NULL}};

typedef struct mamba2 {
    int64_t d, layers, vocabulary, inner, heads, groups, states, taps, pair,
        mlp; /* inner: of the state space; pair: of the gated pair; mlp: 0, or its width */
    double eps, dt_min, dt_max;
    bool layer_norm, norm_first, attends;
    build_attention attention;
} mamba2;

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, names, "layers.*.dt_bias") && build_recognises(w, names, "layers.*.conv1d.weight") &&
           !build_recognises(w, names, "layers.*.x_proj.weight");
}

/* Item i of an array of two numbers; infinity may be written in several ways, all of them not as numbers. */
static double limit(const json *list, int i, double fallback) {
    const json *v = list && list->type == JSON_ARRAY ? list->first : NULL;
    for (; v && i > 0; i--) v = v->next;
    return v && v->type == JSON_NUMBER ? v->number : fallback;
}

static strand_status read_metadata(builder *b, mamba2 *p) {
    p->groups = build_meta_int(b, "ssm.group_count", 1, 1, p->heads);
    p->eps = build_meta_number(b, "attention.layer_norm_rms_epsilon", 1e-5, 0, 1);
    p->dt_max = INFINITY;
    return b->e->status;
}

static strand_status read_config(builder *b, mamba2 *p) {
    const json *root = b->config->root, *ssm = root ? json_get(root, "ssm_cfg") : NULL;
    const json *limits = ssm ? json_get(ssm, "dt_limit") : root ? json_get(root, "time_step_limit") : NULL;
    p->groups = build_int_of(b, ssm, "ngroups", build_int(b, "n_groups", 1, 1, p->heads), 1, p->heads);
    p->eps = build_number(b, "layer_norm_epsilon", build_number(b, "norm_epsilon", 1e-5, 0, 1), 0, 1);
    p->dt_min = limit(limits, 0, 0);
    p->dt_max = limit(limits, 1, INFINITY);
    p->layer_norm = !json_bool(root, "rms_norm", true);
    p->norm_first = json_bool(ssm, "norm_before_gate", false);
    if (!(p->dt_min <= p->dt_max)) return build_refuse(b, "config.json: the limits of the time step are not in order");
    return b->e->status;
}

/* Attention layers, if there are any, and the lengths. */
static strand_status read_attention(builder *b, mamba2 *p) {
    build_attention *a = &p->attention;
    const json *root = b->config->root, *c = root ? json_get(root, "attn_cfg") : NULL;
    for (b->layer = 0; b->layer < p->layers; b->layer++) p->attends = p->attends || !build_has(b, "layers.*.dt_bias");
    b->layer = 0;
    if (!p->attends) {
        build_lengths(b, 0);
        return b->e->status;
    }
    a->heads = build_int_of(b, c, "num_heads", -1, 1, p->d);
    a->kv_heads = build_int_of(b, c, "num_heads_kv", a->heads, 1, p->d);
    a->width = build_int_of(b, c, "head_dim", p->d / a->heads, 1, 65536);
    a->rotary = build_int_of(b, c, "rotary_emb_dim", 0, 0, a->width);
    a->base = 10000;
    a->interleaved = json_bool(c, "rotary_emb_interleaved", false);
    if (build_failed(b)) return b->e->status;
    if (a->heads % a->kv_heads || a->rotary % 2)
        return build_refuse(b, "config.json: attn_cfg's heads, key heads and rotary elements do not fit");
    return build_context(b, 0, 0);
}

static strand_status configure(builder *b, mamba2 *p) {
    const weights_tensor *taps = build_find(b, "layers.*.conv1d.weight"), *norm = build_find(b, "layers.*.gated_norm.weight");
    p->vocabulary = build_extent(b, "embedding.weight", 0);
    p->d = build_extent(b, "embedding.weight", 1);
    p->layers = build_count_layers(b, "layers.*.in_proj.weight");
    p->heads = build_extent(b, "layers.*.dt_bias", 0);
    p->taps = taps && taps->rank >= 2 ? taps->dims[taps->rank - 1] : 0;
    p->mlp = build_extent(b, "layers.*.mlp.fc1.weight", 0) / 2;
    int64_t rows = build_extent(b, "layers.*.in_proj.weight", 0), conv = taps ? taps->dims[0] : 0,
            out = build_extent(b, "layers.*.out_proj.weight", 1);
    p->inner = out;
    if (norm) {
        p->inner = 1;
        for (int i = 0; i < norm->rank; i++)
            p->inner = norm->dims[i] > 0 && norm->dims[i] <= INT32_MAX ? p->inner * norm->dims[i] : 0;
    }
    p->pair = out - p->inner;
    if (p->d < 1 || p->vocabulary < 1 || p->layers < 1 || p->heads < 1 || p->taps < 1 || p->taps > 64 || p->inner < 1 ||
        p->inner % p->heads || p->pair < 0 || conv <= p->inner || rows != 2 * p->pair + p->inner + conv + p->heads)
        return build_refuse(b, "embedding, in_proj, conv1d, dt_bias, norm and out_proj of layer 0 do not fit together");
    if (build_architecture(b) ? read_metadata(b, p) : read_config(b, p)) return b->e->status;
    p->states = (conv - p->inner) / 2 / p->groups;
    if (p->heads % p->groups || (conv - p->inner) % (2 * p->groups) || p->inner % p->groups)
        return build_refuse(b, "%lld groups do not divide heads, channels and states", (long long)p->groups);
    return read_attention(b, p);
}

static tensor_id norm(builder *b, const mamba2 *p, const char *name, tensor_id x) {
    return p->layer_norm ? build_layer_norm(b, name, x, p->d, p->eps) : build_rms_norm(b, name, x, p->d, p->eps);
}

static int64_t all_rows(const mamba2 *p) {
    return 2 * p->pair + 2 * p->inner + 2 * p->groups * p->states + p->heads;
}

static tensor_id project(builder *b, const mamba2 *p, tensor_id x, int64_t first, int64_t rows, uint32_t activation) {
    return build_linear_rows(b, "layers.*.in_proj", x, all_rows(p), first, rows, p->d, activation);
}

/* A part of in_proj behind z, convolved: `first` counts channels of the convolution. */
static tensor_id convolved(builder *b, const mamba2 *p, const char *label, tensor_id x, int64_t first, int64_t n) {
    tensor_id u = project(b, p, x, 2 * p->pair + p->inner + first, n, STRAND_UNARY_IDENTITY);
    return build_short_conv_rows(b, "layers.*.conv1d", label, u, p->inner + 2 * p->groups * p->states, first, n, p->taps,
                                 STRAND_UNARY_SILU);
}

/* -exp(A_log), or A itself in GGUF files. */
static tensor_id decays(builder *b, const mamba2 *p) {
    if (build_has(b, "layers.*.A")) return build_flat(b, "layers.*.A", p->heads);
    tensor_id a = build_unary(b, "layers.*.A", STRAND_UNARY_EXP, build_flat(b, "layers.*.A_log", p->heads), 0, 0);
    return build_unary(b, "layers.*.A", STRAND_UNARY_NEG, a, 0, 0);
}

static tensor_id gated_norm(builder *b, const mamba2 *p, tensor_id y, tensor_id z) {
    strand_op_norm rms = {.kind = STRAND_NORM_RMS, .groups = p->groups, .eps = (float)p->eps};
    bool normed = build_has(b, "layers.*.gated_norm.weight");
    tensor_id weight = normed ? build_flat(b, "layers.*.gated_norm.weight", p->inner) : 0;
    if (normed && p->norm_first) y = build_norm(b, "layers.*.gated_norm", &rms, y, weight, 0);
    y = build_gate(b, "layers.*.gate", STRAND_UNARY_SILU, z, y);
    return normed && !p->norm_first ? build_norm(b, "layers.*.gated_norm", &rms, y, weight, 0) : y;
}

static tensor_id state_space(builder *b, const mamba2 *p, tensor_id n) {
    int64_t gn = p->groups * p->states, width = p->inner / p->heads;
    tensor_id z = project(b, p, n, 2 * p->pair, p->inner, STRAND_UNARY_IDENTITY), next;
    tensor_id x = convolved(b, p, "layers.*.conv1d.x", n, 0, p->inner);
    const weights_tensor *skip = build_find(b, "layers.*.D");
    bool wide = skip && skip->rank == 1 && skip->dims[0] == p->inner && p->inner != p->heads; /* a skip for each channel */
    tensor_id in[] = {x,
                      decays(b, p),
                      convolved(b, p, "layers.*.conv1d.B", n, p->inner, gn),
                      convolved(b, p, "layers.*.conv1d.C", n, p->inner + gn, gn),
                      project(b, p, n, all_rows(p) - p->heads, p->heads, STRAND_UNARY_IDENTITY),
                      wide ? 0 : build_flat(b, "layers.*.D", p->heads),
                      build_vector(b, "layers.*.dt_bias", p->heads),
                      build_state(b, "layers.*.ssm.state", 3, (int64_t[]){p->heads, width, p->states})};
    strand_op_ssd ssd = {
        .heads = p->heads, .groups = p->groups, .softplus = 1, .dt_min = (float)p->dt_min, .dt_max = (float)p->dt_max,
        .precision = b->precision};
    if (build_failed(b)) return 0;
    tensor_id y = graph_op2(b->g, build_name(b, "layers.*.ssm"), STRAND_OP_SSD, &ssd, in, 8, NULL, &next);
    build_state_next(b, in[7], next);
    if (wide) y = build_add(b, "layers.*.skip", y, build_mul(b, "layers.*.skip", x, build_channels(b, "layers.*.D", p->inner)));
    return gated_norm(b, p, y, z);
}

static tensor_id mlp(builder *b, const mamba2 *p, tensor_id n) {
    tensor_id up = build_linear_rows(b, "layers.*.mlp.fc1", n, 2 * p->mlp, 0, p->mlp, p->d, STRAND_UNARY_IDENTITY);
    tensor_id gate = build_linear_rows(b, "layers.*.mlp.fc1", n, 2 * p->mlp, p->mlp, p->mlp, p->d, STRAND_UNARY_IDENTITY);
    return build_linear(b, "layers.*.mlp.fc2", build_gate(b, "layers.*.mlp.gate", STRAND_UNARY_SILU, gate, up), p->d, p->mlp,
                        STRAND_UNARY_IDENTITY);
}

/* x and y side by side. */
static tensor_id joined(builder *b, const char *name, tensor_id x, tensor_id y) {
    strand_op_concat join = {.axis = 2};
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, name), STRAND_OP_CONCAT, &join, (tensor_id[]){x, y}, 2, NULL);
}

/* Rows of an attention layer's in_proj, convolved where the layer does that. */
static tensor_id attended(builder *b, const mamba2 *p, const char *label, tensor_id n, int64_t rows, int64_t convolved_rows,
                          int64_t first, int64_t count) {
    tensor_id x = build_linear_rows(b, "layers.*.in_proj", n, rows, first, count, p->d, STRAND_UNARY_IDENTITY);
    const weights_tensor *taps = build_find(b, "layers.*.conv1d.weight");
    if (!taps || taps->rank < 2) return x;
    return build_short_conv_rows(b, "layers.*.conv1d", label, x, convolved_rows, first, count, taps->dims[taps->rank - 1],
                                 STRAND_UNARY_IDENTITY);
}

static tensor_id attention(builder *b, const mamba2 *p, tensor_id n) {
    const build_attention *a = &p->attention;
    int64_t q = a->heads * a->width, kv = a->kv_heads * a->width, qkv = q + 2 * kv,
            rows = build_extent(b, "layers.*.in_proj.weight", 0), half = (rows - qkv) / 2;
    if (rows < qkv || (rows - qkv) % 2) {
        build_refuse(b, "in_proj of attention layer %lld has %lld rows; expected %lld or more", (long long)b->layer,
                     (long long)rows, (long long)qkv);
        return 0;
    }
    tensor_id y = build_attend(b, "layers.*.attention", a, attended(b, p, "layers.*.conv1d.q", n, rows, qkv, 0, q),
                               attended(b, p, "layers.*.conv1d.k", n, rows, qkv, q, kv),
                               attended(b, p, "layers.*.conv1d.v", n, rows, qkv, q + kv, kv));
    if (half) {
        tensor_id up = build_linear_rows(b, "layers.*.in_proj", n, rows, qkv, half, p->d, STRAND_UNARY_IDENTITY);
        tensor_id gate = build_linear_rows(b, "layers.*.in_proj", n, rows, qkv + half, half, p->d, STRAND_UNARY_IDENTITY);
        y = joined(b, "layers.*.pair", y, build_gate(b, "layers.*.pair", STRAND_UNARY_SILU, gate, up));
    }
    return build_linear(b, "layers.*.out_proj", y, p->d, q + half, STRAND_UNARY_IDENTITY);
}

static tensor_id mixer(builder *b, const mamba2 *p, tensor_id n) {
    if (!build_has(b, "layers.*.dt_bias")) return attention(b, p, n);
    tensor_id y = state_space(b, p, n);
    if (p->pair) {
        tensor_id z0 = project(b, p, n, 0, p->pair, STRAND_UNARY_SILU),
                  x0 = project(b, p, n, p->pair, p->pair, STRAND_UNARY_IDENTITY);
        y = joined(b, "layers.*.pair", build_mul(b, "layers.*.pair", z0, x0), y);
    }
    return build_linear(b, "layers.*.out_proj", y, p->d, p->inner + p->pair, STRAND_UNARY_IDENTITY);
}

static tensor_id layer(builder *b, const mamba2 *p, tensor_id x) {
    x = build_add(b, "layers.*.add", x, mixer(b, p, norm(b, p, "layers.*.norm", x)));
    return p->mlp ? build_add(b, "layers.*.mlp.add", x, mlp(b, p, norm(b, p, "layers.*.norm2", x))) : x;
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    mamba2 p = {0};
    if (build_start(&b, m, config, e, names) || build_settings(&b) || configure(&b, &p)) return e->status;
    tensor_id x = build_embedding(&b, "embedding", p.vocabulary, p.d);
    for (b.layer = 0; b.layer < p.layers && !build_failed(&b); b.layer++) x = layer(&b, &p, x);
    build_head(&b, "lm_head", "embedding", norm(&b, &p, "norm_f", x), p.vocabulary, p.d, 0);
    return e->status;
}

static const char *const setting_keys[] = {BUILD_SETTINGS, ATTENTION_SETTINGS, NULL};

const family family_mamba2 = {"mamba2", recognise, build, setting_keys};
