/* arrange.c - see arrange.h. Thin: one operator a function, so that the shapes are checked by the operators' own rows. */
#include "arrange.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtype.h"

static tensor_id one(builder *b, const char *name, uint32_t op, const void *params, tensor_id x, const op_shape *hint) {
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, name), op, params, &x, 1, hint);
}

tensor_id arrange_reshape(builder *b, const char *name, tensor_id x, int rank, const op_dim *dims) {
    op_shape shape = {.dtype = STRAND_F32, .rank = rank};
    memcpy(shape.dims, dims, (size_t)rank * sizeof *dims);
    return one(b, name, STRAND_OP_RESHAPE, NULL, x, &shape);
}

tensor_id arrange_permute(builder *b, const char *name, tensor_id x, const uint32_t axes[4]) {
    strand_op_permute p;
    memcpy(p.axes, axes, sizeof p.axes);
    return one(b, name, STRAND_OP_PERMUTE, &p, x, NULL);
}

tensor_id arrange_turn(builder *b, const char *name, tensor_id x) {
    return arrange_permute(b, name, x, (uint32_t[]){0, 2, 1, 3});
}

tensor_id arrange_concat(builder *b, const char *name, int axis, const tensor_id *x, uint32_t n) {
    strand_op_concat p = {.axis = axis};
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, name), STRAND_OP_CONCAT, &p, x, n, NULL);
}

tensor_id arrange_repeat(builder *b, const char *name, tensor_id x, int axis, int64_t times, bool interleave) {
    strand_op_repeat p = {.axis = axis, .interleave = interleave, .times = times};
    return times == 1 ? x : one(b, name, STRAND_OP_REPEAT, &p, x, NULL);
}

tensor_id arrange_pad(builder *b, const char *name, tensor_id x, int axis, int64_t before, int64_t after) {
    strand_op_pad p = {.axis = axis, .before = before, .after = after};
    return before || after ? one(b, name, STRAND_OP_PAD, &p, x, NULL) : x;
}

tensor_id arrange_slice(builder *b, const char *name, tensor_id x, int axis, int64_t begin, int64_t count) {
    strand_op_slice p = {.axis = axis, .begin = begin, .count = count, .step = 1};
    return one(b, name, STRAND_OP_SLICE, &p, x, NULL);
}

tensor_id arrange_flip(builder *b, const char *name, tensor_id x, int axis) {
    strand_op_slice p = {.axis = axis, .begin = -1, .step = -1};
    return one(b, name, STRAND_OP_SLICE, &p, x, NULL);
}

tensor_id arrange_reduce(builder *b, const char *name, uint32_t kind, tensor_id x, int axis, bool keep) {
    strand_op_reduce_axis p = {.kind = kind, .axis = axis, .keep = keep};
    return one(b, name, STRAND_OP_REDUCE_AXIS, &p, x, NULL);
}

static double half_value(uint16_t h) {
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double v = exponent == 31 ? (fraction ? NAN : INFINITY)
               : exponent     ? ldexp(1024 + fraction, exponent - 25)
                              : ldexp(fraction, -24);
    return h >> 15 ? -v : v;
}

double arrange_value(const weights_tensor *w, int64_t i) {
    if (w->dtype == STRAND_F32) return ((const float *)w->data)[i];
    if (w->dtype == STRAND_F16) return half_value(((const uint16_t *)w->data)[i]);
    if (w->dtype != STRAND_BF16) return NAN;
    uint32_t bits = (uint32_t)((const uint16_t *)w->data)[i] << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* ---- config.json ---- */

const json *arrange_member(const json *object, const char *path) {
    while (object && *path) {
        char part[64];
        size_t n = strcspn(path, ".");
        if (n >= sizeof part) return NULL;
        memcpy(part, path, n);
        part[n] = 0;
        path += n + (path[n] == '.');
        if (object->type == JSON_ARRAY) {
            int64_t index;
            const json *child = object->first;
            if (!config_parse_integer(part, &index) || index < 0) return NULL;
            while (child && index-- > 0) child = child->next;
            object = child;
        } else {
            object = object->type == JSON_OBJECT ? json_get(object, part) : NULL;
        }
    }
    return object && object->type != JSON_NULL ? object : NULL;
}

int arrange_choice(builder *b, const char *key, const char *text, const char *const *names) {
    char list[200] = "";
    for (int i = 0; names[i]; i++) {
        if (!strcmp(names[i], text)) return i;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", names[i]);
    }
    if (!b->e->status) error_set(b->e, STRAND_ERR_ARGUMENT, "'%s' is '%.60s'; there is %s", key, text, list);
    return -1;
}

const char *arrange_text(builder *b, const char *key, const char *fallback) {
    const char *given = config_given(b->config, key);
    const json *v = given ? NULL : arrange_member(b->config->root, key);
    return given ? given : v && v->type == JSON_STRING ? v->text : fallback;
}

int64_t arrange_int(builder *b, const char *key, int64_t fallback, int64_t low, int64_t high) {
    const char *given = config_given(b->config, key);
    const json *v = given ? NULL : arrange_member(b->config->root, key);
    int64_t n = v && v->is_integer ? v->integer : fallback;
    if (b->e->status) return low;
    if ((given && !config_parse_integer(given, &n)) || (v && !v->is_integer))
        build_refuse(b, "'%s' is not a whole number", key);
    else if (n < low || n > high) {
        if (given || v)
            build_refuse(b, "'%s' is %lld; expected %lld to %lld", key, (long long)n, (long long)low, (long long)high);
        else
            build_refuse(b, "'%s' is not known: it stands in config.json beside the weights, or comes with --set %s=NUMBER",
                         key, key);
    }
    return b->e->status ? low : n;
}

void arrange_record_text(builder *b, const char *key, const char *value) {
    if (!b->e->status) config_record(b->m, key, value, b->e);
}

void arrange_record_int(builder *b, const char *key, int64_t value) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    arrange_record_text(b, key, text);
}
