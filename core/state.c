/* state.c - what a session keeps from run to run: begin again, save, load.
 *
 * A state stands in the memory of the device that makes its next value, [batch, ...], its row r the state of the r-th
 * sequence: in one place at any time, so nothing has to be kept equal. The saved form of a row is little-endian: the header
 * below, then for each state its own header and its bytes, everything padded to 8, and at last a 64-bit FNV-1a checksum of
 * all that, word by word. Of a cache only the rows in use are there. It is bound to the model by the SHA-256 of the weights,
 * and to nothing else: not to the backend, the batch or the plan. */
#include <string.h>

#include "checked.h"
#include "session.h"

typedef struct saved_header {
    char magic[8];
    uint32_t version, n_states;
    char weights[64]; /* SHA-256, hex */
    int64_t position;
    uint64_t bytes;   /* of everything */
} saved_header;

typedef struct saved_state {
    uint64_t name; /* FNV-1a of it */
    uint32_t dtype, rank;
    int64_t dims[STRAND_PLUGIN_RANK]; /* without the batch; of a cache the first one counts the rows in use */
    uint64_t bytes;
} saved_state;

_Static_assert(sizeof(saved_header) == 96, "the saved form has no padding");
_Static_assert(sizeof(saved_state) == 24 + 8 * STRAND_PLUGIN_RANK, "the saved form has no padding");
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "saved states are little-endian, and so are the weights that are read in place"
#endif

static const char saved_magic[8] = "STRANDS";
#define SAVED_VERSION 1u

#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

static uint64_t name_hash(const char *name) {
    uint64_t h = FNV_BASIS;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * FNV_PRIME;
    return h;
}

/* n is a multiple of 8. A product by an odd number carries upwards only: the fold brings the high half of a word down too. */
static uint64_t checksum(const unsigned char *p, size_t n) {
    uint64_t h = FNV_BASIS, word;
    for (size_t i = 0; i + sizeof word <= n; i += sizeof word) {
        memcpy(&word, p + i, sizeof word);
        h = (h ^ word) * FNV_PRIME;
        h ^= h >> 32;
    }
    return h;
}

static const graph_tensor *state_tensor(const strand_session *s, uint32_t i) {
    return &s->plan->model->graph.tensors[s->plan->schedule.instances[s->plan->schedule.states[i]].tensor];
}

/* Bytes of one row, and of one time step of it where the state is a cache. */
static uint64_t row_bytes(const graph_tensor *t, uint64_t *step) {
    strand_plugin_tensor v;
    uint64_t bytes = 0;
    view_whole(&v, t, 1, 1);
    view_bytes(&v, &bytes);
    *step = t->cache ? bytes / (uint64_t)t->shape.dims[1].size : bytes;
    return bytes;
}

/* Sets a row to zeros. The source lives for ever, so that a device may take it late. */
static strand_status clear_row(strand_session *s, uint32_t i, uint64_t at, uint64_t bytes) {
    static const unsigned char zeros[4096];
    for (uint64_t done = 0; done < bytes;) {
        uint64_t n = bytes - done < sizeof zeros ? bytes - done : sizeof zeros;
        if (execute_put(s, s->plan->schedule.states[i], at + done, zeros, n)) return s->error.status;
        done += n;
    }
    return STRAND_OK;
}

/* The rows of a cache that are not in use are never read, so that only a new session's are cleared. */
static strand_status reset_rows(strand_session *s, int64_t first, int64_t n, bool fresh) {
    for (uint32_t i = 0; i < s->plan->schedule.n_states; i++)
        for (int64_t r = first; r < first + n; r++) {
            const graph_tensor *t = state_tensor(s, i);
            uint64_t step, bytes = row_bytes(t, &step), at = (uint64_t)r * bytes;
            if (t->cache && !fresh) continue;
            if (t->data ? execute_put(s, s->plan->schedule.states[i], at, t->data, bytes) : clear_row(s, i, at, bytes))
                return s->error.status;
        }
    return execute_settle(s);
}

