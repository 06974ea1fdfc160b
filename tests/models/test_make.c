/* test_make.c - make-hyenadna: every option gives a checkpoint that loads, runs and is lively; the same seed the same model. */
#include "runs.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#define LENGTH 300

static char root[] = "/tmp/strand-make-XXXXXX";

static const char *make(const char *name, const char *options) {
    static char path[128];
    char command[1200];
    snprintf(path, sizeof path, "%s/%s", root, name);
    snprintf(command, sizeof command, "'%s' %s '%s'", build_path("tests/models/make-hyenadna"), options, path);
    if (system(command)) fail_msg("%s", command);
    return path;
}

static void clean(const char *name) {
    static const char *const parts[] = {"/model.safetensors", "/config.json", ""};
    char path[160];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s%s", root, name, parts[i]);
        remove(path);
    }
}

static float *logits(strand_context *c, const char *name, const char *options, const char *output) {
    int64_t ids[LENGTH];
    strand_tensor shape;
    randoms r = {3};
    random_bases(&r, ids, LENGTH);
    float *x = run_once(c, make(name, options), &(run_how){0}, ids, 1, LENGTH, output, &shape);
    size_t n = shape.bytes / sizeof *x, rows = n / (size_t)shape.dims[shape.rank - 1];
    double most = largest_magnitude(x, n),
           apart = rows > 1
                       ? largest_difference(x, x + shape.dims[shape.rank - 1], (rows - 1) * (size_t)shape.dims[shape.rank - 1])
                       : 1;
    if (!(most > 0.05 && most < 1e3 && apart > 0.01))
        fail_msg("%s: largest %g, positions differ by %g: not lively", options, most, apart);
    clean(name);
    return x;
}

static void every_option(void **state) {
    (void)state;
    assert_non_null(mkdtemp(root));
    strand_context *c = open_context(&(open_with){.threads = 2});
    float *plain = logits(c, "a", "--d 32 --layers 3 --l-max 1002", "logits"),
          *same = logits(c, "b", "--d 32 --layers 3 --l-max 1002 --seed 1", "logits");
    float *grids = logits(c, "c", "--d 32 --layers 3 --l-max 1002 --with-grids", "logits"),
          *other = logits(c, "d", "--d 32 --layers 3 --l-max 1002 --seed 2", "logits");
    assert_same_bytes(plain, same, LENGTH * 16 * sizeof *plain, "the same seed");
    assert_same_bytes(plain, grids, LENGTH * 16 * sizeof *plain, "with grids and without");
    assert_true(largest_difference(plain, other, LENGTH * 16) > 0.1);
    free(logits(c, "e", "--d 48 --layers 2 --l-max 500 --inner 100 --order 32 --f16 --head 7", "class_logits"));
    free(logits(c, "f", "--d 256 --layers 8 --l-max 1000002", "logits"));
    free(logits(c, "g", "--d 5 --layers 1 --l-max 400 --vocab 12", "logits"));
    float *half = logits(c, "h", "--d 32 --layers 3 --l-max 1002 --f16", "logits");
    double d = largest_difference(plain, half, LENGTH * 16);
    assert_true(d > 0 && d < 0.5);
    strand_context_close(c);
    rmdir(root);
    free(plain);
    free(same);
    free(grids);
    free(other);
    free(half);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_option)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
