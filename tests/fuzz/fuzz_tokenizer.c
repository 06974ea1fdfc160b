/* fuzz_tokenizer.c - tokenizer files of every kind (told by their bytes), and a text through what opens. */
#include "fuzz.h"
#include "tokenizer/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_memory m = {.limit = ((size_t)64 << 20) + 4096 * size};
    const strand_allocator allocator = {fuzz_alloc, fuzz_free, &m};
    static const char text[] = "The quick 'll 123 <s>\xC3\xA9\xE4\xBD\xA0  \n\xFF ab abc aba[X]";
    error e = {0};
    arena a;
    arena_init(&a, &allocator);
    text_tokenizer *x = ARENA_NEW(&a, text_tokenizer);
    *x = (text_tokenizer){.arena = &a, .path = "fuzz", .continuing = "", .unknown = NO_TOKEN, .bos = NO_TOKEN, .eos = NO_TOKEN};
    tokenizer t = {.text = x};
    strand_status status = read_tokenizer_bytes_of_file(x, data, size, 16, &e);
    FUZZ_REQUIRE(status == STRAND_OK || (e.status == status && e.text[0] && !strchr(e.text, '\n')));
    if (!status) {
        int64_t ids[256];
        char out[1024];
        size_t count = 0;
        strand_decoder d = {0};
        t.n_ids = x->n;
        status = tokenizer_encode(&t, &allocator, text, sizeof text - 1, 3, ids, 256, &count, &e);
        FUZZ_REQUIRE(status == STRAND_OK || e.text[0]);
        for (size_t i = 0; !status && i < count && i < 256; i++) {
            FUZZ_REQUIRE(ids[i] >= 0 && ids[i] < t.n_ids);
            tokenizer_decode(&t, &d, ids[i], out, sizeof out);
        }
    }
    tokenizer_close(&t);
    arena_release(&a);
    FUZZ_REQUIRE(m.blocks == 0);
    return 0;
}
