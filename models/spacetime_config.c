/* spacetime_config.c - what a SpaceTime checkpoint is made of. Sizes come from its tensors; what tensors cannot tell (skip
 * connections, the order of norms, lag and horizon) from config.json in any of three forms: the published training arguments
 * at the top or under "args" (with the meaning that the published setup gives them), or the configuration that they resolve
 * to, under "resolved" or at the top. Absent keys have the published defaults.
 *
 * The published setup gives --norm_order to the decoder and to the blocks after the first; the first keeps 1. */
#include "spacetime.h"

#include <stdio.h>
#include <string.h>

#define MOST_CHANNELS ((int64_t)1 << 16)
#define MOST_TIME ((int64_t)1 << 20)

const char *const spacetime_settings[] = {"lag", "horizon", "mode", "data_transform", "norm_order", "input_dim", NULL};

/* A training argument, or NULL. */
static const json *argument(const spacetime *s, const char *key) {
    char path[96];
    const json *v = arrange_member(s->b.config->root, key);
    if (v && v->type != JSON_OBJECT) return v;
    snprintf(path, sizeof path, "args.%s", key);
    return arrange_member(s->b.config->root, path);
}

/* A part of the resolved configuration, or NULL. */
static const json *resolved(const spacetime *s, const char *path) {
    const json *root = s->b.config->root, *under = arrange_member(root, "resolved");
    return arrange_member(under ? under : root, path);
}

static int64_t argument_int(spacetime *s, const char *key, int64_t fallback, int64_t low, int64_t high) {
    const json *v = config_given(s->b.config, key) ? NULL : argument(s, key);
    if (!v) return arrange_int(&s->b, key, fallback, low, high);
    if (!v->is_integer || v->integer < low || v->integer > high) {
        build_refuse(&s->b, "config.json: '%s' is not a whole number from %lld to %lld", key, (long long)low, (long long)high);
        return low;
    }
    return v->integer;
}

static const char *argument_text(const spacetime *s, const char *key, const char *fallback) {
    const char *given = config_given(s->b.config, key);
    const json *v = argument(s, key);
    return given ? given : v && v->type == JSON_STRING ? v->text : fallback;
}

/* A truth value, which the published arguments also write as a number. */
static bool truth(const json *v, bool fallback) {
    return v && (v->type == JSON_BOOL || v->type == JSON_NUMBER) ? v->number != 0 : fallback;
}

/* ---- MLPs ---- */

static void activation(spacetime *s, const char *name, spacetime_mlp *m) {
    static const char *const names[] = {"gelu", "relu", "silu", "swish", "sigmoid", "id", "identity", "linear", NULL};
    static const uint32_t kinds[] = {STRAND_UNARY_GELU,    STRAND_UNARY_RELU,     STRAND_UNARY_SILU,     STRAND_UNARY_SILU,
                                     STRAND_UNARY_SIGMOID, STRAND_UNARY_IDENTITY, STRAND_UNARY_IDENTITY, STRAND_UNARY_IDENTITY};
    int i = arrange_choice(&s->b, "activation", name, names);
    m->activation = i < 0 ? STRAND_UNARY_IDENTITY : kinds[i];
    m->in_place = i >= 1 && i <= 3;
}

static bool has_linear(const spacetime *s, const char *prefix, int64_t index) {
    char name[160];
    snprintf(name, sizeof name, "%s.layers.%lld.weight", prefix, (long long)index);
    return build_has(&s->b, name);
}

/* The published order: an activation and a dropout first (`before`), then linear layers and activations in turn while there
 * are any. */
static void lay_out(spacetime *s, spacetime_mlp *m, int64_t layers, int64_t activations, bool before) {
    int64_t index = 0;
    m->n = 0;
    if (before) {
        m->linear[m->n++] = -1;
        index = 2;
        activations--;
    }
    for (; layers > 0 || activations > 0; layers--, activations--) {
        if (m->n + 2 > SPACETIME_MAX_LAYERS) {
            build_refuse(&s->b, "an MLP has more than %d layers", SPACETIME_MAX_LAYERS / 2);
            return;
        }
        if (layers > 0) m->linear[m->n++] = index++;
        if (activations > 0) {
            m->linear[m->n++] = -1;
            index++;
        }
    }
}

