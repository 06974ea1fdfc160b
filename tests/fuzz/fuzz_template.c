/* fuzz_template.c - chat templates from strangers, on messages of a few kinds. */
#include "fuzz.h"
#include "template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char messages[] =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"u\"}]},"
        "{\"role\":\"assistant\",\"content\":\"a\","
        "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1.5,\"y\":[true,null]}}}]}],"
        "\"add_generation_prompt\":true,\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"x\":7}";
    char why[256] = "";
    size_t n = 0;
    value *v = value_parse(messages, sizeof messages - 1, why, sizeof why);
    FUZZ_REQUIRE(v);
    char *out = template_render((const char *)data, size, v, &n, why, sizeof why);
    FUZZ_REQUIRE(out ? out[n] == 0 : why[0] && !strchr(why, '\n'));
    free(out);
    value_free(v);
    return 0;
}
