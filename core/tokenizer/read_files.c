/* read_files.c - the smaller formats of tokenizers: SentencePiece's tokenizer.model (a protobuf), RWKV's vocabulary as Python
 * literals, llama2.c's tok*.bin, BERT's vocab.txt, and bytes, which need no file. */
#include "text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../utf8.h"
#include "../weights/bytes.h"
#include "../weights/gguf.h"

static strand_status wrong(const text_tokenizer *t, const char *what, error *e) {
    return error_set(e, STRAND_ERR_FORMAT, "%s: %s", t->path, what);
}

static float bits_float(uint32_t bits) {
    union {
        uint32_t bits;
        float value;
    } u = {bits};
    return u.value;
}

/* ---- SentencePiece ---- */

typedef struct field {
    uint32_t number, wire;
    uint64_t value; /* wire 0, 5: the number */
    const uint8_t *data;
    size_t length;
} field;

static bool varint(const uint8_t **at, const uint8_t *end, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;
        *out |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return true;
    }
    return false;
}

/* The next field; false at the end and where the bytes are none (then *at is not `end`). */
static bool next_field(const uint8_t **at, const uint8_t *end, field *f) {
    uint64_t key, n = 0;
    const uint8_t *from = *at;
    *f = (field){0};
    if (from == end || !varint(&from, end, &key) || key >> 3 > UINT32_MAX) return false;
    f->number = (uint32_t)(key >> 3);
    f->wire = (uint32_t)(key & 7);
    switch (f->wire) {
    case 0:
        if (!varint(&from, end, &f->value)) return false;
        break;
    case 1:
        n = 8;
        break;
    case 2:
        if (!varint(&from, end, &n)) return false;
        break;
    case 5:
        n = 4;
        break;
    default:
        return false;
    }
    if (n > (uint64_t)(end - from)) return false;
    f->data = from;
    f->length = (size_t)n;
    if (f->wire == 5) f->value = read_u32(from);
    *at = from + n;
    return true;
}

typedef struct spm {
    uint64_t n;
    const uint8_t *charsmap;
    size_t charsmap_bytes;
    int64_t kind, bos, eos, unknown;
    bool prefix, squeeze, fallback;
} spm;

static bool read_trainer(const field *whole, spm *s) {
    const uint8_t *at = whole->data, *end = at + whole->length;
    for (field f; next_field(&at, end, &f);) {
        int64_t v = (int32_t)f.value;
        if (f.number == 3) s->kind = v;
        if (f.number == 35) s->fallback = f.value != 0;
        if (f.number == 40) s->unknown = v;
        if (f.number == 41) s->bos = v;
        if (f.number == 42) s->eos = v;
    }
    return at == end;
}

static bool read_normalizer(const field *whole, spm *s) {
    const uint8_t *at = whole->data, *end = at + whole->length;
    for (field f; next_field(&at, end, &f);) {
        if (f.number == 2) s->charsmap = f.data, s->charsmap_bytes = f.length;
        if (f.number == 3) s->prefix = f.value != 0;
        if (f.number == 4) s->squeeze = f.value != 0;
    }
    return at == end;
}

static strand_status read_piece(text_tokenizer *t, uint64_t id, const field *whole, error *e) {
    static const uint32_t flags_of[] = {0,         0, TOKEN_UNKNOWN | TOKEN_SPECIAL, TOKEN_SPECIAL, TOKEN_ADDED, TOKEN_UNUSED,
                                        TOKEN_BYTE};
    const uint8_t *at = whole->data, *end = at + whole->length, *text = at;
    size_t n = 0;
    float score = 0;
    uint64_t type = 1;
    for (field f; next_field(&at, end, &f);) {
        if (f.number == 1 && f.wire == 2) text = f.data, n = f.length;
        if (f.number == 2 && f.wire == 5) score = bits_float((uint32_t)f.value);
        if (f.number == 3 && f.wire == 0) type = f.value;
    }
    if (at != end || n > 65535) return wrong(t, "a piece of the SentencePiece model is damaged", e);
    char *copy = arena_alloc(t->arena, n + 1, 1);
    if (!copy) return tokenizer_no_memory(t, e);
    int byte = type == 6 ? byte_token((const char *)text, n) : -1;
    size_t made = unescape_blocks((const char *)text, n, copy);
    if (byte >= 0) copy[0] = (char)byte, made = 1, t->byte_ids[byte] = (uint32_t)id;
    return vocab_set(t, id, copy, made, score, flags_of[type < 7 ? type : 1], e);
}

