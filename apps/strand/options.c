/* options.c - reads a command line by the rows of a command's table.
 *
 * Options may stand anywhere (`strand dna score in.fa -f tsv`); `--` ends them; `-` alone is a positional (stdin or stdout).
 * Long options take `--name=value` or `--name value`, short ones `-@4` or `-@ 4`. A mistake is one line on stderr that names
 * the option, what it got and what it wants.
 */
#include "options.h"

#include "runtime.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage_error(const command *cmd, const char *what, const char *option, const char *detail) {
    complain("%s: %s '%s'%s; see 'strand help %s'", cmd->name, what, option, detail, cmd->name);
    return EXIT_USAGE;
}

static const option_row *find_row(const command *cmd, const char *name, size_t length, char letter) {
    for (int g = 0; g < 4 && cmd->groups[g]; g++)
        for (const option_row *row = cmd->groups[g]; row->name; row++) {
            if (name && strlen(row->name) == length && !strncmp(row->name, name, length)) return row;
            if (!name && row->letter == letter) return row;
        }
    return NULL;
}

int options_size(const char *text, uint64_t *bytes) {
    static const char units[] = "KMGT";
    char *end;
    errno = 0;
    const double number = strtod(text, &end);
    if (end == text || errno || !(number >= 0) || isspace((unsigned char)*text)) return 0;
    double scale = 1;
    if (*end) {
        const char *unit = strchr(units, toupper((unsigned char)*end));
        if (unit && *unit) {
            const int decimal = (end[1] == 'B' || end[1] == 'b') && end[2] == 0;
            scale = pow(decimal ? 1000 : 1024, (double)(unit - units + 1));
            end++;
            if (*end == 'i') end++;
        }
        if (*end == 'B' || *end == 'b') end++;
        if (*end) return 0;
    }
    const double value = number * scale;
    if (!(value < 9.0e18)) return 0;
    *bytes = (uint64_t)value;
    return 1;
}

static int word_index(const char *words, const char *text) {
    const size_t length = strlen(text);
    int index = 0;
    for (const char *word = words;; index++) {
        const char *bar = strchr(word, '|');
        const size_t width = bar ? (size_t)(bar - word) : strlen(word);
        if (width == length && !strncmp(word, text, width)) return index;
        if (!bar) return -1;
        word = bar + 1;
    }
}

static int store_number(const command *cmd, const option_row *row, void *field, const char *text) {
    char *end;
    char wanted[96];
    errno = 0;
    if (row->kind == OPTION_INT) {
        const long long value = strtoll(text, &end, 10);
        if (end != text && !*end && !errno && value >= row->least) {
            *(int64_t *)field = value;
            return 0;
        }
        snprintf(wanted, sizeof wanted, "' is no whole number of at least %" PRId64, row->least);
    } else {
        const double value = strtod(text, &end);
        if (end != text && !*end && !errno && isfinite(value) && value >= (double)row->least) {
            *(double *)field = value;
            return 0;
        }
        snprintf(wanted, sizeof wanted, "' is no number of at least %" PRId64, row->least);
    }
    complain("%s: --%s: '%s%s; see 'strand help %s'", cmd->name, row->name, text, wanted, cmd->name);
    return EXIT_USAGE;
}

static int store_item(text_list *list, const char *text) {
    const char **items = realloc(list->items, sizeof *items * (size_t)(list->n + 1));
    if (!items) return complain("out of memory"), EXIT_FAILED;
    items[list->n++] = text;
    list->items = items;
    return 0;
}

static int store(options *settings, const command *cmd, const option_row *row, const char *text) {
    void *field = (char *)settings + row->offset;
    switch (row->kind) {
    case OPTION_FLAG:
        *(int32_t *)field = 1;
        return 0;
    case OPTION_TEXT:
    case OPTION_FILE:
        *(const char **)field = text;
        return 0;
    case OPTION_LIST:
        return store_item(field, text);
    case OPTION_INT:
    case OPTION_REAL:
        return store_number(cmd, row, field, text);
    case OPTION_SHARD:
        return shard_parse(text, field);
    case OPTION_SIZE:
        if (options_size(text, field)) return 0;
        complain("%s: --%s: '%s' is no size; write 512M, 2G or 1.5GiB (powers of 1024) or 2GB (powers of 1000)", cmd->name,
                 row->name, text);
        return EXIT_USAGE;
    case OPTION_CHOICE: {
        const int index = word_index(row->value, text);
        if (index >= 0) {
            *(int32_t *)field = index;
            return 0;
        }
        complain("%s: --%s: '%s' is none of %s; see 'strand help %s'", cmd->name, row->name, text, row->value, cmd->name);
        return EXIT_USAGE;
    }
    }
    return EXIT_USAGE;
}

