/* build.c - see build.h. Shapes are checked here, once: a tensor that is missing, of another shape or of a type that no
 * operator takes is one line that names it, what it is and what was expected. */
#include "build.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dtype.h"

#define NAME_BYTES   256
#define MOST_TENSORS 65536 /* more than any language model has; names of more are not looked through */

bool build_failed(const builder *b) {
    return b->e->status || b->g->error.status;
}

strand_status build_refuse(builder *b, const char *format, ...) {
    if (b->e->status) return b->e->status;
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return error_set(b->e, STRAND_ERR_FORMAT, "%s", text);
}

/* ---- names ---- */

/* Does `name` begin with the pattern? *digits gets the number that '*' stood for (or ""), *rest what follows. */
static bool begins(const char *name, const char *pattern, char digits[24], const char **rest) {
    digits[0] = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '*') {
            if (*name++ != *pattern) return false;
            continue;
        }
        size_t n = strspn(name, "0123456789");
        if (n == 0 || n >= 24) return false;
        memcpy(digits, name, n);
        digits[n] = 0;
        name += n;
    }
    *rest = name;
    return pattern[-1] == '.' || pattern[-1] == '_' || *name == 0 || *name == '.';
}

/* Writes `pattern` with `digits` for '*', then `rest`. False when that is too long. */
static bool spell(char *out, size_t room, const char *pattern, const char *digits, const char *rest) {
    size_t n = 0;
    for (; *pattern && n < room; pattern++) {
        if (*pattern != '*') {
            out[n++] = *pattern;
            continue;
        }
        for (const char *d = digits; *d && n < room; d++) out[n++] = *d;
    }
    for (; *rest && n < room; rest++) out[n++] = *rest;
    if (n >= room) return false;
    out[n] = 0;
    return true;
}

/* A name that would be too long stays as it is: no family asks for it. */
static void canonical(const char *name, const build_rename *renames, char *out) {
    char digits[24], next[NAME_BYTES];
    const char *rest;
    out[0] = 0;
    if (!spell(out, NAME_BYTES, "", "", name)) return;
    for (const build_rename *r = renames; r && r->from; r++)
        if (begins(out, r->from, digits, &rest) && spell(next, NAME_BYTES, r->to, digits, rest))
            memcpy(out, next, strlen(next) + 1);
}

static uint64_t hash_of(const char *name) {
    uint64_t h = 1469598103934665603u; /* FNV-1a */
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211u;
    return h ^ h >> 29;
}

static build_slot *slot_of(const builder *b, const char *name) {
    uint64_t at = hash_of(name) & (b->n_slots - 1);
    while (b->slots[at].name && strcmp(b->slots[at].name, name) != 0) at = (at + 1) & (b->n_slots - 1);
    return &b->slots[at];
}

strand_status build_start(builder *b, strand_model *m, const model_config *config, error *e, const build_rename *renames) {
    *b = (builder){.m = m, .g = &m->graph, .config = config, .e = e};
    int64_t n = weights_count(m->weights);
    b->n_slots = 16;
    while (b->n_slots < 2 * (uint64_t)n) b->n_slots *= 2;
    b->slots = ARENA_ARRAY(&m->arena, build_slot, (size_t)b->n_slots);
    for (int64_t i = 0; b->slots && i < n; i++) {
        char name[NAME_BYTES];
        canonical(weights_at(m->weights, i)->name, renames, name);
        build_slot *s = slot_of(b, name);
        if (s->name) continue; /* the first one counts */
        *s = (build_slot){arena_string(&m->arena, name, strlen(name)), weights_at(m->weights, i)};
        if (!s->name) b->slots = NULL;
    }
    return b->slots ? STRAND_OK : error_set(e, STRAND_ERR_MEMORY, "out of memory while loading");
}

bool build_recognises(const weights *w, const build_rename *renames, const char *name) {
    char want[NAME_BYTES], have[NAME_BYTES];
    if (!spell(want, sizeof want, name, "0", "") || weights_count(w) > MOST_TENSORS) return false;
    for (int64_t i = 0; i < weights_count(w); i++) {
        canonical(weights_at(w, i)->name, renames, have);
        if (!strcmp(have, want)) return true;
    }
    return false;
}

bool build_is(const char *name, const build_rename *renames, const char *want) {
    char have[NAME_BYTES];
    canonical(name, renames, have);
    return !strcmp(have, want);
}

