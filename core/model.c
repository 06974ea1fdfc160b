/* model.c - questions about a loaded model. Loading itself is in models/. */
#include "model.h"

#include <string.h>

void strand_model_params_init(strand_model_params *params) {
    if (params) *params = (strand_model_params){.size = sizeof *params};
}

void strand_model_close(strand_model *m) {
    if (!m) return;
    strand_allocator allocator = m->context->allocator;
    tokenizer_close(&m->tokenizer);
    weights_close(m->weights);
    arena_release(&m->arena);
    allocator.free(allocator.user, m, sizeof *m);
}

strand_status strand_model_get(const strand_model *m, strand_model_info *info) {
    if (!m || !info) return STRAND_ERR_ARGUMENT;
    *info = (strand_model_info){
        m->name,       m->family, weights_path(m->weights),         weights_format(m->weights), m->precision, m->parameters,
        m->max_length, m->window, weights_mapped_bytes(m->weights), graph_stateful(&m->graph)};
    return STRAND_OK;
}

const char *strand_model_sha256(const strand_model *m) {
    return m ? weights_sha256(m->weights) : "";
}

strand_status strand_model_hold(strand_model *m) {
    error e = {0};
    if (!m) return STRAND_ERR_ARGUMENT;
    return weights_hold(m->weights, &e) ? context_fail(m->context, &e) : STRAND_OK;
}

static void describe(const graph_tensor *t, const char *name, strand_tensor *out) {
    *out = (strand_tensor){.name = name, .dtype = t->shape.dtype, .rank = t->shape.rank};
    for (int i = 0; i < t->shape.rank; i++) {
        op_dim d = t->shape.dims[i];
        out->dims[i] = d.kind == OP_DIM_FIXED ? d.size : d.kind == OP_DIM_BATCH ? STRAND_DIM_BATCH : STRAND_DIM_LENGTH;
    }
}

strand_status strand_model_input(const strand_model *m, int32_t index, strand_tensor *out) {
    if (!m || !out || index < 0) return STRAND_ERR_ARGUMENT;
    for (tensor_id t = 1; t < m->graph.n_tensors; t++) {
        if (m->graph.tensors[t].kind != TENSOR_INPUT || index-- > 0) continue;
        describe(&m->graph.tensors[t], m->graph.tensors[t].name, out);
        return STRAND_OK;
    }
    return STRAND_ERR_ARGUMENT;
}

strand_status strand_model_output(const strand_model *m, int32_t index, strand_tensor *out) {
    if (!m || !out || index < 0 || (uint32_t)index >= m->graph.n_outputs) return STRAND_ERR_ARGUMENT;
    const graph_output *o = &m->graph.outputs[index];
    describe(&m->graph.tensors[o->tensor], o->name, out);
    return STRAND_OK;
}

int32_t strand_model_default_outputs(const strand_model *m) {
    int32_t n = 0;
    while (m && (uint32_t)n < m->graph.n_outputs && !m->graph.outputs[n].on_request) n++;
    return n;
}

strand_status strand_model_setting(const strand_model *m, int32_t index, const char **key, const char **value) {
    if (!m || !key || !value || index < 0 || index >= m->n_settings) return STRAND_ERR_ARGUMENT;
    *key = m->settings[index].key;
    *value = m->settings[index].value;
    return STRAND_OK;
}

/* The library never writes to weights; the public struct has one data pointer for tensors of both directions. */
static void describe_weight(const weights_tensor *w, strand_tensor *out) {
    union {
        const void *read;
        void *any;
    } data = {w->data};
    *out = (strand_tensor){.name = w->name, .dtype = w->dtype, .rank = w->rank, .data = data.any, .bytes = w->bytes};
    memcpy(out->dims, w->dims, sizeof out->dims);
}

strand_status strand_model_weight(const strand_model *m, int64_t index, strand_tensor *out) {
    if (!m || !out || index < 0 || index >= m->n_used) return STRAND_ERR_ARGUMENT;
    describe_weight(m->used[index], out);
    return STRAND_OK;
}

