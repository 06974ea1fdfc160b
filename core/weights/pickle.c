/* pickle.c - the interpreter for pickle protocols 2 to 5.
 *
 * A pickle is a program for a stack machine. Here it can only build data: the table at the end is the whole instruction set,
 * and an opcode that is not in it ends the reading. Invariants:
 *  1. `at` never passes `size`; strings are not copied, they point into the file.
 *  2. Memory is a fixed multiple of the pickle's bytes: each opcode makes at most one value, the stack and the memo are never
 *     larger than the number of bytes read, and there are at most MAX_VALUES values.
 *  3. Nothing recurses, and nothing is called: REDUCE and NEWOBJ ask pickle_call, which knows a short list of names. */
#include "pickle.h"

#include <inttypes.h>
#include <string.h>

#include "../checked.h"
#include "bytes.h"

#define MAX_VALUES ((uint64_t)1 << 22)

strand_status pickle_fail(const pickle *p, const char *why) {
    return error_set(p->error, STRAND_ERR_FORMAT, "%s: %s, byte %" PRIu64 ": %s", p->path, p->part, p->at, why);
}

strand_status pickle_no_memory(const pickle *p) {
    return error_set(p->error, STRAND_ERR_MEMORY, "%s: out of memory while reading %s", p->path, p->part);
}

/* ---- values ---------------------------------------------------------------------------------------------------------- */

/* NULL without memory or past the limit; no_value tells which. */
pickle_value *pickle_new(pickle *p, pickle_kind kind) {
    if (p->values >= MAX_VALUES) return NULL;
    p->values++;
    pickle_value *value = ARENA_NEW(p->arena, pickle_value);
    if (value) value->kind = kind;
    return value;
}

static strand_status no_value(const pickle *p) {
    if (p->values < MAX_VALUES) return pickle_no_memory(p);
    return error_set(p->error, STRAND_ERR_LIMIT, "%s: %s, byte %" PRIu64 ": more than 4194304 values", p->path, p->part, p->at);
}

bool pickle_append(pickle *p, pickle_value *list, pickle_value *key, pickle_value *value) {
    pickle_cell *cell = ARENA_NEW(p->arena, pickle_cell);
    if (!cell) return false;
    cell->key = key;
    cell->value = value;
    if (list->as.list.last)
        list->as.list.last->next = cell;
    else
        list->as.list.first = cell;
    list->as.list.last = cell;
    list->as.list.count++;
    return true;
}

pickle_value *pickle_item(const pickle_value *list, uint64_t index) {
    if (list->kind != PICKLE_TUPLE && list->kind != PICKLE_LIST) return NULL;
    const pickle_cell *cell = list->as.list.first;
    while (cell && index > 0) cell = cell->next, index--;
    return cell ? cell->value : NULL;
}

bool pickle_is_text(const pickle_value *value, const char *text) {
    return value->kind == PICKLE_STRING && value->as.string.length == strlen(text) &&
           memcmp(value->as.string.bytes, text, strlen(text)) == 0;
}

/* ---- stack and memo -------------------------------------------------------------------------------------------------- */

/* Room for one more in an array that doubles; what it outgrows stays in the arena, which at most doubles its size. */
static bool reserve(pickle *p, pickle_value ***items, uint64_t used, uint64_t *room) {
    if (used < *room) return true;
    uint64_t more = *room ? 2 * *room : 256;
    while (more <= used) more *= 2;
    pickle_value **larger = ARENA_ARRAY(p->arena, pickle_value *, (size_t)more);
    if (!larger) return false;
    if (*room) memcpy(larger, *items, (size_t)*room * sizeof *larger);
    *items = larger;
    *room = more;
    return true;
}

static strand_status push(pickle *p, pickle_value *value) {
    if (!value) return no_value(p);
    if (!reserve(p, &p->stack, p->depth, &p->stack_room)) return pickle_no_memory(p);
    p->stack[p->depth++] = value;
    return STRAND_OK;
}

/* The top of the stack, taken off; NULL when there is none or it is a mark. */
static pickle_value *pop(pickle *p) {
    if (p->depth == 0 || p->stack[p->depth - 1] == &p->mark) return NULL;
    return p->stack[--p->depth];
}

static pickle_value *top(const pickle *p) {
    return p->depth && p->stack[p->depth - 1] != &p->mark ? p->stack[p->depth - 1] : NULL;
}

