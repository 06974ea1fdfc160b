/* flatten.c - from the pickled object of a PyTorch checkpoint to named tensors.
 *
 * A training checkpoint is a dict of many things; the weights are one branch of it, and everything else is left alone, so that
 * what an optimizer or a configuration library put there cannot matter. Inside the branch every value must be understood: what
 * is a tensor becomes one, plain data is passed over, and what only its own code could rebuild is an error.
 * The object may share and even contain itself: depth, visits and the bytes of names and copies are bounded by the file's
 * size. */
#include "pytorch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../checked.h"
#include "../utf8.h"

#define MAX_DEPTH  32
#define COPY_FLOOR ((uint64_t)1 << 20)

/* The names of the branch, best first. */
static const char *const branches[] = {"state_dict", "model_state_dict", "model_state", "model", "state_dict_ema"};

/* Where there is no such branch the dict itself is taken, without these. */
static const char *const ignored[] = {"hyper_parameters",
                                      "hparams",
                                      "hparams_name",
                                      "hparams_type",
                                      "datamodule_hyper_parameters",
                                      "datamodule_hparams_name",
                                      "optimizer",
                                      "optimizers",
                                      "optimizer_state",
                                      "optimizer_states",
                                      "optimizer_state_dict",
                                      "lr_scheduler",
                                      "lr_schedulers",
                                      "scheduler",
                                      "scheduler_state",
                                      "scheduler_state_dict",
                                      "callbacks",
                                      "loops",
                                      "scaler",
                                      "amp",
                                      "amp_scaling_state",
                                      "native_amp_scaling_state",
                                      "rng_state",
                                      "args",
                                      "config",
                                      "cfg",
                                      "train_args"};

typedef struct walk {
    weights *w;
    error *error;
    char name[WEIGHTS_MAX_NAME + 1];
    size_t length;
    uint64_t visits, name_bytes, copied; /* what is left of each */
} walk;

static strand_status bad(const walk *k, const char *why) {
    return error_set(k->error, STRAND_ERR_FORMAT, "%s: tensor %.200s: %s", k->w->path, k->name, why);
}

/* ---- one tensor ------------------------------------------------------------------------------------------------------ */

/* Whole numbers from 0 up out of a tuple. */
static bool read_extents(const pickle_value *tuple, int32_t rank, int64_t *out) {
    const pickle_cell *cell = tuple->as.list.first;
    for (int32_t i = 0; i < rank; i++, cell = cell->next) {
        if (cell->value->kind != PICKLE_INT || cell->value->as.integer < 0) return false;
        out[i] = cell->value->as.integer;
    }
    return true;
}

/* Where a tensor lies in its storage, in elements. */
typedef struct layout {
    uint64_t offset, elements;
    int64_t strides[STRAND_MAX_RANK];
    bool contiguous;
} layout;

/* Checks that every element of the tensor is inside its storage, and whether they follow one another. */
static strand_status place(const walk *k, const pickle_storage *s, const weights_tensor *t, layout *l) {
    uint64_t last = l->offset, expected = 1;
    l->contiguous = true;
    if (l->elements == 0) return STRAND_OK; /* it may begin anywhere: it has nothing there */
    for (int32_t i = t->rank - 1; i >= 0; i--) {
        uint64_t reach;
        if (t->dims[i] == 1) continue; /* its stride is never used */
        if (!checked_mul((uint64_t)t->dims[i] - 1, (uint64_t)l->strides[i], &reach) || !checked_add(last, reach, &last)) {
            return bad(k, "its strides overflow");
        }
        if ((uint64_t)l->strides[i] != expected) l->contiguous = false;
        expected *= (uint64_t)t->dims[i];
    }
    return last < s->view_numel ? STRAND_OK : bad(k, "its shape and strides reach outside of its storage");
}

/* Copies the elements of a strided tensor one after the other, last axis fastest. */
static void gather(const weights_tensor *t, const layout *l, size_t element, const uint8_t *from, uint8_t *to) {
    int64_t index[STRAND_MAX_RANK] = {0};
    int32_t last = t->rank - 1; /* a strided tensor has an axis */
    uint64_t rows = l->elements / (uint64_t)t->dims[last];
    for (uint64_t row = 0; row < rows; row++) {
        uint64_t at = 0;
        for (int32_t i = 0; i < last; i++) at += (uint64_t)(index[i] * l->strides[i]);
        if (l->strides[last] == 1) {
            memcpy(to, from + at * element, (size_t)t->dims[last] * element);
            to += (uint64_t)t->dims[last] * element;
        } else {
            for (int64_t j = 0; j < t->dims[last]; j++, to += element)
                memcpy(to, from + (at + (uint64_t)(j * l->strides[last])) * element, element);
        }
        for (int32_t i = last - 1; i >= 0 && ++index[i] == t->dims[i]; i--) index[i] = 0;
    }
}

