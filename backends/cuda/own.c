/* own.c - what the CUDA driver does in its own way, before the common kernels are asked: large products by cuBLASLt
 * (blas.c), attention and products on tensor cores (tensor.c), long convolutions (long_conv.c) and SSD (ssd.c) there too;
 * selective scans and steps of recurrences (scans.c), groups of nodes (hyena.c, steps.c). */
#include "driver_cuda.h"

/* Products of a layer that may be one group have the group's bytes. Factors of unequal types: cuBLASLt would multiply copies
 * in F32, tensor cores multiply their halves. It must not depend on the rows: a plan asks for the working memory of the
 * longest run. */
static bool blas_first(const cuda_device *d, const strand_plugin_node *node) {
    const strand_op_matmul *p = node->params;
    if (cuda_hyena_product(node) && cuda_tensor_products(d, node)) return false;
    return p->precision == STRAND_PRECISION_BF16 || node->inputs[0].dtype == node->inputs[1].dtype ||
           !cuda_tensor_products(d, node);
}

bool cuda_blas_is_first(const cuda_device *d, const strand_plugin_node *node) {
    return blas_first(d, node) && cuda_blas_takes(d, node);
}

/* Recurrences with a matrix state that ssd.c does in chunks. */
static bool walks(const strand_plugin_node *node) {
    return node->op == STRAND_OP_SSD || node->op == STRAND_OP_GATED_LINEAR_ATTENTION || node->op == STRAND_OP_DELTA_RULE;
}

static uint64_t own_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    cuda_device *d = cuda_of(device);
    if (node->op == STRAND_OP_LONG_CONV) return cuda_long_conv_scratch(d, node);
    if (walks(node)) return cuda_ssd_scratch(d, node);
    if (node->op == STRAND_OP_MATMUL && blas_first(d, node)) return cuda_blas_scratch(d, node);
    return cuda_tensor_scratch(d, node);
}

static uint64_t own_prepare_size(strand_plugin_device *device, const strand_plugin_node *node) {
    return node->op == STRAND_OP_LONG_CONV ? cuda_long_conv_prepare_size(cuda_of(device), node) : 0;
}

static strand_plugin_status own_prepare(strand_plugin_device *device, const strand_plugin_node *node,
                                        const strand_plugin_memory *scratch) {
    return cuda_long_conv_prepare(cuda_of(device), node, scratch);
}

static strand_plugin_status own_run(strand_plugin_device *device, const strand_plugin_node *node,
                                    const strand_plugin_memory *scratch, bool *done) {
    cuda_device *d = cuda_of(device);
    strand_plugin_status status = cuda_steps_take(d, node, scratch, done);
    if (status || *done) return status;
    if (node->op == STRAND_OP_LONG_CONV) return cuda_long_conv_run(d, node, scratch, done);
    if (walks(node)) status = cuda_ssd_run(d, node, scratch, done);
    if (!status && !*done) status = cuda_scans_run(d, node, done);
    if (status || *done) return status;
    if (node->op == STRAND_OP_MATMUL && cuda_blas_is_first(d, node)) status = cuda_blas_run(d, node, scratch, done);
    return status || *done ? status : cuda_tensor_run(d, node, scratch, done);
}

static uint32_t own_claim(strand_plugin_device *device, const strand_plugin_node *nodes, uint32_t n, const uint8_t *needed) {
    return cuda_hyena_claim(cuda_of(device), nodes, n, needed);
}

static uint64_t own_group_scratch(strand_plugin_device *device, const strand_plugin_node *nodes, uint32_t n) {
    return cuda_hyena_scratch(cuda_of(device), nodes, n);
}

static strand_plugin_status own_group_run(strand_plugin_device *device, const strand_plugin_node *nodes, uint32_t n,
                                          const strand_plugin_memory *scratch) {
    strand_plugin_status status = cuda_steps_end(cuda_of(device));
    return status ? status : cuda_hyena_run(cuda_of(device), nodes, n, scratch);
}

const gpu_own cuda_own = {own_scratch, own_prepare_size, own_prepare, own_run, own_claim, own_group_scratch, own_group_run};
