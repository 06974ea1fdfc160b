/* pickle.h - pickles as data: what torch.save writes, read without running anything.
 *
 * The result is a tree (in truth a graph: values may be shared, even contain themselves) of the few kinds below. A class or
 * function that is not on the list of known ones is a PICKLE_GLOBAL without a meaning; what would have been made by calling it
 * is a PICKLE_OPAQUE that remembers the name, and whatever is done to that is swallowed. */
#ifndef STRAND_CORE_WEIGHTS_PICKLE_H
#define STRAND_CORE_WEIGHTS_PICKLE_H

#include "../arena.h"
#include "../error.h"

typedef enum pickle_kind {
    PICKLE_MARK, /* on the stack only */
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_STRING, /* text or bytes */
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,
    PICKLE_PLAIN,  /* data of no interest: a set, a huge integer, a torch.device */
    PICKLE_GLOBAL, /* a class or function, by name */
    PICKLE_OPAQUE, /* what a global of unknown meaning would have made */
    PICKLE_STORAGE,
    PICKLE_TENSOR
} pickle_kind;

typedef struct pickle_value pickle_value;
typedef struct pickle_cell pickle_cell;
typedef struct pickle_bytes pickle_bytes;
typedef struct pickle_storage pickle_storage;
typedef struct pickle_tensor pickle_tensor;
struct pickle_global; /* a row of the list of known globals */

typedef struct pickle_name {
    const char *module, *name; /* in the file, not terminated */
    uint32_t module_length, name_length;
} pickle_name;

struct pickle_value {
    pickle_kind kind;
    union {
        int64_t integer; /* and BOOL */
        double number;
        struct {
            const char *bytes; /* in the file, not terminated */
            uint64_t length;
        } string;
        struct {
            pickle_cell *first, *last;
            uint64_t count;
        } list; /* TUPLE, LIST, DICT */
        struct {
            const pickle_name *name;           /* OPAQUE: of the global that would have made it */
            const struct pickle_global *known; /* NULL: not on the list */
        } global;
        pickle_storage *storage;
        pickle_tensor *tensor;
    } as;
};

struct pickle_cell {
    pickle_value *key, *value; /* key: DICT only */
    pickle_cell *next;
};

/* ('storage', type, key, location, numel [, view]): the bytes are elsewhere in the file. */
struct pickle_storage {
    const char *key; /* in the file, not terminated */
    uint64_t key_length;
    const char *type;   /* "FloatStorage" */
    strand_dtype dtype; /* STRAND_NONE: a type that exists in PyTorch only */
    size_t element;
    uint64_t numel;
    uint64_t view_offset, view_numel; /* in elements; the whole storage where there is no view */
    pickle_storage *older;            /* the one made before this */
    pickle_bytes *bytes;
};

/* Where a storage's elements are. pytorch.c fills it in; storages of one key have it in common through `shared`. */
struct pickle_bytes {
    pickle_bytes *shared;
    const uint8_t *data; /* in the file */
    uint64_t size;
    const uint8_t *aligned; /* `data` or an aligned copy; NULL until a tensor wants it */
};

/* Arguments of a rebuilt tensor, not yet checked: only tensors that are wanted must be right. */
struct pickle_tensor {
    pickle_storage *storage;
    const pickle_value *offset, *size, *stride;
};

typedef struct pickle {
    arena *arena;
    const uint8_t *data;
    uint64_t size, at;
    const char *path, *part; /* for errors: the file, and what in it */
    uint64_t start;          /* of the pickle that is being read */
    pickle_value **stack, **memo;
    uint64_t depth, stack_room, memo_count, memo_room, values;
    pickle_storage *storages; /* of all pickles read, newest first */
    uint64_t n_storages;
    error *error;
    pickle_value mark, none, no, yes, empty, plain; /* shared; never changed */
} pickle;

void pickle_init(pickle *p, arena *a, const uint8_t *data, uint64_t size, const char *path, const char *part, error *e);
/* Reads the pickle at p->at and stops behind it. */
strand_status pickle_read(pickle *p, const pickle_value **out);
/* Element `index` of a tuple or list, or NULL. */
pickle_value *pickle_item(const pickle_value *list, uint64_t index);
bool pickle_is_text(const pickle_value *value, const char *text);

/* ---- pickle_globals.c ---- */

/* Data of no interest: a set, a device, a dtype. */
bool pickle_is_plain(const pickle_value *value);

/* Looks the name up in the list of known globals. */
const struct pickle_global *pickle_known(const pickle_name *name);
/* What calling the known or unknown `function` with the tuple `args` makes; NULL without memory. */
pickle_value *pickle_call(pickle *p, const pickle_value *function, pickle_value *args);
/* What a persistent id stands for, a storage or a module's class; NULL in *out without memory. */
strand_status pickle_persistent(pickle *p, const pickle_value *id, pickle_value **out);

/* ---- for pickle_globals.c ---- */

pickle_value *pickle_new(pickle *p, pickle_kind kind);
/* Adds to a list, tuple or dict. */
bool pickle_append(pickle *p, pickle_value *list, pickle_value *key, pickle_value *value);
/* Keeps an error with the place and gives its status. */
strand_status pickle_fail(const pickle *p, const char *why);
strand_status pickle_no_memory(const pickle *p);

#endif
