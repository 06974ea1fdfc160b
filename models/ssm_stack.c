/* ssm_stack.c - layers of the S4 family, one alone or as a stack: encoder, N layers with norms and residual connections,
 * decoder. What a layer is its tensors tell; what they cannot tell stands in config.json by the names that the published
 * constructors give. Keys and names of tensors are listed in docs/models.md.
 *
 * Every layer runs as a convolution over the whole sequence, or (mode=recurrence) as a recurrence whose states a session
 * carries on, if no layer looks ahead. Input `x` [batch, length, d]. Output `output` [batch, length, d'], or [batch, d']
 * when pooled. A single layer also gives its filter as `kernel` and its last states; a stack gives them as layers.I.NAME on
 * request, and `hidden`, what the decoder gets. */
#include "ssm.h"

#include <stdio.h>
#include <string.h>

#define MOST_LAYERS 1024

static const build_rename renames[] = {{"state_dict.", ""},
                                       {"module.", ""},
                                       {"net.", ""},
                                       {"model.layers.*.layer.", "layers.*."},
                                       {"model.layers.*.norm.norm.", "norms.*."},
                                       {"model.layers.*.norm.", "norms.*."},
                                       {"model.norm.norm.", "norm."},
                                       {"model.norm.", "norm."},
                                       {"s4_layers.*.", "layers.*."},
                                       {"encoder.encoder.", "encoder."},
                                       {"encoder.layers_*.", "layers.*."},
                                       {"encoder.0.", "encoder."},
                                       {"decoder.0.output_transform.", "decoder."},
                                       {"layers.*.move.", "layers.*."},
                                       {"move.", ""},
                                       {NULL, NULL}};

typedef struct kind {
    const char *signs[2]; /* tensors that only this layer has */
    tensor_id (*run)(ssm *s, tensor_id x);
    const char *width; /* the tensor and axis that give the channels of the input */
    int axis;
} kind;

static const kind kinds[] = {
    {{"layer.kernel.C", "layer.D"}, ssm_s4, "layer.kernel.C", 1},
    {{"kernel.kernel.C", "kernel.kernel.log_dt"}, ssm_s4, "kernel.kernel.C", 1},
    {{"kernel.C", "kernel.log_A_real"}, ssm_s4d_minimal, "kernel.C", 0},
    {{"kernel.W", "kernel.log_dt"}, ssm_dss, "kernel.W", 1},
    {{"seq.Lambda_re", "seq.log_step"}, ssm_s5, "seq.B", 1},
    {{"Lambda_re", "log_step"}, ssm_s5, "B", 1},
    {{"seq.nu_log", "seq.gamma_log"}, ssm_lru, "seq.B_re", 1},
    {{"nu_log", "gamma_log"}, ssm_lru, "B_re", 1},
    {{"delta", "omega"}, ssm_ema, "omega", 0},
    {{"W_u.weight", "W_h.weight"}, ssm_lmu, "W_u.weight", 1},
};
#define N_KINDS (sizeof kinds / sizeof kinds[0])

static bool recognise(const weights *w, const json *config) {
    static const char *const prefixes[] = {"", "layers.0."};
    (void)config;
    for (int p = 0; p < 2; p++)
        for (size_t i = 0; i < N_KINDS; i++) {
            char a[96], b[96];
            snprintf(a, sizeof a, "%s%s", prefixes[p], kinds[i].signs[0]);
            snprintf(b, sizeof b, "%s%s", prefixes[p], kinds[i].signs[1]);
            if (build_recognises(w, renames, a) && build_recognises(w, renames, b)) return true;
        }
    return false;
}

static const kind *kind_of(ssm *s) {
    for (size_t i = 0; i < N_KINDS; i++)
        if (ssm_has(s, kinds[i].signs[0]) && ssm_has(s, kinds[i].signs[1])) return &kinds[i];
    return NULL;
}

/* Channels that a layer takes. A gate's or a bottleneck's first product says it for layers that have one. */
static int64_t width_of(ssm *s, const kind *k) {
    static const char *const first[] = {"input_gate.weight", "input_gate.0.weight", "input_linear.weight",
                                        "input_linear.0.weight"};
    for (int i = 0; i < 4; i++)
        if (ssm_has(s, first[i])) return ssm_extent(s, first[i], 1);
    return ssm_extent(s, k->width, k->axis);
}

