/* nn.c - settings, shapes and the GRU for models of signals (nn.h). */
#include "nn.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

tensor_id nn_fail(builder *b, strand_status status, const char *format, ...) {
    if (build_failed(b)) return 0;
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error_set(b->e, status, "%s", text);
    return 0;
}

/* ---- settings ---- */

static void record(builder *b, const char *key, const char *value) {
    if (!build_failed(b)) config_record(b->m, key, value, b->e);
}

void nn_integer(builder *b, const char *key, int64_t fallback, int64_t least, int64_t most, int64_t *out) {
    const char *given = config_given(b->config, key);
    const json *stored = b->config->root ? json_get(b->config->root, key) : NULL;
    char text[32];
    *out = fallback;
    if (given) {
        if (!config_parse_integer(given, out))
            nn_fail(b, STRAND_ERR_ARGUMENT, "setting %s=%.40s is not an integer", key, given);
    } else if (stored && stored->type == JSON_NUMBER) {
        if (!stored->is_integer) nn_fail(b, STRAND_ERR_FORMAT, "config.json: '%s' is not an integer", key);
        *out = stored->integer;
    }
    if (*out < least || *out > most)
        nn_fail(b, given ? STRAND_ERR_ARGUMENT : STRAND_ERR_FORMAT, "%s is %lld; expected %lld to %lld", key, (long long)*out,
                (long long)least, (long long)most);
    if (build_failed(b)) *out = least; /* what follows may divide by it */
    snprintf(text, sizeof text, "%lld", (long long)*out);
    record(b, key, text);
}

void nn_number(builder *b, const char *key, double fallback, double least, double most, double *out) {
    const char *given = config_given(b->config, key);
    char text[32];
    *out = json_number(b->config->root, key, fallback);
    if (given && !config_parse_number(given, out))
        nn_fail(b, STRAND_ERR_ARGUMENT, "setting %s=%.40s is not a number", key, given);
    if (!(*out >= least && *out <= most))
        nn_fail(b, given ? STRAND_ERR_ARGUMENT : STRAND_ERR_FORMAT, "%s is %.9g; expected %.9g to %.9g", key, *out, least,
                most);
    snprintf(text, sizeof text, "%.15g", *out);
    double back;
    if (!config_parse_number(text, &back) || back != *out) snprintf(text, sizeof text, "%.17g", *out);
    record(b, key, text);
}

void nn_choice(builder *b, const char *key, int fallback, const char *const *choices, int *out) {
    const char *given = config_given(b->config, key), *text = given ? given : json_text(b->config->root, key, NULL);
    char list[200] = "";
    *out = fallback;
    if (text) *out = -1;
    for (int i = 0; choices[i]; i++) {
        if (text && !strcmp(text, choices[i])) *out = i;
        size_t used = strlen(list);
        if (used + strlen(choices[i]) + 3 < sizeof list)
            snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", choices[i]);
    }
    if (*out < 0) {
        nn_fail(b, given ? STRAND_ERR_ARGUMENT : STRAND_ERR_UNSUPPORTED, "%s '%.40s' is none of %s", key, text, list);
        *out = fallback;
    }
    record(b, key, choices[*out]);
}

void nn_flag(builder *b, const char *key, bool fallback, bool *out) {
    static const char *const words[] = {"false", "true", "no", "yes", "0", "1", NULL};
    const char *given = config_given(b->config, key);
    *out = json_bool(b->config->root, key, fallback);
    if (given) {
        int i = 0;
        while (words[i] && strcmp(words[i], given)) i++;
        if (!words[i]) nn_fail(b, STRAND_ERR_ARGUMENT, "setting %s=%.40s is neither true nor false", key, given);
        *out = i & 1;
    }
    record(b, key, *out ? "true" : "false");
}

/* ---- weights ---- */

const float *nn_floats(builder *b, const char *name, int64_t elements) {
    const weights_tensor *w = build_find(b, name);
    int64_t n = 1;
    for (int i = 0; w && i < w->rank; i++) n *= w->dims[i];
    if (!w || n != elements)
        return nn_fail(b, STRAND_ERR_FORMAT, "tensor '%s' is missing, or has not %lld elements", name, (long long)elements),
               NULL;
    if (w->dtype != STRAND_F32)
        return nn_fail(b, STRAND_ERR_FORMAT, "tensor '%s' is %s; expected F32", w->name, strand_dtype_name(w->dtype)), NULL;
    if (build_failed(b)) return NULL;
    build_use(b, w);
    return w->data;
}

