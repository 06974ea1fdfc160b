/* read_json.c - Hugging Face's tokenizer.json: the model (BPE, WordPiece, Unigram), the added tokens, the normaliser, the
 * cuts and the decoder. A part that is not known is refused by its name: leaving one out would give other tokens without a
 * word. */
#include "text.h"

#include <string.h>

static strand_status refuse(const text_tokenizer *t, const char *what, const char *type, error *e) {
    return error_set(e, STRAND_ERR_UNSUPPORTED, "%s: %s of type '%.60s' is not supported", t->path, what, type);
}

static strand_status wrong(const text_tokenizer *t, const char *what, error *e) {
    return error_set(e, STRAND_ERR_FORMAT, "%s: %s", t->path, what);
}

static bool is_text(const json *v, const char *text) {
    return v && v->type == JSON_STRING && !strcmp(v->text, text);
}

/* Is there a part of this type in `v`, which may be a sequence? */
static bool holds(const json *v, const char *type, const char *list) {
    if (!v || v->type != JSON_OBJECT) return false;
    if (is_text(json_get(v, "type"), type)) return true;
    const json *parts = json_get(v, list);
    for (const json *x = parts && parts->type == JSON_ARRAY ? parts->first : NULL; x; x = x->next)
        if (holds(x, type, list)) return true; /* json.h bounds the depth */
    return false;
}

/* Copies that outlive the document. */
static bool keep(text_tokenizer *t, const json *v, const char **out, size_t *n) {
    if (!v || v->type != JSON_STRING) return *out = "", *n = 0, true;
    *n = v->length;
    *out = arena_string(t->arena, v->text, v->length);
    return *out != NULL;
}

/* ---- steps ---- */

/* {"String": ...} or {"Regex": ...} */
static strand_status add_pattern(text_tokenizer *t, step *s, const json *pattern, error *e) {
    const json *regex = json_get(pattern, "Regex"), *literal = json_get(pattern, "String");
    const json *v = regex ? regex : literal;
    if (!v || v->type != JSON_STRING) return wrong(t, "a pattern is neither a String nor a Regex", e);
    return step_pattern(t, s, v->text, v->length, !regex, e);
}

static strand_status read_replace(text_tokenizer *t, const json *v, error *e) {
    const json *pattern = json_get(v, "pattern"), *literal = pattern ? json_get(pattern, "String") : NULL;
    if (!pattern || pattern->type != JSON_OBJECT) return wrong(t, "a Replace without pattern", e);
    step *s = steps_add(t, literal ? STEP_REPLACE : STEP_REPLACE_PATTERN, e);
    if (!s) return e->status;
    if (!keep(t, json_get(v, "content"), &s->to, &s->n_to) || !keep(t, literal, &s->from, &s->n_from))
        return tokenizer_no_memory(t, e);
    if (t->escape && !strcmp(s->to, "\xE2\x96\x81")) { /* kept as spaces here; what is U+2581 already becomes one */
        if (is_text(literal, " ")) s->from = s->to, s->n_from = s->n_to;
        s->to = " ", s->n_to = 1;
    }
    return literal ? STRAND_OK : add_pattern(t, s, pattern, e);
}

static strand_status add_unicode(text_tokenizer *t, step_kind kind, error *e) {
    strand_status status = unicode_need(t, "Unicode's tables", e);
    return status ? status : steps_add(t, kind, e) ? STRAND_OK : e->status;
}

static strand_status read_bert_normaliser(text_tokenizer *t, const json *v, error *e) {
    bool lower = json_bool(v, "lowercase", true);
    strand_status status = STRAND_OK;
    if (json_bool(v, "clean_text", true)) status = add_unicode(t, STEP_CLEAN, e);
    if (!status && json_bool(v, "handle_chinese_chars", true)) status = add_unicode(t, STEP_SPACE_CJK, e);
    if (!status && json_bool(v, "strip_accents", lower)) {
        status = add_unicode(t, STEP_NFD, e);
        if (!status) status = add_unicode(t, STEP_STRIP_ACCENTS, e);
    }
    if (!status && lower) status = add_unicode(t, STEP_LOWER, e);
    return status;
}

