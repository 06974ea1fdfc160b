/* segments.c - launches that a device records once and runs again. A session's memory never moves and its nodes never
 * change, so what a segment does is settled by the extents of the run: recordings are kept for the extents of the last few,
 * and made the second time that they come. What a device does not record, or cannot make ready, is launched node by node, with
 * the same bytes. */
#include "session.h"

static strand_plugin_segment **recording(const strand_session *s, uint32_t shape, uint32_t index) {
    return &s->segments[(size_t)shape * s->plan->schedule.n_segments + index];
}

static void forget(strand_session *s, uint32_t shape) {
    const schedule *sc = &s->plan->schedule;
    for (uint32_t i = 0; i < sc->n_segments; i++) {
        const registry_device *d = s->plan->place.devices[sc->steps[sc->segments[i].first].device];
        strand_plugin_segment **at = recording(s, shape, i);
        if (*at) d->plugin->table.api->segment_destroy(d->device, *at);
        *at = NULL;
    }
    s->shapes[shape] = (segment_shape){0};
}

void segments_forget(strand_session *s) {
    for (uint32_t i = 0; i < SEGMENT_SHAPES; i++) forget(s, i);
}

void segments_begin(strand_session *s) {
    uint32_t oldest = 0, i = 0;
    if (!s->plan->schedule.n_segments) return;
    while (i < SEGMENT_SHAPES && (s->shapes[i].batch != s->batch || s->shapes[i].length != s->length)) {
        if (s->shapes[i].last < s->shapes[oldest].last) oldest = i;
        i++;
    }
    if (i == SEGMENT_SHAPES) {
        forget(s, i = oldest);
        s->shapes[i] = (segment_shape){s->batch, s->length, 0, 0};
    }
    s->shape = i;
    s->shapes[i].last = ++s->runs;
    s->shapes[i].runs++;
}

/* From now on the session's launches are made one by one. Says nothing of why. */
static void give_up(strand_session *s) {
    char text[256];
    context_take_fail(s->plan->context, text, sizeof text);
    s->error = (error){0};
    s->unrecorded = true;
}

/* Records the segment. Nothing has run when that fails: the caller launches node by node, and a device that is truly in
 * trouble says so then. */
static strand_plugin_segment *record(strand_session *s, const schedule_segment *g) {
    const schedule *sc = &s->plan->schedule;
    const registry_device *d = s->plan->place.devices[sc->steps[g->first].device];
    const strand_plugin_api *api = d->plugin->table.api;
    strand_plugin_segment *made = NULL;
    bool good = !api->segment_create(d->device, &made) && made;
    for (uint32_t k = 0; k < g->n && good; k++) good = !execute_step(s, &sc->steps[g->first + k], made);
    if (good) return made;
    if (made) api->segment_destroy(d->device, made);
    give_up(s);
    return NULL;
}

strand_status segments_run(strand_session *s, uint32_t index, bool *ran) {
    const schedule_segment *g = &s->plan->schedule.segments[index];
    uint32_t device = s->plan->schedule.steps[g->first].device;
    const registry_device *d = s->plan->place.devices[device];
    strand_plugin_segment **at = recording(s, s->shape, index);
    *ran = false;
    if (s->trace || (!*at && (s->unrecorded || s->shapes[s->shape].runs < 2))) return STRAND_OK;
    if (!*at) *at = record(s, g);
    if (!*at) return STRAND_OK;
    *ran = true;
    s->busy |= 1u << device;
    strand_plugin_status status = d->plugin->table.api->segment_run(d->device, *at);
    if (status == STRAND_PLUGIN_ERR_UNSUPPORTED) { /* nothing of it has run */
        d->plugin->table.api->segment_destroy(d->device, *at);
        *at = NULL;
        *ran = false;
        give_up(s);
        return STRAND_OK;
    }
    return status ? execute_fail(s, d, status, "recorded launches") : STRAND_OK;
}
