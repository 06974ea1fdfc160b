/* bench_products.c - times products with quantised weights, block-diagonal and grouped products, and TOP_K.
 *
 *   bench_products --plugin strand-cpu-x86-64-v4.so [--op PART] [--threads N] [--rounds N] [--json]
 *
 * Decoding (M = 1) is judged by the bytes of the packed weights, everything else by multiply-adds in F32, which integer dot
 * products may beat. */
#include "bench.h"

#define F32 STRAND_PLUGIN_F32

static const struct {
    const char *name;
    uint32_t dtype;
} types[] = {{"matmul Q8_0", STRAND_PLUGIN_Q8_0},
             {"matmul Q4_0", STRAND_PLUGIN_Q4_0},
             {"matmul Q4_K", STRAND_PLUGIN_Q4_K},
             {"matmul Q6_K", STRAND_PLUGIN_Q6_K}};

/* What one row of a product cannot be faster than: reading the same weights. */
typedef struct reading {
    int isa;
    const void *data;
    int64_t rows, bytes;
} reading;

static void read_weights(void *arg) {
    const reading *r = arg;
    bench_read_rows(r->isa, r->data, r->rows, r->bytes);
}

/* Where weights lie that are read from memory: for both in large pages, where the system gives them; for Strand in large pages,
 * as the commands that make texts hold them, and for peers in a mapped file, as they load them; for both in that file. */
enum { LARGE_PAGES, AS_LOADED, MAPPED };
static const char *const places[] = {"", ", as loaded", ", mapped"};

static void quantised(bench *b, int type, int64_t m, int64_t n, int64_t k, int place) {
    const strand_op_matmul params = {.transpose_b = 1};
    bench_case c;
    bench_begin(b, &c, types[type].name, STRAND_OP_MATMUL, &params, sizeof params, "M=%lld N=%lld K=%lld%s", (long long)m,
                (long long)n, (long long)k, places[place]);
    bench_input(&c, bench_random(b, F32, 2, (int64_t[]){m, k}, -1, 1));
    strand_plugin_tensor w = bench_random(b, types[type].dtype, 2, (int64_t[]){n, k}, -1, 1);
    strand_plugin_tensor mapped = place == LARGE_PAGES ? w : bench_mapped(b, w);
    c.peer_weights = mapped.memory.data;
    bench_input(&c, place == MAPPED ? mapped : w);
    bench_output(&c, bench_zeros(b, F32, 2, (int64_t[]){m, n}));
    c.flops = m > 1 ? 2.0 * (double)m * (double)n * (double)k : 0;
    reading r = {b->probes.isa, c.inputs[1].memory.data, n, (int64_t)bench_bytes(&c.inputs[1]) / n};
    if (m == 1 && b->threads == 1 && !b->device) c.floor = (bench_contestant){"reading", read_weights, &r, NULL};
    bench_run(b, &c);
}

static void block_diagonal(bench *b, int64_t rows, int64_t blocks, int64_t out, int64_t in, uint32_t flags) {
    const strand_op_block_diagonal params = {.flags = flags};
    bench_case c;
    bench_begin(b, &c, "block_diagonal", STRAND_OP_BLOCK_DIAGONAL, &params, sizeof params,
                "%lld rows, %lld blocks %lld x %lld%s", (long long)rows, (long long)blocks, (long long)out, (long long)in,
                flags ? ", interleaved" : "");
    bench_input(&c, bench_random(b, F32, 2, (int64_t[]){rows, blocks * in}, -1, 1));
    bench_input(&c, bench_random(b, F32, 3, (int64_t[]){blocks, out, in}, -1, 1));
    bench_output(&c, bench_zeros(b, F32, 2, (int64_t[]){rows, blocks * out}));
    c.flops = 2.0 * (double)rows * (double)blocks * (double)out * (double)in;
    bench_run(b, &c);
}