static strand_status stack_empty(const pickle *p) {
    return pickle_fail(p, "an instruction finds too few values on the stack");
}

/* Are there n values on top with no mark among them? */
static bool holds(const pickle *p, uint64_t n) {
    if (p->depth < n) return false;
    for (uint64_t i = p->depth - n; i < p->depth; i++) {
        if (p->stack[i] == &p->mark) return false;
    }
    return true;
}

/* Where the items above the last mark begin. Each is passed once, as the caller takes them all off. */
static bool find_mark(const pickle *p, uint64_t *first) {
    uint64_t i = p->depth;
    while (i > 0 && p->stack[i - 1] != &p->mark) i--;
    *first = i;
    return i > 0;
}

static strand_status memoize(pickle *p, uint64_t index) {
    pickle_value *value = top(p);
    if (!value) return stack_empty(p);
    /* Picklers number the memo from 0 up, so that an index is always less than the bytes that came before it. */
    if (index >= p->at - p->start) return pickle_fail(p, "a memo index out of sequence");
    if (!reserve(p, &p->memo, index, &p->memo_room)) return pickle_no_memory(p);
    p->memo[index] = value;
    p->memo_count++;
    return STRAND_OK;
}

static strand_status recall(pickle *p, uint64_t index) {
    if (index >= p->memo_room || !p->memo[index]) return pickle_fail(p, "a memo index that was never stored");
    return push(p, p->memo[index]);
}

/* ---- operands -------------------------------------------------------------------------------------------------------- */

/* The next n bytes of the file, or NULL at its end. */
static const uint8_t *take(pickle *p, uint64_t n) {
    if (!checked_range(p->at, n, p->size)) return NULL;
    const uint8_t *at = p->data + p->at;
    p->at += n;
    return at;
}

static strand_status cut(const pickle *p) {
    return pickle_fail(p, "the pickle is cut short here");
}

/* An unsigned little-endian number of 1, 2, 4 or 8 bytes. */
static bool take_number(pickle *p, unsigned bytes, uint64_t *out) {
    const uint8_t *at = take(p, bytes);
    if (!at) return false;
    *out = bytes == 1 ? at[0] : bytes == 2 ? read_u16(at) : bytes == 4 ? read_u32(at) : read_u64(at);
    return true;
}

/* The text up to the next newline, which is stepped over. */
static bool take_line(pickle *p, const char **text, uint32_t *length) {
    const uint8_t *at = p->data + p->at;
    uint64_t room = p->size - p->at < 1024 ? p->size - p->at : 1024;
    const uint8_t *end = memchr(at, '\n', (size_t)room);
    if (!end) return false;
    *text = (const char *)at;
    *length = (uint32_t)(end - at);
    p->at += *length + 1;
    return true;
}

/* ---- instructions: constants ----------------------------------------------------------------------------------------- */

typedef strand_status (*instruction)(pickle *p, uint8_t code);

static strand_status op_proto(pickle *p, uint8_t code) {
    (void)code;
    uint64_t version;
    if (!take_number(p, 1, &version)) return cut(p);
    return version >= 2 && version <= 5
               ? STRAND_OK
               : pickle_fail(p, "a pickle protocol other than 2 to 5; save it again with a current PyTorch");
}

static strand_status op_frame(pickle *p, uint8_t code) {
    (void)code;
    uint64_t bytes;
    if (!take_number(p, 8, &bytes)) return cut(p);
    return bytes <= p->size - p->at ? STRAND_OK : cut(p);
}

static strand_status op_constant(pickle *p, uint8_t code) {
    return push(p, code == 'N'    ? &p->none
                   : code == 0x88 ? &p->yes
                   : code == 0x89 ? &p->no
                   : code == ')'  ? &p->empty
                                  : &p->mark);
}

static strand_status push_int(pickle *p, int64_t integer) {
    pickle_value *value = pickle_new(p, PICKLE_INT);
    if (value) value->as.integer = integer;
    return push(p, value);
}

static strand_status op_int(pickle *p, uint8_t code) {
    uint64_t number;
    if (!take_number(p, code == 'K' ? 1 : code == 'M' ? 2 : 4, &number)) return cut(p);
    return push_int(p, code == 'J' ? (int32_t)(uint32_t)number : (int64_t)number);
}

