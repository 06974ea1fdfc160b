/* placement.c - which nodes are needed for the wanted outputs, and on which device each of them runs: the first in the
 * caller's order that knows the operator and supports the shapes, else the CPU. */
#include "schedule.h"

#include <stdio.h>
#include <string.h>

#include "checked.h"
#include "dtype.h"

void view_whole(strand_plugin_tensor *v, const graph_tensor *t, int64_t batch, int64_t length) {
    memset(v, 0, sizeof *v);
    v->dtype = t->shape.dtype;
    v->rank = (uint32_t)t->shape.rank;
    int64_t stride = 1;
    for (int i = t->shape.rank; i-- > 0;) {
        v->dims[i] = v->whole[i] = dim_extent(t->shape.dims[i], batch, length);
        v->strides[i] = stride;
        stride = (int64_t)((uint64_t)stride * (uint64_t)v->dims[i]); /* may wrap: view_bytes refuses such a tensor */
    }
    if (t->constant) v->flags |= STRAND_TENSOR_CONSTANT;
}

void view_cut(strand_plugin_tensor *v, int axis, int64_t begin, int64_t end) {
    v->origin[axis] += begin;
    v->dims[axis] = end - begin;
    dtype_block b = dtype_block_of((strand_dtype)v->dtype);
    uint64_t skip = (uint64_t)(begin * v->strides[axis] / b.elements) * b.bytes;
    if (v->memory.data) v->memory.data = (unsigned char *)v->memory.data + skip;
    v->memory.offset += v->memory.buffer ? skip : 0;
    if (v->memory.bytes != UINT64_MAX) v->memory.bytes -= skip < v->memory.bytes ? skip : v->memory.bytes;
}

bool view_bytes(const strand_plugin_tensor *v, uint64_t *bytes) {
    uint64_t n = 1;
    for (uint32_t i = 0; i < v->rank; i++)
        if (v->dims[i] < 0 || !checked_mul(n, (uint64_t)v->dims[i], &n)) return false;
    return dtype_bytes((strand_dtype)v->dtype, n, bytes) && n < (uint64_t)INT64_MAX && *bytes < (uint64_t)INT64_MAX;
}

/* The interval of an extent that a tile at its widest has: a tile and its halos, not more than everything. */
static void cut_to_tile(strand_plugin_tensor *v, int axis, int64_t tile, int64_t left, int64_t right) {
    int64_t n = tile + left + right;
    if (axis < 0 || n >= v->dims[axis]) return;
    v->dims[axis] = n;
    int64_t stride = 1;
    for (uint32_t i = v->rank; i-- > 0; stride *= v->dims[i]) v->strides[i] = stride;
}

void node_at_maximum(const placement *p, uint32_t index, int64_t tile, strand_plugin_node *out, strand_plugin_tensor *views) {
    const graph_node *n = &p->graph->nodes[index];
    const placed_node *at = &p->nodes[index];
    bool cut = tile > 0 && at->region != NONE;
    for (uint32_t i = 0; i < n->n_inputs; i++) {
        if (!n->inputs[i]) {
            memset(&views[i], 0, sizeof views[i]);
            continue;
        }
        view_whole(&views[i], &p->graph->tensors[n->inputs[i]], p->batch, p->length);
        views[i].id = n->inputs[i];
        if (cut && at->rules[i].axis >= 0)
            cut_to_tile(&views[i], at->rules[i].axis, tile, at->left + at->rules[i].left, at->right + at->rules[i].right);
    }
    view_whole(&views[n->n_inputs], &p->graph->tensors[n->output], p->batch, p->length);
    views[n->n_inputs].id = n->output;
    if (cut) cut_to_tile(&views[n->n_inputs], at->axis, tile, at->left, at->right);
    tensor_id second = used_second(p, index);
    if (second) view_whole(&views[n->n_inputs + 1], &p->graph->tensors[second], p->batch, p->length);
    if (second) views[n->n_inputs + 1].id = second;
    *out = (strand_plugin_node){.op = n->op->id,
                                .version = n->op->version,
                                .n_inputs = n->n_inputs,
                                .n_outputs = second ? 2 : 1,
                                .inputs = views,
                                .outputs = &views[n->n_inputs],
                                .params = n->params,
                                .name = n->name};
}

