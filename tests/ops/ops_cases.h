/* ops_cases.h - random cases of each operator, at the shapes where kernels change their minds, and groups of operators. */
#ifndef STRAND_TESTS_OPS_CASES_H
#define STRAND_TESTS_OPS_CASES_H

#include "ops_program.h"

typedef struct ops_family {
    const char *name;
    void (*make)(ops_program *g, int index); /* index counts the cases: the first ones are the corner cases */
    bool group;
} ops_family;

extern const ops_family ops_families[];
extern const int ops_n_families;

#endif
