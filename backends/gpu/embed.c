/* embed.c - a tool of the build: writes the bytes of files as C arrays. embed OUT NAME=PATH...
 * The arrays are filled by string literals, which compilers read many times faster than lists of numbers; the zero behind
 * them is the literal's own. */
#include <stdio.h>
#include <string.h>

/* One byte of a literal. Octal escapes end after three digits, whatever follows; a question mark might begin a trigraph. */
static void put(FILE *out, int c) {
    if (c >= ' ' && c < 127 && !strchr("\\\"?", c))
        putc(c, out);
    else
        fprintf(out, "\\%03o", c);
}

int main(int argc, char **argv) {
    FILE *out = argc > 1 ? fopen(argv[1], "w") : NULL;
    if (!out) return 1;
    for (int i = 2; i < argc; i++) {
        char *path = strchr(argv[i], '=');
        FILE *in;
        long n = 0;
        int c;
        if (!path) return 1;
        *path++ = 0;
        in = fopen(path, "rb");
        if (!in) {
            fprintf(stderr, "embed: cannot open %s\n", path);
            return 1;
        }
        fprintf(out, "static const _Alignas(16) unsigned char text_%s[] = \"", argv[i]);
        while ((c = getc(in)) != EOF) {
            if (n++ % 64 == 0) fprintf(out, "\"\n\"");
            put(out, c);
        }
        fprintf(out, "\\n\";\n");
        fclose(in);
    }
    return fclose(out) ? 1 : 0;
}
