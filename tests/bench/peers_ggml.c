/* peers_ggml.c - ggml's kernels, the CPU's or Vulkan's, on the same data, by the public functions of its library that are
 * called, declared here.
 *
 * A strand tensor's axes are ggml's in reverse. Data is copied into the context's own memory before the rounds, but for
 * matrices of weights, which are read where they lie: how fast memory is read depends on where its pages happen to be. A run
 * is one call of the graph's computation. What ggml does in several operators (biases, gates) is a graph of them, as its
 * users write it. */
#define _GNU_SOURCE
#include "peers.h"

#include <math.h>
#include <string.h>

typedef struct ggml_any ggml_any; /* contexts, tensors, graphs, backends: never looked into */

typedef struct ggml_memory {
    size_t bytes;
    void *buffer;
    bool none;
} ggml_memory;

static struct api {
    bool tried, there;
    ggml_any *(*init)(ggml_memory memory);
    void (*free)(ggml_any *ctx);
    ggml_any *(*tensor)(ggml_any *ctx, int type, int rank, const int64_t *ne);
    void *(*data)(const ggml_any *t);
    ggml_any *(*graph)(ggml_any *ctx);
    void (*expand)(ggml_any *graph, ggml_any *t);
    ggml_any *(*backend)(void);
    void (*threads)(ggml_any *backend, int n);
    /* of the Vulkan library alone: its first device */
    bool device;
    ggml_any *(*device_backend)(size_t device);
    ggml_any *(*allocate)(ggml_any *ctx, ggml_any *backend);
    void (*set)(ggml_any *t, const void *data, size_t offset, size_t bytes);
    void (*get)(const ggml_any *t, void *data, size_t offset, size_t bytes);
    bool (*supports)(ggml_any *backend, const ggml_any *op);
    int (*nodes)(ggml_any *graph);
    ggml_any *(*node)(ggml_any *graph, int i);
    int (*compute)(ggml_any *backend, ggml_any *graph);
    ggml_any *(*buffer)(void *memory, size_t bytes);
    int (*place)(ggml_any *buffer, ggml_any *t, void *at);
    void (*free_buffer)(ggml_any *buffer);
    ggml_any *(*permute)(ggml_any *ctx, ggml_any *a, int, int, int, int);
    ggml_any *(*view_1d)(ggml_any *ctx, ggml_any *a, int64_t n, size_t offset);
    ggml_any *(*reshape_2d)(ggml_any *ctx, ggml_any *a, int64_t, int64_t);
    ggml_any *(*reshape_3d)(ggml_any *ctx, ggml_any *a, int64_t, int64_t, int64_t);
    ggml_any *(*add)(ggml_any *ctx, ggml_any *a, ggml_any *b);
    ggml_any *(*mul)(ggml_any *ctx, ggml_any *a, ggml_any *b);
    ggml_any *(*silu)(ggml_any *ctx, ggml_any *a);
    ggml_any *(*gelu)(ggml_any *ctx, ggml_any *a);
    ggml_any *(*soft_max)(ggml_any *ctx, ggml_any *a);
    ggml_any *(*norm)(ggml_any *ctx, ggml_any *a, float eps);
    ggml_any *(*rms_norm)(ggml_any *ctx, ggml_any *a, float eps);
    ggml_any *(*mul_mat)(ggml_any *ctx, ggml_any *a, ggml_any *b);
    ggml_any *(*attention)(ggml_any *ctx, ggml_any *q, ggml_any *k, ggml_any *v, ggml_any *mask, float scale, float max_bias,
                           float cap);
    ggml_any *(*ssm_scan)(ggml_any *ctx, ggml_any *s, ggml_any *x, ggml_any *dt, ggml_any *A, ggml_any *B, ggml_any *C,
                          ggml_any *ids);
    ggml_any *(*ssm_conv)(ggml_any *ctx, ggml_any *x, ggml_any *w);
    ggml_any *(*wkv6)(ggml_any *ctx, ggml_any *k, ggml_any *v, ggml_any *r, ggml_any *u, ggml_any *w, ggml_any *state);
    ggml_any *(*wkv7)(ggml_any *ctx, ggml_any *r, ggml_any *w, ggml_any *k, ggml_any *v, ggml_any *a, ggml_any *b,
                      ggml_any *state);
    ggml_any *(*gla)(ggml_any *ctx, ggml_any *k, ggml_any *v, ggml_any *q, ggml_any *g, ggml_any *state, float scale);
} api;

