/* engine.c - rows of tokens over one or two sessions of a model. See engine.h.
 *
 * Steps run in a session with a row for each text. Prompts run in pieces, for which no logits are made but the last token's:
 * of a single row in the same session, of several in one of their own, row 0, from which the state then moves over.
 * Invariant: a row's logits belong to the last of its tokens, and its state in `step` (or, without states, nothing) to all
 * of them. */
#include "engine.h"
#include "text.h"

#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct row_state {
    int64_t *ids, n, room;
} row_state;

struct engine {
    runtime *rt;
    strand_plan *step_plan, *piece_plan;
    strand_session *step, *piece;
    int64_t rows, piece_length, width;
    const char *output; /* that has the last token's logits */
    int stateful;
    row_state *row;
    float *logits;
};

static int say(const engine *g, const strand_session *s) {
    const char *text = s ? strand_session_error(s) : strand_error(g->rt->context);
    if (interrupted()) return -1;
    complain("%s", *text ? text : "the model could not be run");
    return -1;
}

static int no_memory(void) {
    complain("out of memory");
    return -1;
}

static int open_session(engine *g, int64_t rows, int64_t length, const char *outputs, strand_plan **plan,
                        strand_session **session) {
    strand_session_params params;
    strand_session_params_init(&params);
    params.progress = progress_callback;
    if (runtime_plan(g->rt, rows, length, outputs, plan) != STRAND_OK) return say(g, NULL);
    return strand_session_open(*plan, &params, session) == STRAND_OK ? 0 : say(g, NULL);
}

static int start(engine *g, int64_t rows, int64_t piece) {
    strand_tensor logits;
    if (runtime_output(g->rt, "logits", &logits) < 0 || logits.rank != 3) {
        complain("%s: not a language model: it has no output 'logits' [batch, length, tokens]", g->rt->info.name);
        return -1;
    }
    int64_t most = g->rt->info.max_length > 0 ? g->rt->info.max_length : 1;
    g->stateful = g->rt->info.stateful;
    g->width = logits.dims[2];
    g->output = runtime_output(g->rt, "last_logits", NULL) >= 0 ? "last_logits" : "logits";
    g->rows = rows;
    g->piece_length = piece ? piece : g->stateful ? 256 : most;
    if (g->piece_length > most) g->piece_length = most;
    g->row = calloc((size_t)rows, sizeof *g->row);
    g->logits = calloc((size_t)rows * (size_t)g->width, sizeof *g->logits);
    if (!g->row || !g->logits) return no_memory();
    if (!g->stateful) return 0; /* its session is opened for the length at hand */
    return open_session(g, rows, rows == 1 ? g->piece_length : 1, g->output, &g->step_plan, &g->step);
}

engine *engine_open(runtime *rt, int64_t rows, int64_t piece) {
    engine *g = calloc(1, sizeof *g);
    if (!g) return no_memory(), NULL;
    g->rt = rt;
    if (!start(g, rows, piece)) return g;
    engine_close(g);
    return NULL;
}

void engine_close(engine *g) {
    if (!g) return;
    strand_session_close(g->piece);
    strand_plan_close(g->piece_plan);
    strand_session_close(g->step);
    strand_plan_close(g->step_plan);
    for (int64_t i = 0; g->row && i < g->rows; i++) free(g->row[i].ids);
    free(g->row);
    free(g->logits);
    free(g);
}

int64_t engine_vocabulary(const engine *g) {
    return g->width;
}

int engine_stateful(const engine *g) {
    return g->stateful;
}

const char *engine_model(const engine *g) {
    return strand_model_sha256(g->rt->model);
}

const float *engine_logits(const engine *g, int64_t row) {
    return g->logits + row * g->width;
}

const int64_t *engine_tokens(const engine *g, int64_t row, int64_t *n) {
    *n = g->row[row].n;
    return g->row[row].ids;
}

