/* test_text_hostile.c - language models from files that do not fit together: every tensor in turn missing or of another shape,
 * every number of config.json in turn negative, zero, huge, of another type. Each is either loaded and run, or refused with one
 * line; what a model cannot do without is refused. */
#define _GNU_SOURCE
#include "made.h"

#include <ctype.h>
#include <dirent.h>
#include <sys/stat.h>

static const char *const folders[] = {"mamba1/orig-d32-n2-l64",     "llama/gqa-d48-n3-l96-sharded-tied",
                                      "mamba2/orig-d64-n2-l101-g2", "rwkv6/pth-d48-n2-l101",
                                      "rwkv7/pth-d48-n2-l130",      "gpt_neox/parallel-d48-n2-l90-buffers",
                                      "retnet/fla-d48-n2-l110",     "griffin/hf-d48-n3-l90-w32",
                                      "based/d32-n3-l96",           "h3/pt-d32-n3-l100",
                                      "stripedhyena/hf-d48-n3-l101"};
#define N_FOLDERS (sizeof folders / sizeof folders[0])

/* Four tokens through a model that was loaded. Any status will do; what matters is to come back. */
static void run_a_little(strand_context *c, strand_model *m) {
    int64_t ids[4] = {1, 2, 3, 4};
    strand_plan *plan;
    strand_session *s;
    strand_plan_params pp;
    strand_tensor in = {"input_ids", STRAND_I64, 2, {1, 4}, ids, sizeof ids}, out = {.name = "logits"};
    (void)c;
    strand_plan_params_init(&pp);
    pp.max_length = 4;
    pp.backends = "cpu";
    pp.memory_limit = (uint64_t)1 << 30;
    if (strand_plan_open(m, &pp, &plan)) return;
    if (!strand_session_open(plan, NULL, &s)) {
        if (strand_session_run(s, &in, 1, &out, 1)) assert_true(strand_session_error(s)[0] != 0);
        strand_session_close(s);
    }
    strand_plan_close(plan);
}

/* Whether it loads; a refusal is one line that says something. */
static bool loads(strand_context *c, const void *data, size_t bytes, const char *config) {
    strand_model *m;
    if (!strand_model_open_memory(c, data, bytes, config, NULL, &m)) {
        run_a_little(c, m);
        strand_model_close(m);
        return true;
    }
    const char *why = strand_error(c);
    assert_true(strlen(why) > 10 && strlen(why) < 500);
    assert_null(strchr(why, '\n'));
    return false;
}

static char *read_text(const char *path) {
    FILE *f = fopen(path, "rb");
    char *text = calloc(1, 1 << 16);
    assert_non_null(text);
    if (f) assert_true(fread(text, 1, (1 << 16) - 1, f) > 0);
    if (f) fclose(f);
    return text;
}

/* The case's tensors as they are, floating ones only (buffers of other types mean nothing). */
static void take(strand_context *c, const char *folder, made *m) {
    char path[512];
    strand_file *f;
    strand_tensor t;
    snprintf(path, sizeof path, "%s", source_path("tests/golden/text/%s", folder));
    assert_ok(c, strand_file_open(c, path, &f));
    for (int64_t i = 0; i < strand_file_count(f); i++) {
        assert_int_equal(strand_file_get(f, i, &t), STRAND_OK);
        if (t.dtype != STRAND_F32 || t.rank < 1) continue;
        assert_true(m->n < 256 && t.rank <= 4);
        made_tensor *to = &m->tensors[m->n++];
        snprintf(to->name, sizeof to->name, "%s", t.name);
        to->rank = t.rank;
        to->n = (int64_t)(t.bytes / 4);
        for (int k = 0; k < t.rank; k++) to->dims[k] = t.dims[k];
        to->data = malloc(t.bytes);
        assert_non_null(to->data);
        memcpy(to->data, t.data, t.bytes);
    }
    strand_file_close(f);
}

static bool loads_made(strand_context *c, made *m, const char *config) {
    made_write(m);
    bool well = loads(c, m->file, m->bytes, config);
    free(m->file);
    m->file = NULL;
    return well;
}

