/* fuzz_rwkvcpp.c - files of rwkv.cpp, and the bytes as tensors behind a header that is right. */
#include "fuzz.h"
#include "../weights/writers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_open(data, size);
    buffer b = {0};
    put_rwkvcpp(&b, 100 + (size && data[0] & 1));
    put_bytes(&b, data, size);
    fuzz_open(b.data, b.size);
    buffer_free(&b);
    return 0;
}