enum { GG_F32 = 0, GG_F16 = 1, GG_Q4_0 = 2, GG_Q8_0 = 8, GG_Q4_K = 12, GG_Q6_K = 14, GG_I32 = 26, GG_BF16 = 30 };

static bool open_api(void) {
    static const char *const names[] = {"libggml-cpu.so", "libggml-cpu.so.0", NULL};
    if (api.tried) return api.there;
    api.tried = true;
    void *l = bench_library("STRAND_BENCH_GGML", names); /* its base library comes along, and dlsym looks there too */
    const struct {
        const char *name;
        void *pointer;
    } need[] = {{"ggml_init", &api.init},
                {"ggml_free", &api.free},
                {"ggml_new_tensor", &api.tensor},
                {"ggml_get_data", &api.data},
                {"ggml_new_graph", &api.graph},
                {"ggml_build_forward_expand", &api.expand},
                {"ggml_backend_graph_compute", &api.compute},
                {"ggml_backend_cpu_buffer_from_ptr", &api.buffer},
                {"ggml_backend_tensor_alloc", &api.place},
                {"ggml_backend_buffer_free", &api.free_buffer},
                {"ggml_permute", &api.permute},
                {"ggml_view_1d", &api.view_1d},
                {"ggml_reshape_2d", &api.reshape_2d},
                {"ggml_reshape_3d", &api.reshape_3d},
                {"ggml_add", &api.add},
                {"ggml_mul", &api.mul},
                {"ggml_silu", &api.silu},
                {"ggml_gelu", &api.gelu},
                {"ggml_soft_max", &api.soft_max},
                {"ggml_norm", &api.norm},
                {"ggml_rms_norm", &api.rms_norm},
                {"ggml_mul_mat", &api.mul_mat},
                {"ggml_flash_attn_ext", &api.attention},
                {"ggml_ssm_scan", &api.ssm_scan},
                {"ggml_ssm_conv", &api.ssm_conv},
                {"ggml_rwkv_wkv6", &api.wkv6},
                {"ggml_rwkv_wkv7", &api.wkv7},
                {"ggml_gated_linear_attn", &api.gla}};
    api.device = bench_symbol(l, "ggml_backend_vk_init", &api.device_backend);
    if (api.device)
        api.there = bench_symbol(l, "ggml_backend_alloc_ctx_tensors", &api.allocate) &&
                    bench_symbol(l, "ggml_backend_tensor_set", &api.set) &&
                    bench_symbol(l, "ggml_backend_tensor_get", &api.get) &&
                    bench_symbol(l, "ggml_backend_supports_op", &api.supports) &&
                    bench_symbol(l, "ggml_graph_n_nodes", &api.nodes) && bench_symbol(l, "ggml_graph_node", &api.node);
    else
        api.there = bench_symbol(l, "ggml_backend_cpu_init", &api.backend) &&
                    bench_symbol(l, "ggml_backend_cpu_set_n_threads", &api.threads);
    for (size_t i = 0; i < sizeof need / sizeof *need && api.there; i++)
        api.there = bench_symbol(l, need[i].name, need[i].pointer);
    return api.there;
}

/* ---- one graph ---- */

#define MOST_INPUTS 12

typedef struct job {
    bench *b;
    ggml_any *ctx, *graph;
    struct {
        ggml_any *t;
        void *data;
        size_t bytes;
    } inputs[MOST_INPUTS]; /* what goes to the device when there is room for it */
    int n_inputs;
} job;

