/* brain_csm.c - causal sequence modelling of fMRI: Thomas, Re & Poldrack, "Self-Supervised Learning of Brain Dynamics from
 * Broad Neuroimaging Data", arXiv 2206.11417; the key layout of the repository athms/learning-from-brains (CSM embedder, GPT
 * decoder).
 *
 * A token is a volume, parcellated into networks: x = LayerNorm(Linear(networks)) + wt_re[time] + wpe[position], GPT-2
 * layers, and a linear map back to networks. The row of wt_re is the volume's time in steps of tr_precision. To predict a
 * volume the network's row is replaced by msk_embed (in the input's space); to decode what a person does cls_embed stands at
 * the end, at no time of its own (the last row of wt_re), and a pooler and a head read it. The caches of keys and values are
 * states. */
#include "gpt2.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const build_rename names[] = {{"module.", ""}, {"decoder.transformer.", ""}, {NULL, NULL}};

enum { TASK_PREDICT, TASK_FORWARD, TASK_DECODE, TASK_GIVEN };
static const char *const tasks[] = {"predict", "forward", "decode", "given", NULL};

typedef struct brain {
    gpt2 p;
    int64_t networks, times, classes,
        back; /* times: rows of wt_re less the one of no time; back: layers of the unembedder, 0: none */
    int task;
    double repetition, precision; /* seconds from volume to volume, 0: times are given; of a row of wt_re */
    tensor_id last;               /* [B, L, 1]: 1 where something stands in the volume's place */
    tensor_id kinds;              /* [B, L] I64, with task=given */
} brain;

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, names, "embedder.embed_model.model.0.weight") &&
           build_recognises(w, names, "embedder.wt_re.weight") && build_recognises(w, names, "h.*.attn.c_attn.weight");
}

/* ---- configuration ---- */

static void choose_task(builder *b, brain *m) {
    const char *given = config_given(b->config, "task");
    m->task = m->classes ? TASK_DECODE : TASK_PREDICT;
    if (given) {
        int i = 0;
        while (tasks[i] && strcmp(tasks[i], given)) i++;
        if (!tasks[i]) {
            error_set(b->e, STRAND_ERR_ARGUMENT, "setting task=%.40s is none of predict, forward, decode, given", given);
            return;
        }
        m->task = i;
    }
    if (m->task == TASK_DECODE && !m->classes)
        build_refuse(b, "task=decode needs decoder.pooler_layer.0 and decoder.decoding_head.0, which this file does not have");
    if ((m->task == TASK_PREDICT || m->task == TASK_GIVEN) && build_extent(b, "embedder.msk_embed", 2) != m->networks)
        build_refuse(b, "embedder.msk_embed is missing or not [1, 1, %lld]", (long long)m->networks);
    if (!build_failed(b)) config_record(b->m, "task", tasks[m->task], b->e);
}

/* Seconds from volume to volume; with them times follow from positions, which must not pass the last row of wt_re. */
static void take_times(builder *b, brain *m) {
    const char *given = config_given(b->config, "t_r");
    char text[32];
    m->precision = build_number(b, "tr_precision", 0.2, 1e-3, 100);
    m->repetition = build_number(b, "t_r", 0, 0, 1e4);
    if (given && (!config_parse_number(given, &m->repetition) || !(m->repetition >= 0 && m->repetition <= 1e4))) {
        error_set(b->e, STRAND_ERR_ARGUMENT, "setting t_r=%.40s is not a number of seconds", given);
        return;
    }
    double most = m->repetition > 0 ? (double)m->times * m->precision / m->repetition : (double)b->context;
    if (most < (double)b->context) b->context = most < 1 ? 1 : (int64_t)most;
    snprintf(text, sizeof text, "%.9g", m->repetition);
    config_record(b->m, "t_r", text, b->e);
}