static int remember(row_state *r, const int64_t *ids, int64_t n) {
    if (r->n + n > r->room) {
        int64_t room = 2 * (r->n + n) + 256;
        int64_t *more = realloc(r->ids, (size_t)room * sizeof *more);
        if (!more) return no_memory();
        r->ids = more;
        r->room = room;
    }
    if (n) memcpy(r->ids + r->n, ids, (size_t)n * sizeof *ids);
    r->n += n;
    return 0;
}

/* ids [rows, n] through a session; *out is its output, which stays until the next run. */
static int run(engine *g, strand_session *s, const int64_t *ids, int64_t rows, int64_t n, const char *name,
               strand_tensor *out) {
    union {
        const int64_t *read;
        void *any;
    } data = {ids};
    const strand_tensor in = {.name = "input_ids",
                              .dtype = STRAND_I64,
                              .rank = 2,
                              .dims = {rows, n},
                              .data = data.any,
                              .bytes = (uint64_t)(rows * n) * 8};
    *out = (strand_tensor){.name = name};
    if (strand_session_run(s, &in, 1, out, 1) != STRAND_OK) return say(g, s);
    if (out->dtype != STRAND_F32) {
        complain("%s: the output '%s' is not F32", g->rt->info.name, name);
        return -1;
    }
    return 0;
}

/* ---- states ---- */

static int move_state(const engine *g, strand_session *from, int64_t row, strand_session *to, int64_t to_row) {
    return strand_session_copy(from, row, to, to_row) == STRAND_OK ? 0 : say(g, to);
}

int engine_reset(engine *g, int64_t row) {
    g->row[row].n = 0;
    if (!g->stateful) return 0;
    return strand_session_reset(g->step, row) == STRAND_OK ? 0 : say(g, g->step);
}

void *engine_save(engine *g, int64_t row, size_t *bytes) {
    *bytes = 0;
    if (!g->stateful) {
        complain("%s: a model without states; there is nothing to save", g->rt->info.name);
        return NULL;
    }
    strand_session_save(g->step, row, NULL, 0, bytes);
    void *data = malloc(*bytes ? *bytes : 1);
    if (!data) return no_memory(), NULL;
    if (strand_session_save(g->step, row, data, *bytes, bytes) == STRAND_OK) return data;
    say(g, g->step);
    free(data);
    return NULL;
}

int engine_load(engine *g, int64_t row, const void *state, size_t bytes, const int64_t *ids, int64_t n) {
    if (!g->stateful) {
        complain("%s: a model without states; none can be loaded", g->rt->info.name);
        return -1;
    }
    if (strand_session_load(g->step, row, state, bytes) != STRAND_OK) return say(g, g->step);
    g->row[row].n = 0;
    return remember(&g->row[row], ids, n);
}

void engine_give(engine *g, int64_t row, const float *logits) {
    memcpy(g->logits + row * g->width, logits, (size_t)g->width * sizeof *logits);
}

int engine_copy(engine *g, int64_t from, int64_t to) {
    if (from == to) return 0;
    if (g->stateful && move_state(g, g->step, from, g->step, to)) return -1;
    memcpy(g->logits + to * g->width, g->logits + from * g->width, (size_t)g->width * sizeof *g->logits);
    g->row[to].n = 0;
    return remember(&g->row[to], g->row[from].ids, g->row[from].n);
}

/* ---- running ---- */

/* The logits of the last token of each of the rows [first, first + n) that have been run. */
static void take_logits(engine *g, const strand_tensor *out, int64_t first, int64_t n) {
    int64_t length = out->rank == 3 ? out->dims[1] : 1;
    for (int64_t i = 0; i < n; i++)
        memcpy(g->logits + (first + i) * g->width, (const float *)out->data + ((i + 1) * length - 1) * g->width,
               (size_t)g->width * sizeof *g->logits);
}

