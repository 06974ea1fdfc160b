/* embed_page.c - run by the build: writes files as C arrays.  embed_page OUT NAME=FILE... */
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    FILE *out = argc > 2 ? fopen(argv[1], "wb") : NULL;
    if (!out) return 1;
    fputs("/* Made by embed_page.c from page/. */\n#include \"server.h\"\n", out);
    for (int i = 2; i < argc; i++) {
        const char *file = strchr(argv[i], '=');
        FILE *in = file ? fopen(file + 1, "rb") : NULL;
        if (!in) return fprintf(stderr, "%s: cannot be read\n", argv[i]), 1;
        fprintf(out, "const char page_%.*s[] = {", (int)(file - argv[i]), argv[i]);
        for (int c, n = 0; (c = getc(in)) != EOF; n++) fprintf(out, "%s%d,", n % 24 ? "" : "\n", c > 127 ? c - 256 : c);
        fputs("0};\n", out);
        fclose(in);
    }
    return fclose(out) != 0;
}