static ggml_any *backend;

static void run_graph(void *arg) {
    const job *j = arg;
    api.compute(backend, j->graph);
}

static void free_context(void *ctx) {
    api.free(ctx);
}
static void free_buffer(void *buffer) {
    api.free_buffer(buffer);
}

/* A context with room for the case's tensors several times over. */
static job *begin(bench *b, const bench_case *c, double more) {
    double bytes = 4e6 + more;
    for (uint32_t i = 0; i < c->node.n_inputs; i++) bytes += 3 * (double)bench_bytes(&c->inputs[i]);
    for (uint32_t i = 0; i < c->node.n_outputs; i++) bytes += 6 * (double)bench_bytes(&c->outputs[i]);
    job *j = bench_memory(b, sizeof *j);
    *j = (job){.b = b, .ctx = api.init((ggml_memory){(size_t)(api.device ? 4e6 : bytes), NULL, api.device})};
    if (!j->ctx) return NULL;
    bench_later(b, free_context, j->ctx);
    if (!backend) backend = api.device ? api.device_backend(0) : api.backend();
    if (!api.device) api.threads(backend, b->threads);
    return backend ? j : NULL;
}

/* Where to put an input's data. */
static void *room(job *j, ggml_any *t, size_t bytes) {
    if (!api.device) return api.data(t);
    void *data = bench_memory(j->b, bytes);
    j->inputs[j->n_inputs].t = t;
    j->inputs[j->n_inputs].data = data;
    j->inputs[j->n_inputs++].bytes = bytes;
    return data;
}

/* The graph on the device, and its first result; false when the device does not have one of its operators. */
static bool move(bench_case *c, job *j, ggml_any *y, float **result) {
    for (int i = 0; i < api.nodes(j->graph); i++)
        if (!api.supports(backend, api.node(j->graph, i))) return false;
    ggml_any *buffer = api.allocate(j->ctx, backend);
    if (!buffer) return false;
    bench_later(j->b, free_buffer, buffer);
    for (int i = 0; i < j->n_inputs; i++) api.set(j->inputs[i].t, j->inputs[i].data, 0, j->inputs[i].bytes);
    *result = bench_memory(j->b, bench_bytes(&c->outputs[0]));
    if (api.compute(backend, j->graph)) return false;
    api.get(y, *result, 0, bench_bytes(&c->outputs[0]));
    return true;
}

/* Ends with `y`, whose first elements are the result; in_order: they stand as ours do. */
static void end(bench_case *c, job *j, const char *name, ggml_any *y, bool in_order) {
    j->graph = api.graph(j->ctx);
    api.expand(j->graph, y);
    float *result = NULL;
    if (api.device && !move(c, j, y, &result)) return;
    bench_peer(c, api.device ? "ggml-vulkan" : name, run_graph, j);
    if (in_order) bench_peer_result(c, api.device ? result : api.data(y));
}

static int type_of(uint32_t dtype) {
    switch (dtype) {
    case STRAND_PLUGIN_F32: return GG_F32;
    case STRAND_PLUGIN_F16: return GG_F16;
    case STRAND_PLUGIN_BF16: return GG_BF16;
    case STRAND_PLUGIN_Q8_0: return GG_Q8_0;
    case STRAND_PLUGIN_Q4_0: return GG_Q4_0;
    case STRAND_PLUGIN_Q4_K: return GG_Q4_K;
    case STRAND_PLUGIN_Q6_K: return GG_Q6_K;
    default: return -1;
    }
}

static ggml_any *zeros(job *j, int type, int64_t a, int64_t b, int64_t c, int64_t d) {
    const int64_t ne[4] = {a, b, c, d};
    ggml_any *t = api.tensor(j->ctx, type, 4, ne);
    size_t bytes = (size_t)(a * b * c * d) * (type == GG_F16 ? 2 : 4);
    memset(room(j, t, bytes), 0, bytes);
    return t;
}

