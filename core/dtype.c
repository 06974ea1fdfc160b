/* dtype.c - the names of element types and what an element takes. Apart, since the readers of files need nothing else of the
 * context. */
#include "strand.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {{"?", 0},   {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F64", 8}, {"I8", 1},  {"U8", 1},
              {"I16", 2}, {"U16", 2}, {"I32", 4}, {"U32", 4},  {"I64", 8}, {"U64", 8}, {"BOOL", 1}};

/* from STRAND_Q8_0 on */
static const char *const quantised_names[] = {"Q8_0", "Q4_0", "Q4_K", "Q6_K", "Q4_1", "Q5_0", "Q5_1", "Q5_K"};

const char *strand_dtype_name(strand_dtype dtype) {
    unsigned q = (unsigned)dtype - STRAND_Q8_0;
    if (q < sizeof quantised_names / sizeof quantised_names[0]) return quantised_names[q];
    return dtypes[(unsigned)dtype < sizeof dtypes / sizeof dtypes[0] ? dtype : 0].name;
}

size_t strand_dtype_size(strand_dtype dtype) {
    return dtypes[(unsigned)dtype < sizeof dtypes / sizeof dtypes[0] ? dtype : 0].size;
}