strand_status strand_encode(const strand_model *m, const char *text, size_t bytes, uint32_t flags, int64_t *ids,
                            size_t capacity, size_t *count) {
    if (!m || (bytes && !text) || (capacity && !ids) || !count) return STRAND_ERR_ARGUMENT;
    error e = {0};
    size_t n = 0;
    if (!m->tokenizer.n_ids)
        error_set(&e, STRAND_ERR_UNSUPPORTED, "%s",
                  m->no_tokenizer ? m->no_tokenizer : "the model has no tokenizer; give one with the setting tokenizer=FILE");
    else if (!tokenizer_encode(&m->tokenizer, &m->context->allocator, bytes ? text : "", bytes, flags, ids, capacity, &n, &e))
        return *count = n, STRAND_OK;
    return context_fail(m->context, &e);
}

strand_status strand_tokenize(const strand_model *m, const char *text, size_t bytes, int64_t *ids, size_t capacity,
                              size_t *count) {
    return strand_encode(m, text, bytes, 0, ids, capacity, count);
}

const char *strand_token_text(const strand_model *m, int64_t id) {
    return m ? tokenizer_text(&m->tokenizer, id, NULL) : "";
}

const char *strand_token_bytes(const strand_model *m, int64_t id, size_t *length) {
    if (length) *length = 0;
    return m ? tokenizer_text(&m->tokenizer, id, length) : "";
}

const char *strand_token_name(const strand_model *m, int64_t id) {
    return m ? tokenizer_name(&m->tokenizer, id) : NULL;
}

uint32_t strand_token_flags(const strand_model *m, int64_t id) {
    return m ? tokenizer_flags(&m->tokenizer, id) : 0;
}

int64_t strand_token_count(const strand_model *m) {
    return m ? m->tokenizer.n_ids : 0;
}

const char *strand_tokenizer_fact(const strand_model *m, const char *key) {
    return m && key ? tokenizer_fact(&m->tokenizer, key) : NULL;
}

size_t strand_decode(const strand_model *m, strand_decoder *d, int64_t id, char *text, size_t capacity) {
    return m && d && text ? tokenizer_decode(&m->tokenizer, d, id, text, capacity) : 0;
}

int64_t strand_special_token(const strand_model *m, const char *name) {
    return m && name ? tokenizer_special_id(&m->tokenizer, name) : -1;
}

/* ---- tensor files: a weights file without a model ---- */

struct strand_file {
    strand_context *context;
    weights *weights;
};

strand_status strand_file_open(strand_context *c, const char *path, strand_file **out) {
    if (!c || !path || !out) return STRAND_ERR_ARGUMENT;
    error e = {0};
    strand_file *f = c->allocator.alloc(c->allocator.user, sizeof *f, _Alignof(strand_file));
    if (!f) {
        error_set(&e, STRAND_ERR_MEMORY, "out of memory while opening '%s'", path);
        return context_fail(c, &e);
    }
    f->context = c;
    if (weights_open(&c->allocator, path, NULL, &f->weights, &e)) {
        c->allocator.free(c->allocator.user, f, sizeof *f);
        return context_fail(c, &e);
    }
    *out = f;
    return STRAND_OK;
}

void strand_file_close(strand_file *f) {
    if (!f) return;
    strand_allocator allocator = f->context->allocator;
    weights_close(f->weights);
    allocator.free(allocator.user, f, sizeof *f);
}

int64_t strand_file_count(const strand_file *f) {
    return f ? weights_count(f->weights) : 0;
}

strand_status strand_file_get(const strand_file *f, int64_t index, strand_tensor *out) {
    if (!f || !out || index < 0 || index >= weights_count(f->weights)) return STRAND_ERR_ARGUMENT;
    describe_weight(weights_at(f->weights, index), out);
    return STRAND_OK;
}

const char *strand_file_format(const strand_file *f) {
    return f ? weights_format(f->weights) : "";
}
