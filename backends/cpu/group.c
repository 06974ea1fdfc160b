/* group.c - nodes that the plugin runs as one launch, so that what lies between them never leaves the cache:
 *
 *   a matrix product and the element-wise nodes after it, tile by tile;
 *   [matmul, matmul, add], the residual MLP, a block of rows at a time: the hidden rows are never stored whole.
 *
 * Groups are recognised by shapes alone, since a tensor's id may be untold (0). The host promises that no result but the
 * last is used outside; a group is claimed only where that promise leaves one reading: every node has exactly one input that
 * could be the result before it (an extent that differs rules an input out). While launching, an input without memory is
 * that result. Every node is computed by the rows and blocks that compute it alone, so the bytes are those of the nodes one
 * by one. */
#include "kernels.h"
#include "matmul.h"
#include "quant.h"
#include "rows.h"

#include <string.h>

#define CHAIN_HEIGHT 144 /* rows of a tile of a chain; whole panels of every variant */
#define MLP_HEIGHT   144
#define MOST_NODES   8

/* ---- recognising ---- */

/* Could they be one tensor? Whole extents decide: views of one tensor may be cut differently. */
static bool same_shape(const strand_plugin_tensor *a, const strand_plugin_tensor *b) {
    if (a->dtype != b->dtype || a->rank != b->rank) return false;
    for (uint32_t i = 0; i < a->rank; i++)
        if (a->whole[i] != b->whole[i]) return false;
    return true;
}

/* How many inputs of `node` could be the result `t`? */
static uint32_t takers(const strand_plugin_node *node, const strand_plugin_tensor *t) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < node->n_inputs; i++) n += cpu_input(node, i) && same_shape(&node->inputs[i], t);
    return n;
}

static bool element_wise(const strand_plugin_node *node) {
    return node->op == STRAND_OP_UNARY || node->op == STRAND_OP_BINARY || node->op == STRAND_OP_DECAY_WINDOW;
}

/* A product of plain types: those with quantised weights round their rows first, and stay alone. */
static bool plain_product(const strand_plugin_node *node) {
    return node->op == STRAND_OP_MATMUL && !cpu_is_quantised(node->inputs[1].dtype);
}

/* Matmuls whose first factor has the result's batch axes, and whose rows therefore follow the result's. */
static bool by_rows(const strand_plugin_node *node) {
    const strand_op_matmul *p = node->params;
    return plain_product(node) && !p->transpose_a && node->inputs[0].rank == node->outputs[0].rank &&
           node->inputs[1].rank == 2 && node->inputs[0].dtype == STRAND_PLUGIN_F32;
}

/* [matmul, matmul, add]: the inner extent must differ from the outer one, else the hidden tensor could be what is added. */
static bool is_mlp(const strand_plugin_node *nodes, uint32_t n) {
    if (n < 3 || !by_rows(&nodes[0]) || !by_rows(&nodes[1]) || nodes[2].op != STRAND_OP_BINARY) return false;
    const strand_plugin_tensor *hidden = &nodes[0].outputs[0], *out = &nodes[1].outputs[0];
    if (same_shape(hidden, out) || takers(&nodes[1], hidden) != 1 || !same_shape(&nodes[1].inputs[0], hidden)) return false;
    return same_shape(&nodes[2].outputs[0], out) && takers(&nodes[2], out) > 0 && takers(&nodes[2], hidden) == 0 &&
           same_shape(&nodes[2].inputs[0], &nodes[2].inputs[1]);
}

/* The length of the chain [matmul, element-wise...] that begins at nodes[0]. */
static uint32_t chain_length(const strand_plugin_node *nodes, uint32_t n, const uint8_t *needed) {
    if (!plain_product(&nodes[0])) return 0;
    uint32_t length = 1;
    while (length < n && length < MOST_NODES && !needed[length - 1] && element_wise(&nodes[length]) &&
           takers(&nodes[length], &nodes[0].outputs[0]) == 1 && same_shape(&nodes[length].outputs[0], &nodes[0].outputs[0])) {
        length++;
    }
    /* A sum of two tensors of the result's shape is unmistakable only directly after the product. */
    if (length == 1 && n > 1 && !needed[0] && nodes[1].op == STRAND_OP_BINARY && takers(&nodes[1], &nodes[0].outputs[0]) == 2)
        length = 2;
    return length;
}

