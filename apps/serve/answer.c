/* answer.c - jobs to answers of the OpenAI form: whole ones, the events of a stream, errors, and the list of models. All of it
 * writes to a buffer, whose `failed` says when memory ran out; but for errors and models the server's lock is held. */
#include "server.h"

#include <stdlib.h>
#include <string.h>

void request_error(buffer *out, int status, const char *why) {
    static const struct {
        int status;
        const char *type;
    } types[] = {{400, "invalid_request_error"},
                 {401, "authentication_error"},
                 {403, "permission_error"},
                 {404, "not_found_error"},
                 {429, "rate_limit_error"}};
    const char *type = status >= 500 ? "server_error" : "invalid_request_error";
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].status == status) type = types[i].type;
    buffer_text(out, "{\"error\":{\"message\":");
    buffer_json(out, why, strlen(why));
    buffer_format(out, ",\"type\":\"%s\",\"param\":null,\"code\":null}}", type);
}

static void put_head(buffer *out, const request *r, const char *object) {
    const char *name = r->server->rt.info.name;
    buffer_format(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", r->id, object, (long long)r->created);
    buffer_json(out, name, strlen(name));
}

static void put_usage(buffer *out, const request *r) {
    int64_t prompt = 0, made = 0, reused = 0;
    for (int i = 0; i < r->n; i++) {
        const job *j = r->jobs[i];
        int again = i && j->prompt.n == r->jobs[i - 1]->prompt.n &&
                    !memcmp(j->prompt.ids, r->jobs[i - 1]->prompt.ids, (size_t)j->prompt.n * sizeof *j->prompt.ids);
        if (!again) prompt += j->prompt.n, reused += j->reused;
        made += j->made;
    }
    buffer_format(out, "\"usage\":{\"prompt_tokens\":%lld,", (long long)prompt);
    if (r->kind != JOB_EMBEDDING)
        buffer_format(out, "\"completion_tokens\":%lld,\"prompt_tokens_details\":{\"cached_tokens\":%lld},", (long long)made,
                      (long long)reused);
    buffer_format(out, "\"total_tokens\":%lld}", (long long)(prompt + made));
}

static void embedding_answer(request *r, buffer *out) {
    const char *name = r->server->rt.info.name;
    buffer_text(out, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < r->n; i++) {
        const job *j = r->jobs[i];
        buffer_format(out, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":", i ? "," : "", i);
        float *f = r->base64 ? malloc((size_t)j->width * sizeof *f) : NULL;
        if (f) {
            for (int64_t k = 0; k < j->width; k++) f[k] = (float)j->vector[k];
            buffer_text(out, "\"");
            buffer_base64(out, f, (size_t)j->width * sizeof *f);
            buffer_text(out, "\"}");
            free(f);
        } else {
            for (int64_t k = 0; k < j->width; k++) buffer_format(out, "%s%.9g", k ? "," : "[", j->vector[k]);
            buffer_text(out, "]}");
        }
    }
    buffer_text(out, "],\"model\":");
    buffer_json(out, name, strlen(name));
    buffer_text(out, ",");
    put_usage(out, r);
    buffer_text(out, "}");
}

void request_answer(request *r, buffer *out) {
    if (r->kind == JOB_EMBEDDING) {
        embedding_answer(r, out);
        return;
    }
    int chat = r->kind == JOB_CHAT;
    put_head(out, r, chat ? "chat.completion" : "text_completion");
    buffer_text(out, ",\"choices\":[");
    for (int i = 0; i < r->n; i++) {
        const job *j = r->jobs[i];
        buffer_format(out, "%s{\"index\":%d,", i ? "," : "", i);
        buffer_text(out, chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
        buffer_json(out, j->text.data ? j->text.data : "", j->text.n);
        buffer_format(out, "%s,\"logprobs\":null,\"finish_reason\":\"%s\"}", chat ? ",\"refusal\":null}" : "",
                      j->finish ? j->finish : "stop");
    }
    buffer_text(out, "],");
    put_usage(out, r);
    buffer_text(out, "}");
}

/* One event: a piece of text, or the end of a choice. */
static void put_piece(request *r, buffer *out, int index, const char *text, size_t n, const char *finish, int role) {
    int chat = r->kind == JOB_CHAT;
    buffer_text(out, "data: ");
    put_head(out, r, chat ? "chat.completion.chunk" : "text_completion");
    buffer_format(out, ",\"choices\":[{\"index\":%d,", index);
    buffer_text(out, chat ? "\"delta\":{" : "\"text\":");
    if (role)
        buffer_text(out, "\"role\":\"assistant\",\"content\":");
    else if (chat && !finish)
        buffer_text(out, "\"content\":");
    if (!chat || !finish) buffer_json(out, text, n);
    if (chat) buffer_text(out, "}");
    buffer_text(out, ",\"logprobs\":null,\"finish_reason\":");
    if (finish)
        buffer_format(out, "\"%s\"", finish);
    else
        buffer_text(out, "null");
    buffer_text(out, "}]");
    if (r->usage) buffer_text(out, ",\"usage\":null");
    buffer_text(out, "}\n\n");
}

void request_stream(request *r, buffer *out) {
    int told = 0;
    for (int i = 0; i < r->n && !r->status; i++) {
        job *j = r->jobs[i];
        if (!r->begun && r->kind == JOB_CHAT) put_piece(r, out, i, "", 0, NULL, 1);
        if (j->text.n > j->sent) {
            put_piece(r, out, i, j->text.data + j->sent, j->text.n - j->sent, NULL, 0);
            j->sent = j->text.n;
        }
        if (j->done && !j->told) {
            put_piece(r, out, i, "", 0, j->finish ? j->finish : "stop", 0);
            j->told = 1;
        }
        told += j->told;
    }
    r->begun = 1;
    if (r->status) {
        buffer_text(out, "data: ");
        request_error(out, r->status, r->error);
        buffer_text(out, "\n\n");
    } else if (told < r->n) {
        return;
    } else if (r->usage) {
        buffer_text(out, "data: ");
        put_head(out, r, r->kind == JOB_CHAT ? "chat.completion.chunk" : "text_completion");
        buffer_text(out, ",\"choices\":[],");
        put_usage(out, r);
        buffer_text(out, "}\n\n");
    }
    buffer_text(out, "data: [DONE]\n\n");
    r->ended = 1;
}

void models_answer(server *s, buffer *out) {
    const char *name = s->rt.info.name;
    buffer_text(out, "{\"object\":\"list\",\"data\":[{\"id\":");
    buffer_json(out, name, strlen(name));
    buffer_format(out,
                  ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"strand\",\"strand\":{\"family\":\"%s\","
                  "\"chat\":%s,\"vocabulary\":%lld",
                  (long long)s->started, s->rt.info.family,
                  s->template || strand_tokenizer_fact(s->rt.model, "chat_template") ? "true" : "false",
                  (long long)s->vocabulary);
    if (s->context != INT64_MAX) buffer_format(out, ",\"context\":%lld", (long long)s->context);
    buffer_text(out, "}}]}");
}