static void tensors(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 1});
    for (size_t i = 0; i < N_FOLDERS; i++) {
        made m = {0};
        char path[512];
        int refused = 0, tried = 0;
        snprintf(path, sizeof path, "%s", source_path("tests/golden/text/%s/config.json", folders[i]));
        char *config = read_text(path);
        take(c, folders[i], &m);
        assert_true(loads_made(c, &m, config));
        for (int t = 0; t < m.n; t++) {
            made_tensor *x = &m.tensors[t], keep = *x, last = m.tensors[m.n - 1];
            *x = last; /* without it */
            m.n--;
            refused += !loads_made(c, &m, config);
            m.n++;
            m.tensors[m.n - 1] = last;
            *x = keep;
            if (x->dims[0] > 1) { /* a row less */
                x->n -= x->n / x->dims[0];
                x->dims[0]--;
                refused += !loads_made(c, &m, config);
                *x = keep;
                tried++;
            }
            tried++;
        }
        print_message("  %-40s %d tensors, %d of %d refused\n", folders[i], m.n, refused, tried);
        assert_true(refused * 20 >=
                    tried * 17); /* the rest: heads that may be tied, what block 0 of RWKV-7 has and does not use */
        made_free(&m);
        free(config);
    }
    strand_context_close(c);
}

static void configs(void **state) {
    (void)state;
    static const char *const values[] = {"-1",
                                         "0",
                                         "3",
                                         "1e30",
                                         "9223372036854775807",
                                         "-9223372036854775808",
                                         "99999999999999999999999",
                                         "0.5",
                                         "\"x\"",
                                         "null",
                                         "[]",
                                         "{}",
                                         "true",
                                         "NaN"};
    strand_context *c = open_context(&(open_with){.threads = 1});
    for (size_t i = 0; i < N_FOLDERS; i++) {
        made m = {0};
        char path[512], *changed = malloc(1 << 17);
        int n = 0, refused = 0;
        assert_non_null(changed);
        snprintf(path, sizeof path, "%s", source_path("tests/golden/text/%s/config.json", folders[i]));
        char *config = read_text(path);
        take(c, folders[i], &m);
        made_write(&m);
        /* Every value that is a number or a word, wherever it stands. */
        for (char *at = config; (at = strchr(at, ':'));) {
            at++;
            at += strspn(at, " \n\t");
            size_t length = strcspn(at, ",}\n");
            if (*at == '"' || *at == '{' || *at == '[') continue;
            for (size_t v = 0; v < sizeof values / sizeof values[0]; v++, n++) {
                snprintf(changed, 1 << 17, "%.*s%s%s", (int)(at - config), config, values[v], at + length);
                refused += !loads(c, m.file, m.bytes, changed);
            }
        }
        print_message("  %-40s %d changes of its config, %d refused\n", folders[i], n, refused);
        made_free(&m);
        free(config);
        free(changed);
    }
    strand_context_close(c);
}

/* Scalings of the rotary positions that make no sense, or no finite frequencies. */
static void scalings(void **state) {
    (void)state;
    static const char *const rows[] = {
        "{\"type\": \"linear\", \"factor\": 0}",
        "{\"type\": \"linear\", \"factor\": -2}",
        "{\"type\": \"linear\", \"factor\": 1e300}",
        "{\"type\": \"longrope\"}",
        "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 4, "
        "\"original_max_position_embeddings\": 9}",
        "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 0, \"high_freq_factor\": 0, "
        "\"original_max_position_embeddings\": 0}",
        "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": -1e300, \"high_freq_factor\": 1e300, "
        "\"original_max_position_embeddings\": -5}",
        "{\"rope_type\": \"yarn\", \"factor\": 1e6, \"beta_fast\": 0, \"beta_slow\": 0, \"original_max_position_embeddings\": "
        "0}",
        "{\"rope_type\": \"yarn\", \"factor\": 4, \"beta_fast\": -1, \"beta_slow\": 1e300, \"attention_factor\": 1e300}",
        "{\"rope_type\": \"yarn\", \"rope_theta\": 1, \"factor\": 4}",
        "{\"rope_type\": [], \"factor\": {}}",
        "[]",
        "7"};
    strand_context *c = open_context(&(open_with){.threads = 1});
    made m = {0};
    int refused = 0;
    take(c, folders[1], &m);
    made_write(&m);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char config[1024];
        snprintf(config, sizeof config,
                 "{\"model_type\": \"llama\", \"num_attention_heads\": 8, \"num_key_value_heads\": 4, \"rope_scaling\": %s}",
                 rows[i]);
        refused += !loads(c, m.file, m.bytes, config);
    }
    assert_true(refused >= 4);
    made_free(&m);
    strand_context_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tensors), cmocka_unit_test(configs), cmocka_unit_test(scalings)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
