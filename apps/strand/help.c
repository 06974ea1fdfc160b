/* help.c - what is generated from the command table: --help, the man page, completions for bash, zsh and fish.
 */
#include "runtime.h"

#include <stdio.h>
#include <string.h>

enum { WIDTH = 80, INDENT = 6 };

/* Prints a paragraph wrapped to WIDTH, every line indented; `text` ends at '\n' or 0. */
static void wrap(const char *text, size_t length, int indent) {
    size_t column = 0, at = 0;
    while (at < length) {
        size_t word = strcspn(text + at, " ");
        if (word > length - at) word = length - at;
        if (column && column + 1 + word > (size_t)WIDTH) {
            putchar('\n');
            column = 0;
        }
        if (!column)
            column = (size_t)printf("%*s", indent, "");
        else
            column += (size_t)printf(" ");
        column += fwrite(text + at, 1, word, stdout);
        at += word;
        while (at < length && text[at] == ' ') at++;
    }
    if (length) putchar('\n');
}

static void paragraphs(const char *text, int indent) {
    while (*text) {
        const size_t length = strcspn(text, "\n");
        wrap(text, length, indent);
        text += length;
        if (*text) putchar('\n');
        while (*text == '\n') text++;
    }
}

static void option_title(const option_row *row, char *title, size_t size) {
    char letter[8] = "";
    if (row->letter) snprintf(letter, sizeof letter, "-%c, ", row->letter);
    snprintf(title, size, "%s--%s%s%s", letter, row->name, row->value ? " " : "", row->value ? row->value : "");
}

int help_command(const command *cmd) {
    char title[160];
    printf("strand %s - %s\n\n  strand %s [OPTIONS] %s\n\n", cmd->name, cmd->summary, cmd->name, cmd->arguments);
    paragraphs(cmd->text, 0);
    puts("Options:");
    for (int g = 0; g < 4 && cmd->groups[g]; g++)
        for (const option_row *row = cmd->groups[g]; row->name; row++) {
            option_title(row, title, sizeof title);
            printf("  %s\n", title);
            wrap(row->help, strlen(row->help), INDENT);
        }
    puts("\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 some records failed.");
    return EXIT_DONE;
}

int help_overview(void) {
    puts("strand - long sequences through published models, on this machine\n\nCommands:");
    int width = 0;
    for (const command *cmd = command_table; cmd->name; cmd++)
        if ((int)strlen(cmd->name) > width) width = (int)strlen(cmd->name);
    for (const command *cmd = command_table; cmd->name; cmd++) printf("  strand %-*s  %s\n", width, cmd->name, cmd->summary);
    puts("\n  strand help COMMAND   options of a command\n  strand --version      version of program and library");
    return EXIT_DONE;
}

/* ---- man page ------------------------------------------------------------------------------------------------------- */

/* roff text: backslash and hyphen escaped, no line begins with a control character. */
static void roff(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        const char c = text[i];
        if (i == 0 && (c == '.' || c == '\'')) fputs("\\&", stdout);
        if (c == '\\')
            fputs("\\e", stdout);
        else if (c == '-')
            fputs("\\-", stdout);
        else
            putchar(c);
    }
}

static void roff_string(const char *text) {
    roff(text, strlen(text));
}

static void man_paragraphs(const char *text) {
    while (*text) {
        const size_t length = strcspn(text, "\n");
        puts(".PP");
        roff(text, length);
        putchar('\n');
        text += length;
        while (*text == '\n') text++;
    }
}

static void man_option(const option_row *row) {
    puts(".TP");
    if (row->letter) printf("\\fB\\-%c\\fR, ", row->letter);
    fputs("\\fB\\-\\-", stdout);
    roff_string(row->name);
    fputs("\\fR", stdout);
    if (row->value) {
        fputs(" \\fI", stdout);
        roff_string(row->value);
        fputs("\\fR", stdout);
    }
    putchar('\n');
    roff_string(row->help);
    putchar('\n');
}