/* Sets t->data: into the file where that is possible, else to a copy. */
static strand_status fetch(walk *k, const pickle_storage *s, weights_tensor *t, const layout *l) {
    pickle_bytes *bytes = s->bytes->shared;
    arena *a = &k->w->arena;
    if (l->elements == 0) {
        t->data = arena_alloc(a, 1, s->element);
        return t->data ? STRAND_OK : weights_no_memory(k->w->path, k->error);
    }
    if (!bytes->aligned) bytes->aligned = weights_aligned(k->w, bytes->data, bytes->size, s->element);
    if (!bytes->aligned) return weights_no_memory(k->w->path, k->error);
    const uint8_t *from = bytes->aligned + (s->view_offset + l->offset) * s->element;
    if (l->contiguous) return t->data = from, STRAND_OK;
    if (t->bytes > k->copied) {
        return error_set(k->error, STRAND_ERR_LIMIT,
                         "%s: tensor %.200s: expanded from few elements to %" PRIu64
                         " bytes, more than four times the file; save it with .contiguous()",
                         k->w->path, k->name, t->bytes);
    }
    k->copied -= t->bytes;
    uint8_t *copy = arena_alloc(a, (size_t)t->bytes, s->element);
    if (!copy) return weights_no_memory(k->w->path, k->error);
    gather(t, l, s->element, from, copy);
    t->data = copy;
    return STRAND_OK;
}

static strand_status add_tensor(walk *k, const pickle_tensor *from) {
    const pickle_storage *s = from->storage;
    weights_tensor t = {.dtype = s->dtype};
    layout l;
    if (s->dtype == STRAND_NONE) {
        return error_set(k->error, STRAND_ERR_UNSUPPORTED,
                         "%s: tensor %.200s: a torch.%s; convert it to a real floating-point or integer type", k->w->path,
                         k->name, s->type);
    }
    if (from->size->kind != PICKLE_TUPLE || from->stride->kind != PICKLE_TUPLE ||
        from->size->as.list.count != from->stride->as.list.count || from->offset->kind != PICKLE_INT ||
        from->offset->as.integer < 0) {
        return bad(k, "its offset, shape or strides are not what torch.save writes");
    }
    if (from->size->as.list.count > STRAND_MAX_RANK) {
        return error_set(k->error, STRAND_ERR_UNSUPPORTED, "%s: tensor %.200s: %" PRIu64 " axes; at most %d are supported",
                         k->w->path, k->name, from->size->as.list.count, STRAND_MAX_RANK);
    }
    t.rank = (int32_t)from->size->as.list.count;
    l.offset = (uint64_t)from->offset->as.integer;
    if (!read_extents(from->size, t.rank, t.dims) || !read_extents(from->stride, t.rank, l.strides)) {
        return bad(k, "an extent or stride is not a whole number from 0 up");
    }
    if (!shape_bytes(t.dims, t.rank, s->element, &l.elements, &t.bytes)) return bad(k, "its shape's product overflows");
    strand_status status = place(k, s, &t, &l);
    if (!status) status = fetch(k, s, &t, &l);
    if (status) return status;
    if (k->length + 1 > k->name_bytes)
        return error_set(k->error, STRAND_ERR_LIMIT, "%s: more bytes of names than a file of its size can hold", k->w->path);
    k->name_bytes -= k->length + 1;
    t.name = arena_string(&k->w->arena, k->name, k->length);
    return t.name ? weights_add(k->w, &t, k->error) : weights_no_memory(k->w->path, k->error);
}

/* ---- names ----------------------------------------------------------------------------------------------------------- */

/* Appends ".key" to the name; false when it cannot be one. */
static bool extend_name(walk *k, const pickle_value *key) {
    char digits[24];
    const char *text = key->as.string.bytes;
    size_t length = (size_t)key->as.string.length;
    if (key->kind == PICKLE_INT) {
        length = (size_t)snprintf(digits, sizeof digits, "%" PRId64, key->as.integer);
        text = digits;
    } else if (key->kind != PICKLE_STRING || key->as.string.length > WEIGHTS_MAX_NAME || !utf8_is_text(text, length)) {
        return false;
    }
    size_t dot = k->length > 0;
    if (length + dot > WEIGHTS_MAX_NAME - k->length) return false;
    if (dot) k->name[k->length] = '.';
    memcpy(k->name + k->length + dot, text, length);
    k->length += dot + length;
    k->name[k->length] = 0;
    return true;
}

