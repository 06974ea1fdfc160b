/* fuzz_safetensors.c - safetensors files, and the bytes after the header's length as a header with the right length. */
#include "fuzz.h"
#include "../weights/writers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_open(data, size);
    /* A mutation seldom keeps length and buffer in step with the header: the first byte says how much is buffer. */
    if (size < 2) return 0;
    size_t buffer_bytes = data[0] < size - 1 ? data[0] : size - 1;
    buffer b = {0};
    put_int(&b, size - 1 - buffer_bytes, 8);
    put_bytes(&b, data + 1, size - 1);
    fuzz_open(b.data, b.size);
    buffer_free(&b);
    return 0;
}
