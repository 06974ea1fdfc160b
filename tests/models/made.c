/* made.c - see made.h. */
#include "made.h"

#include <math.h>

void made_add(made *m, double mean, double scale, const int64_t *dims, const char *format, ...) {
    assert_true(m->n < 256);
    made_tensor *t = &m->tensors[m->n++];
    va_list args;
    va_start(args, format);
    vsnprintf(t->name, sizeof t->name, format, args);
    va_end(args);
    t->n = 1;
    for (t->rank = 0; dims[t->rank]; t->rank++) t->n *= t->dims[t->rank] = dims[t->rank];
    t->data = malloc((size_t)t->n * sizeof *t->data);
    assert_non_null(t->data);
    for (int64_t i = 0; i < t->n; i++) t->data[i] = (float)(mean + scale * 1.7 * random_real(&m->r));
}

const float *made_find(const made *m, const char *format, ...) {
    char name[96];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    for (int i = 0; i < m->n; i++)
        if (!strcmp(m->tensors[i].name, name)) return m->tensors[i].data;
    fail_msg("no tensor %s was made", name);
    return NULL;
}

void made_write(made *m) {
    size_t room = 16 + (size_t)m->n * 256, used = 8, at = 0, data = 0;
    for (int i = 0; i < m->n; i++) data += (size_t)m->tensors[i].n * 4;
    char *file = malloc(room + data);
    assert_non_null(file);
    for (int i = 0; i < m->n; i++) {
        const made_tensor *t = &m->tensors[i];
        used += (size_t)snprintf(file + used, room - used, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", i ? "," : "{", t->name);
        for (int k = 0; k < t->rank; k++)
            used += (size_t)snprintf(file + used, room - used, k ? ",%lld" : "%lld", (long long)t->dims[k]);
        used += (size_t)snprintf(file + used, room - used, "],\"data_offsets\":[%zu,%zu]}", at, at + (size_t)t->n * 4);
        at += (size_t)t->n * 4;
    }
    file[used++] = '}';
    while (used % 8) file[used++] = ' ';
    uint64_t header = used - 8;
    memcpy(file, &header, 8);
    for (int i = 0; i < m->n; i++) {
        memcpy(file + used, m->tensors[i].data, (size_t)m->tensors[i].n * 4);
        used += (size_t)m->tensors[i].n * 4;
    }
    m->file = (unsigned char *)file;
    m->bytes = used;
}

void made_free(made *m) {
    for (int i = 0; i < m->n; i++) free(m->tensors[i].data);
    free(m->file);
    m->n = 0;
    m->file = NULL;
}

/* ---- judging ---- */

static void run(strand_session *s, const int64_t *ids, int64_t n, float *to, int64_t vocabulary) {
    int64_t copy[512];
    assert_true(n <= 512);
    memcpy(copy, ids, (size_t)n * sizeof *ids);
    strand_tensor in = {"input_ids", STRAND_I64, 2, {1, n}, copy, (uint64_t)n * 8}, out = {.name = "logits"};
    if (strand_session_run(s, &in, 1, &out, 1)) fail_msg("run: %s", strand_session_error(s));
    assert_int_equal(out.bytes, (uint64_t)(n * vocabulary) * 4);
    memcpy(to, out.data, out.bytes);
}

static double relative_l2(const float *a, const double *b, int64_t n) {
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) d += (a[i] - b[i]) * (a[i] - b[i]), s += b[i] * b[i];
    return sqrt(d / s);
}

void made_judge(made *m, const char *config, const char *family, const int64_t *ids, int64_t length, int64_t vocabulary,
                const double *want, double relative) {
    static const char *const ways[] = {"whole", "pieces", "steps"};
    strand_context *c = open_context(&(open_with){.threads = 2});
    strand_model *model;
    strand_plan *plan;
    strand_session *s;
    strand_plan_params pp;
    strand_model_info info;
    made_write(m);
    assert_ok(c, strand_model_open_memory(c, m->file, m->bytes, config, NULL, &model));
    assert_int_equal(strand_model_get(model, &info), STRAND_OK);
    assert_string_equal(info.family, family);
    strand_plan_params_init(&pp);
    pp.max_length = length;
    pp.backends = "cpu";
    assert_ok(c, strand_plan_open(model, &pp, &plan));
    assert_ok(c, strand_session_open(plan, NULL, &s));
    float *have = malloc((size_t)(length * vocabulary) * sizeof *have);
    assert_non_null(have);
    for (int way = 0; way < 3; way++) {
        assert_int_equal(strand_session_reset(s, -1), STRAND_OK);
        for (int64_t at = 0, n; at < length; at += n) {
            n = way == 0 ? length : way == 2 ? 1 : 1 + random_below(&m->r, 30);
            if (n > length - at) n = length - at;
            run(s, ids + at, n, have + at * vocabulary, vocabulary);
        }
        double d = relative_l2(have, want, length * vocabulary);
        print_message("  %-10s %-8s relative L2 %.1e\n", family, ways[way], d);
        if (!(d <= relative)) fail_msg("%s, %s: differs from the double-precision form by %.3g", family, ways[way], d);
    }
    free(have);
    strand_session_close(s);
    strand_plan_close(plan);
    strand_model_close(model);
    strand_context_close(c);
}

/* ---- arithmetic ---- */

/* ---- sessions ---- */

made_session made_open(strand_context *c, const made *m, const char *config, const char *setting, int64_t batch, int64_t length,
                       const char *outputs) {
    made_session s;
    strand_model_params mp;
    strand_plan_params pp;
    strand_model_params_init(&mp);
    mp.settings = &setting, mp.n_settings = setting != NULL;
    assert_ok(c, strand_model_open_memory(c, m->file, m->bytes, config, &mp, &s.model));
    strand_plan_params_init(&pp);
    pp.max_batch = batch, pp.max_length = length, pp.backends = "cpu", pp.outputs = outputs;
    assert_ok(c, strand_plan_open(s.model, &pp, &s.plan));
    assert_ok(c, strand_session_open(s.plan, NULL, &s.session));
    return s;
}

void made_close(made_session *s) {
    strand_session_close(s->session);
    strand_plan_close(s->plan);
    strand_model_close(s->model);
}

const float *made_run(strand_session *s, const char *input, const float *x, int64_t batch, int64_t length, int64_t width,
                      int64_t first, int64_t n, const char *output, int64_t bytes) {
    size_t row = (size_t)(n * width);
    float *part = malloc((size_t)batch * row * sizeof *part);
    assert_non_null(part);
    for (int64_t b = 0; b < batch; b++) memcpy(part + (size_t)b * row, x + (b * length + first) * width, row * sizeof *part);
    strand_tensor in = {input, STRAND_F32, 3, {batch, n, width}, part, (uint64_t)batch * row * sizeof *part},
                  out = {.name = output};
    if (strand_session_run(s, &in, 1, &out, 1)) fail_msg("run: %s", strand_session_error(s));
    assert_int_equal(out.bytes, bytes);
    free(part);
    return out.data;
}

strand_session *made_fork(strand_context *c, const made_session *s, int64_t batch) {
    strand_session *other;
    assert_ok(c, strand_session_open(s->plan, NULL, &other));
    for (int32_t b = 0; b < batch; b++) {
        size_t bytes = 0;
        assert_int_equal(strand_session_save(s->session, b, NULL, 0, &bytes), STRAND_OK);
        void *saved = malloc(bytes);
        assert_non_null(saved);
        assert_int_equal(strand_session_save(s->session, b, saved, bytes, &bytes), STRAND_OK);
        assert_int_equal(strand_session_load(other, b, saved, bytes), STRAND_OK);
        free(saved);
    }
    return other;
}

void d_linear(double *y, const float *w, const float *b, const double *x, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; i++) {
        y[i] = b ? (double)b[i] : 0;
        for (int64_t k = 0; k < columns; k++) y[i] += (double)w[i * columns + k] * x[k];
    }
}

void d_layer_norm(double *y, const float *w, const float *b, const double *x, int64_t n, double eps) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i] / (double)n;
    for (int64_t i = 0; i < n; i++) variance += (x[i] - mean) * (x[i] - mean) / (double)n;
    for (int64_t i = 0; i < n; i++) y[i] = (x[i] - mean) / sqrt(variance + eps) * (double)w[i] + (b ? (double)b[i] : 0);
}

void d_rms_norm(double *y, const float *w, const double *x, int64_t n, double eps) {
    double square = 0;
    for (int64_t i = 0; i < n; i++) square += x[i] * x[i] / (double)n;
    for (int64_t i = 0; i < n; i++) y[i] = x[i] / sqrt(square + eps) * (double)w[i];
}

double d_sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

double d_silu(double x) {
    return x * d_sigmoid(x);
}

double d_gelu(double x) {
    return x / 2 * (1 + erf(x / sqrt(2)));
}

double d_gelu_tanh(double x) {
    return x / 2 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
