/* operators_page.c - writes docs/operators.md: what is the same of every operator on every machine. Definitions come from
 * strand_ops.h, rules from the op table, types and tiled axes from the tester's cases, and the CPU's column from the
 * plugins' own lists, which can be read without being able to run them.
 *
 *   operators_page (--check | --update) PAGE --header core/strand_ops.h PLUGIN... */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops_cases.h"

#define CASES 120 /* of each family */
#define MOST  128

/* ---- what the cases show ---- */

typedef struct seen {
    uint64_t inputs[STRAND_PLUGIN_MAX_INPUTS], output; /* bit i: element type i */
    bool absent[STRAND_PLUGIN_MAX_INPUTS];
    /* by rank and axis */
    bool whole[STRAND_PLUGIN_RANK + 1][STRAND_PLUGIN_RANK], cut[STRAND_PLUGIN_RANK + 1][STRAND_PLUGIN_RANK];
} seen;

static seen shown[MOST];

static op_shape shape_of(const ops_program *g, int tensor) {
    op_shape s = {0};
    if (tensor < 0) return s;
    const strand_plugin_tensor *v = &g->tensors[tensor].view;
    s.dtype = (strand_dtype)v->dtype, s.rank = (int)v->rank;
    for (uint32_t i = 0; i < v->rank; i++) s.dims[i] = (op_dim){OP_DIM_FIXED, v->whole[i]};
    return s;
}

static void look_at(const ops_program *g, const ops_node *n) {
    const op_row *row = op_find(n->op);
    op_shape in[STRAND_PLUGIN_MAX_INPUTS] = {{0}}, out = shape_of(g, n->output);
    op_axis_rule rules[STRAND_PLUGIN_MAX_INPUTS];
    seen *s = &shown[n->op];
    for (uint32_t k = 0; k < n->n_inputs; k++) {
        in[k] = shape_of(g, n->inputs[k]);
        s->inputs[k] |= in[k].dtype ? 1ull << in[k].dtype : 0;
        s->absent[k] = s->absent[k] || !in[k].dtype;
    }
    for (uint32_t k = n->n_inputs; k < row->max_inputs && k < STRAND_PLUGIN_MAX_INPUTS; k++) s->absent[k] = true;
    s->output |= 1ull << out.dtype;
    for (int axis = 0; axis < out.rank && n->second < 0; axis++) {
        bool can = row->axis_rule(in, n->n_inputs, &out, n->params, axis, rules);
        (can ? s->cut : s->whole)[out.rank][axis] = true;
    }
}

static void look(void) {
    for (int s = 0; s < ops_n_case_sets; s++)
        for (int i = 0; i < *ops_case_sets[s].n; i++)
            for (int k = 0; k < CASES && !ops_on_request(&ops_case_sets[s].families[i]); k++) {
                ops_program g;
                ops_program_begin(&g, (uint64_t)k * 131 + 7);
                ops_case_sets[s].families[i].make(&g, k);
                for (int n = 0; n < g.n_nodes; n++) look_at(&g, &g.nodes[n]);
                ops_program_free(&g);
            }
}

static void put_types(FILE *f, uint64_t types) {
    static const struct {
        uint32_t type;
        const char *name;
    } names[] = {{STRAND_PLUGIN_F32, "F32"},   {STRAND_PLUGIN_F16, "F16"},   {STRAND_PLUGIN_BF16, "BF16"},
                 {STRAND_PLUGIN_I32, "I32"},   {STRAND_PLUGIN_I64, "I64"},   {STRAND_PLUGIN_Q8_0, "Q8_0"},
                 {STRAND_PLUGIN_Q4_0, "Q4_0"}, {STRAND_PLUGIN_Q4_K, "Q4_K"}, {STRAND_PLUGIN_Q6_K, "Q6_K"},
                 {STRAND_PLUGIN_Q4_1, "Q4_1"}, {STRAND_PLUGIN_Q5_0, "Q5_0"}, {STRAND_PLUGIN_Q5_1, "Q5_1"},
                 {STRAND_PLUGIN_Q5_K, "Q5_K"}};
    const char *gap = "";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (types >> names[i].type & 1) fprintf(f, "%s%s", gap, names[i].name), gap = " ";
}

