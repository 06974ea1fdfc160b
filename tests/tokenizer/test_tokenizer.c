/* test_tokenizer.c - tokenizers: the published vectors (in $STRAND_SHARED, else skipped with a note), small vocabularies made
 * here for every kind, text that comes back, streams that never give half a character, and damaged files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tokenizer/text.h"
#include "utf8.h"
#include "vectors.h"

#define MANY 4096

static const char *shared;

typedef struct opened {
    arena a;
    weights *w;
    tokenizer t;
} opened;

static void open_path(opened *o, const char *path, int64_t vocabulary) {
    error e = {0};
    memset(o, 0, sizeof *o);
    arena_init(&o->a, allocator_default());
    if (tokenizer_open(&o->t, &o->a, NULL, path, vocabulary, &e)) fail_msg("%s", e.text);
}

static void close_it(opened *o) {
    tokenizer_close(&o->t);
    weights_close(o->w);
    arena_release(&o->a);
}

static char *read_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: cannot be opened", path);
    char *text = malloc(1 << 22);
    *n = fread(text, 1, 1 << 22, f);
    fclose(f);
    return text;
}

static size_t encode(const opened *o, const char *text, size_t n, uint32_t flags, int64_t *ids) {
    error e = {0};
    size_t count = 0;
    if (tokenizer_encode(&o->t, allocator_default(), text, n, flags, ids, MANY, &count, &e)) fail_msg("%s", e.text);
    assert_true(count <= MANY);
    return count;
}

static size_t decode(const opened *o, const int64_t *ids, size_t n, char *out) {
    strand_decoder d = {0};
    size_t made = 0;
    for (size_t i = 0; i < n; i++) made += tokenizer_decode(&o->t, &d, ids[i], out + made, 65536 - made);
    return made + tokenizer_decode(&o->t, &d, -1, out + made, 65536 - made);
}

/* ---- published vectors ---- */

static void check_line(const char *name, size_t line, const int64_t *ids, size_t n, const char *want) {
    char got[32768] = "";
    size_t at = 0;
    for (size_t i = 0; i < n; i++) at += (size_t)snprintf(got + at, sizeof got - at, " %lld", (long long)ids[i]);
    if (strcmp(got, want)) fail_msg("%s, text %zu:\n got %s\nwant %s", name, line, got, want);
}

/* The .inp file's texts stand between lines __ggml_vocab_test__, the .out file has a line of ids for each. Returns how many. */
static size_t run_vectors(const opened *o, const char *base, const char *name, bool comes_back) {
    static const char mark[] = "\n__ggml_vocab_test__\n";
    char path[512], text[65536];
    size_t n_in, n_out, count = 0;
    snprintf(path, sizeof path, "%s.inp", base);
    char *in = read_file(path, &n_in);
    snprintf(path, sizeof path, "%s.out", base);
    char *out = read_file(path, &n_out);
    in[n_in] = out[n_out] = 0;
    for (char *at = in, *line = out; *line;) {
        char *end = strstr(at, mark), *stop = strchr(line, '\n');
        size_t n = end ? (size_t)(end - at) : strlen(at);
        int64_t ids[MANY];
        *stop = 0;
        size_t ids_n = encode(o, at, n, STRAND_ENCODE_SPECIAL, ids);
        check_line(name, count, ids, ids_n, line);
        if (comes_back) {
            size_t made = decode(o, ids, ids_n, text);
            if (made != n || memcmp(text, at, n)) fail_msg("%s, text %zu: comes back as '%.*s'", name, count, (int)made, text);
        }
        count++;
        at = end ? end + strlen(mark) : at + n;
        line = stop + 1;
    }
    free(in);
    free(out);
    return count;
}

static void vectors(const char *vocab, const char *with, bool comes_back) {
    if (!shared) skip();
    char path[512], base[512];
    opened o;
    snprintf(base, sizeof base, "%s/data/text/ggml-vocab/ggml-vocab-%s.gguf", shared, vocab);
    snprintf(path, sizeof path, "%s/data/text/%s", shared, with);
    open_path(&o, with ? path : base, 0);
    size_t n = run_vectors(&o, base, with ? with : vocab, comes_back);
    print_message("%s: %zu texts\n", with ? with : vocab, n);
    assert_true(n > 40);
    close_it(&o);
}