/* Two's complement of any length; what int64 cannot hold is data of no interest. */
static strand_status op_long(pickle *p, uint8_t code) {
    uint64_t bytes;
    if (!take_number(p, code == 0x8a ? 1 : 4, &bytes)) return cut(p);
    const uint8_t *at = take(p, bytes);
    if (!at) return cut(p);
    if (bytes > 8) return push(p, &p->plain);
    uint64_t number = bytes && at[bytes - 1] & 0x80 ? UINT64_MAX : 0;
    for (uint64_t i = bytes; i > 0; i--) number = number << 8 | at[i - 1];
    int64_t integer;
    memcpy(&integer, &number, sizeof integer);
    return push_int(p, integer);
}

static strand_status op_float(pickle *p, uint8_t code) {
    (void)code;
    const uint8_t *at = take(p, 8);
    if (!at) return cut(p);
    uint64_t bits = 0; /* the one big-endian number of the format */
    for (int i = 0; i < 8; i++) bits = bits << 8 | at[i];
    pickle_value *value = pickle_new(p, PICKLE_FLOAT);
    if (value) memcpy(&value->as.number, &bits, sizeof bits);
    return push(p, value);
}

static strand_status op_string(pickle *p, uint8_t code) {
    bool one = code == 'U' || code == 'C' || code == 0x8c, eight = code == 0x8d || code == 0x8e || code == 0x96;
    uint64_t length;
    if (!take_number(p, one ? 1 : eight ? 8 : 4, &length)) return cut(p);
    const uint8_t *at = take(p, length);
    if (!at) return cut(p);
    pickle_value *value = pickle_new(p, PICKLE_STRING);
    if (value) value->as.string.bytes = (const char *)at, value->as.string.length = length;
    return push(p, value);
}

/* ---- instructions: containers ---------------------------------------------------------------------------------------- */

static strand_status op_empty(pickle *p, uint8_t code) {
    if (code == 0x8f) return push(p, &p->plain);
    return push(p, pickle_new(p, code == ']' ? PICKLE_LIST : PICKLE_DICT));
}

/* Moves the stack's items from `first` up into a new tuple or list. */
static pickle_value *collect(pickle *p, pickle_kind kind, uint64_t first) {
    pickle_value *list = pickle_new(p, kind);
    for (uint64_t i = first; list && i < p->depth; i++) {
        if (!pickle_append(p, list, NULL, p->stack[i])) return NULL;
    }
    p->depth = first;
    return list;
}

static strand_status op_marked_list(pickle *p, uint8_t code) {
    uint64_t first;
    if (!find_mark(p, &first)) return stack_empty(p);
    pickle_value *list = collect(p, code == 't' ? PICKLE_TUPLE : PICKLE_LIST, first);
    if (!list) return no_value(p);
    p->depth--; /* the mark */
    return push(p, list);
}

static strand_status op_short_tuple(pickle *p, uint8_t code) {
    uint64_t n = (uint64_t)code - 0x84;
    if (!holds(p, n)) return stack_empty(p);
    return push(p, collect(p, PICKLE_TUPLE, p->depth - n));
}

/* Adds the stack's items from `first` up to the container below them. */
static strand_status extend(pickle *p, pickle_value *target, uint64_t first, bool pairs) {
    if (target->kind == PICKLE_OPAQUE || target->kind == PICKLE_PLAIN) return STRAND_OK; /* swallowed */
    if (target->kind != (pairs ? PICKLE_DICT : PICKLE_LIST))
        return pickle_fail(p, "items are added to something that is not a list or dict");
    if (pairs && (p->depth - first) % 2 != 0) return pickle_fail(p, "a key without a value");
    for (uint64_t i = first; i < p->depth; i += pairs ? 2 : 1) {
        bool done =
            pairs ? pickle_append(p, target, p->stack[i], p->stack[i + 1]) : pickle_append(p, target, NULL, p->stack[i]);
        if (!done) return pickle_no_memory(p);
    }
    return STRAND_OK;
}

/* APPENDS, SETITEMS and ADDITEMS: the container is below the mark. */
static strand_status op_extend_marked(pickle *p, uint8_t code) {
    uint64_t first;
    if (!find_mark(p, &first) || first < 2 || p->stack[first - 2] == &p->mark) return stack_empty(p);
    strand_status status = extend(p, p->stack[first - 2], first, code == 'u');
    p->depth = first - 1;
    return status;
}