/* `name` and `more` with the layer's number. */
static void full_name(const builder *b, const char *name, const char *more, char *out) {
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", (long long)b->layer);
    if (!spell(out, NAME_BYTES, name, digits, more)) out[0] = 0;
}

const char *build_name(builder *b, const char *name) {
    char full[NAME_BYTES];
    full_name(b, name, "", full);
    return graph_name(b->g, "%s", full);
}

/* ---- tensors of the file ---- */

static const weights_tensor *find(const builder *b, const char *name, const char *more) {
    char full[NAME_BYTES];
    full_name(b, name, more, full);
    return slot_of(b, full)->tensor;
}

const weights_tensor *build_find(const builder *b, const char *name) {
    return find(b, name, "");
}

bool build_has(const builder *b, const char *name) {
    return find(b, name, "") != NULL;
}

int64_t build_extent(const builder *b, const char *name, int axis) {
    const weights_tensor *w = find(b, name, "");
    return w && axis < w->rank ? w->dims[axis] : 0;
}

int64_t build_count_layers(builder *b, const char *name) {
    int64_t keep = b->layer, n = 0;
    for (b->layer = 0; build_has(b, name); b->layer++) n++;
    b->layer = keep;
    return n;
}

static bool usable(strand_dtype t) {
    return t == STRAND_F32 || t == STRAND_F16 || t == STRAND_BF16 || dtype_quantised(t);
}

/* The same extents, those of 1 left out. */
static bool same_shape(const weights_tensor *w, int rank, const int64_t *dims) {
    int i = 0, j = 0;
    for (;;) {
        while (i < w->rank && w->dims[i] == 1) i++;
        while (j < rank && dims[j] == 1) j++;
        if (i == w->rank || j == rank) return i == w->rank && j == rank;
        if (w->dims[i++] != dims[j++]) return false;
    }
}

static int64_t count(int rank, const int64_t *dims) {
    int64_t n = 1;
    for (int i = 0; i < rank; i++)
        if (dims[i] < 0 || __builtin_mul_overflow(n, dims[i], &n)) return -1;
    return n;
}

static void write_shape(char *out, size_t room, int rank, const int64_t *dims) {
    size_t used = 0;
    out[0] = 0;
    for (int i = 0; i < rank && used < room; i++)
        used += (size_t)snprintf(out + used, room - used, i ? ", %lld" : "%lld", (long long)dims[i]);
}

/* The tensor, if it is there and fits. */
static const weights_tensor *checked(builder *b, const char *name, const char *more, int rank, const int64_t *dims, bool flat) {
    char full[NAME_BYTES], want[96], have[96];
    if (build_failed(b)) return NULL;
    const weights_tensor *w = find(b, name, more);
    if (!w) {
        full_name(b, name, more, full);
        build_refuse(b, "the tensor that is known here as '%s' is missing", full);
        return NULL;
    }
    bool fits = flat ? count(w->rank, w->dims) == count(rank, dims) : same_shape(w, rank, dims);
    if (count(rank, dims) < 1 || !fits) {
        write_shape(want, sizeof want, rank, dims);
        write_shape(have, sizeof have, w->rank, w->dims);
        build_refuse(b, "tensor '%.120s' is [%s]; expected [%s]", w->name, have, want);
        return NULL;
    }
    if (!usable(w->dtype)) {
        build_refuse(b, "tensor '%.120s' has type %s, which no operator takes", w->name, strand_dtype_name(w->dtype));
        return NULL;
    }
    if (dtype_quantised(w->dtype) && (rank < 2 || w->dims[w->rank - 1] != dims[rank - 1])) {
        build_refuse(b, "tensor '%.120s' is quantised along another axis than its rows'", w->name);
        return NULL;
    }
    return w;
}

/* Counts the tensor among those that the model was built from; tied ones once. */
void build_use(builder *b, const weights_tensor *w) {
    strand_model *m = b->m;
    int64_t n = count(w->rank, w->dims);
    for (int64_t i = m->n_used; i-- > 0;) {
        if (m->used[i] == w) return;
        if (m->used[i]->data == w->data) n = 0;
    }
    m->parameters += n;
    m->used[m->n_used++] = w;
}

/* The weight that the graph has already over these bytes in this shape, or 0: what a backend prepares of a weight is then
 * made once, however often the model reads it. */
