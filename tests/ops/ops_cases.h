/* ops_cases.h - random cases of each operator, at the shapes where kernels change their minds, and groups of operators. */
#ifndef STRAND_TESTS_OPS_CASES_H
#define STRAND_TESTS_OPS_CASES_H

#include "ops_program.h"

typedef struct ops_family {
    const char *name;
    void (*make)(ops_program *g, int index); /* index counts the cases: the first ones are the corner cases */
    bool group;
} ops_family;

/* Is it run only when it is asked for by name? */
bool ops_on_request(const ops_family *family);
/* Is `name` one of a list's names, which commas part? No list (NULL) has none. */
bool ops_listed(const char *list, const char *name);
/* In how many cases of a family in a row one is run, as the environment says (STRAND_TEST_ONE_IN), so that a quick suite runs
 * others each time; printed. So few that a family has two at least; all where EMULATED_CUDA_EXPECT names kernels that must have
 * run. Which one of them it is, STRAND_TEST_SEED draws for each family anew: cases are chosen by their number's remainder. */
int ops_one_in(int cases);
bool ops_sampled(int one_in, const char *family, int index);
/* Does a quick suite run the test that is number K of N which stand for each other ("K/N")? One of them, as its seed says. */
bool ops_drawn(const char *number);

/* The cases stand in files by the families of the op table: cases_NAME.c exports ops_cases_NAME and ops_n_cases_NAME. */
typedef struct ops_case_set {
    const ops_family *families;
    const int *n;
} ops_case_set;

extern const ops_case_set ops_case_sets[];
extern const int ops_n_case_sets;

#define OPS_CASES(name, ...)                              \
    const ops_family ops_cases_##name[] = {__VA_ARGS__}; \
    const int ops_n_cases_##name = (int)(sizeof ops_cases_##name / sizeof *ops_cases_##name)

/* Shared by the case files. */
#define SAY(...) snprintf(g->text, sizeof g->text, __VA_ARGS__)
#define F32      STRAND_PLUGIN_F32

/* 0 to `most` batch axes of extent 1 to 3 into dims; returns how many. */
int ops_batch_axes(ops_program *g, int64_t *dims, int most);
int64_t ops_product(int rank, const int64_t *dims);
/* A length at which kernels change their minds: corners for small indices, then random up to 2500. */
int64_t ops_length(ops_program *g, int index);
/* F32 mostly, F16 or BF16 now and then. */
uint32_t ops_any_float(ops_program *g);
/* A random F32 vector of n. */
int ops_vector(ops_program *g, int64_t n);
/* Parameters that function `kind` can have. */
void ops_function_parameters(ops_program *g, uint32_t kind, float *alpha, float *beta);
/* Replaces each element x of an F32 tensor by f(x). */
void ops_map(ops_program *g, int tensor, float (*f)(float));

#endif
