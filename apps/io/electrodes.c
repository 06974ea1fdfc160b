/* electrodes.c - labels to channels, without silent mix-ups.
 *
 * A channel is found by --map first; then an electrode is a signal of that name whose reference is common to all electrodes,
 * and a derivation "A-B" is a signal labelled so, or the difference of two signals that share a reference. A name that fits two
 * signals is refused: the user decides. Synonyms are those of the 10-20 system (Jasper 1958, revised by the ACNS): T3 = T7, T4
 * = T8, T5 = P7, T6 = P8.
 */
#include "electrodes.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *const electrodes_tuh[19] = {"FP1", "FP2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2",
                                        "F7",  "F8",  "T3", "T4", "T5", "T6", "FZ", "CZ", "PZ"};
const char *const electrodes_bipolar[18] = {"FP1-F7", "F7-T3", "T3-T5", "T5-O1",  "FP2-F8", "F8-T4", "T4-T6", "T6-O2", "FP1-F3",
                                            "F3-C3",  "C3-P3", "P3-O1", "FP2-F4", "F4-C4",  "C4-P4", "P4-O2", "FZ-CZ", "CZ-PZ"};

/* ---- labels ---- */

static const char *modern(const char *name) {
    static const char *const pairs[][2] = {{"T3", "T7"}, {"T4", "T8"}, {"T5", "P7"}, {"T6", "P8"},
                                           {"A1", "M1"}, {"A2", "M2"}, {"01", "O1"}, {"02", "O2"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (!strcmp(name, pairs[i][0])) return pairs[i][1];
    return name;
}

/* Letters of an electrode of the 10-10 system, then z or a number up to 12. */
static int is_electrode(const char *name) {
    static const char *const rows[] = {"FP", "AF", "F", "FT", "FC", "C", "T", "TP", "CP", "P", "PO", "O", "I", "N", "M", "AFP"};
    size_t n = 0;
    while (isalpha((unsigned char)name[n]) && name[n] != 'Z') n++;
    int row = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) row = row || (strlen(rows[i]) == n && !strncmp(rows[i], name, n));
    if (!row) return 0;
    if (!strcmp(name + n, "Z")) return 1;
    char *end;
    const long number = strtol(name + n, &end, 10);
    return isdigit((unsigned char)name[n]) && !*end && number >= 1 && number <= 12;
}

/* Upper case, without blanks and dots, at most what fits. */
static void squeeze(const char *from, size_t n, char *to) {
    size_t used = 0;
    for (size_t i = 0; i < n && from[i] && used + 1 < ELECTRODE_BYTES; i++)
        if (from[i] != ' ' && from[i] != '.' && from[i] != '\t') to[used++] = (char)toupper((unsigned char)from[i]);
    to[used] = 0;
}

static int is_word(const char *text, const char *const *words) {
    for (; *words; words++)
        if (!strcmp(text, *words)) return 1;
    return 0;
}

/* The usual spellings of what is no electrode. */
static const char *other_name(const char *whole) {
    static const char *const ecg[] = {"ECG",     "EKG",      "EKG1",      "ECG1",      "ECGI",      "EKG-REF",
                                      "ECG-REF", "EKG1-REF", "ECGL-ECGR", "EKGL-EKGR", "ECG1-ECG2", NULL};
    static const char *const emg[] = {"EMG",       "EMG1",         "CHIN",  "EMGCHIN", "CHIN1-CHIN2",
                                      "EMG1-EMG2", "EMGSUBMENTAL", "CHIN1", "EMG-REF", NULL};
    static const char *const left[] = {"EOG1",   "LOC",   "EOGL",   "EOGLEFT", "E1",      "E1-M2",    "EOG1-M2",
                                       "LOC-M2", "E1-A2", "LOC-A2", "EOG1-A2", "LEFTEOG", "EOG1-REF", NULL};
    static const char *const right[] = {"EOG2",  "ROC",    "EOGR",    "EOGRIGHT", "E2",     "E2-M1",    "EOG2-M1",  "ROC-M1",
                                        "E2-A1", "ROC-A1", "EOG2-A1", "E2-M2",    "ROC-A2", "RIGHTEOG", "EOG2-REF", NULL};
    if (is_word(whole, ecg)) return "ECG";
    if (is_word(whole, emg)) return "EMG";
    if (is_word(whole, left)) return "EOG1";
    if (is_word(whole, right)) return "EOG2";
    return NULL;
}

static const char *skip_prefix(const char *label) {
    static const char *const prefixes[] = {"EEG", "POL", "ECG", "EMG", "EOG"};
    while (*label == ' ') label++;
    for (size_t i = 0; i < 2; i++) {
        const size_t n = strlen(prefixes[i]);
        if (!strncasecmp(label, prefixes[i], n) && (label[n] == ' ' || label[n] == '_' || label[n] == ':' || label[n] == '-'))
            return label + n + 1;
    }
    return label;
}

int electrode_parse(const char *label, char name[ELECTRODE_BYTES], char reference[ELECTRODE_BYTES]) {
    const char *text = skip_prefix(label);
    const size_t cut = strcspn(text, "-_/:");
    char left[ELECTRODE_BYTES], right[ELECTRODE_BYTES], whole[ELECTRODE_BYTES];
    squeeze(text, cut, left);
    squeeze(text[cut] ? text + cut + 1 : "", SIZE_MAX, right);
    const size_t n = strlen(right);
    if (n > 1 && right[n - 1] == '*') right[n - 1] = 0;
    snprintf(name, ELECTRODE_BYTES, "%s", modern(left));
    snprintf(reference, ELECTRODE_BYTES, "%s", modern(right));
    if (is_electrode(name)) return 1;
    squeeze(text, SIZE_MAX, whole);
    const char *other = other_name(whole);
    snprintf(name, ELECTRODE_BYTES, "%s", other ? other : whole);
    *reference = 0;
    return 0;
}

/* Azimuth from the nose (degrees, left negative) and distance from the vertex of the 10-20 electrodes on a flat head. */
int electrode_place(const char *label, double *x, double *y) {
    static const struct {
        const char *name;
        double angle, radius;
    } places[] = {{"FP1", -18, .8}, {"FP2", 18, .8},  {"FPZ", 0, .8},  {"F7", -54, .8},    {"F8", 54, .8},   {"F3", -39, .52},
                  {"F4", 39, .52},  {"FZ", 0, .4},    {"T7", -90, .8}, {"T8", 90, .8},     {"C3", -90, .4},  {"C4", 90, .4},
                  {"CZ", 0, 0},     {"P7", -126, .8}, {"P8", 126, .8}, {"P3", -141, .52},  {"P4", 141, .52}, {"PZ", 180, .4},
                  {"O1", -162, .8}, {"O2", 162, .8},  {"OZ", 180, .8}, {"M1", -108, 1.02}, {"M2", 108, 1.02}};
    char name[ELECTRODE_BYTES], reference[ELECTRODE_BYTES];
    if (!electrode_parse(label, name, reference)) return 0;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (!strcmp(name, places[i].name)) {
            const double a = places[i].angle * 3.14159265358979323846 / 180;
            *x = places[i].radius * sin(a);
            *y = places[i].radius * cos(a);
            return 1;
        }
    return 0;
}

double unit_microvolts(const char *unit) {
    if (!strcasecmp(unit, "uV") || !strcmp(unit, "µV") || !strcmp(unit, "μV") || !strcasecmp(unit, "microV") ||
        !strcmp(unit, "?V"))
        return 1;
    if (!strcmp(unit, "mV") || !strcmp(unit, "mv")) return 1e3;
    if (!strcmp(unit, "V") || !strcmp(unit, "v")) return 1e6;
    if (!strcmp(unit, "nV") || !strcmp(unit, "nv")) return 1e-3;
    return 0;
}

/* ---- the map ---- */

typedef struct parsed {
    char name[ELECTRODE_BYTES], reference[ELECTRODE_BYTES];
    int electrode;
} parsed;

static int fail(char *error, const char *format, const char *a, const char *b) {
    snprintf(error, MAP_ERROR_BYTES, format, a, b);
    return -1;
}

static parsed *parse_all(const recording *r) {
    parsed *p = calloc((size_t)r->n_signals + 1, sizeof *p);
    for (int32_t i = 0; p && i < r->n_signals; i++)
        p[i].electrode = electrode_parse(r->signals[i].label, p[i].name, p[i].reference);
    return p;
}

static int is_common_word(const char *reference) {
    static const char *const words[] = {"",     "REF",   "LE",    "AVG", "AV",  "AVE", "AR",  "CAR", "M1M2",
                                        "A1A2", "M1+M2", "A1+A2", "LER", "COM", "G2",  "GND", NULL};
    return is_word(reference, words);
}

/* The electrode that all signals with an electrode as reference share: "FP1-CZ F3-CZ ..." is referential, "FP1-F7 F7-T3" is
 * not. */
static const char *shared_reference(const parsed *p, int32_t n) {
    const char *shared = NULL;
    int32_t electrodes = 0, with = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!p[i].electrode) continue;
        electrodes++;
        if (is_common_word(p[i].reference)) continue;
        if (shared && strcmp(shared, p[i].reference)) return NULL;
        shared = p[i].reference;
        with++;
    }
    return with > 2 && with == electrodes ? shared : NULL;
}