/* The tensor's data in another shape, fastest axis first. */
static ggml_any *put(job *j, const strand_plugin_tensor *t, int64_t a, int64_t b, int64_t c, int64_t d) {
    const int64_t ne[4] = {a, b, c, d};
    ggml_any *g = api.tensor(j->ctx, type_of(t->dtype), d > 1 ? 4 : c > 1 ? 3 : 2, ne);
    memcpy(room(j, g, bench_bytes(t)), t->memory.data, bench_bytes(t));
    return g;
}

/* A matrix where it lies (on a device: a copy), its fastest axis first. */
static ggml_any *in_place(job *j, const strand_plugin_tensor *t, int64_t a, int64_t n) {
    if (api.device) return put(j, t, a, n, 1, 1);
    ggml_any *ctx = api.init((ggml_memory){1 << 16, NULL, true}),
             *buffer = api.buffer(t->memory.data, (bench_bytes(t) + 63) / 64 * 64);
    const int64_t ne[2] = {a, n};
    ggml_any *g = api.tensor(ctx, type_of(t->dtype), 2, ne);
    api.place(buffer, g, t->memory.data);
    bench_later(j->b, free_context, ctx);
    bench_later(j->b, free_buffer, buffer);
    return g;
}

/* The state that comes in, or zeros. */
static ggml_any *state_of(job *j, const strand_plugin_tensor *given, int64_t a, int64_t b, int64_t c, int64_t d) {
    return given ? put(j, given, a, b, c, d) : zeros(j, GG_F32, a, b, c, d);
}

/* e to the power of what the tensor holds: ggml takes decays, not their logarithms. */
static ggml_any *put_decay(job *j, const strand_plugin_tensor *t, bool log, int64_t a, int64_t b, int64_t c) {
    const int64_t ne[3] = {a, b, c};
    ggml_any *g = api.tensor(j->ctx, GG_F32, 3, ne);
    float *p = room(j, g, bench_bytes(t));
    memcpy(p, t->memory.data, bench_bytes(t));
    for (int64_t i = 0; log && i < a * b * c; i++) p[i] = expf(p[i]);
    return g;
}

static const strand_plugin_tensor *input(const bench_case *c, uint32_t i) {
    return i < c->node.n_inputs && c->inputs[i].dtype != STRAND_PLUGIN_NONE ? &c->inputs[i] : NULL;
}

/* ---- operators ---- */

static void matmul(bench *b, bench_case *c) {
    const strand_op_matmul *p = c->node.params;
    const strand_plugin_tensor *x = &c->inputs[0], *w = &c->inputs[1];
    if (p->transpose_a || !p->transpose_b || p->activation || input(c, 2) || w->rank != 2 || x->dtype != STRAND_PLUGIN_F32 ||
        type_of(w->dtype) < 0)
        return;
    int64_t k = w->dims[1], n = w->dims[0], m = bench_count(x) / k;
    job *j = begin(b, c, 0);
    strand_plugin_tensor weights = *w;
    if (c->peer_weights) weights.memory.data = (void *)(uintptr_t)c->peer_weights;
    if (j) end(c, j, "ggml", api.mul_mat(j->ctx, in_place(j, &weights, k, n), put(j, x, k, m, 1, 1)), true);
}

/* 0 where query t (the last of them sees all keys) may look, minus infinity elsewhere. */
static ggml_any *causal_mask(job *j, int64_t length, int64_t keys) {
    const int64_t ne[2] = {keys, length};
    ggml_any *mask = api.tensor(j->ctx, GG_F16, 2, ne);
    uint16_t *to = room(j, mask, (size_t)(keys * length) * 2);
    for (int64_t t = 0; t < length; t++)
        for (int64_t s = 0; s < keys; s++) to[t * keys + s] = s > keys - length + t ? 0xfc00 : 0;
    return mask;
}