static strand_status read_spm(const text_tokenizer *t, const uint8_t *data, size_t length, spm *s, error *e) {
    const uint8_t *at = data, *end = data + length;
    bool fine = true;
    for (field f; fine && next_field(&at, end, &f);) {
        if (f.number == 1 && f.wire == 2) s->n++;
        if (f.number == 2 && f.wire == 2) fine = read_trainer(&f, s);
        if (f.number == 3 && f.wire == 2) fine = read_normalizer(&f, s);
    }
    if (!fine || at != end || !s->n) return wrong(t, "the SentencePiece model is damaged or cut short", e);
    if (s->kind != 1 && s->kind != 2)
        return error_set(e, STRAND_ERR_UNSUPPORTED,
                         "%s: a SentencePiece model of words or characters; unigram and BPE are supported", t->path);
    return STRAND_OK;
}

strand_status read_tokenizer_model(text_tokenizer *t, const uint8_t *data, size_t length, error *e) {
    spm s = {.kind = 1, .unknown = 0, .bos = 1, .eos = 2, .prefix = true, .squeeze = true};
    strand_status status = read_spm(t, data, length, &s, e);
    if (!status) status = vocab_begin(t, s.n, e);
    const uint8_t *at = data, *end = data + length;
    uint64_t id = 0;
    for (field f; !status && next_field(&at, end, &f);)
        if (f.number == 1 && f.wire == 2) status = read_piece(t, id++, &f, e);
    if (status) return status;
    t->model = s.kind == 2 ? TEXT_PIECES : TEXT_UNIGRAM;
    t->unknown = s.unknown >= 0 && s.unknown < t->n ? (uint32_t)s.unknown : NO_TOKEN;
    t->bos = s.bos >= 0 && s.bos < t->n ? (uint32_t)s.bos : NO_TOKEN;
    t->eos = s.eos >= 0 && s.eos < t->n ? (uint32_t)s.eos : NO_TOKEN;
    t->escape = t->fuse_unknown = t->strip_start = t->add_bos = true;
    t->byte_fallback = s.fallback || t->byte_ids[0] != NO_TOKEN;
    t->space_prefix = s.prefix;
    if (t->model == TEXT_UNIGRAM) t->add_bos = false, t->add_eos = true;
    status = vocab_finish(t, e);
    if (!status && s.charsmap_bytes) status = read_tokenizer_charsmap(t, s.charsmap, s.charsmap_bytes, e);
    if (!status && s.squeeze && !steps_add(t, STEP_SQUEEZE, e)) status = e->status;
    return status;
}

strand_status read_tokenizer_charsmap(text_tokenizer *t, const uint8_t *data, size_t n, error *e) {
    if (n < 4 || read_u32(data) > n - 4 || read_u32(data) % 4) return wrong(t, "its precompiled_charsmap is damaged", e);
    uint8_t *copy = arena_alloc(t->arena, n, 4);
    if (!copy) return tokenizer_no_memory(t, e);
    memcpy(copy, data, n);
    t->charsmap = copy;
    t->charsmap_bytes = n;
    return steps_add(t, STEP_CHARSMAP, e) ? STRAND_OK : e->status;
}

/* ---- RWKV: lines of "id literal bytes" ---- */

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static size_t put_utf8(uint32_t c, char *out) {
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) return out[0] = (char)(0xC0 | c >> 6), out[1] = (char)(0x80 | (c & 63)), 2;
    if (c < 0x10000)
        return out[0] = (char)(0xE0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 63)), out[2] = (char)(0x80 | (c & 63)), 3;
    return out[0] = (char)(0xF0 | c >> 18), out[1] = (char)(0x80 | (c >> 12 & 63)), out[2] = (char)(0x80 | (c >> 6 & 63)),
           out[3] = (char)(0x80 | (c & 63)), 4;
}

/* A Python literal of str or bytes; the bytes that it stands for are never more than its own. */
static bool literal(const char *text, size_t n, char *out, size_t *made) {
    bool bytes = n && text[0] == 'b';
    if (bytes) text++, n--;
    if (n < 2 || (text[0] != '\'' && text[0] != '"') || text[n - 1] != text[0]) return false;
    *made = 0;
    for (size_t i = 1; i < n - 1; i++) {
        if (text[i] != '\\') {
            out[(*made)++] = text[i];
            continue;
        }
        if (++i >= n - 1) return false;
        int digits = text[i] == 'x' ? 2 : text[i] == 'u' ? 4 : text[i] == 'U' ? 8 : 0;
        if (digits) {
            uint32_t c = 0;
            if (i + (size_t)digits >= n - 1) return false;
            for (int k = 1; k <= digits; k++) {
                if (hex(text[i + (size_t)k]) < 0) return false;
                c = c << 4 | (uint32_t)hex(text[i + (size_t)k]);
            }
            if (c > 0x10FFFF || (bytes && digits > 2)) return false;
            i += (size_t)digits;
            if (bytes)
                out[(*made)++] = (char)c;
            else
                *made += put_utf8(c, out + *made);
            continue;
        }
        static const char from[] = "ntr\\'\"abfv0", to[] = "\n\t\r\\'\"\a\b\f\v";
        const char *at = text[i] ? strchr(from, text[i]) : NULL;
        if (!at) return false;
        out[(*made)++] = to[at - from];
    }
    return true;
}

