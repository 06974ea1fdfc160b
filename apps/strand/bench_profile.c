/* bench_profile.c - sums up what a session tells of its steps, by operator and by kind of operator.
 */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The steps of one operator (or of a group that ran as one, or of tensors moved): all its tiles. */
typedef struct bench_profile_row {
    char name[96], op[96], backend[40];
    int32_t node;
    int64_t calls;
    double seconds, work;
} bench_profile_row;

const grid_column bench_profile_columns[] = {
    {"name", "operator", NULL, 1},           {"op", "kind", NULL, 1},
    {"backend", "backend", NULL, 1},         {"calls", "calls", "%.0f", 1},
    {"seconds", "time, ms", "%.3f", 1e3},    {"share", "share, %", "%.1f", 100},
    {"work_flop", "work, MFLOP", "%.2f", 1e-6}, {"flop_per_second", "GFLOP/s", "%.1f", 1e-9},
};

void bench_profile_begin(bench_profile *p, const strand_plan *plan) {
    *p = (bench_profile){.plan = plan};
}

void bench_profile_clear(bench_profile *p) {
    p->n = 0;
    p->made_once = 0;
}

void bench_profile_free(bench_profile *p) {
    free(p->rows);
    *p = (bench_profile){0};
}

static bench_profile_row *add_row(bench_profile *p) {
    if (p->n == p->room) {
        const int32_t room = p->room ? 2 * p->room : 256;
        bench_profile_row *rows = realloc(p->rows, (size_t)room * sizeof *rows);
        if (!rows) {
            p->failed = 1;
            return NULL;
        }
        p->rows = rows;
        p->room = room;
    }
    memset(&p->rows[p->n], 0, sizeof *p->rows);
    return &p->rows[p->n++];
}

static void append(char *text, size_t size, const char *more) {
    const size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", used ? "+" : "", more);
}

/* The row of a step: made when its operator is seen first. Steps of what moves are one row a kind. */
static bench_profile_row *row_of(bench_profile *p, const strand_step_info *step) {
    const int moved = step->nodes == 0;
    for (int32_t i = p->n; i-- > 0;)
        if (moved ? p->rows[i].node < 0 && !strcmp(p->rows[i].name, step->kind) : p->rows[i].node == step->node)
            return &p->rows[i];
    bench_profile_row *row = add_row(p);
    if (!row) return NULL;
    row->node = moved ? -1 : step->node;
    snprintf(row->name, sizeof row->name, "%s", moved ? step->kind : step->name);
    snprintf(row->backend, sizeof row->backend, "%s", step->backend);
    strand_plan_node_info node;
    for (int32_t i = 0; i < step->nodes && strand_plan_node(p->plan, step->node + i, &node) == STRAND_OK; i++)
        append(row->op, sizeof row->op, node.op);
    if (moved) snprintf(row->op, sizeof row->op, "(%s)", step->kind);
    return row;
}

void bench_profile_step(void *user, const strand_step_info *step) {
    bench_profile *p = user;
    if (step->kept) {
        p->made_once += step->seconds;
        return;
    }
    bench_profile_row *row = row_of(p, step);
    if (!row) return;
    row->calls++;
    row->seconds += step->seconds;
    row->work += step->work;
}

static int longest_first(const void *a, const void *b) {
    const bench_profile_row *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

static void print_rows(const bench_profile_row *rows, int32_t n, double seconds, grid *g) {
    double rest = seconds;
    for (int32_t i = 0; i < n; i++) {
        const bench_profile_row *r = &rows[i];
        grid_text(g, r->name);
        grid_text(g, r->op);
        grid_text(g, r->backend);
        grid_number(g, (double)r->calls);
        grid_number(g, r->seconds);
        grid_number(g, r->seconds / seconds);
        grid_number(g, r->work > 0 ? r->work : NAN);
        grid_number(g, r->work > 0 && r->seconds > 0 ? r->work / r->seconds : NAN);
        rest -= r->seconds;
    }
    grid_text(g, "between steps");
    grid_text(g, "");
    grid_text(g, "");
    grid_number(g, NAN);
    grid_number(g, rest > 0 ? rest : 0);
    grid_number(g, rest > 0 ? rest / seconds : 0);
    grid_number(g, NAN);
    grid_number(g, NAN);
}

void bench_profile_nodes(bench_profile *p, double seconds, grid *g) {
    qsort(p->rows, (size_t)p->n, sizeof *p->rows, longest_first);
    print_rows(p->rows, p->n, seconds, g);
    if (p->failed) g->failed = 1;
}

void bench_profile_ops(bench_profile *p, double seconds, grid *g) {
    bench_profile_row *kinds = calloc((size_t)p->n + 1, sizeof *kinds);
    int32_t n = 0;
    if (!kinds) {
        g->failed = 1;
        return;
    }
    for (int32_t i = 0; i < p->n; i++) {
        int32_t k = 0;
        while (k < n && (strcmp(kinds[k].op, p->rows[i].op) || strcmp(kinds[k].backend, p->rows[i].backend))) k++;
        if (k == n) {
            kinds[n] = p->rows[i];
            kinds[n].calls = 0, kinds[n].seconds = kinds[n].work = 0, kinds[n].node = 0;
            n++;
        }
        kinds[k].node++; /* counts the operators of the kind */
        kinds[k].calls += p->rows[i].calls;
        kinds[k].seconds += p->rows[i].seconds;
        kinds[k].work += p->rows[i].work;
    }
    for (int32_t k = 0; k < n; k++) snprintf(kinds[k].name, sizeof kinds[k].name, "all %d", kinds[k].node);
    qsort(kinds, (size_t)n, sizeof *kinds, longest_first);
    print_rows(kinds, n, seconds, g);
    if (p->failed) g->failed = 1;
    free(kinds);
}