static strand_status configure(builder *b, brain *m) {
    gpt2 *p = &m->p;
    const json *root = b->config->root;
    p->d = build_extent(b, "embedder.wt_re.weight", 1);
    m->times = build_extent(b, "embedder.wt_re.weight", 0) - 1;
    m->networks = build_extent(b, "embedder.embed_model.model.0.weight", 1);
    p->longest = build_extent(b, "wpe.weight", 0);
    p->layers = build_count_layers(b, "h.*.attn.c_attn.weight");
    p->inner = build_extent(b, "h.*.mlp.c_fc.weight", 1);
    m->classes = build_has(b, "decoder.pooler_layer.0.weight") ? build_extent(b, "decoder.decoding_head.0.weight", 0) : 0;
    if (p->d < 1 || p->d > 1 << 16 || m->times < 1 || m->networks < 1 || m->networks > 1 << 20 || p->longest < 1 ||
        p->inner < 1)
        return build_refuse(
            b, "embedder.wt_re, embedder.embed_model, decoder.transformer.wpe or mlp.c_fc is missing or has no usable shape");
    int64_t heads = build_int(b, "num_attention_heads", p->d % 64 ? -1 : p->d / 64, -1, p->d);
    if (heads == -1 && p->d % 64 == 0) heads = p->d / 64; /* as the published code reads it */
    if (!build_failed(b) && (heads < 1 || p->d % heads))
        return build_refuse(b, "%lld heads do not divide a width of %lld; num_attention_heads in config.json tells them",
                            (long long)heads, (long long)p->d);
    p->attention.heads = p->attention.kv_heads = heads;
    p->attention.width = heads > 0 ? p->d / heads : 1;
    p->eps = build_number(b, "layer_norm_epsilon", 1e-5, 0, 1);
    p->activation = build_activation(b, json_text(root, "hidden_activation", "gelu_new"));
    if (build_failed(b) || build_context(b, p->longest, 0)) return b->e->status;
    choose_task(b, m);
    take_times(b, m);
    return b->e->status;
}

/* ---- the input ---- */

/* The numbers 0 to context as a table: integers become numbers by looking them up. */
static tensor_id numbers(builder *b, const char *name, const float *some, int64_t n) {
    float *all = some ? NULL : ARENA_ARRAY(&b->m->arena, float, (size_t)n);
    if (!some && !all) return build_refuse(b, "out of memory while loading"), 0;
    for (int64_t i = 0; !some && i < n; i++) all[i] = (float)i;
    return build_constant(b, name, 2, (int64_t[]){n, 1}, some ? some : all);
}

static tensor_id look_up(builder *b, const char *name, tensor_id table, tensor_id ids) {
    return build_failed(b) ? 0
                           : graph_op(b->g, build_name(b, name), STRAND_OP_GATHER, NULL, (tensor_id[]){table, ids}, 2, NULL);
}

/* 1 at the last token of the run, 0 before it. */
static tensor_id last_token(builder *b) {
    tensor_id table = numbers(b, "numbers", NULL, b->context + 1);
    tensor_id at = look_up(b, "position", table, graph_positions(b->g)), end = look_up(b, "end", table, graph_end(b->g));
    end = build_reshape(b, "end", end, 3, (op_dim[]){DIM_B, DIM(1), DIM(1)});
    tensor_id x =
        build_unary(b, "last.from", STRAND_UNARY_AFFINE, build_binary(b, "last.from", STRAND_BINARY_SUB, at, end), 1, 2);
    return build_unary(b, "last", STRAND_UNARY_CLAMP, x, 0, 1);
}

/* x (1 - last) + row last, row [1, 1, n] or [B, L, n] */
static tensor_id replaced(builder *b, const brain *m, const char *name, tensor_id x, tensor_id row) {
    tensor_id keep = build_unary(b, name, STRAND_UNARY_AFFINE, m->last, -1, 1);
    return build_add(b, name, build_mul(b, name, x, keep), build_mul(b, name, row, m->last));
}

