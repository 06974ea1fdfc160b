/* say.h - messages of one line, and exit codes: what every room of the command line may use.
 */
#ifndef STRAND_APP_SAY_H
#define STRAND_APP_SAY_H

#if defined(__GNUC__)
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))
#else
#define PRINTF_LIKE(text, first)
#endif

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_PARTIAL = 3 };

/* "strand: ..." on stderr, always exactly one line. */
void complain(const char *format, ...) PRINTF_LIKE(1, 2);
/* The same for things worth knowing that are no failure; silent after messages_quiet(1). */
void remark(const char *format, ...) PRINTF_LIKE(1, 2);
void messages_quiet(int quiet);

#endif