/* One option at argv[i]; *used gets how many words it took. */
static int parse_option(options *settings, const command *cmd, int argc, char **argv, int *used) {
    const char *word = argv[0], *value = NULL;
    const option_row *row;
    *used = 1;
    if (word[1] == '-') {
        const char *name = word + 2, *equals = strchr(name, '=');
        row = find_row(cmd, name, equals ? (size_t)(equals - name) : strlen(name), 0);
        if (equals) value = equals + 1;
    } else {
        row = find_row(cmd, NULL, 0, word[1]);
        if (row && row->kind != OPTION_FLAG && word[2]) value = word + 2;
        if (row && row->kind == OPTION_FLAG && word[2]) row = NULL;
    }
    if (!row) return usage_error(cmd, "unknown option", word, "");
    if (row->kind == OPTION_FLAG) {
        if (value) return usage_error(cmd, "option takes no value:", word, "");
    } else if (!value) {
        if (argc < 2) return usage_error(cmd, "option needs a value:", word, "");
        value = argv[1];
        *used = 2;
    }
    return store(settings, cmd, row, value);
}

int options_parse(options *settings, const command *cmd, int argc, char **argv) {
    settings->command = cmd;
    settings->args = calloc((size_t)argc + 1, sizeof *settings->args);
    if (!settings->args) return complain("out of memory"), EXIT_FAILED;
    if (cmd->defaults) cmd->defaults(settings);
    int only_args = 0;
    for (int i = 0, used; i < argc; i += used) {
        used = 1;
        if (!only_args && !strcmp(argv[i], "--"))
            only_args = 1;
        else if (only_args || argv[i][0] != '-' || !argv[i][1])
            settings->args[settings->n_args++] = argv[i];
        else {
            const int rc = parse_option(settings, cmd, argc - i, argv + i, &used);
            if (rc) return rc;
        }
        if (settings->help) return 0;
    }
    if (settings->n_args < cmd->min_args) {
        complain("%s: something is missing: strand %s %s; see 'strand help %s'", cmd->name, cmd->name, cmd->arguments,
                 cmd->name);
        return EXIT_USAGE;
    }
    if (cmd->max_args >= 0 && settings->n_args > cmd->max_args)
        return usage_error(cmd, "one argument too many:", settings->args[cmd->max_args], "");
    return 0;
}

void options_free(options *settings) {
    free(settings->line);
    free(settings->args);
    for (int g = 0; settings->command && g < 4 && settings->command->groups[g]; g++)
        for (const option_row *row = settings->command->groups[g]; row->name; row++)
            if (row->kind == OPTION_LIST) {
                text_list *list = (text_list *)(void *)((char *)settings + row->offset);
                free(list->items);
                *list = (text_list){0};
            }
}

static size_t quote_word(char *to, const char *word) {
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@%+=:,./-_^";
    size_t n = 0;
    const int bare = *word && !word[strspn(word, plain)];
    if (!bare) to[n++] = '\'';
    for (; *word; word++) {
        if (*word == '\'') {
            memcpy(to + n, "'\\''", 4);
            n += 4;
        } else { /* a header line must stay one line */
            to[n++] = (unsigned char)*word < 0x20 || *word == 0x7f ? '?' : *word;
        }
    }
    if (!bare) to[n++] = '\'';
    return n;
}

char *options_line(int argc, char **argv) {
    size_t room = 16;
    for (int i = 0; i < argc; i++) room += 4 * strlen(argv[i]) + 3;
    char *line = malloc(room);
    if (!line) return NULL;
    size_t n = 0;
    for (int i = 0; i < argc; i++) {
        if (i) line[n++] = ' ';
        n += quote_word(line + n, i ? argv[i] : "strand");
    }
    line[n] = 0;
    return line;
}
