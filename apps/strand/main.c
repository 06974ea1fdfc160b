/* main.c - the program `strand`: finds the command, reads its options, runs it, and makes sure that what went to the standard
 * output has arrived.
 */
#include "commands.h"
#include "runtime.h"
#include "output.h"
#include "progress.h"

#include <htslib/hts.h>
#include <htslib/hts_log.h>
#include <stdio.h>
#include <string.h>

static int version(void) {
    printf("strand %s\n", STRAND_VERSION_STRING);
    printf("libstrand %s, htslib %s\n", strand_version(), hts_version());
    puts("Apache License 2.0");
    return EXIT_DONE;
}

/* The command that argv begins with; *words gets how many words its name has. */
static const command *find_command(int argc, char **argv, int *words) {
    char name[64];
    for (*words = 2; *words > 0; --*words) {
        if (*words > argc) continue;
        if (*words == 2)
            snprintf(name, sizeof name, "%s %s", argv[0], argv[1]);
        else
            snprintf(name, sizeof name, "%s", argv[0]);
        for (const command *cmd = command_table; cmd->name; cmd++)
            if (!strcmp(cmd->name, name)) return cmd;
    }
    return NULL;
}

/* Words that only begin the names of commands. */
static int is_group(const char *word) {
    return !strcmp(word, "dna") || !strcmp(word, "eeg") || !strcmp(word, "text");
}

static int unknown_command(int argc, char **argv) {
    if (!strcmp(argv[0], "dna")) {
        if (argc > 1)
            complain("'dna %s' is no command; there are dna score, embed, classify, variants, generate", argv[1]);
        else
            complain("dna needs a command: score, embed, classify, variants, generate");
    } else if (!strcmp(argv[0], "eeg")) {
        if (argc > 1)
            complain("'eeg %s' is no command; there are eeg info, predict, detect, stage, features, embed, score", argv[1]);
        else
            complain("eeg needs a command: info, predict, detect, stage, features, embed, score");
    } else if (!strcmp(argv[0], "text")) {
        if (argc > 1)
            complain("'text %s' is no command; there are text generate, chat, score, embed, tokenize, detokenize", argv[1]);
        else
            complain("text needs a command: generate, chat, score, embed, tokenize, detokenize");
    } else
        complain("'%s' is no command; 'strand help' lists them", argv[0]);
    return EXIT_USAGE;
}

static int help(int argc, char **argv) {
    int words;
    if (argc == 0) return help_overview();
    const command *cmd = find_command(argc, argv, &words);
    if (!cmd && is_group(argv[0]) && argc == 1) return help_overview();
    return cmd ? help_command(cmd) : unknown_command(argc, argv);
}

static int run_command(const command *cmd, int argc, char **argv, int words) {
    options settings = {0};
    int rc = options_parse(&settings, cmd, argc - 1 - words, argv + 1 + words);
    if (!rc && settings.help) {
        rc = help_command(cmd);
    } else if (!rc) {
        messages_quiet(settings.quiet);
        progress_setup(settings.quiet);
        settings.line = options_line(argc, argv);
        rc = settings.line ? cmd->run(&settings) : (complain("out of memory"), EXIT_FAILED);
        progress_clear();
    }
    options_free(&settings);
    return rc;
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        complain("no command; 'strand help' lists them");
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) return version();
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) return help_overview();
    if (!strcmp(argv[1], "help")) return help(argc - 2, argv + 2);
    if (!strcmp(argv[1], "--generate") && argc == 3) return help_generate(argv[2]);
    if (is_group(argv[1]) && argc == 3 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h"))) return help_overview();
    int words;
    const command *cmd = find_command(argc - 1, argv + 1, &words);
    return cmd ? run_command(cmd, argc, argv, words) : unknown_command(argc - 1, argv + 1);
}

int main(int argc, char **argv) {
    hts_set_log_level(HTS_LOG_OFF); /* our own messages name file, place and cure in one line */
    signals_setup();
    int rc = dispatch(argc, argv);
    if (output_finish_stdout() && rc == EXIT_DONE) rc = EXIT_FAILED;
    return signals_exit(rc);
}