static uint32_t group_claim(const strand_plugin_node *nodes, uint32_t n, const uint8_t *needed) {
    if (n >= 3 && !needed[0] && !needed[1] && is_mlp(nodes, n)) return 3;
    uint32_t length = n > 1 ? chain_length(nodes, n, needed) : 0;
    return length > 1 ? length : 0;
}

static bool launched_as_mlp(const strand_plugin_node *nodes, uint32_t n) {
    return n == 3 && nodes[1].op == STRAND_OP_MATMUL;
}

/* Are these operators in the order of one of the groups? */
static bool known_order(const strand_plugin_node *nodes, uint32_t n) {
    if (n < 2 || n > MOST_NODES || !plain_product(&nodes[0])) return false;
    if (launched_as_mlp(nodes, n)) return plain_product(&nodes[1]) && nodes[2].op == STRAND_OP_BINARY;
    for (uint32_t i = 1; i < n; i++)
        if (!element_wise(&nodes[i])) return false;
    return true;
}

/* ---- the element-wise nodes of a group, on one row of the result ---- */

/* One input: NULL where it is the row at hand. */
typedef struct row_input {
    cpu_operand at;
    bool inside;
} row_input;

typedef struct element_node {
    const strand_plugin_node *node;
    row_input inputs[2];
    const float *rate; /* DECAY_WINDOW */
    int64_t rate_stride;
} element_node;

static void place_element(element_node *e, const strand_plugin_node *node) {
    const strand_plugin_tensor *out = &node->outputs[0];
    *e = (element_node){.node = node};
    for (uint32_t i = 0; i < node->n_inputs && i < 2; i++) {
        const strand_plugin_tensor *in = &node->inputs[i];
        e->inputs[i].inside = !in->memory.data;
        if (node->op == STRAND_OP_DECAY_WINDOW && i == 1) {
            e->rate_stride = in->strides[0];
            e->rate = cpu_f32(in) + cpu_lead(in, 0, out, 0) * in->strides[0];
        } else {
            cpu_place(out, in, node->op == STRAND_OP_BINARY, &e->inputs[i].at);
        }
    }
}

static const float *input_row(const row_input *in, const int64_t *dims, int64_t row, int64_t column, const float *here) {
    if (in->inside) return here;
    return (const float *)(const void *)cpu_row(&in->at, dims, row) + (in->at.strides[STRAND_PLUGIN_RANK - 1] ? column : 0);
}

static int64_t input_step(const row_input *in) {
    return in->inside || in->at.strides[STRAND_PLUGIN_RANK - 1] != 0;
}

/* y = the node applied to `here`, columns [column, column + n) of a row; y may be `here`. */
static void element_row(const element_node *e, float *y, const float *here, const int64_t *dims, int64_t row, int64_t column,
                        int64_t n) {
    const float *a = input_row(&e->inputs[0], dims, row, column, here);
    if (e->node->op == STRAND_OP_UNARY) {
        const strand_op_unary *p = e->node->params;
        cpu_unary_row(p->kind, p->alpha, p->beta, y, a, n);
    } else if (e->node->op == STRAND_OP_DECAY_WINDOW) {
        float rate = e->rate[row % dims[2] * e->rate_stride];
        cpu_decay_row(e->node->params, y, a, rate, e->node->outputs[0].origin[1] + column, n);
    } else {
        const float *b = input_row(&e->inputs[1], dims, row, column, here);
        cpu_binary_rows(e->node->params, y, a, input_step(&e->inputs[0]), b, input_step(&e->inputs[1]), n);
    }
}

/* ---- weights that are packed once for all rows ---- */

#define WORTH_ROWS (3 * 144) /* with fewer rows every block may as well pack for itself */

