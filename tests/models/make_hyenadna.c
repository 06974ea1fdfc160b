/* make_hyenadna.c - writes a random HyenaDNA checkpoint of any shape: FOLDER/model.safetensors and FOLDER/config.json, in the
 * layout of the standalone code. For memory tests and benchmarks: the weights mean nothing, but every part of the model is
 * lively (no filter vanishes, activations stay near 1 through any number of layers). The same seed writes the same bytes.
 *
 *   make-hyenadna FOLDER [--d 128] [--layers 2] [--l-max 1026] [--inner 4d] [--order 64] [--vocab 16] [--seed 1]
 *                        [--f16] [--with-grids] [--head CLASSES]
 *
 * --with-grids stores position grids and decays as published files do (at l-max 1M that is 24 MB a layer); else they are left
 * out, and the length stands in config.json alone. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct options {
    const char *folder;
    long long d, layers, l_max, inner, order, vocab, seed, head;
    int f16, with_grids;
} options;

typedef enum filling { UNIFORM, ONES, GRID_Z, GRID_T, DELTAS } filling;

typedef struct entry {
    char name[96];
    long long dims[3];
    int rank, half;
    filling how;
    double scale;
    unsigned long long begin, end;
} entry;

typedef struct file {
    const options *o;
    entry *entries;
    size_t n, room;
    unsigned long long bytes;
} file;

static int add(file *f, const char *name, int rank, long long a, long long b, long long c, filling how, double scale) {
    if (f->n == f->room) {
        entry *more = realloc(f->entries, (f->room = f->room ? 2 * f->room : 64) * sizeof *more);
        if (!more) return 0;
        f->entries = more;
    }
    entry *e = &f->entries[f->n++];
    *e = (entry){.dims = {a, b, c},
                 .rank = rank,
                 .how = how,
                 .scale = scale,
                 .half = f->o->f16 && how == UNIFORM && rank > 1,
                 .begin = f->bytes};
    snprintf(e->name, sizeof e->name, "%s", name);
    f->bytes += (unsigned long long)(a * (rank > 1 ? b : 1) * (rank > 2 ? c : 1)) * (e->half ? 2 : 4);
    e->end = f->bytes;
    return 1;
}

static int layer(file *f, long long i) {
    const options *o = f->o;
    const struct {
        const char *name;
        int rank;
        long long a, b, c;
        filling how;
        double scale;
    } parts[] = {
        {"mixer.in_proj.weight", 2, 3 * o->d, o->d, 1, UNIFORM, 1.7 / sqrt((double)o->d)},
        {"mixer.in_proj.bias", 1, 3 * o->d, 1, 1, UNIFORM, 0.3},
        {"mixer.out_proj.weight", 2, o->d, o->d, 1, UNIFORM, 0.7 / sqrt((double)o->d)},
        {"mixer.out_proj.bias", 1, o->d, 1, 1, UNIFORM, 0.1},
        {"mixer.short_filter.weight", 3, 3 * o->d, 1, 3, UNIFORM, 0.8},
        {"mixer.short_filter.bias", 1, 3 * o->d, 1, 1, UNIFORM, 0.1},
        {"mixer.filter_fn.bias", 1, o->d, 1, 1, UNIFORM, 1},
        {"mixer.filter_fn.implicit_filter.0.weight", 2, o->order, 5, 1, UNIFORM, 1},
        {"mixer.filter_fn.implicit_filter.0.bias", 1, o->order, 1, 1, UNIFORM, 1},
        {"mixer.filter_fn.implicit_filter.1.freq", 2, 1, o->order, 1, ONES, 10},
        {"mixer.filter_fn.implicit_filter.2.weight", 2, o->order, o->order, 1, UNIFORM, 1.7 / sqrt((double)o->order)},
        {"mixer.filter_fn.implicit_filter.2.bias", 1, o->order, 1, 1, UNIFORM, 0.3},
        {"mixer.filter_fn.implicit_filter.4.weight", 2, o->order, o->order, 1, UNIFORM, 1.7 / sqrt((double)o->order)},
        {"mixer.filter_fn.implicit_filter.4.bias", 1, o->order, 1, 1, UNIFORM, 0.3},
        /* About as much goes through the convolution whatever the length. */
        {"mixer.filter_fn.implicit_filter.6.weight", 2, o->d, o->order, 1, UNIFORM,
         1.7 / sqrt((double)o->order * (double)o->l_max / 8)},
        {"norm1.weight", 1, o->d, 1, 1, ONES, 1},
        {"norm1.bias", 1, o->d, 1, 1, UNIFORM, 0.2},
        {"mlp.fc1.weight", 2, o->inner, o->d, 1, UNIFORM, 1.7 / sqrt((double)o->d)},
        {"mlp.fc1.bias", 1, o->inner, 1, 1, UNIFORM, 0.3},
        {"mlp.fc2.weight", 2, o->d, o->inner, 1, UNIFORM, 1.7 / sqrt((double)o->inner)},
        {"mlp.fc2.bias", 1, o->d, 1, 1, UNIFORM, 0.1},
        {"norm2.weight", 1, o->d, 1, 1, ONES, 1},
        {"norm2.bias", 1, o->d, 1, 1, UNIFORM, 0.2},
    };
    char name[96];
    int good = 1;
    for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
        snprintf(name, sizeof name, "backbone.layers.%lld.%s", i, parts[k].name);
        good = good && add(f, name, parts[k].rank, parts[k].a, parts[k].b, parts[k].c, parts[k].how, parts[k].scale);
    }
    if (!o->with_grids) return good;
    snprintf(name, sizeof name, "backbone.layers.%lld.mixer.filter_fn.pos_emb.z", i);
    good = good && add(f, name, 3, 1, o->l_max, 5, GRID_Z, 0);
    snprintf(name, sizeof name, "backbone.layers.%lld.mixer.filter_fn.pos_emb.t", i);
    good = good && add(f, name, 3, 1, o->l_max, 1, GRID_T, 0);
    snprintf(name, sizeof name, "backbone.layers.%lld.mixer.filter_fn.modulation.deltas", i);
    return good && add(f, name, 3, 1, 1, o->d, DELTAS, 0);
}

