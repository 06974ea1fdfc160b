/* template.h - chat templates: the part of Jinja that published ones use, from messages to the text of a prompt.
 *
 * Understood: {{ }}, {% if/elif/else %}, for (with else, loop.*, a filter 'if'), set (also namespaces, and blocks), macro, {#
 * #}, whitespace control; strings, numbers, lists, dicts, attribute and index access, slices, calls of the usual methods and
 * functions (raise_exception, namespace, range, strftime_now), filters, tests, the operators and 'x if y else z'. Anything
 * else is an error of one line. Steps, nesting, and the text's size are bounded: templates come from strangers. */
#ifndef STRAND_APP_TEMPLATE_H
#define STRAND_APP_TEMPLATE_H

#include "json_read.h"

#include <stddef.h>

/* Renders with the members of `context` (messages, add_generation_prompt, bos_token ...) as variables. free() the result;
 * NULL and one line in `why`. */
char *template_render(const char *source, size_t n, const value *context, size_t *length, char *why, size_t why_size);

#endif
