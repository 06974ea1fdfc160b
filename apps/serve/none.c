/* none.c - `strand serve` where libmicrohttpd was not found when Strand was built. */
#include "commands.h"
#include "runtime.h"

int run_serve(const options *settings) {
    (void)settings;
    complain("serve: this build has no server: install libmicrohttpd-dev and configure with -Dserve=enabled");
    return EXIT_FAILED;
}