static int is_referential(const parsed *p, const char *shared) {
    return p->electrode && (is_common_word(p->reference) || (shared && !strcmp(shared, p->reference)));
}

/* The signal that is electrode `name` (or the other channel of that name). -1: none; -2: several, a line in `error`. */
static int32_t find_single(const recording *r, const parsed *p, const char *shared, const char *name, char *error) {
    int32_t found = -1;
    for (int32_t i = 0; i < r->n_signals; i++) {
        if (strcmp(p[i].name, name) || (p[i].electrode && !is_referential(&p[i], shared))) continue;
        if (found >= 0) {
            snprintf(error, MAP_ERROR_BYTES,
                     "channel %s is there twice: signal %d '%.60s' and signal %d '%.60s'; choose with --map", name, found + 1,
                     r->signals[found].label, i + 1, r->signals[i].label);
            return -2;
        }
        found = i;
    }
    return found;
}

/* "C3-M2": such a label, or two signals with one reference. */
static int find_derivation(const recording *r, const parsed *p, const char *shared, const char *a, const char *b,
                           channel_source *c, char *error) {
    for (int32_t i = 0; i < r->n_signals; i++)
        if (p[i].electrode && !strcmp(p[i].name, a) && !strcmp(p[i].reference, b)) {
            c->plus = i;
            return 1;
        }
    const int32_t plus = find_single(r, p, shared, a, error), minus = find_single(r, p, shared, b, error);
    if (plus == -2 || minus == -2) return -1;
    if (plus < 0 || minus < 0) return 0;
    if (strcmp(p[plus].reference, p[minus].reference) || r->signals[plus].rate != r->signals[minus].rate) return 0;
    c->plus = plus;
    c->minus = minus;
    return 1;
}