/* Pieces of work that pack the second factor; 0: it is not packed. */
static int64_t packs(const strand_plugin_node *node, const cpu_product *p) {
    const strand_plugin_tensor *out = &node->outputs[0];
    int64_t rows = out->dims[out->rank - 2];
    for (uint32_t i = 0; i + 2 < out->rank; i++) rows *= out->dims[i];
    return node->inputs[1].rank == 2 && rows >= WORTH_ROWS ? cpu_product_pack_pieces(p) : 0;
}

static int64_t packed_floats(const strand_plugin_node *node, const cpu_product *p) {
    return packs(node, p) ? (cpu_product_pack_floats(p) + 15) / 16 * 16 : 0;
}

typedef struct pack_job {
    const cpu_product *p;
    float *to;
} pack_job;

static void pack_body(void *arg, int64_t i, int32_t worker) {
    const pack_job *j = arg;
    (void)worker;
    cpu_product_pack(j->p, i, j->to);
}

/* Packs where that pays, and says so in p; returns the memory behind. */
static float *pack_weights(const cpu_device *device, const strand_plugin_node *node, cpu_product *p, float *memory) {
    int64_t pieces = packs(node, p);
    if (!pieces) return memory;
    p->b.data = cpu_product_shared(node);
    cpu_parallel(device, pieces, pack_body, &(pack_job){p, memory});
    p->packed = memory;
    return memory + packed_floats(node, p);
}

/* ---- chains ---- */

typedef struct chain_job {
    const strand_plugin_node *nodes;
    uint32_t n;
    element_node elements[MOST_NODES];
    cpu_product product;
    cpu_product_cut cut;
    cpu_operand out;
    int64_t dims[STRAND_PLUGIN_RANK];
    float *scratch;
    int64_t each, tile;
} chain_job;

static void chain_body(void *arg, int64_t i, int32_t worker) {
    const chain_job *j = arg;
    cpu_product p = j->product;
    int64_t entry = i / (j->cut.down * j->cut.across), column = i / j->cut.down % j->cut.across * j->cut.width;
    int64_t first = i % j->cut.down * j->cut.height;
    int64_t height = cpu_min(j->cut.height, p.m - first), width = cpu_min(j->cut.width, p.n - column);
    float *tile = j->scratch + worker * j->each;
    cpu_product_batch(&j->nodes[0], entry, &p);
    cpu_product_block(&p, first, height, column, width, tile, width, tile + j->tile);
    for (int64_t r = 0; r < height; r++) {
        int64_t row = entry * p.m + first + r;
        float *here = tile + r * width, *out = (float *)(void *)cpu_row(&j->out, j->dims, row) + column;
        for (uint32_t k = 1; k < j->n; k++) {
            element_row(&j->elements[k - 1], k + 1 == j->n ? out : here, here, j->dims, row, column, width);
        }
    }
}

static void chain_sizes(const cpu_device *device, chain_job *j, const strand_plugin_node *nodes) {
    cpu_product_of(device, &nodes[0], &j->product);
    cpu_product_join(&nodes[0], &j->product);
    int64_t height = cpu_min(CHAIN_HEIGHT, cpu_product_rows(&j->product));
    j->tile = (height * cpu_min(CPU_PRODUCT_WIDTH, j->product.n) + 15) / 16 * 16;
    j->each = j->tile + cpu_product_scratch(height, j->product.n, j->product.k);
}

static strand_plugin_status chain_run(const cpu_device *device, const strand_plugin_node *nodes, uint32_t n, void *scratch) {
    const strand_plugin_tensor *out = &nodes[n - 1].outputs[0];
    chain_job j = {.nodes = nodes, .n = n, .scratch = scratch};
    chain_sizes(device, &j, nodes);
    for (uint32_t k = 1; k < n; k++) place_element(&j.elements[k - 1], &nodes[k]);
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    j.scratch = pack_weights(device, &nodes[0], &j.product, scratch);
    j.cut = cpu_product_pieces(&j.product, CHAIN_HEIGHT, cpu_workers(device));
    cpu_parallel(device, j.cut.count, chain_body, &j);
    return STRAND_PLUGIN_OK;
}

