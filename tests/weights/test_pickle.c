/* test_pickle.c - the pickle interpreter: what is built, what is swallowed, what is refused, and that nothing is executed. Each
 * pickle is tried in both containers of torch.save. */
#include "check.h"

#include <unistd.h>

#define W        small_state[0]
#define R(bytes) bytes, sizeof(bytes) - 1

/* ---- instructions ---------------------------------------------------------------------------------------------------- */

static const struct {
    const char *bytes;
    size_t n;
    const char *says;
} bad_instructions[] = {
    {R("I1\n"), "opcode 0x49"},
    {R("L1L\n"), "opcode 0x4c"},
    {R("S'a'\n"), "opcode 0x53"},
    {R("V1\n"), "opcode 0x56"},
    {R("F1\n"), "opcode 0x46"},
    {R("g0\n"), "opcode 0x67"},
    {R("p0\n"), "opcode 0x70"},
    {R("P0\n"), "opcode 0x50"},
    {R("(ios\nsystem\n"), "opcode 0x69"},
    {R("(cos\nsystem\no"), "opcode 0x6f"},
    {R("\x82\x01"), "opcode 0x82"},
    {R("\x83\x01\x00"), "opcode 0x83"},
    {R("\x84\x01\x00\x00\x00"), "opcode 0x84"},
    {R("\x97"), "opcode 0x97"},
    {R("\x98"), "opcode 0x98"},
    {R("\xff"), "opcode 0xff"},
    {R("\x80\x00"), "protocol other than 2 to 5"},
    {R("\x80\x01"), "protocol other"},
    {R("\x80\x06"), "protocol other"},
    {R(""), "other than one value"},
    {R("NN"), "other than one value"},
    {R("("), "other than one value"},
    {R("N("), "other than one value"},
    {R("a"), "too few"},
    {R("]a"), "too few"},
    {R("](a"), "too few"},
    {R("(Na"), "too few"},
    {R("s"), "too few"},
    {R("}s"), "too few"},
    {R("}Ns"), "too few"},
    {R("}(NNs"), "too few"},
    {R("}N(Ns"), "too few"},
    {R("e"), "too few"},
    {R("(e"), "too few"},
    {R("((e"), "too few"},
    {R("u"), "too few"},
    {R("(NNu"), "too few"},
    {R("}NNu"), "too few"},
    {R("\x90"), "too few"},
    {R("t"), "too few"},
    {R("Nt"), "too few"},
    {R("l"), "too few"},
    {R("d"), "too few"},
    {R("\x91"), "too few"},
    {R("\x85"), "too few"},
    {R("(\x85"), "too few"},
    {R("N(N\x86"), "too few"},
    {R("NN\x87"), "too few"},
    {R("0"), "too few"},
    {R("1"), "too few"},
    {R("N1"), "too few"},
    {R("2"), "too few"},
    {R("(2"), "too few"},
    {R("q\x00"), "too few"},
    {R("(q\x00"), "too few"},
    {R("\x94"), "too few"},
    {R("R"), "too few"},
    {R("NR"), "too few"},
    {R("N(R"), "too few"},
    {R("\x81"), "too few"},
    {R("N\x92"), "too few"},
    {R("NN\x92"), "too few"},
    {R("b"), "too few"},
    {R("Nb"), "too few"},
    {R("Q"), "too few"},
    {R("\x93"), "too few"},
    {R("N\x93"), "too few"},
    {R("](NNu"), "not a list or dict"},
    {R("}Na"), "not a list or dict"},
    {R("NNa"), "not a list or dict"},
    {R(")Na"), "not a list or dict"},
    {R("K\x01NNs"), "not a list or dict"},
    {R("}(Nu"), "a key without a value"},
    {R("(Nd"), "a key without a value"},
    {R("NNb"), "a state is given"},
    {R("]Nb"), "a state is given"},
    {R("N)R"), "neither a class nor a function"},
    {R("})R"), "neither a class nor a function"},
    {R("cos\nsystem\nNR"), "arguments are not a tuple"},
    {R("cos\nsystem\n]\x81"), "not a tuple"},
    {R("NN\x93"), "name is not text"},
    {R("U\x01"
       "aN\x93"),
     "name is not text"},
    {R("]q\x30"), "memo index out of sequence"},
    {R("]r\xff\xff\xff\xff"), "memo index out of sequence"},
    {R("h\x00"), "never stored"},
    {R("]q\x00j\x01\x00\x00\x00"), "never stored"},
    {R("j\xff\xff\xff\xff"), "never stored"},
    {R("X\xff\xff\xff\x7f"), "cut short"},
    {R("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), "cut short"},
    {R("\x8b\xff\xff\xff\xff"), "cut short"},
    {R("B\xff\xff\xff\xff"), "cut short"},
    {R("\x96\xff\xff\xff\xff\xff\xff\xff\x7f"), "cut short"},
    {R("\x8e\x00\x00\x00\x00\x00\x00\x00\x80"), "cut short"},
    {R("\x95\xff\xff\xff\xff\xff\xff\xff\xff"), "cut short"},
    {R("cabc"), "cut short"},
    {R("NQ"), "a persistent id other"},
    {R(")Q"), "a persistent id other"},
    {R("X\x01\x00\x00\x00"
       "0Q"),
     "a persistent id other"},
};

static void test_bad_instructions(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad_instructions / sizeof bad_instructions[0]; i++) {
        buffer b = {0};
        char label[64];
        snprintf(label, sizeof label, "instructions %zu", i);
        put_bytes(&b, bad_instructions[i].bytes, bad_instructions[i].n);
        check_object(label, &b, 0, STRAND_ERR_FORMAT, bad_instructions[i].says);
        buffer_free(&b);
    }
    print_message("%zu bad instruction sequences refused, in both containers\n",
                  sizeof bad_instructions / sizeof bad_instructions[0]);
}

/* Plain data of every opcode is passed over, in the branch too. */
static void test_plain_data(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
    } rows[] = {
        {R("N")},
        {R("\x88")},
        {R("\x89")},
        {R("K\x01")},
        {R("M\x01\x02")},
        {R("J\xff\xff\xff\xff")},
        {R("\x8a\x00")},
        {R("\x8a\x01\xff")},
        {R("\x8a\x0a"
           "0123456789")},
        {R("\x8b\x01\x00\x00\x00\x05")},
        {R("G01234567")},
        {R("U\x01"
           "a")},
        {R("T\x01\x00\x00\x00"
           "a")},
        {R("C\x01"
           "a")},
        {R("B\x01\x00\x00\x00"
           "a")},
        {R("\x8c\x01"
           "a")},
        {R("\x8d\x01\x00\x00\x00\x00\x00\x00\x00"
           "a")},
        {R("\x8e\x01\x00\x00\x00\x00\x00\x00\x00"
           "a")},
        {R("\x96\x01\x00\x00\x00\x00\x00\x00\x00"
           "a")},
        {R("]")},
        {R("(NNl")},
        {R(")")},
        {R("N\x85")},
        {R("NN\x86")},
        {R("NNN\x87")},
        {R("}")},
        {R("(NNd")},
        {R("\x8f")},
        {R("\x8f(NN\x90")},
        {R("(NN\x91")},
        {R("N2"
           "0")},
        {R("(NN1N")},
        {R("]\x94")},
        {R("]q\x00"
           "0h\x00")},
        {R("ctorch\nSize\n(K\x01t\x85R")},
        {R("ctorch\ndevice\nX\x03\x00\x00\x00"
           "cpu\x85R")},
        {R("ctorch\nfloat32\n")},
        {R("cbuiltins\nset\n](NNe\x85R")},
        {R("ccollections\nOrderedDict\n)R}b")},
        {R("ccollections\nOrderedDict\n](]K\x01"
           "aK\x02"
           "ae\x85R")},
        {R("ccollections\nOrderedDict\n)\x81")},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buffer object = {0};
        char label[64];
        snprintf(label, sizeof label, "plain data %zu", i);
        put_text(&object, "}(");
        mention_storages(&object);
        pickle_text(&object, "w");
        pickle_tensor_value(&object, &W);
        pickle_text(&object, "x");
        put_bytes(&object, rows[i].bytes, rows[i].n);
        put_text(&object, "u");
        check_object(label, &object, 1, STRAND_OK, NULL);
        buffer_free(&object);
    }
}

