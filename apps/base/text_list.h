/* text_list.h - several texts in their order: the values of a repeatable option. `items` is owned by the options
 * (options_free).
 */
#ifndef STRAND_APP_TEXT_LIST_H
#define STRAND_APP_TEXT_LIST_H

typedef struct text_list {
    const char **items;
    int n;
} text_list;

#endif