/* A model without states: the whole row again, its end where it is longer than the model takes. */
static int whole(engine *g, int64_t row) {
    row_state *r = &g->row[row];
    int64_t n = r->n, most = g->rt->info.max_length;
    const int64_t *ids = r->ids;
    strand_plan_info info;
    strand_tensor out;
    if (n > most) ids += n - most, n = most;
    if (!g->piece || (strand_plan_get(g->piece_plan, &info) == STRAND_OK && info.max_length < n)) {
        int64_t length = 2 * n < most ? 2 * n : most;
        strand_session_close(g->piece);
        strand_plan_close(g->piece_plan);
        g->piece = NULL;
        g->piece_plan = NULL;
        if (open_session(g, 1, length, g->output, &g->piece_plan, &g->piece)) return -1;
    }
    if (run(g, g->piece, ids, 1, n, g->output, &out)) return -1;
    take_logits(g, &out, row, 1);
    return 0;
}

/* Tokens of one row in pieces. Rows of a session run from its first one on, so of several rows each has its prompts run
 * apart. */
static int feed_pieces(engine *g, int64_t row, const int64_t *ids, int64_t n) {
    int apart = g->rows > 1;
    strand_session *s = g->step;
    strand_tensor out;
    if (apart) {
        if (!g->piece && open_session(g, 1, g->piece_length, g->output, &g->piece_plan, &g->piece)) return -1;
        s = g->piece;
        if (g->row[row].n == 0 && strand_session_reset(s, 0) != STRAND_OK) return say(g, s);
        if (g->row[row].n && move_state(g, g->step, row, s, 0)) return -1;
    }
    for (int64_t at = 0; at < n; at += g->piece_length)
        if (run(g, s, ids + at, 1, n - at < g->piece_length ? n - at : g->piece_length, g->output, &out)) return -1;
    take_logits(g, &out, row, 1);
    return (apart && move_state(g, s, 0, g->step, row)) || remember(&g->row[row], ids, n) ? -1 : 0;
}

int engine_feed(engine *g, int64_t row, const int64_t *ids, int64_t n) {
    if (n <= 0) return 0;
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= g->width)
            return complain("token %lld is none of the model's %lld", (long long)ids[i], (long long)g->width), -1;
    if (g->stateful && g->row[row].n > text_context(g->rt) - n)
        return complain("%s: %lld tokens are more than the context of %lld; --set context=N makes room for more",
                        g->rt->info.name, (long long)(g->row[row].n + n), (long long)text_context(g->rt)),
               -1;
    if (!g->stateful) return remember(&g->row[row], ids, n) || whole(g, row) ? -1 : 0;
    return row == 0 && n == 1 ? engine_step(g, ids, 1) : feed_pieces(g, row, ids, n);
}

int engine_step(engine *g, const int64_t *ids, int64_t n) {
    strand_tensor out;
    if (!g->stateful) {
        for (int64_t i = 0; i < n; i++)
            if (engine_feed(g, i, ids + i, 1)) return -1;
        return 0;
    }
    if (run(g, g->step, ids, n, 1, g->output, &out)) return -1;
    take_logits(g, &out, 0, n);
    for (int64_t i = 0; i < n; i++)
        if (remember(&g->row[i], ids + i, 1)) return -1;
    return 0;
}

double engine_loglik(const float *logits, int64_t n, int64_t next) {
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) most = (double)logits[i] > most ? (double)logits[i] : most;
    for (int64_t i = 0; i < n; i++) sum += exp((double)logits[i] - most);
    return (double)logits[next] - most - log(sum);
}

int engine_run(engine *g, const int64_t *ids, int64_t n, const char *name,
               int (*take)(void *user, int64_t at, int64_t n, const float *values, int64_t width), void *user) {
    strand_plan *plan = NULL;
    strand_session *session = NULL;
    strand_tensor out;
    int64_t length = n < g->piece_length ? n : g->piece_length;
    int bad = open_session(g, 1, length > 0 ? length : 1, name, &plan, &session);
    for (int64_t at = 0; at < n && !bad; at += length) {
        int64_t now = n - at < length ? n - at : length;
        bad = run(g, session, ids + at, 1, now, name, &out) || take(user, at, now, out.data, out.dims[out.rank - 1]);
    }
    strand_session_close(session);
    strand_plan_close(plan);
    return bad ? -1 : 0;
}
