/* nn.c - weights, settings and layers for model files (nn.h). A weight that is F32 in the file is used where it lies; F16 and BF16 are
 * cast by the graph, F64 once into the model's arena. */
#include "nn.h"


#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool nn_failed(const nn *b) {
    return b->e->status || b->g->error.status;
}

tensor_id nn_fail(nn *b, strand_status status, const char *format, ...) {
    if (nn_failed(b)) return 0;
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error_set(b->e, status, "%s", text);
    return 0;
}

const char *nn_name(nn *b, const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return graph_name(b->g, "%s", text);
}

/* ---- settings ---- */

static void record(nn *b, const char *key, const char *value) {
    if (!nn_failed(b)) config_record(b->m, key, value, b->e);
}

void nn_integer(nn *b, const char *key, int64_t fallback, int64_t least, int64_t most, int64_t *out) {
    const char *given = config_given(b->config, key);
    const json *stored = b->config->root ? json_get(b->config->root, key) : NULL;
    char text[32];
    *out = fallback;
    if (given) {
        if (!config_parse_integer(given, out)) nn_fail(b, STRAND_ERR_ARGUMENT, "setting %s=%.40s is not an integer", key, given);
    } else if (stored && stored->type == JSON_NUMBER) {
        if (!stored->is_integer) nn_fail(b, STRAND_ERR_FORMAT, "config.json: '%s' is not an integer", key);
        *out = stored->integer;
    }
    if (*out < least || *out > most)
        nn_fail(b, given ? STRAND_ERR_ARGUMENT : STRAND_ERR_FORMAT, "%s is %lld; expected %lld to %lld", key, (long long)*out, (long long)least, (long long)most);
    if (nn_failed(b)) *out = least; /* what follows may divide by it */
    snprintf(text, sizeof text, "%lld", (long long)*out);
    record(b, key, text);
}

void nn_number(nn *b, const char *key, double fallback, double least, double most, double *out) {
    const char *given = config_given(b->config, key);
    char text[32];
    *out = json_number(b->config->root, key, fallback);
    if (given && !config_parse_number(given, out)) nn_fail(b, STRAND_ERR_ARGUMENT, "setting %s=%.40s is not a number", key, given);
    if (!(*out >= least && *out <= most)) nn_fail(b, given ? STRAND_ERR_ARGUMENT : STRAND_ERR_FORMAT, "%s is %.9g; expected %.9g to %.9g", key, *out, least, most);
    snprintf(text, sizeof text, "%.15g", *out);
    double back;
    if (!config_parse_number(text, &back) || back != *out) snprintf(text, sizeof text, "%.17g", *out);
    record(b, key, text);
}

void nn_choice(nn *b, const char *key, int fallback, const char *const *choices, int *out) {
    const char *given = config_given(b->config, key), *text = given ? given : json_text(b->config->root, key, NULL);
    char list[200] = "";
    *out = fallback;
    if (text) *out = -1;
    for (int i = 0; choices[i]; i++) {
        if (text && !strcmp(text, choices[i])) *out = i;
        size_t used = strlen(list);
        if (used + strlen(choices[i]) + 3 < sizeof list) snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", choices[i]);
    }
    if (*out < 0) {
        nn_fail(b, given ? STRAND_ERR_ARGUMENT : STRAND_ERR_UNSUPPORTED, "%s '%.40s' is none of %s", key, text, list);
        *out = fallback;
    }
    record(b, key, choices[*out]);
}

void nn_flag(nn *b, const char *key, bool fallback, bool *out) {
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

const weights_tensor *nn_find(const nn *b, const char *name) {
    char full[512];
    int n = snprintf(full, sizeof full, "%s%s", b->prefix ? b->prefix : "", name);
    return n > 0 && (size_t)n < sizeof full ? weights_find(b->m->weights, full) : NULL;
}

static void use(nn *b, const weights_tensor *w) {
    strand_model *m = b->m;
    for (int64_t i = 0; i < m->n_used; i++)
        if (m->used[i] == w) return;
    int64_t n = 1;
    for (int i = 0; i < w->rank; i++) n *= w->dims[i];
    for (int64_t i = 0; i < m->n_used; i++)
        if (m->used[i]->data == w->data) n = 0; /* tied: counted once */
    m->parameters += n;
    m->used[m->n_used++] = w;
}

static void shape_text(int rank, const int64_t *dims, char *text, size_t size) {
    size_t n = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < rank && n < size; i++) n += (size_t)snprintf(text + n, size - n, "%s%lld", i ? ", " : "", (long long)dims[i]);
    if (n < size) snprintf(text + n, size - n, "]");
}

