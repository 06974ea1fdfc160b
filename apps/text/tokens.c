/* tokens.c - `strand text tokenize` and `detokenize`: text to ids and back, for people and for pipes. */
#include "text.h"

#include "commands.h"
#include "escape.h"
#include "output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT_BYTES ((size_t)1 << 30)

/* A token as one cell: what would break a line or is no text is escaped as in C. */
void write_token(output *out, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '\n')
            output_printf(out, "\\n");
        else if (c == '\t')
            output_printf(out, "\\t");
        else if (c == '\\')
            output_printf(out, "\\\\");
        else if (c < 32 || c == 127)
            output_printf(out, "\\x%02x", c);
        else
            output_write(out, bytes + i, 1);
    }
}

static int tokenize(runtime *rt, output *out, const char *text, size_t n) {
    const options *s = rt->settings;
    text_ids ids = {0};
    int bad = text_encode(rt, text, n, (s->special ? STRAND_ENCODE_SPECIAL : 0) | (s->bounds ? STRAND_ENCODE_BOUNDS : 0), &ids);
    for (int64_t i = 0; i < ids.n && !bad; i++) {
        if (!s->token_rows) {
            bad = output_printf(out, "%s%lld", i ? " " : "", (long long)ids.ids[i]);
            continue;
        }
        size_t length;
        const char *bytes = strand_token_bytes(rt->model, ids.ids[i], &length),
                   *name = strand_token_name(rt->model, ids.ids[i]);
        output_printf(out, "%lld\t", (long long)ids.ids[i]);
        write_token(out, name ? name : bytes, name ? strlen(name) : length);
        bad = output_printf(out, "\n");
    }
    if (!bad && !s->token_rows) bad = output_printf(out, "\n");
    text_ids_free(&ids);
    return bad;
}

static int detokenize(runtime *rt, output *out, const char *text, size_t n) {
    strand_decoder d = {0};
    int64_t count = strand_token_count(rt->model);
    for (size_t at = 0; at < n;) {
        if (strchr(" \t\r\n,", text[at])) {
            at++;
            continue;
        }
        int64_t id = 0;
        size_t from = at;
        while (at < n && text[at] >= '0' && text[at] <= '9' && id < count) id = id * 10 + (text[at++] - '0');
        if (at == from || id >= count || (at < n && !strchr(" \t\r\n,", text[at])))
            return complain("'%.*s' is none of the ids 0 to %lld", (int)(n - from < 20 ? n - from : 20), text + from,
                            (long long)count - 1),
                   -1;
        size_t length;
        const char *bytes = strand_token_bytes(rt->model, id, &length);
        if (rt->settings->raw) {
            if (output_write(out, bytes, length)) return -1;
            continue;
        }
        char *room = malloc(3 * length + 64);
        if (!room) return complain("out of memory"), -1;
        size_t made = strand_decode(rt->model, &d, id, room, 3 * length + 64);
        int bad = output_write(out, room, made);
        free(room);
        if (bad) return -1;
    }
    char last[64];
    return output_write(out, last, strand_decode(rt->model, &d, -1, last, sizeof last));
}

static int run(const options *settings, int (*what)(runtime *rt, output *out, const char *text, size_t n)) {
    runtime rt;
    char *text = NULL;
    size_t n = 0;
    int rc = text_open(&rt, settings);
    if (rc) return rc;
    rc = EXIT_FAILED;
    if (settings->prompts.n || !text_read(settings->n_args ? settings->args[0] : "-", MAX_TEXT_BYTES, &text, &n)) {
        output *out = output_open(settings->output);
        int bad = !out;
        for (int i = 0; i < settings->prompts.n && !bad; i++)
            bad = what(&rt, out, settings->prompts.items[i], strlen(settings->prompts.items[i]));
        if (!bad && text) bad = what(&rt, out, text, n);
        rc = out && !output_close(out, !bad) && !bad ? EXIT_DONE : EXIT_FAILED;
    }
    free(text);
    runtime_close(&rt);
    return rc;
}

int run_text_tokenize(const options *settings) {
    return run(settings, tokenize);
}

int run_text_detokenize(const options *settings) {
    return run(settings, detokenize);
}
