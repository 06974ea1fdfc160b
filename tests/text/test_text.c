/* test_text.c - chat templates against what Jinja2 makes of them (templates/), grammars and schemas on texts that fit and
 * that do not, sampling by its rules, and the named ways in which strangers' templates, grammars and requests are bad. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "blocks.h"
#include "grammar.h"
#include "json_read.h"
#include "sample.h"
#include "schema.h"
#include "template.h"

#include "quant.h"

static char *read_file(const char *name, size_t *n) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/text/templates/%s", getenv("STRAND_SOURCE"), name);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: cannot be opened", path);
    char *text = calloc(1, 1 << 16);
    *n = fread(text, 1, (1 << 16) - 1, f);
    fclose(f);
    return text;
}

/* ---- templates ---- */

static void check_template(const char *name, const char *messages) {
    char file[128], why[256] = "";
    size_t n, n_json, n_want, n_got = 0;
    snprintf(file, sizeof file, "%s.jinja", name);
    char *source = read_file(file, &n);
    snprintf(file, sizeof file, "%s.json", messages);
    char *json = read_file(file, &n_json);
    snprintf(file, sizeof file, "%s-%s.txt", name, messages);
    char *want = read_file(file, &n_want);
    value *v = value_parse(json, n_json, why, sizeof why);
    assert_non_null(v);
    char *got = template_render(source, n, v, &n_got, why, sizeof why);
    if (!got) fail_msg("%s: %s", name, why);
    if (n_got != n_want || memcmp(got, want, n_got)) fail_msg("%s with %s:\n%s\n--- and not\n%s", name, messages, got, want);
    value_free(v);
    free(source);
    free(json);
    free(want);
    free(got);
}

static void test_templates(void **state) {
    (void)state;
    static const char *const names[] = {"chatml", "llama2", "llama3", "gemma", "zephyr", "qwen", "language"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) check_template(names[i], "messages");
    check_template("qwen", "tools");
}

