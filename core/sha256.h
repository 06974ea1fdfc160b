/* sha256.h - SHA-256 (FIPS 180-4), fed in pieces: it names a model's weights and binds saved states to them. */
#ifndef STRAND_CORE_SHA256_H
#define STRAND_CORE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
#define SHA256_HEX   65 /* 64 digits and the zero */

typedef struct sha256 {
    uint32_t state[8];
    uint64_t bytes; /* fed so far */
    uint8_t block[64];
} sha256;

void sha256_init(sha256 *s);
void sha256_update(sha256 *s, const void *data, size_t bytes);
/* Whole blocks by the plain form, for tests; only between whole blocks. */
void sha256_plain_update(sha256 *s, const void *data, size_t blocks);
/* Ends the message; `s` must be initialised again before it is fed anew. */
void sha256_final(sha256 *s, uint8_t digest[SHA256_BYTES]);
/* The same, as lower-case hex digits. */
void sha256_final_hex(sha256 *s, char hex[SHA256_HEX]);

#endif
