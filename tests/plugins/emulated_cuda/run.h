/* run.h - runs one kernel on this machine. */
#ifndef STRAND_EMULATED_CUDA_RUN_H
#define STRAND_EMULATED_CUDA_RUN_H

#include <cstddef>

/* The sizes of a kernel's arguments, ended by 0; NULL where there is no such kernel. */
const size_t *emulated_arguments(const char *name);
/* False when there is no such kernel, its items do not come to its barriers together, or it writes beyond its `shared` bytes of
 * memory. *order: the state of the sequence that orders the items. One call at a time. */
bool emulated_run(const char *name, const unsigned grid[3], unsigned group, unsigned shared, void **args, unsigned long *order);

/* Bytes of shared memory that a launch may ask for at most. */
constexpr unsigned emulated_most_shared = 232448;

/* What the emulated driver makes of a tensor map, in the 128 bytes of the real one. Extents in elements, from the dense axis
 * on; strides of the other axes in bytes. */
constexpr unsigned emulated_map_magic = 0x7e50a9;
struct emulated_map {
    unsigned magic, swizzle, bytes; /* swizzle: the bytes of a row that is turned, 0: none; bytes: of an element */
    unsigned box[4];
    const unsigned char *base;
    unsigned long long dims[4], strides[3];
    int box_bytes() const {
        return static_cast<int>(box[0] * box[1] * box[2] * box[3] * bytes);
    }
};
static_assert(sizeof(emulated_map) <= 128, "a tensor map");
/* The box at `at`, zeros outside of the tensor. */
void emulated_fill(const emulated_map &map, unsigned char *to, const int at[4]);

#endif
