/* fuzz_json.c - JSON: parses or says where it does not; every node is sound. */
#include "fuzz.h"
#include "json.h"

static size_t walk(const json *node, int depth) {
    size_t nodes = 1, children = 0;
    FUZZ_REQUIRE(depth <= JSON_MAX_DEPTH);
    FUZZ_REQUIRE(node->type >= JSON_NULL && node->type <= JSON_OBJECT);
    if (node->type == JSON_STRING || node->type == JSON_NUMBER) FUZZ_REQUIRE(node->text && node->text[node->length] == 0);
    for (const json *child = node->first; child; child = child->next, children++) {
        FUZZ_REQUIRE((child->key != NULL) == (node->type == JSON_OBJECT));
        if (child->key && children < 64) FUZZ_REQUIRE(json_get(node, child->key) == child); /* no key twice */
        nodes += walk(child, depth + 1);
    }
    FUZZ_REQUIRE(children == node->count);
    return nodes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (int failing = 0; failing < 2; failing++) {
        fuzz_memory m = {.limit = ((size_t)1 << 20) + 256 * size, .fail_at = failing ? 1 + (long)(size % 5) : 0};
        const strand_allocator allocator = {fuzz_alloc, fuzz_free, &m};
        arena a;
        error e = {0};
        const json *root = NULL;
        arena_init(&a, &allocator);
        strand_status status = json_parse(&a, (const char *)data, size, "fuzz", &root, &e);
        FUZZ_REQUIRE((status == STRAND_OK) == (root != NULL));
        if (root) FUZZ_REQUIRE(walk(root, 0) <= size);
        arena_release(&a);
        FUZZ_REQUIRE(m.blocks == 0);
    }
    return 0;
}
