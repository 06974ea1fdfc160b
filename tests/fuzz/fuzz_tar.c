/* fuzz_tar.c - the bytes as a whole file with the checksums of its first headers put right, since a mutation seldom keeps
 * them; and as the weights member of a sound archive. */
#include "fuzz.h"
#include "../weights/writers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    buffer b = {0};
    fuzz_open(data, size);
    put_bytes(&b, data, size);
    for (size_t at = 0; at + 512 <= b.size && at < 16 * 512; at += 512)
        if (!memcmp(b.data + at + 257, "ustar", 5)) put_tar_sum(&b, at);
    fuzz_open(b.data, b.size);
    b.size = 0;
    put_tar_member(&b, "state", '0', data, size);
    put_tar_member(&b, "x.json", '0', data, size % 100);
    fuzz_open(b.data, b.size);
    buffer_free(&b);
    return 0;
}