static void attention(bench *b, bench_case *c) {
    const strand_op_attention *p = c->node.params;
    const strand_plugin_tensor *q = &c->inputs[0], *k = &c->inputs[1], *v = &c->inputs[2];
    if (input(c, 3) || input(c, 4) || input(c, 5) || p->window || p->sinks || q->dtype != STRAND_PLUGIN_F32 ||
        type_of(k->dtype) < 0 || k->dtype != v->dtype)
        return;
    int64_t batch = q->dims[0], length = q->dims[1], keys = k->dims[1], d = q->dims[2] / p->heads,
            dv = v->dims[2] / p->kv_heads;
    job *j = begin(b, c, 2.0 * (double)length * (double)keys);
    if (!j) return;
    ggml_any *gq = api.permute(j->ctx, put(j, q, d, p->heads, length, batch), 0, 2, 1, 3),
             *gk = api.permute(j->ctx, put(j, k, d, p->kv_heads, keys, batch), 0, 2, 1, 3),
             *gv = api.permute(j->ctx, put(j, v, dv, p->kv_heads, keys, batch), 0, 2, 1, 3),
             *mask = p->causal && length > 1 ? causal_mask(j, length, keys) : NULL;
    end(c, j, "ggml", api.attention(j->ctx, gq, gk, gv, mask, p->scale, 0, p->softcap), true);
}

static ggml_any *sequence_ids(job *j, int64_t n) {
    ggml_any *ids = api.tensor(j->ctx, GG_I32, 1, &n);
    int32_t *to = room(j, ids, (size_t)n * sizeof *to);
    for (int64_t i = 0; i < n; i++) to[i] = (int32_t)i;
    return ids;
}

/* y [width, L, B] of a scan and what stands behind it: + D x, times silu(z). */
static ggml_any *finish_scan(job *j, ggml_any *scan, ggml_any *x, ggml_any *skip, ggml_any *z, int64_t p, int64_t h,
                             int64_t tokens) {
    ggml_any *y = api.view_1d(j->ctx, scan, p * h * tokens, 0);
    if (!skip && !z) return scan;
    y = api.reshape_3d(j->ctx, y, p, h, tokens);
    if (skip) y = api.add(j->ctx, y, api.mul(j->ctx, api.reshape_3d(j->ctx, x, p, h, tokens), skip));
    if (z) y = api.mul(j->ctx, y, api.silu(j->ctx, z));
    return y;
}

static void selective_scan(bench *b, bench_case *c) {
    const strand_op_selective_scan *p = c->node.params;
    const strand_plugin_tensor *u = &c->inputs[0], *A = &c->inputs[2], *skip = input(c, 5), *z = input(c, 6),
                               *bias = input(c, 7);
    int64_t B = u->dims[0], L = u->dims[1], D = u->dims[2], N = A->dims[1];
    if (!p->softplus) return;
    job *j = begin(b, c, 8.0 * (double)(B * D * N));
    if (!j) return;
    ggml_any *x = put(j, u, 1, D, L, B), *dt = put(j, &c->inputs[1], D, L, B, 1);
    if (bias) dt = api.add(j->ctx, dt, put(j, bias, D, 1, 1, 1));
    ggml_any *scan = api.ssm_scan(j->ctx, state_of(j, input(c, 8), N, 1, D, B), x, dt, put(j, A, N, D, 1, 1),
                                  put(j, &c->inputs[3], N, 1, L, B), put(j, &c->inputs[4], N, 1, L, B), sequence_ids(j, B));
    end(c, j, "ggml",
        finish_scan(j, scan, x, skip ? put(j, skip, 1, D, 1, 1) : NULL, z ? put(j, z, 1, D, L * B, 1) : NULL, 1, D, L * B),
        true);
}

