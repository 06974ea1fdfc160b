/* npy.c - NumPy's array files, format version 1.0 written, 1.0 to 3.0 read. See npy.h.
 */
#include "npy.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

const char *npy_float32(void) {
    const uint16_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return first ? "<f4" : ">f4";
}

int npy_begin(output *out) {
    char blank[NPY_HEADER_BYTES];
    memset(blank, ' ', sizeof blank);
    return output_write(out, blank, sizeof blank);
}

int npy_end(output *out, const npy_shape *shape) {
    char head[NPY_HEADER_BYTES], text[NPY_HEADER_BYTES];
    int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (", shape->descr);
    for (int32_t i = 0; i < shape->rank && n < (int)sizeof text; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%lld%s", (long long)shape->dims[i],
                      shape->rank == 1      ? ","
                      : i + 1 < shape->rank ? ", "
                                            : "");
    if (n < (int)sizeof text) n += snprintf(text + n, sizeof text - (size_t)n, "), }");
    if (n > NPY_HEADER_BYTES - 11) return complain("an array of this shape does not fit the NPY header"), -1;
    memset(head, ' ', sizeof head);
    memcpy(head, magic, sizeof magic);
    head[6] = 1;
    head[7] = 0;
    head[8] = NPY_HEADER_BYTES - 10;
    head[9] = 0;
    memcpy(head + 10, text, (size_t)n);
    head[NPY_HEADER_BYTES - 1] = '\n';
    return output_rewrite(out, 0, head, sizeof head);
}

/* The text after 'key': in the header's dictionary, or NULL. */
static const char *value_of(const char *text, const char *key) {
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s'", key);
    const char *at = strstr(text, quoted);
    if (!at) return NULL;
    at += strlen(quoted);
    at += strspn(at, " ");
    return *at == ':' ? at + 1 + strspn(at + 1, " ") : NULL;
}

static int parse_shape(const char *text, npy_shape *shape, uint64_t *bytes) {
    const char *descr = value_of(text, "descr"), *order = value_of(text, "fortran_order"), *dims = value_of(text, "shape");
    if (!descr || !order || !dims || *descr != '\'' || strncmp(order, "False", 5) || *dims != '(') return -1;
    const size_t width = strcspn(descr + 1, "'");
    if (width < 3 || width >= sizeof shape->descr || !strchr("<>|", descr[1])) return -1;
    memcpy(shape->descr, descr + 1, width);
    shape->descr[width] = 0;
    const int size = atoi(shape->descr + 2);
    if (!strchr("fiub", shape->descr[1]) || size < 1 || size > 16) return -1;
    *bytes = (uint64_t)size;
    shape->rank = 0;
    for (dims++; *dims != ')';) {
        char *end;
        if (!isdigit((unsigned char)*dims) || shape->rank == NPY_MAX_RANK) return -1;
        const unsigned long long dim = strtoull(dims, &end, 10);
        if (dim > INT64_MAX || (dim && *bytes > UINT64_MAX / dim)) return -1;
        *bytes *= dim;
        shape->dims[shape->rank++] = (int64_t)dim;
        dims = end + strspn(end, ", ");
    }
    return shape->rank ? 0 : -1;
}

int npy_read_header(FILE *file, const char *path, npy_shape *shape, uint64_t *data_bytes) {
    unsigned char head[12];
    char text[4096];
    size_t length = 0;
    if (fread(head, 1, 10, file) == 10 && !memcmp(head, magic, sizeof magic)) {
        length = (size_t)head[8] | (size_t)head[9] << 8;
        if (head[6] > 1)
            length = fread(head + 10, 1, 2, file) == 2 ? length | (size_t)head[10] << 16 | (size_t)head[11] << 24 : 0;
    }
    if (length && length < sizeof text && fread(text, 1, length, file) == length) {
        text[length] = 0;
        if (!parse_shape(text, shape, data_bytes)) return 0;
    }
    complain("%s: is no NPY file of numbers in C order with at least one axis", path);
    return -1;
}
