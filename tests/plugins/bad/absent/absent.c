/* absent.c - a library that is there when the plugin is linked and not when it is loaded: nothing says where to find it. */
int strand_absent(void);

int strand_absent(void) {
    return 0;
}
