/* text_list.h - several texts in their order, as an option holds them that may be given more than once. Whoever made the list
 * owns `items`. */
#ifndef STRAND_APP_TEXT_LIST_H
#define STRAND_APP_TEXT_LIST_H

typedef struct text_list {
    const char **items;
    int n;
} text_list;

#endif
