/* text.c - prompts and tokens of the text commands. See text.h. */
#include "text.h"

#include "progress.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int text_ids_add(text_ids *t, const int64_t *ids, int64_t n) {
    if (t->n + n > t->room) {
        int64_t room = 2 * (t->n + n) + 64;
        int64_t *more = realloc(t->ids, (size_t)room * sizeof *more);
        if (!more) return complain("out of memory"), -1;
        t->ids = more;
        t->room = room;
    }
    if (n) memcpy(t->ids + t->n, ids, (size_t)n * sizeof *ids);
    t->n += n;
    return 0;
}

void text_ids_free(text_ids *t) {
    free(t->ids);
    *t = (text_ids){0};
}

int text_encode(const runtime *rt, const char *text, size_t n, uint32_t flags, text_ids *out) {
    size_t count = 0, room = n / 2 + 16;
    for (;;) {
        int64_t *ids = malloc(room * sizeof *ids);
        if (!ids) return complain("out of memory"), -1;
        if (strand_encode(rt->model, text, n, flags, ids, room, &count) != STRAND_OK) {
            free(ids);
            return complain("%s", strand_error(rt->context)), -1;
        }
        int bad = count <= room ? text_ids_add(out, ids, (int64_t)count) : 0;
        free(ids);
        if (count <= room) return bad;
        room = count;
    }
}

int text_prompt(const runtime *rt, const char *text, size_t n, uint32_t flags, text_ids *out) {
    static const char *const starts[] = {"bos", "eos", "<|endoftext|>"};
    int64_t begun = out->n, id = -1;
    if (text_encode(rt, text, n, flags | STRAND_ENCODE_BEGIN, out)) return -1;
    for (size_t i = 0; i < 3 && out->n == begun && id < 0; i++) id = strand_special_token(rt->model, starts[i]);
    if (out->n == begun && id >= 0) return text_ids_add(out, &id, 1);
    return out->n > begun ? 0 : text_encode(rt, "\n", 1, 0, out); /* a text has to begin somewhere: with an empty line */
}

int text_read(const char *path, size_t most, char **text, size_t *n) {
    int standard = !strcmp(path, "-");
    FILE *f = standard ? stdin : fopen(path, "rb");
    size_t room = 65536, have = 0, got;
    *text = NULL;
    if (!f) return complain("%s: cannot be opened: %s", path, strerror(errno)), -1;
    char *data = malloc(room);
    if (standard) signals_waiting(1);
    while (data && (got = fread(data + have, 1, room - have, f)) > 0) {
        have += got;
        if (have > most || interrupted()) break;
        if (have < room) continue;
        char *more = realloc(data, room *= 2);
        if (!more) free(data);
        data = more;
    }
    if (standard) signals_waiting(0);
    int bad = ferror(f), code = errno;
    if (!standard) fclose(f);
    if (!data) return complain("out of memory"), -1;
    if (bad || have > most || interrupted()) {
        free(data);
        if (bad) complain("%s: cannot be read: %s", path, strerror(code));
        if (!bad && have > most) complain("%s: longer than %zu bytes", path, most);
        return -1;
    }
    *text = data;
    *n = have;
    return 0;
}

int64_t text_context(const runtime *rt) {
    const char *key, *value;
    for (int32_t i = 0; strand_model_setting(rt->model, i, &key, &value) == STRAND_OK; i++)
        if (!strcmp(key, "context")) return strtoll(value, NULL, 10);
    return rt->info.stateful ? INT64_MAX : rt->info.max_length;
}

int text_open(runtime *rt, const options *settings) {
    int rc = runtime_open(rt, settings, settings->model ? settings->model : TEXT_MODEL);
    if (rc) return rc;
    int64_t vocabulary = strand_token_count(rt->model);
    if (vocabulary || strand_tokenize(rt->model, "", 0, NULL, 0, &(size_t){0}) == STRAND_OK) return 0;
    complain("%s: %s", rt->info.name, strand_error(rt->context));
    runtime_close(rt);
    return EXIT_FAILED;
}

int text_rule(const options *s, sample_rule *rule) {
    *rule = (sample_rule){.temperature = s->temperature,
                          .top_k = s->top_k,
                          .top_p = s->top_p,
                          .min_p = s->min_p,
                          .repeat = s->repeat_penalty,
                          .presence = s->presence_penalty,
                          .frequency = s->frequency_penalty,
                          .last = s->repeat_last,
                          .seed = (uint64_t)s->seed};
    const char *wrong = sample_rule_wrong(rule);
    if (wrong) complain("%s", wrong);
    return wrong ? EXIT_USAGE : 0;
}
