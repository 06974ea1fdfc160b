/* npy.h - NumPy's array files: a header of 128 bytes whose row count is filled in at the end, then the rows.
 */
#ifndef STRAND_APP_NPY_H
#define STRAND_APP_NPY_H

#include "output.h"

enum { NPY_HEADER_BYTES = 128, NPY_MAX_RANK = 8 };

typedef struct npy_shape {
    char descr[16]; /* "<f4" */
    int32_t rank;
    int64_t dims[NPY_MAX_RANK];
} npy_shape;

/* float32 of this machine's byte order. */
const char *npy_float32(void);
/* Reserves the header. Returns 0 or -1. */
int npy_begin(output *out);
/* Writes the header over the reserved bytes. */
int npy_end(output *out, const npy_shape *shape);
/* Reads the header of an open file and leaves it at the data; *data_bytes gets their number by the shape. 0 or -1, after a
 * message. */
int npy_read_header(FILE *file, const char *path, npy_shape *shape, uint64_t *data_bytes);

#endif
