/* The plugin "words": counts the words of texts. Plain C against plugkeep.h, nothing else.
 *
 * count(text, ...) answers, for all texts together:
 *     {"words": 7, "characters": 41, "lines": 2, "frequent": [["plugin", 3], ...]}
 */
#include <plugkeep.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FREQUENT = 12, LONG_ENOUGH = 4, LONGEST = 64 };

typedef struct { char *word; size_t count; } entry;

/* All words of one call: a hash table with open addressing, at most half full. */
typedef struct { entry *entries; size_t size, used; } table;

typedef struct { table table; size_t words, characters, lines; char word[LONGEST + 1];
                 size_t bytes, letters; int line_open; } tally;

static const char *failure; /* why the last function failed */

static entry *find(table *t, const char *word) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (const char *c = word; *c; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    size_t at = hash & (t->size - 1);
    while (t->entries[at].word && strcmp(t->entries[at].word, word)) at = (at + 1) & (t->size - 1);
    return &t->entries[at];
}

static int grow(table *t) {
    table larger = { calloc(t->size ? t->size * 2 : 1024, sizeof(entry)),
                     t->size ? t->size * 2 : 1024, t->used };
    if (!larger.entries) return 0;
    for (size_t i = 0; i < t->size; i++)
        if (t->entries[i].word) *find(&larger, t->entries[i].word) = t->entries[i];
    free(t->entries);
    *t = larger;
    return 1;
}

static int add(table *t, const char *word) {
    if (t->used * 2 >= t->size && !grow(t)) return 0;
    entry *e = find(t, word);
    if (!e->word) {
        if (!(e->word = strdup(word))) return 0;
        t->used++;
    }
    e->count++;
    return 1;
}

static int is_letter(uint32_t c) {
    if (c < 0x80) return (c | 32) - 'a' < 26u || c - '0' < 10u || c == '_';
    /* Beyond ASCII: all but signs and spaces of Latin-1, punctuation, CJK marks, pictures. */
    return c >= 0xC0 && c != 0xD7 && c != 0xF7 && !(c >= 0x2000 && c < 0x2C00) &&
           !(c >= 0x3000 && c < 0x3040) && !(c >= 0xFE00 && c < 0xFE10) && c < 0x1F000;
}

static int end_word(tally *t) {
    int counts = t->letters >= LONG_ENOUGH && (t->word[0] < '0' || t->word[0] > '9');
    t->words += t->letters > 0;
    t->word[t->bytes] = 0;
    t->bytes = t->letters = 0;
    return !counts || add(&t->table, t->word);
}

static int see(tally *t, uint32_t c) {
    t->characters++;
    t->lines += !t->line_open; /* the first character of a line */
    t->line_open = c != '\n';
    if (!is_letter(c)) return end_word(t);
    char utf8[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = { 0, 0, 0xC0, 0xE0, 0xF0 };
    utf8[0] = (char)(n == 1 ? (c - 'A' < 26u ? c | 32 : c) : lead[n] | c >> (6 * (n - 1)));
    for (size_t i = 1; i < n; i++) utf8[i] = (char)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3F));
    if (t->bytes + n <= LONGEST) memcpy(t->word + t->bytes, utf8, n), t->bytes += n;
    t->letters++;
    return 1;
}

static uint32_t hex4(const char *s) {
    char digits[5] = { s[0], s[1], s[2], s[3], 0 };
    return (uint32_t)strtoul(digits, NULL, 16);
}

/* Return the next character of a JSON string that the host wrote, so a correct one. */
static uint32_t next(const char **at) {
    const unsigned char *s = (const unsigned char *)*at;
    if (*s == '\\') {
        *at += s[1] == 'u' ? 6 : 2;
        if (s[1] != 'u') return s[1] == 'n' ? '\n' : strchr("bfrt", s[1]) ? ' ' : s[1];
        uint32_t c = hex4((const char *)s + 2);
        if (c < 0xD800 || c > 0xDBFF || s[6] != '\\') return c;
        *at += 6; /* the second half */
        return 0x10000 + ((c - 0xD800) << 10) + (hex4((const char *)s + 8) - 0xDC00);
    }
    int more = *s < 0x80 ? 0 : *s < 0xE0 ? 1 : *s < 0xF0 ? 2 : 3;
    uint32_t c = more ? *s & (0x3F >> more) : *s;
    for (int i = 1; i <= more; i++) c = c << 6 | (s[i] & 0x3F);
    *at += more + 1;
    return c;
}

static int count_all(tally *t, const char *request) {
    for (const char *at = request; *at; at++) {
        if (*at != '"') continue; /* between the texts */
        for (at++; *at != '"';)
            if (!see(t, next(&at))) return 0;
        if (!end_word(t)) return 0;
        t->line_open = 0;
    }
    return 1;
}

static int more_frequent(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    return x->word && y->word ? strcmp(x->word, y->word) : 0;
}

static char *report(tally *t) {
    char *text = malloc(256 + FREQUENT * (LONGEST + 32)), *end = text;
    if (!text) return NULL;
    qsort(t->table.entries, t->table.size, sizeof(entry), more_frequent);
    end += sprintf(end, "{\"words\": %zu, \"characters\": %zu, \"lines\": %zu, \"frequent\": [",
                   t->words, t->characters, t->lines);
    for (size_t i = 0; i < FREQUENT && i < t->table.used; i++)
        end += sprintf(end, "%s[\"%s\", %zu]", i ? ", " : "", t->table.entries[i].word,
                       t->table.entries[i].count);
    strcpy(end, "]}");
    return text;
}

static int call(const plugkeep_plugin *self, const char *method, const char *request, size_t size,
                plugkeep_response *response) {
    (void)self, (void)size;
    if (strcmp(method, "count")) return PLUGKEEP_NO_SUCH_METHOD;
    if (*request != '[') return failure = "count takes texts", PLUGKEEP_FAILED;
    tally t = { 0 };
    char *text = grow(&t.table) && count_all(&t, request) ? report(&t) : NULL;
    for (size_t i = 0; i < t.table.size; i++) free(t.table.entries[i].word);
    free(t.table.entries);
    if (!text) return failure = "out of memory", PLUGKEEP_FAILED;
    *response = (plugkeep_response){ text, strlen(text), free };
    return PLUGKEEP_OK;
}

static int start(const plugkeep_plugin *self) { return (void)self, PLUGKEEP_OK; }
static int stop(const plugkeep_plugin *self) { return (void)self, PLUGKEEP_OK; }
static const char *last_error(const plugkeep_plugin *self) { return (void)self, failure; }

static const plugkeep_plugin words = {
    PLUGKEEP_HEAD, .name = "words", .start = start, .stop = stop, .call = call,
    .last_error = last_error,
};

const plugkeep_plugin *PluginFactory(void) { return &words; }
