/* llama2c.c - the files of llama2.c (github.com/karpathy/llama2.c, export.py): a header and F32 tensors in a fixed order, all
 * layers of a kind together. Version 0 has no mark: it is told by its size, which seven plausible numbers determine to the
 * byte. Version 1 begins with "24ka" (0x616b3432) and a header of 256 bytes. Tensors get the names of Meta's checkpoints, for
 * which the program stands in; what the header says of heads and context becomes metadata. In version 2 the norms are
 * F32 and each matrix is bytes, then an F32 scale for each group of them: these are laid out anew as Q8_0 (whose scale is half
 * precision), or in F32 where a group or a row is not whole blocks of that. */
#include "reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../checked.h"
#include "bytes.h"

#define V0_HEADER 28
#define V1_HEADER 256
#define MAGIC     0x616b3432u
#define MOST      ((int64_t)1 << 24)

typedef struct header {
    int64_t dim, hidden, layers, heads, kv_heads, vocabulary, context;
    int64_t group; /* version 2: elements that have one scale */
    bool shared; /* the output matrix is the embedding */
    int version;
} header;

static int64_t int_at(const uint8_t *data, int i) {
    return (int32_t)read_u32(data + 4 * (size_t)i);
}

static bool plausible(const header *h) {
    const int64_t all[] = {h->dim, h->hidden, h->layers, h->heads, h->kv_heads, h->vocabulary, h->context};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i] < 1 || all[i] > MOST) return false;
    if (h->version == 2 && (h->group < 1 || h->dim % h->group)) return false;
    return h->dim >= 4 && h->layers <= 1024 && h->dim % h->heads == 0 && h->heads % h->kv_heads == 0;
}

static void read_header(const uint8_t *data, int first, header *h) {
    *h = (header){int_at(data, first),
                  int_at(data, first + 1),
                  int_at(data, first + 2),
                  int_at(data, first + 3),
                  int_at(data, first + 4),
                  int_at(data, first + 5),
                  int_at(data, first + 6),
                  1,
                  true,
                  0};
}

/* The tensors in the file's order: a name (with "%" for the layer, if there is one for each) and the shape. */
typedef struct piece {
    const char *name; /* NULL: passed over */
    bool each_layer;
    int64_t rows, columns; /* columns 0: a vector */
} piece;

#define N_PIECES 13

static int pieces_of(const header *h, piece *p) {
    int64_t d = h->dim, kv = d / h->heads * h->kv_heads, half = d / h->heads / 2;
    const piece embedding = {"tok_embeddings.weight", false, h->vocabulary, d},
                norm1 = {"layers.%" PRId64 ".attention_norm.weight", true, d, 0},
                norm2 = {"layers.%" PRId64 ".ffn_norm.weight", true, d, 0}, norm = {"norm.weight", false, d, 0},
                output = {"output.weight", false, h->vocabulary, d};
    const piece attention[] = {{"layers.%" PRId64 ".attention.wq.weight", true, d, d},
                               {"layers.%" PRId64 ".attention.wk.weight", true, kv, d},
                               {"layers.%" PRId64 ".attention.wv.weight", true, kv, d},
                               {"layers.%" PRId64 ".attention.wo.weight", true, d, d}};
    const piece mlp[] = {{"layers.%" PRId64 ".feed_forward.w1.weight", true, h->hidden, d},
                         {"layers.%" PRId64 ".feed_forward.w2.weight", true, d, h->hidden},
                         {"layers.%" PRId64 ".feed_forward.w3.weight", true, h->hidden, d}};
    int n = 0;
    if (h->version == 0) {
        p[n++] = embedding, p[n++] = norm1;
        for (int i = 0; i < 4; i++) p[n++] = attention[i];
        p[n++] = norm2;
        for (int i = 0; i < 3; i++) p[n++] = mlp[i];
        p[n++] = norm;
        p[n++] = (piece){NULL, false, 2 * h->context, half};
    } else {
        p[n++] = norm1, p[n++] = norm2, p[n++] = norm, p[n++] = embedding;
        for (int i = 0; i < 4; i++) p[n++] = attention[i];
        for (int i = 0; i < 3; i++) p[n++] = mlp[i];
    }
    if (!h->shared) p[n++] = output;
    return n;
}