static void test_gpt2(void **state) {
    (void)state, vectors("gpt-2", NULL, true);
}
static void test_mpt(void **state) {
    (void)state, vectors("mpt", NULL, true);
}
static void test_spm(void **state) {
    (void)state, vectors("llama-spm", NULL, true);
}
static void test_bert(void **state) {
    (void)state, vectors("bert-bge", NULL, false);
}
static void test_neox_json(void **state) {
    (void)state, vectors("mpt", "tokenizers/20B_tokenizer.json", true);
}
static void test_spm_model(void **state) {
    (void)state, vectors("llama-spm", "tokenizers/tokenizer.model", true);
}

/* ---- kinds ---- */

/* A file of these bytes in a folder that is removed again. */
static void open_bytes(opened *o, const void *data, size_t n, int64_t vocabulary) {
    char path[] = "/tmp/strand-tokenizer-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "wb");
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
    open_path(o, path, vocabulary);
    remove(path);
}

static void test_small(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof small_tokenizers / sizeof small_tokenizers[0]; i++) {
        const small_tokenizer *s = &small_tokenizers[i];
        opened o;
        open_bytes(&o, s->document, strlen(s->document), 0);
        for (const vector *v = s->vectors; v->text; v++) {
            int64_t ids[MANY];
            size_t n = encode(&o, v->text, strlen(v->text), STRAND_ENCODE_SPECIAL, ids), want = 0;
            while (v->ids[want] != NO_MORE) want++;
            if (n != want || memcmp(ids, v->ids, n * sizeof *ids)) {
                for (size_t k = 0; k < n; k++) print_message(" %lld", (long long)ids[k]);
                fail_msg("%s: '%s' has other ids", s->name, v->text);
            }
        }
        close_it(&o);
    }
}

/* The first ids of the list are 256 bytes; the longest token from the left, against a search through all of them. */
static void test_rwkv(void **state) {
    (void)state;
    if (!shared) skip();
    char path[512];
    opened o;
    snprintf(path, sizeof path, "%s/data/text/tokenizers/rwkv_vocab_v20230424.txt", shared);
    open_path(&o, path, 65536);
    assert_int_equal(o.t.n_ids, 65530);
    static const char text[] = "The quick brown fox, \xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C \xF0\x9F\xA6\x99\r\n\r\n  if (x == "
                               "0) { return \"\\n\"; }\xFF 1234567";
    int64_t ids[MANY];
    size_t n = encode(&o, text, sizeof text - 1, 0, ids), at = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t best = 0;
        for (uint32_t k = 1; k < o.t.text->n; k++) {
            const token *x = &o.t.text->tokens[k];
            if (x->length && x->length > (best ? o.t.text->tokens[best].length : 0) && at + x->length < sizeof text &&
                !memcmp(text + at, x->text, x->length))
                best = k;
        }
        assert_int_equal(ids[i], best);
        at += o.t.text->tokens[best].length;
    }
    assert_int_equal(at, sizeof text - 1);
    close_it(&o);
}

static void test_llama2c(void **state) {
    (void)state;
    if (!shared) skip();
    char path[512], text[65536];
    opened o;
    snprintf(path, sizeof path, "%s/data/text/stories260K/tok512.bin", shared);
    open_path(&o, path, 512);
    static const char story[] = "Once upon a time, there was a little girl named Lily.\nCaf\xC3\xA9!";
    int64_t ids[MANY];
    size_t n = encode(&o, story, sizeof story - 1, STRAND_ENCODE_BOUNDS, ids);
    assert_int_equal(ids[0], 1);
    assert_true(n < sizeof story / 2);
    size_t made = decode(&o, ids, n, text);
    assert_int_equal(made, sizeof story - 1);
    assert_memory_equal(text, story, made);
    close_it(&o);
}

/* A SentencePiece model made by hand: BPE with byte fall-back and a token of the user's own. */
static void put_piece(char *b, size_t *n, const char *text, float score, int type) {
    size_t length = strlen(text);
    b[(*n)++] = 10, b[(*n)++] = (char)(length + 9);
    b[(*n)++] = 10, b[(*n)++] = (char)length;
    memcpy(b + *n, text, length);
    *n += length;
    b[(*n)++] = 21;
    memcpy(b + *n, &score, 4);
    *n += 4;
    b[(*n)++] = 24, b[(*n)++] = (char)type;
}