strand_status state_reset(strand_session *s, int64_t first, int64_t n, bool fresh) {
    if (!s->plan->schedule.n_states) return STRAND_OK;
    strand_status status = reset_rows(s, first, n, fresh);
    if (status) execute_drain(s);
    for (int64_t r = first; r < first + n; r++) s->positions[r] = status ? STATE_LOST : 0;
    return status;
}

strand_status state_check(strand_session *s) {
    for (int64_t b = 0; s->plan->schedule.n_states && b < s->batch; b++)
        if (s->positions[b] == STATE_LOST)
            return error_set(&s->error, STRAND_ERR_ARGUMENT,
                             "the state of sequence %lld was lost in a run that failed: reset or load it first", (long long)b);
    for (uint32_t i = 0; i < s->plan->schedule.n_states; i++) {
        const graph_tensor *t = state_tensor(s, i);
        for (int64_t b = 0; t->cache && b < s->batch; b++)
            if (s->positions[b] > t->shape.dims[1].size - s->length)
                return error_set(
                    &s->error, STRAND_ERR_LIMIT,
                    "the context of %lld tokens is full: sequence %lld has %lld and would get %lld more; load the model with a "
                    "larger context",
                    (long long)t->shape.dims[1].size, (long long)b, (long long)s->positions[b], (long long)s->length);
    }
    return STRAND_OK;
}

strand_status strand_session_reset(strand_session *s, int64_t row) {
    if (!s) return STRAND_ERR_ARGUMENT;
    if (row < -1 || row >= s->plan->place.batch)
        return error_set(&s->error, STRAND_ERR_ARGUMENT, "there is no sequence %lld: the session has %lld", (long long)row,
                         (long long)s->plan->place.batch);
    return row < 0 ? state_reset(s, 0, s->plan->place.batch, false) : state_reset(s, row, 1, false);
}

int64_t strand_session_position(const strand_session *s, int64_t row) {
    if (!s || row < 0 || row >= s->plan->place.batch) return -1;
    return s->plan->schedule.n_states ? s->positions[row] : 0;
}

/* Is there such a row, and something to keep of it? */
static strand_status has_states(strand_session *s, int64_t row) {
    if (row < 0 || row >= s->plan->place.batch)
        return error_set(&s->error, STRAND_ERR_ARGUMENT, "there is no sequence %lld: the session has %lld", (long long)row,
                         (long long)s->plan->place.batch);
    if (!s->plan->schedule.n_states)
        return error_set(&s->error, STRAND_ERR_UNSUPPORTED, "the model keeps no state from run to run");
    return STRAND_OK;
}

/* How a state of a sequence at `position` is described in the saved form. */
static saved_state describe_state(const graph_tensor *t, int64_t position) {
    uint64_t step;
    saved_state d = {.name = name_hash(t->name), .dtype = (uint32_t)t->shape.dtype, .rank = (uint32_t)t->shape.rank - 1};
    for (int i = 1; i < t->shape.rank; i++) d.dims[i - 1] = t->shape.dims[i].size;
    d.bytes = row_bytes(t, &step);
    if (t->cache) {
        d.dims[0] = position;
        d.bytes = step * (uint64_t)position;
    }
    return d;
}

static uint64_t padded(uint64_t n) {
    return (n + 7) & ~UINT64_C(7);
}

static uint64_t saved_bytes(const strand_session *s, int64_t position) {
    uint64_t n = sizeof(saved_header);
    for (uint32_t i = 0; i < s->plan->schedule.n_states; i++)
        n += sizeof(saved_state) + padded(describe_state(state_tensor(s, i), position).bytes);
    return n + sizeof(uint64_t);
}