/* ---- norms ---- */

/* A mean and a deviation that training has gathered. */
static tensor_id gathered_norm(ssm *s, const char *name, const char *mean, const char *var, tensor_id weight, tensor_id bias,
                               tensor_id x, double eps) {
    builder *b = &s->b;
    tensor_id m = build_vector(b, mean, s->d),
              r = build_unary(b, name, STRAND_UNARY_AFFINE, build_vector(b, var, s->d), 1, (float)eps);
    r = build_unary(b, name, STRAND_UNARY_RSQRT, r, 0, 0);
    if (weight) r = build_mul(b, name, r, weight);
    tensor_id shift = build_unary(b, name, STRAND_UNARY_NEG, build_mul(b, name, m, r), 0, 0);
    if (bias) shift = build_add(b, name, shift, bias);
    return build_add(b, name, build_mul(b, name, x, ssm_per_channel(s, "scale", r, s->d)),
                     ssm_per_channel(s, "shift", shift, s->d));
}

/* x by NAME.{weight or scale, bias}; x itself where the file has no such norm. */
static tensor_id normed(ssm *s, const char *name, tensor_id x) {
    builder *b = &s->b;
    const char *flax = graph_name(b->g, "%s.scale", name), *weight = graph_name(b->g, "%s.weight", name),
               *mean = graph_name(b->g, "%s.running_mean", name);
    const char *var = graph_name(b->g, "%s.running_var", name);
    bool is_flax = build_has(b, flax);
    double eps = is_flax ? 1e-6 : 1e-5;
    if (!is_flax && !build_has(b, weight) && !build_has(b, mean)) return x;
    if (!build_has(b, mean)) mean = graph_name(b->g, "%s.mean", name), var = graph_name(b->g, "%s.var", name);
    if (b->config->root) eps = build_number(b, "layer_norm_epsilon", eps, 0, 1);
    tensor_id w = build_vector_if(b, is_flax ? flax : weight, s->d),
              bias = build_vector_if(b, graph_name(b->g, "%s.bias", name), s->d);
    if (build_has(b, mean)) return gathered_norm(s, name, mean, var, w, bias, x, eps);
    static const char *const names[] = {"layer", "rms", NULL};
    int which = arrange_choice(b, "norm", ssm_config_text(s, "norm", "layer"), names);
    strand_op_norm p = {.kind = which == 1 ? STRAND_NORM_RMS : STRAND_NORM_LAYER, .groups = 1, .eps = (float)eps};
    return build_norm(b, name, &p, x, w, bias);
}

/* ---- layers ---- */

/* What a sequence layer of S5 or LRU does with its states' output: g = gelu(y), then out1(g) sigmoid(out2(g)) and relatives. */
static tensor_id mixed(ssm *s, tensor_id y) {
    static const char *const names[] = {"full_glu", "half_glu1", "half_glu2", "gelu", "none", NULL};
    builder *b = &s->b;
    const char *usual = ssm_linear_rows(s, "out1") ? "full_glu" : ssm_linear_rows(s, "out2") ? "half_glu1" : "gelu";
    int form = arrange_choice(b, "activation", ssm_config_text(s, "activation", usual), names);
    if (form == 4) return y;
    /* flax's is the tanh form */
    uint32_t gelu = !strcmp(ssm_config_text(s, "gelu", "tanh"), "erf") ? STRAND_UNARY_GELU : STRAND_UNARY_GELU_TANH;
    tensor_id g = ssm_activate(s, "activation", gelu, y), value = form == 2 ? y : g;
    if (form == 3 || form < 0) return g;
    if (form == 0) value = ssm_linear(s, "out1", g, s->d, s->d);
    return build_gate(b, ssm_key(s, "gate"), STRAND_UNARY_SIGMOID, ssm_linear(s, "out2", g, s->d, s->d), value);
}

/* A layer whose file holds a whole sequence layer ("seq.*") normalises and adds its input itself. */
static tensor_id sequence_layer(ssm *s, const kind *k, tensor_id x) {
    const char *name =
        ssm_key(s, ssm_has(s, "normalization.scale") || ssm_has(s, "normalization.weight") ? "normalization" : "norm");
    bool first = ssm_config_bool(s, "prenorm", false);
    tensor_id u = first ? normed(s, name, x) : x;
    tensor_id y = build_add(&s->b, ssm_key(s, "add"), x, mixed(s, k->run(s, u)));
    return first ? y : normed(s, name, y);
}

