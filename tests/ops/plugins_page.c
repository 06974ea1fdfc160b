/* plugins_page.c - writes docs/operators_plugins.md: which operators, types and sizes each plugin takes, as its own
 * `supports` answers.
 *
 *   plugins_page (--check | --update) PAGE PLUGIN...
 *
 * Every case of the operator tester is offered to every plugin. Limits are found by growing: the equal extents of a case are
 * doubled together until the plugin says no where the first plugin (whose predicates all others share) still says yes; the
 * reason is its own. Columns of plugins that are not given, since this build lacks them, stay as they are in the page. Exit
 * code 77: a given plugin cannot run here, so its column cannot be judged. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops_cases.h"

#define CASES   60 /* of each family */
#define MOST    128
#define REASONS 12

static const char *const columns[] = {"cpu", "vulkan", "opencl", "cuda"};
#define N_COLUMNS (int)(sizeof columns / sizeof *columns)

typedef struct answers {
    int asked, taken;
    uint64_t tried[STRAND_PLUGIN_MAX_INPUTS], types[STRAND_PLUGIN_MAX_INPUTS]; /* of the inputs: bit i is element type i */
    char reasons[REASONS][160];
    int n_reasons;
} answers;

static ops_plugin plugins[N_COLUMNS];
static bool open_here[N_COLUMNS];
static answers table[N_COLUMNS][MOST];

/* ---- asking ---- */

typedef struct question {
    strand_plugin_tensor inputs[STRAND_PLUGIN_MAX_INPUTS], outputs[STRAND_PLUGIN_MAX_OUTPUTS];
    strand_plugin_node node;
} question;

/* Node i of a case; with times > 1 every extent that equals `extent` is so much larger and strides are those of whole
 * tensors. */
static void ask_about(const ops_program *g, int i, int64_t extent, int64_t times, question *q) {
    const ops_node *n = &g->nodes[i];
    memset(q, 0, sizeof *q);
    for (uint32_t k = 0; k < n->n_inputs; k++)
        if (n->inputs[k] >= 0) q->inputs[k] = g->tensors[n->inputs[k]].view;
    q->outputs[0] = g->tensors[n->output].view;
    if (n->second >= 0) q->outputs[1] = g->tensors[n->second].view;
    for (int t = 0; times > 1 && t < STRAND_PLUGIN_MAX_INPUTS + STRAND_PLUGIN_MAX_OUTPUTS; t++) {
        strand_plugin_tensor *v = t < STRAND_PLUGIN_MAX_INPUTS ? &q->inputs[t] : &q->outputs[t - STRAND_PLUGIN_MAX_INPUTS];
        int64_t stride = 1;
        for (uint32_t a = v->rank; a-- > 0;) {
            if (v->whole[a] == extent) v->dims[a] = v->whole[a] = extent * times;
            v->strides[a] = stride;
            stride *= v->dims[a];
        }
    }
    q->node = (strand_plugin_node){.op = n->op,
                                   .version = op_find(n->op)->version,
                                   .n_inputs = n->n_inputs,
                                   .n_outputs = n->second >= 0 ? 2 : 1,
                                   .inputs = q->inputs,
                                   .outputs = q->outputs,
                                   .params = n->params,
                                   .name = "case"};
}

static bool takes(int column, const question *q, char *why, size_t why_bytes) {
    ops_plugin *p = &plugins[column];
    bool known = false;
    for (uint32_t i = 0; i < p->table.n_ops; i++)
        known = known || (p->table.ops[i].op == q->node.op && p->table.ops[i].version == q->node.version);
    if (!known) return snprintf(why, why_bytes, "does not know it"), false;
    why[0] = 0;
    return p->api->supports(p->device, &q->node, why, why_bytes) == STRAND_PLUGIN_OK;
}

