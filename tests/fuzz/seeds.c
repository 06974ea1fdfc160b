/* seeds.c - writes the fuzzers' seed corpus into the folder on the command line (tests/fuzz/corpus): small files of every kind,
 * good ones and a few that are nearly good. The corpus is committed; run this again when a format is added. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../tokenizer/vectors.h"
#include "../weights/writers.h"

static const char *root;

static void save(const char *target, const char *name, const void *data, size_t size) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, target);
    if (mkdir(path, 0777) != 0 && errno != EEXIST) perror(path), exit(1);
    snprintf(path, sizeof path, "%s/%s/%s", root, target, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) perror(path), exit(1);
}

static void save_text(const char *target, const char *name, const char *text) {
    save(target, name, text, strlen(text));
}

static void save_buffer(const char *target, const char *name, buffer *b) {
    save(target, name, b->data, b->size);
    buffer_free(b);
}

static void json_seeds(void) {
    save_text("json", "values", "{\"a\": [1, -2.5e1, true, false, null, \"x\"], \"b\": {}, \"c\": []}");
    save_text("json", "numbers",
              "[0, -0, 9223372036854775807, -9223372036854775808, 1e3, 4096.0, 1E-2, 2.5e+3, NaN, Infinity, -Infinity]");
    save_text("json", "strings",
              "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\uD834\\uDD1E \xC3\xA9\xE2\x82\xAC\xF0\x9D\x84\x9E\"");
    save_text("json", "many-keys", "{\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"10\":0}");
    save_text("json", "duplicate", "{\"a\":1,\"\\u0061\":2}");
    save_text("json", "deep", "[[[[[[[[[[[[[[[[[[[[{\"a\":[[[[]]]]}]]]]]]]]]]]]]]]]]]]]");
}

static void safetensors_seeds(void) {
    static const char *const headers[] = {
        "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[8,32]},"
        "\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}",
        "{\"e\":{\"dtype\":\"BF16\",\"shape\":[0,7],\"data_offsets\":[0,0]},\"c\":{\"dtype\":\"BOOL\",\"shape\":[32],\"data_"
        "offsets\":[0,32]}}   ",
        "{\"x\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]}}",
        "{\"x\":{\"dtype\":\"F64\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        char name[32];
        buffer b = {0}, bare = {0};
        snprintf(name, sizeof name, "file-%zu", i);
        put_safetensors(&b, headers[i], i < 2 ? 32 : 4 * (i == 2));
        put_int(&bare, i < 2 ? 32 : 4 * (i == 2), 1); /* without the length: the target adds it */
        put_bytes(&bare, b.data + 8, b.size - 8);
        save_buffer("safetensors", name, &b);
        snprintf(name, sizeof name, "bare-%zu", i);
        save_buffer("safetensors", name, &bare);
    }
}

static void gguf_seeds(void) {
    buffer b = {0}, bare = {0};
    put_small_gguf(&b);
    put_text(&bare, "\2\10");
    put_bytes(&bare, b.data + 24, b.size - 24); /* without the header: the target adds it */
    save_buffer("gguf", "small", &b);
    save_buffer("gguf", "bare", &bare);
    put_gguf(&b, 1, 1);
    put_gguf_key(&b, "general.alignment", 4);
    put_int(&b, 1, 4);
    put_gguf_tensor(&b, "t", 2, (const uint64_t[]){256, 2}, 14, 0);
    put_fill(&b, 1, 420);
    save_buffer("gguf", "q6-k", &b);
    put_gguf(&b, 1, 0);
    put_gguf_tensor(&b, "t", 2, (const uint64_t[]){1ull << 32, 1ull << 32}, 0, 0);
    put_fill(&b, 0, 64);
    save_buffer("gguf", "overflow", &b);
}

static void rwkvcpp_seeds(void) {
    buffer b = {0};
    for (uint32_t type = 0; type < 10; type += type ? 8 : 1) {
        static const char *const names[] = {"f32", "f16", "q8-0"};
        put_rwkvcpp(&b, 101);
        put_rwkvcpp_tensor(&b, "emb.weight", 2, (const uint32_t[]){32, 2}, type);
        put_fill(&b, 3, type == 0 ? 256 : type == 1 ? 128 : 68);
        save_buffer("rwkvcpp", names[type > 1 ? 2 : type], &b);
    }
    put_rwkvcpp_tensor(&b, "v", 1, (const uint32_t[]){3}, 0); /* without the header: the target adds it */
    put_fill(&b, 1, 12);
    save_buffer("rwkvcpp", "bare", &b);
}

static void llama2c_seeds(void) {
    static const char *const bytes[] = {"\3\4\1\1\0\7\3\1\0", "\3\4\1\1\1\7\3\0\0", "\7\3\2\3\0\5\2\0\1", "\1\1\1\0\0\1\1\1\3",
                                        "\17\4\1\1\0\7\3\1\11"};
    static const char *const names[] = {"shared", "apart", "version-1", "version-2", "int8"};
    for (size_t i = 0; i < 5; i++) {
        buffer b = {0};
        put_bytes(&b, bytes[i], 9);
        save_buffer("llama2c", names[i], &b);
    }
}

