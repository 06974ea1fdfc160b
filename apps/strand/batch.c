/* batch.c - runs many sequences of any lengths through the model. See batch.h.
 */
#include "batch.h"

#include "progress.h"

#include <stdlib.h>
#include <string.h>

/* Tokens that run together unless --batch says otherwise: enough to fill the matrix products of short windows, little enough
 * to stay in a cache. */
enum { AUTO_TOKENS = 4096, SHORTEST_CLASS = 256, MAX_SLOTS = 32 };

typedef struct slot {
    strand_plan *plan;
    strand_session *session;
    int64_t batch, length;
} slot;

struct batch_runner {
    runtime *rt;
    const char *output;
    int per_position;
    slot slots[MAX_SLOTS];
    int64_t *ids, ids_room;
    int64_t *order, order_room;
};

static void slot_close(slot *s) {
    if (s->session) strand_session_close(s->session);
    if (s->plan) strand_plan_close(s->plan);
    memset(s, 0, sizeof *s);
}

batch_runner *batch_open(runtime *rt, const char *output) {
    strand_tensor shape;
    if (runtime_output(rt, output, &shape) < 0) {
        complain("%s: the model has no output '%s'%s; 'strand inspect' lists its outputs", rt->info.path, output,
                 !strcmp(output, "class_logits") ? " (no classification head)" : "");
        return NULL;
    }
    batch_runner *runner = calloc(1, sizeof *runner);
    if (!runner) return complain("out of memory"), NULL;
    runner->rt = rt;
    runner->output = output;
    for (int32_t i = 0; i < shape.rank; i++)
        if (shape.dims[i] == STRAND_DIM_LENGTH) runner->per_position = 1;
    return runner;
}

void batch_close(batch_runner *runner) {
    if (!runner) return;
    for (int i = 0; i < MAX_SLOTS; i++) slot_close(&runner->slots[i]);
    free(runner->ids);
    free(runner->order);
    free(runner);
}

static int slot_open(batch_runner *runner, slot *s, int64_t length) {
    runtime *rt = runner->rt;
    const int64_t wanted = rt->settings->batch;
    s->length = length;
    s->batch = wanted ? wanted : length >= AUTO_TOKENS ? 1 : AUTO_TOKENS / length;
    strand_status status = runtime_plan(rt, s->batch, length, runner->output, &s->plan);
    if (status == STRAND_ERR_LIMIT && !wanted && s->batch > 1) {
        s->batch = 1;
        status = runtime_plan(rt, 1, length, runner->output, &s->plan);
    }
    if (status == STRAND_OK) {
        strand_session_params params;
        strand_session_params_init(&params);
        params.check_finite = 1;
        params.progress = progress_callback;
        status = strand_session_open(s->plan, &params, &s->session);
        if (status != STRAND_OK) s->session = NULL;
    } else
        s->plan = NULL;
    if (status == STRAND_OK) return 0;
    complain("%s", strand_error(rt->context));
    slot_close(s);
    return -1;
}

static slot *slot_for(batch_runner *runner, int64_t length) {
    const int64_t most = runner->rt->info.max_length;
    int64_t capacity = SHORTEST_CLASS;
    int index = 0;
    while (capacity < length && index < MAX_SLOTS - 1) {
        capacity *= 4;
        index++;
    }
    if (capacity > most && length <= most) capacity = most;
    slot *s = &runner->slots[index];
    if (s->session) return s;
    if (runner->rt->settings->memory)
        for (int i = 0; i < MAX_SLOTS; i++) slot_close(&runner->slots[i]);
    return slot_open(runner, s, capacity) ? NULL : s;
}

int batch_prepare(batch_runner *runner, int64_t length) {
    return slot_for(runner, length) ? 0 : -1;
}

static int room_for(batch_runner *runner, int64_t ids, int64_t order) {
    if (ids > runner->ids_room) {
        int64_t *block = realloc(runner->ids, (size_t)ids * sizeof *block);
        if (!block) return complain("out of memory"), -1;
        runner->ids = block;
        runner->ids_room = ids;
    }
    if (order > runner->order_room) {
        int64_t *block = realloc(runner->order, (size_t)order * sizeof *block);
        if (!block) return complain("out of memory"), -1;
        runner->order = block;
        runner->order_room = order;
    }
    return 0;
}

static const batch_item *sort_items; /* qsort has no user pointer */

static int by_length(const void *a, const void *b) {
    const int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
    const int64_t x = sort_items[i].length, y = sort_items[j].length;
    return x != y ? (x < y ? -1 : 1) : (i < j ? -1 : i > j);
}

static int shape_is_right(const batch_runner *runner, const strand_tensor *out, int64_t n, int64_t length) {
    const int32_t rank = runner->per_position ? 3 : 2;
    if (out->dtype == STRAND_F32 && out->rank == rank && out->dims[0] == n && (rank == 2 || out->dims[1] == length)) return 1;
    complain("%s: the output '%s' has a shape or type that this command cannot use", runner->rt->info.name, runner->output);
    return 0;
}

/* Items order[0..n), all of one length. */
static int run_equal(batch_runner *runner, slot *s, const batch_item *items, const int64_t *order, int64_t n,
                     batch_reduce reduce, void *user) {
    const int64_t length = items[order[0]].length;
    for (int64_t i = 0; i < n; i++)
        for (int64_t t = 0; t < length; t++) runner->ids[i * length + t] = items[order[i]].ids[t];
    strand_tensor in = {"input_ids", STRAND_I64, 2, {n, length}, runner->ids, (uint64_t)(n * length) * sizeof *runner->ids};
    strand_tensor out = {.name = runner->output};
    strand_session_reset(s->session, -1); /* each window is a sequence of its own */
    const strand_status status = strand_session_run(s->session, &in, 1, &out, 1);
    if (status == STRAND_ERR_NUMERIC && n > 1) { /* one by one, to name the record */
        for (int64_t i = 0; i < n; i++)
            if (run_equal(runner, s, items, order + i, 1, reduce, user)) return -1;
        return 0;
    }
    if (status != STRAND_OK) {
        if (!interrupted()) complain("%s: %s", items[order[0]].label, strand_session_error(s->session));
        return -1;
    }
    if (!shape_is_right(runner, &out, n, length)) return -1;
    const int64_t width = out.dims[out.rank - 1], stride = runner->per_position ? length * width : width;
    const float *values = out.data;
    for (int64_t i = 0; i < n; i++) reduce(user, &items[order[i]], values + i * stride, width);
    progress_add("bases", (double)(n * length));
    return 0;
}

int batch_run(batch_runner *runner, const batch_item *items, int64_t n, batch_reduce reduce, void *user) {
    if (room_for(runner, 0, n)) return -1;
    for (int64_t i = 0; i < n; i++) runner->order[i] = i;
    sort_items = items;
    if (n) qsort(runner->order, (size_t)n, sizeof *runner->order, by_length);
    for (int64_t i = 0; i < n;) {
        const int64_t length = items[runner->order[i]].length;
        slot *s = slot_for(runner, length);
        if (!s || interrupted()) return -1;
        int64_t m = 1;
        while (m < s->batch && i + m < n && items[runner->order[i + m]].length == length) m++;
        if (room_for(runner, m * length, 0) || run_equal(runner, s, items, runner->order + i, m, reduce, user)) return -1;
        i += m;
    }
    return 0;
}
