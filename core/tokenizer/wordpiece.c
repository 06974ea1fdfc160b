/* wordpiece.c - one word into its longest beginnings from the left (BERT), and any text into the longest tokens (RWKV). A
 * word of which a part has no token, or that is longer than max_word characters, is one unknown token. */
#include "text.h"

#include <string.h>

#include "../utf8.h"

static size_t count_characters(const char *text, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

strand_status wordpiece_encode(const text_tokenizer *t, arena *scratch, const char *text, size_t n, id_list *out, error *e) {
    size_t mark = strlen(t->continuing), begun = out->count, at = 0;
    if (!n) return STRAND_OK;
    bool whole = count_characters(text, n) <= t->max_word;
    char *word = whole ? arena_alloc(scratch, mark + n, 1) : NULL;
    if (whole && !word) return error_set(e, STRAND_ERR_MEMORY, "out of memory while cutting %zu bytes into tokens", n);
    if (whole) memcpy(word, t->continuing, mark);
    while (whole && at < n) {
        size_t end = n, before = at ? mark : 0;
        uint32_t id = NO_TOKEN;
        if (end - at + before > t->max_length) end = at + t->max_length - (before < t->max_length ? before : t->max_length);
        for (; end > at; end--) {
            if (end < n && ((unsigned char)text[end] & 0xC0) == 0x80) continue;
            memcpy(word + mark, text + at, end - at);
            id = vocab_find(t, word + mark - before, before + end - at);
            if (id != NO_TOKEN) break;
        }
        if (id == NO_TOKEN)
            whole = false;
        else
            id_add(out, id), at = end;
    }
    if (whole) return STRAND_OK;
    out->count = begun;
    if (t->unknown != NO_TOKEN) id_add(out, t->unknown);
    return STRAND_OK;
}

strand_status greedy_encode(const text_tokenizer *t, const char *text, size_t n, id_list *out) {
    bool unknown = false;
    for (size_t at = 0; at < n;) {
        size_t most = n - at > 1 ? t->longest[(unsigned char)text[at] << 8 | (unsigned char)text[at + 1]] : 1;
        if (most > n - at) most = n - at;
        if (!most) most = 1;
        uint32_t id = NO_TOKEN;
        while (most && (id = vocab_find(t, text + at, most)) == NO_TOKEN) most--;
        if (id == NO_TOKEN) {
            encode_unknown(t, text + at, 1, out, &unknown);
            at++;
        } else {
            id_add(out, id);
            at += most;
            unknown = false;
        }
    }
    return STRAND_OK;
}
