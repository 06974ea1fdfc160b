/* stream.h - float frames from a descriptor, as a recording that grows.
 */
#ifndef STRAND_APP_STREAM_H
#define STRAND_APP_STREAM_H

#include "recording.h"

/* Keeps the newest `seconds`. NULL with a line in `error`. The descriptor stays the caller's. */
recording *stream_open(int fd, const char *labels, double rate, double seconds, char *error);
/* Nonzero when all has been read. 0 for other recordings. */
int stream_ended(const recording *r);

#endif