/* Sizes of memory and numbers of buffers are the device's, not the plugin's: the page says so once. */
static bool of_the_device(const char *why) {
    return strstr(why, "MiB") || strstr(why, "a kernel sees") || strstr(why, "2^31 elements");
}

static void note_reason(answers *a, const char *why) {
    for (int i = 0; i < a->n_reasons; i++)
        if (!strcmp(a->reasons[i], why)) return;
    if (a->n_reasons < REASONS) snprintf(a->reasons[a->n_reasons++], sizeof a->reasons[0], "%.159s", why);
}

static bool small_enough(const question *q) {
    for (int t = 0; t < STRAND_PLUGIN_MAX_INPUTS + STRAND_PLUGIN_MAX_OUTPUTS; t++) {
        const strand_plugin_tensor *v =
            t < STRAND_PLUGIN_MAX_INPUTS ? &q->inputs[t] : &q->outputs[t - STRAND_PLUGIN_MAX_INPUTS];
        double n = 1;
        for (uint32_t a = 0; a < v->rank; a++) n *= (double)v->dims[a];
        if (n >= 2147483648.0) return false;
    }
    return true;
}

/* Doubles one extent for as long as the first plugin takes it and the tensors have fewer than 2^31 elements. */
static void grow(const ops_program *g, int i, int column, int64_t extent) {
    char why[200];
    question q;
    for (int64_t times = 2; times < (int64_t)1 << 34; times *= 2) {
        ask_about(g, i, extent, times, &q);
        if (!small_enough(&q) || !takes(0, &q, why, sizeof why)) return;
        if (takes(column, &q, why, sizeof why)) continue;
        if (!of_the_device(why)) note_reason(&table[column][g->nodes[i].op], why);
        return;
    }
}

static void grow_all(const ops_program *g, int i, int column) {
    const ops_node *n = &g->nodes[i];
    int64_t done[STRAND_PLUGIN_RANK * (STRAND_PLUGIN_MAX_INPUTS + 1)];
    int n_done = 0;
    for (int t = -1; t < (int)n->n_inputs; t++) {
        int tensor = t < 0 ? n->output : n->inputs[t];
        if (tensor < 0) continue;
        const strand_plugin_tensor *v = &g->tensors[tensor].view;
        for (uint32_t a = 0; a < v->rank; a++) {
            bool before = v->whole[a] < 1;
            for (int k = 0; k < n_done; k++) before = before || done[k] == v->whole[a];
            if (before) continue;
            done[n_done++] = v->whole[a];
            grow(g, i, column, v->whole[a]);
        }
    }
}

static void offer(const ops_program *g, int i) {
    const ops_node *n = &g->nodes[i];
    for (int c = 0; c < N_COLUMNS; c++) {
        char why[200];
        question q;
        if (!open_here[c]) continue;
        answers *a = &table[c][n->op];
        ask_about(g, i, 0, 1, &q);
        a->asked++;
        bool good = takes(c, &q, why, sizeof why);
        a->taken += good;
        for (uint32_t k = 0; k < n->n_inputs; k++) {
            uint64_t type = q.inputs[k].dtype ? 1ull << q.inputs[k].dtype : 0;
            a->tried[k] |= type;
            a->types[k] |= good ? type : 0;
        }
        if (!good)
            note_reason(a, of_the_device(why) ? "cases larger than the device" : why);
        else if (c > 0)
            grow_all(g, i, c);
    }
}

static void look(void) {
    for (int s = 0; s < ops_n_case_sets; s++)
        for (int f = 0; f < *ops_case_sets[s].n; f++)
            for (int k = 0; k < CASES && !ops_on_request(&ops_case_sets[s].families[f]); k++) {
                ops_program g;
                ops_program_begin(&g, (uint64_t)k * 131 + 7);
                ops_case_sets[s].families[f].make(&g, k);
                for (int i = 0; i < g.n_nodes; i++) offer(&g, i);
                ops_program_free(&g);
            }
}

/* ---- the page ---- */