static bool number(const char **at, const char *end, uint64_t *out) {
    const char *from = *at;
    for (*out = 0; *at < end && **at >= '0' && **at <= '9' && *out < (uint64_t)1 << 40; ++*at)
        *out = *out * 10 + (uint64_t)(**at - '0');
    return *at > from;
}

static strand_status rwkv_line(text_tokenizer *t, const char *line, size_t n, char *scratch, uint64_t *id, size_t *made,
                               error *e) {
    const char *at = line, *end = line + n;
    uint64_t bytes = 0;
    while (end > at && (end[-1] == '\r' || end[-1] == ' ')) end--;
    const char *last = end;
    while (last > at && last[-1] != ' ') last--;
    const char *count = last;
    if (!number(&at, end, id) || at == end || *at != ' ' || last <= at + 1 || !number(&count, end, &bytes) || count != end ||
        !literal(at + 1, (size_t)(last - 1 - (at + 1)), scratch, made) || *made != bytes) {
        return error_set(e, STRAND_ERR_FORMAT, "%s: '%.*s' is not of the form: id, Python literal, number of bytes", t->path,
                         (int)(n < 60 ? n : 60), line);
    }
    return STRAND_OK;
}

strand_status read_tokenizer_rwkv(text_tokenizer *t, const char *text, size_t length, error *e) {
    char *scratch = arena_alloc(t->arena, length + 1, 1);
    uint64_t most = 0, id, lines = 0;
    size_t made;
    strand_status status = scratch ? STRAND_OK : tokenizer_no_memory(t, e);
    for (int pass = 0; pass < 2 && !status; pass++) {
        for (const char *at = text, *end = text + length; at < end && !status;) {
            const char *stop = memchr(at, '\n', (size_t)(end - at));
            size_t n = (size_t)((stop ? stop : end) - at);
            if (n) status = rwkv_line(t, at, n, scratch, &id, &made, e);
            if (n && !status && pass) status = vocab_set(t, id, scratch, made, 0, 0, e);
            if (n && !status && id > most) most = id;
            lines += n > 0;
            at += n + 1;
        }
        if (!status && !pass)
            status = most > 2 * lines + 1024 ? wrong(t, "its ids are far more than its lines", e) : vocab_begin(t, most + 1, e);
    }
    if (status) return status;
    t->model = TEXT_GREEDY;
    if (t->tokens[0].flags & TOKEN_UNUSED) status = vocab_set(t, 0, "<|endoftext|>", 13, 0, TOKEN_SPECIAL, e);
    t->eos = t->bos = 0;
    return status ? status : vocab_finish(t, e);
}

/* In GGUF the tokens are the literals' insides, escaped as in Python. */
strand_status read_gguf_rwkv(text_tokenizer *t, const weights *w, error *e) {
    const gguf_value *tokens = gguf_array(w, "tokenizer.ggml.tokens", GGUF_STRING);
    if (!tokens) return wrong(t, "no tokenizer.ggml.tokens", e);
    strand_status status = vocab_begin(t, tokens->count, e);
    for (uint64_t i = 0; i < tokens->count && !status; i++) {
        const gguf_string *s = &tokens->strings[i];
        char *quoted = s->length < 65536 ? arena_alloc(t->arena, 2 * (size_t)s->length + 8, 1) : NULL;
        size_t made;
        if (!quoted) return tokenizer_no_memory(t, e);
        char *out = quoted + s->length + 4;
        quoted[0] = 'b', quoted[1] = '"';
        memcpy(quoted + 2, s->text, (size_t)s->length);
        quoted[2 + s->length] = '"';
        if (!literal(quoted, (size_t)s->length + 3, out, &made)) return wrong(t, "a token is not an escaped text", e);
        status = vocab_set(t, i, out, made, 0, i ? 0 : TOKEN_SPECIAL, e);
    }
    t->model = TEXT_GREEDY;
    t->eos = t->bos = 0;
    return status ? status : vocab_finish(t, e);
}

