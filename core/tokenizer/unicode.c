/* unicode.c - the steps that need Unicode's tables (utf8proc) or patterns (pcre2). Both are an option of the build: without
 * it a tokenizer that needs them is refused with one line when it is opened.
 *
 * Patterns come from files: they are compiled for valid UTF-8 whatever the text is (bytes that are none match nothing and
 * form pieces of their own), and run under limits. */
#include "text.h"

#ifdef STRAND_TOKENIZERS
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define MATCH_LIMIT 10000000u

strand_status unicode_need(const text_tokenizer *t, const char *what, error *e) {
    (void)t, (void)what, (void)e;
    return STRAND_OK;
}

strand_status step_pattern(const text_tokenizer *t, step *s, const char *pattern, size_t length, bool literal, error *e) {
    int number;
    PCRE2_SIZE at;
    uint32_t options = PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C);
    pcre2_code *code = length > 65536 ? NULL : pcre2_compile((PCRE2_SPTR)pattern, length, options, &number, &at, NULL);
    if (!code) return error_set(e, STRAND_ERR_FORMAT, "%s: the pattern '%.80s' is not understood", t->path, pattern);
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* without it, it is only slower */
    s->pattern = code;
    return STRAND_OK;
}

void step_close(step *s) {
    if (s->pattern) pcre2_code_free(s->pattern);
    s->pattern = NULL;
}

strand_status pattern_each(const step *s, const char *text, size_t n, bool (*found)(void *user, size_t from, size_t to),
                           void *user, error *e) {
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(s->pattern, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    strand_status status =
        data && limits ? STRAND_OK : error_set(e, STRAND_ERR_MEMORY, "out of memory while cutting a text into tokens");
    if (limits) pcre2_set_match_limit(limits, MATCH_LIMIT);
    for (size_t at = 0; !status && at < n;) {
        int got = pcre2_match(s->pattern, (PCRE2_SPTR)text, n, at, 0, data, limits);
        if (got == PCRE2_ERROR_JIT_STACKLIMIT)
            got = pcre2_match(s->pattern, (PCRE2_SPTR)text, n, at, PCRE2_NO_JIT, data, limits);
        if (got == PCRE2_ERROR_NOMATCH) break;
        if (got < 0) {
            status =
                error_set(e, STRAND_ERR_LIMIT,
                          "the tokenizer's pattern gave up at byte %zu of a text of %zu bytes (pcre2 error %d)", at, n, got);
            break;
        }
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(data);
        if (range[1] < range[0] || range[1] > n) break;
        if (!found(user, range[0], range[1]))
            status = error_set(e, STRAND_ERR_MEMORY, "out of memory while cutting a text into tokens");
        at = range[1] > range[0] ? range[1] : range[1] + 1;
        while (at < n && ((unsigned char)text[at] & 0xC0) == 0x80 && range[1] == range[0]) at++;
    }
    if (limits) pcre2_match_context_free(limits);
    if (data) pcre2_match_data_free(data);
    return status;
}

/* ---- characters ---- */

static bool is_cjk(utf8proc_int32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static bool is_white(utf8proc_int32_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r') || c == 0x85 || utf8proc_category(c) == UTF8PROC_CATEGORY_ZS || c == 0x2028 ||
           c == 0x2029;
}

/* One character through a step; writes at most 12 bytes. */
static size_t character(const step *s, utf8proc_int32_t c, const char *bytes, size_t n, char *out) {
    utf8proc_category_t kind = utf8proc_category(c);
    switch (s->kind) {
    case STEP_LOWER:
        return (size_t)utf8proc_encode_char(utf8proc_tolower(c), (utf8proc_uint8_t *)out);
    case STEP_STRIP_ACCENTS:
        if (kind == UTF8PROC_CATEGORY_MN) return 0;
        break;
    case STEP_CLEAN:
        if (is_white(c)) return out[0] = ' ', 1;
        if (c == 0 || c == 0xFFFD || kind == UTF8PROC_CATEGORY_CC || kind == UTF8PROC_CATEGORY_CF ||
            kind == UTF8PROC_CATEGORY_CO || kind == UTF8PROC_CATEGORY_CS)
            return 0;
        break;
    case STEP_SPACE_CJK:
        if (!is_cjk(c)) break;
        out[0] = ' ';
        memcpy(out + 1, bytes, n);
        out[n + 1] = ' ';
        return n + 2;
    default:
        break;
    }
    memcpy(out, bytes, n);
    return n;
}

static strand_status normalise(const step *s, pieces *p, error *e) {
    static const utf8proc_option_t forms[] = {UTF8PROC_COMPOSE, UTF8PROC_DECOMPOSE, UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                                              UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
    utf8proc_uint8_t *made = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)p->text, (utf8proc_ssize_t)p->length, &made,
                                      UTF8PROC_STABLE | forms[s->kind - STEP_NFC]);
    if (n == UTF8PROC_ERROR_INVALIDUTF8) return STRAND_OK; /* bytes that are no text stay as they are */
    char *copy = n >= 0 ? arena_string(p->scratch, (const char *)made, (size_t)n) : NULL;
    free(made);
    if (!copy) return error_set(e, STRAND_ERR_MEMORY, "out of memory while normalising a text");
    p->text = copy;
    p->length = (size_t)n;
    return STRAND_OK;
}

strand_status unicode_step(const step *s, pieces *p, error *e) {
    if (s->kind <= STEP_NFKD) return normalise(s, p, e);
    char *out = p->length < SIZE_MAX / 4 ? arena_alloc(p->scratch, 3 * p->length + 16, 1) : NULL;
    if (!out) return error_set(e, STRAND_ERR_MEMORY, "out of memory while normalising a text");
    size_t n = 0;
    for (size_t at = 0; at < p->length;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t length =
            utf8proc_iterate((const utf8proc_uint8_t *)p->text + at, (utf8proc_ssize_t)(p->length - at), &c);
        if (length <= 0) {
            out[n++] = p->text[at++];
            continue;
        }
        n += character(s, c, p->text + at, (size_t)length, out + n);
        at += (size_t)length;
    }
    p->text = out;
    p->length = n;
    return STRAND_OK;
}

#else

strand_status unicode_need(const text_tokenizer *t, const char *what, error *e) {
    return error_set(e, STRAND_ERR_UNSUPPORTED,
                     "%s: its tokenizer needs %s, which this build of Strand is without; build it with -Dtokenizers=enabled "
                     "(pcre2, utf8proc)",
                     t->path, what);
}

strand_status step_pattern(const text_tokenizer *t, step *s, const char *pattern, size_t length, bool literal, error *e) {
    (void)s, (void)pattern, (void)length, (void)literal;
    return unicode_need(t, "patterns", e);
}

void step_close(step *s) {
    (void)s;
}

strand_status pattern_each(const step *s, const char *text, size_t n, bool (*found)(void *user, size_t from, size_t to),
                           void *user, error *e) {
    (void)s, (void)text, (void)n, (void)found, (void)user;
    return error_set(e, STRAND_ERR_UNSUPPORTED, "this build of Strand has no patterns");
}

strand_status unicode_step(const step *s, pieces *p, error *e) {
    (void)s, (void)p;
    return error_set(e, STRAND_ERR_UNSUPPORTED, "this build of Strand has no Unicode tables");
}
#endif