static tensor_id layer(ssm *s, tensor_id x) {
    builder *b = &s->b;
    const kind *k = kind_of(s);
    if (!k) build_refuse(b, "layer %lld is of no kind that is known", (long long)b->layer);
    if (k && width_of(s, k) != s->d)
        build_refuse(b, "layer %lld takes %lld channels of %lld", (long long)b->layer, (long long)width_of(s, k),
                     (long long)s->d);
    if (build_failed(b)) return 0;
    if (!strncmp(k->signs[0], "seq.", 4)) return sequence_layer(s, k, x);
    if (!s->stack) return k->run(s, x);
    bool first = ssm_config_bool(s, "prenorm", false);
    tensor_id u = first ? normed(s, "norms.*", x) : x, y = k->run(s, u);
    if (ssm_config_bool(s, "residual", true)) y = build_add(b, ssm_key(s, "add"), y, x);
    return first ? y : normed(s, "norms.*", y);
}

/* Does a layer look ahead? Then no layer can carry states on. */
static bool looks_ahead(ssm *s) {
    int64_t d = ssm_extent(s, "omega", 0);
    return ssm_config_bool(s, "bidirectional", false) || (s->liquid && ssm_config_text(s, "liquid_kernel", NULL)) ||
           ssm_has(s, "C1") || ssm_has(s, "seq.C1") || (d > 0 && ssm_extent(s, "delta", 0) == 2 * d);
}

/* ---- the stack ---- */

/* NAME.{weight, bias} or flax's NAME.{kernel, bias}; x itself where the file has neither. `d` gets the new width. */
static tensor_id dense(ssm *s, const char *name, tensor_id x, int64_t *d) {
    const char *keep = s->prefix;
    s->prefix = "";
    int64_t rows = ssm_linear_rows(s, name);
    if (rows) x = ssm_linear(s, name, x, rows, *d);
    s->prefix = keep;
    if (rows) *d = rows;
    return x;
}

/* Is it the published example's model (state-spaces/s4, example.py)? That one always takes the mean. */
static bool is_example(const weights *w) {
    for (int64_t i = 0; i < weights_count(w); i++)
        if (strstr(weights_at(w, i)->name, "s4_layers.0.")) return true;
    return false;
}

static tensor_id pooled(ssm *s, tensor_id x) {
    static const char *const names[] = {"none", "mean", "last", "max", "sum", "pool", NULL};
    static const uint32_t kinds_of[] = {0, STRAND_AXIS_MEAN, 0, STRAND_AXIS_MAX, STRAND_AXIS_SUM, STRAND_AXIS_MEAN};
    builder *b = &s->b;
    int i = arrange_choice(b, "pool", arrange_text(b, "pool", is_example(b->m->weights) ? "mean" : "none"), names);
    arrange_record_text(b, "pool", i < 0 ? "" : names[i]);
    if (i < 1 || build_failed(b)) return x;
    if (i == 2) return arrange_reshape(b, "pool", arrange_slice(b, "pool", x, 1, -1, 1), 2, (op_dim[]){DIM_B, DIM(s->d)});
    return arrange_reduce(b, "pool", kinds_of[i], x, 1, false);
}

static int64_t encoder_columns(ssm *s) {
    int64_t n = build_extent(&s->b, "encoder.weight", 1);
    return n ? n : build_extent(&s->b, "encoder.kernel", 0);
}

