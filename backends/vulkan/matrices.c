/* matrices.c - a tool of the build: cooperative matrices of NV's extension, which glslang has long written, become those of
 * VK_KHR_cooperative_matrix, which it writes from version 13 on. matrices IN.spv OUT.h NAME writes the module as C words.
 *
 * The instructions are the same but for their numbers, the order of an address' operands, and what a type says: KHR's names
 * what its matrices are used for. Here a sum is the one of floats, M x N; of the others, a factor whose columns are N's
 * constant is the right one. So M, N and K must be three constants (dialect_glsl.h). Anything else is an error. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADER = 5,
    BOUND = 3,
    EXTENSION = 10,
    CAPABILITY = 17,
    TYPE_INT = 21,
    TYPE_FLOAT = 22,
    CONSTANT_TRUE = 41,
    CONSTANT_FALSE = 42,
    CONSTANT = 43,
    NV_CAPABILITY = 5357,
    NV_TYPE = 5358,
    NV_LOAD,
    NV_STORE,
    NV_ADD,
    NV_LENGTH,
    KHR_TYPE = 4456,
    KHR_LOAD,
    KHR_STORE,
    KHR_ADD,
    KHR_LENGTH,
    KHR_CAPABILITY = 6022
};

typedef struct module {
    uint32_t *words, *out;
    size_t n, n_out;
    uint32_t uints, floats; /* types */
    uint32_t yes, no;       /* constants */
    uint32_t sum_columns;   /* of the type of sums: N */
    uint32_t first;         /* of three new constants: 0, 1, 2 */
    bool constants;         /* they stand */
} module;

static int failed(const char *what) {
    fprintf(stderr, "matrices: %s\n", what);
    exit(1);
}

static void put(module *m, uint32_t word) {
    m->out[m->n_out++] = word;
}

static void find(module *m) {
    for (size_t at = HEADER; at < m->n; at += m->words[at] >> 16) {
        const uint32_t *op = m->words + at;
        if (!(op[0] >> 16)) failed("an instruction of no words");
        switch (op[0] & 0xffff) {
        case TYPE_INT:
            if (op[2] == 32 && !op[3]) m->uints = op[1];
            break;
        case TYPE_FLOAT:
            if (op[2] == 32) m->floats = op[1];
            break;
        case CONSTANT_TRUE:
            m->yes = op[2];
            break;
        case CONSTANT_FALSE:
            m->no = op[2];
            break;
        case NV_TYPE:
            if (op[2] != m->floats) break;
            if (m->sum_columns && m->sum_columns != op[5]) failed("sums of two shapes");
            m->sum_columns = op[5];
            break;
        }
    }
    if (!m->uints || !m->sum_columns) failed("no matrices of floats");
}

/* The layout in memory, of a matrix that is "column major" or not. */
static uint32_t layout(const module *m, uint32_t columns) {
    if (columns != m->yes && columns != m->no) failed("a layout that is no constant");
    return m->first + (columns == m->yes);
}

static void type(module *m, const uint32_t *op) {
    for (uint32_t i = 0; !m->constants && i < 3; i++) {
        const uint32_t constant[] = {4u << 16 | CONSTANT, m->uints, m->first + i, i};
        for (int j = 0; j < 4; j++) put(m, constant[j]);
    }
    m->constants = true;
    put(m, 7u << 16 | KHR_TYPE);
    for (int i = 1; i < 6; i++) put(m, op[i]);
    put(m, m->first + (op[2] == m->floats ? 2 : op[5] == m->sum_columns ? 1 : 0)); /* sum, right, left */
}

/* pointer, stride, columns -> pointer, layout, stride; before them `before` words, behind them how memory is accessed. */
static void access(module *m, const uint32_t *op, uint32_t code, uint32_t before) {
    uint32_t count = op[0] >> 16;
    put(m, count << 16 | code);
    for (uint32_t i = 1; i <= before; i++) put(m, op[i]);
    put(m, layout(m, op[before + 2]));
    put(m, op[before + 1]);
    for (uint32_t i = before + 3; i < count; i++) put(m, op[i]);
}

static void translate(module *m, uint32_t *op) {
    static const char nv[] = "SPV_NV_cooperative_matrix", khr[] = "SPV_KHR_cooperative_matrix"; /* seven words each */
    uint32_t count = op[0] >> 16;
    switch (op[0] & 0xffff) {
    case CAPABILITY:
        if (op[1] == NV_CAPABILITY) op[1] = KHR_CAPABILITY;
        break;
    case EXTENSION:
        if (count == 8 && !strcmp((const char *)(op + 1), nv)) memcpy(op + 1, khr, sizeof khr);
        break;
    case NV_TYPE:
        type(m, op);
        return;
    case NV_LOAD:
        access(m, op, KHR_LOAD, 3);
        return;
    case NV_STORE:
        access(m, op, KHR_STORE, 2);
        return;
    case NV_ADD:
        op[0] = count << 16 | KHR_ADD;
        break;
    case NV_LENGTH:
        op[0] = count << 16 | KHR_LENGTH;
        break;
    }
    for (uint32_t i = 0; i < count; i++) put(m, op[i]);
}

static void read_module(module *m, const char *path) {
    FILE *in = fopen(path, "rb");
    long bytes = -1;
    if (in && !fseek(in, 0, SEEK_END)) bytes = ftell(in);
    if (bytes < HEADER * 4 || fseek(in, 0, SEEK_SET)) failed("no module");
    m->n = (size_t)bytes / 4;
    m->words = malloc(m->n * 4 + 4);
    m->out = malloc(m->n * 8 + 64); /* a type gains one word of six, and three constants come in */
    if (!m->words || !m->out || fread(m->words, 4, m->n, in) != m->n) failed("cannot read the module");
    m->words[m->n] = 0;
    fclose(in);
    if (m->words[0] != 0x07230203) failed("no SPIR-V");
}

int main(int argc, char **argv) {
    module m = {0};
    if (argc != 4) failed("IN.spv OUT.h NAME");
    read_module(&m, argv[1]);
    find(&m);
    m.first = m.words[BOUND];
    m.words[BOUND] += 3;
    for (size_t at = 0; at < HEADER; at++) put(&m, m.words[at]);
    for (size_t at = HEADER, next; at < m.n; at = next) {
        next = at + (m.words[at] >> 16);
        if (next > m.n) failed("an instruction beyond the end");
        translate(&m, m.words + at);
    }
    FILE *out = fopen(argv[2], "w");
    if (!out) failed("cannot write");
    fprintf(out, "static const uint32_t %s[] = {", argv[3]);
    for (size_t i = 0; i < m.n_out; i++) fprintf(out, i % 8 ? "0x%08x," : "\n    0x%08x,", m.out[i]);
    fprintf(out, "};\n");
    free(m.words);
    free(m.out);
    return fclose(out) ? 1 : 0;
}
