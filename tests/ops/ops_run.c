/* ops_run.c - the executor of the operator tests. It gives a plugin exactly what the ABI promises and nothing more, fills all
 * else with ones, and looks afterwards at every byte that should not have changed. */
#define _POSIX_C_SOURCE 200809L
#include "ops_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A block with guards on both sides, in the plugin's memory. */
typedef struct block {
    unsigned char *host;          /* host-memory devices: the guarded block */
    strand_plugin_buffer *buffer; /* others */
    uint64_t bytes;               /* between the guards */
    bool used;
} block;

typedef struct run {
    ops_plugin *p;
    const ops_program *g;
    const ops_options *o;
    block tensors[OPS_TENSORS], scratch, prepared[OPS_NODES];
    ops_views views;
    strand_plugin_node nodes[OPS_NODES];
    strand_plugin_tensor inputs[OPS_NODES][STRAND_PLUGIN_MAX_INPUTS], outputs[OPS_NODES][2];
    char *why;
    size_t why_bytes;
} run;

static int say(run *r, int code, const char *text, const char *more) {
    snprintf(r->why, r->why_bytes, "%s%s%s", text, more && more[0] ? ": " : "", more ? more : "");
    return code;
}

/* ---- memory ---- */

static bool wait_all(run *r) {
    uint64_t point = 0;
    if (!r->p->api->submit || !r->p->api->wait) return true;
    return !r->p->api->submit(r->p->device, &point) && !r->p->api->wait(r->p->device, point);
}

static bool block_make(run *r, block *b, uint64_t bytes, const unsigned char *start) {
    uint64_t all = (bytes + 3 * OPS_GUARD - 1) / OPS_GUARD * OPS_GUARD;
    unsigned char *image = aligned_alloc(OPS_GUARD, all);
    if (!image) return false;
    memset(image, 0xff, all);
    if (start) memcpy(image + OPS_GUARD, start, bytes);
    *b = (block){.bytes = bytes, .used = true};
    if (ops_host_memory(r->p)) {
        b->host = image;
        return true;
    }
    bool ok = !r->p->api->buffer_create(r->p->device, all, &b->buffer) &&
              !r->p->api->upload(r->p->device, b->buffer, 0, image, all) && wait_all(r);
    free(image);
    return ok;
}

static strand_plugin_memory block_memory(const block *b, uint64_t offset) {
    strand_plugin_memory m = {.bytes = b->bytes - offset};
    if (b->host)
        m.data = b->host + OPS_GUARD + offset;
    else
        m.buffer = b->buffer, m.offset = OPS_GUARD + offset;
    return m;
}

/* What the block holds now; guards must still be ones. */
static unsigned char *block_read(run *r, const block *b, bool *guards) {
    uint64_t all = (b->bytes + 3 * OPS_GUARD - 1) / OPS_GUARD * OPS_GUARD;
    unsigned char *image = malloc(all), *inside = malloc(b->bytes + 1);
    if (!image || !inside) abort();
    if (b->host)
        memcpy(image, b->host, all);
    else if (r->p->api->download(r->p->device, b->buffer, 0, image, all) || !wait_all(r))
        memset(image, 0, all);
    for (uint64_t i = 0; i < OPS_GUARD; i++) *guards = *guards && image[i] == 0xff;
    for (uint64_t i = OPS_GUARD + b->bytes; i < all; i++) *guards = *guards && image[i] == 0xff;
    memcpy(inside, image + OPS_GUARD, b->bytes);
    free(image);
    return inside;
}

static void block_free(run *r, block *b) {
    if (b->used && b->buffer) r->p->api->buffer_destroy(r->p->device, b->buffer);
    free(b->host);
    *b = (block){0};
}

/* ---- views and nodes ---- */

static bool inside(const ops_program *g, int tensor) {
    for (int i = 0; i + 1 < g->n_nodes; i++)
        if (g->nodes[i].output == tensor) return true;
    return false;
}

/* Tensors that no node makes are constants when they are flagged so. */
static void bind(run *r, strand_plugin_tensor *v, int tensor, int home) {
    const ops_tensor *t = &r->g->tensors[tensor];
    int64_t first = 0;
    v->memory = (strand_plugin_memory){0};
    if (r->o->grouped && inside(r->g, tensor)) {
        v->flags |= STRAND_TENSOR_INTERNAL;
        return;
    }
    for (uint32_t i = 0; i < v->rank; i++) first += v->origin[i] * v->strides[i];
    v->memory = block_memory(&r->tensors[home], t->lead + (uint64_t)(first / ops_block(v->dtype)) * ops_block_bytes(v->dtype));
}