/* Inputs of other types than F32, then the output's. */
static void put_all_types(FILE *f, const op_row *row) {
    const seen *s = &shown[row->id];
    const uint64_t single = 1ull << STRAND_PLUGIN_F32;
    const char *gap = "";
    for (uint32_t k = 0; k < row->max_inputs && k < STRAND_PLUGIN_MAX_INPUTS; k++) {
        if (!s->inputs[k] || s->inputs[k] == single) continue;
        fprintf(f, "%sinput %u: ", gap, k);
        put_types(f, s->inputs[k]);
        gap = "; ";
    }
    if (!*gap) fprintf(f, "F32");
    if (s->output == single || !s->output) return;
    fprintf(f, "; result: ");
    put_types(f, s->output);
}

/* "[*, ~, -]" for each rank: axes along which it is always, sometimes, never cut. */
static void put_axes(FILE *f, const op_row *row) {
    const seen *s = &shown[row->id];
    const char *gap = "";
    for (int rank = 1; rank <= STRAND_PLUGIN_RANK; rank++) {
        if (!s->cut[rank][0] && !s->whole[rank][0]) continue;
        fprintf(f, "%s`[", gap);
        for (int axis = 0; axis < rank; axis++)
            fprintf(f, "%s%s", axis ? ", " : "", !s->cut[rank][axis] ? "-" : s->whole[rank][axis] ? "~" : "*");
        fprintf(f, "]`");
        gap = " ";
    }
}

static void put_inputs(FILE *f, uint32_t bits) {
    const char *gap = "";
    for (uint32_t k = 0; k < STRAND_PLUGIN_MAX_INPUTS; k++)
        if (bits >> k & 1) fprintf(f, "%s%u", gap, k), gap = ", ";
    if (!bits) fprintf(f, "-");
}

/* ---- what the header says ---- */

static char *read_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    size_t n = 0, room = 1 << 20;
    char *text = malloc(room + 1);
    if (text) n = fread(text, 1, room, f), text[n] = 0;
    fclose(f);
    return text;
}

/* The comment of "= id," in the enum of operators, on one line. */
static void put_definition(FILE *f, const char *header, uint32_t id) {
    char key[32];
    snprintf(key, sizeof key, " = %u,", id);
    const char *at = header;
    while ((at = strstr(at, "STRAND_OP_")) != NULL) {
        at += strcspn(at, " \n");
        if (!strncmp(at, key, strlen(key) - 1) && (at[strlen(key) - 1] == ',' || at[strlen(key) - 1] == ' ')) break;
    }
    const char *from = at ? strstr(at, "/* ") : NULL, *to = from ? strstr(from, " */") : NULL;
    bool blank = false;
    for (from = from ? from + 3 : NULL; from && to && from < to; from++) {
        if (*from == '\n' || *from == ' ') {
            blank = true;
            continue;
        }
        if (blank) fputc(' ', f);
        blank = false;
        if (*from == '|') fputc('\\', f);
        fputc(*from, f);
    }
}

/* ---- what the plugins say ---- */

static struct {
    bool has[MOST];
    char name[40];
} plugins[8];
static int n_plugins;

static bool read_plugin(const char *path) {
    static strand_host host = {.size = sizeof host, .abi_major = STRAND_PLUGIN_ABI_MAJOR, .abi_minor = STRAND_PLUGIN_ABI_MINOR};
    strand_plugin table = {.capacity = sizeof table};
    strand_plugin_entry_fn entry;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL), *symbol = library ? dlsym(library, "strand_plugin_entry") : NULL;
    if (!symbol || n_plugins == 8) return fprintf(stderr, "%s cannot be read\n", path), false;
    memcpy(&entry, &symbol, sizeof entry);
    if (entry(&host, &table)) return fprintf(stderr, "%s: its entry failed\n", path), false;
    for (uint32_t i = 0; i < table.n_ops; i++)
        if (table.ops[i].op < MOST) plugins[n_plugins].has[table.ops[i].op] = true;
    const char *name = strrchr(path, '/');
    snprintf(plugins[n_plugins++].name, sizeof plugins->name, "%.39s", name ? name + 1 : path);
    return true; /* it stays loaded: its list lies in it */
}

static void put_cpu(FILE *f, uint32_t id) {
    int n = 0;
    for (int i = 0; i < n_plugins; i++) n += plugins[i].has[id];
    if (n == n_plugins || !n) {
        fprintf(f, n ? "all" : "-");
        return;
    }
    for (int i = 0; i < n_plugins; i++)
        if (plugins[i].has[id]) fprintf(f, "%s ", plugins[i].name);
}