/* The same extents once axes of 1 are left out. */
static bool same_shape(const weights_tensor *w, int rank, const int64_t *dims) {
    int i = 0, j = 0;
    for (;;) {
        while (i < w->rank && w->dims[i] == 1) i++;
        while (j < rank && dims[j] == 1) j++;
        if (i == w->rank || j == rank) return i == w->rank && j == rank;
        if (w->dims[i++] != dims[j++]) return false;
    }
}

static const weights_tensor *checked(nn *b, const char *name, int rank, const int64_t *dims) {
    char want[96], have[96];
    const weights_tensor *w = nn_failed(b) ? NULL : nn_find(b, name);
    if (nn_failed(b)) return NULL;
    if (!w) return nn_fail(b, STRAND_ERR_FORMAT, "tensor '%s%s' is missing", b->prefix ? b->prefix : "", name), NULL;
    if (!same_shape(w, rank, dims)) {
        shape_text(rank, dims, want, sizeof want);
        shape_text(w->rank, w->dims, have, sizeof have);
        return nn_fail(b, STRAND_ERR_FORMAT, "tensor '%s' is %s; expected %s", w->name, have, want), NULL;
    }
    if (w->dtype != STRAND_F32 && w->dtype != STRAND_F16 && w->dtype != STRAND_BF16 && w->dtype != STRAND_F64)
        return nn_fail(b, STRAND_ERR_FORMAT, "tensor '%s' is %s; expected F32, F16, BF16 or F64", w->name, strand_dtype_name(w->dtype)), NULL;
    use(b, w);
    return w;
}

/* F64 as F32 in the model's arena; NULL after an error. */
static const float *narrowed(nn *b, const weights_tensor *w, int64_t first, int64_t n) {
    float *to = ARENA_ARRAY(&b->m->arena, float, (size_t)n + 1);
    if (!to) return nn_fail(b, STRAND_ERR_MEMORY, "out of memory while loading"), NULL;
    for (int64_t i = 0; i < n; i++) to[i] = (float)((const double *)w->data)[first + i];
    return to;
}

/* The weight that the graph has already over these bytes in this shape, or 0: what is made of a weight beforehand is then made once,
 * however often the model reads it. */
static tensor_id known(const nn *b, strand_dtype dtype, int rank, const op_dim *dims, const void *data) {
    for (tensor_id t = 1; t < b->g->n_tensors; t++) {
        const graph_tensor *w = &b->g->tensors[t];
        if (w->kind != TENSOR_WEIGHT || w->data != data || w->shape.dtype != dtype || w->shape.rank != rank) continue;
        int i = 0;
        while (i < rank && op_dim_equal(w->shape.dims[i], dims[i])) i++;
        if (i == rank) return t;
    }
    return 0;
}

/* `n` elements from `first` on, in this shape. */
static tensor_id part(nn *b, const weights_tensor *w, const char *name, int64_t first, int rank, const int64_t *dims) {
    op_dim extents[STRAND_PLUGIN_RANK];
    int64_t n = 1;
    if (!w) return 0;
    for (int i = 0; i < rank; i++) {
        extents[i] = DIM(dims[i]);
        n *= dims[i];
    }
    const char *label = nn_name(b, "%s", name);
    if (w->dtype == STRAND_F64) {
        const float *data = narrowed(b, w, first, n);
        return data ? graph_weight(b->g, label, STRAND_F32, rank, extents, data) : 0;
    }
    const unsigned char *data = (const unsigned char *)w->data + (size_t)first * strand_dtype_size(w->dtype);
    tensor_id id = w->dtype == STRAND_F32 ? known(b, w->dtype, rank, extents, data) : 0;
    if (id) return id;
    id = graph_weight(b->g, label, w->dtype, rank, extents, data);
    if (w->dtype == STRAND_F32) return id;
    op_shape f32 = {.dtype = STRAND_F32};
    return graph_op(b->g, label, STRAND_OP_CAST, NULL, &id, 1, &f32);
}