/* The tensor whose memory the second output of node i has. */
static int second_home(const run *r, int i) {
    const ops_node *n = &r->g->nodes[i];
    for (uint32_t k = 0; r->o->over_state && k < n->n_inputs; k++)
        if ((op_find(n->op)->second_in_place >> k & 1) && n->inputs[k] >= 0) return n->inputs[k];
    return n->second;
}

static void describe(run *r, bool memory) {
    for (int i = 0; i < r->g->n_nodes; i++) {
        const ops_node *n = &r->g->nodes[i];
        for (uint32_t k = 0; k < n->n_inputs; k++) {
            r->inputs[i][k] = r->views.inputs[i][k];
            if (n->inputs[k] >= 0 && memory) bind(r, &r->inputs[i][k], n->inputs[k], n->inputs[k]);
        }
        r->outputs[i][0] = r->views.outputs[i];
        r->outputs[i][1] = r->views.seconds[i];
        if (r->o->alias) memcpy(r->outputs[i][0].strides, r->inputs[i][0].strides, sizeof r->outputs[i][0].strides);
        bool second = r->outputs[i][1].rank > 0;
        if (second)
            memcpy(r->outputs[i][1].strides, r->g->tensors[second_home(r, i)].view.strides, sizeof r->outputs[i][1].strides);
        if (memory) {
            int home = r->o->alias ? n->inputs[0] : n->output;
            bind(r, &r->outputs[i][0], home, home);
            if (second) bind(r, &r->outputs[i][1], second_home(r, i), second_home(r, i));
        }
        r->nodes[i] = (strand_plugin_node){.op = n->op,
                                           .version = op_find(n->op)->version,
                                           .n_inputs = n->n_inputs,
                                           .n_outputs = second ? 2 : 1,
                                           .inputs = r->inputs[i],
                                           .outputs = r->outputs[i],
                                           .params = n->params,
                                           .name = "case"};
    }
}

/* ---- the run ---- */

static bool make_memory(run *r) {
    for (int i = 0; i < r->g->n_tensors; i++)
        if (!block_make(r, &r->tensors[i], r->g->tensors[i].bytes, r->g->tensors[i].start)) return false;
    return true;
}

/* Working memory is asked for at the whole extents: that must do for every tile. */
static bool make_scratch(run *r) {
    ops_views mine = r->views;
    uint64_t bytes = 0;
    ops_tile(r->g, -1, 0, 0, &r->views);
    describe(r, false);
    if (r->o->grouped) {
        bytes = r->p->api->scratch_size(r->p->device, r->nodes, (uint32_t)r->g->n_nodes);
    } else {
        for (int i = 0; i < r->g->n_nodes; i++) {
            uint64_t one = r->p->api->scratch_size(r->p->device, &r->nodes[i], 1);
            if (one > bytes) bytes = one;
        }
    }
    r->views = mine;
    return block_make(r, &r->scratch, bytes, NULL);
}

