/* read_gguf.c - the tokenizer in a GGUF file's metadata (tokenizer.ggml.*): "gpt2" byte-level BPE, "llama" SentencePiece BPE,
 * "t5" unigram, "bert" WordPiece, "rwkv" the World vocabulary. How text is cut before BPE has only a name there
 * (tokenizer.ggml.pre): a name that is not in the table is refused, since any other cut gives other tokens without a word. */
#include "text.h"

#include <string.h>

#include "../weights/gguf.h"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3                                                                                                                 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "                                                 \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN2                                                                                                                  \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "                                                      \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* The cuts by their names, one after the other. */
static const struct {
    const char *name, *first, *second;
    bool ignore_merges;
} pres[] = {
    {"gpt-2", GPT2, NULL, false},
    {"gpt2", GPT2, NULL, false},
    {"mpt", GPT2, NULL, false},
    {"olmo", GPT2, NULL, false},
    {"phi-2", GPT2, NULL, false},
    {"jais", GPT2, NULL, false},
    {"roberta-bpe", GPT2, NULL, false},
    {"gpt-neox", GPT2, NULL, false},
    {"mamba", GPT2, NULL, false},
    {"starcoder", "\\p{N}", GPT2, false},
    {"refact", "\\p{N}", GPT2, false},
    {"command-r", "\\p{N}", GPT2, false},
    {"smollm", "\\p{N}", GPT2, false},
    {"codeshell", "\\p{N}", GPT2, false},
    {"llama3", LLAMA3, NULL, true},
    {"llama-v3", LLAMA3, NULL, true},
    {"llama-bpe", LLAMA3, NULL, true},
    {"falcon3", LLAMA3, NULL, true},
    {"dbrx", LLAMA3, NULL, false},
    {"smaug-bpe", LLAMA3, NULL, false},
    {"qwen2", QWEN2, NULL, false},
    {"stablelm2", QWEN2, NULL, false},
    {"deepseek-r1-qwen", QWEN2, NULL, false},
    {"default", GPT2, NULL, false},
};

static strand_status wrong(const text_tokenizer *t, const char *what, error *e) {
    return error_set(e, STRAND_ERR_FORMAT, "%s: its tokenizer: %s", t->path, what);
}

/* BERT's in this format: words begin with U+2581, what continues one has no mark. Turned into "##" for the latter. */
static size_t bert_text(const char *text, size_t n, bool special, char *out) {
    bool begins = n >= 3 && !memcmp(text, "\xE2\x96\x81", 3);
    size_t mark = special || begins ? 0 : 2, skip = begins ? 3 : 0;
    memcpy(out, "##", mark);
    memcpy(out + mark, text + skip, n - skip);
    return mark + n - skip;
}

static strand_status set_token(text_tokenizer *t, uint64_t id, const gguf_string *s, int64_t type, float score, error *e) {
    static const uint32_t flags_of[] = {0,         0, TOKEN_UNKNOWN | TOKEN_SPECIAL, TOKEN_SPECIAL, TOKEN_ADDED, TOKEN_UNUSED,
                                        TOKEN_BYTE};
    uint32_t flags = type >= 0 && type < 7 ? flags_of[type] : 0;
    if (s->length > 65535) return wrong(t, "a token of more than 65535 bytes", e);
    char *copy = arena_alloc(t->arena, (size_t)s->length + 3, 1);
    size_t n = (size_t)s->length;
    if (!copy) return tokenizer_no_memory(t, e);
    memcpy(copy, s->text, n);
    int byte = flags & TOKEN_BYTE ? byte_token(s->text, n) : -1;
    if (byte >= 0) {
        copy[0] = (char)byte;
        n = 1;
        t->byte_ids[byte] = (uint32_t)id;
    } else if (flags & (TOKEN_SPECIAL | TOKEN_ADDED)) {
        if (t->escape) n = unescape_blocks(s->text, n, copy);
    } else if (t->byte_level) {
        if (!byte_level_decode(s->text, (size_t)s->length, copy, &n)) memcpy(copy, s->text, n = (size_t)s->length);
    } else if (t->model == TEXT_WORDPIECE) {
        n = bert_text(s->text, n, flags || (n && s->text[0] == '['), copy);
    } else if (t->escape) {
        n = unescape_blocks(s->text, n, copy);
    }
    return vocab_set(t, id, copy, n, score, flags, e);
}

static uint32_t read_id(const text_tokenizer *t, const weights *w, const char *key) {
    int64_t id = gguf_int(w, key, -1);
    return id >= 0 && id < t->n ? (uint32_t)id : NO_TOKEN;
}

