/* fuzz_grammar.c - grammars, JSON schemas and the JSON that they and requests are made of; what opens is walked with a text. */
#include "fuzz.h"
#include "grammar.h"
#include "schema.h"

static void walk(const char *text, size_t n) {
    char why[256] = "";
    grammar *g = grammar_parse(text, n, why, sizeof why);
    FUZZ_REQUIRE(g || (why[0] && !strchr(why, '\n')));
    grammar_state *s = g ? grammar_start(g, why, sizeof why) : NULL;
    FUZZ_REQUIRE(!g || s || why[0]);
    static const char *const steps[] = {"{", "\"", "a", "\xC3", "\xA9", "1", " ", "}", "abc", "\xF0\x9F", "]", "["};
    for (size_t i = 0; s && i < 40; i++) {
        const char *step = steps[(i * 7 + n) % 12];
        int fits = grammar_allows(s, step, strlen(step));
        if (fits) FUZZ_REQUIRE(grammar_accept(s, step, strlen(step)) == 0);
        (void)grammar_may_end(s);
    }
    grammar_state_free(s);
    grammar_free(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char why[256] = "";
    if (size > 4096) return 0;
    char *made = schema_to_grammar((const char *)data, size, why, sizeof why);
    if (made) walk(made, strlen(made));
    free(made);
    walk((const char *)data, size);
    return 0;
}
