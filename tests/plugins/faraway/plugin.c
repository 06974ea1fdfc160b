/* plugin.c - faraway's table, entry, settings and device. */
#include "faraway.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const call_names[FAR_CALLS] = {"open",    "device", "buffer", "upload", "download",
                                                  "prepare", "launch", "late",   "wait",   "copy",
                                                  "record",  "replay"};

strand_plugin_status far_fail(strand_plugin_device *d, strand_plugin_status status, const char *format, ...) {
    char text[FAR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    d->instance->host->fail(d->instance->host->context, text);
    return status;
}

static strand_plugin_status turn(strand_plugin_instance *x, far_call call) {
    if (x->lost) return STRAND_PLUGIN_ERR_DEVICE;
    if (++x->calls[call] != x->set.fail_at || call != x->set.fail_call) return STRAND_PLUGIN_OK;
    x->lost = x->set.lost_after;
    return x->set.fail_status;
}

strand_plugin_status far_turn(strand_plugin_device *d, far_call call) {
    bool was_lost = d->instance->lost;
    strand_plugin_status status = turn(d->instance, call);
    return status ? far_fail(d, status, was_lost ? "the device is lost" : "%s was told to fail", call_names[call]) : status;
}

/* ---- settings ---- */

static bool on(const char *name) {
    const char *text = getenv(name);
    return !text || strcmp(text, "0") != 0;
}

/* "launch:5:7:lost". Anything else is ignored: the tests that set it see that nothing failed. */
static void read_fail(far_settings *s, const char *text) {
    char kind[16], lost[8] = "";
    long at;
    int status;
    if (!text || sscanf(text, "%15[a-z]:%ld:%d:%7s", kind, &at, &status, lost) < 3) return;
    for (int i = 0; i < FAR_CALLS; i++)
        if (!strcmp(kind, call_names[i])) {
            s->fail_call = (far_call)i;
            s->fail_at = at;
            s->fail_status = status;
            s->lost_after = !strcmp(lost, "lost");
        }
}

static far_settings read_settings(void) {
    const char *queue = getenv("STRAND_FARAWAY_QUEUE"), *seed = getenv("STRAND_FARAWAY_SUBSET"),
               *delay = getenv("STRAND_FARAWAY_DELAY_US");
    far_settings s = {.thread = queue && !strcmp(queue, "thread"),
                      .prepare = on("STRAND_FARAWAY_PREPARE"),
                      .claim = on("STRAND_FARAWAY_CLAIM"),
                      .record = on("STRAND_FARAWAY_RECORD")};
    s.subset = seed && *seed;
    s.seed = s.subset ? strtoull(seed, NULL, 10) : 0;
    const char *buffer = getenv("STRAND_FARAWAY_BUFFER");
    s.buffer = buffer && *buffer ? strtoull(buffer, NULL, 10) : 0;
    s.delay_us = delay && *delay ? strtol(delay, NULL, 10) : 20;
    read_fail(&s, getenv("STRAND_FARAWAY_FAIL"));
    return s;
}

/* ---- instance and device ---- */

static strand_plugin_status instance_open(const strand_host *host, strand_plugin_instance **out) {
    strand_plugin_instance *x = host->alloc(host->context, sizeof *x, 16);
    if (!x) return STRAND_PLUGIN_ERR_MEMORY;
    *x = (strand_plugin_instance){.host = host, .set = read_settings()};
    strand_plugin_status status = turn(x, FAR_OPEN);
    if (status) {
        host->fail(host->context, "open was told to fail");
        host->free(host->context, x, sizeof *x);
        return status;
    }
    *out = x;
    return STRAND_PLUGIN_OK;
}

static void instance_close(strand_plugin_instance *x) {
    x->host->free(x->host->context, x, sizeof *x);
}

static uint32_t device_count(strand_plugin_instance *x) {
    (void)x;
    return 1;
}

static strand_plugin_status device_info(strand_plugin_instance *x, uint32_t index, strand_plugin_device_info *info) {
    (void)x;
    strand_plugin_device_info mine = {.flags = STRAND_DEVICE_ASYNC, .memory = (uint64_t)1 << 32, .alignment = FAR_ALIGNMENT};
    if (index != 0) return STRAND_PLUGIN_ERR_ARGUMENT;
    snprintf(mine.description, sizeof mine.description, "a device for tests: %s queue", x->set.thread ? "late" : "deferred");
    mine.size = info->size;
    memcpy(info, &mine, info->size < sizeof mine ? info->size : sizeof mine);
    return STRAND_PLUGIN_OK;
}

static strand_plugin_status device_open(strand_plugin_instance *x, uint32_t index, strand_plugin_device **out) {
    strand_plugin_status status = index ? STRAND_PLUGIN_ERR_ARGUMENT : turn(x, FAR_DEVICE);
    if (status) return status;
    strand_plugin_device *d = x->host->alloc(x->host->context, sizeof *d, 64);
    if (!d) return STRAND_PLUGIN_ERR_MEMORY;
    memset(d, 0, sizeof *d);
    d->instance = x;
    status = far_queue_open(d);
    if (status)
        x->host->free(x->host->context, d, sizeof *d);
    else
        *out = d;
    return status;
}

static void device_close(strand_plugin_device *d) {
    const strand_host *host = d->instance->host;
    if (d->segments) host->log(host->context, 0, "faraway: ABI violation: the device was closed before its segments");
    if (d->buffers) host->log(host->context, 0, "faraway: ABI violation: the device was closed before its buffers");
    while (d->buffers) far_buffer_destroy(d, (strand_plugin_buffer *)(void *)d->buffers->reserved);
    far_queue_close(d);
    pthread_mutex_destroy(&d->memory);
    host->free(host->context, d, sizeof *d);
}

/* ---- operators ---- */

static strand_plugin_status supports(strand_plugin_device *d, const strand_plugin_node *node, char *why, size_t why_bytes) {
    return far_supports(d, node, why, why_bytes) ? STRAND_PLUGIN_OK : STRAND_PLUGIN_ERR_UNSUPPORTED;
}

static size_t params_bytes(uint32_t op) {
    switch (op) {
    case STRAND_OP_MATMUL:
        return sizeof(strand_op_matmul);
    case STRAND_OP_LAYER_NORM:
        return sizeof(strand_op_layer_norm);
    case STRAND_OP_DECAY_WINDOW:
        return sizeof(strand_op_decay_window);
    default:
        return sizeof(uint32_t); /* UNARY, BINARY: kind; the convolutions: flags */
    }
}

/* Copies what the command needs of a description: the host may reuse it as soon as the call returns. */
static void keep_node(far_node *to, const strand_plugin_node *from) {
    to->node = *from;
    for (uint32_t i = 0; i < from->n_inputs; i++) to->inputs[i] = from->inputs[i];
    to->output = from->outputs[0];
    memcpy(to->params, from->params, params_bytes(from->op));
    snprintf(to->name, sizeof to->name, "%s", from->name);
    to->node.inputs = to->inputs;
    to->node.outputs = &to->output;
    to->node.params = to->params;
    to->node.name = to->name;
}

static far_command *node_command(strand_plugin_device *d, far_kind kind, const strand_plugin_node *nodes, uint32_t n,
                                 const strand_plugin_memory *scratch) {
    far_command *c = far_command_new(d, kind, n);
    for (uint32_t i = 0; c && i < n; i++) keep_node(&c->nodes[i], &nodes[i]);
    if (c && scratch) c->scratch = *scratch;
    return c;
}

static strand_plugin_status queue_nodes(strand_plugin_device *d, far_kind kind, const strand_plugin_node *nodes, uint32_t n,
                                        const strand_plugin_memory *scratch, bool fails) {
    far_command *c = node_command(d, kind, nodes, n, scratch);
    if (!c) return far_fail(d, STRAND_PLUGIN_ERR_MEMORY, "no memory for a command");
    c->fails = fails;
    far_push(d, c);
    return STRAND_PLUGIN_OK;
}

static strand_plugin_status prepare(strand_plugin_device *d, const strand_plugin_node *node,
                                    const strand_plugin_memory *scratch) {
    char why[FAR_TEXT];
    strand_plugin_status status = far_turn(d, FAR_PREPARE);
    if (status) return status;
    if (!far_check_prepare(d, node, scratch, why, sizeof why))
        return far_fail(d, STRAND_PLUGIN_ERR_ARGUMENT, "ABI violation: %s", why);
    return queue_nodes(d, FAR_MAKE, node, 1, scratch, false);
}

static strand_plugin_status launch(strand_plugin_device *d, const strand_plugin_node *nodes, uint32_t n,
                                   const strand_plugin_memory *scratch) {
    char why[FAR_TEXT];
    strand_plugin_status status = far_turn(d, FAR_LAUNCH);
    if (status) return status;
    if (!far_check_launch(d, nodes, n, scratch, why, sizeof why))
        return far_fail(d, STRAND_PLUGIN_ERR_ARGUMENT, "ABI violation: %s", why);
    return queue_nodes(d, FAR_RUN, nodes, n, scratch, turn(d->instance, FAR_LATE) != STRAND_PLUGIN_OK);
}

/* ---- segments ---- */

static strand_plugin_status segment_create(strand_plugin_device *d, strand_plugin_segment **out) {
    const strand_host *host = d->instance->host;
    if (!d->instance->set.record) return STRAND_PLUGIN_ERR_UNSUPPORTED;
    strand_plugin_status status = far_turn(d, FAR_RECORD);
    if (status) return status;
    strand_plugin_segment *s = host->alloc(host->context, sizeof *s, 16);
    if (!s) return far_fail(d, STRAND_PLUGIN_ERR_MEMORY, "no memory for a segment");
    *s = (strand_plugin_segment){0};
    d->segments++;
    *out = s;
    return STRAND_PLUGIN_OK;
}

static strand_plugin_status segment_launch(strand_plugin_device *d, strand_plugin_segment *s, const strand_plugin_node *nodes,
                                           uint32_t n, const strand_plugin_memory *scratch) {
    char why[FAR_TEXT];
    strand_plugin_status status = far_turn(d, FAR_RECORD);
    if (status) return status;
    if (s->closed) return far_fail(d, STRAND_PLUGIN_ERR_ARGUMENT, "ABI violation: a launch for a segment that has been run");
    if (!far_check_launch(d, nodes, n, scratch, why, sizeof why))
        return far_fail(d, STRAND_PLUGIN_ERR_ARGUMENT, "ABI violation: %s", why);
    far_command *c = node_command(d, FAR_RUN, nodes, n, scratch);
    if (!c) return far_fail(d, STRAND_PLUGIN_ERR_MEMORY, "no memory for a command");
    if (s->last)
        s->last->next = c;
    else
        s->first = c;
    s->last = c;
    return STRAND_PLUGIN_OK;
}

/* Are the nodes still what they were: does the memory that they name live? The host must have kept it. */
static strand_plugin_status segment_run(strand_plugin_device *d, strand_plugin_segment *s) {
    char why[FAR_TEXT];
    strand_plugin_status status = far_turn(d, FAR_REPLAY);
    s->closed = true;
    for (far_command *c = s->first; c && !status; c = c->next) {
        strand_plugin_node nodes[FAR_MAX_GROUP];
        for (uint32_t i = 0; i < c->n; i++) nodes[i] = c->nodes[i].node;
        if (!far_check_launch(d, nodes, c->n, &c->scratch, why, sizeof why))
            return far_fail(d, STRAND_PLUGIN_ERR_ARGUMENT, "ABI violation: %s", why);
        status = queue_nodes(d, FAR_RUN, nodes, c->n, &c->scratch, turn(d->instance, FAR_LATE) != STRAND_PLUGIN_OK);
    }
    return status;
}

static void segment_destroy(strand_plugin_device *d, strand_plugin_segment *s) {
    far_free_commands(d, s->first);
    d->segments--;
    d->instance->host->free(d->instance->host->context, s, sizeof *s);
}

static strand_plugin_status device_features(strand_plugin_instance *x, uint32_t index, char *text, size_t bytes) {
    if (index) return STRAND_PLUGIN_ERR_ARGUMENT;
    snprintf(text, bytes, "type=device for tests\nqueue=%s\nno value\n=no name\nodd text=a=b\tc\n",
             x->set.thread ? "late" : "deferred");
    return STRAND_PLUGIN_OK;
}

static uint64_t buffer_limit(strand_plugin_device *d) {
    return d->instance->set.buffer;
}

static const strand_plugin_api api = {
    .size = sizeof api,
    .open = instance_open,
    .close = instance_close,
    .device_count = device_count,
    .device_info = device_info,
    .device_open = device_open,
    .device_close = device_close,
    .buffer_create = far_buffer_create,
    .buffer_destroy = far_buffer_destroy,
    .upload = far_upload,
    .download = far_download,
    .submit = far_submit,
    .wait = far_wait,
    .supports = supports,
    .scratch_size = far_scratch_size,
    .prepare_size = far_prepare_size,
    .prepare = prepare,
    .launch = launch,
    .claim = far_claim,
    .device_features = device_features,
    .copy = far_copy,
    .segment_create = segment_create,
    .segment_launch = segment_launch,
    .segment_run = segment_run,
    .segment_destroy = segment_destroy,
    .buffer_limit = buffer_limit,
};

static int32_t score(const strand_host *host, char *why, size_t why_bytes) {
    (void)host;
    if (why_bytes) why[0] = 0;
    return 2;
}

/* GATHER, REDUCE, POSITIONS and CAST are never offered. */
static const strand_plugin_op ops[] = {{STRAND_OP_MATMUL, 1},      {STRAND_OP_LAYER_NORM, 1}, {STRAND_OP_UNARY, 1},
                                       {STRAND_OP_BINARY, 1},      {STRAND_OP_SHORT_CONV, 1}, {STRAND_OP_LONG_CONV, 1},
                                       {STRAND_OP_DECAY_WINDOW, 1}};

strand_plugin_status strand_plugin_entry(const strand_host *host, strand_plugin *plugin);

STRAND_PLUGIN_EXPORT strand_plugin_status strand_plugin_entry(const strand_host *host, strand_plugin *plugin) {
    (void)host;
    strand_plugin mine = {.magic = STRAND_PLUGIN_MAGIC,
                          .capacity = plugin->capacity,
                          .size = sizeof mine,
                          .abi_major = STRAND_PLUGIN_ABI_MAJOR,
                          .abi_minor = STRAND_PLUGIN_ABI_MINOR,
                          .layout_hash = strand_plugin_layout_hash(),
                          .layout = strand_plugin_layout(),
                          .n_layout = STRAND_PLUGIN_N_LAYOUT,
                          .n_ops = sizeof ops / sizeof ops[0],
                          .ops = ops,
                          .name = "faraway",
                          .version = "0.1.0",
                          .description = "a device for tests whose memory cannot be touched",
                          .score = score,
                          .api = &api};
    memcpy(plugin, &mine, plugin->capacity < sizeof mine ? plugin->capacity : sizeof mine);
    return STRAND_PLUGIN_OK;
}