/* APPEND and SETITEM: one item, or one key and value. */
static strand_status op_extend_one(pickle *p, uint8_t code) {
    uint64_t n = code == 's' ? 2 : 1;
    if (!holds(p, n + 1)) return stack_empty(p);
    strand_status status = extend(p, p->stack[p->depth - n - 1], p->depth - n, n == 2);
    p->depth -= n;
    return status;
}

static strand_status op_dict(pickle *p, uint8_t code) {
    (void)code;
    uint64_t first;
    if (!find_mark(p, &first)) return stack_empty(p);
    pickle_value *dict = pickle_new(p, PICKLE_DICT);
    if (!dict) return no_value(p);
    strand_status status = extend(p, dict, first, true);
    p->depth = first - 1;
    return status ? status : push(p, dict);
}

static strand_status op_frozenset(pickle *p, uint8_t code) {
    (void)code;
    uint64_t first;
    if (!find_mark(p, &first)) return stack_empty(p);
    p->depth = first - 1;
    return push(p, &p->plain);
}

/* ---- instructions: stack and memo ------------------------------------------------------------------------------------ */

static strand_status op_pop(pickle *p, uint8_t code) {
    uint64_t first = 0;
    if (code == '1' && !find_mark(p, &first)) return stack_empty(p);
    if (p->depth == 0) return stack_empty(p);
    p->depth = code == '1' ? first - 1 : p->depth - 1;
    return STRAND_OK;
}

static strand_status op_dup(pickle *p, uint8_t code) {
    (void)code;
    pickle_value *value = top(p);
    return value ? push(p, value) : stack_empty(p);
}

static strand_status op_put(pickle *p, uint8_t code) {
    uint64_t index = p->memo_count;
    if (code != 0x94 && !take_number(p, code == 'q' ? 1 : 4, &index)) return cut(p);
    return memoize(p, index);
}

static strand_status op_get(pickle *p, uint8_t code) {
    uint64_t index;
    if (!take_number(p, code == 'h' ? 1 : 4, &index)) return cut(p);
    return recall(p, index);
}

/* ---- instructions: what would run code ------------------------------------------------------------------------------- */

static strand_status push_global(pickle *p, const pickle_name *from) {
    pickle_name *name = ARENA_NEW(p->arena, pickle_name);
    pickle_value *value = name ? pickle_new(p, PICKLE_GLOBAL) : NULL;
    if (!value) return no_value(p);
    *name = *from;
    value->as.global.name = name;
    value->as.global.known = pickle_known(name);
    return push(p, value);
}

static strand_status op_global(pickle *p, uint8_t code) {
    (void)code;
    pickle_name name;
    if (!take_line(p, &name.module, &name.module_length) || !take_line(p, &name.name, &name.name_length)) return cut(p);
    return push_global(p, &name);
}

static strand_status op_stack_global(pickle *p, uint8_t code) {
    (void)code;
    const pickle_value *name = pop(p), *module = name ? pop(p) : NULL;
    if (!module) return stack_empty(p);
    if (name->kind != PICKLE_STRING || module->kind != PICKLE_STRING) return pickle_fail(p, "a global whose name is not text");
    if (name->as.string.length > 1024 || module->as.string.length > 1024)
        return pickle_fail(p, "a global with a name of more than 1024 bytes");
    return push_global(p, &(pickle_name){module->as.string.bytes, name->as.string.bytes, (uint32_t)module->as.string.length,
                                         (uint32_t)name->as.string.length});
}

/* REDUCE (function, args), NEWOBJ (class, args) and NEWOBJ_EX (class, args, keywords). */
static strand_status op_call(pickle *p, uint8_t code) {
    if (code == 0x92 && !pop(p)) return stack_empty(p);
    pickle_value *args = pop(p), *function = args ? pop(p) : NULL;
    if (!function) return stack_empty(p);
    if (function->kind == PICKLE_OPAQUE) return push(p, function);
    if (function->kind != PICKLE_GLOBAL) return pickle_fail(p, "a call of something that is neither a class nor a function");
    if (args->kind != PICKLE_TUPLE) return pickle_fail(p, "a call whose arguments are not a tuple");
    return push(p, pickle_call(p, function, args));
}

