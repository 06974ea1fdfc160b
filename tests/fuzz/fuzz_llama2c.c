/* fuzz_llama2c.c - files of llama2.c: as they are, and with what the bytes say cut or filled to the size that their header
 * needs (which is how those files are told). */
#include "fuzz.h"
#include "../weights/writers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_open(data, size);
    if (size < 9) return 0;
    buffer b = {0};
    /* dim, hidden, layers, heads, kv heads, vocabulary, context: small enough for the file to be made */
    int64_t heads = 1 + data[3] % 4, dim = heads * (1 + data[0] % 8), hidden = 1 + data[1] % 16, layers = 1 + data[2] % 4,
            vocabulary = 1 + data[5] % 32, context = 1 + data[6] % 16;
    int64_t kv = dim / heads * (data[4] % 2 ? heads : 1), shared = data[7] % 2;
    const int64_t numbers[] = {
        dim, hidden, layers, heads, data[4] % 2 ? heads : 1, shared || data[8] % 2 ? vocabulary : -vocabulary, context};
    int64_t version = data[8] % 2 ? 1 + data[8] / 2 % 3 : 0, group = data[8] & 8 ? dim : 1;
    if (data[8] % 2) put_int(&b, 0x616b3432u, 4), put_int(&b, (uint64_t)version, 4);
    for (int i = 0; i < 7; i++) put_int(&b, (uint64_t)numbers[i], 4);
    if (data[8] % 2) put_int(&b, (uint64_t)shared, 1), put_int(&b, (uint64_t)group, 4), put_fill(&b, 0, 256 - b.size);
    int64_t floats = vocabulary * dim + layers * (2 * dim + 2 * dim * dim + 2 * kv * dim + 3 * hidden * dim) + dim;
    if (!(data[8] % 2)) floats += context * (dim / heads / 2) * 2;
    if (!shared) floats += vocabulary * dim;
    int64_t norms = (2 * layers + 1) * dim, matrices = floats - norms;
    put_fill(&b, data[size - 1], (size_t)(4 * norms + (version == 2 ? matrices + matrices / group * 4 : 4 * matrices)));
    fuzz_open(b.data, b.size - data[size - 1] % 3);
    buffer_free(&b);
    return 0;
}
