/* png.c - pictures for reports: 8-bit RGBA PNG (deflated by zlib) as base64 text, and a colour scale that also works in grey
 * and for the colour-blind: dark blue through green to yellow, in even steps of brightness.
 */
#include "eeg_report.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

typedef struct base64 {
    output *out;
    uint8_t rest[3];
    int n;
} base64;

static void flush(base64 *b) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (!b->n) return;
    for (int i = b->n; i < 3; i++) b->rest[i] = 0;
    char text[4] = {letters[b->rest[0] >> 2], letters[(b->rest[0] & 3) << 4 | b->rest[1] >> 4],
                    letters[(b->rest[1] & 15) << 2 | b->rest[2] >> 6], letters[b->rest[2] & 63]};
    if (b->n < 3) text[3] = '=';
    if (b->n < 2) text[2] = '=';
    output_write(b->out, text, 4);
    b->n = 0;
}

static void put(base64 *b, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        b->rest[b->n++] = p[i];
        if (b->n == 3) flush(b);
    }
}

static void put_u32(uint8_t *to, uint32_t v) {
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void chunk(base64 *b, const char *type, const uint8_t *data, size_t n) {
    uint8_t head[8], tail[4];
    put_u32(head, (uint32_t)n);
    memcpy(head + 4, type, 4);
    uLong crc = crc32(0, head + 4, 4);
    if (n) crc = crc32(crc, data, (uInt)n);
    put_u32(tail, (uint32_t)crc);
    put(b, head, 8);
    put(b, data, n);
    put(b, tail, 4);
}

int png_write_base64(output *out, const uint8_t *rgba, int32_t width, int32_t height) {
    static const uint8_t magic[8] = {0x89, 'P', 'N', 'G', 13, 10, 26, 10};
    const size_t row = 4 * (size_t)width, bytes = (row + 1) * (size_t)height;
    uLongf packed = compressBound((uLong)bytes);
    uint8_t *raw = malloc(bytes), *data = malloc(packed);
    if (!raw || !data) {
        free(raw);
        free(data);
        return complain("out of memory"), -1;
    }
    for (int32_t y = 0; y < height; y++) {
        raw[(row + 1) * (size_t)y] = 0;
        memcpy(raw + (row + 1) * (size_t)y + 1, rgba + row * (size_t)y, row);
    }
    const int bad = compress2(data, &packed, raw, (uLong)bytes, 9) != Z_OK;
    base64 b = {.out = out};
    uint8_t header[13] = {0};
    put_u32(header, (uint32_t)width);
    put_u32(header + 4, (uint32_t)height);
    header[8] = 8;
    header[9] = 6;
    if (!bad) {
        put(&b, magic, 8);
        chunk(&b, "IHDR", header, 13);
        chunk(&b, "IDAT", data, packed);
        chunk(&b, "IEND", NULL, 0);
        flush(&b);
    }
    free(raw);
    free(data);
    return bad ? (complain("out of memory"), -1) : 0;
}

void colour_of(double value, uint8_t rgb[3]) {
    static const double stops[7][3] = {{20, 24, 68},   {48, 58, 134},  {42, 105, 143}, {34, 150, 137},
                                       {94, 190, 105}, {180, 215, 60}, {250, 232, 60}};
    if (!(value > 0)) value = 0;
    if (value > 1) value = 1;
    const double at = value * 6;
    const int i = at >= 6 ? 5 : (int)at;
    for (int k = 0; k < 3; k++) rgb[k] = (uint8_t)(stops[i][k] + (at - i) * (stops[i + 1][k] - stops[i][k]) + 0.5);
}