tensor_id nn_weight(nn *b, const char *name, int rank, const int64_t *dims) {
    return part(b, checked(b, name, rank, dims), name, 0, rank, dims);
}

tensor_id nn_vector(nn *b, const char *name, int64_t n) {
    return nn_weight(b, name, 1, &n);
}

tensor_id nn_matrix(nn *b, const char *name, int64_t rows, int64_t columns) {
    return nn_weight(b, name, 2, (int64_t[]){rows, columns});
}

tensor_id nn_rows(nn *b, const char *name, int64_t all, int64_t first, int64_t rows, int64_t columns) {
    int64_t whole[2] = {all, columns}, dims[2] = {rows, columns};
    int rank = columns ? 2 : 1;
    return part(b, checked(b, name, rank, whole), name, first * (columns ? columns : 1), rank, dims);
}

const float *nn_floats(nn *b, const char *name, int64_t elements) {
    const weights_tensor *w = nn_find(b, name);
    int64_t n = 1;
    for (int i = 0; w && i < w->rank; i++) n *= w->dims[i];
    if (!w || n != elements) return nn_fail(b, STRAND_ERR_FORMAT, "tensor '%s' is missing, or has not %lld elements", name, (long long)elements), NULL;
    if (w->dtype != STRAND_F32 && w->dtype != STRAND_F64) return nn_fail(b, STRAND_ERR_FORMAT, "tensor '%s' is %s; expected F32 or F64", name, strand_dtype_name(w->dtype)), NULL;
    if (nn_failed(b)) return NULL;
    use(b, w);
    return w->dtype == STRAND_F64 ? narrowed(b, w, 0, n) : w->data;
}

tensor_id nn_constant(nn *b, const char *name, int rank, const int64_t *dims, const float *data) {
    op_dim extents[STRAND_PLUGIN_RANK];
    if (!data) return nn_fail(b, STRAND_ERR_MEMORY, "out of memory while loading");
    for (int i = 0; i < rank; i++) extents[i] = DIM(dims[i]);
    return nn_failed(b) ? 0 : graph_weight(b->g, name, STRAND_F32, rank, extents, data);
}

/* ---- operators ---- */

tensor_id nn_matmul(nn *b, const char *name, tensor_id x, tensor_id w, bool transpose_w, tensor_id bias, uint32_t activation) {
    strand_op_matmul p = {.transpose_b = transpose_w, .bias = bias ? STRAND_BIAS_COLUMNS : STRAND_BIAS_NONE, .activation = activation};
    return nn_failed(b) ? 0 : graph_op(b->g, name, STRAND_OP_MATMUL, &p, (tensor_id[]){x, w, bias}, bias ? 3 : 2, NULL);
}

tensor_id nn_linear(nn *b, const char *name, tensor_id x, int64_t in, int64_t out, uint32_t activation) {
    char key[256];
    snprintf(key, sizeof key, "%s.bias", name);
    tensor_id bias = nn_find(b, key) ? nn_vector(b, key, out) : 0;
    snprintf(key, sizeof key, "%s.weight", name);
    return nn_matmul(b, nn_name(b, "%s", name), x, nn_matrix(b, key, out, in), true, bias, activation);
}

tensor_id nn_unary(nn *b, const char *name, uint32_t kind, float alpha, float beta, tensor_id x) {
    strand_op_unary p = {kind, alpha, beta};
    return nn_failed(b) ? 0 : graph_op(b->g, name, STRAND_OP_UNARY, &p, &x, 1, NULL);
}

tensor_id nn_binary(nn *b, const char *name, uint32_t kind, tensor_id x, tensor_id y) {
    strand_op_binary p = {.kind = kind};
    return nn_failed(b) ? 0 : graph_op(b->g, name, STRAND_OP_BINARY, &p, (tensor_id[]){x, y}, 2, NULL);
}

tensor_id nn_reshape(nn *b, const char *name, tensor_id x, int rank, const op_dim *dims) {
    if (nn_failed(b)) return 0;
    op_shape hint = {.dtype = b->g->tensors[x].shape.dtype, .rank = rank};
    memcpy(hint.dims, dims, (size_t)rank * sizeof *dims);
    return graph_op(b->g, name, STRAND_OP_RESHAPE, NULL, &x, 1, &hint);
}

