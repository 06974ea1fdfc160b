/* test_eeg.c - the promise of states for recurrent EEG models: a recording whole, in random pieces (the seed is printed),
 * second by second, rolled back and forked into another session gives the same numbers at every second. The models are those
 * of STRAND_SHARED; without it the test is skipped, saying so. */
#define _GNU_SOURCE
#include "runs.h"

#include <math.h>
#include <time.h>

#define BATCH  2
#define LENGTH 23
#define TOKEN  (19 * 100)

typedef struct stream_case {
    const char *path; /* below STRAND_SHARED */
    const char *settings[2];
    int n_settings;
    const char *each; /* an output of every second */
    const char *last; /* and one of the last */
} stream_case;

static const stream_case cases[] = {
    {"golden/eeg/dcrnn-detection-sz1", {"lengths=full"}, 1, "logits_steps", "logits"},
    {"golden/eeg/dcrnn-detection-sz1", {"lengths=full"}, 1, "hidden", "encoder_hidden"},
    {"data/eeg/eeg-gnn-ssl/pretrained_distance_graph_60s.pth.tar", {"output_steps=3"}, 1, "hidden", "prediction"},
    {"data/eeg/eeg-gnn-ssl/pretrained_correlation_graph_12s.pth.tar",
     {"output_steps=2", "graph=supports"},
     2,
     "hidden",
     "prediction"},
};

typedef struct stream {
    const stream_case *c;
    opened o;
    float *x, *supports[2];
    float *each, *last; /* of the whole */
    int64_t width, last_width;
} stream;

/* Seconds [first, first + n) of rows [row, row + batch). Results: in the session's memory. */
static void run_seconds(const stream *s, strand_session *session, int64_t row, int64_t batch, int64_t first, int64_t n,
                        strand_tensor out[2]) {
    float *part = malloc((size_t)(batch * n * TOKEN) * sizeof *part);
    assert_non_null(part);
    for (int64_t b = 0; b < batch; b++)
        memcpy(part + b * n * TOKEN, s->x + ((row + b) * LENGTH + first) * TOKEN, (size_t)(n * TOKEN) * sizeof *part);
    strand_tensor in[3] = {
        {"features_in", STRAND_F32, 4, {batch, n, 19, 100}, part, (uint64_t)(batch * n * TOKEN) * sizeof *part},
        {"support0", STRAND_F32, 3, {batch, 19, 19}, s->supports[0] + row * 361, (uint64_t)batch * 361 * sizeof(float)},
        {"support1", STRAND_F32, 3, {batch, 19, 19}, s->supports[1] + row * 361, (uint64_t)batch * 361 * sizeof(float)}};
    out[0] = (strand_tensor){.name = s->c->each};
    out[1] = (strand_tensor){.name = s->c->last};
    if (strand_session_run(session, in, s->c->n_settings == 2 ? 3 : 1, out, 2))
        fail_msg("%s: %s", s->c->path, strand_session_error(session));
    free(part);
}

static void near(const stream *s, const char *what, const float *a, const float *b, int64_t n) {
    double worst = largest_difference(a, b, (size_t)n);
    if (!(worst <= 2e-6 * fmax(1, largest_magnitude(b, (size_t)n))))
        fail_msg("%s, %s, %s: differs by %.3g", s->c->path, s->c->each, what, worst);
}

static float *copy_of(const strand_tensor *t) {
    float *to = malloc(t->bytes);
    assert_non_null(to);
    return memcpy(to, t->data, t->bytes);
}

static void judge_pieces(stream *s, randoms *r, int64_t most) {
    strand_tensor out[2];
    assert_int_equal(strand_session_reset(s->o.session, -1), STRAND_OK);
    for (int64_t at = 0, n; at < LENGTH; at += n) {
        n = 1 + random_below(r, most);
        if (n > LENGTH - at) n = LENGTH - at;
        run_seconds(s, s->o.session, 0, BATCH, at, n, out);
        for (int64_t b = 0; b < BATCH; b++)
            near(s, most == 1 ? "seconds" : "pieces", (const float *)out[0].data + b * n * s->width,
                 s->each + (b * LENGTH + at) * s->width, n * s->width);
    }
    near(s, "the last of pieces", out[1].data, s->last, BATCH * s->last_width);
}

