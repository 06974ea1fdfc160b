/* fuzz_pytorch.c - the bytes as a whole file (zip or legacy), and as the object's pickle in a sound file of either kind,
 * since a mutation in a zip seldom gets past the checksum. */
#include "fuzz.h"
#include "../weights/writers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_open(data, size);
    buffer object = {0}, pickle = {0}, file = {0};
    put_bytes(&object, data, size);
    pickle_begin(&pickle, 4);
    put_buffer(&pickle, &object);
    put_text(&pickle, ".");
    put_torch_zip(&file, &pickle, 0, size % 2);
    fuzz_open(file.data, file.size);
    file.size = 0;
    put_torch_legacy(&file, &object, size % 4 != 0);
    fuzz_open(file.data, file.size);
    buffer_free(&file);
    buffer_free(&pickle);
    buffer_free(&object);
    return 0;
}