static tensor_id known(const graph *g, strand_dtype dtype, int rank, const op_dim *dims, const void *data) {
    for (tensor_id t = 1; t < g->n_tensors; t++) {
        const graph_tensor *w = &g->tensors[t];
        if (w->kind != TENSOR_WEIGHT || w->data != data || w->shape.dtype != dtype || w->shape.rank != rank) continue;
        int i = 0;
        while (i < rank && op_dim_equal(w->shape.dims[i], dims[i])) i++;
        if (i == rank) return t;
    }
    return 0;
}

static tensor_id leaf(builder *b, const weights_tensor *w, const char *name, const char *more, int64_t skip, int rank,
                      const int64_t *dims) {
    char full[NAME_BYTES];
    op_dim d[STRAND_MAX_RANK];
    uint64_t offset = 0;
    full_name(b, name, more, full);
    build_use(b, w);
    dtype_bytes(w->dtype, (uint64_t)skip, &offset);
    for (int i = 0; i < rank; i++) d[i] = DIM(dims[i]);
    const unsigned char *data = (const unsigned char *)w->data + offset;
    tensor_id id = known(b->g, w->dtype, rank, d, data);
    return id ? id : graph_weight(b->g, graph_name(b->g, "%s", full), w->dtype, rank, d, data);
}

static tensor_id to_f32(builder *b, tensor_id x) {
    if (!x || b->g->tensors[x].shape.dtype == STRAND_F32) return x;
    op_shape f32 = {.dtype = STRAND_F32};
    return graph_op(b->g, b->g->tensors[x].name, STRAND_OP_CAST, NULL, &x, 1, &f32);
}

tensor_id build_halved(graph *g, tensor_id w) {
    op_shape f16 = {.dtype = STRAND_F16};
    if (!w || !g->tensors[w].constant || g->tensors[w].shape.dtype != STRAND_F32) return w;
    return graph_op(g, g->tensors[w].name, STRAND_OP_CAST, NULL, &w, 1, &f16);
}

tensor_id build_factor(builder *b, tensor_id w) {
    return b->halves && !build_failed(b) ? build_halved(b->g, w) : w;
}

static tensor_id rows_of(builder *b, const char *name, const char *more, int64_t all, int64_t first, int64_t rows,
                         int64_t columns) {
    const weights_tensor *w = checked(b, name, more, 2, (int64_t[]){all, columns}, false);
    return w ? leaf(b, w, name, more, first * columns, 2, (int64_t[]){rows, columns}) : 0;
}

/* NAME.bias, or 0 where no layer has one: what one layer has all need. */
static tensor_id part_of(builder *b, const char *name, const char *more, int64_t all, int64_t first, int64_t n);
static tensor_id bias_of(builder *b, const char *name, int64_t all, int64_t first, int64_t n) {
    int64_t layer = b->layer;
    bool expected = find(b, name, ".bias") != NULL;
    for (b->layer = 0; b->layer < 3 && strchr(name, '*'); b->layer++) expected = expected || find(b, name, ".bias");
    b->layer = layer;
    return expected ? part_of(b, name, ".bias", all, first, n) : 0;
}

static tensor_id part_of(builder *b, const char *name, const char *more, int64_t all, int64_t first, int64_t n) {
    const weights_tensor *w = checked(b, name, more, 1, &all, false);
    return w ? to_f32(b, leaf(b, w, name, more, first, 1, &n)) : 0;
}

tensor_id build_rows(builder *b, const char *name, int64_t all, int64_t first, int64_t rows, int64_t columns) {
    return rows_of(b, name, "", all, first, rows, columns);
}

tensor_id build_rows_flat(builder *b, const char *name, int64_t all, int64_t first, int64_t rows, int64_t columns) {
    const weights_tensor *w = checked(b, name, "", 2, (int64_t[]){all, columns}, true);
    return w ? leaf(b, w, name, "", first * columns, 2, (int64_t[]){rows, columns}) : 0;
}

tensor_id build_matrix(builder *b, const char *name, int64_t rows, int64_t columns) {
    return rows_of(b, name, "", rows, 0, rows, columns);
}

tensor_id build_f32(builder *b, const char *name, int rank, const int64_t *dims, bool flat) {
    const weights_tensor *w = checked(b, name, "", rank, dims, flat);
    return w ? to_f32(b, leaf(b, w, name, "", 0, rank, dims)) : 0;
}

tensor_id build_f32_rows(builder *b, const char *name, int64_t all, int64_t first, int64_t rows, int64_t columns) {
    return to_f32(b, rows_of(b, name, "", all, first, rows, columns));
}

