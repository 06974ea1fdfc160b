/* support.h - what the tests of core, plugins and models share: an allocator that counts and fails on demand, a replayable
 * random sequence, paths, contexts with the test plugin, and comparisons that say where two results differ. */
#ifndef STRAND_TEST_SUPPORT_H
#define STRAND_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "strand.h"

/* Memory is filled with rubbish, freed with the size it was asked for, and given out with the alignment asked for. The call
 * number fail_at (counted from 1) returns NULL, and with fail_on every one after it. */
typedef struct counting {
    long calls, live, fail_at;
    bool fail_on;
    long wrong; /* frees of another size, or of what was never given out */
    uint64_t bytes, most;
} counting;

strand_allocator counting_allocator(counting *c);

/* splitmix64. */
typedef struct randoms {
    uint64_t state;
} randoms;

uint64_t random_next(randoms *r);
int64_t random_below(randoms *r, int64_t n); /* [0, n) */
float random_real(randoms *r);               /* [-1, 1) */
void random_fill(randoms *r, float *x, size_t n, float scale);
/* The seed of a property test: STRAND_TEST_SEED replays one; printed. `fallback` is what CI uses. */
uint64_t random_seed(const char *test, uint64_t fallback);

/* Paths, good until the eighth call after. source_path is below the source tree, shared_path below STRAND_SHARED, or NULL when
 * that is not there. */
const char *source_path(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *build_path(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *shared_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Messages of the library at ERROR level, and those with "ABI violation" in them. */
typedef struct log_count {
    int errors, violations;
    char last[512];
} log_count;
void log_counter(void *log_count_, strand_log_level level, const char *text);

typedef struct open_with {
    int threads;  /* 0: 1 */
    bool faraway; /* look in the folder of the test plugin too */
    uint32_t cpu_mask;
    counting *memory; /* NULL: malloc */
    log_count *log;   /* NULL: none */
    const char *plugin_path;
} open_with;

/* Opens a context; fails the test when it does not open. */
strand_context *open_context(const open_with *how);
/* Is there a backend of that name? */
bool has_backend(const strand_context *c, const char *name);
/* The folder of strand-faraway.so. */
const char *faraway_folder(void);
/* Environment of faraway: each argument a value or NULL to unset. */
void faraway_env(const char *queue, const char *subset, const char *fail);

/* Fails the test with the library's own words unless ok. */
#define assert_ok(context, expression) assert_ok_(context, expression, #expression, __FILE__, __LINE__)
void assert_ok_(const strand_context *c, strand_status status, const char *what, const char *file, int line);

/* Largest |a - b|, and NaN as infinity. */
double largest_difference(const float *a, const float *b, size_t n);
double largest_magnitude(const float *a, size_t n);
/* Fails the test, naming the first byte that differs. */
void assert_same_bytes(const void *a, const void *b, size_t bytes, const char *what);

#endif