static uint64_t elements_of(const piece *p) {
    return (uint64_t)p->rows * (uint64_t)(p->columns ? p->columns : p->name ? 1 : 0);
}

/* Bytes of one tensor. */
static uint64_t bytes_of(const header *h, const piece *p) {
    uint64_t n = elements_of(p);
    return h->version == 2 && p->columns ? n + n / (uint64_t)h->group * 4 : 4 * n;
}

/* Bytes of a whole file with this header; 0 when they do not fit. */
static uint64_t file_bytes(const header *h) {
    piece p[N_PIECES];
    uint64_t total = h->version ? V1_HEADER : V0_HEADER, n;
    int count = pieces_of(h, p);
    for (int i = 0; i < count; i++)
        if ((h->version == 2 && p[i].columns && elements_of(&p[i]) % (uint64_t)h->group) ||
            !checked_mul(bytes_of(h, &p[i]), p[i].each_layer ? (uint64_t)h->layers : 1, &n) ||
            !checked_add(total, n, &total))
            return 0;
    return total;
}

static bool read_any(const uint8_t *data, uint64_t size, header *h) {
    if (size < V0_HEADER) return false;
    if ((uint32_t)int_at(data, 0) == MAGIC) {
        if (size < V1_HEADER) return false;
        read_header(data, 2, h);
        h->version = (int)int_at(data, 1);
        h->shared = data[36] != 0;
        if (h->version == 2) h->group = (int32_t)read_u32(data + 37);
        return true;
    }
    read_header(data, 0, h);
    h->shared = h->vocabulary > 0;
    if (h->vocabulary < 0) h->vocabulary = -h->vocabulary;
    return plausible(h) && file_bytes(h) == size;
}

bool llama2c_is(const uint8_t *data, uint64_t size) {
    header h;
    return read_any(data, size, &h);
}

/* To the nearest half, ties to even. */
static uint16_t half_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    uint32_t sign = u >> 16 & 0x8000, e = u >> 23 & 255;
    u &= 0x7fffffff;
    if (u >= 0x47800000) return (uint16_t)(sign | (u > 0x7f800000 ? 0x7e00 : 0x7c00));
    if (e < 102) return (uint16_t)sign;
    uint32_t shift = e < 113 ? 126 - e : 13, m = e < 113 ? (u & 0x7fffff) | 0x800000 : u - (112u << 23);
    uint32_t half = m >> shift, rest = m & ((1u << shift) - 1), middle = 1u << (shift - 1);
    return (uint16_t)(sign | (half + (rest > middle || (rest == middle && (half & 1)))));
}