/* Is `name` one of the comma list? */
static bool listed(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *at = list; *at;) {
        size_t k = strcspn(at, ",");
        if (k == n && !memcmp(at, name, n)) return true;
        at += k + (at[k] == ',');
    }
    return false;
}

static strand_status mark_wanted(placement *p, const char *outputs, error *e) {
    const graph *g = p->graph;
    uint32_t found = 0;
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        if (outputs ? !listed(outputs, g->outputs[i].name) : g->outputs[i].on_request) continue;
        p->wanted[g->outputs[i].tensor] = WANTED_ASKED;
        found++;
    }
    for (const char *at = outputs; at && *at;) {
        size_t k = strcspn(at, ",");
        bool known = false;
        for (uint32_t i = 0; i < g->n_outputs && !known; i++)
            known = strlen(g->outputs[i].name) == k && !memcmp(g->outputs[i].name, at, k);
        if (!known) return error_set(e, STRAND_ERR_ARGUMENT, "the model has no output '%.*s'", (int)(k < 64 ? k : 64), at);
        at += k + (at[k] == ',');
    }
    return found ? STRAND_OK : error_set(e, STRAND_ERR_ARGUMENT, "no output was asked for");
}

/* Nodes are in topological order, so one pass from the end marks all that the wanted outputs need. */
static void mark_live(placement *p) {
    const graph *g = p->graph;
    for (uint32_t t = 1; t < g->n_tensors; t++) /* what a state becomes is made whatever else is asked for */
        if (g->tensors[t].kind == TENSOR_STATE) p->wanted[g->tensors[t].next] |= WANTED_NEXT;
    for (uint32_t t = 1; t < g->n_tensors; t++) p->uses[t] = p->wanted[t] != 0;
    for (uint32_t i = g->n_nodes; i-- > 0;) {
        const graph_node *n = &g->nodes[i];
        p->nodes[i].live = p->uses[n->output] > 0 || used_second(p, i);
        p->nodes[i].region = NONE;
        for (uint32_t k = 0; p->nodes[i].live && k < n->n_inputs; k++)
            if (n->inputs[k]) p->uses[n->inputs[k]]++;
    }
}

static strand_status add_device(placement *p, registry_device *d, error *e) {
    for (uint32_t i = 0; i < p->n_devices; i++)
        if (p->devices[i] == d) return STRAND_OK;
    if (p->n_devices == SCHEDULE_MAX_DEVICES)
        return error_set(e, STRAND_ERR_ARGUMENT, "at most %d backends can be used together", SCHEDULE_MAX_DEVICES);
    p->space[p->n_devices] = d->info.flags & STRAND_DEVICE_HOST_MEMORY ? 0 : p->n_spaces++;
    if (p->space[p->n_devices] && REGISTRY_HAS(d, buffer_limit))
        p->page[p->space[p->n_devices]] = d->plugin->table.api->buffer_limit(d->device) / 4096 * 4096;
    p->devices[p->n_devices++] = d;
    return STRAND_OK;
}

static strand_status no_backend(const registry *r, const char *name, size_t length, error *e) {
    const char *why = registry_refused(r, name, length);
    int shown = (int)(length < 64 ? length : 64);
    if (why)
        return error_set(e, STRAND_ERR_ARGUMENT,
                         "there is no backend '%.*s': the plugin was refused: %.300s; see 'strand backends'", shown, name, why);
    return error_set(e, STRAND_ERR_ARGUMENT, "there is no backend '%.*s'; see 'strand backends'", shown, name);
}

