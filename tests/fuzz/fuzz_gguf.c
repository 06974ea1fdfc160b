/* fuzz_gguf.c - GGUF files, and the bytes after the first 8 behind a header that is right. */
#include "fuzz.h"
#include "../weights/writers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_open(data, size);
    if (size < 2) return 0;
    buffer b = {0};
    put_gguf(&b, data[0] % 8, data[1] % 16); /* few enough to be reached */
    put_bytes(&b, data + 2, size - 2);
    fuzz_open(b.data, b.size);
    buffer_free(&b);
    return 0;
}
