/* pickle_globals.c - the names that mean something when a pickle calls them, and what they make.
 *
 * Everything on the list can only make tensors, tuples and dicts out of values that were read already. A name that is not on it
 * is never looked up anywhere: calling it makes an opaque value that carries the name. */
#include "pickle.h"

#include <string.h>

typedef enum meaning {
    MEANS_DICT,      /* (), or ([(key, value), ...],) */
    MEANS_TENSOR,    /* (storage, offset, size, stride, ...) */
    MEANS_PARAMETER, /* (tensor, ...): the tensor */
    MEANS_SIZE,      /* ((extent, ...),): the tuple */
    MEANS_STORAGE,   /* a storage type, named in persistent ids; not called */
    MEANS_PLAIN      /* data of no interest: a device, a dtype */
} meaning;

typedef struct pickle_global {
    const char *module, *name;
    meaning meaning;
    strand_dtype dtype; /* MEANS_STORAGE */
    size_t element;
} known_global;

/* STRAND_NONE: the size must be known to step over such a storage in a legacy file, even if no tensor of it can be had. */
static const known_global globals[] = {
    {"collections", "OrderedDict", MEANS_DICT, STRAND_NONE, 0},
    {"torch._utils", "_rebuild_tensor_v2", MEANS_TENSOR, STRAND_NONE, 0},
    {"torch._utils", "_rebuild_tensor", MEANS_TENSOR, STRAND_NONE, 0},
    {"torch._utils", "_rebuild_parameter", MEANS_PARAMETER, STRAND_NONE, 0},
    {"torch._utils", "_rebuild_parameter_with_state", MEANS_PARAMETER, STRAND_NONE, 0},
    {"torch", "Size", MEANS_SIZE, STRAND_NONE, 0},
    {"torch", "FloatStorage", MEANS_STORAGE, STRAND_F32, 4},
    {"torch", "HalfStorage", MEANS_STORAGE, STRAND_F16, 2},
    {"torch", "BFloat16Storage", MEANS_STORAGE, STRAND_BF16, 2},
    {"torch", "DoubleStorage", MEANS_STORAGE, STRAND_F64, 8},
    {"torch", "LongStorage", MEANS_STORAGE, STRAND_I64, 8},
    {"torch", "IntStorage", MEANS_STORAGE, STRAND_I32, 4},
    {"torch", "ShortStorage", MEANS_STORAGE, STRAND_I16, 2},
    {"torch", "CharStorage", MEANS_STORAGE, STRAND_I8, 1},
    {"torch", "ByteStorage", MEANS_STORAGE, STRAND_U8, 1},
    {"torch", "BoolStorage", MEANS_STORAGE, STRAND_BOOL, 1},
    {"torch", "ComplexFloatStorage", MEANS_STORAGE, STRAND_NONE, 8},
    {"torch", "ComplexDoubleStorage", MEANS_STORAGE, STRAND_NONE, 16},
    {"torch", "QInt8Storage", MEANS_STORAGE, STRAND_NONE, 1},
    {"torch", "QUInt8Storage", MEANS_STORAGE, STRAND_NONE, 1},
    {"torch", "QInt32Storage", MEANS_STORAGE, STRAND_NONE, 4},
    {"torch", "device", MEANS_PLAIN, STRAND_NONE, 0},
    {"torch", "float32", MEANS_PLAIN, STRAND_NONE, 0},
    {"torch", "float16", MEANS_PLAIN, STRAND_NONE, 0},
    {"torch", "bfloat16", MEANS_PLAIN, STRAND_NONE, 0},
    {"torch", "float64", MEANS_PLAIN, STRAND_NONE, 0},
    {"torch", "int64", MEANS_PLAIN, STRAND_NONE, 0},
    {"torch", "int32", MEANS_PLAIN, STRAND_NONE, 0},
    {"torch", "int16", MEANS_PLAIN, STRAND_NONE, 0},
    {"torch", "int8", MEANS_PLAIN, STRAND_NONE, 0},
    {"torch", "uint8", MEANS_PLAIN, STRAND_NONE, 0},
    {"torch", "bool", MEANS_PLAIN, STRAND_NONE, 0},
    {"builtins", "set", MEANS_PLAIN, STRAND_NONE, 0},
    {"builtins", "frozenset", MEANS_PLAIN, STRAND_NONE, 0},
    {"builtins", "complex", MEANS_PLAIN, STRAND_NONE, 0},
    {"builtins", "bytearray", MEANS_PLAIN, STRAND_NONE, 0},
    {"__builtin__", "set", MEANS_PLAIN, STRAND_NONE, 0}, /* their names in Python 2, which protocol 2 uses */
    {"__builtin__", "frozenset", MEANS_PLAIN, STRAND_NONE, 0},
    {"__builtin__", "complex", MEANS_PLAIN, STRAND_NONE, 0},
    {"__builtin__", "bytearray", MEANS_PLAIN, STRAND_NONE, 0},
    {"_codecs", "encode", MEANS_PLAIN, STRAND_NONE, 0}, /* bytes, in protocol 2 */
};

static bool spells(const char *text, const char *bytes, uint32_t length) {
    return strlen(text) == length && memcmp(text, bytes, length) == 0;
}

const struct pickle_global *pickle_known(const pickle_name *name) {
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++) {
        if (spells(globals[i].module, name->module, name->module_length) &&
            spells(globals[i].name, name->name, name->name_length)) {
            return &globals[i];
        }
    }
    return NULL;
}

bool pickle_is_plain(const pickle_value *value) {
    return value->kind == PICKLE_PLAIN ||
           (value->kind == PICKLE_GLOBAL && value->as.global.known && value->as.global.known->meaning == MEANS_PLAIN);
}