static int prepare(run *r) {
    strand_plugin_memory scratch = block_memory(&r->scratch, 0);
    uint64_t bytes[OPS_NODES];
    describe(r, false);
    for (int i = 0; i < r->g->n_nodes; i++) bytes[i] = r->p->api->prepare_size(r->p->device, &r->nodes[i]);
    describe(r, true);
    for (int i = 0; i < r->g->n_nodes && r->o->prepared; i++) {
        uint32_t from = op_find(r->nodes[i].op)->prepared;
        if (!bytes[i]) continue;
        if (!block_make(r, &r->prepared[i], bytes[i], NULL)) return say(r, OPS_FAILED, "no memory for what is prepared", NULL);
        strand_plugin_tensor kept[STRAND_PLUGIN_MAX_INPUTS];
        memcpy(kept, r->inputs[i], sizeof kept);
        for (uint32_t k = 0; k < r->nodes[i].n_inputs; k++)
            if (!(from >> k & 1)) r->inputs[i][k].memory = (strand_plugin_memory){0};
        r->outputs[i][0].memory = (strand_plugin_memory){0};
        r->nodes[i].prepared = block_memory(&r->prepared[i], 0);
        if (r->p->api->prepare(r->p->device, &r->nodes[i], &scratch)) return say(r, OPS_FAILED, "prepare", r->p->host.failure);
        memcpy(r->inputs[i], kept, sizeof kept);
        bind(r, &r->outputs[i][0], r->g->nodes[i].output, r->g->nodes[i].output);
        for (uint32_t k = 0; k < r->nodes[i].n_inputs; k++)
            if (from >> k & 1) r->inputs[i][k].memory = (strand_plugin_memory){0};
    }
    return OPS_OK;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int launch(run *r) {
    strand_plugin_memory scratch = block_memory(&r->scratch, 0);
    uint32_t at_once = r->o->grouped ? (uint32_t)r->g->n_nodes : 1;
    for (int i = 0; i < r->g->n_nodes; i += (int)at_once) {
        if (r->p->api->launch(r->p->device, &r->nodes[i], at_once, &scratch))
            return say(r, OPS_ERROR, "launch", r->p->host.failure);
    }
    return wait_all(r) ? OPS_OK : say(r, OPS_ERROR, "wait", r->p->host.failure);
}

/* Bytes that may have changed: the elements of the outputs. */
static int compare_outside(run *r, ops_result *result) {
    bool guards = true;
    for (int t = 0; t < r->g->n_tensors; t++) {
        const ops_tensor *tensor = &r->g->tensors[t];
        result->after[t] = block_read(r, &r->tensors[t], &guards);
        unsigned char *mask = calloc(1, tensor->bytes);
        if (!mask) abort();
        for (int i = 0; i < r->g->n_nodes; i++) {
            if ((r->o->alias ? r->g->nodes[i].inputs[0] : r->g->nodes[i].output) == t)
                ops_mark(tensor, &r->outputs[i][0], mask);
            if (r->outputs[i][1].rank && second_home(r, i) == t) ops_mark(tensor, &r->outputs[i][1], mask);
        }
        bool same = true;
        for (uint64_t b = 0; b < tensor->bytes; b++) same = same && (mask[b] || result->after[t][b] == tensor->start[b]);
        free(mask);
        if (!same) return say(r, OPS_FAILED, "bytes outside the output were changed", NULL);
    }
    block *others[OPS_NODES + 1] = {&r->scratch};
    for (int i = 0; i < OPS_NODES; i++) others[i + 1] = &r->prepared[i];
    for (int i = 0; i <= OPS_NODES; i++)
        if (others[i]->used) free(block_read(r, others[i], &guards));
    return guards ? OPS_OK : say(r, OPS_FAILED, "wrote past the end of working, prepared or tensor memory", NULL);
}

static int run_all(run *r, ops_result *result) {
    char why[200] = "";
    if (!ops_tile(r->g, r->o->axis, r->o->begin, r->o->end, &r->views))
        return say(r, OPS_UNSUPPORTED, "not computed in pieces", NULL);
    if (r->o->loose) {
        ops_views whole;
        ops_tile(r->g, -1, 0, 0, &whole);
        memcpy(r->views.inputs, whole.inputs, sizeof whole.inputs);
    }
    describe(r, false);
    for (int i = 0; i < r->g->n_nodes; i++)
        if (r->p->api->supports(r->p->device, &r->nodes[i], why, sizeof why))
            return say(r, OPS_UNSUPPORTED, "not supported", why);
    if (!make_memory(r) || !make_scratch(r)) return say(r, OPS_FAILED, "no memory for the case", r->p->host.failure);
    int code = prepare(r);
    if (code) return code;
    result->seconds = 1e30;
    for (int i = 0; i < (r->o->repeat > 0 ? r->o->repeat : 1); i++) {
        double begin = now();
        code = launch(r);
        if (code) return code;
        double took = now() - begin;
        if (took < result->seconds) result->seconds = took;
    }
    return compare_outside(r, result);
}

int ops_run(ops_plugin *p, const ops_program *g, const ops_options *o, ops_result *result, char *why, size_t why_bytes) {
    run *r = calloc(1, sizeof *r);
    if (!r) abort();
    *r = (run){.p = p, .g = g, .o = o, .why = why, .why_bytes = why_bytes};
    memset(result, 0, sizeof *result);
    why[0] = 0;
    p->host.failure[0] = 0;
    p->host.workers = o->workers > 0 ? o->workers : 1;
    p->host.shuffle = p->host.workers > 1;
    int code = run_all(r, result);
    for (int i = 0; i < OPS_TENSORS; i++) block_free(r, &r->tensors[i]);
    for (int i = 0; i < OPS_NODES; i++) block_free(r, &r->prepared[i]);
    block_free(r, &r->scratch);
    free(r);
    return code;
}

void ops_result_free(ops_result *r) {
    for (int i = 0; i < OPS_TENSORS; i++) {
        free(r->after[i]);
        r->after[i] = NULL;
    }
}

uint32_t ops_claim(ops_plugin *p, const ops_program *g) {
    const ops_options o = {.axis = -1, .workers = 1};
    uint8_t needed[OPS_NODES] = {0};
    if (p->table.abi_minor < 1 || p->api->size < offsetof(strand_plugin_api, claim) + sizeof p->api->claim || !p->api->claim)
        return 0;
    run *r = calloc(1, sizeof *r);
    if (!r) abort();
    *r = (run){.p = p, .g = g, .o = &o};
    ops_tile(g, -1, 0, 0, &r->views);
    describe(r, false);
    needed[g->n_nodes - 1] = 1;
    uint32_t n = p->api->claim(p->device, r->nodes, (uint32_t)g->n_nodes, needed);
    free(r);
    return n;
}