static void test_bad_templates(void **state) {
    (void)state;
    static const struct {
        const char *source, *says;
    } rows[] = {
        {"{{ x", "'}}' is missing"},
        {"{% if x %}a", "a block that is not closed"},
        {"{% import 'x' as y %}", "a block 'import' is not supported"},
        {"{{ x.__class__() }}", "a method '__class__' is not supported"},
        {"{{ x|system }}", "a filter 'system' is not supported"},
        {"{{ 1 is magic }}", "a test 'magic' is not supported"},
        {"{{ open('x') }}", "a function 'open' is not supported"},
        {"{{ raise_exception('no\nway') }}", "refuses these messages: no?way"},
        {"{% for i in range(1000000) %}{% for j in range(1000000) %}{% endfor %}{% endfor %}", "too "},
        {"{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
         "too much memory"},
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested too deep"},
        {"{{ 'x' * 9999999999 }}", "too much memory"},
        {"{{ 1 // 0 }}", "division by zero"},
        {"{{ 'a' - 1 }}", "arithmetic on what are no numbers"},
        {"line\n{{ ) }}", "line 2"},
        {"{{ [1][0:'x'] }}", "no whole number"},
        {"{% for a, b in [1] %}{% endfor %}", "a for with several names"},
        {"{# open", "a comment that is not closed"},
        {"{{ 'open }}", "quotes that are not closed"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char why[256] = "";
        size_t n;
        char *out = template_render(rows[i].source, strlen(rows[i].source), NULL, &n, why, sizeof why);
        if (out) fail_msg("%s: is not refused", rows[i].source);
        if (!strstr(why, rows[i].says) || strchr(why, '\n')) fail_msg("%s: %s", rows[i].source, why);
    }
    /* depth: brackets, minus signs, nots, elifs, additions */
    static const char *const deep[][3] = {{"{{ ", "[", " }}"},      {"{{ ", "(", " }}"},
                                          {"{{ ", "-", "1 }}"},     {"{{ ", "not ", "1 }}"},
                                          {"", "{% if 1 %}", ""},   {"{% if 0 %}", "{% elif 0 %}", "{% endif %}"},
                                          {"{{ 1", "+1", " }}"},    {"{{ x", ".x", " }}"},
                                          {"{{ x", "|trim", " }}"}, {"{{ x", " if x else x", " }}"}};
    for (size_t i = 0; i < sizeof deep / sizeof deep[0]; i++) {
        size_t each = strlen(deep[i][1]), n = 0, made;
        char why[256], *source = malloc(100000 * each + 64);
        n += (size_t)sprintf(source, "%s", deep[i][0]);
        for (int k = 0; k < 30000; k++) memcpy(source + n, deep[i][1], each), n += each;
        n += (size_t)sprintf(source + n, "%s", deep[i][2]);
        free(template_render(source, n, NULL, &made, why, sizeof why)); /* a line or a text, never a crash */
        free(source);
    }
}

/* ---- grammars ---- */

static int matches(const char *source, const char *text) {
    char why[256] = "";
    grammar *g = grammar_parse(source, strlen(source), why, sizeof why);
    if (!g) fail_msg("%s: %s", source, why);
    grammar_state *s = grammar_start(g, why, sizeof why);
    if (!s) fail_msg("%s: %s", source, why);
    int fits = 1;
    for (const char *at = text; *at && fits; at++) { /* byte by byte, so that characters are cut */
        fits = grammar_allows(s, at, 1);
        int accepted = grammar_accept(s, at, 1) == 0;
        assert_int_equal(fits, accepted);
    }
    fits = fits && grammar_may_end(s);
    grammar_state_free(s);
    grammar_free(g);
    return fits;
}

static void test_grammars(void **state) {
    (void)state;
    static const struct {
        const char *grammar, *good[5], *bad[5];
    } rows[] = {
        {"root ::= \"a\" \"b\"* \"c\"?", {"a", "abbb", "abc", "ac"}, {"", "b", "abca", "cc"}},
        {"root ::= item{2,3} (\"-\" item)+\nitem ::= [a-c] | [^a-z\\n]",
         {"ab-c", "abc-X-1",
          "\xC3\xA9"
          "a-b"},
         {"a-b", "abcd-a", "ab-z", "ab"}},
        {"# numbers\nroot ::= sum\nsum ::= term (\n  (\"+\" | \"-\") term )*\nterm ::= [0-9]+ | \"(\" sum \")\"",
         {"1", "1+22-(3+4)", "((7))"},
         {"1+", "(1", "1)", "+"}},
        {"root ::= (\"ab\" | \"abc\") \"cd\"", {"abcd", "abccd"}, {"abd", "abcccd"}},
        {"root ::= [\\u4e00-\\u9fff]+ .",
         {"\xE4\xB8\xAD!", "\xE4\xB8\xAD\xE6\x96\x87\xE4\xB8\xAD"},
         {"a!", "\xE4\xB8\xAD", "\xE4\xB8"}},
        {"root ::= | \"x\" root", {"", "x", "xxxx"}, {"y", "xy"}},
        {"root ::= \"\\x41\\n\\\"\" [\\]\\-a]", {"A\n\"]", "A\n\"-"}, {"A\n\"b"}},
        {"root ::= a{0,2} b{3} c{1,}\na ::= \"a\"\nb ::= \"b\"\nc ::= \"c\"", {"bbbc", "aabbbccc"}, {"aaabbbc", "bbc", "bbb"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int k = 0; k < 5 && rows[i].good[k]; k++)
            if (!matches(rows[i].grammar, rows[i].good[k])) fail_msg("%s: refuses '%s'", rows[i].grammar, rows[i].good[k]);
        for (int k = 0; k < 5 && rows[i].bad[k]; k++)
            if (matches(rows[i].grammar, rows[i].bad[k])) fail_msg("%s: takes '%s'", rows[i].grammar, rows[i].bad[k]);
    }
}

static void refused(const char *source, const char *says) {
    char why[256] = "";
    grammar *g = grammar_parse(source, strlen(source), why, sizeof why);
    grammar_state *s = g ? grammar_start(g, why, sizeof why) : NULL;
    if (s) fail_msg("%.60s: is not refused", source);
    if (!strstr(why, says) || strchr(why, '\n')) fail_msg("%.60s: %s", source, why);
    grammar_free(g);
}

static void test_bad_grammars(void **state) {
    (void)state;
    refused("root ::= root \"a\" | \"b\"", "begins with itself");
    refused("root ::= a\na ::= b \"x\"\nb ::= a \"y\" | \"z\"", "begins with itself");
    refused("root ::= \"a", "quotes that are not closed");
    refused("root ::= [a", "brackets that are not closed");
    refused("root ::= (\"a\"", "not closed");
    refused("root ::= \"a\")", "without its '('");
    refused("root ::= x", "'x' is used and not there");
    refused("x ::= \"a\"", "no rule 'root'");
    refused("root ::= \"a\"\nroot ::= \"b\"", "line 2: a rule that was there before");
    refused("root \"a\"", "'::='");
    refused("root ::= \"a\"{99999}", "more than 2000 times");
    refused("root ::= \"a\"{3,2}", "ends before it begins");
    refused("root ::= *", "neither quotes");
    refused("root ::= [z-a]", "ends before it begins");
    refused("root ::= \"\\q\"", "an unknown escape");
    refused("root ::= \"\\uZZZZ\"", "an escape without its digits");
    char *deep = malloc(200000);
    size_t n = (size_t)sprintf(deep, "root ::= ");
    memset(deep + n, '(', 100000);
    deep[n + 100000] = 0;
    refused(deep, "groups nested too deep");
    free(deep);
}

static int json_matches(const char *schema, const char *text) {
    char why[256] = "";
    char *made = schema_to_grammar(schema, strlen(schema), why, sizeof why);
    if (!made) fail_msg("%s: %s", schema, why);
    int fits = matches(made, text);
    free(made);
    return fits;
}

static void test_schemas(void **state) {
    (void)state;
    static const struct {
        const char *schema, *good[5], *bad[5];
    } rows[] = {
        {"{}", {"{\"a\": [1, -2.5e3, \"x\\n\", null, true]}", "[]", "{}", "0"}, {"{a}", "[1,]", "01", "\"\n\""}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"string\",\"maxLength\":2},\"c\":{"
         "\"type\":\"boolean\"}},\"required\":[\"b\"]}",
         {"{\"b\": \"x\"}", "{\"a\": 1, \"b\": \"\"}", "{\"a\":1,\"b\":\"xy\",\"c\":true}", "{\"b\":\"x\",\"c\":false}"},
         {"{}", "{\"a\": 1}", "{\"b\":\"xyz\"}", "{\"b\":\"x\",}", "{,\"b\":\"x\"}"}},
        {"{\"type\":\"array\",\"items\":{\"enum\":[\"x\",2,null]},\"minItems\":1,\"maxItems\":3}",
         {"[\"x\"]", "[2, null, \"x\"]"},
         {"[]", "[1]", "[2,2,2,2]"}},
        {"{\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"number\"},\"next\":{\"$ref\":\"#/$defs/"
         "t\"}},\"required\":[\"v\"]}},\"$ref\":\"#/$defs/t\"}",
         {"{\"v\": 1}", "{\"v\": 1, \"next\": {\"v\": 2.5}}"},
         {"{\"next\": {}}"}},
        {"{\"anyOf\":[{\"type\":\"null\"},{\"const\":{\"k\":\"a\\\"b\"}}]}", {"null", "{\"k\": \"a\\\"b\"}"}, {"{}", "1"}},
        {"{\"type\":[\"string\",\"integer\"]}", {"\"a\"", "12"}, {"1.5", "true"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"}},\"additionalProperties\":{\"type\":\"integer\"}}",
         {"{}", "{\"a\":null,\"z\":1}", "{\"z\":1,\"y\":2}"},
         {"{\"z\":\"x\"}"}},
        {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}],\"items\":false}",
         {"[1, \"a\"]"},
         {"[1]", "[\"a\",1]"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int k = 0; k < 5 && rows[i].good[k]; k++)
            if (!json_matches(rows[i].schema, rows[i].good[k])) fail_msg("%s: refuses %s", rows[i].schema, rows[i].good[k]);
        for (int k = 0; k < 5 && rows[i].bad[k]; k++)
            if (json_matches(rows[i].schema, rows[i].bad[k])) fail_msg("%s: takes %s", rows[i].schema, rows[i].bad[k]);
    }
    static const char *const bad[][2] = {{"{\"type\":\"string\",\"pattern\":\"a\"}", "not understood: pattern"},
                                         {"{\"type\":\"thing\"}", "an unknown type: thing"},
                                         {"{\"$ref\":\"#/nowhere\"}", "not there"},
                                         {"{\"$ref\":\"http://x\"}", "leaves the document"},
                                         {"{\"type\":\"array\",\"minItems\":-1}", "not a whole number"},
                                         {"{\"type\":\"array\",\"minItems\":3,\"maxItems\":2}", "less than"},
                                         {"[", "JSON"},
                                         {"{\"anyOf\":[]}", "empty"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char why[256] = "";
        char *made = schema_to_grammar(bad[i][0], strlen(bad[i][0]), why, sizeof why);
        if (made || !strstr(why, bad[i][1])) fail_msg("%s: %s", bad[i][0], made ? made : why);
    }
}

/* ---- JSON ---- */

static void test_json(void **state) {
    (void)state;
    char why[256];
    value *v = value_parse("{\"a\": [1, 2.5e-1, \"\\u00e9\\ud83d\\ude00\\n\"], \"b\": null, \"a\": true}", 55, why, sizeof why);
    assert_null(v); /* cut */
    const char *text = "{\"x\": [1, 2.5e-1, \"\\u00e9\\ud83d\\ude00\\n\"], \"b\": null, \"y\": true}";
    v = value_parse(text, strlen(text), why, sizeof why);
    assert_non_null(v);
    const value *x = value_get(v, "x");
    assert_int_equal(x->count, 3);
    assert_true(x->first->next->number == 0.25);
    assert_string_equal(x->first->next->next->text, "\xC3\xA9\xF0\x9F\x98\x80\n");
    assert_int_equal(value_true(v, "y", 0), 1);
    assert_int_equal(value_true(v, "b", 7), 7);
    value_free(v);
    static const char *const bad[] = {
        "",       "{",   "[1,]", "{\"a\"}",           "{\"a\":1,}", "01",    "1.5.2", "\"\\x\"", "\"\\ud800\"",
        "\"\n\"", "nul", "1 2",  "{\"a\":1 \"b\":2}", "-",          "1e999", "[\"a]"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        v = value_parse(bad[i], strlen(bad[i]), why, sizeof why);
        if (v) fail_msg("%s: is not refused", bad[i]);
    }
    char deep[1000];
    memset(deep, '[', sizeof deep);
    assert_null(value_parse(deep, sizeof deep, why, sizeof why));
    assert_non_null(strstr(why, "deeper than 64"));
}

/* ---- sampling ---- */

static int odd_only(void *user, int64_t id) {
    (void)user;
    return id % 2 == 1;
}

static void test_sampling(void **state) {
    (void)state;
    float logits[6] = {0, 1, 4, 3, -INFINITY, NAN};
    sample_rule rule;
    sampler s;
    sample_rule_init(&rule);
    rule.temperature = 0;
    sampler_init(&s, &rule);
    assert_int_equal(sampler_next(&s, logits, 6, NULL, 0, NULL, NULL), 2);
    assert_int_equal(sampler_next(&s, logits, 6, NULL, 0, odd_only, NULL), 3);
    const int64_t recent[] = {2, 2, 9, 3};
    s.rule.repeat = 8; /* 4 / 8 and 3 / 8 are below 1 */
    assert_int_equal(sampler_next(&s, logits, 6, recent, 4, NULL, NULL), 1);
    s.rule.last = 1; /* only 3 is recent */
    assert_int_equal(sampler_next(&s, logits, 6, recent, 4, NULL, NULL), 2);
    s.rule = rule;
    s.rule.frequency = 1; /* 4 - 2, 3 - 1 and the lower id */
    s.rule.last = -1;
    assert_int_equal(sampler_next(&s, logits, 6, recent, 4, NULL, NULL), 2);
    /* the shares of many draws are the probabilities, to five standard deviations */
    rule = (sample_rule){.temperature = 1, .top_p = 1, .repeat = 1, .seed = 7};
    sampler_free(&s);
    sampler_init(&s, &rule);
    int count[6] = {0}, n = 40000;
    for (int i = 0; i < n; i++) count[sampler_next(&s, logits, 6, NULL, 0, NULL, NULL)]++;
    double sum = exp(0) + exp(1) + exp(4) + exp(3);
    for (int i = 0; i < 4; i++) {
        double p = exp((double)logits[i]) / sum;
        assert_true(fabs(count[i] - n * p) < 5 * sqrt(n * p * (1 - p)));
    }
    assert_int_equal(count[4] + count[5], 0);
    /* each rule alone leaves what it must */
    static const struct {
        int64_t k;
        double p, min_p;
        int kept;
    } rows[] = {{2, 1, 0, 2}, {0, 0.6, 0, 1}, {0, 0.9, 0, 2}, {0, 1, 0.3, 2}, {0, 1, 0.04, 3}, {1, 1, 0, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int seen[6] = {0}, kinds = 0;
        s.rule.top_k = rows[i].k, s.rule.top_p = rows[i].p, s.rule.min_p = rows[i].min_p;
        for (int k = 0; k < 3000; k++) seen[sampler_next(&s, logits, 6, NULL, 0, NULL, NULL)] = 1;
        for (int k = 0; k < 6; k++) kinds += seen[k];
        if (kinds != rows[i].kept) fail_msg("row %zu: %d kinds", i, kinds);
    }
    const float none[2] = {NAN, -INFINITY};
    assert_int_equal(sampler_next(&s, none, 2, NULL, 0, NULL, NULL), -2);
    /* top-k of many: the selection is the sorted one */
    static float many[5000];
    uint32_t seed = 3;
    for (int i = 0; i < 5000; i++) many[i] = (float)((seed = seed * 1664525 + 1013904223) >> 8 & 1023);
    for (int k = 1; k < 60; k += 7) {
        s.rule = (sample_rule){.temperature = 50, .top_k = k, .top_p = 1, .repeat = 1};
        for (int draw = 0; draw < 50; draw++) {
            int64_t id = sampler_next(&s, many, 5000, NULL, 0, NULL, NULL);
            int above = 0;
            for (int i = 0; i < 5000; i++) above += many[i] > many[id] || (many[i] == many[id] && i < id);
            assert_true(above < k);
        }
    }
    sampler_free(&s);
    rule.temperature = -1;
    assert_non_null(sample_rule_wrong(&rule));
    sample_rule_init(&rule);
    assert_null(sample_rule_wrong(&rule));
    rule.top_k = -3;
    assert_non_null(sample_rule_wrong(&rule));
    rule.top_k = 0, rule.min_p = NAN;
    assert_non_null(sample_rule_wrong(&rule));
}

/* ---- quantised blocks, read back by the kernels' own reader ---- */

static double uniform(uint32_t *seed) {
    *seed = *seed * 1664525 + 1013904223;
    return ((double)(*seed >> 8) + 0.5) / (1 << 24);
}

static void test_blocks(void **state) {
    (void)state;
    static const struct {
        strand_dtype type;
        /* root mean square error of normal numbers, relative to theirs: what the format's steps allow, and a tenth */
        double most;
    } rows[] = {{STRAND_Q8_0, 0.006}, {STRAND_Q6_K, 0.019}, {STRAND_Q4_K, 0.075}, {STRAND_Q4_0, 0.092}};
    enum { N = 256 * 64 };
    static float x[N], y[N];
    static unsigned char blocks[N * 2];
    uint32_t seed = 1;
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        strand_dtype type = rows[k].type;
        assert_int_equal(block_elements(type), cpu_block_elements(type));
        assert_int_equal(block_bytes(type), cpu_block_bytes(type));
        double error = 0, size = 0;
        for (int i = 0; i < N; i++) x[i] = (float)(sqrt(-2 * log(uniform(&seed))) * cos(6.283185307 * uniform(&seed)));
        block_quantise(type, x, N, blocks);
        cpu_dequantise(type, blocks, 0, N, y);
        for (int i = 0; i < N; i++) error += (double)(x[i] - y[i]) * (double)(x[i] - y[i]), size += (double)x[i] * (double)x[i];
        print_message("%s: %.4f\n", strand_dtype_name(type), sqrt(error / size));
        assert_true(sqrt(error / size) < rows[k].most);
        /* zeros, one value alone, NaN, and the extremes of half precision */
        for (int i = 0; i < 256; i++) x[i] = 0;
        block_quantise(type, x, 256, blocks);
        cpu_dequantise(type, blocks, 0, 256, y);
        for (int i = 0; i < 256; i++) assert_true(y[i] == 0);
        x[7] = -3;
        x[9] = NAN;
        block_quantise(type, x, 256, blocks);
        cpu_dequantise(type, blocks, 0, 256, y);
        for (int i = 0; i < 256; i++) assert_true(i == 7 ? fabsf(y[i] + 3) < 0.1f : fabsf(y[i]) < 0.1f);
    }
    for (uint32_t h = 0; h < 65536; h++)
        if ((h & 0x7C00) != 0x7C00) assert_int_equal(half_from(half_to((uint16_t)h)), h);
    assert_int_equal(half_from(1e9f), 0x7C00);
    assert_int_equal(half_from(65519.0f), 0x7BFF);
    assert_int_equal(half_from(1.00048828125f), 0x3C00); /* a tie goes to the even one */
    assert_int_equal(half_from(3e-8f), 1);
    assert_int_equal(half_from(2.9e-8f), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_templates),    cmocka_unit_test(test_bad_templates), cmocka_unit_test(test_grammars),
        cmocka_unit_test(test_bad_grammars), cmocka_unit_test(test_schemas),       cmocka_unit_test(test_json),
        cmocka_unit_test(test_sampling),     cmocka_unit_test(test_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