/* ---- nothing is executed --------------------------------------------------------------------------------------------- */

static const char trap[] = "strand-test-pickle-was-executed";

static void put_system(buffer *b, const char *module, bool stack_global) {
    char command[128];
    snprintf(command, sizeof command, "touch %s", trap);
    if (stack_global) {
        pickle_text(b, module);
        pickle_text(b, "system");
        put_int(b, 0x93, 1);
    } else {
        pickle_global_name(b, module, "system");
    }
    pickle_text(b, command);
    put_text(b, "\x85R");
}

static void test_not_executed(void **state) {
    (void)state;
    static const char *const keys[] = {"optimizer", "callbacks", "hyper_parameters", "loops"};
    unlink(trap);
    for (int i = 0; i < 2; i++) {
        buffer b = {0};
        put_system(&b, i ? "posix" : "os", i);
        check_value("os.system in the tensors' branch", &b, 0, STRAND_ERR_UNSUPPORTED,
                    i ? "x is an object of posix.system" : "x is an object of os.system");
        check_object("os.system at the top", &b, 0, STRAND_ERR_UNSUPPORTED, "the checkpoint is an object of");
        buffer_free(&b);
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        buffer b = {0};
        put_text(&b, "}(");
        pickle_text(&b, keys[i]);
        put_system(&b, "os", i % 2);
        pickle_text(&b, "state_dict");
        pickle_state(&b, small_state, 3);
        put_text(&b, "u");
        check_object(keys[i], &b, 3, STRAND_OK, NULL);
        buffer_free(&b);
    }
    assert_int_not_equal(access(trap, F_OK), 0);
}