static void ssd(bench *b, bench_case *c) {
    const strand_op_ssd *p = c->node.params;
    const strand_plugin_tensor *x = &c->inputs[0], *a = &c->inputs[1], *dt = input(c, 4), *skip = input(c, 5),
                               *bias = input(c, 6);
    if (!dt || !p->softplus || a->rank != 1 || p->dt_max < 100 || p->dt_min > 0) return;
    int64_t B = x->dims[0], L = x->dims[1], H = p->heads, P = x->dims[2] / H, G = p->groups, N = c->inputs[2].dims[2] / G;
    job *j = begin(b, c, 8.0 * (double)(B * H * P * N));
    if (!j) return;
    ggml_any *gx = put(j, x, P, H, L, B), *gdt = put(j, dt, H, L, B, 1);
    if (bias) gdt = api.add(j->ctx, gdt, put(j, bias, H, 1, 1, 1));
    ggml_any *scan = api.ssm_scan(j->ctx, state_of(j, input(c, 7), N, P, H, B), gx, gdt, put(j, a, 1, H, 1, 1),
                                  put(j, &c->inputs[2], N, G, L, B), put(j, &c->inputs[3], N, G, L, B), sequence_ids(j, B));
    end(c, j, "ggml", finish_scan(j, scan, gx, skip ? put(j, skip, 1, H, 1, 1) : NULL, NULL, P, H, L * B), true);
}

static void gated_linear_attention(bench *b, bench_case *c) {
    const strand_op_gated_linear_attention *p = c->node.params;
    const strand_plugin_tensor *q = &c->inputs[0], *v = &c->inputs[2], *w = &c->inputs[3], *u = input(c, 4);
    int64_t B = q->dims[0], L = q->dims[1], H = p->heads, S = q->dims[2] / H;
    if (w->rank != 3 || v->dims[2] != q->dims[2]) return;
    job *j = begin(b, c, 8.0 * (double)(B * H * S * S));
    if (!j) return;
    ggml_any *state = state_of(j, input(c, 5), S * S * H, B, 1, 1), *r = put(j, q, S, H, L * B, 1),
             *k = put(j, &c->inputs[1], S, H, L * B, 1), *gv = put(j, v, S, H, L * B, 1),
             *gw = put_decay(j, w, p->log_w, S, H, L * B);
    end(c, j, "ggml",
        u ? api.wkv6(j->ctx, k, gv, r, put(j, u, S, H, 1, 1), gw, state) : api.gla(j->ctx, k, gv, r, gw, state, p->scale),
        !u || p->scale == 1);
}

static void delta_rule(bench *b, bench_case *c) {
    const strand_op_delta_rule *p = c->node.params;
    const strand_plugin_tensor *r = &c->inputs[0];
    int64_t B = r->dims[0], L = r->dims[1], H = p->heads, S = r->dims[2] / H;
    if (p->scale != 1 || c->inputs[3].dims[2] != r->dims[2] || c->node.n_inputs < 6 || c->inputs[1].rank != 3) return;
    job *j = begin(b, c, 8.0 * (double)(B * H * S * S));
    if (!j) return;
    ggml_any *t[6];
    for (int i = 0; i < 6; i++) t[i] = put_decay(j, &c->inputs[i], i == 1 && p->log_w, S, H, L * B);
    end(c, j, "ggml", api.wkv7(j->ctx, t[0], t[1], t[2], t[3], t[4], t[5], state_of(j, input(c, 6), S * S * H, B, 1, 1)), true);
}