/* ---- the residual MLP ---- */

typedef struct mlp_job {
    const strand_plugin_node *nodes;
    element_node add;
    cpu_product first, second;
    cpu_product_cut cut; /* of the columns of one product, where there are fewer blocks of rows than workers */
    cpu_operand out;
    int64_t dims[STRAND_PLUGIN_RANK], down;
    float *scratch;
    int64_t each, hidden, result;
} mlp_job;

static void mlp_body(void *arg, int64_t i, int32_t worker) {
    const mlp_job *j = arg;
    int64_t entry = i / j->down, first = i % j->down * MLP_HEIGHT, height = cpu_min(MLP_HEIGHT, j->first.m - first);
    float *hidden = j->scratch + worker * j->each, *result = hidden + j->hidden, *packs = result + j->result;
    cpu_product a = j->first, b = j->second;
    cpu_product_batch(&j->nodes[0], entry, &a);
    b.b.data = cpu_product_shared(&j->nodes[1]);
    cpu_product_block(&a, first, height, 0, a.n, hidden, a.n, packs);
    b.a = (cpu_factor){.data = (const char *)hidden, .dtype = STRAND_PLUGIN_F32, .outer = a.n, .inner = 1};
    if (b.bias && b.bias_kind == STRAND_BIAS_ROWS) b.bias += first * b.bias_stride;
    cpu_product_block(&b, 0, height, 0, b.n, result, b.n, packs);
    for (int64_t r = 0; r < height; r++) {
        int64_t row = entry * j->first.m + first + r;
        element_row(&j->add, (float *)(void *)cpu_row(&j->out, j->dims, row), result + r * b.n, j->dims, row, 0, b.n);
    }
}

/* Of few rows each product is shared among the workers column by column: first the hidden rows, which all of them read then and
 * which stand where the first worker's would. */
static void mlp_hidden_columns(void *arg, int64_t i, int32_t worker) {
    const mlp_job *j = arg;
    int64_t column = i * j->cut.width, width = cpu_min(j->cut.width, j->first.n - column);
    float *packs = j->scratch + worker * j->each + j->hidden + j->result;
    cpu_product_block(&j->first, 0, j->first.m, column, width, j->scratch + column, j->first.n, packs);
}

static void mlp_result_columns(void *arg, int64_t i, int32_t worker) {
    const mlp_job *j = arg;
    int64_t column = i * j->cut.width, width = cpu_min(j->cut.width, j->second.n - column);
    float *result = j->scratch + worker * j->each + j->hidden;
    cpu_product_block(&j->second, 0, j->second.m, column, width, result, width, result + j->result);
    for (int64_t r = 0; r < j->second.m; r++)
        element_row(&j->add, (float *)(void *)cpu_row(&j->out, j->dims, r) + column, result + r * width, j->dims, r, column,
                    width);
}

static void mlp_few_rows(const cpu_device *device, mlp_job *j) {
    int32_t workers = cpu_workers(device);
    cpu_product_batch(&j->nodes[0], 0, &j->first);
    j->second.b.data = cpu_product_shared(&j->nodes[1]);
    j->second.a = (cpu_factor){.data = (const char *)j->scratch, .dtype = STRAND_PLUGIN_F32, .outer = j->first.n, .inner = 1};
    j->cut = cpu_product_pieces(&j->first, MLP_HEIGHT, workers);
    cpu_parallel(device, j->cut.across, mlp_hidden_columns, j);
    j->cut = cpu_product_pieces(&j->second, MLP_HEIGHT, workers);
    cpu_parallel(device, j->cut.across, mlp_result_columns, j);
}