/* Whatever is done to an opaque object is swallowed, in a branch that does not matter. */
static void test_opaque(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
    } rows[] = {
        {R("comegaconf.dictconfig\nDictConfig\n)\x81}(U\x01"
           "aK\x01ub")},
        {R("ca\nB\n)R}b(NNu")},
        {R("ca\nB\n)R(NNe")},
        {R("ca\nB\n)RNa")},
        {R("ca\nB\n)RNNs")},
        {R("ca\nB\n)R(NN\x90")},
        {R("ca\nB\n)}\x92Nb")},
        {R("ca\nB\n")},
        {R("ca\nB\n)R)R)R)\x81)R")},
        {R("ccopyreg\n_reconstructor\n(ca\nB\nc__builtin__\nobject\nNtR}b")},
        {R("ctorch.storage\n_load_from_bytes\nB\x03\x00\x00\x00"
           "abc\x85R")},
        {R("ctorch._utils\n_rebuild_tensor_v2\n(Nt\x52")},
        {R("ctorch._utils\n_rebuild_tensor_v2\n(NK\x01))tR")},
        {R("ctorch._utils\n_rebuild_parameter\n)R")},
        {R("ccollections\nOrderedDict\nN\x85R")},
        {R("ccollections\nOrderedDict\n]Na\x85R")},
        {R("ctorch\nFloatStorage\n)R")},
        {R("ctorch\nSize\n(K\x01tR")},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buffer b = {0}, value = {0};
        char label[64];
        snprintf(label, sizeof label, "opaque %zu", i);
        put_text(&b, "}(");
        pickle_text(&b, "junk");
        put_bytes(&b, rows[i].bytes, rows[i].n);
        pickle_text(&b, "model_state_dict");
        pickle_state(&b, small_state, 3);
        put_text(&b, "u");
        check_object(label, &b, 3, STRAND_OK, NULL);
        put_bytes(&value, rows[i].bytes, rows[i].n);
        check_value(label, &value, 0, STRAND_ERR_UNSUPPORTED, "x is an object of ");
        buffer_free(&b);
        buffer_free(&value);
    }
    buffer b = {0};
    put_bytes(&b, rows[9].bytes, rows[9].n);
    check_value("copyreg", &b, 0, STRAND_ERR_UNSUPPORTED, "x is an object of a.B,");
    buffer_free(&b);
}