static void tokenizer_seeds(void) {
    for (size_t i = 0; i < sizeof small_tokenizers / sizeof small_tokenizers[0]; i++)
        if (strlen(small_tokenizers[i].document) < 4000)
            save_text("tokenizer", small_tokenizers[i].name, small_tokenizers[i].document);
    save_text("tokenizer", "rwkv", "1 '\\x00' 1\n2 'ab' 2\n3 b'\\xff\\n' 2\n4 \"it's\" 4\n");
    save_text("tokenizer", "vocab", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n##e\n");
    save("tokenizer", "spm", "\n\14\n\5<unk>\30\2\n\12\n\1a\25\0\0\0\0\30\1\22\2\30\2", 30);
    save("tokenizer", "llama2c", "\2\0\0\0\0\0\0\0\5\0\0\0<unk>\0\0\0\0\1\0\0\0a", 26);
}

static void pytorch_seeds(void) {
    buffer b = {0}, pickle = {0};
    put_small_zip(&b);
    save_buffer("pytorch", "zip", &b);
    put_small_legacy(&b);
    save_buffer("pytorch", "legacy", &b);
    pickle_begin(&pickle, 2);
    pickle_state(&pickle, small_state, 3);
    put_text(&pickle, ".");
    put_torch_zip(&b, &pickle, 0, false);
    save_buffer("pytorch", "zip32", &b);
    put_torch_zip(&b, &pickle, ZIP_LARGE, true);
    save_buffer("pytorch", "zip64", &b);
    save("pytorch", "object", pickle.data + 2, pickle.size - 3); /* instructions alone: the target wraps them */
    put_text(&b, "}(");
    pickle_text(&b, "hyper_parameters");
    put_text(&b, "comegaconf.dictconfig\nDictConfig\n)\x81}(U\x01"
                 "aK\x01ub");
    pickle_text(&b, "optimizer");
    put_text(&b, "cos\nsystem\nU\x04true\x85R");
    pickle_text(&b, "state_dict");
    put_text(&b, "}q");
    put_int(&b, 1, 1);
    put_text(&b, "(");
    pickle_text(&b, "w");
    pickle_global_name(&b, "torch._utils", "_rebuild_parameter");
    put_text(&b, "(");
    pickle_tensor_value(&b, &small_state[0]);
    put_int(&b, 0x88, 1);
    put_text(&b, "NtR");
    pickle_text(&b, "nested");
    put_text(&b, "}");
    pickle_int(&b, 3);
    pickle_tensor_value(&b, &small_state[1]);
    put_text(&b, "suu");
    save_buffer("pytorch", "checkpoint", &b);
    /* protocol 4: short strings, memoized, names from the stack, a frame */
    put_int(&b, 0x95, 1);
    put_int(&b, 8, 8);
    put_text(&b, "}\x94(\x8c\x01w\x94\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\x93\x94(("
                 "\x8c\x07storage\x94\x8c\x05torch\x94"
                 "\x8c\x0c"
                 "FloatStorage\x94\x93\x94\x8c\x01"
                 "0\x94\x8c\x03"
                 "cpu\x94K\x06t\x94QK");
    put_int(&b, 0, 1);
    put_text(&b, "K\x02K\x03\x86\x94K\x03K\x01\x86\x94\x89)t\x94Ru");
    save_buffer("pytorch", "protocol4", &b);
    static const tensor_spec bomb = {"x", "FloatStorage", "0", 6, 0, 2, {(int64_t)1 << 20, 6}, {0, 1}};
    pickle_state(&b, &bomb, 1);
    save_buffer("pytorch", "expanded", &b);
    buffer_free(&pickle);
}

static void index_seeds(void) {
    save_text("index", "two",
              "{\"metadata\": {\"total_size\": 4}, \"weight_map\": {\"x\": \"b.bin\", \"y\": \"a.bin\", \"z\": \"b.bin\"}}");
    save_text("index", "up", "{\"weight_map\": {\"x\": \"../b.bin\"}}");
    save_text("index", "zero", "{\"weight_map\": {\"x\": \"b\\u0000.bin\"}}");
}

static void tar_seeds(void) {
    buffer b = {0}, inner = {0};
    put_small_legacy(&inner);
    put_tar_member(&b, "net/net_params.json", '0', "{\"type\": \"net\"}", 15);
    put_tar_member(&b, "net/", '5', NULL, 0);
    put_tar_member(&b, "net/state.torch", '0', inner.data, inner.size);
    put_tar_end(&b);
    save("tar", "legacy", b.data, b.size);
    put_tar_member(&b, "second", '0', inner.data, inner.size);
    save_buffer("tar", "two", &b);
    inner.size = 0;
    put_safetensors(&inner, "{\"__metadata__\":{\"a\":\"b\"},\"x\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}",
                    3);
    put_tar_member(&b, "x.safetensors", '0', inner.data, inner.size);
    b.data[124] = 0x80; /* GNU's binary size */
    memset(b.data + 125, 0, 9);
    b.data[134] = (uint8_t)(inner.size >> 8);
    b.data[135] = (uint8_t)inner.size;
    put_tar_sum(&b, 0);
    save_buffer("tar", "binary-size", &b);
    buffer_free(&inner);
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: %s tests/fuzz/corpus\n", argv[0]), 2;
    root = argv[1];
    json_seeds();
    safetensors_seeds();
    gguf_seeds();
    rwkvcpp_seeds();
    llama2c_seeds();
    tokenizer_seeds();
    pytorch_seeds();
    index_seeds();
    tar_seeds();
    return 0;
}
