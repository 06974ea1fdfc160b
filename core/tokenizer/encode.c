/* encode.c - text into ids: added tokens are found first, what lies between them goes through the steps and the algorithm;
 * and ids into text, whole or as a stream that never gives half a character. */
#include "text.h"

#include <string.h>

#include "../utf8.h"

void encode_unknown(const text_tokenizer *t, const char *text, size_t n, id_list *out, bool *last_unknown) {
    bool bytes = t->byte_fallback || t->byte_level;
    for (size_t i = 0; i < n && bytes; i++) bytes = t->byte_level || t->byte_ids[(unsigned char)text[i]] != NO_TOKEN;
    if (bytes) {
        for (size_t i = 0; i < n; i++)
            if (t->byte_ids[(unsigned char)text[i]] != NO_TOKEN) id_add(out, t->byte_ids[(unsigned char)text[i]]);
        *last_unknown = false;
        return;
    }
    if (t->unknown != NO_TOKEN && !(*last_unknown && t->fuse_unknown)) id_add(out, t->unknown);
    *last_unknown = true;
}

static strand_status encode_piece(const text_tokenizer *t, arena *scratch, const char *text, size_t n, id_list *out, error *e) {
    switch (t->model) {
    case TEXT_BPE:
        return bpe_encode(t, scratch, text, n, out, e);
    case TEXT_PIECES:
        return pieces_encode(t, scratch, text, n, out, e);
    case TEXT_UNIGRAM:
        return unigram_encode(t, scratch, text, n, out, e);
    case TEXT_WORDPIECE:
        return wordpiece_encode(t, scratch, text, n, out, e);
    case TEXT_GREEDY:
        return greedy_encode(t, text, n, out);
    default:
        break;
    }
    for (size_t i = 0; i < n; i++)
        if (t->byte_ids[(unsigned char)text[i]] != NO_TOKEN) id_add(out, t->byte_ids[(unsigned char)text[i]]);
    return STRAND_OK;
}

/* A stretch without added tokens. `first`: no token stands before it. */
static strand_status encode_stretch(const text_tokenizer *t, const strand_allocator *allocator, const char *text, size_t n,
                                    bool first, id_list *out, error *e) {
    if (!n) return STRAND_OK;
    arena scratch, small;
    arena_init(&scratch, allocator);
    arena_init(&small, allocator);
    pieces p = {.scratch = &scratch, .length = n};
    p.text = arena_string(&scratch, text, n);
    strand_status status = p.text ? steps_run(t, &p, first, e)
                                  : error_set(e, STRAND_ERR_MEMORY, "out of memory while cutting %zu bytes into tokens", n);
    if (!status && !p.list) status = encode_piece(t, &scratch, p.text, p.length, out, e);
    for (size_t i = 0; !status && p.list && i < p.n; i++) {
        status = encode_piece(t, &small, p.text + p.list[i].at, p.list[i].length, out, e);
        if (small.used > (size_t)1 << 20) arena_release(&small);
    }
    arena_release(&small);
    arena_release(&scratch);
    return status;
}