static strand_status configure(ssm *s, const kind **first, int64_t *layers) {
    static const char *const modes[] = {"conv", "recurrence", NULL};
    builder *b = &s->b;
    const char *mode = config_given(b->config, "mode"), *liquid = config_given(b->config, "liquid");
    s->liquid = !(liquid && !strcmp(liquid, "0"));
    s->prefix = "layers.*.";
    *first = kind_of(s);
    s->stack = *first != NULL;
    if (!s->stack) s->prefix = "", *first = kind_of(s);
    for (*layers = 0; s->stack && *layers < MOST_LAYERS; (*layers)++) {
        b->layer = *layers;
        if (!kind_of(s)) break;
        if (looks_ahead(s)) s->one_way = false;
    }
    if (!s->stack) s->one_way = !looks_ahead(s);
    b->layer = 0;
    if (!*first) return build_refuse(b, "no layer that is known");
    s->recurrent = arrange_choice(b, "mode", mode ? mode : "conv", modes) == 1; /* the config's "mode" is a kind of kernel */
    s->l_max = arrange_int(b, "l_max", 0, 0, (int64_t)1 << 24);
    bool fixed = ssm_config_bool(s, "allcombs", true) || !strcmp(ssm_config_text(s, "liquid_kernel", ""), "kb");
    if (s->liquid && ssm_config_text(s, "liquid_kernel", NULL) && fixed && s->l_max) s->length = DIM(s->l_max);
    s->d = width_of(s, *first);
    if (s->d < 1 || s->d > 1 << 20)
        build_refuse(b, "'%s' does not tell the channels of the first layer", ssm_key(s, (*first)->width));
    arrange_record_text(b, "mode", s->recurrent ? "recurrence" : "conv");
    arrange_record_int(b, "l_max", s->l_max);
    return b->e->status;
}

/* Every tensor of numbers has a part in the model, or it is of no kind that is known: a layer that is left out without a
 * word would be worse than a refusal. What training keeps beside its parameters, and liquid.* where it is not wanted, may
 * lie there. */
static void all_used(ssm *s) {
    static const char *const idle[] = {"omega", "z", "H", "fft_H", "num_batches_tracked"};
    builder *b = &s->b;
    for (int64_t i = 0; i < weights_count(b->m->weights) && !build_failed(b); i++) {
        const weights_tensor *w = weights_at(b->m->weights, i);
        const char *last = strrchr(w->name, '.');
        bool known =
            (w->dtype != STRAND_F32 && w->dtype != STRAND_F16 && w->dtype != STRAND_BF16) || strstr(w->name, "liquid.");
        for (int64_t k = 0; k < b->m->n_used && !known; k++) known = b->m->used[k] == w;
        for (size_t k = 0; k < sizeof idle / sizeof idle[0] && !known; k++) known = !strcmp(last ? last + 1 : w->name, idle[k]);
        if (!known) build_refuse(b, "tensor '%.120s' has no part in layers of a kind that is known", w->name);
    }
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    ssm s = {.length = DIM_L, .one_way = true, .prefix = ""};
    builder *b = &s.b;
    const kind *first;
    int64_t layers, columns;
    if (build_start(b, m, config, e, renames) || configure(&s, &first, &layers)) return e->status;
    columns = s.stack ? encoder_columns(&s) : 0;
    int64_t width = columns > 0 ? columns : s.d;
    if (width > 1 << 20) return build_refuse(b, "'encoder.weight' is too wide");
    tensor_id x = graph_input(b->g, "x", STRAND_F32, 3, (op_dim[]){DIM_B, s.length, DIM(width)});
    if (s.stack) {
        x = dense(&s, "encoder", x, &width);
        if (width != s.d) build_refuse(b, "the encoder makes %lld channels of %lld", (long long)width, (long long)s.d);
    }
    for (b->layer = 0; b->layer < (s.stack ? layers : 1) && !build_failed(b); b->layer++) x = layer(&s, x);
    tensor_id hidden = 0;
    if (s.stack) {
        hidden = normed(&s, "norm", x);
        x = pooled(&s, hidden);
        x = dense(&s, "decoder", x, &width);
    }
    all_used(&s);
    if (build_failed(b)) return e->status;
    graph_output_add(b->g, "output", x);
    for (uint32_t i = 0; i < s.n_results; i++)
        (s.stack ? graph_output_on_request : graph_output_add)(b->g, s.results[i].name, s.results[i].tensor);
    if (hidden) graph_output_on_request(b->g, "hidden", hidden);
    m->max_length = s.longest ? s.longest : (int64_t)1 << 24;
    m->window = s.l_max && s.l_max < m->max_length ? s.l_max : m->max_length < 4096 ? m->max_length : 4096;
    return e->status;
}

static const char *const setting_keys[] = {"mode", "l_max", "pool", "liquid", NULL};

const family family_ssm_stack = {"ssm_stack", recognise, build, setting_keys};