static strand_status foreign(const walk *k, const pickle_value *value) {
    const pickle_name *name = value->as.global.name;
    return error_set(
        k->error, STRAND_ERR_UNSUPPORTED,
        "%s: %.200s is an object of %.*s.%.*s, which only its own code could rebuild; save model.state_dict() instead",
        k->w->path, k->length ? k->name : "the checkpoint", (int)(name->module_length < 80 ? name->module_length : 80),
        name->module, (int)(name->name_length < 80 ? name->name_length : 80), name->name);
}

static bool is_one_of(const pickle_value *key, const char *const names[], size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (pickle_is_text(key, names[i])) return true;
    }
    return false;
}

/* ---- the tree -------------------------------------------------------------------------------------------------------- */

static strand_status visit(walk *k, const pickle_value *value, int depth);

static strand_status visit_dict(walk *k, const pickle_value *dict, int depth) {
    size_t length = k->length;
    for (const pickle_cell *cell = dict->as.list.first; cell; cell = cell->next) {
        pickle_kind kind = cell->value->kind;
        if (k->visits-- == 0)
            return error_set(k->error, STRAND_ERR_LIMIT, "%s: its dicts repeat one another beyond any use", k->w->path);
        if (depth == 0 && is_one_of(cell->key, ignored, sizeof ignored / sizeof ignored[0])) continue;
        if (kind != PICKLE_TENSOR && kind != PICKLE_DICT && kind != PICKLE_OPAQUE && kind != PICKLE_GLOBAL) continue;
        if (!extend_name(k, cell->key)) {
            return error_set(k->error, STRAND_ERR_FORMAT,
                             "%s: in %.200s: a key that is neither a number nor text of at most 1024 bytes in all", k->w->path,
                             k->length ? k->name : "the checkpoint");
        }
        strand_status status = visit(k, cell->value, depth + 1);
        if (status) return status;
        k->length = length;
        k->name[length] = 0;
    }
    return STRAND_OK;
}

static strand_status visit(walk *k, const pickle_value *value, int depth) {
    if (value->kind == PICKLE_TENSOR) return add_tensor(k, value->as.tensor);
    if (value->kind == PICKLE_DICT)
        return depth < MAX_DEPTH ? visit_dict(k, value, depth) : bad(k, "nested deeper than 32 dicts");
    return pickle_is_plain(value) ? STRAND_OK : foreign(k, value);
}

/* The branch of the top dict that holds the weights; NULL where it has none. A whole model in the place of its state_dict is
 * taken when there is nothing better: it is worth an error that names it. */
static const pickle_cell *find_branch(const pickle_value *top) {
    const pickle_cell *object = NULL;
    for (size_t i = 0; i < sizeof branches / sizeof branches[0]; i++) {
        for (const pickle_cell *cell = top->as.list.first; cell; cell = cell->next) {
            if (!pickle_is_text(cell->key, branches[i])) continue;
            if (cell->value->kind == PICKLE_DICT) return cell;
            if (!object && cell->value->kind == PICKLE_OPAQUE) object = cell;
        }
    }
    return object;
}

static const char *kind_name(pickle_kind kind) {
    return kind == PICKLE_TENSOR  ? "a single tensor"
           : kind == PICKLE_LIST  ? "a list"
           : kind == PICKLE_TUPLE ? "a tuple"
                                  : "a plain value";
}

strand_status pytorch_flatten(weights *w, const pickle_value *object, uint64_t budget, error *e) {
    walk k = {.w = w, .error = e, .visits = budget, .name_bytes = 65536, .copied = COPY_FLOOR};
    uint64_t more;
    if (checked_mul(budget, 16, &more)) checked_add(k.name_bytes, more, &k.name_bytes);
    if (checked_mul(w->size, 4, &more)) checked_add(k.copied, more, &k.copied);
    if (object->kind == PICKLE_OPAQUE || object->kind == PICKLE_GLOBAL) return foreign(&k, object);
    if (object->kind != PICKLE_DICT) {
        return error_set(e, STRAND_ERR_UNSUPPORTED, "%s: holds %s and not a dict of named tensors; save model.state_dict()",
                         w->path, kind_name(object->kind));
    }
    const pickle_cell *branch = find_branch(object);
    if (branch && branch->value->kind == PICKLE_OPAQUE) {
        extend_name(&k, branch->key);
        return foreign(&k, branch->value);
    }
    strand_status status = branch ? visit_dict(&k, branch->value, 1) : visit_dict(&k, object, 0);
    if (status || w->count > 0) return status;
    return error_set(
        e, STRAND_ERR_FORMAT,
        "%s: no tensors in it; looked in state_dict, model_state_dict, model_state, model, state_dict_ema and at the top",
        w->path);
}
