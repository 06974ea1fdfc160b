/* test_brain.c - brain_csm against its equations written out in double precision (arXiv 2206.11417 and the key layout of the
 * published code): a random small checkpoint in memory, every task, embedder and unembedder of one layer and of two, times
 * by t_r and by rows, a sequence whole and in pieces. No published weights can be had, so this is the judge. */
#include "runs.h"

#include <math.h>
#include <time.h>

enum { NETWORKS = 11, D = 16, HEADS = 4, LAYERS = 2, INNER = 24, PLACES = 20, TIMES = 60, CLASSES = 5, L = 9 };
#define REPETITION 0.72

/* ---- a checkpoint ---- */

typedef struct entry {
    char name[64];
    int rank;
    int64_t dims[3];
    float *data;
} entry;

typedef struct checkpoint {
    entry all[80];
    int n;
    randoms *r;
    int deep; /* two layers in embedder and unembedder */
    char *file;
    size_t bytes;
} checkpoint;

static float *add(checkpoint *c, const char *name, int64_t rows, int64_t columns, double about, double spread) {
    entry *e = &c->all[c->n++];
    int64_t n = rows * (columns ? columns : 1);
    snprintf(e->name, sizeof e->name, "%s", name);
    e->rank = columns ? 2 : 1;
    e->dims[0] = rows;
    e->dims[1] = columns;
    e->data = malloc((size_t)n * sizeof(float));
    assert_non_null(e->data);
    for (int64_t i = 0; i < n; i++) e->data[i] = (float)(about + spread * ((double)random_below(c->r, 2001) / 1000 - 1));
    return e->data;
}

static void add_linear(checkpoint *c, const char *name, int64_t out, int64_t in) {
    char key[96];
    snprintf(key, sizeof key, "%s.weight", name);
    add(c, key, out, in, 0, 1.5 / sqrt((double)in));
    snprintf(key, sizeof key, "%s.bias", name);
    add(c, key, out, 0, 0, 0.3);
}

static void add_norm(checkpoint *c, const char *name) {
    char key[96];
    snprintf(key, sizeof key, "%s.weight", name);
    add(c, key, D, 0, 1, 0.4);
    snprintf(key, sizeof key, "%s.bias", name);
    add(c, key, D, 0, 0, 0.3);
}

static void add_token(checkpoint *c, const char *name) {
    entry *e = &c->all[c->n];
    add(c, name, 1, NETWORKS, 0, 1);
    e->rank = 3;
    e->dims[0] = e->dims[1] = 1;
    e->dims[2] = NETWORKS;
}

static void make(checkpoint *c) {
    char base[40], key[64];
    add_token(c, "embedder.msk_embed");
    add_token(c, "embedder.cls_embed");
    add_linear(c, "embedder.embed_model.model.0", D, NETWORKS);
    add_norm(c, "embedder.embed_model.model.1");
    if (c->deep) {
        add_linear(c, "embedder.embed_model.model.4", D, D);
        add_norm(c, "embedder.embed_model.model.5");
    }
    add(c, "embedder.wt_re.weight", TIMES + 1, D, 0, 0.7);
    add(c, "decoder.transformer.wte.weight", 1, D, 0, 1);
    add(c, "decoder.transformer.wpe.weight", PLACES, D, 0, 0.5);
    for (int i = 0; i < LAYERS; i++) {
        static const struct {
            const char *name;
            int64_t in, out;
        } maps[] = {{"attn.c_attn", D, 3 * D}, {"attn.c_proj", D, D}, {"mlp.c_fc", D, INNER}, {"mlp.c_proj", INNER, D}};
        snprintf(base, sizeof base, "decoder.transformer.h.%d", i);
        for (int k = 0; k < 4; k++) { /* stored [in, out] */
            snprintf(key, sizeof key, "%s.%s.weight", base, maps[k].name);
            add(c, key, maps[k].in, maps[k].out, 0, 1.5 / sqrt((double)maps[k].in));
            snprintf(key, sizeof key, "%s.%s.bias", base, maps[k].name);
            add(c, key, maps[k].out, 0, 0, 0.3);
        }
        snprintf(key, sizeof key, "%s.ln_1", base);
        add_norm(c, key);
        snprintf(key, sizeof key, "%s.ln_2", base);
        add_norm(c, key);
    }
    add_norm(c, "decoder.transformer.ln_f");
    add_linear(c, "decoder.pooler_layer.0", D, D);
    add_linear(c, "decoder.decoding_head.0", CLASSES, D);
    if (c->deep) {
        add_linear(c, "unembedder.model.0", D, D);
        add_norm(c, "unembedder.model.1");
        add_linear(c, "unembedder.model.4", NETWORKS, D);
    } else {
        add_linear(c, "unembedder.model.0", NETWORKS, D);
    }
}