static pickle_value *opaque(pickle *p, const pickle_value *function, const pickle_value *args) {
    const pickle_value *owner = function, *first = args->as.list.count ? args->as.list.first->value : NULL;
    const pickle_name *name = function->as.global.name;
    /* copyreg._reconstructor(class, ...) and its kind: the class is the better name. */
    bool copies = spells("copyreg", name->module, name->module_length) || spells("copy_reg", name->module, name->module_length);
    if (copies && first && first->kind == PICKLE_GLOBAL) owner = first;
    pickle_value *value = pickle_new(p, PICKLE_OPAQUE);
    if (value) value->as.global = owner->as.global;
    return value;
}

/* A dict from an optional list of pairs; NULL without memory, `args` back when they are something else. */
static pickle_value *new_dict(pickle *p, pickle_value *args) {
    const pickle_value *pairs = pickle_item(args, 0);
    pickle_value *dict = pickle_new(p, PICKLE_DICT);
    if (!dict || !pairs) return dict;
    if (pairs->kind != PICKLE_LIST) return args;
    for (const pickle_cell *cell = pairs->as.list.first; cell; cell = cell->next) {
        const pickle_value *pair = cell->value;
        if ((pair->kind != PICKLE_LIST && pair->kind != PICKLE_TUPLE) || pair->as.list.count != 2) return args;
        if (!pickle_append(p, dict, pair->as.list.first->value, pair->as.list.last->value)) return NULL;
    }
    return dict;
}

static pickle_value *new_tensor(pickle *p, pickle_value *args) {
    pickle_value *storage = pickle_item(args, 0);
    const pickle_value *offset = pickle_item(args, 1), *size = pickle_item(args, 2), *stride = pickle_item(args, 3);
    if (stride && storage->kind == PICKLE_OPAQUE) return storage; /* whose type is the better name */
    if (!stride || storage->kind != PICKLE_STORAGE) return args;
    pickle_tensor *tensor = ARENA_NEW(p->arena, pickle_tensor);
    pickle_value *value = tensor ? pickle_new(p, PICKLE_TENSOR) : NULL;
    if (!value) return NULL;
    *tensor = (pickle_tensor){storage->as.storage, offset, size, stride};
    value->as.tensor = tensor;
    return value;
}

pickle_value *pickle_call(pickle *p, const pickle_value *function, pickle_value *args) {
    const known_global *known = function->as.global.known;
    pickle_value *made = args; /* what is not understood comes back as the arguments and becomes opaque */
    pickle_value *first = args->as.list.count ? args->as.list.first->value : NULL;
    switch (known ? known->meaning : MEANS_STORAGE) {
    case MEANS_DICT:
        made = new_dict(p, args);
        break;
    case MEANS_TENSOR:
        made = new_tensor(p, args);
        break;
    case MEANS_PARAMETER:
        if (first && first->kind == PICKLE_TENSOR) made = first;
        break;
    case MEANS_SIZE:
        if (first && first->kind == PICKLE_TUPLE) made = first;
        break;
    case MEANS_PLAIN:
        made = &p->plain;
        break;
    case MEANS_STORAGE:
        break;
    }
    return made == args ? opaque(p, function, args) : made;
}

/* (view key, offset, numel) of a legacy storage that shows a part of another. */
static bool read_view(const pickle_value *view, pickle_storage *s) {
    const pickle_value *offset = pickle_item(view, 1), *numel = pickle_item(view, 2);
    if (!numel || offset->kind != PICKLE_INT || numel->kind != PICKLE_INT || offset->as.integer < 0 || numel->as.integer < 0)
        return false;
    s->view_offset = (uint64_t)offset->as.integer;
    s->view_numel = (uint64_t)numel->as.integer;
    return s->view_offset <= s->numel && s->view_numel <= s->numel - s->view_offset;
}

strand_status pickle_persistent(pickle *p, const pickle_value *id, pickle_value **out) {
    const pickle_value *tag = pickle_item(id, 0), *key = pickle_item(id, 2), *numel = pickle_item(id, 4),
                       *view = pickle_item(id, 5);
    pickle_value *type = pickle_item(id, 1);
    /* ('module', class, file, source): how legacy files name a module's class. */
    if (type && pickle_is_text(tag, "module") && type->kind == PICKLE_GLOBAL) return *out = type, STRAND_OK;
    if (!numel || !pickle_is_text(tag, "storage") || type->kind != PICKLE_GLOBAL || key->kind != PICKLE_STRING ||
        numel->kind != PICKLE_INT || numel->as.integer < 0) {
        return pickle_fail(p, "a persistent id other than ('storage', type, key, location, numel)");
    }
    const known_global *known = type->as.global.known;
    if (!known || known->meaning != MEANS_STORAGE) { /* a type of unknown size: an error only where its tensor is wanted */
        *out = pickle_new(p, PICKLE_OPAQUE);
        if (*out) (*out)->as.global = type->as.global;
        return STRAND_OK;
    }
    pickle_storage *s = ARENA_NEW(p->arena, pickle_storage);
    pickle_bytes *bytes = ARENA_NEW(p->arena, pickle_bytes);
    *out = s && bytes ? pickle_new(p, PICKLE_STORAGE) : NULL;
    if (!*out) return STRAND_OK;
    *s = (pickle_storage){.key = key->as.string.bytes,
                          .key_length = key->as.string.length,
                          .type = known->name,
                          .dtype = known->dtype,
                          .element = known->element,
                          .numel = (uint64_t)numel->as.integer,
                          .older = p->storages,
                          .bytes = bytes};
    s->view_numel = s->numel;
    if (view && view->kind != PICKLE_NONE && !read_view(view, s)) return pickle_fail(p, "a storage's view is outside of it");
    p->storages = s;
    p->n_storages++;
    (*out)->as.storage = s;
    return STRAND_OK;
}