/* The volumes with msk_embed or cls_embed where one of them stands. */
static tensor_id volumes(builder *b, brain *m) {
    static const float marks[3] = {0, 1, 1};
    tensor_id x = graph_input(b->g, "inputs", STRAND_F32, 3, (op_dim[]){DIM_B, DIM_L, DIM(m->networks)});
    if (m->task == TASK_FORWARD) return x;
    if (m->task != TASK_GIVEN) {
        m->last = last_token(b);
        return replaced(b, m, "embedder.replaced", x,
                        build_channels(b, m->task == TASK_DECODE ? "embedder.cls_embed" : "embedder.msk_embed", m->networks));
    }
    m->kinds = graph_input(b->g, "kinds", STRAND_I64, 2, (op_dim[]){DIM_B, DIM_L});
    m->last = look_up(b, "replaced", numbers(b, "marks", marks, 3), m->kinds);
    tensor_id parts[3] = {build_matrix(b, "embedder.msk_embed", 1, m->networks),
                          build_matrix(b, "embedder.msk_embed", 1, m->networks),
                          build_matrix(b, "embedder.cls_embed", 1, m->networks)};
    strand_op_concat p = {.axis = 0};
    tensor_id rows = build_failed(b) ? 0 : graph_op(b->g, "embedder.stand_ins", STRAND_OP_CONCAT, &p, parts, 3, NULL);
    return replaced(b, m, "embedder.replaced", x, look_up(b, "embedder.stand_in", rows, m->kinds));
}

/* Linear, LayerNorm, and between two such layers GELU. */
static tensor_id embedded(builder *b, const brain *m, tensor_id x) {
    int64_t in = m->networks;
    for (int64_t i = 0; i < 64 && !build_failed(b); i++, in = m->p.d) {
        const char *linear = graph_name(b->g, "embedder.embed_model.model.%lld", (long long)(4 * i)),
                   *norm = graph_name(b->g, "embedder.embed_model.model.%lld", (long long)(4 * i + 1));
        if (i && !build_has(b, graph_name(b->g, "%s.weight", linear))) break;
        if (i) x = build_unary(b, "embedder.embed_model.gelu", STRAND_UNARY_GELU, x, 0, 0);
        x = build_layer_norm(b, norm, build_linear(b, linear, x, m->p.d, in, STRAND_UNARY_IDENTITY), m->p.d, 1e-5);
    }
    return x;
}

/* The row of a time as the published code rounds it, in single precision. */
static int64_t row_of(const brain *m, double seconds) {
    float precision = (float)m->precision, steps = nearbyintf((float)seconds / precision);
    return (int64_t)(steps * precision * (float)(int64_t)(1 / m->precision));
}

/* Rows of wt_re: of each position's time, or of the rows that are given; the last row where cls_embed stands. */
static tensor_id times(builder *b, brain *m) {
    tensor_id table = build_f32(b, "embedder.wt_re.weight", 2, (int64_t[]){m->times + 1, m->p.d}, false);
    if (build_failed(b)) return 0;
    if (!(m->repetition > 0))
        return look_up(b, "embedder.wt_re", table, graph_input(b->g, "t_r_ids", STRAND_I64, 2, (op_dim[]){DIM_B, DIM_L}));
    int64_t *ids = ARENA_ARRAY(&b->m->arena, int64_t, (size_t)b->context);
    if (!ids) return build_refuse(b, "out of memory while loading"), 0;
    for (int64_t i = 0; i < b->context; i++) {
        ids[i] = row_of(m, (double)i * m->repetition);
        if (ids[i] >= m->times) ids[i] = m->times - 1;
    }
    tensor_id rows = look_up(b, "embedder.wt_re.of_positions", table,
                             graph_weight(b->g, "embedder.times", STRAND_I64, 1, (op_dim[]){DIM(b->context)}, ids));
    tensor_id x = look_up(b, "embedder.wt_re", rows, graph_positions(b->g));
    if (m->task != TASK_DECODE) return x;
    tensor_id none = build_rows(b, "embedder.wt_re.weight", m->times + 1, m->times, 1, m->p.d);
    return replaced(b, m, "embedder.no_time", x,
                    build_reshape(b, "embedder.no_time", none, 3, (op_dim[]){DIM(1), DIM(1), DIM(m->p.d)}));
}

