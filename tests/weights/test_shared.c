/* test_shared.c - the real and golden files beside the checkout (../shared, or STRAND_SHARED): every one opens or is properly
 * refused. The digests of the PyTorch files were computed with torch.load; they cover names, types, shapes and every byte. */
#define _GNU_SOURCE /* nftw */
#include "check.h"

#include <ftw.h>
#include <unistd.h>

#include "weights/bytes.h"

static const struct {
    const char *path;
    bool legacy;
    int64_t count;
    const char *digest;
} checkpoints[] = {
    {"data/dna/hyenadna-tiny-1k/model.pth", false, 65, "4a07139cdca9515f2380e13e0059614829b559d607cc80f5880f5886e66f1ada"},
    {"data/eeg/eeg-gnn-ssl/pretrained_correlation_graph_12s.pth.tar", true, 26,
     "00ef6dbb03b51ca0055c3a21bc5a05a6b135c27768caaf5ad2276f37eb39feab"},
    {"data/eeg/eeg-gnn-ssl/pretrained_correlation_graph_60s.pth.tar", true, 26,
     "5c32693280d0b21ab6b76be663444202080a48b9bf97e0550f6872d91de1d590"},
    {"data/eeg/eeg-gnn-ssl/pretrained_distance_graph_12s.pth.tar", true, 26,
     "2188907218058eb21c790a5793f43f14967a9838a8a2b886d777315520709060"},
    {"data/eeg/eeg-gnn-ssl/pretrained_distance_graph_60s.pth.tar", true, 26,
     "2c65df8020666e1cc8c0fc3fa074bbd1df26b189da0a7e1215491ee1f291881f"},
    {"data/text/rwkv7-reverse/260123_reverse_L2_only_rwkv7.pth", false, 99,
     "0e334086c7572410e9b9d3c7fab7895a7e59e5a22618705193f07d3a8088cfc6"},
    {"data/timeseries/spacetime-etth1-720/spacetime-etth1-720.pth", false, 15,
     "ebe35ed58b983b917e734665d47a913fcd4f8f6542b298cfb882e55da7897210"},
    {"golden/dna/hyenadna-d32-n2-l256-ckpt/weights.ckpt", false, 60,
     "500cf346e9168aa09e3ca79e47b7fc48b4962aa0b8c090be281ec138dcd6c4c5"},
    {"golden/dna/hyenadna-lightning-ckpt/weights.ckpt", false, 63,
     "72ead499b0f9ff5fdbb24c40e53c70708d871009fa93ad3bb2a4e54abe62bc8d"},
    {"golden/eeg/dcrnn-detection-sz1/best.pth.tar", false, 10,
     "23d927a38cb16dc5e04562c35ae21fc3539741a5fc56c4a69cc4d73e83228427"},
    {"golden/eeg/graphs4mer-ecg-bidirectional/last.ckpt", false, 61,
     "243958b4062c026f14fbb8e30c6a33f93e15cc53318bc80d509736aafbac5f0d"},
    {"golden/eeg/graphs4mer-tusz-2000/last.ckpt", false, 61,
     "1228a7ec85cc17109028af6f78b8df9b91521c3bfe4b3481ccd038d5b27a4511"},
    {"golden/text/based/d32-n3-l96/pytorch_model.bin", false, 28,
     "4d2ac3e0ab18fe2242e7898f9bc2236d97089f949f0d4bb20618dd8f065d93fe"},
    {"golden/text/h3/pt-d32-n3-l100/model.pt", false, 66, "4abd0ca0d7e8d0f50f15aeb8c685b8da26bbf5f5672c389d0a14bf9655e591af"},
    {"golden/text/mamba1/orig-d32-n2-l64/pytorch_model.bin", false, 23,
     "75a101b910c65447d5fb46e2aed1d4117c941b28f1639ce358c75da1136eb2b0"},
    {"golden/text/mamba2/orig-d64-n2-l101-g2/pytorch_model.bin", false, 21,
     "f93e22cfa06f2a71372c98c252c441b82a88ef7d843c617d53093148b288c829"},
    {"golden/text/rwkv6/pth-d48-n2-l101/model.pth", false, 62,
     "8c02c13b02ba2c3fbfd27b6665ebb1bc072857d24f52f481cb90f6bfd0de354f"},
    {"golden/text/rwkv7/pth-d48-n2-l130/model.pth", false, 72,
     "3f4e12913a03d0274357c00f044443fc976f8ea10d45772256127fe1e86319a2"},
    {"golden/timeseries/spacetime-etth1-720-random/weights.pth", false, 15,
     "ff0a75f108ba651cb9e9edc93b02a276f3af10407818aeb81cf1de886df58f85"},
    {"golden/timeseries/spacetime-multivariate/weights.pth", false, 15,
     "075e01b25c8b2a42196a1b4ef405e42cb4e157aed065b6c3cf9621664adc089a"},
    {"golden/timeseries/spacetime-small/weights.pth", false, 21,
     "d29f9957f514738d11e42ad0a0f7b877319917f8d5a361e7dc2540f485d78704"},
};