/* ---- llama2.c: int32 longest, then for each id: F32 score, int32 length, bytes ---- */

strand_status read_tokenizer_llama2c(text_tokenizer *t, const uint8_t *data, size_t length, int64_t vocabulary, error *e) {
    size_t at = 4;
    if (vocabulary < 3 || vocabulary > 1 << 24) return wrong(t, "a tokenizer of llama2.c needs its model's vocabulary", e);
    strand_status status = vocab_begin(t, (uint64_t)vocabulary, e);
    for (int64_t id = 0; id < vocabulary && !status; id++) {
        uint32_t n = length - at >= 8 ? read_u32(data + at + 4) : UINT32_MAX;
        if (n > 65535 || n > length - at - 8)
            return wrong(t, "cut short, or not the tokenizer of a vocabulary of this size", e);
        const char *text = (const char *)data + at + 8;
        int byte = byte_token(text, n);
        char one = (char)byte;
        if (byte >= 0) t->byte_ids[byte] = (uint32_t)id;
        status = vocab_set(t, (uint64_t)id, byte >= 0 ? &one : text, byte >= 0 ? 1 : n, bits_float(read_u32(data + at)),
                           id == 0     ? TOKEN_UNKNOWN | TOKEN_SPECIAL
                           : id < 3    ? TOKEN_SPECIAL
                           : byte >= 0 ? TOKEN_BYTE
                                       : 0,
                           e);
        at += 8 + n;
    }
    if (status) return status;
    t->model = TEXT_PIECES;
    t->unknown = 0, t->bos = 1, t->eos = 2;
    t->byte_fallback = t->space_prefix = t->strip_start = t->add_bos = true;
    status = vocab_set(t, 1, "<s>", 3, 0, TOKEN_SPECIAL, e);
    if (!status) status = vocab_set(t, 2, "</s>", 4, 0, TOKEN_SPECIAL, e);
    return status ? status : vocab_finish(t, e);
}

/* ---- BERT's vocab.txt: one token a line ---- */

strand_status read_tokenizer_vocab(text_tokenizer *t, const char *text, size_t length, error *e) {
    uint64_t n = 0, id = 0;
    for (size_t i = 0; i < length; i++) n += text[i] == '\n';
    n += length && text[length - 1] != '\n';
    bool lower = true;
    strand_status status = vocab_begin(t, n, e);
    t->model = TEXT_WORDPIECE;
    t->continuing = "##";
    t->max_word = 100;
    for (const char *at = text, *end = text + length; at < end && !status; id++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t line = (size_t)((stop ? stop : end) - at), cut = line && at[line - 1] == '\r' ? line - 1 : line;
        bool special = cut > 2 && at[0] == '[' && at[cut - 1] == ']';
        lower = lower && !(cut && !special && at[0] >= 'A' && at[0] <= 'Z');
        status = vocab_set(t, id, at, cut, 0, special && strncmp(at, "[unused", 7) ? TOKEN_SPECIAL : 0, e);
        if (!status && special && cut == 5 && !memcmp(at, "[UNK]", 5)) t->unknown = (uint32_t)id;
        if (!status && special && cut == 5 && !memcmp(at, "[CLS]", 5)) t->bos = (uint32_t)id, t->add_bos = true;
        if (!status && special && cut == 5 && !memcmp(at, "[SEP]", 5)) t->eos = (uint32_t)id, t->add_eos = true;
        at += line + 1;
    }
    if (!status && t->unknown == NO_TOKEN) return wrong(t, "not a vocabulary of BERT: no [UNK]", e);
    if (!status) status = vocab_finish(t, e);
    return status ? status : steps_add_bert(t, lower, e);
}

/* ---- bytes ---- */

strand_status read_tokenizer_bytes(text_tokenizer *t, int64_t vocabulary, error *e) {
    if (vocabulary < 256)
        return error_set(e, STRAND_ERR_UNSUPPORTED, "%s: a vocabulary of %" PRId64 " is too small for bytes", t->path,
                         vocabulary);
    strand_status status = vocab_begin(t, (uint64_t)vocabulary, e);
    for (int i = 0; i < 256 && !status; i++) {
        char byte = (char)i;
        status = vocab_set(t, (uint64_t)i, &byte, 1, 0, TOKEN_BYTE, e);
        t->byte_ids[i] = (uint32_t)i;
    }
    t->model = TEXT_BYTES;
    return status ? status : vocab_finish(t, e);
}