static strand_status write_row(strand_session *s, int64_t row, unsigned char *out, uint64_t bytes) {
    saved_header h = {
        .version = SAVED_VERSION, .n_states = s->plan->schedule.n_states, .position = s->positions[row], .bytes = bytes};
    memcpy(h.magic, saved_magic, sizeof h.magic);
    memcpy(h.weights, weights_sha256(s->plan->model->weights), sizeof h.weights);
    unsigned char *at = out;
    memcpy(at, &h, sizeof h);
    at += sizeof h;
    for (uint32_t i = 0; i < h.n_states; i++) {
        saved_state d = describe_state(state_tensor(s, i), h.position);
        memcpy(at, &d, sizeof d);
        at += sizeof d;
        uint64_t step;
        if (execute_get(s, s->plan->schedule.states[i], (uint64_t)row * row_bytes(state_tensor(s, i), &step), at, d.bytes))
            return s->error.status;
        memset(at + d.bytes, 0, (size_t)(padded(d.bytes) - d.bytes));
        at += padded(d.bytes);
    }
    if (execute_settle(s)) return s->error.status;
    uint64_t sum = checksum(out, (size_t)(at - out));
    memcpy(at, &sum, sizeof sum);
    return STRAND_OK;
}

strand_status strand_session_save(strand_session *s, int64_t row, void *data, size_t capacity, size_t *bytes) {
    if (!s || !bytes) return STRAND_ERR_ARGUMENT;
    if (has_states(s, row)) return s->error.status;
    if (s->positions[row] == STATE_LOST)
        return error_set(&s->error, STRAND_ERR_ARGUMENT, "the state was lost in a run that failed: there is nothing to save");
    uint64_t n = saved_bytes(s, s->positions[row]);
    *bytes = (size_t)n;
    if (!data) return STRAND_OK;
    if (capacity < n)
        return error_set(&s->error, STRAND_ERR_MEMORY, "the state takes %llu bytes, the buffer has %zu", (unsigned long long)n,
                         capacity);
    strand_status status = write_row(s, row, data, n);
    if (status) execute_drain(s);
    return status;
}

/* Everything about saved data is checked before a byte of the session changes. */
static strand_status check_saved(strand_session *s, const unsigned char *data, size_t bytes, saved_header *h) {
    error *e = &s->error;
    uint64_t sum;
    if (bytes < sizeof *h + sizeof sum || memcmp(data, saved_magic, sizeof saved_magic))
        return error_set(e, STRAND_ERR_FORMAT, "this is no saved state");
    memcpy(h, data, sizeof *h);
    if (h->version != SAVED_VERSION)
        return error_set(e, STRAND_ERR_UNSUPPORTED, "the saved state has version %u; this library reads version %u", h->version,
                         SAVED_VERSION);
    if (h->bytes != bytes || bytes % 8)
        return error_set(e, STRAND_ERR_FORMAT, "the saved state has %zu bytes, its header says %llu", bytes,
                         (unsigned long long)h->bytes);
    memcpy(&sum, data + bytes - sizeof sum, sizeof sum);
    if (checksum(data, bytes - sizeof sum) != sum)
        return error_set(e, STRAND_ERR_FORMAT, "the saved state is damaged: its checksum is wrong");
    if (memcmp(h->weights, weights_sha256(s->plan->model->weights), sizeof h->weights))
        return error_set(e, STRAND_ERR_ARGUMENT, "the saved state is of another model");
    if (h->n_states != s->plan->schedule.n_states)
        return error_set(e, STRAND_ERR_ARGUMENT, "the saved state is of this model with other settings");
    if (h->position < 0) return error_set(e, STRAND_ERR_FORMAT, "the saved state has a negative position");
    uint64_t at = sizeof *h;
    for (uint32_t i = 0; i < h->n_states; i++) {
        const graph_tensor *t = state_tensor(s, i);
        saved_state d, want;
        if (t->cache && h->position > t->shape.dims[1].size)
            return error_set(e, STRAND_ERR_LIMIT,
                             "the saved state has %lld tokens, the context holds %lld; load the model with a larger context",
                             (long long)h->position, (long long)t->shape.dims[1].size);
        want = describe_state(t, h->position);
        if (!checked_range(at, sizeof d, bytes - sizeof sum))
            return error_set(e, STRAND_ERR_FORMAT, "the saved state ends too early");
        memcpy(&d, data + at, sizeof d);
        if (memcmp(&d, &want, sizeof d))
            return error_set(e, STRAND_ERR_ARGUMENT, "the saved state is of this model with other settings (state '%s')",
                             t->name);
        at += sizeof d;
        if (!checked_range(at, padded(d.bytes), bytes - sizeof sum))
            return error_set(e, STRAND_ERR_FORMAT, "the saved state ends too early");
        at += padded(d.bytes);
    }
    return at == bytes - sizeof sum ? STRAND_OK : error_set(e, STRAND_ERR_FORMAT, "the saved state is longer than its states");
}