static strand_status read_tokens(text_tokenizer *t, const weights *w, error *e) {
    const gguf_value *tokens = gguf_array(w, "tokenizer.ggml.tokens", GGUF_STRING);
    const gguf_value *scores = weights_gguf(w, "tokenizer.ggml.scores"), *types = weights_gguf(w, "tokenizer.ggml.token_type");
    if (!tokens) return wrong(t, "no tokenizer.ggml.tokens", e);
    strand_status status = vocab_begin(t, tokens->count, e);
    for (uint64_t i = 0; i < tokens->count && !status; i++)
        status = set_token(t, i, &tokens->strings[i], gguf_int_at(types, i, 1), (float)gguf_number_at(scores, i, 0), e);
    if (status) return status;
    t->unknown = read_id(t, w, "tokenizer.ggml.unknown_token_id");
    t->bos =
        read_id(t, w,
                t->model == TEXT_WORDPIECE && !weights_gguf(w, "tokenizer.ggml.bos_token_id") ? "tokenizer.ggml.cls_token_id"
                                                                                              : "tokenizer.ggml.bos_token_id");
    t->eos = read_id(t, w, "tokenizer.ggml.eos_token_id");
    if (t->model == TEXT_WORDPIECE && t->eos == NO_TOKEN)
        t->eos = read_id(t, w, "tokenizer.ggml.seperator_token_id"); /* spelled so in files */
    uint32_t turn = read_id(t, w, "tokenizer.ggml.eot_token_id");
    if (turn != NO_TOKEN) t->tokens[turn].flags |= TOKEN_END;
    bool pieces = t->model == TEXT_PIECES, word = t->model == TEXT_WORDPIECE;
    t->add_bos = gguf_bool(w, "tokenizer.ggml.add_bos_token", pieces || word);
    t->add_eos = gguf_bool(w, "tokenizer.ggml.add_eos_token", word || t->model == TEXT_UNIGRAM);
    return vocab_finish(t, e);
}

static strand_status read_merges(text_tokenizer *t, const weights *w, error *e) {
    const gguf_value *merges = gguf_array(w, "tokenizer.ggml.merges", GGUF_STRING);
    if (!merges) return wrong(t, "no tokenizer.ggml.merges", e);
    strand_status status = merges_begin(t, merges->count, e);
    for (uint64_t i = 0; i < merges->count && !status; i++) {
        const gguf_string *s = &merges->strings[i];
        const char *space = s->length > 1 ? memchr(s->text + 1, ' ', (size_t)s->length - 1) : NULL;
        if (!space) return wrong(t, "a merge is not two texts", e);
        size_t left = (size_t)(space - s->text);
        status = merges_add(t, s->text, left, space + 1, (size_t)s->length - left - 1, (uint32_t)i, e);
    }
    return status;
}

static strand_status read_cut(text_tokenizer *t, const weights *w, error *e) {
    const char *name = gguf_text(w, "tokenizer.ggml.pre", "default");
    for (size_t i = 0; i < sizeof pres / sizeof pres[0]; i++) {
        if (strcmp(name, pres[i].name)) continue;
        t->ignore_merges = pres[i].ignore_merges;
        strand_status status = steps_add_split(t, pres[i].first, SPLIT_ISOLATED, false, e);
        return !status && pres[i].second ? steps_add_split(t, pres[i].second, SPLIT_ISOLATED, false, e) : status;
    }
    return error_set(e, STRAND_ERR_UNSUPPORTED,
                     "%s: tokenizer.ggml.pre '%.60s' is not known here; give the model's tokenizer.json with --tokenizer",
                     t->path, name);
}

static strand_status read_unigram(text_tokenizer *t, const weights *w, error *e) {
    const gguf_value *map = weights_gguf(w, "tokenizer.ggml.precompiled_charsmap");
    strand_status status = STRAND_OK;
    if (map && map->array && (map->type == GGUF_U8 || map->type == GGUF_I8))
        status = read_tokenizer_charsmap(t, map->data, (size_t)map->count, e);
    if (!status && gguf_bool(w, "tokenizer.ggml.remove_extra_whitespaces", false) && !steps_add(t, STEP_SQUEEZE, e))
        status = e->status;
    return status;
}

strand_status read_tokenizer_gguf(text_tokenizer *t, const weights *w, bool *found, error *e) {
    const char *model = gguf_text(w, "tokenizer.ggml.model", "none"),
               *document = gguf_text(w, "tokenizer.huggingface.json", NULL);
    *found = document != NULL;
    if (document && !strcmp(model, "none")) return read_tokenizer_json(t, document, strlen(document), e);
    *found = strcmp(model, "none") != 0 && strcmp(model, "no_vocab") != 0;
    if (!*found) return STRAND_OK;
    t->chat_template = gguf_text(w, "tokenizer.chat_template", NULL);
    strand_status status;
    if (!strcmp(model, "gpt2")) {
        t->model = TEXT_BPE;
        t->byte_level = true;
        status = read_tokens(t, w, e);
        if (!status) status = read_merges(t, w, e);
        return status ? status : read_cut(t, w, e);
    }
    if (!strcmp(model, "llama") || !strcmp(model, "t5")) {
        t->model = *model == 'l' ? TEXT_PIECES : TEXT_UNIGRAM;
        t->escape = t->byte_fallback = t->fuse_unknown = t->strip_start = true;
        t->space_prefix = gguf_bool(w, "tokenizer.ggml.add_space_prefix", true);
        status = read_tokens(t, w, e);
        return status || *model == 'l' ? status : read_unigram(t, w, e);
    }
    if (!strcmp(model, "bert")) {
        t->model = TEXT_WORDPIECE;
        t->continuing = "##";
        t->max_word = 100;
        status = read_tokens(t, w, e);
        return status ? status : steps_add_bert(t, true, e);
    }
    if (!strcmp(model, "rwkv")) return read_gguf_rwkv(t, w, e);
    return error_set(e, STRAND_ERR_UNSUPPORTED, "%s: a tokenizer of the kind '%.60s' is not supported", t->path, model);
}
