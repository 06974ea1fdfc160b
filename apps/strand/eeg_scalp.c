/* eeg_scalp.c - heads of a report: the channels' values spread over the scalp, and the graph between the electrodes.
 */
#include "eeg_report.h"
#include "escape.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SCALP_PIXELS = 150 };

typedef struct scalp {
    double x[REPORT_NODES], y[REPORT_NODES], value[REPORT_NODES], low, high;
    int32_t n, index[REPORT_NODES];
} scalp;

static void place_channels(scalp *p, const eeg_report *r, const eeg_source *s) {
    p->n = 0;
    p->low = INFINITY;
    p->high = -INFINITY;
    for (int32_t c = 0; c < s->map.n && c < REPORT_NODES; c++) {
        if (s->map.channels[c].plus < 0 || !electrode_place(s->map.channels[c].name, &p->x[p->n], &p->y[p->n])) continue;
        p->value[p->n] = r->node_n ? r->node_sum[c] / (double)r->node_n : 0;
        p->low = fmin(p->low, p->value[p->n]);
        p->high = fmax(p->high, p->value[p->n]);
        p->index[p->n++] = c;
    }
    if (p->high - p->low < 1e-9) p->high = p->low + 1e-9;
}

/* Inverse-distance weighting between the electrodes, inside the head. */
static int scalp_picture(output *out, const scalp *p) {
    uint8_t *rgba = calloc(SCALP_PIXELS * SCALP_PIXELS, 4);
    if (!rgba) return complain("out of memory"), -1;
    for (int i = 0; i < SCALP_PIXELS * SCALP_PIXELS; i++) {
        const double x = ((i % SCALP_PIXELS) + 0.5) / SCALP_PIXELS * 2 - 1,
                     y = 1 - ((i / SCALP_PIXELS) + 0.5) / SCALP_PIXELS * 2;
        if (x * x + y * y > 1) continue;
        double sum = 0, weights = 0;
        for (int32_t c = 0; c < p->n; c++) {
            const double d = (x - p->x[c]) * (x - p->x[c]) + (y - p->y[c]) * (y - p->y[c]), w = 1 / (d * d + 1e-4);
            sum += w * p->value[c];
            weights += w;
        }
        colour_of((sum / weights - p->low) / (p->high - p->low), rgba + 4 * i);
        rgba[4 * i + 3] = 255;
    }
    const int bad = png_write_base64(out, rgba, SCALP_PIXELS, SCALP_PIXELS);
    free(rgba);
    return bad;
}

static void head_outline(output *out, double x, double y, double radius) {
    output_printf(out,
                  "<circle class=\"head\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/><path class=\"head\" d=\"M%.1f %.1fL%.1f "
                  "%.1fL%.1f %.1f\"/>",
                  x, y, radius, x - 14, y - radius + 1, x, y - radius - 16, x + 14, y - radius + 1);
    output_printf(out, "<path class=\"head\" d=\"M%.1f %.1fq-10 12 0 24M%.1f %.1fq10 12 0 24\"/>", x - radius, y - 12,
                  x + radius, y - 12);
}

static void edges(output *out, const eeg_report *r, const scalp *p, double cx, double cy, double radius) {
    double most = 0;
    for (int32_t a = 0; a < p->n; a++)
        for (int32_t b = 0; b < p->n; b++)
            if (a != b) most = fmax(most, r->graph[p->index[a] * 19 + p->index[b]]);
    for (int32_t a = 0; a < p->n && most > 0; a++)
        for (int32_t b = a + 1; b < p->n; b++) {
            const double w = fmax(r->graph[p->index[a] * 19 + p->index[b]], r->graph[p->index[b] * 19 + p->index[a]]) / most;
            if (w < 0.08) continue;
            output_printf(out,
                          "<line class=\"edge\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
                          "style=\"stroke-width:%.2f;opacity:%.2f\"/>",
                          cx + p->x[a] * radius, cy - p->y[a] * radius, cx + p->x[b] * radius, cy - p->y[b] * radius,
                          0.5 + 3.5 * w, 0.25 + 0.7 * w);
        }
}

static void names(output *out, const eeg_source *s, const scalp *p, double cx, double cy, double radius, const char *class_) {
    for (int32_t c = 0; c < p->n; c++)
        output_printf(out,
                      "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/><text class=\"%s\" x=\"%.1f\" y=\"%.1f\" "
                      "text-anchor=\"middle\">%s</text>",
                      cx + p->x[c] * radius, cy - p->y[c] * radius, class_, cx + p->x[c] * radius, cy - p->y[c] * radius - 7,
                      s->map.channels[p->index[c]].name);
}

int figure_scalp(output *out, const eeg_report *r, const eeg_source *s, const char *label) {
    scalp p;
    const double radius = 130, y = 165, x1 = 200, x2 = 640;
    place_channels(&p, r, s);
    if (p.n < 4) return 0;
    svg_begin(out, 320, label);
    int bad = 0;
    if (r->node_n) {
        output_printf(out, "<image x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" href=\"data:image/png;base64,",
                      x1 - radius, y - radius, 2 * radius, 2 * radius);
        bad = scalp_picture(out, &p);
        output_printf(out, "\"/>");
        head_outline(out, x1, y, radius);
        names(out, s, &p, x1, y, radius, "over");
        for (int i = 0; i < 40; i++) {
            uint8_t rgb[3];
            colour_of(i / 39.0, rgb);
            output_printf(out, "<rect x=\"380\" y=\"%.1f\" width=\"14\" height=\"5.5\" fill=\"#%02x%02x%02x\"/>",
                          y + 100 - 5 * i, rgb[0], rgb[1], rgb[2]);
        }
        output_printf(
            out, "<text class=\"tick\" x=\"400\" y=\"%.1f\">%.3g</text><text class=\"tick\" x=\"400\" y=\"%.1f\">%.3g</text>",
            y - 90, p.high, y + 106, p.low);
        output_printf(out, "<text class=\"label\" x=\"%.1f\" y=\"316\" text-anchor=\"middle\">", x1);
        write_html_text(out, label);
        output_printf(out, "</text>");
    }
    if (r->graph_n) {
        head_outline(out, x2, y, radius);
        edges(out, r, &p, x2, y, radius);
        names(out, s, &p, x2, y, radius, "label clear");
        output_printf(out,
                      "<text class=\"label\" x=\"%.1f\" y=\"316\" text-anchor=\"middle\">graph between electrodes, mean over "
                      "windows</text>",
                      x2);
    }
    output_printf(out, "</svg>\n");
    return bad;
}