static const char *shared;

static void need_shared(void) {
    if (shared) return;
    print_message("skipped: no shared/ beside the checkout and no STRAND_SHARED\n");
    skip();
}

/* In the order of the names: name and its zero, type and rank as int32, extents as int64, the bytes. */
static void digest(const weights *w, char hex[SHA256_HEX]) {
    sha256 s;
    sha256_init(&s);
    for (int64_t i = 0; i < weights_count(w); i++) {
        const weights_tensor *t = w->by_name[i];
        sha256_update(&s, t->name, strlen(t->name) + 1);
        sha256_update(&s, (const int32_t[]){t->dtype, t->rank}, 8);
        sha256_update(&s, t->dims, 8 * (size_t)t->rank);
        sha256_update(&s, t->data, t->bytes);
    }
    sha256_final_hex(&s, hex);
}

static void test_checkpoints(void **state) {
    (void)state;
    need_shared();
    for (size_t i = 0; i < sizeof checkpoints / sizeof checkpoints[0]; i++) {
        char path[512], hex[SHA256_HEX];
        weights *w = NULL;
        error e = {0};
        snprintf(path, sizeof path, "%s/%s", shared, checkpoints[i].path);
        if (weights_open(NULL, path, NULL, &w, &e)) fail_msg("%s", e.text);
        digest(w, hex);
        assert_string_equal(weights_format(w), checkpoints[i].legacy ? "pytorch-legacy" : "pytorch-zip");
        assert_int_equal(weights_count(w), checkpoints[i].count);
        if (strcmp(hex, checkpoints[i].digest) != 0) fail_msg("%s: tensors differ from torch.load's", checkpoints[i].path);
        weights_close(w);
    }
    print_message("%zu PyTorch files hold what torch.load finds in them\n", sizeof checkpoints / sizeof checkpoints[0]);
}

/* ---- every other file ------------------------------------------------------------------------------------------------ */

static int opened, refused;

static bool ends(const char *path, const char *end) {
    size_t n = strlen(path), m = strlen(end);
    return n >= m && strcmp(path + n - m, end) == 0;
}

/* A safetensors file's tensors cover its buffer just once, so that their bytes add up to it. */
static void check_sum(const char *path, const weights *w) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < weights_count(w); i++) {
        const weights_tensor *t = weights_at(w, i);
        sum += t->bytes;
        if (weights_find(w, t->name) != t) fail_msg("%s: %s is not found", path, t->name);
    }
    if (8 + read_u64(w->data) + sum != w->size) fail_msg("%s: the tensors' bytes do not add up to the file", path);
}

