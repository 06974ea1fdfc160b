/* progress.h - how far a command is, shown on a terminal only, and what Ctrl-C does.
 *
 * A first SIGINT, SIGTERM or SIGHUP asks the command to stop: the library's run is cancelled through progress_callback, the
 * command unwinds, its temporary files go, and signals_exit dies by that signal as a shell expects. A second one, or the first
 * while the program waits for input, removes the temporary files in the handler and dies at once.
 */
#ifndef STRAND_APP_PROGRESS_H
#define STRAND_APP_PROGRESS_H

void signals_setup(void);
int interrupted(void);
/* Around a read that may block for ever (standard input). */
void signals_waiting(int on);
/* Ends the process by the signal that asked it to stop, if one did (or by SIGPIPE after a closed pipe); else returns rc. */
int signals_exit(int rc);

void progress_setup(int quiet);
/* `unit` is "bases" or "variants". */
void progress_begin(const char *unit);
/* More is done; counted when it is of the unit that was begun with. */
void progress_add(const char *unit, double count);
/* `fraction` of the whole is done, or a negative number when that is not known. */
void progress_fraction(double fraction);
/* Removes the line, so that a message can be written. */
void progress_clear(void);
/* A strand_progress_fn. */
int progress_callback(void *user, double done);

#endif
