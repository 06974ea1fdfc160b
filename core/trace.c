/* trace.c - tells an application what each step of a run was and how long it took. Nothing here is called unless it asked. */
#define _POSIX_C_SOURCE 200809L
#include <time.h>

#include "session.h"

double trace_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Index for strand_plan_node of the first operator of step `st`: launch_of is in rising order. What is prepared belongs to the
 * operator whose launch has the same node. */
static int32_t node_index(const strand_plan *p, const step *st) {
    uint32_t low = 0, high = p->n_order, self = (uint32_t)(st - p->schedule.steps);
    if (st->kind == STEP_PREPARE) {
        for (uint32_t i = 0; i < p->n_order; i++)
            if (p->schedule.nodes[p->order[i]].node == p->schedule.nodes[st->first].node) return (int32_t)i;
        return -1;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->launch_of[middle] < self)
            low = middle + 1;
        else
            high = middle;
    }
    return low < p->n_order && p->launch_of[low] == self ? (int32_t)low : -1;
}

static void describe_moved(const strand_session *s, const step *st, strand_step_info *info) {
    const graph_tensor *t = &s->plan->model->graph.tensors[s->plan->schedule.instances[st->to].tensor];
    info->kind = st->kind == STEP_INPUT ? "input" : "copy";
    info->name = t->name ? t->name : "";
    info->backend = st->kind == STEP_INPUT ? "" : s->plan->place.devices[st->device]->name;
}

static void describe_computed(const strand_session *s, const step *st, double part, strand_step_info *info) {
    const strand_plan *p = s->plan;
    const scheduled_node *nodes = &p->schedule.nodes[st->first];
    const graph_node *first = &p->model->graph.nodes[nodes[0].node];
    info->kind = st->kind == STEP_PREPARE ? "prepare" : "launch";
    info->name = first->name;
    info->op = first->op->name;
    info->backend = p->place.devices[st->device]->name;
    info->node = node_index(p, st);
    info->nodes = (int32_t)st->n;
    for (uint32_t i = 0; st->kind == STEP_LAUNCH && i < st->n; i++)
        info->work += part * schedule_node_work(&p->model->graph, nodes[i].node, s->batch, s->length);
}

void trace_step(strand_session *s, const step *st, const trace_tile *tile, double begin) {
    strand_step_info info = {.size = sizeof info,
                             .node = -1,
                             .op = "",
                             .tile = tile->index,
                             .tiles = tile->count,
                             .kept = st->phase == PROLOGUE,
                             .begin = begin - s->began,
                             .seconds = trace_now() - begin};
    if (st->kind == STEP_INPUT || st->kind == STEP_COPY || st->kind == STEP_STATE)
        describe_moved(s, st, &info);
    else
        describe_computed(s, st, tile->part, &info);
    s->trace(s->trace_user, &info);
}
