/* ops_cases.c - the sets of cases, and what their makers share. */
#include "ops_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETS(X)                                                                                                                \
    X(first)                                                                                                                   \
    X(matrix_state)                                                                                                            \
    X(conv1d)                                                                                                                  \
    X(graphs)                                                                                                                  \
    X(attention)                                                                                                               \
    X(scans)                                                                                                                   \
    X(convolutions)                                                                                                            \
    X(products)                                                                                                                \
    X(elementwise)                                                                                                             \
    X(shapes)                                                                                                                  \
    X(recurrent)                                                                                                               \
    X(corners)

#define DECLARE(name)                                                                                                          \
    extern const ops_family ops_cases_##name[];                                                                                \
    extern const int ops_n_cases_##name;
SETS(DECLARE)

#define ENTRY(name) {ops_cases_##name, &ops_n_cases_##name},
const ops_case_set ops_case_sets[] = {SETS(ENTRY)};
const int ops_n_case_sets = (int)(sizeof ops_case_sets / sizeof *ops_case_sets);

bool ops_on_request(const ops_family *family) {
    return !strncmp(family->name, "huge_", 5);
}

uint32_t ops_any_float(ops_program *g) {
    static const uint32_t types[] = {STRAND_PLUGIN_F32, STRAND_PLUGIN_F16, STRAND_PLUGIN_BF16};
    return types[ops_between(g, 0, 4) > 2 ? ops_between(g, 0, 2) : 0];
}

int ops_batch_axes(ops_program *g, int64_t *dims, int most) {
    int n = (int)ops_between(g, 0, most);
    for (int i = 0; i < n; i++) dims[i] = ops_between(g, 1, 3);
    return n;
}

int64_t ops_product(int rank, const int64_t *dims) {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dims[i];
    return n;
}

int ops_vector(ops_program *g, int64_t n) {
    return ops_add(g, F32, 1, &n, OPS_NORMAL);
}

int64_t ops_length(ops_program *g, int index) {
    static const int64_t corners[] = {1,   2,    3,    15,   16,   17,   33,   63,   64,   65,   127, 128,
                                      129, 191,  255,  256,  257,  383,  500,  512,  513,  640,  767, 768,
                                      769, 1000, 1026, 1280, 1300, 1536, 1537, 2048, 3000, 4096, 5000};
    int n = (int)(sizeof corners / sizeof *corners);
    return index < n ? corners[index] : ops_between(g, 0, 1) ? ops_between(g, 1, 70) : ops_between(g, 71, 2500);
}

void ops_function_parameters(ops_program *g, uint32_t kind, float *alpha, float *beta) {
    *alpha = (float)ops_between(g, 1, 40) / 8;
    *beta = (float)ops_between(g, -8, 8) / 8;
    if (kind == STRAND_UNARY_CLAMP) *beta = *alpha + 3, *alpha = -*alpha;
    if (kind == STRAND_UNARY_LEAKY_RELU) *alpha /= 16;
}

void ops_map(ops_program *g, int tensor, float (*f)(float)) {
    const ops_tensor *t = &g->tensors[tensor];
    int64_t n = ops_count(&t->view);
    for (int64_t i = 0; i < n; i++) {
        float x;
        unsigned char *at = t->start + ops_place(t, &t->view, i);
        memcpy(&x, at, 4);
        x = f(x);
        memcpy(at, &x, 4);
    }
}

bool ops_listed(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strcspn(at, ",") == n && !strncmp(at, name, n)) return true;
    return false;
}

/* A number that seed, name and block decide: FNV-1a, its bits mixed. */
static uint64_t drawn_for(const char *name, uint64_t block) {
    const char *seed = getenv("STRAND_TEST_SEED");
    uint64_t h =
        0xcbf29ce484222325u ^ (seed ? strtoull(seed, NULL, 10) : 0) * 0x9e3779b97f4a7c15u ^ block * 0xbf58476d1ce4e5b9u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    h = (h ^ h >> 31) * 0x94d049bb133111ebu;
    return h ^ h >> 29;
}

int ops_one_in(int cases) {
    const char *one_in = getenv("STRAND_TEST_ONE_IN");
    int n = one_in ? atoi(one_in) : 1;
    if (n > cases / 2) n = cases / 2;
    if (n < 2 || getenv("EMULATED_CUDA_EXPECT")) return 1;
    printf("a sample: of each %d cases of a family in a row one, which STRAND_TEST_SEED draws\n", n);
    return n;
}

bool ops_sampled(int one_in, const char *family, int index) {
    return one_in < 2 || index % one_in == (int)(drawn_for(family, (uint64_t)(index / one_in)) % (unsigned)one_in);
}

bool ops_drawn(const char *number) {
    const char *of = strchr(number, '/');
    unsigned long n = of ? strtoul(of + 1, NULL, 10) : 1;
    if (!getenv("STRAND_TEST_ONE_IN") || n < 2) return true;
    return drawn_for("tests", n) % n == strtoull(number, NULL, 10) - 1;
}