static float float_at(const uint8_t *at) {
    uint32_t u = read_u32(at);
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

#define BLOCK       32
#define BLOCK_BYTES 34

/* A matrix of bytes and scales as Q8_0 or F32. */
static strand_status expand(weights *w, const header *h, const piece *p, const uint8_t *from, weights_tensor *t, error *e) {
    uint64_t n = elements_of(p), group = (uint64_t)h->group;
    const uint8_t *scales = from + n;
    bool blocks = p->columns % BLOCK == 0 && group % BLOCK == 0;
    for (uint64_t i = 0; i < n / group && blocks; i++) blocks = float_at(scales + 4 * i) < 65504;
    t->dtype = blocks ? STRAND_Q8_0 : STRAND_F32;
    t->bytes = blocks ? n / BLOCK * BLOCK_BYTES : 4 * n;
    uint8_t *to = t->bytes <= SIZE_MAX ? arena_array(&w->arena, (size_t)t->bytes, 1, 64) : NULL;
    t->data = to;
    if (!to) return weights_no_memory(w->path, e);
    for (uint64_t i = 0; i < n && blocks; i += BLOCK, to += BLOCK_BYTES) {
        uint16_t d = half_of(float_at(scales + i / group * 4));
        to[0] = (uint8_t)d;
        to[1] = (uint8_t)(d >> 8);
        memcpy(to + 2, from + i, BLOCK);
    }
    for (uint64_t i = 0; i < n && !blocks; i++) {
        float x = (float)(int8_t)from[i] * float_at(scales + i / group * 4);
        memcpy(to + 4 * i, &x, sizeof x);
    }
    return STRAND_OK;
}

static strand_status add(weights *w, const header *h, const piece *p, uint64_t *at, error *e) {
    for (int64_t layer = 0; layer < (p->each_layer ? h->layers : 1); layer++) {
        uint64_t bytes = bytes_of(h, p);
        const uint8_t *data = w->data + *at;
        *at += bytes;
        if (!p->name) continue;
        char name[64];
        if (p->each_layer) {
            const char *mark = strchr(p->name, '%'), *rest = mark + sizeof "%" PRId64 - 1;
            snprintf(name, sizeof name, "%.*s%" PRId64 "%s", (int)(mark - p->name), p->name, layer, rest);
        } else {
            snprintf(name, sizeof name, "%s", p->name);
        }
        weights_tensor t = {.dtype = STRAND_F32, .rank = p->columns ? 2 : 1, .dims = {p->rows, p->columns}, .bytes = bytes};
        t.name = arena_string(&w->arena, name, strlen(name));
        if (h->version == 2 && p->columns) {
            if (expand(w, h, p, data, &t, e)) return e->status;
        } else {
            t.data = weights_aligned(w, data, bytes, 4);
        }
        if (!t.name || !t.data) return weights_no_memory(w->path, e);
        strand_status status = weights_add(w, &t, e);
        if (status) return status;
    }
    return STRAND_OK;
}

static strand_status add_facts(weights *w, const header *h, error *e) {
    const struct {
        const char *key;
        int64_t value;
    } facts[] = {{"heads", h->heads}, {"kv_heads", h->kv_heads}, {"context", h->context}};
    w->metadata = ARENA_ARRAY(&w->arena, weights_text, 3);
    for (int i = 0; w->metadata && i < 3; i++) {
        w->metadata[i] = (weights_text){facts[i].key, arena_printf(&w->arena, "%" PRId64, facts[i].value)};
        if (!w->metadata[i].value) return weights_no_memory(w->path, e);
        w->n_metadata = i + 1;
    }
    return w->metadata ? STRAND_OK : weights_no_memory(w->path, e);
}

strand_status llama2c_read(weights *w, error *e) {
    header h;
    piece p[N_PIECES];
    if (!read_any(w->data, w->size, &h)) return error_set(e, STRAND_ERR_FORMAT, "%s: cut short within its header", w->path);
    if (h.version > 2)
        return error_set(e, STRAND_ERR_UNSUPPORTED, "%s: a llama2.c file of version %d; there are 0, 1 and 2", w->path,
                         h.version);
    if (h.version < 0 || !plausible(&h))
        return error_set(e, STRAND_ERR_FORMAT, "%s: the header of this llama2.c file makes no sense", w->path);
    uint64_t want = file_bytes(&h), at = h.version ? V1_HEADER : V0_HEADER;
    if (want == 0 || want != w->size)
        return error_set(e, STRAND_ERR_FORMAT, "%s: %" PRIu64 " bytes, where its header needs %" PRIu64, w->path, w->size,
                         want);
    w->format = "llama2.c";
    strand_status status = add_facts(w, &h, e);
    int n = pieces_of(&h, p);
    for (int i = 0; i < n && !status; i++) status = add(w, &h, &p[i], &at, e);
    return status;
}