static size_t make_spm(char *b) {
    size_t n = 0;
    static const char *const pieces[] = {"\xE2\x96\x81",
                                         "a",
                                         "b",
                                         "ab",
                                         ("\xE2\x96\x81"
                                          "ab"),
                                         "aba"};
    put_piece(b, &n, "<unk>", 0, 2);
    put_piece(b, &n, "<s>", 0, 3);
    put_piece(b, &n, "</s>", 0, 3);
    put_piece(b, &n, "[X]", 0, 4);
    for (int i = 0; i < 6; i++) put_piece(b, &n, pieces[i], (float)-i, 1);
    memcpy(b + n, "\x12\x02\x18\x02", 4); /* trainer_spec { model_type: BPE } */
    return n + 4;
}

static void test_spm_small(void **state) {
    (void)state;
    char b[1024];
    opened o;
    open_bytes(&o, b, make_spm(b), 0);
    int64_t ids[MANY];
    static const int64_t want[] = {8, 5, 3, 4, 6}; /* the pairs merge from the left by score: " ab", "a", [X], " ", "b" */
    size_t n = encode(&o, "aba[X]b", 7, 0, ids);
    assert_int_equal(n, 5);
    assert_memory_equal(ids, want, sizeof want);
    assert_int_equal(encode(&o, "</s>", 4, STRAND_ENCODE_SPECIAL, ids), 1);
    assert_int_equal(ids[0], 2);
    assert_true(tokenizer_flags(&o.t, 2) & STRAND_TOKEN_END);
    assert_true(encode(&o, "</s>", 4, 0, ids) > 1); /* text from others never becomes a special token */
    close_it(&o);
}

static void test_bytes(void **state) {
    (void)state;
    opened o;
    open_path(&o, "bytes", 256);
    char text[256], out[65536];
    int64_t ids[MANY];
    for (int i = 0; i < 256; i++) text[i] = (char)i;
    assert_int_equal(encode(&o, text, 256, STRAND_ENCODE_BOUNDS, ids), 256);
    for (int i = 0; i < 256; i++) assert_int_equal(ids[i], i);
    assert_int_equal(decode(&o, ids, 128, out), 128);
    assert_memory_equal(out, text, 128);
    close_it(&o);
}

/* ---- streams ---- */

