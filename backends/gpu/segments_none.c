/* segments_none.c - for drivers that do not record: no segment is ever made, and the host launches node by node. */
#include "driver.h"

strand_plugin_status driver_segment_create(strand_plugin_device *device, strand_plugin_segment **segment) {
    (void)device, (void)segment;
    return STRAND_PLUGIN_ERR_UNSUPPORTED;
}

strand_plugin_status driver_segment_dispatch(strand_plugin_device *device, strand_plugin_segment *segment,
                                             const gpu_dispatch *dispatch) {
    (void)device, (void)segment, (void)dispatch;
    return STRAND_PLUGIN_ERR_UNSUPPORTED;
}

strand_plugin_status driver_segment_run(strand_plugin_device *device, strand_plugin_segment *segment) {
    (void)device, (void)segment;
    return STRAND_PLUGIN_ERR_UNSUPPORTED;
}

void driver_segment_destroy(strand_plugin_device *device, strand_plugin_segment *segment) {
    (void)device, (void)segment;
}