static int set_scale(channel_source *c, const recording *r, char *error) {
    c->scale = 1;
    if (c->plus < 0) return 0;
    const rec_signal *s = &r->signals[c->plus];
    c->scale = unit_microvolts(s->unit);
    if (c->scale == 0 && s->unit[0] && !s->unscaled) {
        snprintf(error, MAP_ERROR_BYTES,
                 "channel %s would be signal '%.60s', whose unit '%.20s' is no voltage; choose another with --map", c->name,
                 s->label, s->unit);
        return -1;
    }
    if (c->scale == 0) c->scale = 1;
    if (c->minus >= 0 && unit_microvolts(r->signals[c->minus].unit) != unit_microvolts(s->unit))
        return fail(error, "channel %s: its two signals have different units%s", c->name, "");
    return 0;
}

static int find_channel(channel_source *c, const recording *r, const parsed *p, const char *shared, const map_options *o,
                        char *error) {
    char name[ELECTRODE_BYTES], reference[ELECTRODE_BYTES];
    const int electrode = electrode_parse(c->name, name, reference);
    int found;
    if (electrode && *reference) {
        found = find_derivation(r, p, shared, name, reference, c, error);
    } else {
        c->plus = find_single(r, p, shared, name, error);
        found = c->plus == -2 ? -1 : c->plus >= 0;
    }
    if (found < 0) return -1;
    if (!found && !o->zero_missing) {
        int bipolar = 0;
        for (int32_t i = 0; i < r->n_signals; i++) bipolar += p[i].electrode && !is_referential(&p[i], shared);
        if (bipolar > 2 && !*reference)
            return fail(error,
                        "channel %s is missing: the recording is bipolar (like '%.60s'), from which single electrodes cannot "
                        "be derived",
                        c->name, r->signals[0].label);
        return fail(error, "channel %s is missing%s; name its signal with --map FILE, or allow zeros with --missing zero",
                    c->name, *reference ? " and cannot be derived" : "");
    }
    if (!found) c->plus = -1;
    return 0;
}