tensor_id nn_permute(nn *b, const char *name, tensor_id x, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3) {
    strand_op_permute p = {{a0, a1, a2, a3}};
    return nn_failed(b) ? 0 : graph_op(b->g, name, STRAND_OP_PERMUTE, &p, &x, 1, NULL);
}

tensor_id nn_slice(nn *b, const char *name, tensor_id x, int axis, int64_t begin, int64_t count) {
    strand_op_slice p = {.axis = axis, .begin = begin, .count = count, .step = 1};
    return nn_failed(b) ? 0 : graph_op(b->g, name, STRAND_OP_SLICE, &p, &x, 1, NULL);
}

/* Ten at a time, the joined ones first of the next. */
tensor_id nn_concat(nn *b, const char *name, int axis, const tensor_id *x, int64_t n) {
    strand_op_concat p = {.axis = axis};
    tensor_id joined = n > 0 ? x[0] : 0;
    for (int64_t at = 1; at < n && !nn_failed(b);) {
        tensor_id some[STRAND_PLUGIN_MAX_INPUTS] = {joined};
        uint32_t count = 1;
        while (at < n && count < STRAND_PLUGIN_MAX_INPUTS) some[count++] = x[at++];
        joined = graph_op(b->g, name, STRAND_OP_CONCAT, &p, some, count, NULL);
    }
    return joined;
}

tensor_id nn_reduce(nn *b, const char *name, uint32_t kind, int axis, bool keep, tensor_id x, tensor_id lengths) {
    strand_op_reduce_axis p = {.kind = kind, .axis = axis, .keep = keep};
    return nn_failed(b) ? 0 : graph_op(b->g, name, STRAND_OP_REDUCE_AXIS, &p, (tensor_id[]){x, lengths}, lengths ? 2 : 1, NULL);
}

tensor_id nn_layer_norm(nn *b, const char *name, tensor_id x, int64_t width, float eps) {
    char key[256];
    strand_op_layer_norm p = {eps};
    snprintf(key, sizeof key, "%s.bias", name);
    tensor_id bias = nn_find(b, key) ? nn_vector(b, key, width) : 0;
    snprintf(key, sizeof key, "%s.weight", name);
    tensor_id weight = nn_vector(b, key, width);
    return nn_failed(b) ? 0 : graph_op(b->g, nn_name(b, "%s", name), STRAND_OP_LAYER_NORM, &p, (tensor_id[]){x, weight, bias}, bias ? 3 : 2, NULL);
}

static tensor_id one_way(nn *b, const char *name, const char *suffix, bool reverse, tensor_id x, int64_t in, int64_t hidden, nn_gru_input ih, void *user) {
    strand_op_gru p = {.reverse = reverse};
    const char *end = reverse ? "_reverse" : "";
    tensor_id w = ih ? ih(user, reverse) : nn_matrix(b, nn_name(b, "%s.weight_ih_%s%s", name, suffix, end), 3 * hidden, in);
    tensor_id bias = nn_vector(b, nn_name(b, "%s.bias_ih_%s%s", name, suffix, end), 3 * hidden);
    tensor_id gates = nn_matmul(b, nn_name(b, "%s.gates_%s%s", name, suffix, end), x, w, true, bias, STRAND_UNARY_IDENTITY);
    w = nn_matrix(b, nn_name(b, "%s.weight_hh_%s%s", name, suffix, end), 3 * hidden, hidden);
    bias = nn_vector(b, nn_name(b, "%s.bias_hh_%s%s", name, suffix, end), 3 * hidden);
    if (nn_failed(b)) return 0;
    return graph_op(b->g, nn_name(b, "%s.%s%s", name, suffix, end), STRAND_OP_GRU, &p, (tensor_id[]){gates, w, bias}, 3, NULL);
}

tensor_id nn_gru(nn *b, const char *name, const char *suffix, tensor_id x, int64_t in, int64_t hidden, nn_gru_input ih, void *user) {
    tensor_id ways[2] = {one_way(b, name, suffix, false, x, in, hidden, ih, user), 0};
    if (!nn_find(b, nn_name(b, "%s.weight_ih_%s_reverse", name, suffix))) return ways[0];
    ways[1] = one_way(b, name, suffix, true, x, in, hidden, ih, user);
    return nn_concat(b, nn_name(b, "%s.both_%s", name, suffix), -1, ways, 2);
}
