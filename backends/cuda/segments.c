/* segments.c - recorded launches as CUDA graphs: a chain of kernels, instantiated before its first run and then launched
 * with one call. What a library does is captured on a stream of its own and becomes one link of the chain. One that could not
 * be completed or made ready has run nothing and never will: the host is told so and launches node by node. */
#include "driver_cuda.h"

#include <string.h>

struct strand_plugin_segment {
    CUgraph graph;      /* until it is instantiated */
    CUgraphExec ready;
    CUgraphNode last;   /* every link waits for the one before it */
    uint32_t links;
    cuda_steps *steps;  /* nodes that wait for others */
    bool broken;        /* links are missing, or it cannot be made ready */
};

strand_plugin_status driver_segment_create(strand_plugin_device *device, strand_plugin_segment **segment) {
    cuda_device *d = cuda_of(device);
    strand_plugin_status status = cuda_current(d);
    if (status) return status;
    strand_plugin_segment *s = device->host->alloc(device->host->context, sizeof *s, 64);
    if (!s) return STRAND_PLUGIN_ERR_MEMORY;
    memset(s, 0, sizeof *s);
    status = cuda_check(device->host, cuGraphCreate(&s->graph, 0), "making a graph");
    if (status)
        device->host->free(device->host->context, s, sizeof *s);
    else
        *segment = s;
    return status;
}

cuda_steps **cuda_segment_steps(strand_plugin_segment *s) {
    return &s->steps;
}

static const CUgraphNode *before(const strand_plugin_segment *s) {
    return s->links ? &s->last : NULL;
}

static strand_plugin_status added(cuda_device *d, strand_plugin_segment *s, CUgraphNode node, CUresult e, const char *name) {
    if (e == CUDA_SUCCESS) {
        s->last = node;
        s->links++;
    }
    return cuda_check(d->base.host, e, name);
}

strand_plugin_status cuda_segment_launch(cuda_device *d, strand_plugin_segment *s, CUfunction function,
                                         const uint32_t groups[3], uint32_t group, uint32_t shared, void **arguments,
                                         const char *name) {
    const CUDA_KERNEL_NODE_PARAMS p = {.func = function, .gridDimX = groups[0], .gridDimY = groups[1], .gridDimZ = groups[2],
                                       .blockDimX = group, .blockDimY = 1, .blockDimZ = 1, .sharedMemBytes = shared,
                                       .kernelParams = arguments};
    CUgraphNode node = NULL;
    if (!s->graph) return gpu_fail(d->base.host, STRAND_PLUGIN_ERR_ARGUMENT, "%s: this segment has run", name);
    CUresult e = cuGraphAddKernelNode(&node, s->graph, before(s), s->links ? 1 : 0, &p);
    return added(d, s, node, e, name);
}

strand_plugin_status cuda_capture_begin(cuda_device *d) {
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (!d->side) status = cuda_check(d->base.host, cuStreamCreate(&d->side, CU_STREAM_NON_BLOCKING), "making a stream");
    return status ? status
                  : cuda_check(d->base.host, cuStreamBeginCapture(d->side, CU_STREAM_CAPTURE_MODE_RELAXED), "recording");
}

strand_plugin_status cuda_capture_end(cuda_device *d, strand_plugin_segment *s, bool keep) {
    CUgraph part = NULL;
    CUgraphNode node = NULL;
    strand_plugin_status status = cuda_check(d->base.host, cuStreamEndCapture(d->side, &part), "recording");
    if (!status && keep) {
        CUresult e = cuGraphAddChildGraphNode(&node, s->graph, before(s), s->links ? 1 : 0, part);
        status = added(d, s, node, e, "recording");
    }
    if (part) cuGraphDestroy(part);
    return status;
}

/* The last links, and the graph made ready to run. */
static strand_plugin_status complete(cuda_device *d, strand_plugin_segment *s) {
    strand_plugin_status status = cuda_current(d);
    if (!status && s->steps) {
        d->base.segment = s;
        status = cuda_steps_end(d);
        d->base.segment = NULL;
    }
    if (status || !s->links) return status;
    status = cuda_check(d->base.host, cuGraphInstantiate(&s->ready, s->graph, 0), "making a graph ready");
    if (status) return status;
    cuda_steps_free(d, s->steps);
    s->steps = NULL;
    cuGraphDestroy(s->graph);
    s->graph = NULL;
    return status;
}

strand_plugin_status driver_segment_run(strand_plugin_device *device, strand_plugin_segment *s) {
    cuda_device *d = cuda_of(device);
    const bool first = !s->ready;
    if (s->broken) return gpu_fail(device->host, STRAND_PLUGIN_ERR_UNSUPPORTED, "these launches could not be recorded");
    if (first) s->broken = complete(d, s) != STRAND_PLUGIN_OK;
    if (s->broken) return STRAND_PLUGIN_ERR_UNSUPPORTED; /* with the text of what failed */
    if (!s->links) return STRAND_PLUGIN_OK;
    strand_plugin_status status = cuda_current(d);
    if (status) return status;
    CUresult e = cuGraphLaunch(s->ready, d->stream);
    status = cuda_check(device->host, e, "launching a graph");
    s->broken = first && e == CUDA_ERROR_OUT_OF_MEMORY; /* its first launch takes what it needs of the device */
    return s->broken ? STRAND_PLUGIN_ERR_UNSUPPORTED : status;
}

/* A graph that is still running is freed when it has ended. */
void driver_segment_destroy(strand_plugin_device *device, strand_plugin_segment *s) {
    cuda_device *d = cuda_of(device);
    if (!cuda_current(d)) {
        if (s->ready) cuGraphExecDestroy(s->ready);
        if (s->graph) cuGraphDestroy(s->graph);
    }
    cuda_steps_free(d, s->steps);
    device->host->free(device->host->context, s, sizeof *s);
}