static int list(file *f) {
    const options *o = f->o;
    int good = add(f, "backbone.embeddings.word_embeddings.weight", 2, o->vocab, o->d, 1, UNIFORM, 1);
    for (long long i = 0; good && i < o->layers; i++) good = layer(f, i);
    good = good && add(f, "backbone.ln_f.weight", 1, o->d, 1, 1, ONES, 1) &&
           add(f, "backbone.ln_f.bias", 1, o->d, 1, 1, UNIFORM, 0.2);
    if (good && o->head)
        good = add(f, "head.output_transform.weight", 2, o->head, o->d, 1, UNIFORM, 1.7 / sqrt((double)o->d)) &&
               add(f, "head.output_transform.bias", 1, o->head, 1, 1, UNIFORM, 0.3);
    return good;
}

/* splitmix64 to [-1, 1). */
static double real(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return (double)(z >> 11) / 4503599627370496.0 - 1;
}

/* To half precision, nearest even; what is below the normal range becomes zero, which is far below any weight here. */
static uint16_t half(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    uint32_t sign = u >> 16 & 0x8000, e = u >> 23 & 255, m = u & 0x7fffff;
    if (e < 113) return (uint16_t)sign;
    uint32_t v = (e - 112) << 10 | m >> 13;
    v += (m & 0x1fff) > 0x1000 || ((m & 0x1fff) == 0x1000 && (v & 1));
    return (uint16_t)(sign | v);
}

static double value(const options *o, const entry *e, long long i, uint64_t *state) {
    switch (e->how) {
    case ONES:
        return e->scale;
    case GRID_T:
        return (double)i / (double)(o->l_max - 1);
    case DELTAS: {
        double slow = log(0.01) / 1.5, fast = log(0.01) / 0.3;
        return slow + (fast - slow) * (double)i / (double)(o->d > 1 ? o->d - 1 : 1);
    }
    case GRID_Z: { /* in single precision, as the published code computes it */
        long long row = i / 5, column = i % 5;
        float w = 6.28318530717958647693f * (float)row / (float)o->l_max, f = column % 2 ? 1e-4f : 1.0f;
        return column == 0 ? (double)row / (double)(o->l_max - 1) : column < 3 ? cosf(f * w) : -sinf(f * w);
    }
    default:
        return e->scale * real(state);
    }
}

static int write_values(const options *o, const entry *e, FILE *out, uint64_t *state) {
    long long n = (long long)(e->end - e->begin) / (e->half ? 2 : 4);
    for (long long i = 0; i < n; i++) {
        float x = (float)value(o, e, i, state);
        uint16_t h = half(x);
        if (fwrite(e->half ? (void *)&h : (void *)&x, e->half ? 2 : 4, 1, out) != 1) return 0;
    }
    return 1;
}