/* ---- bombs ----------------------------------------------------------------------------------------------------------- */

static void test_bombs(void **state) {
    (void)state;
    buffer b = {0};
    put_fill(&b, ']', 100000); /* lists in lists: no recursion, and not a dict in the end */
    put_fill(&b, 'a', 99999);
    check_object("deep lists", &b, 0, STRAND_ERR_UNSUPPORTED, "holds a list");
    b.size = 0;
    for (int i = 0; i < 40; i++) put_text(&b, "}K\x01"); /* dicts in dicts */
    put_text(&b, "}");
    put_fill(&b, 's', 40);
    check_value("deep dicts", &b, 0, STRAND_ERR_FORMAT, "nested deeper than 32 dicts");
    b.size = 0;
    put_text(&b, "}r");
    put_int(&b, 5, 4);
    put_text(&b, "K\x01j");
    put_int(&b, 5, 4);
    put_text(&b, "s"); /* a dict that contains itself */
    check_value("a cycle", &b, 0, STRAND_ERR_FORMAT, "nested deeper than 32 dicts");
    b.size = 0;
    put_text(&b, "}\x94");
    for (int i = 0; i < 28; i++) { /* {1: the last, 2: the last} in the place of the last */
        put_text(&b, "0}(K\x01h");
        put_int(&b, (uint64_t)i, 1);
        put_text(&b, "K\x02h");
        put_int(&b, (uint64_t)i, 1);
        put_text(&b, "u\x94");
    }
    check_value("2^28 paths", &b, 0, STRAND_ERR_LIMIT, "repeat one another");
    b.size = 0;
    put_fill(&b, '(', 5000000); /* the stack is as long as the pickle: no more */
    check_object("marks", &b, 0, STRAND_ERR_FORMAT, "other than one value");
    b.size = 0;
    put_fill(&b, ']', 5000000);
    check_object("values", &b, 0, STRAND_ERR_LIMIT, "more than 4194304 values");
    b.size = 0;
    put_text(&b, "}(");
    char text[1025] = {0};
    memset(text, 'n', 900);
    pickle_text(&b, text);
    put_text(&b, "}(K\x01"); /* 200 names of 900 bytes in a pickle of a few thousand */
    pickle_tensor_value(&b, &W);
    put_text(&b, "\x94");
    for (int i = 2; i < 200; i++) put_text(&b, "K"), put_int(&b, (uint64_t)i, 1), put_bytes(&b, "h\0", 2);
    put_text(&b, "uu");
    check_value("names", &b, 0, STRAND_ERR_LIMIT, "more bytes of names");
    b.size = 0;
    memset(text, 'n', 1024);
    pickle_text(&b, "m");
    pickle_text(&b, text);
    put_text(&b, "n\x93");
    poke_int(&b, b.size - 2 - 1024 - 4, 1025, 4);
    check_object("a global's name", &b, 0, STRAND_ERR_FORMAT, "a name of more than 1024 bytes");
    b.size = 0;
    put_text(&b, "]");
    put_fill(&b, 0x94, 1000000);
    check_object("memo", &b, 0, STRAND_ERR_UNSUPPORTED, "holds a list");
    buffer_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bad_instructions), cmocka_unit_test(test_plain_data),
                                       cmocka_unit_test(test_not_executed), cmocka_unit_test(test_opaque),
                                       cmocka_unit_test(test_bombs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
