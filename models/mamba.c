/* mamba.c - Mamba: Gu & Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv 2312.00752.
 *
 * Recognises state-spaces' own checkpoints (backbone.embedding), the Hugging Face ones (backbone.embeddings), FalconMamba,
 * whose time steps, B and C are normalised, and GGUF's names. All sizes come from the tensors' shapes; only epsilons come from
 * config.json, or from a GGUF file's metadata.
 *
 * A layer, x [batch, length, d] (Di channels, N states, R the rank of the time step):
 *   norm -> in_proj -> (u, z); u = silu(short convolution of u); x_proj -> (dt R, B N, C N); dt = dt_proj dt
 *   y = selective scan of u with softplus(dt + bias), A = -exp(A_log), B, C, D, gated by silu(z);  x += out_proj y
 * States: the convolution's last inputs, and [Di, N] of the scan. A and D are F32 whatever the file holds. */
#include "build.h"

#include <string.h>

static const build_rename names[] = {{"model.", ""},
                                     {"backbone.", ""},
                                     {"embeddings", "embedding"},
                                     {"layers.*.mixer.", "layers.*."},
                                     /* GGUF */
                                     {"token_embd", "embedding"},
                                     {"output_norm", "norm_f"},
                                     {"output", "lm_head"},
                                     {"blk.*.attn_norm", "layers.*.norm"},
                                     {"blk.*.ssm_in", "layers.*.in_proj"},
                                     {"blk.*.ssm_conv1d", "layers.*.conv1d"},
                                     {"blk.*.ssm_x", "layers.*.x_proj"},
                                     {"blk.*.ssm_dt", "layers.*.dt_proj"},
                                     {"blk.*.ssm_a", "layers.*.A"},
                                     {"blk.*.ssm_d", "layers.*.D"},
                                     {"blk.*.ssm_out", "layers.*.out_proj"},
                                     {NULL, NULL}};

typedef struct mamba {
    int64_t d, layers, vocabulary, inner, states, rank, taps;
    double eps;
    double inner_eps; /* FalconMamba: of the norms of dt, B and C; else 0 */
    bool layer_norm;
} mamba;

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, names, "layers.*.x_proj.weight") && build_recognises(w, names, "layers.*.dt_proj.weight");
}

static strand_status configure(builder *b, mamba *p) {
    const char *type = json_text(b->config->root, "model_type", "");
    p->vocabulary = build_extent(b, "embedding.weight", 0);
    p->d = build_extent(b, "embedding.weight", 1);
    p->layers = build_count_layers(b, "layers.*.in_proj.weight");
    p->inner = build_extent(b, "layers.*.in_proj.weight", 0) / 2;
    p->rank = build_extent(b, "layers.*.dt_proj.weight", 1);
    p->states = build_extent(b, build_has(b, "layers.*.A") ? "layers.*.A" : "layers.*.A_log", 1);
    const weights_tensor *taps = build_find(b, "layers.*.conv1d.weight");
    p->taps = taps && taps->rank >= 2 ? taps->dims[taps->rank - 1] : 0;
    if (p->d < 1 || p->vocabulary < 1 || p->layers < 1 || p->inner < 1 || p->rank < 1 || p->states < 1 || p->taps < 1 ||
        p->taps > 64)
        return build_refuse(b, "embedding, in_proj, dt_proj, A_log or conv1d of layer 0 is missing or has no usable shape");
    if (build_architecture(b)) {
        p->eps = build_meta_number(b, "attention.layer_norm_rms_epsilon", 1e-5, 0, 1);
        p->inner_eps = build_meta_bool(b, "ssm.dt_b_c_rms", false) ? p->eps : 0;
        return b->e->status;
    }
    p->eps = build_number(b, "layer_norm_epsilon", build_number(b, "norm_epsilon", 1e-5, 0, 1), 0, 1);
    p->inner_eps = !strcmp(type, "falcon_mamba") ? build_number(b, "mixer_rms_eps", 1e-6, 0, 1) : 0;
    p->layer_norm = !json_bool(b->config->root, "rms_norm", true);
    return b->e->status;
}

