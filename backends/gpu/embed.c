/* embed.c - a tool of the build: writes the bytes of files as C arrays. embed OUT NAME=PATH... */
#include <stdio.h>
#include <string.h>

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
        fprintf(out, "static const _Alignas(16) unsigned char text_%s[] = {", argv[i]);
        while ((c = getc(in)) != EOF) fprintf(out, n++ % 32 ? "%d," : "\n%d,", c);
        fprintf(out, "10,0};\n");
        fclose(in);
    }
    return fclose(out) ? 1 : 0;
}