/* Without a configuration: what the numbers of the linear layers tell. */
static void guess_layers(const spacetime *s, const char *prefix, int64_t *layers, int64_t *activations, bool *before) {
    int64_t last = -1;
    *layers = *activations = 0;
    for (int64_t i = 0; i < 2 * SPACETIME_MAX_LAYERS; i++) {
        if (!has_linear(s, prefix, i)) continue;
        if (last >= 0) *activations += i - last - 1;
        (*layers)++;
        last = i;
    }
    *before = *layers > 0 && !has_linear(s, prefix, 0);
    *activations += *before;
}

/* `config`: {method, kwargs} or NULL. The training arguments hold where `arguments`. */
static void mlp_of(spacetime *s, const char *prefix, const json *config, bool arguments, bool skip, spacetime_mlp *m) {
    const json *k = arrange_member(config, "kwargs"), *v;
    int64_t layers, activations;
    bool before;
    char name[160];
    *m = (spacetime_mlp){.activation = STRAND_UNARY_IDENTITY};
    guess_layers(s, prefix, &layers, &activations, &before);
    if (!layers) return;
    if (k) {
        layers = build_int_of(&s->b, k, "n_layers", 1, 1, SPACETIME_MAX_LAYERS);
        activations = build_int_of(&s->b, k, "n_activations", 0, 0, SPACETIME_MAX_LAYERS);
        before = activations > layers || truth(arrange_member(k, "pre_activation"), false);
        skip = truth(arrange_member(k, "skip_connection"), false);
        if ((v = arrange_member(k, "average_pool")) || strcmp(json_text(k, "input_shape", "bld"), "bld") != 0)
            build_refuse(&s->b, "%s: 'average_pool' and 'input_shape' other than bld are not supported", prefix);
    } else if (arguments && argument(s, "skip_mlp")) {
        skip = truth(argument(s, "skip_mlp"), skip);
    }
    if (build_failed(&s->b)) return;
    activation(s, k ? json_text(k, "activation", "identity") : argument_text(s, "activation", "gelu"), m);
    lay_out(s, m, layers, activations, before);
    m->skip = skip;
    snprintf(name, sizeof name, "%s.layernorm.weight", prefix);
    m->norm = build_has(&s->b, name);
    for (int i = 0; i < m->n; i++)
        if (m->linear[i] >= 0) {
            snprintf(name, sizeof name, "%s.layers.%lld.weight", prefix, (long long)m->linear[i]);
            if (m->out) m->inner = m->out;
            m->out = build_extent(&s->b, name, 0);
        }
    if (m->out < 1 || m->out > MOST_CHANNELS) build_refuse(&s->b, "'%s.weight' is missing or not [outputs, inputs]", prefix);
}

void spacetime_output_of(spacetime *s, spacetime_mlp *out) {
    mlp_of(s, "output", resolved(s, "output_config"), false, false, out);
}

/* ---- blocks ---- */

void spacetime_block_of(spacetime *s, int64_t i, spacetime_block *out) {
    char path[96], prefix[96];
    const char *style = argument_text(s, i < 0 ? "decoder_config" : "encoder_config", "default");
    bool plain = strstr(style, "no_skip") != NULL && i == 0; /* encoder/default_no_skip: its first block */
    if (i < 0)
        snprintf(path, sizeof path, "decoder_config.blocks.0");
    else
        snprintf(path, sizeof path, "encoder_config.blocks.%lld", (long long)i);
    const json *block = resolved(s, path), *ssm = arrange_member(block, "ssm_config.kwargs"), *v;
    int64_t order = i == 0 ? 1 : argument_int(s, "norm_order", 1, -1, 2);
    *out = (spacetime_block){.norm_order = order};
    if (ssm && !config_given(s->b.config, "norm_order")) out->norm_order = build_int_of(&s->b, ssm, "norm_order", order, -1, 2);
    out->pre_repeat = 0;
    if ((v = arrange_member(block, "pre_config.kwargs")))
        out->pre_repeat = build_int_of(&s->b, v, "kernel_repeat", 0, 0, MOST_CHANNELS);
    if (i < 0) return;
    out->skip = truth(arrange_member(block, "skip_connection"), !plain);
    out->skip_pre = truth(arrange_member(block, "skip_preprocess"), i > 0);
    out->skip_ssm = truth(arrange_member(ssm, "skip_connection"),
                          i > 0 && argument(s, "skip_ssm") ? truth(argument(s, "skip_ssm"), true) : !plain);
    snprintf(prefix, sizeof prefix, "encoder.blocks.%lld.mlp", (long long)i);
    mlp_of(s, prefix, arrange_member(block, "mlp_config"), true, !plain, &out->mlp);
    if (out->mlp.n && out->mlp.out != s->d)
        build_refuse(&s->b, "%s makes %lld channels of %lld", prefix, (long long)out->mlp.out, (long long)s->d);
}