static int man_page(void) {
    printf(".TH STRAND 1 \"\" \"strand %s\" \"Strand\"\n.SH NAME\nstrand \\- long sequences through published models\n",
           STRAND_VERSION_STRING);
    puts(".SH SYNOPSIS");
    for (const command *cmd = command_table; cmd->name; cmd++) {
        printf(".B strand %s\n[OPTIONS] ", cmd->name);
        roff_string(cmd->arguments);
        puts("\n.br");
    }
    puts(".SH DESCRIPTION\nStrand runs published models of DNA and other long sequences on the machine at hand: no network, no "
         "Python. Each command is described in a section of its own; options that several commands share are repeated there.");
    for (const command *cmd = command_table; cmd->name; cmd++) {
        printf(".SH STRAND ");
        for (const char *p = cmd->name; *p; p++) putchar(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
        printf("\n.B strand %s\n[OPTIONS] ", cmd->name);
        roff_string(cmd->arguments);
        printf("\n.PP\n");
        roff_string(cmd->summary);
        puts(".");
        man_paragraphs(cmd->text);
        for (int g = 0; g < 4 && cmd->groups[g]; g++)
            for (const option_row *row = cmd->groups[g]; row->name; row++) man_option(row);
    }
    puts(".SH EXIT STATUS\n0 done; 1 failed; 2 wrong usage; 3 done, but some records failed.");
    puts(".SH FILES\nOutput files appear by renaming when they are complete. Where a FASTA file that regions are taken from "
         "has no "
         ".fai index, one is made beside it, or in $TMPDIR when that is not possible.");
    puts(".SH SEE ALSO\n.BR samtools (1),\n.BR bcftools (1),\n.BR bgzip (1)");
    return EXIT_DONE;
}

/* ---- completions ---------------------------------------------------------------------------------------------------- */

static int bash_completion(void) {
    puts("# bash completion for strand, generated by 'strand --generate bash'\n_strand() {\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd=${COMP_WORDS[1]} words=\n"
         "    [[ $cmd == dna && COMP_CWORD -gt 2 ]] && cmd=\"dna ${COMP_WORDS[2]}\"\n    case \"$cmd:$prev\" in");
    for (const command *cmd = command_table; cmd->name; cmd++)
        for (int g = 0; g < 4 && cmd->groups[g]; g++)
            for (const option_row *row = cmd->groups[g]; row->name; row++) {
                if (row->kind == OPTION_FLAG) continue;
                printf("    \"%s:--%s\"", cmd->name, row->name);
                if (row->letter) printf("|\"%s:-%c\"", cmd->name, row->letter);
                if (row->kind == OPTION_CHOICE) {
                    fputs(") words=\"", stdout);
                    for (const char *p = row->value; *p; p++) putchar(*p == '|' ? ' ' : *p);
                    puts("\"; COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")); return;;");
                } else if (row->kind == OPTION_FILE)
                    puts(") COMPREPLY=($(compgen -f -- \"$cur\")); return;;");
                else
                    puts(") return;;");
            }
    puts("    esac\n    if [[ $cur == -* ]]; then\n        case $cmd in");
    for (const command *cmd = command_table; cmd->name; cmd++) {
        printf("        \"%s\") words=\"", cmd->name);
        for (int g = 0; g < 4 && cmd->groups[g]; g++)
            for (const option_row *row = cmd->groups[g]; row->name; row++) printf("--%s ", row->name);
        puts("\";;");
    }
    puts("        *) words=\"--version --help\";;\n        esac\n    elif [[ $COMP_CWORD == 1 ]]; then\n        words=\"dna "
         "forecast run inspect "
         "backends plan bench merge help\"\n    elif [[ $COMP_CWORD == 2 && $cmd == dna ]]; then");
    fputs("        words=\"", stdout);
    for (const command *cmd = command_table; cmd->name; cmd++)
        if (!strncmp(cmd->name, "dna ", 4)) printf("%s ", cmd->name + 4);
    puts("\"\n    else\n        COMPREPLY=($(compgen -f -- \"$cur\")); return\n    fi\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -o filenames -F _strand strand");
    return EXIT_DONE;
}

static void single_quoted(const char *text) {
    for (; *text; text++) {
        if (*text == '\'')
            fputs("\\'", stdout);
        else if (*text == '\\')
            fputs("\\\\", stdout);
        else
            putchar(*text);
    }
}

static int fish_completion(void) {
    puts("# fish completion for strand, generated by 'strand --generate fish'\ncomplete -c strand -n __fish_use_subcommand -a "
         "'dna help'");
    for (const command *cmd = command_table; cmd->name; cmd++) {
        const int dna = !strncmp(cmd->name, "dna ", 4);
        const char *word = dna ? cmd->name + 4 : cmd->name;
        printf("complete -c strand -n '%s' -a %s -d '", dna ? "__fish_seen_subcommand_from dna" : "__fish_use_subcommand",
               word);
        single_quoted(cmd->summary);
        puts("'");
        for (int g = 0; g < 4 && cmd->groups[g]; g++)
            for (const option_row *row = cmd->groups[g]; row->name; row++) {
                printf("complete -c strand -n '__fish_seen_subcommand_from %s' -l %s", word, row->name);
                if (row->letter) printf(" -s %c", row->letter);
                if (row->kind != OPTION_FLAG) fputs(row->kind == OPTION_FILE ? " -r -F" : " -x", stdout);
                if (row->kind == OPTION_CHOICE) {
                    fputs(" -a '", stdout);
                    for (const char *p = row->value; *p; p++) putchar(*p == '|' ? ' ' : *p);
                    fputs("'", stdout);
                }
                fputs(" -d '", stdout);
                single_quoted(row->help);
                puts("'");
            }
    }
    return EXIT_DONE;
}

/* zsh runs bash completions as they are; its file only has to say so. */
static int zsh_completion(void) {
    puts("#compdef strand\nautoload -U +X bashcompinit && bashcompinit");
    return bash_completion();
}

int help_generate(const char *what) {
    if (!strcmp(what, "man")) return man_page();
    if (!strcmp(what, "bash")) return bash_completion();
    if (!strcmp(what, "zsh")) return zsh_completion();
    if (!strcmp(what, "fish")) return fish_completion();
    complain("--generate: '%s' is none of man, bash, zsh, fish", what);
    return EXIT_USAGE;
}
