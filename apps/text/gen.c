/* gen.c - generation of several texts as one batch. See gen.h. */
#include "gen.h"

#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void gen_begin(gen *t) {
    memset(&t->decoder, 0, sizeof t->decoder);
    t->decoder.started = t->goes_on;
    t->held = NULL;
    t->n_held = t->held_room = 0;
    t->made = 0;
    t->next = -1;
    t->finish = NULL;
    t->failed = 0;
}

void gen_end(gen *t) {
    sampler_free(&t->sampler);
    grammar_state_free(t->grammar);
    t->grammar = NULL;
    free(t->held);
    t->held = NULL;
}

static int hold(gen *t, const char *text, size_t n) {
    if (t->n_held + n > t->held_room) {
        size_t room = 2 * (t->n_held + n) + 64;
        char *more = realloc(t->held, room);
        if (!more) return complain("out of memory"), -1;
        t->held = more;
        t->held_room = room;
    }
    if (n) memcpy(t->held + t->n_held, text, n);
    t->n_held += n;
    return 0;
}

static int give(gen *t, size_t n) {
    int bad = n ? t->emit(t->user, t->held, n) : 0;
    t->n_held -= n;
    if (t->n_held) memmove(t->held, t->held + n, t->n_held);
    return bad;
}

/* Where the first stop string begins, or SIZE_MAX; *wait: from where on the text may still become one. */
static size_t find_stop(const gen *t, size_t *wait) {
    size_t first = SIZE_MAX;
    *wait = t->n_held;
    for (int i = 0; i < t->n_stops; i++) {
        size_t n = strlen(t->stops[i]);
        for (size_t at = 0; n && at < t->n_held; at++) {
            size_t left = t->n_held - at, same = left < n ? left : n;
            if (memcmp(t->held + at, t->stops[i], same)) continue;
            if (same == n && at < first) first = at;
            if (same < n && at < *wait) *wait = at;
            break;
        }
    }
    return first;
}

/* Gives what is settled; sets finish at a stop string. */
static int settle(gen *t, int end) {
    size_t wait, stop = find_stop(t, &wait);
    if (stop != SIZE_MAX) {
        t->n_held = stop;
        t->finish = "stop";
        return give(t, t->n_held);
    }
    return give(t, end ? t->n_held : wait);
}

static int take_text(gen *t, int64_t id) {
    size_t length;
    strand_token_bytes(t->rt->model, id, &length);
    char small[512], *text = 3 * length + 64 <= sizeof small ? small : malloc(3 * length + 64);
    if (!text) return complain("out of memory"), -1;
    size_t n = strand_decode(t->rt->model, &t->decoder, id, text, 3 * length + 64);
    int bad = hold(t, text, n);
    if (text != small) free(text);
    return bad;
}

static int finish(gen *t, const char *why) {
    char text[64];
    size_t n = strand_decode(t->rt->model, &t->decoder, -1, text, sizeof text);
    if (hold(t, text, n)) return -1;
    if (!t->finish) t->finish = why;
    if (settle(t, 1)) t->failed = 1;
    return 0;
}

static int is_end(const gen *t, int64_t id) {
    return !t->ignore_end && (strand_token_flags(t->rt->model, id) & STRAND_TOKEN_END);
}

/* A grammar's say: the end where it may end, else bytes that go on within it. */
static int allowed(void *user, int64_t id) {
    gen *t = user;
    size_t n;
    if (strand_token_flags(t->rt->model, id) & STRAND_TOKEN_END) return grammar_may_end(t->grammar);
    const char *bytes = strand_token_bytes(t->rt->model, id, &n);
    return n && grammar_allows(t->grammar, bytes, n);
}

int gen_pick(gen *t, engine *g) {
    int64_t n_ids;
    const int64_t *ids = engine_tokens(g, t->row, &n_ids);
    if (t->made == t->most) return finish(t, "length");
    if (n_ids >= t->context) return finish(t, "length");
    const float *logits = engine_logits(g, t->row);
    int64_t id = sampler_next(&t->sampler, logits, engine_vocabulary(g), ids, n_ids, t->grammar ? allowed : NULL, t);
    if (id == -1) return complain("out of memory"), -1;
    if (id == -2 && t->grammar) return finish(t, "stop"); /* the grammar has no more to say */
    if (id < 0) return complain("%s: every logit is NaN or minus infinity", t->rt->info.name), -1;
    if (is_end(t, id) || (t->grammar && (strand_token_flags(t->rt->model, id) & STRAND_TOKEN_END))) {
        t->next = id;
        return finish(t, "stop");
    }
    t->next = id;
    t->made++;
    size_t n;
    const char *bytes = strand_token_bytes(t->rt->model, id, &n);
    if (t->grammar && grammar_accept(t->grammar, bytes, n)) return complain("the grammar grew too large"), -1;
    if (take_text(t, id)) return -1;
    if (settle(t, 0)) t->failed = 1;
    if (t->grammar && !t->finish && grammar_must_end(t->grammar)) return finish(t, "stop");
    if (!t->finish && t->made == t->most) return finish(t, "length"); /* the last token need not be run */
    return 0;
}

int gen_run(gen *const *list, int64_t n, engine *g) {
    gen **live = malloc((size_t)(n ? n : 1) * sizeof *live);
    int64_t *ids = malloc((size_t)(n ? n : 1) * sizeof *ids), count = 0;
    int bad = live && ids ? 0 : (complain("out of memory"), -1);
    for (int64_t i = 0; i < n && !bad; i++) {
        bad = gen_pick(list[i], g);
        live[count++] = list[i];
    }
    while (!bad) {
        for (int64_t i = 0; i < count && !bad;) { /* the last one moves into the row of one that is done */
            if (!live[i]->finish && !live[i]->failed) {
                i++;
                continue;
            }
            count--;
            if (i < count) {
                bad = engine_copy(g, live[count]->row, live[i]->row);
                live[count]->row = live[i]->row;
                live[i] = live[count];
            }
        }
        if (bad || !count) break;
        for (int64_t i = 0; i < count; i++) ids[live[i]->row] = live[i]->next;
        bad = engine_step(g, ids, count) || interrupted() ? -1 : 0;
        for (int64_t i = 0; i < count && !bad; i++) live[i]->next = -1, bad = gen_pick(live[i], g);
    }
    free(live);
    free(ids);
    return bad;
}