tensor_id build_dense_rows(builder *b, const char *name, int64_t all, int64_t first, int64_t rows, int64_t columns) {
    tensor_id w = rows_of(b, name, "", all, first, rows, columns);
    return w && dtype_quantised(b->g->tensors[w].shape.dtype) ? to_f32(b, w) : w;
}

tensor_id build_vector(builder *b, const char *name, int64_t n) {
    return part_of(b, name, "", n, 0, n);
}

tensor_id build_flat(builder *b, const char *name, int64_t n) {
    return build_f32(b, name, 1, &n, true);
}

tensor_id build_flat_part(builder *b, const char *name, int64_t all, int64_t first, int64_t n) {
    const weights_tensor *w = checked(b, name, "", 1, &all, true);
    return w ? to_f32(b, leaf(b, w, name, "", first, 1, &n)) : 0;
}

tensor_id build_channels(builder *b, const char *name, int64_t n) {
    return build_f32(b, name, 3, (int64_t[]){1, 1, n}, true);
}

tensor_id build_part(builder *b, const char *name, int64_t all, int64_t first, int64_t n) {
    return part_of(b, name, "", all, first, n);
}

tensor_id build_vector_if(builder *b, const char *name, int64_t n) {
    return build_has(b, name) ? build_vector(b, name, n) : 0;
}

/* A copy in the model's arena, or NULL. */
static float *keep(builder *b, const float *data, int64_t n) {
    float *copy = build_failed(b) || n < 1 ? NULL : ARENA_ARRAY(b->g->arena, float, (size_t)n);
    if (copy)
        memcpy(copy, data, (size_t)n * sizeof *copy);
    else if (!build_failed(b))
        error_set(b->e, STRAND_ERR_MEMORY, "out of memory while loading");
    return copy;
}

tensor_id build_constant(builder *b, const char *name, int rank, const int64_t *dims, const float *data) {
    op_dim d[STRAND_MAX_RANK];
    const float *copy = keep(b, data, count(rank, dims));
    if (!copy) return 0;
    for (int i = 0; i < rank; i++) d[i] = DIM(dims[i]);
    return graph_weight(b->g, build_name(b, name), STRAND_F32, rank, d, copy);
}

/* ---- operators ---- */

static tensor_id product(builder *b, const char *name, bool transposed, tensor_id x, tensor_id w, tensor_id bias,
                         uint32_t activation) {
    if (build_failed(b)) return 0;
    strand_op_matmul p = {.transpose_b = transposed,
                          .bias = bias ? STRAND_BIAS_COLUMNS : STRAND_BIAS_NONE,
                          .activation = activation,
                          .precision = b->precision};
    if (!b->g->tensors[x].constant) w = build_factor(b, w); /* what is made once of weights alone stays F32 */
    return graph_op(b->g, build_name(b, name), STRAND_OP_MATMUL, &p, (tensor_id[]){x, w, bias}, bias ? 3 : 2, NULL);
}

tensor_id build_product(builder *b, const char *name, tensor_id x, tensor_id w, tensor_id bias, uint32_t activation) {
    return product(b, name, true, x, w, bias, activation);
}

tensor_id build_product_plain(builder *b, const char *name, tensor_id x, tensor_id w, tensor_id bias, uint32_t activation) {
    return product(b, name, false, x, w, bias, activation);
}

tensor_id build_linear_rows(builder *b, const char *name, tensor_id x, int64_t all, int64_t first, int64_t rows,
                            int64_t columns, uint32_t activation) {
    tensor_id w = rows_of(b, name, ".weight", all, first, rows, columns);
    tensor_id bias = bias_of(b, name, all, first, rows);
    return build_product(b, name, x, w, bias, activation);
}

tensor_id build_linear(builder *b, const char *name, tensor_id x, int64_t rows, int64_t columns, uint32_t activation) {
    return build_linear_rows(b, name, x, rows, 0, rows, columns, activation);
}

static tensor_id norm(builder *b, const char *name, uint32_t kind, tensor_id x, int64_t d, double eps) {
    strand_op_norm p = {.kind = kind, .groups = 1, .eps = (float)eps};
    tensor_id weight = part_of(b, name, ".weight", d, 0, d);
    bool biased = kind == STRAND_NORM_LAYER || find(b, name, ".bias");
    return build_norm(b, name, &p, x, weight, biased ? part_of(b, name, ".bias", d, 0, d) : 0);
}

tensor_id build_rms_norm(builder *b, const char *name, tensor_id x, int64_t d, double eps) {
    return norm(b, name, STRAND_NORM_RMS, x, d, eps);
}