/* Whatever the bytes: every piece that comes out is whole UTF-8, and together they are the text with what is none replaced. */
static void test_stream(void **state) {
    (void)state;
    opened o;
    open_path(&o, "bytes", 256);
    static const char good[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\xA6\x99z";
    uint32_t seed = 1;
    for (int round = 0; round < 2000; round++) {
        unsigned char bytes[24];
        size_t n = round ? 24 : sizeof good - 1, made = 0;
        char out[256], piece[128];
        for (size_t i = 0; i < n; i++) {
            seed = seed * 1664525 + 1013904223;
            static const unsigned char lively[] = {0xC3, 0xE2, 0xF0, 0x9F, 0x80, 0xA9, 0xED, 0xF4, 'a', 0xFF, 0xE0, 0xC0};
            bytes[i] = round ? lively[(seed >> 16) % sizeof lively] : (unsigned char)good[i];
        }
        strand_decoder d = {0};
        for (size_t i = 0; i <= n; i++) {
            size_t k = tokenizer_decode(&o.t, &d, i < n ? bytes[i] : -1, piece, sizeof piece);
            for (size_t at = 0, step; at < k; at += step) {
                step = utf8_length((const unsigned char *)piece + at, k - at);
                assert_true(step > 0);
            }
            memcpy(out + made, piece, k);
            made += k;
        }
        if (!round) {
            assert_int_equal(made, n);
            assert_memory_equal(out, good, n);
        }
    }
    close_it(&o);
}

/* A run of one letter, a run of spaces, and no text: quickly, and back. */
static void test_long(void **state) {
    (void)state;
    opened o;
    open_bytes(&o, small_tokenizers[1].document, strlen(small_tokenizers[1].document), 0);
    size_t n = 400000, count;
    char *text = malloc(n);
    error e = {0};
    memset(text, 'a', n);
    memset(text + n / 2, ' ', n / 2);
    assert_int_equal(tokenizer_encode(&o.t, allocator_default(), text, n, 0, NULL, 0, &count, &e), STRAND_OK);
    assert_true(count > n / 4);
    assert_int_equal(tokenizer_encode(&o.t, allocator_default(), "", 0, 0, NULL, 0, &count, &e), STRAND_OK);
    assert_int_equal(count, 0);
    free(text);
    close_it(&o);
}

/* ---- files from others ---- */

static strand_status open_damaged(const void *data, size_t n) {
    error e = {0};
    arena a;
    arena_init(&a, allocator_default());
    text_tokenizer *x = ARENA_NEW(&a, text_tokenizer);
    *x = (text_tokenizer){.arena = &a, .path = "f", .continuing = "", .unknown = NO_TOKEN, .bos = NO_TOKEN, .eos = NO_TOKEN};
    tokenizer t = {.text = x};
    strand_status status = read_tokenizer_bytes_of_file(x, data, n, 64, &e);
    if (status) assert_true(e.text[0] && !strchr(e.text, '\n'));
    if (!status) {
        int64_t ids[64];
        size_t count;
        t.n_ids = x->n;
        (void)tokenizer_encode(&t, allocator_default(), "ab <s> \xC3\xA9 the", 13, 3, ids, 64, &count, &e);
    }
    tokenizer_close(&t);
    arena_release(&a);
    return status;
}

/* Every document cut at every byte is refused; with any byte changed it is refused or works, and neither reads beyond. */
static void test_damaged(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof small_tokenizers / sizeof small_tokenizers[0]; i++) {
        const char *document = small_tokenizers[i].document;
        size_t n = strlen(document);
        if (n > 4000) n = 0; /* the one with 256 byte tokens takes long */
        for (size_t k = 0; k < n; k++) {
            char *copy = malloc(n);
            memcpy(copy, document, n);
            assert_int_not_equal(open_damaged(copy, k), STRAND_OK);
            copy[k] = "0\"}9-"[k % 5];
            (void)open_damaged(copy, n);
            free(copy);
        }
    }
    char b[1024], copy[1024];
    size_t n = make_spm(b);
    for (size_t k = 0; k < n; k++) {
        memcpy(copy, b, n);
        for (int byte = 0; byte < 256; byte += 5) {
            copy[k] = (char)byte;
            (void)open_damaged(copy, n);
        }
    }
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *document, *says;
    } rows[] = {
        {"{}", "it has no model"},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}}}", "a model of type 'WordLevel'"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "an id of its vocab is not a number"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":16000000},\"merges\":[]}}", "far more than its tokens"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999999999999999},\"merges\":[]}}",
         "an id of its vocab is not a number"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"ab\"]}}", "a merge is not two texts"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":{\"type\":\"Magic\"}}",
         "a normalizer of type 'Magic'"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{"
         "\"Regex\":\"(a\"}}}",
         "is not understood"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}", "is not [text, score]"},
        {"1 'a' 2\n", "is not of the form: id, Python literal, number of bytes"},
        {"4000000000 'a' 1\n", "far more than its lines"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        arena a;
        error e = {0};
        arena_init(&a, allocator_default());
        text_tokenizer *x = ARENA_NEW(&a, text_tokenizer);
        *x = (text_tokenizer){.arena = &a, .path = "f", .continuing = ""};
        assert_int_not_equal(
            read_tokenizer_bytes_of_file(x, (const uint8_t *)rows[i].document, strlen(rows[i].document), 0, &e), STRAND_OK);
        if (!strstr(e.text, rows[i].says)) fail_msg("%s: %s", rows[i].document, e.text);
        for (int k = 0; k < x->n_steps; k++) step_close(&x->steps[k]);
        arena_release(&a);
    }
}

int main(void) {
    shared = getenv("STRAND_SHARED");
    if (!shared || access(shared, R_OK)) shared = NULL;
    if (!shared) print_message("STRAND_SHARED is not there: the published vectors are skipped\n");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2),      cmocka_unit_test(test_mpt),       cmocka_unit_test(test_spm),
        cmocka_unit_test(test_bert),      cmocka_unit_test(test_neox_json), cmocka_unit_test(test_spm_model),
        cmocka_unit_test(test_small),     cmocka_unit_test(test_rwkv),      cmocka_unit_test(test_llama2c),
        cmocka_unit_test(test_spm_small), cmocka_unit_test(test_bytes),     cmocka_unit_test(test_stream),
        cmocka_unit_test(test_long),      cmocka_unit_test(test_damaged),   cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