/* One line of --map: "CHANNEL<tab or blanks>label" or "#number". */
static int take_map_line(channel_map *map, const recording *r, char *line, int number, char *error) {
    char name[ELECTRODE_BYTES], reference[ELECTRODE_BYTES], wanted[ELECTRODE_BYTES], other[ELECTRODE_BYTES];
    line[strcspn(line, "\r\n")] = 0;
    while (*line == ' ' || *line == '\t') line++;
    if (!*line || *line == '#') return 0;
    char *label = line + strcspn(line, "\t=");
    if (*label) *label++ = 0;
    while (*label == ' ' || *label == '\t') label++;
    size_t n = strlen(label);
    while (n && label[n - 1] == ' ') label[--n] = 0;
    electrode_parse(line, name, reference);
    for (int32_t c = 0; c < map->n; c++) {
        electrode_parse(map->channels[c].name, wanted, other);
        if (strcmp(name, wanted) || strcmp(reference, other)) continue;
        for (int32_t i = 0; i < r->n_signals; i++) {
            const int by_number = label[0] == '#' && strtol(label + 1, NULL, 10) == i + 1;
            if (!by_number && strcmp(r->signals[i].label, label)) continue;
            map->channels[c].plus = i;
            map->channels[c].by_map = 1;
            return 0;
        }
        snprintf(error, MAP_ERROR_BYTES,
                 "--map line %d: the recording has no signal '%.80s'; 'strand eeg info' lists its labels", number, label);
        return -1;
    }
    snprintf(error, MAP_ERROR_BYTES, "--map line %d: '%.40s' is none of the channels that are wanted (%s ... %s)", number, line,
             map->channels[0].name, map->channels[map->n - 1].name);
    return -1;
}

static int take_map(channel_map *map, const recording *r, const char *path, char *error) {
    FILE *file = fopen(path, "r");
    char line[512];
    int bad = 0, number = 0;
    if (!file) return fail(error, "%.200s: cannot be opened: %s", path, strerror(errno));
    while (!bad && fgets(line, sizeof line, file)) bad = take_map_line(map, r, line, ++number, error);
    if (!bad && ferror(file)) bad = fail(error, "%.200s: cannot be read%s", path, "");
    fclose(file);
    return bad;
}

int channel_map_open(channel_map *map, const recording *r, const char *const *wanted, int32_t n, const map_options *options,
                     char *error) {
    memset(map, 0, sizeof *map);
    map->channels = calloc((size_t)n + 1, sizeof *map->channels);
    parsed *p = parse_all(r);
    map->n = n;
    int bad = !map->channels || !p ? fail(error, "out of memory%s%s", "", "") : 0;
    for (int32_t c = 0; !bad && c < n; c++) {
        snprintf(map->channels[c].name, ELECTRODE_BYTES, "%s", wanted[c]);
        map->channels[c].plus = map->channels[c].minus = -1;
    }
    if (!bad && options->file) bad = take_map(map, r, options->file, error);
    const char *shared = bad ? NULL : shared_reference(p, r->n_signals);
    for (int32_t c = 0; !bad && c < n; c++) {
        if (!map->channels[c].by_map) bad = find_channel(&map->channels[c], r, p, shared, options, error);
        if (!bad) bad = set_scale(&map->channels[c], r, error);
    }
    int32_t zeros = 0;
    for (int32_t c = 0; !bad && c < n; c++) zeros += map->channels[c].plus < 0;
    if (!bad && zeros == n) bad = fail(error, "none of the wanted channels is in the recording%s%s", "", "");
    if (!bad && shared) snprintf(map->common, sizeof map->common, "%s", shared);
    free(p);
    if (bad) channel_map_close(map);
    return bad;
}

int channel_map_all(channel_map *map, const recording *r, char *error) {
    memset(map, 0, sizeof *map);
    map->channels = calloc((size_t)r->n_signals + 1, sizeof *map->channels);
    if (!map->channels) return fail(error, "out of memory%s%s", "", "");
    for (int32_t i = 0; i < r->n_signals; i++) {
        channel_source *c = &map->channels[map->n++];
        char name[ELECTRODE_BYTES], reference[ELECTRODE_BYTES];
        const int electrode = electrode_parse(r->signals[i].label, name, reference);
        snprintf(c->name, ELECTRODE_BYTES, "%.23s", r->signals[i].label);
        if (electrode && is_common_word(reference)) snprintf(c->name, ELECTRODE_BYTES, "%s", name);
        c->plus = i;
        c->minus = -1;
        c->scale = unit_microvolts(r->signals[i].unit);
        if (c->scale == 0) c->scale = 1;
    }
    return 0;
}

void channel_map_close(channel_map *map) {
    free(map->channels);
    map->channels = NULL;
    map->n = 0;
}

void channel_map_text(const channel_map *map, const recording *r, int32_t channel, char *text, size_t size) {
    const channel_source *c = &map->channels[channel];
    if (c->plus < 0)
        snprintf(text, size, "missing: zeros");
    else if (c->minus < 0)
        snprintf(text, size, "%s%s", r->signals[c->plus].label, c->by_map ? " (by --map)" : "");
    else
        snprintf(text, size, "%s minus %s", r->signals[c->plus].label, r->signals[c->minus].label);
}
