/* serve_none.c - `strand serve` in a build without libmicrohttpd: one line. */
#include "commands.h"
#include "common.h"

int run_serve(const options *settings) {
    (void)settings;
    complain("serve: this build is without the server; build it with -Dserve=enabled (libmicrohttpd)");
    return EXIT_FAILED;
}