/* ---- the outputs ---- */

static tensor_id last_of(builder *b, const char *name, tensor_id x) {
    strand_op_reduce_axis p = {.kind = STRAND_AXIS_FINAL, .axis = 1};
    return build_failed(b) ? 0 : graph_op(b->g, name, STRAND_OP_REDUCE_AXIS, &p, &x, 1, NULL);
}

/* Back to networks: Linear, and before the last one LayerNorm and GELU; without an unembedder the hidden state itself. */
static tensor_id unembedded(builder *b, const brain *m, tensor_id x) {
    for (int64_t i = 0; i < 64 && !build_failed(b); i++) {
        const char *linear = graph_name(b->g, "unembedder.model.%lld", (long long)(4 * i)),
                   *norm = graph_name(b->g, "unembedder.model.%lld", (long long)(4 * i + 1));
        if (!build_has(b, graph_name(b->g, "%s.weight", linear))) break;
        bool more = build_has(b, graph_name(b->g, "%s.weight", norm));
        x = build_linear(b, linear, x, more ? m->p.d : m->networks, m->p.d, STRAND_UNARY_IDENTITY);
        if (more) x = build_unary(b, "unembedder.gelu", STRAND_UNARY_GELU, build_layer_norm(b, norm, x, m->p.d, 1e-5), 0, 0);
    }
    return x;
}

static void outputs(builder *b, const brain *m, tensor_id hidden) {
    strand_op_softmax p = {0};
    if (m->task == TASK_DECODE) {
        tensor_id x = build_linear(b, "decoder.pooler_layer.0", last_of(b, "cls", hidden), m->p.d, m->p.d, STRAND_UNARY_TANH);
        tensor_id logits = build_linear(b, "decoder.decoding_head.0", x, m->classes, m->p.d, STRAND_UNARY_IDENTITY);
        if (build_failed(b)) return;
        graph_output_add(b->g, "logits", logits);
        graph_output_add(b->g, "probabilities", graph_op(b->g, "probabilities", STRAND_OP_SOFTMAX, &p, &logits, 1, NULL));
        graph_output_add(b->g, "pooler_outputs", x);
        graph_output_on_request(b->g, "hidden", hidden);
        return;
    }
    tensor_id x = unembedded(b, m, hidden);
    if (m->task == TASK_PREDICT) graph_output_add(b->g, "prediction", last_of(b, "prediction", x));
    graph_output_add(b->g, "outputs", x);
    graph_output_on_request(b->g, "hidden", hidden);
}

static strand_status build(strand_model *model, const model_config *config, error *e) {
    builder b;
    brain m = {0};
    if (build_start(&b, model, config, e, names) || build_settings(&b) || configure(&b, &m)) return e->status;
    tensor_id x = embedded(&b, &m, volumes(&b, &m));
    x = build_add(&b, "embedder.sum", x, times(&b, &m));
    x = build_add(&b, "embedding", x, gpt2_places(&b, &m.p));
    for (b.layer = 0; b.layer < m.p.layers && !build_failed(&b); b.layer++) x = gpt2_layer(&b, &m.p, x);
    build_lengths(&b, b.context);
    outputs(&b, &m, build_layer_norm(&b, "ln_f", x, m.p.d, m.p.eps));
    return e->status;
}

static const char *const setting_keys[] = {"task", "t_r", BUILD_SETTINGS, ATTENTION_SETTINGS, NULL};

const family family_brain_csm = {"brain_csm", recognise, build, setting_keys};