static void mlp_sizes(const cpu_device *device, mlp_job *j, const strand_plugin_node *nodes) {
    cpu_product_of(device, &nodes[0], &j->first);
    cpu_product_of(device, &nodes[1], &j->second);
    cpu_product first = j->first, second = j->second;
    /* both or none: they share rows */
    if (cpu_product_join(&nodes[0], &first) && cpu_product_join(&nodes[1], &second)) j->first = first, j->second = second;
    int64_t height = cpu_min(MLP_HEIGHT, cpu_product_rows(&j->first));
    j->hidden = (height * j->first.n + 15) / 16 * 16;
    j->result = (height * j->second.n + 15) / 16 * 16;
    j->each =
        j->hidden + j->result +
        cpu_max(cpu_product_scratch(height, j->first.n, j->first.k), cpu_product_scratch(height, j->second.n, j->second.k));
}

static strand_plugin_status mlp_run(const cpu_device *device, const strand_plugin_node *nodes, void *scratch) {
    const strand_plugin_tensor *out = &nodes[2].outputs[0];
    mlp_job j = {.nodes = nodes, .scratch = scratch};
    mlp_sizes(device, &j, nodes);
    place_element(&j.add, &nodes[2]);
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    j.scratch = pack_weights(device, &nodes[0], &j.first, scratch);
    j.scratch = pack_weights(device, &nodes[1], &j.second, j.scratch);
    j.down = (j.first.m + MLP_HEIGHT - 1) / MLP_HEIGHT;
    if (j.first.entries == 1 && j.down == 1 && cpu_workers(device) > 1)
        mlp_few_rows(device, &j);
    else
        cpu_parallel(device, j.first.entries * j.down, mlp_body, &j);
    return STRAND_PLUGIN_OK;
}

/* ---- the table of plugin.c ---- */

static uint64_t group_scratch(const cpu_device *device, const strand_plugin_node *nodes, uint32_t n) {
    int64_t each, shared;
    if (!known_order(nodes, n)) return 0;
    if (launched_as_mlp(nodes, n)) {
        mlp_job j = {.nodes = nodes};
        mlp_sizes(device, &j, nodes);
        each = j.each;
        shared = packed_floats(&nodes[0], &j.first) + packed_floats(&nodes[1], &j.second);
    } else {
        chain_job j = {.nodes = nodes};
        chain_sizes(device, &j, nodes);
        each = j.each;
        shared = packed_floats(&nodes[0], &j.product);
    }
    return ((uint64_t)each * (uint64_t)cpu_workers(device) + (uint64_t)shared) * sizeof(float);
}

/* Is this a group that group_claim could have taken, with memory where it must be? */
static bool runnable(const strand_plugin_node *nodes, uint32_t n) {
    char why[200];
    if (!known_order(nodes, n) || !nodes[n - 1].outputs[0].memory.data) return false;
    for (uint32_t i = 0; i < n; i++) {
        const strand_plugin_node *node = &nodes[i];
        bool ok = node->op == STRAND_OP_MATMUL   ? cpu_supports_matmul(node, why, sizeof why)
                  : node->op == STRAND_OP_UNARY  ? cpu_supports_unary(node, why, sizeof why)
                  : node->op == STRAND_OP_BINARY ? cpu_supports_binary(node, why, sizeof why)
                                                 : cpu_supports_decay_window(node, why, sizeof why);
        uint32_t inside = 0;
        for (uint32_t k = 0; k < node->n_inputs; k++) inside += cpu_input(node, k) && !node->inputs[k].memory.data;
        if (!ok || (i == 0 ? inside != 0 : inside == 0)) return false;
    }
    return true;
}

static strand_plugin_status group_run(const cpu_device *device, const strand_plugin_node *nodes, uint32_t n, void *scratch) {
    if (!runnable(nodes, n)) return cpu_fail(device, STRAND_PLUGIN_ERR_UNSUPPORTED, "this group was never claimed");
    return launched_as_mlp(nodes, n) ? mlp_run(device, nodes, scratch) : chain_run(device, nodes, n, scratch);
}

static const cpu_groups groups = {group_claim, group_scratch, group_run};
const cpu_groups *const cpu_grouping = &groups;