tensor_id nn_constant(builder *b, const char *name, int rank, const int64_t *dims, const float *data) {
    op_dim extents[STRAND_PLUGIN_RANK];
    if (!data) return nn_fail(b, STRAND_ERR_MEMORY, "out of memory while loading");
    for (int i = 0; i < rank; i++) extents[i] = DIM(dims[i]);
    return build_failed(b) ? 0 : graph_weight(b->g, name, STRAND_F32, rank, extents, data);
}

/* ---- operators ---- */

tensor_id nn_permute(builder *b, const char *name, tensor_id x, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3) {
    strand_op_permute p = {{a0, a1, a2, a3}};
    return build_failed(b) ? 0 : graph_op(b->g, name, STRAND_OP_PERMUTE, &p, &x, 1, NULL);
}

tensor_id nn_slice(builder *b, const char *name, tensor_id x, int axis, int64_t begin, int64_t count) {
    strand_op_slice p = {.axis = axis, .begin = begin, .count = count, .step = 1};
    return build_failed(b) ? 0 : graph_op(b->g, name, STRAND_OP_SLICE, &p, &x, 1, NULL);
}

/* Ten at a time, the joined ones first of the next. */
tensor_id nn_concat(builder *b, const char *name, int axis, const tensor_id *x, int64_t n) {
    strand_op_concat p = {.axis = axis};
    tensor_id joined = n > 0 ? x[0] : 0;
    for (int64_t at = 1; at < n && !build_failed(b);) {
        tensor_id some[STRAND_PLUGIN_MAX_INPUTS] = {joined};
        uint32_t count = 1;
        while (at < n && count < STRAND_PLUGIN_MAX_INPUTS) some[count++] = x[at++];
        joined = graph_op(b->g, name, STRAND_OP_CONCAT, &p, some, count, NULL);
    }
    return joined;
}

tensor_id nn_reduce(builder *b, const char *name, uint32_t kind, int axis, bool keep, tensor_id x, tensor_id lengths) {
    strand_op_reduce_axis p = {.kind = kind, .axis = axis, .keep = keep};
    return build_failed(b) ? 0
                           : graph_op(b->g, name, STRAND_OP_REDUCE_AXIS, &p, (tensor_id[]){x, lengths}, lengths ? 2 : 1, NULL);
}

static tensor_id one_way(builder *b, const char *name, const char *suffix, bool reverse, tensor_id x, int64_t in,
                         int64_t hidden, nn_gru_input ih, void *user) {
    strand_op_gru p = {.reverse = reverse};
    const char *end = reverse ? "_reverse" : "";
    tensor_id w =
        ih ? ih(user, reverse) : build_matrix(b, graph_name(b->g, "%s.weight_ih_%s%s", name, suffix, end), 3 * hidden, in);
    tensor_id bias = build_vector(b, graph_name(b->g, "%s.bias_ih_%s%s", name, suffix, end), 3 * hidden);
    tensor_id gates = build_product(b, graph_name(b->g, "%s.gates_%s%s", name, suffix, end), x, w, bias, STRAND_UNARY_IDENTITY);
    w = build_matrix(b, graph_name(b->g, "%s.weight_hh_%s%s", name, suffix, end), 3 * hidden, hidden);
    bias = build_vector(b, graph_name(b->g, "%s.bias_hh_%s%s", name, suffix, end), 3 * hidden);
    if (build_failed(b)) return 0;
    return graph_op(b->g, graph_name(b->g, "%s.%s%s", name, suffix, end), STRAND_OP_GRU, &p, (tensor_id[]){gates, w, bias}, 3,
                    NULL);
}

tensor_id nn_gru(builder *b, const char *name, const char *suffix, tensor_id x, int64_t in, int64_t hidden, nn_gru_input ih,
                 void *user) {
    tensor_id ways[2] = {one_way(b, name, suffix, false, x, in, hidden, ih, user), 0};
    if (!build_find(b, graph_name(b->g, "%s.weight_ih_%s_reverse", name, suffix))) return ways[0];
    ways[1] = one_way(b, name, suffix, true, x, in, hidden, ih, user);
    return nn_concat(b, graph_name(b->g, "%s.both_%s", name, suffix), -1, ways, 2);
}