static int write_weights(file *f, FILE *out) {
    size_t room = f->n * 200 + 64, used = 0;
    char *header = malloc(room + 8);
    if (!header) return 0;
    used += (size_t)snprintf(header, room, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < f->n; i++) {
        const entry *e = &f->entries[i];
        used += (size_t)snprintf(header + used, room - used, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld", e->name,
                                 e->half ? "F16" : "F32", e->dims[0]);
        for (int k = 1; k < e->rank; k++) used += (size_t)snprintf(header + used, room - used, ",%lld", e->dims[k]);
        used += (size_t)snprintf(header + used, room - used, "],\"data_offsets\":[%llu,%llu]}", e->begin, e->end);
    }
    header[used++] = '}';
    while (used % 8) header[used++] = ' ';
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)used >> (8 * i));
    int good = fwrite(length, 8, 1, out) == 1 && fwrite(header, used, 1, out) == 1;
    uint64_t state = (uint64_t)f->o->seed;
    for (size_t i = 0; good && i < f->n; i++) good = write_values(f->o, &f->entries[i], out, &state);
    free(header);
    return good;
}

static int write_config(const options *o, FILE *out) {
    return fprintf(
               out,
               "{\n \"d_model\": %lld,\n \"n_layer\": %lld,\n \"d_inner\": %lld,\n \"vocab_size\": 12,\n "
               "\"pad_vocab_size_multiple\": 8,\n"
               " \"layer\": {\n  \"_name_\": \"hyena\",\n  \"emb_dim\": 5,\n  \"filter_order\": %lld,\n  \"local_order\": 3,\n"
               "  \"l_max\": %lld,\n  \"modulate\": true,\n  \"w\": 10\n }\n}\n",
               o->d, o->layers, o->inner, o->order, o->l_max) > 0;
}

/* Opens FOLDER/name, fills it, and says what went wrong. */
static int write_file(file *f, const char *name, int weights) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", f->o->folder, name) >= (int)sizeof path) return 0;
    FILE *out = fopen(path, "wb");
    int good = out && (weights ? write_weights(f, out) : write_config(f->o, out));
    if (out && fclose(out)) good = 0;
    if (!good) perror(path);
    return good;
}

static int usage(void) {
    fputs("usage: make-hyenadna FOLDER [--d N] [--layers N] [--l-max N] [--inner N] [--order N] [--vocab N] [--seed N] [--f16] "
          "[--with-grids] [--head CLASSES]\n",
          stderr);
    return 2;
}

int main(int argc, char **argv) {
    options o = {.d = 128, .layers = 2, .l_max = 1026, .order = 64, .vocab = 16, .seed = 1};
    const struct {
        const char *name;
        long long *value;
    } numbers[] = {{"--d", &o.d},         {"--layers", &o.layers}, {"--l-max", &o.l_max}, {"--inner", &o.inner},
                   {"--order", &o.order}, {"--vocab", &o.vocab},   {"--seed", &o.seed},   {"--head", &o.head}};
    for (int i = 1; i < argc; i++) {
        int known = 0;
        for (size_t k = 0; k < sizeof numbers / sizeof numbers[0] && i + 1 < argc; k++) {
            char *end;
            if (strcmp(argv[i], numbers[k].name) != 0) continue;
            *numbers[k].value = strtoll(argv[++i], &end, 10);
            if (*end || *numbers[k].value < 0) return usage();
            known = 1;
            break;
        }
        if (known) continue;
        if (!strcmp(argv[i], "--f16"))
            o.f16 = 1;
        else if (!strcmp(argv[i], "--with-grids"))
            o.with_grids = 1;
        else if (argv[i][0] != '-' && !o.folder)
            o.folder = argv[i];
        else
            return usage();
    }
    if (!o.inner) o.inner = 4 * o.d;
    if (!o.folder || o.d < 1 || o.layers < 1 || o.l_max < 4 || o.order < 1 || o.vocab < 12) return usage();
    file f = {.o = &o};
    mkdir(o.folder, 0777); /* may be there */
    int good = list(&f) && write_file(&f, "model.safetensors", 1) && write_file(&f, "config.json", 0);
    free(f.entries);
    return good ? 0 : 1;
}