static char *read_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    size_t n = 0, room = 1 << 20;
    char *text = malloc(room + 1);
    if (text) n = fread(text, 1, room, f), text[n] = 0;
    fclose(f);
    return text;
}

static void put_types(FILE *f, const answers *a) {
    static const struct {
        uint32_t type;
        const char *name;
    } names[] = {{STRAND_PLUGIN_F32, "F32"},   {STRAND_PLUGIN_F16, "F16"},   {STRAND_PLUGIN_BF16, "BF16"},
                 {STRAND_PLUGIN_I32, "I32"},   {STRAND_PLUGIN_I64, "I64"},   {STRAND_PLUGIN_Q8_0, "Q8_0"},
                 {STRAND_PLUGIN_Q4_0, "Q4_0"}, {STRAND_PLUGIN_Q4_K, "Q4_K"}, {STRAND_PLUGIN_Q6_K, "Q6_K"},
                 {STRAND_PLUGIN_Q4_1, "Q4_1"}, {STRAND_PLUGIN_Q5_0, "Q5_0"}, {STRAND_PLUGIN_Q5_1, "Q5_1"},
                 {STRAND_PLUGIN_Q5_K, "Q5_K"}};
    uint64_t all = 0, lost = 0;
    for (int k = 0; k < STRAND_PLUGIN_MAX_INPUTS; k++) all |= a->types[k], lost |= a->tried[k] & ~a->types[k];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (all >> names[i].type & 1) fprintf(f, "%s ", names[i].name);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (lost >> names[i].type & 1) fprintf(f, "(not everywhere %s) ", names[i].name);
    if (!all && !lost) fprintf(f, "yes "); /* it has no inputs */
}

static int by_text(const void *a, const void *b) {
    return strcmp(a, b);
}

static void put_cell(FILE *f, int column, uint32_t op) {
    answers *a = &table[column][op];
    if (!a->taken) {
        fprintf(f, "- ");
        return;
    }
    put_types(f, a);
    if (a->taken < a->asked) fprintf(f, "(%d of %d cases) ", a->taken, a->asked);
    if (a->n_reasons) fprintf(f, "but not: ");
    qsort(a->reasons, (size_t)a->n_reasons, sizeof a->reasons[0], by_text);
    for (int i = 0; i < a->n_reasons; i++) fprintf(f, "%s%s", i ? "; " : "", a->reasons[i]);
    if (a->n_reasons) fputc(' ', f);
}

/* The text between two bars in the line of this operator of the page as it was, for a plugin that is not built. */
static void carry_cell(FILE *f, const char *old, int column, const char *name) {
    char key[64];
    snprintf(key, sizeof key, "\n| %s |", name);
    const char *at = old ? strstr(old, key) : NULL;
    at = at ? at + strlen(key) : NULL;
    for (int i = 0; at && i < column; i++) at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL;
    const char *end = at ? strchr(at, '|') : NULL;
    if (end && *at == ' ') fprintf(f, "%.*s", (int)(end - at - 1), at + 1);
    if (!end) fprintf(f, "? ");
}

static int by_id(const void *a, const void *b) {
    const op_row *x = *(const op_row *const *)a, *y = *(const op_row *const *)b;
    return (x->id > y->id) - (x->id < y->id);
}

