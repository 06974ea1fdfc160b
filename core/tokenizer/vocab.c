/* vocab.c - the tokens of a text tokenizer by id and by text, and the merges of byte-pair encoding.
 *
 * Both are found by open addressing in tables that are at most half full. Tokens that text must not be cut into by itself
 * (special, unknown, byte fall-back) have no entry. Of two tokens with one text the first counts, as in other readers. */
#include "text.h"

#include <string.h>

#include "../sort.h"
#include "../utf8.h"

strand_status tokenizer_no_memory(const text_tokenizer *t, error *e) {
    return error_set(e, STRAND_ERR_MEMORY, "%s: out of memory while reading the tokenizer", t->path);
}

static uint64_t hash_text(const char *text, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)text[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

static uint64_t hash_pair(uint32_t a, uint32_t b) {
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 31;
}

/* A power of two at least twice `n`. */
static uint64_t table_size(uint64_t n) {
    uint64_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

strand_status vocab_begin(text_tokenizer *t, uint64_t n, error *e) {
    if (n == 0 || n > (uint64_t)1 << 24)
        return error_set(e, STRAND_ERR_FORMAT, "%s: a vocabulary of %llu tokens; 1 to 16777216 are supported", t->path,
                         (unsigned long long)n);
    t->tokens = ARENA_ARRAY(t->arena, token, (size_t)n);
    if (!t->tokens) return tokenizer_no_memory(t, e);
    t->n = (uint32_t)n;
    for (uint32_t i = 0; i < t->n; i++) t->tokens[i] = (token){.text = "", .flags = TOKEN_UNUSED};
    for (int i = 0; i < 256; i++) t->byte_ids[i] = NO_TOKEN;
    t->unknown = t->bos = t->eos = NO_TOKEN;
    return STRAND_OK;
}

strand_status vocab_set(text_tokenizer *t, uint64_t id, const char *text, size_t length, float score, uint32_t flags,
                        error *e) {
    if (id >= t->n)
        return error_set(e, STRAND_ERR_FORMAT, "%s: token %llu is beyond its vocabulary of %u", t->path, (unsigned long long)id,
                         t->n);
    if (length > 65535)
        return error_set(e, STRAND_ERR_FORMAT, "%s: token %llu is longer than 65535 bytes", t->path, (unsigned long long)id);
    const char *copy = arena_string(t->arena, text, length);
    if (!copy) return tokenizer_no_memory(t, e);
    t->tokens[id] = (token){copy, (uint32_t)length, score == score ? score : 0, flags};
    return STRAND_OK;
}

/* The alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 on, in order. */
static int byte_of(uint32_t c) {
    if ((c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff)) return (int)c;
    if (c < 0x100 || c >= 0x100 + 68) return -1;
    c -= 0x100;
    if (c <= 0x20) return (int)c;
    c -= 0x21;
    return c <= 0x21 ? (int)c + 0x7f : 0xad;
}

bool byte_level_decode(const char *text, size_t length, char *out, size_t *n) {
    const unsigned char *at = (const unsigned char *)text;
    *n = 0;
    for (size_t i = 0, step; i < length; i += step) {
        step = utf8_length(at + i, length - i);
        uint32_t c = step == 1 ? at[i] : step == 2 ? (uint32_t)(at[i] & 31) << 6 | (at[i + 1] & 63) : 0;
        int byte = step ? byte_of(c) : -1;
        if (byte < 0) return false;
        out[(*n)++] = (char)byte;
    }
    return true;
}

size_t unescape_blocks(const char *text, size_t n, char *out) {
    size_t made = 0;
    for (size_t i = 0; i < n;) {
        bool block = i + 3 <= n && !memcmp(text + i, "\xE2\x96\x81", 3);
        out[made++] = block ? ' ' : text[i];
        i += block ? 3 : 1;
    }
    return made;
}

int byte_token(const char *text, size_t length) {
    static const char digits[] = "0123456789ABCDEF";
    if (length != 6 || memcmp(text, "<0x", 3) || text[5] != '>') return -1;
    const char *high = memchr(digits, text[3] >= 'a' ? text[3] - 32 : text[3], 16),
               *low = memchr(digits, text[4] >= 'a' ? text[4] - 32 : text[4], 16);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

/* ---- tables ---- */

static uint32_t index_slot(const text_tokenizer *t, const char *text, size_t length) {
    uint32_t slot = (uint32_t)hash_text(text, length) & t->index_mask;
    while (t->index[slot] != NO_TOKEN) {
        const token *x = &t->tokens[t->index[slot]];
        if (x->length == length && !memcmp(x->text, text, length)) break;
        slot = (slot + 1) & t->index_mask;
    }
    return slot;
}

static strand_status build_index(text_tokenizer *t, error *e) {
    uint64_t size = table_size(t->n);
    t->index = ARENA_ARRAY(t->arena, uint32_t, (size_t)size);
    if (!t->index) return tokenizer_no_memory(t, e);
    t->index_mask = (uint32_t)size - 1;
    memset(t->index, 0xff, (size_t)size * sizeof *t->index);
    for (uint32_t i = 0; i < t->n; i++) {
        const token *x = &t->tokens[i];
        if (!x->length || (x->flags & (TOKEN_SPECIAL | TOKEN_UNKNOWN | TOKEN_BYTE | TOKEN_UNUSED))) continue;
        uint32_t slot = index_slot(t, x->text, x->length);
        if (t->index[slot] == NO_TOKEN) t->index[slot] = i;
        if (x->length > t->max_length) t->max_length = x->length;
        if (x->score < t->least_score) t->least_score = x->score;
        if (x->length > 1) {
            uint8_t *longest = &t->longest[(unsigned char)x->text[0] << 8 | (unsigned char)x->text[1]];
            if (x->length > *longest) *longest = x->length < 255 ? (uint8_t)x->length : 255;
        }
    }
    return STRAND_OK;
}

static int compare_added(const void *a, const void *b) {
    const token *x = a, *y = b;
    unsigned char p = (unsigned char)x->text[0], q = (unsigned char)y->text[0];
    if (p != q) return p < q ? -1 : 1;
    return (x->length < y->length) - (x->length > y->length);
}

static strand_status build_added(text_tokenizer *t, error *e) {
    size_t n = 0;
    for (uint32_t i = 0; i < t->n; i++) n += (t->tokens[i].flags & (TOKEN_ADDED | TOKEN_SPECIAL)) && t->tokens[i].length;
    const void **sorted = ARENA_ARRAY(t->arena, const void *, n);
    t->added = ARENA_ARRAY(t->arena, uint32_t, n);
    if (!sorted || !t->added) return tokenizer_no_memory(t, e);
    n = 0;
    for (uint32_t i = 0; i < t->n; i++)
        if ((t->tokens[i].flags & (TOKEN_ADDED | TOKEN_SPECIAL)) && t->tokens[i].length) sorted[n++] = &t->tokens[i];
    sort_pointers(sorted, n, compare_added);
    size_t at = 0;
    for (int byte = 0; byte < 257; byte++) {
        t->added_at[byte] = (uint32_t)at;
        while (at < n && (unsigned char)((const token *)sorted[at])->text[0] == byte) {
            t->added[at] = (uint32_t)((const token *)sorted[at] - t->tokens);
            at++;
        }
    }
    return STRAND_OK;
}

strand_status vocab_finish(text_tokenizer *t, error *e) {
    strand_status status = build_index(t, e);
    if (!status) status = build_added(t, e);
    if (status) return status;
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        if (t->byte_ids[i] == NO_TOKEN && t->byte_level) t->byte_ids[i] = vocab_find(t, &byte, 1);
    }
    if (t->eos != NO_TOKEN && t->eos < t->n) t->tokens[t->eos].flags |= TOKEN_END;
    static const char *const ends[] = {"<|im_end|>",    "<|eot_id|>", "<|end|>", "<end_of_turn>",
                                       "<|endoftext|>", "<|eom_id|>", "</s>"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        uint32_t id = vocab_named(t, ends[i]);
        if (id != NO_TOKEN && (t->tokens[id].flags & TOKEN_SPECIAL)) t->tokens[id].flags |= TOKEN_END;
    }
    return STRAND_OK;
}

uint32_t vocab_find(const text_tokenizer *t, const char *text, size_t length) {
    return length ? t->index[index_slot(t, text, length)] : NO_TOKEN;
}

uint32_t vocab_named(const text_tokenizer *t, const char *text) {
    size_t n = strlen(text);
    for (uint32_t i = t->added_at[(unsigned char)text[0]], end = t->added_at[(unsigned char)text[0] + 1]; i < end; i++) {
        const token *x = &t->tokens[t->added[i]];
        if (x->length == n && !memcmp(x->text, text, n)) return t->added[i];
    }
    return vocab_find(t, text, n);
}

/* ---- merges ---- */

strand_status merges_begin(text_tokenizer *t, uint64_t n, error *e) {
    if (n > (uint64_t)1 << 24)
        return error_set(e, STRAND_ERR_FORMAT, "%s: %llu merges; at most 16777216 are supported", t->path,
                         (unsigned long long)n);
    uint64_t size = table_size(n);
    t->merges = ARENA_ARRAY(t->arena, merge, (size_t)size);
    if (!t->merges) return tokenizer_no_memory(t, e);
    for (uint64_t i = 0; i < size; i++) t->merges[i].rank = MERGE_MASK_EMPTY;
    t->merge_mask = (uint32_t)size - 1;
    return STRAND_OK;
}

static const merge *merge_slot(const text_tokenizer *t, uint32_t left, uint32_t right) {
    uint32_t slot = (uint32_t)hash_pair(left, right) & t->merge_mask;
    while (t->merges[slot].rank != MERGE_MASK_EMPTY && (t->merges[slot].left != left || t->merges[slot].right != right))
        slot = (slot + 1) & t->merge_mask;
    return &t->merges[slot];
}

strand_status merges_add(text_tokenizer *t, const char *left, size_t n_left, const char *right, size_t n_right, uint32_t rank,
                         error *e) {
    char both[2048];
    size_t a = n_left, b = n_right;
    if (n_left + n_right > sizeof both)
        return error_set(e, STRAND_ERR_FORMAT, "%s: merge %u is longer than 2048 bytes", t->path, rank);
    memcpy(both, left, n_left);
    memcpy(both + n_left, right, n_right);
    if (t->byte_level && (!byte_level_decode(left, n_left, both, &a) || !byte_level_decode(right, n_right, both + a, &b)))
        return STRAND_OK;
    if (!t->byte_level && t->escape) {
        a = unescape_blocks(left, n_left, both);
        b = unescape_blocks(right, n_right, both + a);
    }
    uint32_t x = vocab_find(t, both, a), y = vocab_find(t, both + a, b), z = vocab_find(t, both, a + b);
    if (x == NO_TOKEN || y == NO_TOKEN || z == NO_TOKEN) return STRAND_OK;
    const merge *found = merge_slot(t, x, y);
    if (found->rank == MERGE_MASK_EMPTY) t->merges[found - t->merges] = (merge){x, y, rank, z};
    return STRAND_OK;
}

const merge *merges_find(const text_tokenizer *t, uint32_t left, uint32_t right) {
    if (!t->merges || left == NO_TOKEN || right == NO_TOKEN) return NULL;
    const merge *found = merge_slot(t, left, right);
    return found->rank == MERGE_MASK_EMPTY ? NULL : found;
}