/* The added token at text[0], the longest; NO_TOKEN: none. */
static uint32_t added_here(const text_tokenizer *t, const char *text, size_t n, bool special) {
    unsigned char first = (unsigned char)text[0];
    for (uint32_t i = t->added_at[first]; i < t->added_at[first + 1]; i++) {
        const token *x = &t->tokens[t->added[i]];
        if (!special && (x->flags & TOKEN_SPECIAL)) continue;
        if (x->length <= n && !memcmp(x->text, text, x->length)) return t->added[i];
    }
    return NO_TOKEN;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static strand_status encode_text(const text_tokenizer *t, const strand_allocator *allocator, const char *text, size_t n,
                                 uint32_t flags, id_list *out, error *e) {
    size_t from = 0;
    bool first = true;
    for (size_t at = 0; at < n;) {
        uint32_t id = added_here(t, text + at, n - at, flags & STRAND_ENCODE_SPECIAL);
        if (id == NO_TOKEN) {
            at++;
            continue;
        }
        const token *x = &t->tokens[id];
        size_t end = at, next = at + x->length;
        if (x->flags & TOKEN_LSTRIP)
            while (end > from && is_space(text[end - 1])) end--;
        if (x->flags & TOKEN_RSTRIP)
            while (next < n && is_space(text[next])) next++;
        strand_status status = encode_stretch(t, allocator, text + from, end - from, first, out, e);
        if (status) return status;
        id_add(out, id);
        first = false;
        at = from = next;
    }
    return encode_stretch(t, allocator, text + from, n - from, first, out, e);
}

strand_status tokenizer_encode(const tokenizer *t, const strand_allocator *allocator, const char *text, size_t bytes,
                               uint32_t flags, int64_t *ids, size_t capacity, size_t *count, error *e) {
    id_list out = {ids, capacity, 0};
    const text_tokenizer *x = t->text;
    if (!x) {
        for (size_t i = 0; i < bytes && i < capacity; i++) ids[i] = t->id_of[(unsigned char)text[i]];
        *count = bytes;
        return STRAND_OK;
    }
    if ((flags & STRAND_ENCODE_BEGIN) && x->add_bos && x->bos != NO_TOKEN) id_add(&out, x->bos);
    strand_status status = encode_text(x, allocator, text, bytes, flags, &out, e);
    if ((flags & STRAND_ENCODE_END) && x->add_eos && x->eos != NO_TOKEN) id_add(&out, x->eos);
    *count = out.count;
    return status;
}

/* ---- back ---- */

static const token *token_at(const tokenizer *t, int64_t id) {
    return t->text && id >= 0 && id < (int64_t)t->text->n ? &t->text->tokens[id] : NULL;
}

const char *tokenizer_text(const tokenizer *t, int64_t id, size_t *length) {
    const token *x = token_at(t, id);
    const char *text = x                                                    ? (x->flags & TOKEN_SPECIAL ? "" : x->text)
                       : !t->text && t->text_of && id >= 0 && id < t->n_ids ? t->text_of[id]
                                                                            : "";
    if (length) *length = x && text == x->text ? x->length : strlen(text);
    return text;
}

const char *tokenizer_name(const tokenizer *t, int64_t id) {
    const token *x = token_at(t, id);
    for (int32_t i = 0; i < t->n_specials; i++)
        if (t->specials[i].id == id) return t->specials[i].name;
    return x && (x->flags & (TOKEN_SPECIAL | TOKEN_UNKNOWN)) ? x->text : NULL;
}

uint32_t tokenizer_flags(const tokenizer *t, int64_t id) {
    const token *x = token_at(t, id);
    if (!x) return tokenizer_name(t, id) ? STRAND_TOKEN_SPECIAL : 0;
    return (x->flags & TOKEN_SPECIAL ? STRAND_TOKEN_SPECIAL : 0u) | (x->flags & TOKEN_END ? STRAND_TOKEN_END : 0u) |
           (x->flags & TOKEN_UNKNOWN ? STRAND_TOKEN_UNKNOWN : 0u);
}

int64_t tokenizer_special_id(const tokenizer *t, const char *name) {
    for (int32_t i = 0; i < t->n_specials; i++)
        if (!strcmp(t->specials[i].name, name)) return t->specials[i].id;
    const text_tokenizer *x = t->text;
    if (!x) return -1;
    uint32_t id = vocab_named(x, name);
    if (id == NO_TOKEN)
        id = !strcmp(name, "bos") ? x->bos : !strcmp(name, "eos") ? x->eos : !strcmp(name, "unk") ? x->unknown : NO_TOKEN;
    return id == NO_TOKEN ? -1 : (int64_t)id;
}

const char *tokenizer_fact(const tokenizer *t, const char *key) {
    if (!t->text) return NULL;
    const text_tokenizer *x = t->text;
    static const char *const models[] = {"bytes", "byte-pair", "sentencepiece", "unigram", "wordpiece", "greedy"};
    if (!strcmp(key, "chat_template")) return x->chat_template;
    if (!strcmp(key, "model")) return models[x->model];
    if (!strcmp(key, "path")) return x->path;
    if (!strcmp(key, "add_bos")) return x->add_bos ? "true" : "false";
    return NULL;
}

/* Whole characters of d->pending go out; bytes that no character can begin with become U+FFFD, those that may still become
 * one wait, unless this is the `end`. */
static size_t drain(strand_decoder *d, bool end, char *text, size_t capacity) {
    size_t n = 0, at = 0;
    while (at < d->n_pending && n + 4 <= capacity) {
        const unsigned char *c = d->pending + at;
        size_t left = d->n_pending - at, length = utf8_length(c, left);
        if (!length) {
            size_t want = *c >= 0xF0 && *c <= 0xF4 ? 4 : *c >= 0xE0 ? 3 : 2;
            bool may = *c >= 0xC2 && *c <= 0xF4 && left < want;
            for (size_t i = 1; i < left && may; i++) may = (c[i] & 0xC0) == 0x80;
            if (may && left > 1)
                may = !((*c == 0xE0 && c[1] < 0xA0) || (*c == 0xED && c[1] > 0x9F) || (*c == 0xF0 && c[1] < 0x90) ||
                        (*c == 0xF4 && c[1] > 0x8F));
            if (may && !end) break;
            memcpy(text + n, "\xEF\xBF\xBD", 3);
            n += 3;
            at += may ? left : 1;
            continue;
        }
        memcpy(text + n, c, length);
        n += length;
        at += length;
    }
    d->n_pending -= (uint32_t)at;
    memmove(d->pending, d->pending + at, d->n_pending);
    return n;
}

size_t tokenizer_decode(const tokenizer *t, strand_decoder *d, int64_t id, char *text, size_t capacity) {
    size_t length, n = 0;
    const char *bytes = tokenizer_text(t, id, &length);
    const text_tokenizer *x = t->text;
    if (id >= 0 && x && !d->started && length) {
        if (x->strip_start && bytes[0] == ' ') bytes++, length--;
        d->started = 1;
    } else if (id >= 0 && x && x->model == TEXT_WORDPIECE && length) {
        size_t mark = strlen(x->continuing);
        if (mark && !strncmp(bytes, x->continuing, mark))
            bytes += mark, length -= mark;
        else if (n < capacity && bytes[0])
            text[n++] = ' ';
    }
    for (size_t i = 0; i < length; i++) {
        if (d->n_pending == sizeof d->pending) n += drain(d, false, text + n, capacity - n);
        if (d->n_pending == sizeof d->pending) break;
        d->pending[d->n_pending++] = (unsigned char)bytes[i];
        n += drain(d, false, text + n, capacity - n);
    }
    return n + drain(d, id < 0, text + n, capacity - n);
}