static int visit(const char *path, const struct stat *facts, int type, struct FTW *where) {
    (void)facts;
    (void)where;
    static const char *const kinds[] = {".safetensors", ".bin", ".gz", ".gguf", ".pkl", ".json", ".csv", ".mat", ".edf"};
    size_t kind = 0;
    while (kind < sizeof kinds / sizeof kinds[0] && !ends(path, kinds[kind])) kind++;
    if (type != FTW_F || kind == sizeof kinds / sizeof kinds[0]) return 0;
    weights *w = NULL;
    error e = {0};
    if (weights_open(NULL, path, NULL, &w, &e)) {
        refused++;
        if (kind == 0 || !strstr(e.text, path) || strchr(e.text, '\n') ||
            (e.status != STRAND_ERR_FORMAT && e.status != STRAND_ERR_UNSUPPORTED)) {
            fail_msg("%s: %d %s", path, e.status, e.text);
        }
        return 0;
    }
    opened++;
    if (kind == 0) check_sum(path, w);
    weights_close(w);
    return 0;
}

static void test_everything(void **state) {
    (void)state;
    need_shared();
    static const char *const folders[] = {"golden", "data"};
    for (size_t i = 0; i < 2; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", shared, folders[i]);
        assert_int_equal(nftw(path, visit, 16, FTW_PHYS), 0);
    }
    assert_true(opened > 100);
    print_message("%d files opened, %d refused with a line\n", opened, refused);
}

static void test_named_refusals(void **state) {
    (void)state;
    need_shared();
    static const struct {
        const char *path;
        strand_status status;
        const char *says;
    } rows[] = {
        {"data/dna/fasta/hairpin.fa.gz", STRAND_ERR_UNSUPPORTED, "compressed with gzip"},
        {"data/eeg/eeg-gnn-ssl/adj_mx_3d.pkl", STRAND_ERR_UNSUPPORTED, "a pickle that torch.save did not write"},
        {"golden/eeg/dcrnn-distance-12s-sz1", STRAND_ERR_FORMAT, "not the plain name of a file"},
        {"golden/dna/hyenadna-tiny-1k-mt", STRAND_ERR_IO, "no weights file; looked for"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[512];
        weights *w = NULL;
        error e = {0};
        snprintf(path, sizeof path, "%s/%s", shared, rows[i].path);
        strand_status status = weights_open(NULL, path, NULL, &w, &e);
        if (status != rows[i].status || !strstr(e.text, rows[i].says)) fail_msg("%s: %d %s", path, status, e.text);
    }
}

static void test_directories(void **state) {
    (void)state;
    need_shared();
    static const struct {
        const char *path, *format;
        int64_t count;
    } rows[] = {
        {"golden/text/llama/gqa-d48-n3-l96-sharded-tied", "sharded safetensors", 29},
        {"golden/dna/hyenadna-lightning-ckpt", "pytorch-zip", 63},
        {"golden/dna/evo2-small", "safetensors", 77},
        {"golden/eeg/dcrnn-detection-sz1", "pytorch-zip", 10},
        {"golden/timeseries/layers/lru", "safetensors", 14},
        {"data/timeseries/spacetime-etth1-720", "pytorch-zip", 15}, /* the "weights" of config.json */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[512];
        weights *w = NULL;
        error e = {0};
        snprintf(path, sizeof path, "%s/%s", shared, rows[i].path);
        if (weights_open(NULL, path, NULL, &w, &e)) fail_msg("%s", e.text);
        assert_string_equal(weights_format(w), rows[i].format);
        assert_int_equal(weights_count(w), rows[i].count);
        weights_close(w);
    }
}

/* The checksum of a published file, known from elsewhere. */
static void test_sha256(void **state) {
    (void)state;
    need_shared();
    char path[512];
    weights *w = NULL;
    snprintf(path, sizeof path, "%s/data/dna/hyenadna-tiny-1k/model.pth", shared);
    assert_int_equal(weights_open(NULL, path, NULL, &w, NULL), STRAND_OK);
    assert_string_equal(weights_sha256(w), "d7728a4c160b6b8be772c02f5eabe6c507055eeb745a2257bdbcc918e0b79fee");
    weights_close(w);
}

int main(void) {
    static char path[512];
    const char *root = getenv("STRAND_SHARED");
    snprintf(path, sizeof path, "%s", root ? root : "../shared");
    if (access(path, R_OK) == 0) shared = path;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_checkpoints), cmocka_unit_test(test_everything),
                                       cmocka_unit_test(test_named_refusals), cmocka_unit_test(test_directories),
                                       cmocka_unit_test(test_sha256)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
