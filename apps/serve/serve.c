/* serve.c - `strand serve`: a language model behind the OpenAI routes. Opens the model and the engine, reads key and
 * template, and leaves the rest to http.c and schedule.c. */
#include "server.h"

#include "commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_TEMPLATE ((size_t)1 << 20)

/* --chat-template; without it the tokenizer's own is taken, else a plain form. */
static int read_template(server *s) {
    const char *path = s->settings->chat_template;
    size_t n;
    if (!path) return 0;
    if (text_read(path, MOST_TEMPLATE, &s->template, &n)) return -1;
    char *text = realloc(s->template, n + 1);
    if (!text) return complain("out of memory"), -1;
    text[n] = 0;
    s->template = text;
    return 0;
}

static int open_server(server *s) {
    const options *o = s->settings;
    s->rows = o->sessions < SERVE_MOST_ROWS ? o->sessions : SERVE_MOST_ROWS;
    s->context = text_context(&s->rt);
    s->prefixes.limit = o->cache;
    s->started = (int64_t)time(NULL);
    s->queue_end = &s->queue;
    s->host = o->host ? o->host : "127.0.0.1";
    s->key = o->api_key ? o->api_key : getenv("STRAND_API_KEY");
    if (s->key && !*s->key) s->key = NULL;
    if (read_template(s)) return EXIT_FAILED;
    if (!s->key && strcmp(s->host, "127.0.0.1") && strcmp(s->host, "::1") && strcmp(s->host, "localhost")) {
        complain("serve: at '%s' other machines can connect: give a key (STRAND_API_KEY or --api-key)", s->host);
        return EXIT_USAGE;
    }
    s->active = calloc((size_t)s->rows, sizeof *s->active);
    if (!s->active) return complain("out of memory"), EXIT_FAILED;
    s->engine = engine_open(&s->rt, s->rows + 1, 0); /* one more for the prompt that is being fed */
    if (!s->engine || runtime_hold(&s->rt, -1)) return EXIT_FAILED;
    if (s->prefixes.limit) strand_model_sha256(s->rt.model); /* states are bound to it: not the first client's to wait for */
    s->vocabulary = engine_vocabulary(s->engine);
    return http_serve(s);
}

int run_serve(const options *settings) {
    server s = {.settings = settings};
    int rc = text_open(&s.rt, settings);
    if (rc) return rc;
    pthread_mutex_init(&s.lock, NULL);
    pthread_mutex_init(&s.tokens, NULL);
    pthread_cond_init(&s.wake, NULL);
    rc = open_server(&s);
    prefix_free(&s.prefixes);
    engine_close(s.engine);
    free(s.active);
    free(s.template);
    pthread_cond_destroy(&s.wake);
    pthread_mutex_destroy(&s.tokens);
    pthread_mutex_destroy(&s.lock);
    runtime_close(&s.rt);
    return rc;
}