static void write_page(FILE *f, const char *old) {
    const op_row *rows[MOST];
    uint32_t n = op_count() < MOST ? op_count() : MOST;
    for (uint32_t i = 0; i < n; i++) rows[i] = op_at(i);
    qsort(rows, n, sizeof *rows, by_id);
    fprintf(f,
            "# Operators of the plugins\n\n"
            "Generated by `ninja -C build update-operators-plugins` where the plugins are built and have a device; the test "
            "`operators of\n"
            "plugins` fails when it is stale. Each cell is what the plugin's own `supports` answers to the cases of the "
            "operator tester:\n"
            "the element types of its inputs that it takes, how many cases where not all, and what it refuses when the cases "
            "are grown\n"
            "until it does (and the CPU does not). What a plugin refuses, the CPU computes.\n\n"
            "Besides, a GPU takes a node only if each of its tensors has fewer than 2^31 elements and lies in what a kernel "
            "sees at once\n"
            "(Vulkan: maxStorageBufferRange; OpenCL and CUDA: any allocation), if the device gives as many buffers a kernel as "
            "the node\n"
            "has tensors (Vulkan: maxPerStageDescriptorStorageBuffers less 1, 12 at most), and if its working memory fits that "
            "too.\n"
            "\"One dispatch\" is maxComputeWorkGroupCount on Vulkan, 2^20 x 65535 groups on OpenCL, 2^31 x 65535 on CUDA.\n\n"
            "| operator | CPU | Vulkan | OpenCL | CUDA |\n"
            "|---|---|---|---|---|\n");
    for (uint32_t i = 0; i < n; i++) {
        fprintf(f, "| %s |", rows[i]->name);
        for (int c = 0; c < N_COLUMNS; c++) {
            fputc(' ', f);
            if (open_here[c])
                put_cell(f, c, rows[i]->id);
            else
                carry_cell(f, old, c, rows[i]->name);
            fputc('|', f);
        }
        fputc('\n', f);
    }
}

/* Opens a plugin into the column that its file is named for. 0, 77 or 1. The limits in the page are those of software
 * devices. */
static int open_column(const char *path) {
    char why[300] = "", key[32];
    for (int c = 0; c < N_COLUMNS; c++) {
        snprintf(key, sizeof key, "/strand-%s", columns[c]);
        if (!strstr(path, key)) continue;
        int code = ops_open(&plugins[c], path, why, sizeof why);
        if (code) return fprintf(stderr, "%s: %s\n", path, why), code;
        open_here[c] = true;
        if (c != 1 && c != 2) return 0;
        if (plugins[c].info.flags & STRAND_DEVICE_SOFTWARE) return 0;
        return fprintf(stderr, "%s: the page is about software devices, this is %s\n", path, plugins[c].info.description), 77;
    }
    return fprintf(stderr, "%s: no column for it\n", path), 1;
}

static int check(const char *page, const char *old) {
    static char fresh[(1 << 20) + 1];
    FILE *f = tmpfile();
    if (!f) return fprintf(stderr, "no temporary file\n"), 1;
    write_page(f, old);
    rewind(f);
    fresh[fread(fresh, 1, 1 << 20, f)] = 0;
    fclose(f);
    if (old && !strcmp(old, fresh)) return 0;
    fprintf(stderr, "%s is stale: run 'ninja -C build update-operators-plugins' and commit it\n", page);
    size_t at = 0;
    while (old && old[at] && old[at] == fresh[at]) at++;
    fprintf(stderr, "the first difference: %.160s\n", fresh + (at > 40 ? at - 40 : 0));
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 4 || (strcmp(argv[1], "--check") && strcmp(argv[1], "--update")))
        return fprintf(stderr, "usage: plugins_page (--check | --update) PAGE PLUGIN...\n"), 2;
    for (int i = 3; i < argc; i++) {
        int code = open_column(argv[i]);
        if (code) return code;
    }
    if (!open_here[0]) return fprintf(stderr, "the CPU plugin must be among them\n"), 2;
    look();
    char *old = read_file(argv[2]);
    int code = 0;
    if (!strcmp(argv[1], "--check")) {
        code = check(argv[2], old);
    } else {
        FILE *f = fopen(argv[2], "wb");
        if (f) write_page(f, old);
        if (!f || fclose(f)) {
            fprintf(stderr, "%s cannot be written\n", argv[2]);
            code = 1;
        }
    }
    for (int c = 0; c < N_COLUMNS; c++)
        if (open_here[c]) ops_close(&plugins[c]);
    free(old);
    return code;
}