static int digit64(char c) {
    const char *digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static strand_status read_charsmap(text_tokenizer *t, const json *v, error *e) {
    const json *coded = json_get(v, "precompiled_charsmap");
    if (!coded || coded->type != JSON_STRING || !coded->length) return STRAND_OK;
    uint8_t *out = arena_alloc(t->arena, coded->length, 4);
    if (!out) return tokenizer_no_memory(t, e);
    uint32_t bits = 0;
    int have = 0;
    size_t n = 0;
    for (size_t i = 0; i < coded->length && coded->text[i] != '='; i++) {
        int d = digit64(coded->text[i]);
        if (d < 0) return wrong(t, "its precompiled_charsmap is not base64", e);
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have >= 8) out[n++] = (uint8_t)(bits >> (have -= 8));
    }
    return read_tokenizer_charsmap(t, out, n, e);
}

static strand_status read_normaliser(text_tokenizer *t, const json *v, error *e) {
    static const struct {
        const char *type;
        step_kind kind;
    } plain[] = {{"NFC", STEP_NFC},   {"NFD", STEP_NFD},         {"NFKC", STEP_NFKC},
                 {"NFKD", STEP_NFKD}, {"Lowercase", STEP_LOWER}, {"StripAccents", STEP_STRIP_ACCENTS}};
    if (!v || v->type == JSON_NULL) return STRAND_OK;
    const char *type = json_text(v, "type", "");
    strand_status status = STRAND_OK;
    if (!strcmp(type, "Sequence")) {
        const json *parts = json_get(v, "normalizers");
        for (const json *x = parts && parts->type == JSON_ARRAY ? parts->first : NULL; x && !status; x = x->next)
            status = read_normaliser(t, x, e);
        return status;
    }
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (!strcmp(type, plain[i].type)) return add_unicode(t, plain[i].kind, e);
    if (!strcmp(type, "BertNormalizer")) return read_bert_normaliser(t, v, e);
    if (!strcmp(type, "Replace")) return read_replace(t, v, e);
    if (!strcmp(type, "Precompiled")) return read_charsmap(t, v, e);
    if (!strcmp(type, "Prepend") || !strcmp(type, "Strip")) {
        step *s = steps_add(t, !strcmp(type, "Strip") ? STEP_STRIP : STEP_PREPEND, e);
        if (!s) return e->status;
        s->left = json_bool(v, "strip_left", false);
        s->right = json_bool(v, "strip_right", false);
        if (!keep(t, json_get(v, "prepend"), &s->to, &s->n_to)) return tokenizer_no_memory(t, e);
        if (t->escape && !strcmp(s->to, "\xE2\x96\x81")) s->to = " ", s->n_to = 1;
        return STRAND_OK;
    }
    return refuse(t, "a normalizer", type, e);
}

static strand_status read_split(text_tokenizer *t, const json *v, error *e) {
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *behavior = json_text(v, "behavior", "Isolated");
    const json *pattern = json_get(v, "pattern");
    if (!pattern || pattern->type != JSON_OBJECT) return wrong(t, "a Split without pattern", e);
    step *s = steps_add(t, STEP_SPLIT, e);
    if (!s) return e->status;
    int how = 0;
    while (how < 5 && strcmp(behavior, names[how])) how++;
    if (how == 5) return refuse(t, "a Split with a behavior", behavior, e);
    s->how = (split_how)how;
    s->invert = json_bool(v, "invert", false);
    if (s->invert && s->how != SPLIT_REMOVED) return wrong(t, "an inverted Split that is not Removed is not supported", e);
    return add_pattern(t, s, pattern, e);
}

#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define PUNCTUATION  "[\\p{P}$+<=>^`|~]"

static strand_status read_byte_level(text_tokenizer *t, const json *v, error *e) {
    if (json_bool(v, "add_prefix_space", true)) {
        step *s = steps_add(t, STEP_PREFIX_SPACE, e);
        if (!s) return e->status;
        s->to = " ", s->n_to = 1;
    }
    return json_bool(v, "use_regex", true) ? steps_add_split(t, GPT2_PATTERN, SPLIT_ISOLATED, false, e) : STRAND_OK;
}