static tensor_id norm(builder *b, const mamba *p, const char *name, tensor_id x) {
    return p->layer_norm ? build_layer_norm(b, name, x, p->d, p->eps) : build_rms_norm(b, name, x, p->d, p->eps);
}

/* Rows of x_proj, normalised without weights where the model does that. */
static tensor_id projected(builder *b, const mamba *p, const char *name, tensor_id u, int64_t first, int64_t rows) {
    tensor_id w = build_rows(b, "layers.*.x_proj.weight", p->rank + 2 * p->states, first, rows, p->inner);
    tensor_id x = build_product(b, name, u, w, 0, STRAND_UNARY_IDENTITY);
    strand_op_norm rms = {.kind = STRAND_NORM_RMS, .groups = 1, .eps = (float)p->inner_eps};
    return p->inner_eps > 0 ? build_norm(b, name, &rms, x, 0, 0) : x;
}

/* -exp(A_log), or A itself in GGUF files. */
static tensor_id decays(builder *b, const mamba *p) {
    int64_t dims[] = {p->inner, p->states};
    if (build_has(b, "layers.*.A")) return build_f32(b, "layers.*.A", 2, dims, false);
    tensor_id a = build_unary(b, "layers.*.A", STRAND_UNARY_EXP, build_f32(b, "layers.*.A_log", 2, dims, false), 0, 0);
    return build_unary(b, "layers.*.A", STRAND_UNARY_NEG, a, 0, 0);
}

static tensor_id layer(builder *b, const mamba *p, tensor_id residual) {
    tensor_id x = norm(b, p, "layers.*.norm", residual), next;
    tensor_id u = build_linear_rows(b, "layers.*.in_proj", x, 2 * p->inner, 0, p->inner, p->d, STRAND_UNARY_IDENTITY);
    tensor_id z = build_linear_rows(b, "layers.*.in_proj", x, 2 * p->inner, p->inner, p->inner, p->d, STRAND_UNARY_IDENTITY);
    u = build_short_conv(b, "layers.*.conv1d", u, p->inner, p->taps, STRAND_UNARY_SILU);
    /* dt's factor last, next to the product that reads it: what reads u stands together. */
    tensor_id B = projected(b, p, "layers.*.x_proj.B", u, p->rank, p->states),
              C = projected(b, p, "layers.*.x_proj.C", u, p->rank + p->states, p->states),
              low = projected(b, p, "layers.*.x_proj.dt", u, 0, p->rank), A = decays(b, p);
    tensor_id dt = build_product(b, "layers.*.dt_proj", low, build_matrix(b, "layers.*.dt_proj.weight", p->inner, p->rank), 0,
                                 STRAND_UNARY_IDENTITY);
    tensor_id in[] = {u,
                      dt,
                      A,
                      B,
                      C,
                      build_vector(b, "layers.*.D", p->inner),
                      z,
                      build_vector_if(b, "layers.*.dt_proj.bias", p->inner),
                      build_state(b, "layers.*.ssm.state", 2, (int64_t[]){p->inner, p->states})};
    strand_op_selective_scan scan = {.softplus = 1};
    if (build_failed(b)) return 0;
    tensor_id y = graph_op2(b->g, build_name(b, "layers.*.ssm"), STRAND_OP_SELECTIVE_SCAN, &scan, in, 9, NULL, &next);
    build_state_next(b, in[8], next);
    return build_add(b, "layers.*.add", residual,
                     build_linear(b, "layers.*.out_proj", y, p->d, p->inner, STRAND_UNARY_IDENTITY));
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    mamba p = {0};
    if (build_start(&b, m, config, e, names) || build_settings(&b) || configure(&b, &p)) return e->status;
    tensor_id x = build_embedding(&b, "embedding", p.vocabulary, p.d);
    for (b.layer = 0; b.layer < p.layers && !build_failed(&b); b.layer++) x = layer(&b, &p, x);
    build_lengths(&b, 0);
    build_head(&b, "lm_head", "embedding", norm(&b, &p, "norm_f", x), p.vocabulary, p.d, 0);
    return e->status;
}

static const char *const setting_keys[] = {BUILD_SETTINGS, NULL};

const family family_mamba = {"mamba", recognise, build, setting_keys};
