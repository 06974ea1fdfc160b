/* text.h - a text tokenizer as its parts see it: the vocabulary, what is done to text before it is cut into tokens, and how.
 *
 * Readers (read_*.c) fill it in from the files; encode.c runs it; the algorithms are bpe.c, unigram.c and wordpiece.c (with
 * the greedy search of RWKV). Tokens hold plain bytes: the byte-level alphabet of GPT-2 is undone when a file is read.
 * Vocabularies are limited by what their file holds, steps by MAX_STEPS; patterns run under a match limit. */
#ifndef STRAND_CORE_TOKENIZER_TEXT_H
#define STRAND_CORE_TOKENIZER_TEXT_H

#include "../json.h"
#include "tokenizer.h"

#define NO_TOKEN            UINT32_MAX
#define TOKENIZER_MAX_FILE  ((uint64_t)256 << 20)
#define TOKENIZER_MAX_STEPS 32
#define MERGE_MASK_EMPTY    UINT32_MAX

typedef enum text_model { TEXT_BYTES, TEXT_BPE, TEXT_PIECES, TEXT_UNIGRAM, TEXT_WORDPIECE, TEXT_GREEDY } text_model;

#define TOKEN_SPECIAL 1u /* control: matched only where that is asked for, never printed */
#define TOKEN_UNKNOWN 2u
#define TOKEN_BYTE    4u /* stands for one byte, found by the fall-back alone */
#define TOKEN_ADDED   8u /* matched in the text before anything else */
#define TOKEN_UNUSED  16u
#define TOKEN_END     32u /* a model that gives it has finished */
#define TOKEN_LSTRIP  64u
#define TOKEN_RSTRIP  128u

typedef struct token {
    const char *text; /* zero-terminated, plain bytes */
    uint32_t length;
    float score;
    uint32_t flags;
} token;

typedef struct merge {
    uint32_t left, right, rank, id;
} merge;

typedef enum step_kind {
    /* on the whole text */
    STEP_NFC,
    STEP_NFD,
    STEP_NFKC,
    STEP_NFKD,
    STEP_LOWER,
    STEP_STRIP_ACCENTS,
    STEP_CLEAN,
    STEP_SPACE_CJK,
    STEP_REPLACE,
    STEP_REPLACE_PATTERN,
    STEP_PREPEND,
    STEP_STRIP,
    STEP_CHARSMAP,
    STEP_SQUEEZE,
    /* cutting into pieces */
    STEP_SPLIT,
    STEP_METASPACE,
    STEP_PREFIX_SPACE
} step_kind;

/* What becomes of what a pattern matched. */
typedef enum split_how { SPLIT_ISOLATED, SPLIT_REMOVED, SPLIT_PREVIOUS, SPLIT_NEXT, SPLIT_CONTIGUOUS } split_how;

typedef struct step {
    step_kind kind;
    const char *from, *to;
    size_t n_from, n_to;
    void *pattern; /* compiled */
    split_how how;
    bool invert;      /* what does not match is cut out */
    bool left, right; /* STEP_STRIP */
    bool first_only;  /* STEP_METASPACE: a space before the first piece of a text alone */
    bool prepend;     /* STEP_METASPACE */
    bool split;       /* STEP_METASPACE */
} step;

struct text_tokenizer {
    arena *arena;
    const char *path; /* for errors */
    text_model model;
    token *tokens;
    uint32_t n;
    uint32_t *index; /* by text: ids or NO_TOKEN, open addressing; special, byte and unknown tokens are not in it */
    uint32_t index_mask;
    uint32_t *added; /* ids of TOKEN_ADDED and TOKEN_SPECIAL tokens: by first byte, longest first */
    uint32_t added_at[257];
    uint8_t longest[65536]; /* TEXT_GREEDY: the longest token that begins with these two bytes */
    merge *merges;          /* open addressing by (left, right); rank MERGE_MASK_EMPTY: empty */
    uint32_t merge_mask;
    uint32_t byte_ids[256]; /* NO_TOKEN where there is none */
    uint32_t unknown, bos, eos;
    bool add_bos, add_eos;
    bool byte_level; /* BPE on bytes; else on characters */
    bool byte_fallback, fuse_unknown, ignore_merges;
    bool space_prefix;      /* TEXT_PIECES, TEXT_UNIGRAM from SentencePiece: a space before a text, and after a special token */
    bool escape;            /* the file writes U+2581 for a space: turned into spaces when it is read, and in texts */
    bool strip_start;       /* a decoded text loses the space it begins with */
    const char *continuing; /* WordPiece: "##" */
    uint32_t max_word;
    size_t max_length; /* of a token's text, in bytes */
    float least_score;
    step steps[TOKENIZER_MAX_STEPS]; /* normalisers, then those that cut */
    int n_steps;
    const char *chat_template;
    const uint8_t *charsmap; /* SentencePiece's precompiled normaliser */
    size_t charsmap_bytes;
};

/* Ids as they are made; more than `capacity` are counted. */
typedef struct id_list {
    int64_t *ids;
    size_t capacity, count;
} id_list;

