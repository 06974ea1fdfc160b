/* vectors.h - small tokenizers of every kind as tokenizer.json documents, with the ids that the library "tokenizers" 0.23.3
 * gives. */
#ifndef STRAND_TESTS_TOKENIZER_VECTORS_H
#define STRAND_TESTS_TOKENIZER_VECTORS_H

#include <stddef.h>
#include <stdint.h>

#define NO_MORE (-1)

typedef struct vector {
    const char *text;
    int64_t ids[16]; /* up to NO_MORE */
} vector;

typedef struct small_tokenizer {
    const char *name, *document;
    vector vectors[8];
} small_tokenizer;

static const small_tokenizer small_tokenizers[] = {
    {"unigram",
     "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [], \"normalizer\": null, \"pre"
     "_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"always\", \"split\": tru"
     "e}, \"post_processor\": null, \"decoder\": {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_schem"
     "e\": \"always\", \"split\": true}, \"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"<unk>\", 0.0], [\""
     "\\u2581\", -3.0], [\"\\u2581the\", -2.0], [\"the\", -4.0], [\"t\", -5.0], [\"h\", -5.0], [\"e\", -5.0], [\"se\", -3"
     ".5], [\"\\u2581se\", -4.5], [\"s\", -4.0], [\"n\", -5.5], [\"sen\", -4.2], [\"ce\", -4.4], [\"tence\", -3.9]], \"b"
     "yte_fallback\": false}}"
     ,
     {
         {"the sentence", {2, 1, 11, 13, NO_MORE}},
         {"these", {2, 7, NO_MORE}},
         {"the  the", {2, 1, 2, NO_MORE}},
         {"sxyzt", {1, 9, 0, 4, NO_MORE}},
         {" the", {2, NO_MORE}},
     }},
    {"llama-bpe",
     "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [{\"id\": 1, \"content\": \"<s>\","
     " \"special\": true, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false}], \"no"
     "rmalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\\u2581\"}, {\"type\": \""
     "Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\\u2581\"}]}, \"pre_tokenizer\": null, \"post_processor"
     "\": null, \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"\\u2"
     "581\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \""
     ", \"start\": 1, \"stop\": 0}]}, \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": \"<unk>\", \"fuse_un"
     "k\": true, \"byte_fallback\": true, \"vocab\": {\"<unk>\": 0, \"<s>\": 1, \"<0x00>\": 2, \"<0x01>\": 3, \"<0x02>\":"
     " 4, \"<0x03>\": 5, \"<0x04>\": 6, \"<0x05>\": 7, \"<0x06>\": 8, \"<0x07>\": 9, \"<0x08>\": 10, \"<0x09>\": 11, \"<0"
     "x0A>\": 12, \"<0x0B>\": 13, \"<0x0C>\": 14, \"<0x0D>\": 15, \"<0x0E>\": 16, \"<0x0F>\": 17, \"<0x10>\": 18, \"<0x1"
     "1>\": 19, \"<0x12>\": 20, \"<0x13>\": 21, \"<0x14>\": 22, \"<0x15>\": 23, \"<0x16>\": 24, \"<0x17>\": 25, \"<0x18>"
     "\": 26, \"<0x19>\": 27, \"<0x1A>\": 28, \"<0x1B>\": 29, \"<0x1C>\": 30, \"<0x1D>\": 31, \"<0x1E>\": 32, \"<0x1F>\":"
     " 33, \"<0x20>\": 34, \"<0x21>\": 35, \"<0x22>\": 36, \"<0x23>\": 37, \"<0x24>\": 38, \"<0x25>\": 39, \"<0x26>\": 4"
     "0, \"<0x27>\": 41, \"<0x28>\": 42, \"<0x29>\": 43, \"<0x2A>\": 44, \"<0x2B>\": 45, \"<0x2C>\": 46, \"<0x2D>\": 47,"
     " \"<0x2E>\": 48, \"<0x2F>\": 49, \"<0x30>\": 50, \"<0x31>\": 51, \"<0x32>\": 52, \"<0x33>\": 53, \"<0x34>\": 54, \""
     "<0x35>\": 55, \"<0x36>\": 56, \"<0x37>\": 57, \"<0x38>\": 58, \"<0x39>\": 59, \"<0x3A>\": 60, \"<0x3B>\": 61, \"<0"
     "x3C>\": 62, \"<0x3D>\": 63, \"<0x3E>\": 64, \"<0x3F>\": 65, \"<0x40>\": 66, \"<0x41>\": 67, \"<0x42>\": 68, \"<0x4"
     "3>\": 69, \"<0x44>\": 70, \"<0x45>\": 71, \"<0x46>\": 72, \"<0x47>\": 73, \"<0x48>\": 74, \"<0x49>\": 75, \"<0x4A>"
     "\": 76, \"<0x4B>\": 77, \"<0x4C>\": 78, \"<0x4D>\": 79, \"<0x4E>\": 80, \"<0x4F>\": 81, \"<0x50>\": 82, \"<0x51>\":"
     " 83, \"<0x52>\": 84, \"<0x53>\": 85, \"<0x54>\": 86, \"<0x55>\": 87, \"<0x56>\": 88, \"<0x57>\": 89, \"<0x58>\": 9"
     "0, \"<0x59>\": 91, \"<0x5A>\": 92, \"<0x5B>\": 93, \"<0x5C>\": 94, \"<0x5D>\": 95, \"<0x5E>\": 96, \"<0x5F>\": 97,"
     " \"<0x60>\": 98, \"<0x61>\": 99, \"<0x62>\": 100, \"<0x63>\": 101, \"<0x64>\": 102, \"<0x65>\": 103, \"<0x66>\": 1"
     "04, \"<0x67>\": 105, \"<0x68>\": 106, \"<0x69>\": 107, \"<0x6A>\": 108, \"<0x6B>\": 109, \"<0x6C>\": 110, \"<0x6D"
     ">\": 111, \"<0x6E>\": 112, \"<0x6F>\": 113, \"<0x70>\": 114, \"<0x71>\": 115, \"<0x72>\": 116, \"<0x73>\": 117, \""
     "<0x74>\": 118, \"<0x75>\": 119, \"<0x76>\": 120, \"<0x77>\": 121, \"<0x78>\": 122, \"<0x79>\": 123, \"<0x7A>\": 1"
     "24, \"<0x7B>\": 125, \"<0x7C>\": 126, \"<0x7D>\": 127, \"<0x7E>\": 128, \"<0x7F>\": 129, \"<0x80>\": 130, \"<0x81"
     ">\": 131, \"<0x82>\": 132, \"<0x83>\": 133, \"<0x84>\": 134, \"<0x85>\": 135, \"<0x86>\": 136, \"<0x87>\": 137, \""
     "<0x88>\": 138, \"<0x89>\": 139, \"<0x8A>\": 140, \"<0x8B>\": 141, \"<0x8C>\": 142, \"<0x8D>\": 143, \"<0x8E>\": 1"
     "44, \"<0x8F>\": 145, \"<0x90>\": 146, \"<0x91>\": 147, \"<0x92>\": 148, \"<0x93>\": 149, \"<0x94>\": 150, \"<0x95"
     ">\": 151, \"<0x96>\": 152, \"<0x97>\": 153, \"<0x98>\": 154, \"<0x99>\": 155, \"<0x9A>\": 156, \"<0x9B>\": 157, \""
     "<0x9C>\": 158, \"<0x9D>\": 159, \"<0x9E>\": 160, \"<0x9F>\": 161, \"<0xA0>\": 162, \"<0xA1>\": 163, \"<0xA2>\": 1"
     "64, \"<0xA3>\": 165, \"<0xA4>\": 166, \"<0xA5>\": 167, \"<0xA6>\": 168, \"<0xA7>\": 169, \"<0xA8>\": 170, \"<0xA9"
     ">\": 171, \"<0xAA>\": 172, \"<0xAB>\": 173, \"<0xAC>\": 174, \"<0xAD>\": 175, \"<0xAE>\": 176, \"<0xAF>\": 177, \""
     "<0xB0>\": 178, \"<0xB1>\": 179, \"<0xB2>\": 180, \"<0xB3>\": 181, \"<0xB4>\": 182, \"<0xB5>\": 183, \"<0xB6>\": 1"
     "84, \"<0xB7>\": 185, \"<0xB8>\": 186, \"<0xB9>\": 187, \"<0xBA>\": 188, \"<0xBB>\": 189, \"<0xBC>\": 190, \"<0xBD"
     ">\": 191, \"<0xBE>\": 192, \"<0xBF>\": 193, \"<0xC0>\": 194, \"<0xC1>\": 195, \"<0xC2>\": 196, \"<0xC3>\": 197, \""
     "<0xC4>\": 198, \"<0xC5>\": 199, \"<0xC6>\": 200, \"<0xC7>\": 201, \"<0xC8>\": 202, \"<0xC9>\": 203, \"<0xCA>\": 2"
     "04, \"<0xCB>\": 205, \"<0xCC>\": 206, \"<0xCD>\": 207, \"<0xCE>\": 208, \"<0xCF>\": 209, \"<0xD0>\": 210, \"<0xD1"
     ">\": 211, \"<0xD2>\": 212, \"<0xD3>\": 213, \"<0xD4>\": 214, \"<0xD5>\": 215, \"<0xD6>\": 216, \"<0xD7>\": 217, \""
     "<0xD8>\": 218, \"<0xD9>\": 219, \"<0xDA>\": 220, \"<0xDB>\": 221, \"<0xDC>\": 222, \"<0xDD>\": 223, \"<0xDE>\": 2"
     "24, \"<0xDF>\": 225, \"<0xE0>\": 226, \"<0xE1>\": 227, \"<0xE2>\": 228, \"<0xE3>\": 229, \"<0xE4>\": 230, \"<0xE5"
     ">\": 231, \"<0xE6>\": 232, \"<0xE7>\": 233, \"<0xE8>\": 234, \"<0xE9>\": 235, \"<0xEA>\": 236, \"<0xEB>\": 237, \""
     "<0xEC>\": 238, \"<0xED>\": 239, \"<0xEE>\": 240, \"<0xEF>\": 241, \"<0xF0>\": 242, \"<0xF1>\": 243, \"<0xF2>\": 2"
     "44, \"<0xF3>\": 245, \"<0xF4>\": 246, \"<0xF5>\": 247, \"<0xF6>\": 248, \"<0xF7>\": 249, \"<0xF8>\": 250, \"<0xF9"
     ">\": 251, \"<0xFA>\": 252, \"<0xFB>\": 253, \"<0xFC>\": 254, \"<0xFD>\": 255, \"<0xFE>\": 256, \"<0xFF>\": 257, \""
     "\\u2581\": 258, \"a\": 259, \"b\": 260, \"c\": 261, \"ab\": 262, \"\\u2581a\": 263, \"\\u2581ab\": 264, \"abc\": 265},"
     " \"merges\": [[\"a\", \"b\"], [\"\\u2581\", \"a\"], [\"\\u2581\", \"ab\"], [\"ab\", \"c\"]]}}"
     ,
     {
         {"abc ab", {264, 261, 264, NO_MORE}},
         {"a b", {263, 258, 260, NO_MORE}},
         {"x\xc3\xa9 abc", {258, 122, 197, 171, 264, 261, NO_MORE}},
         {"  ab", {258, 258, 264, NO_MORE}},
         {"abcabc<s>ab", {264, 261, 265, 1, 264, NO_MORE}},
     }},
    {"split",
     "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [], \"normalizer\": {\"type\": \""
     "NFC\"}, \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\""
     ": \"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
     "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": "
     "false}]}, \"post_processor\": null, \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": "
     "true, \"use_regex\": true}, \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, "
     "\"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, "
     "\"ignore_merges\": true, \"vocab\": {\"a\": 0, \"b\": 1, \"l\": 2, \"\\u0120\": 3, \"1\": 4, \"2\": 5, \"3\": 6, \"4\": "
     "7, \"'\": 8, \"!\": 9, \"\\u010a\": 10, \"ll\": 11, \"'ll\": 12, \"ab\": 13, \"\\u0120a\": 14, \"\\u0120ab\": 15, "
     "\"12\": 16, \"123\": 17, \"\\u0120\\u0120\": 18}, \"merges\": [\"l l\", \"\\u0120 a\", \"\\u0120a b\", \"1 2\", \"a "
     "b\"]}}"
     ,
     {
         {"ab'll ab", {13, 12, 15, NO_MORE}},
         {"1234", {17, 7, NO_MORE}},
         {"  ab\n\n!", {3, 15, 10, 10, 9, NO_MORE}},
         {"12312", {17, 16, NO_MORE}},
     }},
    {"wordpiece",
     "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [{\"id\": 1, \"content\": \"[CLS]"
     "\", \"special\": true, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false}], \""
     "normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": true, \"strip_acc"
     "ents\": null, \"lowercase\": true}, \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, \"post_processor\": nu"
     "ll, \"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": true}, \"model\": {\"type\": \"WordPiece\""
     ", \"unk_token\": \"[UNK]\", \"continuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": 100, \"vocab\":"
     " {\"[UNK]\": 0, \"[CLS]\": 1, \"[SEP]\": 2, \"un\": 3, \"##aff\": 4, \"##able\": 5, \"caf\": 6, \"##e\": 7, \"!\": 8, "
     "\"\\u4e2d\": 9, \"hello\": 10}}}"
     ,
     {
         {"UNaffable caf\xc3\xa9!", {3, 4, 5, 6, 7, 8, NO_MORE}},
         {"hello\xe4\xb8\xadhello", {10, 9, 10, NO_MORE}},
         {"xyz hello [CLS]", {0, 10, 1, NO_MORE}},
     }},
    {"digits",
     "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [{\"id\": 5, \"content\": \"<m>\","
     " \"special\": false, \"single_word\": false, \"lstrip\": true, \"rstrip\": true, \"normalized\": false}], \"nor"
     "malizer\": {\"type\": \"Lowercase\"}, \"pre_tokenizer\": {\"type\": \"Whitespace\"}, \"post_processor\": null, \"d"
     "ecoder\": null, \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": \"[UNK]\", \"continuing_subword_p"
     "refix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\""
     ": false, \"vocab\": {\"x\": 0, \"y\": 1, \"xy\": 2, \"yx\": 3, \"[UNK]\": 4}, \"merges\": [\"x y\"]}}"
     ,
     {
         {"XYx yx", {2, 0, 1, 0, NO_MORE}},
         {"xy <m> y", {2, 5, 1, NO_MORE}},
         {"q!x", {4, 4, 0, NO_MORE}},
     }},
};

#endif