/* ggml reads channels one after the other with the past before them, and writes tokens. */
static void short_conv(bench *b, bench_case *c) {
    const strand_op_short_conv *p = c->node.params;
    const strand_plugin_tensor *x = &c->inputs[0], *w = &c->inputs[1], *bias = input(c, 2);
    bool tokens = p->flags & STRAND_SHORT_CONV_TOKEN_MAJOR;
    int64_t C = w->dims[0], K = w->dims[1], L = x->dims[x->rank - (tokens ? 2 : 1)], B = bench_count(x) / (C * L);
    if (x->dtype != STRAND_PLUGIN_F32 || (p->activation && p->activation != STRAND_UNARY_SILU)) return;
    job *j = begin(b, c, 8.0 * (double)(B * C * K));
    if (!j) return;
    const int64_t ne[3] = {L + K - 1, C, B};
    ggml_any *padded = api.tensor(j->ctx, GG_F32, 3, ne);
    float *to = room(j, padded, (size_t)((L + K - 1) * C * B) * sizeof *to);
    const float *from = x->memory.data;
    memset(to, 0, (size_t)((L + K - 1) * C * B) * sizeof *to);
    for (int64_t i = 0; i < B * C; i++)
        for (int64_t t = 0; t < L; t++)
            to[i * (L + K - 1) + K - 1 + t] = tokens ? from[(i / C * L + t) * C + i % C] : from[i * L + t];
    ggml_any *y = api.ssm_conv(j->ctx, padded, put(j, w, K, C, 1, 1));
    if (bias) y = api.add(j->ctx, y, put(j, bias, C, 1, 1, 1));
    if (p->activation) y = api.silu(j->ctx, y);
    end(c, j, "ggml", y, tokens);
}

/* Rows: norms, softmax, activations. */
static void rows(bench *b, bench_case *c) {
    const strand_plugin_tensor *x = &c->inputs[0], *weight = input(c, 1), *bias = input(c, 2);
    int64_t d = x->dims[x->rank - 1], n = bench_count(x) / d;
    if (x->dtype != STRAND_PLUGIN_F32) return;
    const strand_op_norm *norm = c->node.params;
    const strand_op_unary *unary = c->node.params;
    if (c->node.op == STRAND_OP_NORM && (norm->groups != 1 || norm->kind == STRAND_NORM_L2 || norm->weight_offset != 0)) return;
    if (c->node.op == STRAND_OP_UNARY && unary->kind != STRAND_UNARY_SILU && unary->kind != STRAND_UNARY_GELU_TANH) return;
    job *j = begin(b, c, 0);
    if (!j) return;
    ggml_any *y = put(j, x, d, n, 1, 1);
    switch (c->node.op) {
    case STRAND_OP_UNARY: y = unary->kind == STRAND_UNARY_SILU ? api.silu(j->ctx, y) : api.gelu(j->ctx, y); break;
    case STRAND_OP_SOFTMAX: y = api.soft_max(j->ctx, y); break;
    case STRAND_OP_LAYER_NORM: y = api.norm(j->ctx, y, ((const strand_op_layer_norm *)c->node.params)->eps); break;
    default: y = norm->kind == STRAND_NORM_RMS ? api.rms_norm(j->ctx, y, norm->eps) : api.norm(j->ctx, y, norm->eps);
    }
    if (weight && c->node.op != STRAND_OP_UNARY) y = api.mul(j->ctx, y, put(j, weight, d, 1, 1, 1));
    if (bias && c->node.op != STRAND_OP_UNARY) y = api.add(j->ctx, y, put(j, bias, d, 1, 1, 1));
    end(c, j, "ggml", y, true);
}

void bench_peers_ggml(bench *b, bench_case *c) {
    static const struct {
        uint32_t op;
        void (*add)(bench *b, bench_case *c);
    } known[] = {{STRAND_OP_MATMUL, matmul},
                 {STRAND_OP_ATTENTION, attention},
                 {STRAND_OP_SELECTIVE_SCAN, selective_scan},
                 {STRAND_OP_SSD, ssd},
                 {STRAND_OP_GATED_LINEAR_ATTENTION, gated_linear_attention},
                 {STRAND_OP_DELTA_RULE, delta_rule},
                 {STRAND_OP_SHORT_CONV, short_conv},
                 {STRAND_OP_LAYER_NORM, rows},
                 {STRAND_OP_NORM, rows},
                 {STRAND_OP_SOFTMAX, rows},
                 {STRAND_OP_UNARY, rows}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].op == c->node.op && c->n_peers < BENCH_PEERS && open_api()) known[i].add(b, c);
}