/* The state of an object. An OrderedDict's attributes (state_dict's _metadata) and an opaque object's are of no interest. */
static strand_status op_build(pickle *p, uint8_t code) {
    (void)code;
    const pickle_value *state = pop(p), *object = state ? top(p) : NULL;
    if (!object) return stack_empty(p);
    if (object->kind == PICKLE_OPAQUE || object->kind == PICKLE_DICT || object->kind == PICKLE_PLAIN) return STRAND_OK;
    return pickle_fail(p, "a state is given to something that is not an object");
}

static strand_status op_persistent(pickle *p, uint8_t code) {
    (void)code;
    const pickle_value *id = pop(p);
    if (!id) return stack_empty(p);
    pickle_value *value;
    strand_status status = pickle_persistent(p, id, &value);
    return status ? status : push(p, value);
}

/* The instruction set. The text opcodes of protocols 0 and 1, extension codes and out-of-band buffers are left out: torch.save
 * writes none of them. STOP is '.', in pickle_read. */
/* clang-format off */
static const instruction instructions[256] = {
    [0x80] = op_proto, [0x95] = op_frame,
    ['N'] = op_constant, [0x88] = op_constant, [0x89] = op_constant, [')'] = op_constant, ['('] = op_constant,
    ['J'] = op_int, ['K'] = op_int, ['M'] = op_int, [0x8a] = op_long, [0x8b] = op_long, ['G'] = op_float,
    ['X'] = op_string, [0x8c] = op_string, [0x8d] = op_string, /* text */
    ['T'] = op_string, ['U'] = op_string, ['B'] = op_string, ['C'] = op_string, [0x8e] = op_string,
    [0x96] = op_string, /* bytes */
    [']'] = op_empty, ['}'] = op_empty, [0x8f] = op_empty,
    ['l'] = op_marked_list, ['t'] = op_marked_list, [0x85] = op_short_tuple, [0x86] = op_short_tuple, [0x87] = op_short_tuple,
    ['a'] = op_extend_one, ['s'] = op_extend_one, ['e'] = op_extend_marked, ['u'] = op_extend_marked, [0x90] = op_extend_marked,
    ['d'] = op_dict, [0x91] = op_frozenset,
    ['0'] = op_pop, ['1'] = op_pop, ['2'] = op_dup,
    ['q'] = op_put, ['r'] = op_put, [0x94] = op_put, ['h'] = op_get, ['j'] = op_get,
    ['c'] = op_global, [0x93] = op_stack_global, ['R'] = op_call, [0x81] = op_call, [0x92] = op_call, ['b'] = op_build,
    ['Q'] = op_persistent,
};
/* clang-format on */

void pickle_init(pickle *p, arena *a, const uint8_t *data, uint64_t size, const char *path, const char *part, error *e) {
    *p = (pickle){.arena = a,
                  .data = data,
                  .size = size,
                  .path = path,
                  .part = part,
                  .error = e,
                  .mark = {PICKLE_MARK, {0}},
                  .none = {PICKLE_NONE, {0}},
                  .no = {PICKLE_BOOL, {0}},
                  .yes = {PICKLE_BOOL, {1}},
                  .empty = {PICKLE_TUPLE, {0}},
                  .plain = {PICKLE_PLAIN, {0}}};
}

strand_status pickle_read(pickle *p, const pickle_value **out) {
    p->start = p->at;
    p->depth = p->memo_count = 0;
    if (p->memo_room) memset(p->memo, 0, (size_t)p->memo_room * sizeof *p->memo);
    if (p->at >= p->size || p->data[p->at] != 0x80) return pickle_fail(p, "no pickle of protocol 2 to 5 begins here");
    for (;;) {
        const uint8_t *code = take(p, 1);
        if (!code) return cut(p);
        if (*code == '.') break;
        if (!instructions[*code]) {
            return error_set(p->error, STRAND_ERR_FORMAT,
                             "%s: %s, byte %" PRIu64 ": opcode 0x%02x is not one that torch.save writes", p->path, p->part,
                             p->at - 1, *code);
        }
        strand_status status = instructions[*code](p, *code);
        if (status) return status;
    }
    if (p->depth != 1 || p->stack[0] == &p->mark)
        return pickle_fail(p, "the pickle ends with other than one value on its stack");
    *out = p->stack[0];
    return STRAND_OK;
}