/* ---- the page ---- */

static int by_id(const void *a, const void *b) {
    const op_row *x = *(const op_row *const *)a, *y = *(const op_row *const *)b;
    return (x->id > y->id) - (x->id < y->id);
}

static void write_page(FILE *f, const char *header) {
    const op_row *rows[MOST];
    uint32_t n = op_count() < MOST ? op_count() : MOST;
    for (uint32_t i = 0; i < n; i++) rows[i] = op_at(i);
    qsort(rows, n, sizeof *rows, by_id);
    fprintf(f,
            "# Operators\n\n"
            "Generated by `ninja -C build update-operators`; the test `operators page` fails when it is stale. The %u "
            "operators of the\n"
            "instruction set: what each computes is [`core/strand_ops.h`](../core/strand_ops.h) (full definitions and "
            "parameters are\n"
            "there), the rules are rows of [`core/ops/`](../core/ops), and how well a backend keeps to them is tested by\n"
            "[`tests/ops/`](../tests/ops). What the errors are on a machine: [accuracy.md](accuracy.md); how long it takes:\n"
            "[performance.md](performance.md); what the GPU plugins take: [operators_plugins.md](operators_plugins.md).\n\n"
            "- **types**: element types that the tester covers; inputs that are not named are F32, and so is the result.\n"
            "- **in place**: inputs that the result may overwrite; after a semicolon, those that the second result (a state) "
            "may.\n"
            "- **prepared**: inputs of which a backend may make a constant when they are weights: a spectrum, packed rows.\n"
            "- **tiles**: the result's axes by rank: `*` can be cut, `~` with some parameters or shapes, `-` cannot.\n"
            "- **tolerance**: largest error allowed against double precision, relative to the largest value of the result.\n"
            "- **CPU**: `all`: each instruction set that the CPU plugin is compiled for has it (on x86-64: SSE2, AVX2 with "
            "FMA, AVX-512;\n"
            "  on aarch64: NEON).\n\n"
            "| id | operator | inputs -> results | types | in place | prepared | tiles | tolerance | CPU |\n"
            "|--:|---|---|---|---|---|---|--:|---|\n",
            n);
    for (uint32_t i = 0; i < n; i++) {
        const op_row *row = rows[i];
        fprintf(f, "| %u | %s | ", row->id, row->name);
        put_definition(f, header, row->id);
        fprintf(f, " | ");
        put_all_types(f, row);
        fprintf(f, " | ");
        put_inputs(f, row->in_place);
        if (row->second_in_place) fprintf(f, "; "), put_inputs(f, row->second_in_place);
        fprintf(f, " | ");
        put_inputs(f, row->prepared);
        fprintf(f, " | ");
        put_axes(f, row);
        fprintf(f, " | %.2g | ", (double)row->tolerance);
        put_cpu(f, row->id);
        fprintf(f, " |\n");
    }
}

int main(int argc, char **argv) {
    const char *page = NULL, *header_path = NULL;
    bool update = false;
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--check") || !strcmp(argv[i], "--update"))
            update = argv[i][2] == 'u', page = next, i++;
        else if (!strcmp(argv[i], "--header"))
            header_path = next, i++;
        else if (!read_plugin(argv[i]))
            return 1;
    }
    char *header = header_path ? read_file(header_path) : NULL;
    if (!page || !header || !n_plugins)
        return fprintf(stderr, "usage: operators_page (--check | --update) PAGE --header FILE PLUGIN...\n"), 2;
    look();
    FILE *f = update ? fopen(page, "wb") : tmpfile();
    if (!f) return fprintf(stderr, "%s cannot be written\n", page), 1;
    write_page(f, header);
    int code = 0;
    if (!update) {
        char *old = read_file(page), *fresh = calloc(1, (1 << 20) + 1);
        rewind(f);
        if (fresh) fresh[fread(fresh, 1, 1 << 20, f)] = 0;
        code = !old || !fresh || strcmp(old, fresh);
        if (code) fprintf(stderr, "%s is stale: run 'ninja -C build update-operators' and commit it\n", page);
        free(old);
        free(fresh);
    }
    if (fclose(f)) code = 1;
    free(header);
    return code;
}