/* The caller's order; without one, devices of their own memory by score and then the CPU, which is last in any case. */
static strand_status choose_devices(placement *p, const char *backends, error *e) {
    registry *r = &p->context->registry;
    p->n_spaces = 1;
    if (backends)
        for (const char *at = backends; *at;) {
            size_t k = strcspn(at, ",");
            registry_device *d = k ? registry_find(r, at, k) : NULL;
            if (!d) return no_backend(r, at, k, e);
            if (add_device(p, d, e)) return e->status;
            at += k + (at[k] == ',');
        }
    for (int32_t score = INT32_MAX; !backends && score > 0;) { /* next lower score each time round */
        int32_t next = 0;
        for (int32_t i = 0; i < r->n_devices; i++) {
            registry_device *d = &r->devices[i];
            if (d->info.flags & (STRAND_DEVICE_HOST_MEMORY | STRAND_DEVICE_SOFTWARE)) continue;
            if (d->plugin->score == score && add_device(p, d, e)) return e->status;
            if (d->plugin->score < score && d->plugin->score > next) next = d->plugin->score;
        }
        score = next;
    }
    registry_device *cpu = registry_find(r, "cpu", 3);
    if (cpu && add_device(p, cpu, e)) return e->status;
    return p->n_devices ? STRAND_OK
                        : error_set(e, STRAND_ERR_BACKEND,
                                    "no backend 'cpu' is loaded; 'strand backends' says which plugins were refused and why");
}

static strand_status place_node(placement *p, arena *a, uint32_t index, error *e) {
    strand_plugin_node node;
    strand_plugin_tensor views[NODE_VIEWS];
    char why[160], reasons[400] = "";
    node_at_maximum(p, index, 0, &node, views);
    for (uint32_t i = 0; i < node.n_inputs + node.n_outputs; i++) {
        uint64_t bytes;
        if (!view_bytes(&views[i], &bytes))
            return error_set(e, STRAND_ERR_LIMIT, "node '%s': a tensor of this length does not fit 63 bits", node.name);
    }
    for (uint32_t d = 0; d < p->n_devices; d++) {
        registry_device *device = p->devices[d];
        why[0] = 0;
        if (!registry_knows(device, node.op, node.version))
            snprintf(why, sizeof why, "does not know %s", p->graph->nodes[index].op->name);
        else if (!device->plugin->table.api->supports(device->device, &node, why, sizeof why)) {
            p->nodes[index].device = d;
            p->nodes[index].why = reasons[0] ? arena_string(a, reasons, strlen(reasons)) : "";
            return p->nodes[index].why ? STRAND_OK : error_set(e, STRAND_ERR_MEMORY, "out of memory while planning");
        }
        size_t used = strlen(reasons);
        snprintf(reasons + used, sizeof reasons - used, "%s%.40s: %.140s", used ? "; " : "", device->name,
                 why[0] ? why : "not supported");
    }
    return error_set(e, STRAND_ERR_UNSUPPORTED, "node '%s' (%s) is supported by no backend: %s", node.name,
                     p->graph->nodes[index].op->name, reasons);
}

strand_status placement_make(placement *p, arena *a, strand_context *c, const graph *g, int64_t batch, int64_t length,
                             const char *backends, const char *outputs, error *e) {
    *p = (placement){.graph = g, .context = c, .batch = batch, .length = length};
    p->nodes = ARENA_ARRAY(a, placed_node, g->n_nodes + 1);
    p->uses = ARENA_ARRAY(a, uint32_t, g->n_tensors);
    p->wanted = ARENA_ARRAY(a, uint8_t, g->n_tensors);
    if (!p->nodes || !p->uses || !p->wanted) return error_set(e, STRAND_ERR_MEMORY, "out of memory while planning");
    if (mark_wanted(p, outputs, e) || choose_devices(p, backends, e)) return e->status;
    mark_live(p);
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (p->nodes[i].live && place_node(p, a, i, e)) return e->status;
    return regions_make(p, a, e);
}