static void judge_snapshot(stream *s, randoms *r) {
    strand_tensor out[2];
    size_t bytes = 0;
    int64_t at = 1 + random_below(r, LENGTH - 2), row = BATCH - 1;
    strand_session *other;
    assert_int_equal(strand_session_reset(s->o.session, -1), STRAND_OK);
    run_seconds(s, s->o.session, 0, BATCH, 0, at, out);
    assert_int_equal(strand_session_save(s->o.session, row, NULL, 0, &bytes), STRAND_OK);
    void *saved = malloc(bytes);
    assert_non_null(saved);
    assert_int_equal(strand_session_save(s->o.session, row, saved, bytes, &bytes), STRAND_OK);
    run_seconds(s, s->o.session, 0, BATCH, at, LENGTH - at, out); /* goes on, and is then rolled back into row 0 */
    assert_ok(s->o.context, strand_session_open(s->o.plan, NULL, &other));
    for (int way = 0; way < 2; way++) {
        strand_session *into = way ? other : s->o.session;
        assert_int_equal(strand_session_load(into, 0, saved, bytes), STRAND_OK);
        assert_int_equal(strand_session_position(into, 0), at);
        run_seconds(s, into, row, 1, at, LENGTH - at, out);
        near(s, way ? "forked" : "rolled back", out[0].data, s->each + (row * LENGTH + at) * s->width,
             (LENGTH - at) * s->width);
        near(s, "the last of that", out[1].data, s->last + row * s->last_width, s->last_width);
    }
    strand_session_close(other);
    free(saved);
}

static void run_case(strand_context *context, const char *root, const stream_case *c, randoms *r) {
    char path[600];
    strand_tensor out[2];
    stream s = {.c = c, .x = malloc(BATCH * LENGTH * TOKEN * sizeof(float))};
    char names[100];
    snprintf(names, sizeof names, "%s,%s", c->each, c->last);
    run_how how = {
        .backends = "cpu", .outputs = names, .settings = {c->settings[0], c->settings[1]}, .n_settings = c->n_settings};
    snprintf(path, sizeof path, "%s/%s", root, c->path);
    assert_non_null(s.x);
    for (int i = 0; i < BATCH * LENGTH * TOKEN; i++) s.x[i] = (float)((double)random_below(r, 20001) / 5000 - 2);
    for (int k = 0; k < 2; k++) {
        s.supports[k] = malloc(BATCH * 361 * sizeof(float));
        assert_non_null(s.supports[k]);
        for (int i = 0; i < BATCH * 361; i++) s.supports[k][i] = (float)random_below(r, 1000) / 10000;
    }
    s.o = open_all(context, path, &how, BATCH, LENGTH);
    run_seconds(&s, s.o.session, 0, BATCH, 0, LENGTH, out);
    s.each = copy_of(&out[0]);
    s.last = copy_of(&out[1]);
    s.width = (int64_t)(out[0].bytes / sizeof(float)) / BATCH / LENGTH;
    s.last_width = (int64_t)(out[1].bytes / sizeof(float)) / BATCH;
    assert_true(largest_magnitude(s.each, out[0].bytes / sizeof(float)) > 0.01);
    judge_pieces(&s, r, 9);
    judge_pieces(&s, r, 1);
    judge_snapshot(&s, r);
    free(s.x);
    free(s.each);
    free(s.last);
    for (int k = 0; k < 2; k++) free(s.supports[k]);
    close_all(&s.o);
}

static void streams(void **state) {
    (void)state;
    randoms r = {random_seed("eeg", (uint64_t)time(NULL))};
    const char *root = shared_path(".");
    if (!root) {
        print_message("  no STRAND_SHARED: skipped\n");
        skip();
    }
    char kept[512];
    snprintf(kept, sizeof kept, "%s", root);
    strand_context *c = open_context(&(open_with){.threads = 2});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) run_case(c, kept, &cases[i], &r);
    strand_context_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(streams)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