static strand_status read_row(strand_session *s, int64_t row, const unsigned char *at) {
    for (uint32_t i = 0; i < s->plan->schedule.n_states; i++) {
        saved_state d;
        uint64_t step;
        memcpy(&d, at, sizeof d);
        if (execute_put(s, s->plan->schedule.states[i], (uint64_t)row * row_bytes(state_tensor(s, i), &step), at + sizeof d,
                        d.bytes))
            return s->error.status;
        at += sizeof d + padded(d.bytes);
    }
    return execute_settle(s);
}

strand_status strand_session_load(strand_session *s, int64_t row, const void *data, size_t bytes) {
    saved_header h;
    if (!s || !data) return STRAND_ERR_ARGUMENT;
    if (has_states(s, row) || check_saved(s, data, bytes, &h)) return s->error.status;
    strand_status status = read_row(s, row, (const unsigned char *)data + sizeof h);
    if (status) execute_drain(s);
    s->positions[row] = status ? STATE_LOST : h.position;
    return status;
}

/* Through memory of the host, state by state. */
static strand_status copy_row(strand_session *from, int64_t row, strand_session *to, int64_t to_row, unsigned char *through) {
    for (uint32_t i = 0; i < from->plan->schedule.n_states; i++) {
        uint64_t step, bytes = row_bytes(state_tensor(from, i), &step);
        uint64_t n = describe_state(state_tensor(from, i), from->positions[row]).bytes;
        if (execute_get(from, from->plan->schedule.states[i], (uint64_t)row * bytes, through, n) || execute_settle(from))
            return error_set(&to->error, from->error.status, "%s", from->error.text);
        if (execute_put(to, to->plan->schedule.states[i], (uint64_t)to_row * bytes, through, n) || execute_settle(to))
            return to->error.status;
    }
    return STRAND_OK;
}

strand_status strand_session_copy(strand_session *from, int64_t row, strand_session *to, int64_t to_row) {
    if (!from || !to) return STRAND_ERR_ARGUMENT;
    if (has_states(to, to_row)) return to->error.status;
    if (from->plan->model != to->plan->model)
        return error_set(&to->error, STRAND_ERR_ARGUMENT, "the state is of another model");
    if (has_states(from, row)) return error_set(&to->error, from->error.status, "%s", from->error.text);
    if (from->positions[row] == STATE_LOST)
        return error_set(&to->error, STRAND_ERR_ARGUMENT, "the state was lost in a run that failed: there is nothing to copy");
    if (from == to && row == to_row) return STRAND_OK;
    uint64_t most = 1;
    if (from->plan->schedule.n_states != to->plan->schedule.n_states)
        return error_set(&to->error, STRAND_ERR_ARGUMENT, "the sessions keep different states: their plans have other outputs");
    for (uint32_t i = 0; i < from->plan->schedule.n_states; i++) {
        if (state_tensor(from, i) != state_tensor(to, i))
            return error_set(&to->error, STRAND_ERR_ARGUMENT,
                             "the sessions keep different states: their plans have other outputs");
        uint64_t n = describe_state(state_tensor(from, i), from->positions[row]).bytes;
        if (n > most) most = n;
    }
    const strand_allocator *a = &to->plan->context->allocator;
    unsigned char *through = a->alloc(a->user, (size_t)most, 64);
    if (!through) return error_set(&to->error, STRAND_ERR_MEMORY, "out of memory while copying a state");
    strand_status status = copy_row(from, row, to, to_row, through);
    if (status && from != to) execute_drain(from);
    if (status) execute_drain(to);
    a->free(a->user, through, (size_t)most);
    to->positions[to_row] = status ? STATE_LOST : from->positions[row];
    return status;
}