/* ---- the whole ---- */

/* Numbers of the config that whoever scales the data needs: "17.1,2.5". */
static void pass_on(spacetime *s, const char *key, const char *other) {
    const json *v = argument(s, key), *one;
    char text[1024] = "";
    size_t used = 0;
    if (!v && other) v = argument(s, other);
    if (!v || v->type == JSON_OBJECT) return;
    for (one = v->type == JSON_ARRAY ? v->first : v; one && used < sizeof text; one = v->type == JSON_ARRAY ? one->next : NULL)
        if (one->type == JSON_STRING || one->type == JSON_NUMBER)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? "," : "", one->text);
    if (used && used < sizeof text) arrange_record_text(&s->b, key, text);
}

static void sizes(spacetime *s) {
    builder *b = &s->b;
    spacetime_mlp out;
    const json *v = resolved(s, "embedding_config.kwargs.input_dim");
    int64_t columns = build_extent(b, "embedding.layers.weight", 1);
    s->blocks = build_count_layers(b, "encoder.blocks.*.ssm.a");
    s->d = build_extent(b, "decoder.blocks.ssm.skip", 0);
    if (!s->d) s->d = build_extent(b, "decoder.blocks.ssm.a", 0);
    if (s->d < 1 || s->d > MOST_CHANNELS) build_refuse(b, "'decoder.blocks.ssm.a' is not [kernels, d]");
    spacetime_output_of(s, &out);
    s->outputs = out.n ? out.out : s->d;
    if (v && v->is_integer && !columns) columns = v->integer;
    s->inputs = argument_int(s, "input_dim", columns ? columns : s->d % s->outputs ? 1 : s->outputs, 1, MOST_CHANNELS);
    if (!build_failed(b) && !build_has(b, "embedding.layers.weight") && s->d % s->inputs)
        build_refuse(b, "%lld channels are not a whole number of copies of %lld inputs", (long long)s->d, (long long)s->inputs);
    if (!build_failed(b) && s->outputs > s->inputs)
        build_refuse(b, "the model has %lld outputs of %lld inputs", (long long)s->outputs, (long long)s->inputs);
}

strand_status spacetime_configure(spacetime *s) {
    static const char *const modes[] = {"conv", "recurrence", "matrix", NULL};
    static const char *const transforms[] = {"mean", "last", "standardize", "none", "mean_input", NULL};
    builder *b = &s->b;
    sizes(s);
    s->horizon = argument_int(s, "horizon", 0, 1, MOST_TIME);
    s->lag = argument_int(s, "lag", 0, 1, MOST_TIME);
    const char *mode = argument_text(s, "mode", "conv"), *transform = argument_text(s, "data_transform", "mean");
    s->mode = arrange_choice(b, "mode", mode, modes);
    s->transform = arrange_choice(b, "data_transform", transform, transforms);
    if (s->transform == 4) s->transform = TRANSFORM_MEAN; /* over the whole input, which at inference is the lag */
    s->channels_first = s->mode != SPACETIME_RECURRENCE;
    arrange_record_int(b, "lag", s->lag);
    arrange_record_int(b, "horizon", s->horizon);
    arrange_record_text(b, "mode", s->mode < 0 ? "" : modes[s->mode]);
    arrange_record_text(b, "data_transform", s->transform < 0 ? "" : transforms[s->transform]);
    arrange_record_int(b, "input_dim", s->inputs);
    pass_on(s, "scaler_mean", NULL);
    pass_on(s, "scaler_std", NULL);
    pass_on(s, "columns", "column");
    pass_on(s, "freq", NULL);
    pass_on(s, "season", NULL);
    pass_on(s, "unit", NULL);
    pass_on(s, "validation_rows", NULL);
    pass_on(s, "test_rows", NULL);
    return b->e->status;
}
