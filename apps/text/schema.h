/* schema.h - JSON Schema to a grammar (grammar.h) that makes exactly such JSON.
 *
 * Understood: type (one or a list), properties with required and additionalProperties, items, prefixItems, minItems,
 * maxItems, enum, const, anyOf, oneOf, minLength, maxLength, $ref within the document. Notes (title, description, default,
 * examples ...) are passed over. A keyword that would restrict the JSON and is not understood is refused: a text that only
 * seems to follow a schema would be worse. Members come in the schema's order. */
#ifndef STRAND_APP_SCHEMA_H
#define STRAND_APP_SCHEMA_H

#include <stddef.h>

/* The grammar's text, to be freed; NULL and one line in `why`. "{}" stands for any JSON. */
char *schema_to_grammar(const char *schema, size_t n, char *why, size_t why_size);

#endif