static strand_status read_metaspace(text_tokenizer *t, const json *v, error *e) {
    const char *scheme = json_text(v, "prepend_scheme", json_bool(v, "add_prefix_space", true) ? "always" : "never");
    step *s = steps_add(t, STEP_METASPACE, e);
    if (!s) return e->status;
    s->prepend = strcmp(scheme, "never") != 0;
    s->first_only = !strcmp(scheme, "first");
    s->split = json_bool(v, "split", true);
    if (strcmp(json_text(v, "replacement", "\xE2\x96\x81"), "\xE2\x96\x81"))
        return wrong(t, "a Metaspace with a replacement other than U+2581", e);
    return STRAND_OK;
}

static strand_status read_cut(text_tokenizer *t, const json *v, error *e) {
    if (!v || v->type == JSON_NULL) return STRAND_OK;
    const char *type = json_text(v, "type", "");
    strand_status status = STRAND_OK;
    if (!strcmp(type, "Sequence")) {
        const json *parts = json_get(v, "pretokenizers");
        for (const json *x = parts && parts->type == JSON_ARRAY ? parts->first : NULL; x && !status; x = x->next)
            status = read_cut(t, x, e);
        return status;
    }
    if (!strcmp(type, "ByteLevel")) return read_byte_level(t, v, e);
    if (!strcmp(type, "Split")) return read_split(t, v, e);
    if (!strcmp(type, "Metaspace")) return read_metaspace(t, v, e);
    if (!strcmp(type, "Whitespace")) return steps_add_split(t, "\\w+|[^\\w\\s]+", SPLIT_REMOVED, true, e);
    if (!strcmp(type, "WhitespaceSplit")) return steps_add_split(t, "\\s+", SPLIT_REMOVED, false, e);
    if (!strcmp(type, "Punctuation")) return steps_add_split(t, PUNCTUATION, SPLIT_ISOLATED, false, e);
    if (!strcmp(type, "Digits"))
        return steps_add_split(t, json_bool(v, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", SPLIT_ISOLATED, false, e);
    if (strcmp(type, "BertPreTokenizer")) return refuse(t, "a pre_tokenizer", type, e);
    status = steps_add_split(t, "\\s+", SPLIT_REMOVED, false, e);
    return status ? status : steps_add_split(t, PUNCTUATION, SPLIT_ISOLATED, false, e);
}

/* ---- the model ---- */

/* A token's bytes as the vocabulary keeps them. */
static strand_status set_token(text_tokenizer *t, int64_t id, const char *text, size_t n, float score, error *e) {
    char *copy = arena_alloc(t->arena, n + 1, 1);
    size_t made = 0;
    uint32_t flags = 0;
    if (!copy) return tokenizer_no_memory(t, e);
    int byte = t->byte_fallback && !t->byte_level ? byte_token(text, n) : -1;
    if (byte >= 0) {
        copy[0] = (char)byte;
        made = 1;
        flags = TOKEN_BYTE;
        if (id >= 0 && id < t->n) t->byte_ids[byte] = (uint32_t)id;
    } else if (!t->byte_level || !byte_level_decode(text, n, copy, &made)) {
        made = n;
        if (t->escape)
            made = unescape_blocks(text, n, copy);
        else
            memcpy(copy, text, n);
    }
    return vocab_set(t, (uint64_t)id, copy, made, score, flags, e);
}

static bool plain_id(const json *v, int64_t *out) {
    *out = v && v->type == JSON_NUMBER && v->is_integer ? v->integer : -1;
    return *out >= 0 && *out < 1 << 24;
}

/* One more than the greatest id; ids may have holes, but not more than there are tokens. */
static strand_status count_ids(text_tokenizer *t, const json *vocab, const json *added, uint64_t *out, error *e) {
    uint64_t tokens = vocab->count + (added ? added->count : 0);
    int64_t most = vocab->type == JSON_ARRAY ? (int64_t)vocab->count - 1 : -1, id;
    for (const json *x = vocab->type == JSON_OBJECT ? vocab->first : NULL; x; x = x->next) {
        if (!plain_id(x, &id)) return wrong(t, "an id of its vocab is not a number from 0 to 16777215", e);
        if (id > most) most = id;
    }
    for (const json *x = added ? added->first : NULL; x; x = x->next) {
        if (x->type != JSON_OBJECT || !plain_id(json_get(x, "id"), &id))
            return wrong(t, "an added token's id is not a number from 0 to 16777215", e);
        if (id > most) most = id;
    }
    if (most < 0 || (uint64_t)most > 4 * tokens + 65536) return wrong(t, "its ids are none, or far more than its tokens", e);
    *out = (uint64_t)most + 1;
    return STRAND_OK;
}

static strand_status read_vocab(text_tokenizer *t, const json *vocab, error *e) {
    strand_status status = STRAND_OK;
    uint64_t i = 0;
    for (const json *x = vocab->first; x && !status; x = x->next, i++) {
        if (vocab->type == JSON_OBJECT) {
            status = set_token(t, x->integer, x->key, strlen(x->key), 0, e);
            continue;
        }
        const json *score = x->type == JSON_ARRAY && x->count == 2 ? x->first->next : NULL;
        if (!score || x->first->type != JSON_STRING || score->type != JSON_NUMBER)
            return wrong(t, "an entry of its vocab is not [text, score]", e);
        status = set_token(t, (int64_t)i, x->first->text, x->first->length, (float)score->number, e);
    }
    return status;
}

static strand_status read_merges(text_tokenizer *t, const json *merges, error *e) {
    if (!merges || merges->type != JSON_ARRAY) return wrong(t, "a BPE model without merges", e);
    strand_status status = merges_begin(t, merges->count, e);
    uint32_t rank = 0;
    for (const json *x = merges->first; x && !status; x = x->next, rank++) {
        const char *left, *right;
        size_t n_left, n_right;
        if (x->type == JSON_STRING) {
            const char *space = x->length > 1 ? memchr(x->text + 1, ' ', x->length - 1) : NULL;
            if (!space) return wrong(t, "a merge is not two texts", e);
            left = x->text, n_left = (size_t)(space - left), right = space + 1, n_right = x->length - n_left - 1;
        } else if (x->type == JSON_ARRAY && x->count == 2 && x->first->type == JSON_STRING &&
                   x->first->next->type == JSON_STRING) {
            left = x->first->text, n_left = x->first->length, right = x->first->next->text, n_right = x->first->next->length;
        } else {
            return wrong(t, "a merge is not two texts", e);
        }
        status = merges_add(t, left, n_left, right, n_right, rank, e);
    }
    return status;
}

static strand_status read_added(text_tokenizer *t, const json *added, error *e) {
    strand_status status = STRAND_OK;
    for (const json *x = added ? added->first : NULL; x && !status; x = x->next) {
        const json *content = json_get(x, "content");
        if (!content || content->type != JSON_STRING) return wrong(t, "an added token without content", e);
        uint32_t flags = json_bool(x, "special", false) ? TOKEN_SPECIAL : TOKEN_ADDED;
        if (json_bool(x, "lstrip", false)) flags |= TOKEN_LSTRIP;
        if (json_bool(x, "rstrip", false)) flags |= TOKEN_RSTRIP;
        status = vocab_set(t, (uint64_t)json_int(x, "id", -1), content->text, content->length, 0, flags, e);
    }
    return status;
}

/* TemplateProcessing: which tokens stand around a text of its own. */
static void read_template(text_tokenizer *t, const json *v) {
    const json *single = v && v->type == JSON_OBJECT ? json_get(v, "single") : NULL,
               *parts = v && v->type == JSON_OBJECT ? json_get(v, "processors") : NULL;
    for (const json *x = parts && parts->type == JSON_ARRAY ? parts->first : NULL; x; x = x->next) read_template(t, x);
    bool before = true;
    for (const json *x = single && single->type == JSON_ARRAY ? single->first : NULL; x; x = x->next) {
        if (x->type == JSON_OBJECT && json_get(x, "Sequence")) before = false;
        const json *special = x->type == JSON_OBJECT ? json_get(x, "SpecialToken") : NULL;
        if (!special || special->type != JSON_OBJECT) continue;
        uint32_t id = vocab_named(t, json_text(special, "id", ""));
        if (id == NO_TOKEN) continue;
        if (before)
            t->bos = id, t->add_bos = true;
        else
            t->eos = id, t->add_eos = true;
    }
}

static strand_status read_model(text_tokenizer *t, const json *root, const json *model, error *e) {
    const char *type = json_text(model, "type", json_get(model, "merges") ? "BPE" : "");
    const json *vocab = json_get(model, "vocab"), *added = json_get(root, "added_tokens"),
               *unknown = json_get(model, "unk_token");
    uint64_t n = 0;
    if (!strcmp(type, "BPE"))
        t->model = TEXT_BPE;
    else if (!strcmp(type, "Unigram"))
        t->model = TEXT_UNIGRAM;
    else if (!strcmp(type, "WordPiece"))
        t->model = TEXT_WORDPIECE;
    else
        return refuse(t, "a model", type, e);
    if (!vocab || vocab->type != (t->model == TEXT_UNIGRAM ? JSON_ARRAY : JSON_OBJECT))
        return wrong(t, "its model has no vocab", e);
    if (added && added->type != JSON_ARRAY) added = NULL;
    t->byte_fallback = json_bool(model, "byte_fallback", false);
    t->fuse_unknown = t->model == TEXT_UNIGRAM || json_bool(model, "fuse_unk", false);
    t->ignore_merges = json_bool(model, "ignore_merges", false);
    t->max_word = (uint32_t)json_int(model, "max_input_chars_per_word", 100);
    size_t unused;
    if (!keep(t, json_get(model, "continuing_subword_prefix"), &t->continuing, &unused)) return tokenizer_no_memory(t, e);
    if (t->model == TEXT_BPE && (*t->continuing || *json_text(model, "end_of_word_suffix", "")))
        return wrong(t, "BPE with marks on its parts is not supported", e);
    strand_status status = count_ids(t, vocab, added, &n, e);
    if (!status) status = vocab_begin(t, n, e);
    if (!status) status = read_vocab(t, vocab, e);
    if (!status) status = read_added(t, added, e);
    int64_t id = json_int(model, "unk_id", -1);
    if (unknown && unknown->type == JSON_STRING)
        for (uint32_t i = 0; i < t->n && id < 0; i++)
            if (!strcmp(t->tokens[i].text, unknown->text)) id = i;
    if (!status && id >= 0 && id < t->n) t->unknown = (uint32_t)id, t->tokens[id].flags |= TOKEN_UNKNOWN;
    if (!status) status = vocab_finish(t, e);
    return !status && t->model == TEXT_BPE ? read_merges(t, json_get(model, "merges"), e) : status;
}

strand_status read_tokenizer_json(text_tokenizer *t, const char *text, size_t length, error *e) {
    arena scratch;
    arena_init(&scratch, t->arena->allocator);
    const json *root, *model = NULL;
    strand_status status = json_parse(&scratch, text, length, t->path, &root, e);
    if (!status) model = root->type == JSON_OBJECT ? json_get(root, "model") : NULL;
    if (!status && (!model || model->type != JSON_OBJECT)) status = wrong(t, "not a tokenizer.json: it has no model", e);
    if (!status) {
        const json *decoder = json_get(root, "decoder"), *cuts = json_get(root, "pre_tokenizer");
        t->byte_level = holds(decoder, "ByteLevel", "decoders") || holds(cuts, "ByteLevel", "pretokenizers");
        t->escape = !t->byte_level && (holds(decoder, "Metaspace", "decoders") || holds(decoder, "Replace", "decoders") ||
                                       holds(cuts, "Metaspace", "pretokenizers"));
        t->strip_start = holds(decoder, "Metaspace", "decoders") || holds(decoder, "Strip", "decoders");
        status = read_model(t, root, model, e);
        if (!status) status = read_normaliser(t, json_get(root, "normalizer"), e);
        if (!status) status = read_cut(t, cuts, e);
        if (!status) read_template(t, json_get(root, "post_processor"));
    }
    arena_release(&scratch);
    return status;
}
