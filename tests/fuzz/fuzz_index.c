/* fuzz_index.c - the index of a sharded checkpoint: what it accepts names plain files, each once, and every tensor's file. */
#include "fuzz.h"
#include "weights/sharded.h"

static void check(const shard_index *index) {
    FUZZ_REQUIRE(index->count > 0 && index->n_files > 0 && index->n_files <= index->count);
    for (size_t i = 0; i < index->n_files; i++) {
        FUZZ_REQUIRE(index->files[i][0] && !strchr(index->files[i], '/') && !strstr(index->files[i], ".."));
        FUZZ_REQUIRE(i == 0 || strcmp(index->files[i - 1], index->files[i]) < 0);
    }
    for (size_t i = 0; i < index->count; i++) {
        const shard_entry *x = &index->entries[i];
        FUZZ_REQUIRE(x->shard < index->n_files && strcmp(index->files[x->shard], x->file) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (int failing = 0; failing < 2; failing++) {
        fuzz_memory m = {.limit = ((size_t)1 << 20) + 256 * size, .fail_at = failing ? 1 + (long)(size % 5) : 0};
        const strand_allocator allocator = {fuzz_alloc, fuzz_free, &m};
        arena a;
        shard_index index;
        arena_init(&a, &allocator);
        if (sharded_parse(&a, data, size, "fuzz", &index, NULL) == STRAND_OK) check(&index);
        arena_release(&a);
        FUZZ_REQUIRE(m.blocks == 0);
    }
    return 0;
}