/* Memory: the experts that are read are at most one a row. */
static void grouped(bench *b, uint32_t dtype, int64_t tokens, int64_t picks, int64_t experts, int64_t n, int64_t k) {
    const strand_op_grouped_matmul params = {0};
    bench_case c;
    bench_begin(b, &c, "grouped_matmul", STRAND_OP_GROUPED_MATMUL, &params, sizeof params,
                "%lld x %lld of %lld, N=%lld K=%lld%s", (long long)tokens, (long long)picks, (long long)experts, (long long)n,
                (long long)k, dtype == F32 ? "" : " Q4_K");
    strand_plugin_tensor w = bench_random(b, dtype, 3, (int64_t[]){experts, n, k}, -1, 1);
    bench_input(&c, bench_random(b, F32, 2, (int64_t[]){tokens, k}, -1, 1));
    bench_input(&c, w);
    bench_input(&c, bench_random(b, STRAND_PLUGIN_I32, 2, (int64_t[]){tokens, picks}, 0, (double)experts));
    bench_output(&c, bench_zeros(b, F32, 3, (int64_t[]){tokens, picks, n}));
    int64_t read = tokens * picks < experts ? tokens * picks : experts;
    c.flops = 2.0 * (double)(tokens * picks) * (double)n * (double)k;
    c.reads = (double)bench_bytes(&w) / (double)experts * (double)read + 4.0 * (double)(tokens * k);
    bench_run(b, &c);
}

static void top_k(bench *b, int64_t rows, int64_t n, int64_t k) {
    const strand_op_top_k params = {.k = k, .values = STRAND_TOP_K_SOFTMAX};
    bench_case c;
    bench_begin(b, &c, "top_k", STRAND_OP_TOP_K, &params, sizeof params, "%lld rows, %lld of %lld", (long long)rows,
                (long long)k, (long long)n);
    bench_input(&c, bench_random(b, F32, 2, (int64_t[]){rows, n}, -4, 4));
    bench_output(&c, bench_zeros(b, F32, 2, (int64_t[]){rows, k}));
    bench_output(&c, bench_zeros(b, STRAND_PLUGIN_I64, 2, (int64_t[]){rows, k}));
    c.exps = (double)(rows * n);
    c.elements = (double)(rows * n);
    bench_run(b, &c);
}

int main(int argc, char **argv) {
    static const int64_t shapes[][3] = {{1, 256, 4096},  {1, 4096, 4096},  {1, 14336, 4096},
                                        {4, 1024, 1024}, {32, 1024, 1024}, {256, 1024, 1024}};
    bench b;
    int code = bench_open(&b, argc, argv, "products");
    if (code) return code;
    for (int type = 0; type < 4; type++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes && bench_wants(&b, types[type].name); i++)
            for (int place = 0; place <= (shapes[i][0] == 1 && shapes[i][1] > 4096 && !b.device ? MAPPED : 0); place++)
                quantised(&b, type, shapes[i][0], shapes[i][1], shapes[i][2], place);
    if (bench_wants(&b, "block_diagonal")) {
        for (uint32_t flags = 0; flags < 4; flags += 3) {
            block_diagonal(&b, 2048, 4, 192, 192, flags);
            block_diagonal(&b, 2048, 32, 32, 32, flags);
            block_diagonal(&b, 1, 4, 768, 192, flags);
        }
    }
    if (bench_wants(&b, "grouped_matmul"))
        for (int plain = 0; plain < 2; plain++) {
            uint32_t dtype = plain ? F32 : STRAND_PLUGIN_Q4_K;
            grouped(&b, dtype, 1, 2, 8, 1024, 1024);
            grouped(&b, dtype, 256, 2, 8, 1024, 1024);
            grouped(&b, dtype, 256, 4, 64, 512, 512);
        }
    if (bench_wants(&b, "top_k")) {
        top_k(&b, 1024, 64, 2);
        top_k(&b, 256, 256, 8);
        top_k(&b, 1, 50304, 40);
        top_k(&b, 1, 50304, 1000);
    }
    return bench_close(&b);
}