tensor_id build_layer_norm(builder *b, const char *name, tensor_id x, int64_t d, double eps) {
    return norm(b, name, STRAND_NORM_LAYER, x, d, eps);
}

/* ---- states ---- */

tensor_id build_state(builder *b, const char *name, int rank, const int64_t *dims) {
    op_dim d[STRAND_PLUGIN_RANK] = {DIM_B};
    if (build_failed(b)) return 0;
    for (int i = 0; i < rank && i + 1 < STRAND_PLUGIN_RANK; i++) d[i + 1] = DIM(dims[i]);
    return graph_state(b->g, build_name(b, name), STRAND_F32, rank + 1, d);
}

void build_state_next(builder *b, tensor_id state, tensor_id next) {
    if (!build_failed(b)) graph_state_next(b->g, state, next);
}

/* Each state, as it is after the run, under its name. */
static void offer_states(builder *b) {
    for (tensor_id t = 1; t < b->g->n_tensors && !build_failed(b); t++)
        if (b->g->tensors[t].kind == TENSOR_STATE && b->g->tensors[t].next)
            graph_output_on_request(b->g, b->g->tensors[t].name, b->g->tensors[t].next);
}

tensor_id build_short_conv_rows(builder *b, const char *name, const char *label, tensor_id x, int64_t all, int64_t first,
                                int64_t n, int64_t taps, uint32_t activation) {
    char state_name[NAME_BYTES];
    strand_op_short_conv p = {STRAND_SHORT_CONV_TOKEN_MAJOR, activation};
    tensor_id w = to_f32(b, rows_of(b, name, ".weight", all, first, n, taps)), next;
    tensor_id bias = bias_of(b, name, all, first, n);
    full_name(b, label, ".state", state_name);
    tensor_id state = taps > 1 ? build_state(b, state_name, 2, (int64_t[]){taps - 1, n}) : 0;
    if (build_failed(b)) return 0;
    tensor_id y =
        graph_op2(b->g, build_name(b, label), STRAND_OP_SHORT_CONV, &p, (tensor_id[]){x, w, bias, state}, 4, NULL, &next);
    if (taps > 1) build_state_next(b, state, next);
    return y;
}

tensor_id build_short_conv(builder *b, const char *name, tensor_id x, int64_t channels, int64_t taps, uint32_t activation) {
    return build_short_conv_rows(b, name, name, x, channels, 0, channels, taps, activation);
}

/* ---- the ends ---- */

tensor_id build_embedding(builder *b, const char *name, int64_t vocabulary, int64_t d) {
    tensor_id table = rows_of(b, name, ".weight", vocabulary, 0, vocabulary, d);
    if (build_failed(b)) return 0;
    tensor_id ids = graph_input(b->g, "input_ids", STRAND_I64, 2, (op_dim[]){DIM_B, DIM_L});
    return graph_op(b->g, build_name(b, name), STRAND_OP_GATHER, NULL, (tensor_id[]){table, ids}, 2, NULL);
}

void build_head(builder *b, const char *head, const char *tied, tensor_id hidden, int64_t vocabulary, int64_t d,
                double softcap) {
    const char *name = find(b, head, ".weight") ? head : tied;
    tensor_id w = rows_of(b, name, ".weight", vocabulary, 0, vocabulary, d);
    tensor_id bias = find(b, head, ".bias") ? part_of(b, head, ".bias", vocabulary, 0, vocabulary) : 0;
    const strand_op_reduce last = {.kind = STRAND_REDUCE_LAST};
    tensor_id logits = build_product(b, head, hidden, w, bias, STRAND_UNARY_IDENTITY);
    tensor_id last_hidden = build_failed(b) ? 0 : graph_op(b->g, "last_hidden", STRAND_OP_REDUCE, &last, &hidden, 1, NULL);
    tensor_id next = build_product(b, "last_logits", last_hidden, w, bias, STRAND_UNARY_IDENTITY);
    if (softcap > 0) {
        logits = build_unary(b, "logits", STRAND_UNARY_SOFTCAP, logits, (float)softcap, 0);
        next = build_unary(b, "last_logits", STRAND_UNARY_SOFTCAP, next, (float)softcap, 0);
    }
    if (build_failed(b)) return;
    graph_output_add(b->g, "hidden", hidden);
    graph_output_add(b->g, "logits", logits);
    graph_output_on_request(b->g, "last_hidden", last_hidden);
    graph_output_on_request(b->g, "last_logits", next);
    offer_states(b);
}