static void write_file(checkpoint *c) {
    static char header[16384];
    size_t used = 1, at = 0;
    strcpy(header, "{");
    for (int i = 0; i < c->n; i++) {
        const entry *e = &c->all[i];
        size_t n = 4;
        used += (size_t)snprintf(header + used, sizeof header - used, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", i ? "," : "",
                                 e->name);
        for (int k = 0; k < e->rank; k++) {
            used += (size_t)snprintf(header + used, sizeof header - used, "%s%lld", k ? "," : "", (long long)e->dims[k]);
            n *= (size_t)e->dims[k];
        }
        used += (size_t)snprintf(header + used, sizeof header - used, "],\"data_offsets\":[%zu,%zu]}", at, at + n);
        at += n;
    }
    used += (size_t)snprintf(header + used, sizeof header - used, "}");
    while (used % 8) header[used++] = ' ';
    uint64_t length = used;
    c->bytes = 8 + used + at;
    c->file = aligned_alloc(64, (c->bytes + 63) / 64 * 64);
    assert_non_null(c->file);
    memcpy(c->file, &length, 8);
    memcpy(c->file + 8, header, used);
    char *to = c->file + 8 + used;
    for (int i = 0; i < c->n; i++) {
        size_t n = 4;
        for (int k = 0; k < c->all[i].rank; k++) n *= (size_t)c->all[i].dims[k];
        memcpy(to, c->all[i].data, n);
        to += n;
    }
}

static const float *find(const checkpoint *c, const char *base, const char *part) {
    char key[96];
    snprintf(key, sizeof key, "%s%s", base, part);
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->all[i].name, key)) return c->all[i].data;
    fail_msg("no %s", key);
    return NULL;
}

/* ---- the equations, in double ---- */

static void linear(const checkpoint *c, const char *name, const double *x, int in, int out, double *y) {
    const float *w = find(c, name, ".weight"), *b = find(c, name, ".bias");
    for (int o = 0; o < out; o++) {
        y[o] = b[o];
        for (int i = 0; i < in; i++) y[o] += w[o * in + i] * x[i];
    }
}

static void conv1d(const checkpoint *c, const char *name, const double *x, int in, int out, double *y) {
    const float *w = find(c, name, ".weight"), *b = find(c, name, ".bias");
    for (int o = 0; o < out; o++) {
        y[o] = b[o];
        for (int i = 0; i < in; i++) y[o] += w[i * out + o] * x[i];
    }
}

static void norm(const checkpoint *c, const char *name, const double *x, double *y) {
    const float *w = find(c, name, ".weight"), *b = find(c, name, ".bias");
    double mean = 0, variance = 0;
    for (int i = 0; i < D; i++) mean += x[i] / D;
    for (int i = 0; i < D; i++) variance += (x[i] - mean) * (x[i] - mean) / D;
    for (int i = 0; i < D; i++) y[i] = (x[i] - mean) / sqrt(variance + 1e-5) * w[i] + b[i];
}

