/* chat.h - messages to the text of a prompt by a model's chat template, or by a plain form where it has none. */
#ifndef STRAND_APP_CHAT_H
#define STRAND_APP_CHAT_H

#include "json_read.h"
#include "text.h"

typedef struct chat_message {
    char *role, *content;
} chat_message;

typedef struct chat {
    chat_message *items;
    int n, room;
} chat;

/* Copies. 0, or -1 after a message. */
int chat_add(chat *c, const char *role, const char *content, size_t n);
void chat_free(chat *c);
/* The prompt for the messages of `root` ({"messages": [...], ...}); `source`: a template given by the user, or NULL. free()
 * it; NULL and one line in `why`. *stop: what ends an answer in the plain form, else NULL. */
char *chat_render(const runtime *rt, const char *source, const value *root, size_t *n, const char **stop, char *why,
                  size_t why_size);
/* The same for a conversation. */
char *chat_prompt(const runtime *rt, const char *source, const chat *c, size_t *n, const char **stop, char *why,
                  size_t why_size);

#endif