static inline void id_add(id_list *out, uint32_t id) {
    if (out->count < out->capacity) out->ids[out->count] = id;
    out->count++;
}

/* ---- vocab.c ---- */
strand_status vocab_begin(text_tokenizer *t, uint64_t n, error *e);
/* `text` is copied. */
strand_status vocab_set(text_tokenizer *t, uint64_t id, const char *text, size_t length, float score, uint32_t flags, error *e);
/* Turns the byte-level alphabet into bytes; false when a character is none of it. `out` holds `length` bytes. */
bool byte_level_decode(const char *text, size_t length, char *out, size_t *n);
/* U+2581 becomes a space; `out` holds n bytes. */
size_t unescape_blocks(const char *text, size_t n, char *out);
/* "<0x0A>" -> 10, else -1. */
int byte_token(const char *text, size_t length);
/* To be called once all are set. */
strand_status vocab_finish(text_tokenizer *t, error *e);
uint32_t vocab_find(const text_tokenizer *t, const char *text, size_t length);
/* Any token of this text, special ones too. */
uint32_t vocab_named(const text_tokenizer *t, const char *text);
strand_status merges_begin(text_tokenizer *t, uint64_t n, error *e);
/* Of two tokens by their texts (as in the file when byte_level); ignored when they or their sum are unknown. */
strand_status merges_add(text_tokenizer *t, const char *left, size_t n_left, const char *right, size_t n_right, uint32_t rank,
                         error *e);
const merge *merges_find(const text_tokenizer *t, uint32_t left, uint32_t right);
strand_status tokenizer_no_memory(const text_tokenizer *t, error *e);

/* ---- the algorithms: one piece of text ---- */
strand_status bpe_encode(const text_tokenizer *t, arena *scratch, const char *text, size_t n, id_list *out, error *e);
strand_status pieces_encode(const text_tokenizer *t, arena *scratch, const char *text, size_t n, id_list *out, error *e);
strand_status unigram_encode(const text_tokenizer *t, arena *scratch, const char *text, size_t n, id_list *out, error *e);
strand_status wordpiece_encode(const text_tokenizer *t, arena *scratch, const char *text, size_t n, id_list *out, error *e);
strand_status greedy_encode(const text_tokenizer *t, const char *text, size_t n, id_list *out);
/* A character without a token: its bytes, or the unknown token. */
void encode_unknown(const text_tokenizer *t, const char *text, size_t n, id_list *out, bool *last_unknown);

/* ---- steps.c, unicode.c ---- */
typedef struct piece {
    size_t at, length;
} piece;
typedef struct pieces {
    arena *scratch;
    char *text;
    size_t length;
    piece *list; /* NULL: one, all of the text */
    size_t n, room;
} pieces;
strand_status steps_run(const text_tokenizer *t, pieces *p, bool first, error *e);
/* Compiles; refuses with one line without pcre2. */
strand_status step_pattern(const text_tokenizer *t, step *s, const char *pattern, size_t length, bool literal, error *e);
/* A cut at a pattern, added. */
/* What BERT does to a text: cleaned, spaced, lower case without accents, cut at spaces and punctuation. */
strand_status steps_add_bert(text_tokenizer *t, bool lower, error *e);
strand_status steps_add_split(text_tokenizer *t, const char *pattern, split_how how, bool invert, error *e);
void step_close(step *s);
/* One of the steps that are told by Unicode's tables; the text is replaced. Refuses with one line without utf8proc. */
strand_status unicode_step(const step *s, pieces *p, error *e);
strand_status unicode_need(const text_tokenizer *t, const char *what, error *e);
/* Calls `found` for every match of a compiled pattern in text[0, n), from left to right. */
strand_status pattern_each(const step *s, const char *text, size_t n, bool (*found)(void *user, size_t from, size_t to),
                           void *user, error *e);
step *steps_add(text_tokenizer *t, step_kind kind, error *e);
bool pieces_add(pieces *p, size_t at, size_t length);

/* ---- readers ---- */
strand_status read_tokenizer_json(text_tokenizer *t, const char *text, size_t length, error *e);
strand_status read_tokenizer_model(text_tokenizer *t, const uint8_t *data, size_t length, error *e);
strand_status read_tokenizer_gguf(text_tokenizer *t, const weights *w, bool *found, error *e);
strand_status read_gguf_rwkv(text_tokenizer *t, const weights *w, error *e);
strand_status read_tokenizer_rwkv(text_tokenizer *t, const char *text, size_t length, error *e);
strand_status read_tokenizer_llama2c(text_tokenizer *t, const uint8_t *data, size_t length, int64_t vocabulary, error *e);
strand_status read_tokenizer_vocab(text_tokenizer *t, const char *text, size_t length, error *e);
strand_status read_tokenizer_charsmap(text_tokenizer *t, const uint8_t *data, size_t n, error *e);
strand_status read_tokenizer_bytes(text_tokenizer *t, int64_t vocabulary, error *e);
/* By their contents. */
strand_status read_tokenizer_bytes_of_file(text_tokenizer *t, const uint8_t *data, size_t length, int64_t vocabulary, error *e);

#endif