static double gelu(double x) {
    return x / 2 * (1 + erf(x / sqrt(2.0)));
}
static double gelu_new(double x) {
    return x / 2 * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

/* kinds: 0 a volume, 1 msk_embed, 2 cls_embed in its place; rows: of wt_re. hidden [n][D] */
static void transformer(const checkpoint *c, const float *volumes, const int *kinds, const int64_t *rows, int n,
                        double hidden[][D]) {
    static double x[PLACES][D], qkv[PLACES][3 * D];
    const float *wt = find(c, "embedder.wt_re", ".weight"), *wpe = find(c, "decoder.transformer.wpe", ".weight");
    for (int t = 0; t < n; t++) {
        double in[NETWORKS], y[D];
        const float *from =
            kinds[t] == 0 ? volumes + t * NETWORKS : find(c, "embedder.", kinds[t] == 1 ? "msk_embed" : "cls_embed");
        for (int i = 0; i < NETWORKS; i++) in[i] = from[i];
        linear(c, "embedder.embed_model.model.0", in, NETWORKS, D, y);
        norm(c, "embedder.embed_model.model.1", y, x[t]);
        if (c->deep) {
            for (int i = 0; i < D; i++) x[t][i] = gelu(x[t][i]);
            linear(c, "embedder.embed_model.model.4", x[t], D, D, y);
            norm(c, "embedder.embed_model.model.5", y, x[t]);
        }
        for (int i = 0; i < D; i++) x[t][i] += (double)wt[rows[t] * D + i] + (double)wpe[t * D + i];
    }
    for (int layer = 0; layer < LAYERS; layer++) {
        char base[40], key[64];
        snprintf(base, sizeof base, "decoder.transformer.h.%d", layer);
        for (int t = 0; t < n; t++) {
            double y[D];
            snprintf(key, sizeof key, "%s.ln_1", base);
            norm(c, key, x[t], y);
            snprintf(key, sizeof key, "%s.attn.c_attn", base);
            conv1d(c, key, y, D, 3 * D, qkv[t]);
        }
        for (int t = 0; t < n; t++) {
            double mixed[D] = {0}, y[D], inner[INNER];
            const int width = D / HEADS;
            for (int h = 0; h < HEADS; h++) {
                double weight[PLACES], sum = 0;
                for (int s = 0; s <= t; s++) {
                    double score = 0;
                    for (int i = h * width; i < (h + 1) * width; i++) score += qkv[t][i] * qkv[s][D + i];
                    sum += weight[s] = exp(score / sqrt((double)width));
                }
                for (int s = 0; s <= t; s++)
                    for (int i = h * width; i < (h + 1) * width; i++) mixed[i] += weight[s] / sum * qkv[s][2 * D + i];
            }
            snprintf(key, sizeof key, "%s.attn.c_proj", base);
            conv1d(c, key, mixed, D, D, y);
            for (int i = 0; i < D; i++) x[t][i] += y[i];
            snprintf(key, sizeof key, "%s.ln_2", base);
            norm(c, key, x[t], mixed);
            snprintf(key, sizeof key, "%s.mlp.c_fc", base);
            conv1d(c, key, mixed, D, INNER, inner);
            for (int i = 0; i < INNER; i++) inner[i] = gelu_new(inner[i]);
            snprintf(key, sizeof key, "%s.mlp.c_proj", base);
            conv1d(c, key, inner, INNER, D, y);
            for (int i = 0; i < D; i++) x[t][i] += y[i];
        }
    }
    for (int t = 0; t < n; t++) norm(c, "decoder.transformer.ln_f", x[t], hidden[t]);
}

static void unembed(const checkpoint *c, const double *hidden, double *y) {
    double a[D], b[D];
    if (!c->deep) {
        linear(c, "unembedder.model.0", hidden, D, NETWORKS, y);
        return;
    }
    linear(c, "unembedder.model.0", hidden, D, D, a);
    norm(c, "unembedder.model.1", a, b);
    for (int i = 0; i < D; i++) b[i] = gelu(b[i]);
    linear(c, "unembedder.model.4", b, D, NETWORKS, y);
}

/* ---- the two compared ---- */

typedef struct trial {
    strand_context *context;
    strand_model *model;
    strand_plan *plan;
    strand_session *session;
} trial;

static trial begin(strand_context *context, const checkpoint *c, const char *task, const char *t_r, const char *outputs) {
    trial t = {.context = context};
    char setting[40];
    const char *settings[2] = {setting, t_r};
    strand_model_params mp;
    strand_plan_params pp;
    strand_model_params_init(&mp);
    strand_plan_params_init(&pp);
    snprintf(setting, sizeof setting, "task=%s", task);
    mp.settings = settings;
    mp.n_settings = t_r ? 2 : 1;
    assert_ok(context, strand_model_open_memory(context, c->file, c->bytes, "{\"num_attention_heads\": 4}", &mp, &t.model));
    pp.max_length = L;
    pp.backends = "cpu";
    pp.outputs = outputs;
    assert_ok(context, strand_plan_open(t.model, &pp, &t.plan));
    assert_ok(context, strand_session_open(t.plan, NULL, &t.session));
    return t;
}

static void end(trial *t) {
    strand_session_close(t->session);
    strand_plan_close(t->plan);
    strand_model_close(t->model);
}

/* Volumes [from, from + n); kinds and rows may be NULL. */
static const float *run(trial *t, const float *volumes, int64_t from, int64_t n, const int64_t *kinds, const int64_t *rows,
                        const char *output, int64_t *elements) {
    strand_tensor in[3] = {{"inputs",
                            STRAND_F32,
                            3,
                            {1, n, NETWORKS},
                            (void *)(uintptr_t)(volumes + from * NETWORKS),
                            (uint64_t)(n * NETWORKS) * 4}},
                  out = {.name = output};
    int32_t count = 1;
    if (kinds)
        in[count++] = (strand_tensor){"kinds", STRAND_I64, 2, {1, n}, (void *)(uintptr_t)(kinds + from), (uint64_t)n * 8};
    if (rows)
        in[count++] = (strand_tensor){"t_r_ids", STRAND_I64, 2, {1, n}, (void *)(uintptr_t)(rows + from), (uint64_t)n * 8};
    if (strand_session_run(t->session, in, count, &out, 1)) fail_msg("%s", strand_session_error(t->session));
    *elements = (int64_t)(out.bytes / 4);
    return out.data;
}

static void compare(const char *what, const float *have, const double *want, const int64_t *n, int64_t expected) {
    assert_int_equal(*n, expected);
    for (int64_t i = 0; i < *n; i++)
        if (!(fabs((double)have[i] - want[i]) <= 2e-5))
            fail_msg("%s: element %d is %.7g, not %.7g", what, (int)i, (double)have[i], want[i]);
}

static void judge(strand_context *context, const checkpoint *c, randoms *r) {
    static float volumes[L * NETWORKS];
    static double hidden[PLACES][D], want[L * NETWORKS], pooled[D], logits[CLASSES];
    int64_t n, regular[L], odd[L], kinds[L];
    int plain[L] = {0}, masked[L] = {0}, closed[L] = {0}, mixed[L];
    masked[L - 1] = 1;
    closed[L - 1] = 2;
    for (int i = 0; i < L * NETWORKS; i++) volumes[i] = (float)random_below(r, 2001) / 500 - 2;
    for (int t = 0; t < L; t++) {
        regular[t] = (int64_t)floor(t * REPETITION / 0.2 + 0.5); /* no time lies half-way */
        odd[t] = random_below(r, TIMES + 1);
        mixed[t] = (int)(kinds[t] = random_below(r, 3));
    }
    trial t = begin(context, c, "forward", "t_r=0.72", "outputs");
    transformer(c, volumes, plain, regular, L, hidden);
    for (int i = 0; i < L; i++) unembed(c, hidden[i], want + i * NETWORKS);
    compare("forward", run(&t, volumes, 0, L, NULL, NULL, "outputs", &n), want, &n, L * NETWORKS);
    assert_int_equal(strand_session_reset(t.session, -1), STRAND_OK);
    compare("first piece", run(&t, volumes, 0, 4, NULL, NULL, "outputs", &n), want, &n, 4 * NETWORKS);
    for (int i = 4; i < L; i++)
        compare("a volume more", run(&t, volumes, i, 1, NULL, NULL, "outputs", &n), want + i * NETWORKS, &n, NETWORKS);
    end(&t);
    t = begin(context, c, "predict", NULL, "prediction");
    transformer(c, volumes, masked, odd, L, hidden);
    unembed(c, hidden[L - 1], want);
    compare("predict", run(&t, volumes, 0, L, NULL, odd, "prediction", &n), want, &n, NETWORKS);
    end(&t);
    t = begin(context, c, "given", NULL, "outputs");
    transformer(c, volumes, mixed, odd, L, hidden);
    for (int i = 0; i < L; i++) unembed(c, hidden[i], want + i * NETWORKS);
    compare("given", run(&t, volumes, 0, L, kinds, odd, "outputs", &n), want, &n, L * NETWORKS);
    end(&t);
    t = begin(context, c, "decode", "t_r=0.72", "logits");
    regular[L - 1] = TIMES;
    transformer(c, volumes, closed, regular, L, hidden);
    linear(c, "decoder.pooler_layer.0", hidden[L - 1], D, D, pooled);
    for (int i = 0; i < D; i++) pooled[i] = tanh(pooled[i]);
    linear(c, "decoder.decoding_head.0", pooled, D, CLASSES, logits);
    compare("decode", run(&t, volumes, 0, L, NULL, NULL, "logits", &n), logits, &n, CLASSES);
    end(&t);
}

static void as_the_equations_say(void **state) {
    (void)state;
    randoms r = {random_seed("brain", (uint64_t)time(NULL))};
    strand_context *context = open_context(&(open_with){.threads = 2});
    for (int deep = 0; deep < 2; deep++) {
        checkpoint c = {.r = &r, .deep = deep};
        make(&c);
        write_file(&c);
        judge(context, &c, &r);
        for (int i = 0; i < c.n; i++) free(c.all[i].data);
        free(c.file);
    }
    strand_context_close(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_the_equations_say)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
