/* The second decoder of text: codecs 21, 22 and 23, written from
 * format-spec/codecs/ alone.
 *
 * tools/spec_decoder.py compiles this and calls it, since its own Python takes
 * minutes for what mixes models. It proves the pages, so it goes as they go:
 * names and order are theirs, nothing is vectorized. Plain C11, but for >> of
 * negative numbers, which rounds down in all compilers known.
 *
 * Each function decodes one block of `size` bytes into `out`. It returns null,
 * or why the block is damaged. Parameters were checked before.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;

static const char kNoMemory[] = "no memory";

static i64 clamp(i64 x, i64 low, i64 high) {
  return x < low ? low : x > high ? high : x;
}
static i64 min(i64 a, i64 b) { return a < b ? a : b; }

/* To a signed number of 32 bits. */
static i32 wrap(i64 x) {
  const u32 bits = (u32)((u64)x & 0xFFFFFFFF);
  return bits < 0x80000000 ? (i32)bits : (i32)((i64)bits - ((i64)1 << 32));
}

static int bit_length(u64 x) {
  int bits = 0;
  for (; x != 0; x >>= 1) bits++;
  return bits;
}

static u32 ones(u32 x) {
  u32 count = 0;
  for (; x != 0; x >>= 1) count += x & 1;
  return count;
}

/* ---- 10-mix.md: bit coder
 * ------------------------------------------------------------------ */

typedef struct {
  const u8* code;
  size_t size, next;
  u32 low, high, x;
} Coder;

static void coder_shift(Coder* c) {
  c->x = c->x << 8 | (c->next < c->size ? c->code[c->next] : 0);
  c->next++;
}

static Coder coder_of(const u8* code, size_t size) {
  Coder c = {code, size, 0, 0, 0xFFFFFFFF, 0};
  for (int i = 0; i < 4; i++) coder_shift(&c);
  return c;
}

static int coder_bit(Coder* c, u32 p) {
  const u32 split = c->low + (u32)((u64)(c->high - c->low) * p >> 16);
  const int bit = c->x <= split;
  if (bit) {
    c->high = split;
  } else {
    c->low = split + 1;
  }
  while (c->low >> 24 == c->high >> 24) {
    c->low <<= 8;
    c->high = c->high << 8 | 255;
    coder_shift(c);
  }
  return bit;
}

static bool coder_ended(const Coder* c) { return c->next == c->size + 3; }

/* ---- 22-text_cm.md: tables
 * ----------------------------------------------------------------- */

enum { kEdge = 3071, kPoints = 32, kStates = 255 };

static u32 squash_table[2 * kEdge + 1];
static int stretch_table[4096];

static u32 squash(i64 x) {
  return squash_table[clamp(x, -kEdge, kEdge) + kEdge];
}
static int stretch(u32 p) { return stretch_table[p >> 4]; }

static void make_curves(void) {
  u64 e = (u64)1 << 32;
  for (int i = 0; i <= kEdge; i++) {
    const u64 s = ((u64)1 << 32) + e;
    const u32 value = (u32)min((i64)((((u64)1 << 48) + s / 2) / s), 65535);
    squash_table[kEdge + i] = value;
    if (i > 0) squash_table[kEdge - i] = 65536 - value;
    e = (e * 4278222805u + ((u64)1 << 31)) >> 32;
  }
  int x = -kEdge;
  for (u32 p = 0; p < 4096; p++) {
    while (squash(x) < p * 16 + 8) x++;
    stretch_table[p] = x;
  }
}

/* A history: counts of zeros and ones, and the last bit where that is known. */
typedef struct {
  int n[2], last;
} History;

static History histories[kStates];
static u8 next_state[kStates][2];
static u32 first_guess[kStates];

static bool exists(const int n[2]) {
  static const int most[] = {41, 40, 12, 8, 6, 5};
  const int small = n[0] < n[1] ? n[0] : n[1], big = n[0] < n[1] ? n[1] : n[0];
  return small <= 5 && big <= most[small];
}

static bool knows_last(const int n[2]) {
  return n[0] > 0 && n[1] > 0 && n[0] + n[1] <= 12;
}

static u8 state_of(const int n[2], int last) {
  if (!knows_last(n)) last = 0;
  int i = 0;
  while (histories[i].n[0] != n[0] || histories[i].n[1] != n[1] ||
         histories[i].last != last)
    i++;
  return (u8)i;
}

static void make_histories(void) {
  static const int faded[] = {2, 3, 3, 4, 4, 4, 5, 5, 5};
  static const int most[] = {41, 40, 12, 8, 6, 5};
  int count = 0;
  for (int total = 0; total <= 82; total++) {
    for (int o = 0; o <= total; o++) {
      const int n[2] = {total - o, o};
      if (!exists(n)) continue;
      for (int last = 0; last <= knows_last(n); last++) {
        histories[count++] = (History){{n[0], n[1]}, last};
      }
    }
  }
  for (int i = 0; i < count; i++) {
    const int* n = histories[i].n;
    for (int y = 0; y < 2; y++) {
      int m[2] = {n[0], n[1]};
      m[y]++;
      const int x = m[1 - y];
      if (x > 2) m[1 - y] = x <= 11 ? faded[x - 3] : 6;
      while (!exists(m)) {
        const int big = m[0] > m[1] ? 0 : 1, small = m[1 - big];
        if (small <= 5 && m[big] > most[small]) {
          m[big]--;
        } else {
          m[1 - big]--;
        }
      }
      next_state[i][y] = state_of(m, y);
    }
    const u32 g = (u32)((5 * n[1] + 2) * 65536 / (5 * (n[0] + n[1]) + 4));
    first_guess[i] =
        knows_last(n) ? (7 * g + 65536 * (u32)histories[i].last) / 8 : g;
  }
}

static void make_tables(void) {
  static bool made = false;
  if (made) return;
  make_curves();
  make_histories();
  made = true;
}

static u32 step(u32 n) { return 131072 / (2 * n + 3); }

static u32 hash(u32 a, u32 b) {
  u32 h = a * 0x2F0B4C47u + b * 0x9E3779B1u;
  h ^= h >> 15;
  return h * 0x85EBCA6Bu;
}

static void fill_points(u16* refined, size_t count) {
  for (size_t i = 0; i < count * kPoints; i++) {
    refined[i] = (u16)squash(128 * (i64)(i % kPoints) - 1984);
  }
}

/* ---- 21-bwt.md
 * -----------------------------------------------------------------------------
 */

/* The adaptive bit of 10-mix.md. */
typedef struct {
  u32 p, n;
} Bit;

static void bit_learn(Bit* b, int bit, u32 limit) {
  const i64 target = bit ? (1 << 22) - 1 : 0;
  b->p = (u32)(b->p + ((target - b->p) * step(b->n) >> 16));
  if (b->n < limit) b->n++;
}

static Bit* new_bits(size_t count) {
  Bit* bits = malloc(count * sizeof(Bit));
  for (size_t i = 0; bits && i < count; i++) bits[i] = (Bit){1 << 21, 0};
  return bits;
}

enum { kMostBits = 7 };

/* A set of weights for each choice. */
typedef i32 Weights[kMostBits + 1];

static Weights* new_weights(size_t count, int inputs) {
  Weights* sets = calloc(count, sizeof(Weights));
  for (size_t i = 0; sets && i < count; i++) {
    for (int k = 0; k < inputs; k++) sets[i][k] = 8400 / inputs;
  }
  return sets;
}

static i64 sat(i64 x) { return clamp(x, -32768, 32767); }

/* One bit that `count` adaptive bits predict. */
static int mixed_bit(Coder* c, int count, Bit* const bits[], const u32 limits[],
                     i32* u, i32* v) {
  i64 input[kMostBits + 1], sum = 0;
  for (int i = 0; i < count; i++)
    input[i] = clamp(stretch(bits[i]->p >> 6), -2047, 2047);
  input[count] = 256;
  for (int i = 0; i <= count; i++) sum += input[i] * sat((i64)u[i] + v[i]);
  const u32 p = squash(clamp(sum >> 14, -2047, 2047));
  const int bit = coder_bit(c, p);
  const i64 e = (65536 * (i64)bit - p) >> 3;
  for (int i = 0; i <= count; i++) {
    const i64 d = (((2 * input[i] * e) >> 16) + 1) >> 1;
    u[i] = (i32)sat(u[i] + d);
    v[i] = (i32)sat(v[i] + d);
  }
  for (int i = 0; i < count; i++) bit_learn(bits[i], bit, limits[i]);
  return bit;
}

typedef struct {
  i64 c[256], t, u;
  int s;
} Counts;

static void counts_add(Counts* counts, int symbol) {
  counts->c[symbol] += counts->u;
  counts->t += counts->u;
  counts->u += counts->u >> counts->s;
  if (counts->u < 1 << 21) return;
  counts->u >>= 11;
  counts->t = 0;
  for (int i = 0; i < 256; i++) counts->t += counts->c[i] >>= 11;
}

static i64 lg(i64 x) {
  const i64 y = 8 * x + 8;
  const int b = bit_length((u64)y) - 1;
  return 8 * (b - 3) + (y >> (b - 3)) % 8;
}

static int share(const Counts* counts, int symbol) {
  const i64 c = counts->c[symbol];
  return (int)clamp(((lg(c) - lg(counts->t - c)) >> 2) + 16, 0, 31);
}

/* A prefix code as a tree: a child is a node, or -1 - symbol. */
typedef struct {
  int symbols, child[256][2];
  u8 byte[256], length[256];
  u16 code[256];
} Tree;

static bool read_tree(Coder* coder, Tree* tree) {
  Bit bits[16][16];
  int lengths[256], before = 0, sum = 0, count = 0;
  for (int i = 0; i < 256; i++) bits[i / 16][i % 16] = (Bit){1 << 21, 0};
  for (int i = 0; i < 256; i++) {
    int node = 1;
    for (int k = 0; k < 4; k++) {
      Bit* b = &bits[before][node];
      const int bit = coder_bit(coder, (u32)clamp(b->p >> 6, 1, 65535));
      bit_learn(b, bit, 30);
      node = 2 * node + bit;
    }
    lengths[i] = before = node - 16;
    if (before > 0) sum += 1 << (15 - before);
  }
  for (int length = 1; length <= 15; length++) {
    for (int i = 0; i < 256; i++) {
      if (lengths[i] != length) continue;
      tree->byte[count] = (u8)i;
      tree->length[count++] = (u8)length;
    }
  }
  tree->symbols = count;
  if (sum != 1 << 15 && !(count == 1 && tree->length[0] == 1)) return false;
  int nodes = 1, code = 0;
  tree->child[0][0] = tree->child[0][1] = 0;
  for (int symbol = 0; symbol < count; symbol++) {
    const int length = tree->length[symbol];
    if (symbol > 0) code = (code + 1) << (length - tree->length[symbol - 1]);
    tree->code[symbol] = (u16)code;
    int x = 0;
    for (int i = length - 1; i >= 0; i--) {
      int* child = &tree->child[x][code >> i & 1];
      if (i == 0) {
        *child = -1 - symbol;
      } else if (*child == 0) {
        tree->child[nodes][0] = tree->child[nodes][1] = 0;
        *child = nodes++;
      }
      x = *child;
    }
  }
  if (count == 1) tree->child[0][1] = tree->child[0][0];
  return true;
}

/* The state of "Symbols". */
typedef struct {
  Bit flag0, *flag1, *flag2, *flag3, *node[kMostBits];
  Weights *flag_u, *flag_v, *node_u, *node_v;
  u8 history[256], (*history_after)[256];
  Counts recent, usual;
} Bwt;

static bool bwt_allocate(Bwt* b, int k) {
  const size_t sizes[kMostBits] = {
      256, 65536, 65536, 65536, (size_t)256 << k, 256 * 128, 256 * 128};
  memset(b, 0, sizeof *b);
  b->flag0 = (Bit){1 << 21, 0};
  b->flag1 = new_bits(256 * 8);
  b->flag2 = new_bits(32 * 32 * 16);
  b->flag3 = new_bits(16 * 16);
  bool good = b->flag1 && b->flag2 && b->flag3;
  for (int i = 0; i < kMostBits; i++)
    good = (b->node[i] = new_bits(sizes[i])) && good;
  b->flag_u = new_weights(32 * 16, 4);
  b->flag_v = new_weights(256 * 16, 4);
  b->node_u = new_weights(256 * 8, 7);
  b->node_v = new_weights(256 * 16, 7);
  b->history_after = calloc(256, 256);
  b->recent.s = 4;
  b->usual.s = 6;
  b->recent.u = b->usual.u = 1024;
  return good && b->flag_u && b->flag_v && b->node_u && b->node_v &&
         b->history_after;
}

static void bwt_free(Bwt* b) {
  free(b->flag1);
  free(b->flag2);
  free(b->flag3);
  for (int i = 0; i < kMostBits; i++) free(b->node[i]);
  free(b->flag_u);
  free(b->flag_v);
  free(b->node_u);
  free(b->node_v);
  free(b->history_after);
}

static void read_column(Coder* coder, const Tree* tree, Bwt* b, int k, size_t n,
                        u8* column) {
  static const u32 flag_limits[] = {14, 14, 250, 250},
                   limits[] = {14, 14, 250, 30, 30, 250, 250};
  u32 last = 0, before = 0, third = 0, run0 = 0, ranks = 0;
  size_t run = 0;
  for (size_t i = 0; i < n; i++) {
    u32 r = (u32)run;
    if (run >= 8) {
      const int o = bit_length(run);
      r = (u32)min(15, 2 * o + (int)((run >> (o - 2)) % 2));
    }
    const u32 q = (u32)min((i64)run, 7);
    const u32 recent = (u32)share(&b->recent, (int)last),
              usual = (u32)share(&b->usual, (int)last);
    Bit* const flag[] = {&b->flag0, &b->flag1[last * 8 + q],
                         &b->flag2[(recent * 32 + usual) * 16 + r],
                         &b->flag3[run0 * 16 + r]};
    u32 symbol = last;
    if (mixed_bit(coder, 4, flag, flag_limits, b->flag_u[recent * 16 + r],
                  b->flag_v[last * 16 + r])) {
      run++;
    } else {
      for (int times = 0; times < (int)min((i64)run, 6); times++) {
        int x = 0;
        for (int j = tree->length[last] - 1; j >= 0; j--) {
          const int bit = tree->code[last] >> j & 1;
          bit_learn(&b->node[0][x], bit, 14);
          b->history[x] = (u8)((2 * b->history[x] + bit) % 128);
          x = tree->child[x][bit];
        }
      }
      const u32 h = (last << 8 | before) * 0x9E3779B1u >> (32 - k);
      int x = 0;
      while (x >= 0) {
        const u32 node = (u32)x;
        u8* after = &b->history_after[last][x];
        Bit* const bits[] = {&b->node[0][node],
                             &b->node[1][last * 256 + node],
                             &b->node[2][last * 256 + node],
                             &b->node[3][before * 256 + node],
                             &b->node[4][h * 256 + node],
                             &b->node[5][node * 128 + b->history[x]],
                             &b->node[6][(node * 8 + q) * 16 + *after]};
        const int bit =
            mixed_bit(coder, 7, bits, limits, b->node_u[node * 8 + q],
                      b->node_v[node * 16 + ranks]);
        b->history[x] = (u8)((2 * b->history[x] + bit) % 128);
        *after = (u8)((2 * *after + bit) % 16);
        x = tree->child[x][bit];
      }
      symbol = (u32)(-1 - x);
      ranks = (4 * ranks + (symbol == before  ? 0
                            : symbol == third ? 1
                                              : 2)) %
              16;
      run0 = r;
      third = before;
      before = last;
      last = symbol;
      run = 0;
    }
    counts_add(&b->recent, (int)symbol);
    counts_add(&b->usual, (int)symbol);
    column[i] = tree->byte[symbol];
  }
}

/* "The transform". `rows` are w numbers, `column` is without row P. */
static const char* turn_back(const u32* rows, size_t w, const u8* column,
                             size_t n, u8* out) {
  const size_t p = rows[0];
  u32* next = malloc((n + 1) * sizeof(u32));
  u8* byte = malloc(n + 1);
  if (next && byte) {
    u32 c[256] = {0}, sum = 1;
    for (size_t i = 0; i < n; i++) c[column[i]]++;
    for (int i = 0; i < 256; i++) {
      const u32 count = c[i];
      c[i] = sum;
      sum += count;
    }
    for (size_t row = 0; row <= n; row++) {
      byte[row] = row < p ? column[row] : row == p ? 0 : column[row - 1];
      next[row] = row == p ? 0 : c[byte[row]]++;
    }
    for (size_t i = 1; i <= w; i++) {
      size_t row = i < w ? rows[i] : 0;
      for (size_t at = n * i / w; at > n * (i - 1) / w; at--) {
        out[at - 1] = byte[row];
        row = next[row];
      }
    }
  }
  const bool good = next && byte;
  free(next);
  free(byte);
  return good ? NULL : kNoMemory;
}

const char* spec_bwt(const u8* coded, size_t coded_size, u8* out, size_t n) {
  make_tables();
  const size_t w = n < 65536 ? 1 : 8;
  const int k = (int)clamp(bit_length(n) - 9, 4, 11);
  u32 rows[8];
  if (coded_size < 3 * w) return "bwt: rows";
  for (size_t i = 0; i < w; i++) {
    rows[i] =
        coded[3 * i] | (u32)coded[3 * i + 1] << 8 | (u32)coded[3 * i + 2] << 16;
    if (rows[i] < 1 || rows[i] > n) return "bwt block has a row that is none";
  }
  Coder coder = coder_of(coded + 3 * w, coded_size - 3 * w);
  Tree tree;
  if (!read_tree(&coder, &tree)) return "bwt block's code is not complete";
  Bwt b;
  u8* column = malloc(n);
  const char* why = kNoMemory;
  if (bwt_allocate(&b, k) && column) {
    read_column(&coder, &tree, &b, k, n, column);
    why = coder_ended(&coder) ? turn_back(rows, w, column, n, out)
                              : "bwt block's code has a wrong length";
  }
  bwt_free(&b);
  free(column);
  return why;
}

/* ---- 22-text_cm.md: fast
 * ------------------------------------------------------------------- */

enum { kFastContexts = 9, kFastInputs = 16, kFastStart = 64 };

typedef struct {
  u8 check[4], state[4][16];
} FastLine;

typedef struct {
  u32 p, count;
} Entry;

typedef struct {
  int lines, n, inputs;
  bool records;
  u32 maps[kFastContexts][kStates];
  FastLine* table;
  u8 (*order1)[17][16];
  Entry match[32];
  u32* index;
  int b;
  i32 weights0[256][kFastInputs], weights1[160][kFastInputs], final[256][2];
  u16 (*refined)[kPoints];
  /* Text state: text[0] is position 0. */
  u8* text;
  size_t position, line, above;
  u32 word, word_before, column, field;
  size_t place, length;
  bool expects;
  u8 expected;
  i64 age;
  u32 hashes[kFastContexts], second[kFastContexts];
  u8* slot[kFastContexts];
  int known;
  /* Of the bit that is predicted. */
  u32 path, node;
  int bits, state[kFastContexts];
  i64 input[kFastInputs], m[2], x;
  i32 *w[2], *f;
  u16* near;
  Entry* entry;
} Fast;

static u8* line_find(FastLine* l, u32 check) {
  int least = 0;
  for (int i = 0; i < 4; i++) {
    if (l->check[i] == (check & 255)) return l->state[i];
    if (l->state[i][1] < l->state[least][1]) least = i;
  }
  memset(l->state[least], 0, 16);
  l->check[least] = (u8)check;
  return l->state[least];
}

static void fast_count_known(Fast* f) {
  f->known = 0;
  for (int i = 1; i <= 4; i++) f->known += f->slot[i][1] != 0;
}

static void fast_first_slots(Fast* f, u32 last) {
  f->path = f->node = 1;
  f->bits = 0;
  f->slot[0] = f->order1[f->text[f->position - 1]][0];
  for (int i = 1; i < f->n; i++) {
    const u32 h = f->hashes[i];
    f->slot[i] = line_find(&f->table[h >> (32 - f->lines)], 4 * h + last);
    f->second[i] = h + last * 0x3C6EF372u;
  }
  fast_count_known(f);
}

static void fast_second_slots(Fast* f, u32 v) {
  f->node = 1;
  f->slot[0] = f->order1[f->text[f->position - 1]][1 + v];
  for (int i = 1; i < f->n; i++) {
    const u32 h = f->second[i];
    f->slot[i] = line_find(&f->table[hash(h, 4 + (v >> 2)) >> (32 - f->lines)],
                           4 * (h >> 12) + (v & 3));
  }
  fast_count_known(f);
}

/* From the state before the byte c of which `six` is c >> 2: text ends before
 * c. */
static void fast_hash(Fast* f, u32 six) {
  const u8* t = f->text + f->position;
  const u32 c2 = t[-1], c3 = t[-2], c4 = t[-3], c5 = t[-4], c6 = t[-5];
  const u32 letter = six >= 16 ? six | 8 : six;
  const u32 a = f->above + 1 < f->position ? f->text[f->above + 1] : 0;
  f->hashes[1] = hash(c2 * 256 + six, 0x10000);
  f->hashes[2] = hash((c3 << 16) + (c2 << 8) + six, 0x20000);
  f->hashes[3] = hash((c4 << 24) + (c3 << 16) + (c2 << 8) + six, 0x30000);
  f->hashes[4] =
      hash((c5 << 24) + (c4 << 16) + (c3 << 8) + c2, c6 * 256 + six + 0x40000);
  f->hashes[5] = hash(f->word, letter + 0x50000);
  f->hashes[6] = hash(f->word + letter * 0x2F0B4C47u, f->word_before);
  f->hashes[7] = hash(f->field, six + 0x60000);
  f->hashes[8] = hash((a << 16) + (c2 << 8) + six, 0x70000);
}

/* The position after c was reached. */
static void fast_match(Fast* f, u32 c) {
  const u8* t = f->text + f->position;
  const u32 c2 = t[-2], c3 = t[-3], c4 = t[-4], c5 = t[-5], c6 = t[-6];
  const u32 h =
      hash((c5 << 24) + (c4 << 16) + (c3 << 8) + c2, c6 * 256 + (c >> 1));
  const u32 e = 2 * (h >> (33 - f->b)) + (c & 1);
  if (f->length > 0 && f->text[f->place] == c) {
    f->place++;
    if (f->length < 65535) f->length++;
  } else {
    f->place = f->index[e];
    f->length = 0;
    if (f->place != 0) {
      const u8* p = f->text + f->place;
      while (f->length < 32 && p[-1 - (i64)f->length] == t[-1 - (i64)f->length])
        f->length++;
      if (f->length < 6) f->length = 0;
    }
  }
  f->index[e] = (u32)f->position;
  f->expects = f->length > 0;
  f->expected = f->expects ? f->text[f->place] : 0;
}

static void fast_take(Fast* f, u32 c) {
  fast_hash(f, c >> 2);
  f->text[f->position++] = (u8)c;
  fast_match(f, c);
  const bool capital = c >= 'A' && c <= 'Z';
  if (capital || (c >= 'a' && c <= 'z') || c >= 128) {
    f->word = hash(f->word, capital ? c + 32 : c) + 1;
  } else if (f->word != 0) {
    f->word_before = f->word;
    f->word = 0;
  }
  if (c == 10) {
    f->above = f->line;
    f->line = f->position;
    f->column = f->field = 0;
  } else {
    if (f->above + 1 < f->line) f->above++;
    if (c == ',' || c == ';' || c == '|' || c == 9) {
      f->column++;
      f->field = f->column * 0x9E3779B1u;
    } else {
      f->field = hash(f->field, c);
    }
  }
  fast_first_slots(f, c & 3);
}

static int expected_bit(u32 byte, int bits) { return byte >> (7 - bits) & 1; }

static u32 fast_predict(Fast* f) {
  int sure = 0;
  for (int i = 0; i < f->n; i++) {
    const int t = f->state[i] = f->slot[i][f->node];
    f->input[i] = stretch(f->maps[i][t] >> 16);
    if (f->records && i >= 1 && i <= 6) {
      f->input[f->n + i] = ((i64)(f->maps[i][t] >> 16) - 32768) >> 4;
    }
  }
  f->input[f->n] = 0;
  if (f->expects) {
    const size_t l = f->length;
    const size_t k = l < 16    ? l
                     : l < 48  ? 16 + (l - 16) / 4
                     : l < 496 ? 24 + (l - 48) / 64
                               : 31;
    f->entry = &f->match[k];
    const int s = stretch(f->entry->p >> 6);
    f->input[f->n] = expected_bit(f->expected, f->bits) ? s : -s;
    sure = l < 12 ? 1 : l < 24 ? 2 : 3;
  }
  f->w[0] = f->weights0[f->path];
  f->w[1] = f->weights1[(4 * f->known + sure) * 8 + f->bits];
  f->f = f->final[f->path];
  for (int s = 0; s < 2; s++) {
    i64 sum = 128;
    for (int i = 0; i < f->inputs; i++)
      sum += wrap(f->input[i] * f->w[s][i]) >> 8;
    f->m[s] = clamp(wrap(sum) >> 8, -kEdge, kEdge);
  }
  f->x = clamp((f->m[0] * f->f[0] + f->m[1] * f->f[1] + 32768) >> 16, -kEdge,
               kEdge);
  const i64 place = clamp(f->x, -1984, 1983) + 1984, j = place >> 7,
            w = place & 127;
  u16* r = f->refined[256 * f->text[f->position - 1] + f->path];
  f->near = r + j + (w >> 6);
  const i64 refined = (r[j] * (128 - w) + r[j + 1] * w) >> 7;
  return (u32)((squash(f->x) + 3 * refined + 2) >> 2);
}

static void fast_note(Fast* f, int y) {
  for (int i = 0; i < f->n; i++) {
    u8* state = &f->slot[i][f->node];
    *state = next_state[*state][y];
  }
  if (f->expects && expected_bit(f->expected, f->bits) != y) f->expects = false;
  f->path = 2 * f->path + (u32)y;
  f->node = 2 * f->node + (u32)y;
  f->bits++;
  if (f->bits == 4) {
    fast_second_slots(f, f->path & 15);
  } else if (f->bits == 8) {
    fast_take(f, f->path & 255);
  }
}

static void fast_learn(Fast* f, int y) {
  const i64 top = 65536 * (i64)y;
  for (int i = 0; i < f->n; i++) {
    u32* m = &f->maps[i][f->state[i]];
    *m = y ? *m + ((0xFFFFFFFFu - *m) >> 7) : *m - (*m >> 7);
  }
  if (f->expects) {
    const bool hit = expected_bit(f->expected, f->bits) == y;
    Entry* e = f->entry;
    e->p =
        (u32)(e->p +
              (((hit ? (1 << 22) - 1 : 0) - (i64)e->p) * step(e->count) >> 16));
    if (e->count < 1023) e->count++;
  }
  const i64 u = 80 + ((65536 - f->age) >> 10);
  if (f->age < 65536) f->age++;
  for (int s = 0; s < 2; s++) {
    const i64 error = (top - squash(f->m[s])) * u >> 8;
    for (int i = 0; i < f->inputs; i++) {
      f->w[s][i] =
          wrap(f->w[s][i] + (i64)(wrap(f->input[i] * error + 32768) >> 16));
    }
  }
  const i64 error = (top - squash(f->x)) * 12 >> 8;
  for (int s = 0; s < 2; s++) {
    f->f[s] = wrap(f->f[s] + (i64)(wrap(f->m[s] * error + 32768) >> 16));
  }
  *f->near = (u16)(*f->near + (((y ? 65535 : 1) - *f->near) >> 5));
  fast_note(f, y);
}

static Fast* fast_new(int lines, bool records, size_t size) {
  Fast* f = calloc(1, sizeof *f);
  if (!f) return NULL;
  f->lines = lines;
  f->records = records;
  f->n = records ? 9 : 7;
  f->inputs = records ? 16 : 8;
  f->b = (int)clamp(bit_length(size), 10, 20);
  f->table = calloc((size_t)1 << lines, sizeof(FastLine));
  f->order1 = calloc(256, sizeof *f->order1);
  f->index = calloc((size_t)1 << f->b, sizeof(u32));
  f->refined = malloc(65536 * sizeof *f->refined);
  f->text = calloc(size + kFastStart + 1, 1);
  if (!f->table || !f->order1 || !f->index || !f->refined || !f->text) return f;
  fill_points(f->refined[0], 65536);
  for (int i = 0; i < f->n; i++) {
    for (int s = 0; s < kStates; s++) f->maps[i][s] = first_guess[s] * 65536;
  }
  for (u32 k = 0; k < 32; k++)
    f->match[k] = (Entry){(65535 - 32768 / (2 + k)) * 64, 0};
  for (int i = 0; i <= f->n; i++) {
    for (int k = 0; k < 256; k++) f->weights0[k][i] = 14000;
    for (int k = 0; k < 160; k++) f->weights1[k][i] = 14000;
  }
  for (int k = 0; k < 256; k++) f->final[k][0] = f->final[k][1] = 32768;
  f->position = f->line = kFastStart;
  fast_hash(f, 1);
  fast_first_slots(f, 0);
  return f;
}

static void fast_free(Fast* f) {
  if (!f) return;
  free(f->table);
  free(f->order1);
  free(f->index);
  free(f->refined);
  free(f->text);
  free(f);
}

/* `prior` are the priors that are read, one after the other; the last `learnt`
 * bytes of them are learnt, those before noted. */
const char* spec_text_cm_fast(const u8* coded, size_t coded_size, int lines,
                              int records, const u8* prior, size_t prior_size,
                              size_t learnt, u8* out, size_t n) {
  make_tables();
  Fast* f = fast_new(lines, records != 0, prior_size + n);
  const char* why = kNoMemory;
  if (f && f->slot[0]) {
    for (size_t i = 0; i < prior_size; i++) {
      for (int k = 7; k >= 0; k--) {
        if (i >= prior_size - learnt) {
          fast_predict(f);
          fast_learn(f, prior[i] >> k & 1);
        } else {
          fast_note(f, prior[i] >> k & 1);
        }
      }
    }
    Coder coder = coder_of(coded, coded_size);
    for (size_t i = 0; i < 8 * n; i++)
      fast_learn(f, coder_bit(&coder, fast_predict(f)));
    memcpy(out, f->text + kFastStart + prior_size, n);
    why =
        coder_ended(&coder) ? NULL : "text_cm: code is not as long as it says";
  }
  fast_free(f);
  return why;
}

/* ---- 22-text_cm-max.md
 * --------------------------------------------------------------------- */

enum {
  kContexts = 32,
  kInputs = 160,
  kSets = 8,
  kNesting = 32,
  kFields = 64,
  kExtra = 5
};

static u32 entry_p(const Entry* e) { return e->p >> 6; }
static int entry_s(const Entry* e) { return stretch(entry_p(e)); }
static int entry_l(const Entry* e) { return ((int)entry_p(e) - 32768) >> 5; }

static void entry_counts(Entry* e, u32 limit) {
  if (e->count < limit) e->count++;
}

static void entry_moves(Entry* e, int bit, u32 limit) {
  const i64 t = bit ? (1 << 22) - 1 : 0;
  e->p = (u32)(e->p + (((t - e->p) >> 7) * step(e->count) >> 9));
  entry_counts(e, limit);
}

static void entry_updates(Entry* e, int bit, u32 limit) {
  const i64 t = bit ? (1 << 22) - 1 : 0;
  e->p = (u32)(e->p + ((t - e->p) * step(e->count) >> 16));
  entry_counts(e, limit);
}

static Entry lean(u32 k) { return (Entry){(65535 - 32768 / (k + 2)) * 64, 0}; }

typedef struct {
  u16 check[7];
  u8 bytes[7][7], last, before;
} MaxLine;

typedef struct {
  size_t place, length;
  u32 misses;
  bool expects;
  u8 expected;
} Match;

typedef struct {
  u64 lines;
  MaxLine* table;
  Entry history[kContexts][kStates], run[kContexts][64][8], match[3][32][4],
      byte[3][16][256][8];
  Entry order0[256], order1[256][256];
  i32 (*weights[kSets])[kInputs], final0[6 * 3 * 8][8], final1[256][8];
  u16 (*refined[3])[kPoints];
  u32* index[2];
  int b;
  /* Text. */
  u8* text;
  size_t q, line, above;
  u32 a, b8, follow1[256], follow2[65536], w[4], classes, shape, letters;
  u32 f, field[kFields], above_field[kFields], first, quoted, nesting[kNesting];
  i64 rate;
  Match matches[3];
  u32 kind;
  /* Of the byte that is coded. */
  u32 hashes[kContexts], base[3], path;
  u8 *slot[kContexts], *first_slot[kContexts], run_byte[kContexts],
      run_count[kContexts];
  int bits, node;
  /* Of the bit that is predicted. */
  int state[kContexts], one[3];
  i64 input[kInputs], m[kSets], y[2];
  i32 *sets[kSets], *finals[2];
  u16* near[3];
  Entry *run_entry[kContexts], *match_entry[3], *byte_entry[3];
} Max;

static const size_t kChoices[kSets] = {
    256 * 3, 256 * 8,   256 * 8,   6 * 3 * 3 * 8 * 4,
    512 * 4, 8 * 8 * 8, 8 * 8 * 8, 16 * 3 * 8 * 2};

static u8* max_find(Max* m, u32 h, u32 path) {
  const u64 product = (h + path * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
  MaxLine* l = &m->table[(product >> 32) * m->lines >> 32];
  const u16 check = (u16)(product >> 16);
  if (l->check[l->last] == check) return l->bytes[l->last];
  int found = -1;
  for (int i = 0; i < 7 && found < 0; i++) {
    if (l->check[i] == check) found = i;
  }
  if (found < 0) {
    for (int i = 0; i < 7; i++) {
      if (i == l->last || i == l->before) continue;
      if (found < 0 || l->bytes[i][0] < l->bytes[found][0]) found = i;
    }
    l->check[found] = check;
    memset(l->bytes[found], 0, 7);
  }
  l->before = l->last;
  l->last = (u8)found;
  return l->bytes[found];
}

static void max_find_all(Max* m) {
  for (int i = 0; i < kContexts; i++)
    m->slot[i] = max_find(m, m->hashes[i], m->path);
  m->node = 0;
}

static u32 guess_of(const Match* match) {
  return match->expects ? 256u + match->expected : 0;
}

static void max_contexts(Max* m) {
  const u32 a = m->a, b8 = m->b8, c1 = a & 255, *w = m->w;
  const size_t column = m->q - m->line, up = m->above + column;
  const u32 u0 = up < m->line ? m->text[up] : 10;
  const u32 u1 = up + 1 < m->line ? m->text[up + 1] : 10;
  const u32 n0 = m->nesting[kNesting - 1], n1 = m->nesting[kNesting - 2];
  const u32 e0 = guess_of(&m->matches[0]), e1 = guess_of(&m->matches[1]);
  const size_t length = m->matches[0].length;
  const u32 sure = length == 0 ? 0 : length < 16 ? 1 : length < 32 ? 2 : 3;
  const u32 here = m->field[m->f], over = m->above_field[m->f];
  const u32 xyz[kContexts][3] = {
      {c1, 0, 0},
      {a & 0xFFFF, 0, 0},
      {a & 0xFFFFFF, 0, 0},
      {a, 0, 0},
      {a, b8 & 0xFF, 0},
      {a, b8 & 0xFFFF, 0},
      {a, b8, 0},
      {w[0], c1, 0},
      {w[0], w[1], 0},
      {w[0], w[1], w[2]},
      {w[0], w[2], 0},
      {w[0], w[3], m->letters == 0 ? c1 : 0},
      {w[1], a & 0xFFFF, 0},
      {w[1], w[2], c1},
      {w[0], c1, m->first},
      {a & 0xFFFF00, 0, 0},
      {a & 0xFF00FF, 0, 0},
      {a & 0xFFFF0000, 0, 0},
      {a & 0xF0F0F0FF, b8 & 0xF0, 0},
      {m->shape, c1, 0},
      {m->shape & 0xFFFF, w[0], 0},
      {u0 + 256 * (u32)min((i64)column, 255), c1, 0},
      {u0 + 256 * u1, a & 0xFFFF, 0},
      {m->f, here, m->first},
      {over, here, 0},
      {n0, a & 0xFFFF, 0},
      {n0, w[0], n1},
      {m->follow1[c1] & 0xFFFF, c1, 0},
      {m->follow2[a & 0xFFFF] & 0xFFFF, a & 0xFFFF, 0},
      {m->follow1[c1] & 0xFFFFFF, 0, 0},
      {e0 + 512 * sure, e1, c1},
      {a, 0, w[1]},
  };
  for (u32 i = 0; i < kContexts; i++) {
    m->hashes[i] = hash(hash(xyz[i][0], xyz[i][1]), xyz[i][2] + i * 0x10001);
  }
  m->base[0] = c1 * 256;
  m->base[1] = hash(a & 0xFFFF, 1) >> 8;
  m->base[2] = hash(w[0], 2) >> 8;
  m->path = 1;
  m->bits = 0;
  max_find_all(m);
  for (int i = 0; i < kContexts; i++) {
    m->first_slot[i] = m->slot[i];
    m->run_byte[i] = m->slot[i][3];
    m->run_count[i] = m->slot[i][4];
  }
}

static u32 bucket_of(size_t n) {
  return (u32)(n < 16    ? n
               : n < 32  ? 16 + (n - 16) / 4
               : n < 64  ? 20 + (n - 32) / 8
               : n < 512 ? 24 + (n - 64) / 64
                         : 31);
}

/* Whether the byte's top bits are those of the path. */
static bool holds(const Max* m, u32 byte) {
  return (256 + byte) >> (8 - m->bits) == m->path;
}

/* `extra`: inputs from 141 on, or null. */
static u32 max_predict(Max* m, const int* extra) {
  const int bits = m->bits;
  const u32 path = m->path, c1 = m->a & 255, c2 = m->a >> 8 & 255;
  i64* x = m->input;
  memset(x, 0, sizeof m->input);
  u32 known = 0;
  for (int i = 0; i < kContexts; i++) {
    const int t = m->state[i] = m->slot[i][m->node];
    if (t != 0) {
      const Entry* e = &m->history[i][t];
      x[i] = entry_s(e);
      x[32 + i] = entry_l(e);
      if (histories[t].n[0] == 0 || histories[t].n[1] == 0) x[64 + i] = x[i];
      known += i <= 6;
    }
    m->run_entry[i] = NULL;
    if (m->run_count[i] > 0 && holds(m, m->run_byte[i])) {
      m->run_entry[i] = &m->run[i][m->run_count[i]][bits];
      const int s = entry_s(m->run_entry[i]);
      x[96 + i] = expected_bit(m->run_byte[i], bits) ? s : -s;
    }
  }
  for (int k = 0; k < 3; k++) {
    const Match* match = &m->matches[k];
    m->one[k] = 0;
    m->match_entry[k] = NULL;
    if (!match->expects || !holds(m, match->expected)) continue;
    const int bit = expected_bit(match->expected, bits);
    const u32 bucket = bucket_of(match->length);
    const u32 misses = k < 2 ? match->misses : ones(match->misses & 255);
    m->one[k] = 1 + bit;
    m->match_entry[k] = &m->match[k][bucket][min(misses, 3)];
    m->byte_entry[k] = &m->byte[k][min(bucket, 15)][match->expected][bits];
    const int sign = bit ? 1 : -1;
    x[128 + 3 * k] = sign * entry_s(m->match_entry[k]);
    x[129 + 3 * k] = sign * entry_l(m->match_entry[k]);
    x[130 + 3 * k] = sign * entry_s(m->byte_entry[k]);
  }
  x[137] = entry_s(&m->order0[path]);
  x[138] = entry_s(&m->order1[c1][path]);
  x[139] = entry_l(&m->order1[c1][path]);
  x[140] = 256;
  for (int i = 0; extra && i < kExtra; i++) x[141 + i] = extra[i];

  static const u32 parts[8] = {0, 1, 1, 2, 2, 3, 3, 3};
  const u32 n = (u32)bits, e0 = (u32)m->one[0], e1 = (u32)m->one[1],
            e2 = (u32)m->one[2];
  const u32 choices[kSets] = {
      path * 3 + e0,
      c1 * 8 + n,
      c2 * 8 + n,
      (((m->kind * 3 + e0) * 3 + e1) * 8 + n) * 4 + (m->matches[0].misses & 3),
      m->classes * 4 + parts[n],
      (known * 8 + n) * 8 + (m->classes & 7),
      ((u32)min(m->letters, 7) * 8 + (m->nesting[kNesting - 1] >> 3 & 7)) * 8 +
          n,
      (((u32)min((i64)(m->q - m->line), 15) * 3 + e2) * 8 + n) * 2 + m->quoted,
  };
  for (int s = 0; s < kSets; s++) {
    m->sets[s] = m->weights[s][choices[s]];
    i64 sum = 128;
    for (int i = 0; i < kInputs; i++) sum += wrap(x[i] * m->sets[s][i]) >> 8;
    m->m[s] = clamp(wrap(sum) >> 8, -2047, 2047);
  }
  m->finals[0] = m->final0[(m->kind * 3 + e0) * 8 + n];
  m->finals[1] = m->final1[path];
  for (int j = 0; j < 2; j++) {
    i64 sum = 128;
    for (int s = 0; s < kSets; s++) sum += wrap(m->m[s] * m->finals[j][s]) >> 8;
    m->y[j] = clamp(wrap(sum) >> 8, -2815, 2815);
  }
  const i64 mix = (m->y[0] + m->y[1]) >> 1;
  const i64 place = clamp(mix, -1984, 1983) + 1984, j = place >> 7,
            v = place & 127;
  i64 z = 0;
  for (int r = 0; r < 3; r++) {
    u16* points = m->refined[r][(m->base[r] + path * 0x9E35) & 65535];
    z += (points[j] * (128 - v) + points[j + 1] * v) >> 7;
    m->near[r] = points + j + (v >> 6);
  }
  return (u32)clamp((2 * (i64)squash(mix) + 2 * z + 4) >> 3, 1, 65535);
}

static u32 class_of(u32 c) {
  return c >= 'a' && c <= 'z'   ? 0
         : c >= 'A' && c <= 'Z' ? 1
         : c >= '0' && c <= '9' ? 2
         : c == ' '             ? 3
         : c == 10              ? 4
         : c >= 128             ? 5
         : c < 65               ? 6
                                : 7;
}

/* Steps 2 to 6 of "Text". */
static void max_text(Max* m, u32 c) {
  const u32 class = class_of(c);
  m->classes = (m->classes * 8 + class) & 511;
  if (class == 0 || class == 1 || class == 5) {
    m->w[0] = hash(m->w[0], class == 1 ? c + 32 : c) + 1;
    m->letters++;
  } else if (m->w[0] != 0) {
    m->w[3] = m->w[2];
    m->w[2] = m->w[1];
    m->w[1] = m->w[0];
    m->w[0] = 0;
    m->letters = 0;
  }
  if (!((class == 0 || class == 2) && class + 1 == (m->shape & 15))) {
    m->shape = m->shape * 16 + class + 1;
  }
  if (c == 10) {
    m->above = m->line;
    m->line = m->q;
    memcpy(m->above_field, m->field, sizeof m->field);
    memset(m->field, 0, sizeof m->field);
    m->f = m->first = m->quoted = 0;
  } else {
    if (m->q - m->line == 1) m->first = c;
    if (c == ',' || c == ';' || c == ':' || c == '|' || c == ' ' || c == 9) {
      m->f = (u32)min(m->f + 1, 63);
      m->field[m->f] = 0;
    } else {
      m->field[m->f] = hash(m->field[m->f], c + 1);
    }
    if (c == '"') m->quoted = 1 - m->quoted;
  }
  const size_t rest = (kNesting - 1) * sizeof m->nesting[0];
  if (c == '(' || c == '[' || c == '{' || c == '<') {
    memmove(m->nesting, m->nesting + 1, rest);
    m->nesting[kNesting - 1] = c + 256 * m->w[1];
  } else if (c == ')' || c == ']' || c == '}' || c == '>') {
    memmove(m->nesting + 1, m->nesting, rest);
    m->nesting[0] = 0;
  }
}

static void max_match(Max* m, int k, u32 c) {
  const size_t least = k == 0 ? 20 : 6, q = m->q;
  Match* match = &m->matches[k];
  if (match->length > 0) {
    if (m->text[match->place] == c) {
      match->place++;
      if (match->length < 65535) match->length++;
    } else {
      match->length = 0;
      if (match->misses < 7) match->misses++;
    }
  }
  if (q >= least) {
    u64 h = 0;
    for (size_t i = 1; i <= least; i++)
      h = (h + m->text[q - i] + 1) * 0x9E3779B97F4A7C15u;
    h ^= h >> 32;
    h = h * 0xBF58476D1CE4E5B9u >> (64 - m->b);
    const size_t e = m->index[k][h];
    if (e > 0 && match->length < (k == 0 ? 1 : 16)) {
      size_t n = 0;
      while (n < 400 && n < e && m->text[e - 1 - n] == m->text[q - 1 - n]) n++;
      if (n >= least && n > match->length) {
        match->place = e;
        match->length = n;
      }
    }
    m->index[k][h] = (u32)q;
  }
  match->expects = match->length > 0;
  match->expected = match->expects ? m->text[match->place] : 0;
}

static void max_match_on(Max* m, u32 c) {
  const size_t q = m->q;
  const Match *m0 = &m->matches[0], *m1 = &m->matches[1];
  Match* match = &m->matches[2];
  if (match->place != 0) {
    const u32 t = m->text[match->place];
    if (t == c) {
      match->place++;
      if (match->length < 65535) match->length++;
      match->misses = match->misses * 2 & 65535;
    } else {
      match->misses = (match->misses * 2 + 1) & 65535;
      match->length = 0;
      if (c == 10) {
        size_t found = 0;
        for (size_t i = match->place; i <= q - 1 && i <= match->place + 1024;
             i++) {
          if (m->text[i] != 10) continue;
          found = i + 1;
          break;
        }
        match->place = found;
      } else if (t != 10) {
        if (match->place + 1 < q && m->text[match->place + 1] == c) {
          match->place += 2;
        } else if (c != ' ') {
          match->place++;
        }
      }
    }
    if (match->place >= q || ones(match->misses) > 8) match->place = 0;
  }
  if (match->place == 0 || (m0->length >= 32 && match->length < 16)) {
    if (m0->length > 0) {
      match->place = m0->place;
      match->length = m0->length;
      match->misses = 0;
    } else if (match->place == 0 && m1->length >= 8) {
      match->place = m1->place;
      match->length = m1->length;
      match->misses = 0x55;
    }
  }
  if (match->place == 0) match->length = 0;
  match->expects = match->place != 0;
  match->expected = match->expects ? m->text[match->place] : 0;
}

static void max_take(Max* m, u32 c) {
  for (int i = 0; i < kContexts; i++) {
    u8* slot = m->first_slot[i];
    slot[4] = (u8)(slot[3] == c && slot[4] > 0 ? min(slot[4] + 1, 63) : 1);
    slot[3] = (u8)c;
  }
  m->text[m->q++] = (u8)c;
  const u32 d = m->a & 255, ed = m->a & 0xFFFF;
  m->follow1[d] = m->follow1[d] * 256 + c;
  m->follow2[ed] = m->follow2[ed] * 256 + c;
  m->b8 = m->b8 << 8 | m->a >> 24;
  m->a = m->a << 8 | c;
  max_text(m, c);
  max_match(m, 0, c);
  max_match(m, 1, c);
  max_match_on(m, c);
  const size_t n0 = m->matches[0].length, n1 = m->matches[1].length;
  m->kind = n0 >= 100  ? 5
            : n0 >= 32 ? 4
            : n0 > 0   ? 3
            : n1 == 0  ? 0
            : n1 < 12  ? 1
                       : 2;
  m->rate = 200 + 16000 / (16 + (i64)(m->q / 1024));
  max_contexts(m);
}

static void max_learn(Max* m, int bit) {
  const i64 top = bit ? 65536 : 0;
  for (int s = 0; s < kSets; s++) {
    const i64 error = (top - squash(m->m[s])) * m->rate >> 10;
    for (int i = 0; i < kInputs; i++) {
      m->sets[s][i] =
          wrap(m->sets[s][i] + (i64)(wrap(m->input[i] * error + 32768) >> 16));
    }
  }
  for (int j = 0; j < 2; j++) {
    const i64 error = (top - squash(m->y[j])) * 4 >> 5;
    for (int s = 0; s < kSets; s++) {
      m->finals[j][s] =
          wrap(m->finals[j][s] + (i64)(wrap(m->m[s] * error + 32768) >> 16));
    }
  }
  for (int r = 0; r < 3; r++) {
    *m->near[r] = (u16)(*m->near[r] + (((bit ? 65535 : 1) - *m->near[r]) >> 6));
  }
  for (int i = 0; i < kContexts; i++) {
    m->slot[i][m->node] = next_state[m->state[i]][bit];
    entry_moves(&m->history[i][m->state[i]], bit, 255);
    if (m->run_entry[i]) {
      entry_moves(m->run_entry[i], expected_bit(m->run_byte[i], m->bits) == bit,
                  255);
    }
  }
  for (int k = 0; k < 3; k++) {
    if (!m->match_entry[k]) continue;
    const int right = m->one[k] == 1 + bit;
    entry_updates(m->match_entry[k], right, 1023);
    entry_updates(m->byte_entry[k], right, 255);
  }
  entry_updates(&m->order0[m->path], bit, 255);
  entry_updates(&m->order1[m->a & 255][m->path], bit, 127);
  m->path = 2 * m->path + (u32)bit;
  m->bits++;
  if (m->bits == 8) {
    max_take(m, m->path & 255);
  } else if (m->bits == 2 || m->bits == 5) {
    max_find_all(m);
  } else if (m->bits == 1 || m->bits == 3 || m->bits == 6) {
    m->node = 1 + bit;
  } else {
    m->node = 3 + (int)(m->path & 3);
  }
}

static void max_free(Max* m) {
  if (!m) return;
  free(m->table);
  for (int s = 0; s < kSets; s++) free(m->weights[s]);
  for (int r = 0; r < 3; r++) free(m->refined[r]);
  for (int k = 0; k < 2; k++) free(m->index[k]);
  free(m->text);
  free(m);
}

/* For `size` bytes, prior included; null where memory lacks. */
static Max* max_new(int lines, size_t size) {
  Max* m = calloc(1, sizeof *m);
  if (!m) return NULL;
  m->lines = 65536 * (u64)lines;
  m->b = (int)clamp(bit_length(size), 10, 22);
  bool good = (m->table = calloc(m->lines, sizeof(MaxLine))) != NULL;
  good = (m->text = calloc(size + 1, 1)) && good;
  for (int k = 0; k < 2; k++) {
    good = (m->index[k] = calloc((size_t)1 << m->b, sizeof(u32))) && good;
  }
  for (int r = 0; r < 3; r++) {
    good = (m->refined[r] = malloc(65536 * sizeof *m->refined[r])) && good;
  }
  for (int s = 0; s < kSets; s++) {
    good = (m->weights[s] = calloc(kChoices[s], sizeof *m->weights[s])) && good;
  }
  if (!good) {
    max_free(m);
    return NULL;
  }
  for (int r = 0; r < 3; r++) fill_points(m->refined[r][0], 65536);
  for (int s = 0; s < kSets; s++) {
    for (size_t i = 0; i < kChoices[s]; i++) {
      for (int k = 0; k < 140; k++) m->weights[s][i][k] = 655;
      m->weights[s][i][141] = 20000;
    }
  }
  for (int i = 0; i < kContexts; i++) {
    for (int t = 0; t < kStates; t++)
      m->history[i][t] = (Entry){first_guess[t] * 64, 0};
    for (u32 k = 0; k < 64 * 8; k++) m->run[i][k / 8][k % 8] = lean(k / 8);
  }
  for (int k = 0; k < 3; k++) {
    for (u32 i = 0; i < 32 * 4; i++) m->match[k][i / 4][i % 4] = lean(i / 4);
    for (u32 i = 0; i < 16 * 2048; i++)
      m->byte[k][i / 2048][i / 8 % 256][i % 8] = lean(i / 2048);
  }
  for (int i = 0; i < 256; i++) {
    m->order0[i] = (Entry){1 << 21, 0};
    for (int k = 0; k < 256; k++) m->order1[i][k] = (Entry){1 << 21, 0};
    for (int k = 0; k < 8; k++) m->final1[i][k] = 8192;
  }
  for (int i = 0; i < 6 * 3 * 8 * 8; i++) m->final0[i / 8][i % 8] = 8192;
  m->rate = 1200;
  max_contexts(m);
  return m;
}

const char* spec_text_cm_max(const u8* coded, size_t coded_size, int lines,
                             const u8* prior, size_t prior_size, u8* out,
                             size_t n) {
  make_tables();
  Max* m = max_new(lines, prior_size + n);
  if (!m) return kNoMemory;
  for (size_t i = 0; i < 8 * prior_size; i++) {
    max_predict(m, NULL);
    max_learn(m, prior[i / 8] >> (7 - i % 8) & 1);
  }
  Coder coder = coder_of(coded, coded_size);
  for (size_t i = 0; i < 8 * n; i++)
    max_learn(m, coder_bit(&coder, max_predict(m, NULL)));
  memcpy(out, m->text + prior_size, n);
  max_free(m);
  return coder_ended(&coder) ? NULL : "text_cm: code is not as long as it says";
}

/* ---- 22-text_cm-log.md
 * --------------------------------------------------------------------- */

enum {
  kLogContexts = 16,
  kLogInputs = 64,
  kMatches = 6,
  kFlagPlaces = 16384,
  kSure = 63000
};

static i64 mix_of(const i64* x, const i32* w, int count) {
  i64 sum = 128;
  for (int i = 0; i < count; i++) sum += wrap(x[i] * w[i]) >> 8;
  return wrap(sum) >> 8;
}

static void train(const i64* x, i32* w, int count, i64 e) {
  for (int i = 0; i < count; i++)
    w[i] = wrap(w[i] + (i64)(wrap(x[i] * e + 32768) >> 16));
}

static i64 refine(u16* points, i64 x, u16** near) {
  const i64 place = clamp(x, -1984, 1983) + 1984, j = place >> 7,
            v = place & 127;
  *near = points + j + (v >> 6);
  return (points[j] * (128 - v) + points[j + 1] * v) >> 7;
}

static void refined_learns(u16* near, int bit) {
  *near = (u16)(*near + (((bit ? 65535 : 1) - *near) >> 6));
}

typedef struct {
  Entry maps[6][kFlagPlaces], *used[6];
  i32 sets[4096][16], *set;
  u16 refined[4096][kPoints], *near;
  i64 x[16], m;
} Flag;

static u32 flag_predict(Flag* f, const u32 h[6], u32 choice, u32 g) {
  for (int i = 0; i < 6; i++) {
    f->used[i] = &f->maps[i][h[i] >> 18];
    f->x[i] = entry_s(f->used[i]);
  }
  f->x[15] = 256;
  f->set = f->sets[choice];
  f->m = clamp(mix_of(f->x, f->set, 16), -3071, 3071);
  return (
      u32)((squash(f->m) + refine(f->refined[g >> 20], f->m, &f->near) + 1) >>
           1);
}

static void flag_learn(Flag* f, bool came) {
  for (int i = 0; i < 6; i++) entry_updates(f->used[i], came, 255);
  train(f->x, f->set, 16, (65536 * (i64)came - squash(f->m)) * 60 >> 10);
  refined_learns(f->near, came);
}

typedef struct {
  size_t place, length;
  u32 misses, expects;
} LogMatch;

typedef struct {
  u64 value, step;
  u32 digits;
  bool padded;
} Number;

typedef struct {
  int lines, b;
  FastLine* table;
  Entry history[kLogContexts][kStates], (*counted[4])[16];
  Entry match[3][kMatches][1024], field[kMatches][kFlagPlaces];
  i32 weights0[768][kLogInputs], weights1[360][kLogInputs],
      weights2[2048][kLogInputs];
  i32 final[160][3];
  u16 (*refined[3])[kPoints];
  Flag byte, half;
  u8 halves[4096];
  u32 *index[2], places[3][65536];
  Number numbers[2][4096];
  /* Text. */
  u8* text;
  size_t q;
  u32 a, b8, w, w1, template, line, id, s[4], column, token, t, name, order,
      kind, compared;
  u32 first, v0, v1, above, follower, at[2];
  bool number, digit;
  u64 value;
  u8 foreseen[2][20];
  u32 digits[2];
  LogMatch matches[kMatches];
  /* Of the byte. */
  int best;
  u32 state[kMatches];
  Entry* fields[kMatches];
  bool denied;
  u32 contexts[kLogContexts], z[4], base[3], hard, path;
  i64 rate;
  int bits;
  u8* slot[kLogContexts];
  Entry* line16[4];
} Log;

static bool is_digit(u32 c) { return c >= '0' && c <= '9'; }
static bool is_letter(u32 c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
         c >= 128;
}
static bool is_mark(u32 c) { return !is_digit(c) && !is_letter(c); }

static u32 log_bucket(size_t n) {
  return (u32)(n < 8     ? n
               : n < 16  ? 8 + (n - 8) / 2
               : n < 32  ? 12 + (n - 16) / 4
               : n < 64  ? 16
               : n < 128 ? 17
               : n < 256 ? 18
               : n < 512 ? 19
                         : 20);
}

/* The four bytes that begin n before q. */
static u32 four_before(const Log* l, size_t n) {
  const u8* at = l->text + l->q - n;
  return (u32)at[0] << 24 | (u32)at[1] << 16 | (u32)at[2] << 8 | at[3];
}

static void log_repeat(Log* l, int k, u32 c) {
  const size_t least = k == 0 ? 20 : 7;
  LogMatch* m = &l->matches[k];
  if (m->length > 0) {
    if (l->text[m->place] == c) {
      m->place++;
      m->length++;
    } else {
      m->place = m->length = 0;
    }
  }
  if (l->q < least) return;
  u32 h;
  if (k == 0) {
    h = hash(four_before(l, 20), four_before(l, 16));
    h = hash(hash(hash(h, four_before(l, 12)), four_before(l, 8)),
             four_before(l, 4));
  } else {
    h = hash(l->a, (l->b8 & 0xFFFFFF) + 7);
  }
  u32* entry = &l->index[k][h >> (32 - l->b)];
  const size_t e = *entry;
  if (m->length == 0 && e != 0) {
    size_t n = 0;
    while (n < 400 && n < e && l->text[e - 1 - n] == l->text[l->q - 1 - n]) n++;
    if (n >= least) {
      m->place = e;
      m->length = n;
    }
  }
  *entry = (u32)l->q;
}

static void log_in_token(Log* l, u32 c) {
  if (l->t == 0) l->first = c;
  l->token = hash(l->token, c + 1);
  l->t++;
  if (is_digit(c)) {
    l->digit = true;
    l->value = l->value * 10 + c - 48;
  } else {
    l->number = false;
    l->name = hash(l->name, c);
  }
  const u32 o = l->matches[2].expects & 255;
  if (l->order == 0) {
    l->order = c == o ? 0 : c == o + 1 ? 1 : c + 1 == o ? 2 : c > o ? 3 : 4;
  } else if (l->order == 1 || l->order == 2) {
    l->order += 4;
  } else if (l->order == 5 || l->order == 6) {
    l->order = 7;
  }
  for (int j = 0; j < 2; j++) {
    if (l->t > l->digits[j] || l->foreseen[j][l->t - 1] != c) l->digits[j] = 0;
  }
  l->kind = is_letter(c) ? 3 : l->number ? 1 : 2;
  l->compared = l->order + 8 * (u32)min(l->t, 15) + 128 * l->number;
  for (int k = 2; k < 4; k++) {
    LogMatch* m = &l->matches[k];
    if (m->place == 0) continue;
    m->length = l->text[m->place] == c ? m->length + 1 : 0;
    if (!is_mark(l->text[m->place])) m->place++;
  }
}

static void log_foresee(Log* l, int j, u32 key) {
  l->at[j] = hash(key, 99) >> 20;
  const Number* m = &l->numbers[j][l->at[j]];
  u64 number = m->value + m->step;
  l->digits[j] = 0;
  if (m->digits == 0 || number >> 63) return;
  u8 turned[20];
  u32 count = 0;
  do {
    turned[count++] = (u8)('0' + number % 10);
    number /= 10;
  } while (number != 0);
  while (m->padded && count < m->digits) turned[count++] = '0';
  for (u32 i = 0; i < count; i++) l->foreseen[j][i] = turned[count - 1 - i];
  l->digits[j] = count;
}

static void log_after_token(Log* l, u32 c) {
  const size_t q = l->q;
  if (l->t > 0) {
    for (int j = 0; j < 2 && l->number && l->t <= 18; j++) {
      Number* m = &l->numbers[j][l->at[j]];
      m->step = m->digits == 0 ? 0 : l->value - m->value;
      m->value = l->value;
      m->digits = l->t;
      m->padded = l->first == '0' && l->t > 1;
    }
    l->v1 = l->v0;
    l->v0 = l->token;
    if (l->digit && l->t >= 4) l->id = l->token;
    l->template = hash(l->template, l->digit ? 12345 : l->name);
  }
  l->template = hash(l->template, c);
  if (c == 10) {
    l->line = l->template;
    l->template = l->id = 0;
    memset(l->s, 0, sizeof l->s);
  } else {
    const int i = c == 9                             ? 0
                  : c == ',' || c == ';' || c == '|' ? 1
                  : c == ' '                         ? 2
                                                     : 3;
    l->s[i]++;
    for (int j = i + 1; j < 4; j++) l->s[j] = 0;
  }
  const u32 s2 = (u32)min(l->s[2], 15), s3 = (u32)min(l->s[3], 15);
  l->column = hash(l->s[0] + (l->s[1] << 8) + (s2 << 16) + (s3 << 24), c);
  l->token = l->t = l->name = l->order = l->kind = 0;
  l->value = 0;
  l->number = true;
  l->digit = false;
  l->compared = 128;

  u32* const noted[2] = {&l->places[0][hash(l->template, l->column) >> 16],
                         &l->places[1][hash(l->id, l->template + 5) >> 16]};
  u32* const in_column = &l->places[2][l->column >> 16];
  for (int k = 2; k < 4; k++) {
    LogMatch* m = &l->matches[k];
    const bool came = m->place != 0 && l->text[m->place] == c;
    size_t e = *noted[k - 2];
    if (e != 0 && l->text[e - 1] != c) e = 0;
    if (k == 2 && e == 0) e = *in_column;
    if (e == 0 && came) e = m->place + 1;
    m->length = came && e != 0 ? m->length + 1 : 0;
    m->place = e;
    *noted[k - 2] = (u32)q;
  }
  l->above = 0;
  const size_t above = *in_column;
  for (size_t i = 0;
       above != 0 && i < 24 && above + i < q && !is_mark(l->text[above + i]);
       i++) {
    l->above = hash(l->above, l->text[above + i] + 1u);
  }
  *in_column = (u32)q;
  l->follower = 0;
  size_t e =
      l->matches[0].length != 0 ? l->matches[0].place : l->matches[3].place;
  if (e != 0) {
    for (int i = 0; i < 24 && e < q && is_digit(l->text[e]); i++) e++;
    for (int i = 0; i < 8 && e < q; i++) {
      l->follower = hash(l->follower, l->text[e] + 1u);
      if (l->text[e++] == 10) break;
    }
  }
  log_foresee(l, 0, l->template);
  log_foresee(l, 1, l->template + hash(l->follower, 3));
}

static void log_take(Log* l, u32 c) {
  l->text[l->q++] = (u8)c;
  l->b8 = l->b8 << 8 | l->a >> 24;
  l->a = l->a << 8 | c;
  if (is_letter(c)) {
    l->w = hash(l->w, c >= 'A' && c <= 'Z' ? c + 32 : c) + 1;
  } else if (l->w != 0) {
    l->w1 = l->w;
    l->w = 0;
  }
  log_repeat(l, 0, c);
  log_repeat(l, 1, c);
  if (is_mark(c)) {
    log_after_token(l, c);
  } else {
    log_in_token(l, c);
  }
  for (int k = 0; k < kMatches; k++) {
    LogMatch* m = &l->matches[k];
    m->expects = 0;
    if (k < 4) {
      if (m->place != 0 && m->place < l->q)
        m->expects = 256u + l->text[m->place];
    } else {
      if (l->t < l->digits[k - 4]) m->expects = 256u + l->foreseen[k - 4][l->t];
      m->length = (size_t)min(l->digits[k - 4], 7) + (l->t != 0 ? 8 : 0);
    }
  }
}

static u32 log_best(const Log* l) {
  return l->best < 0 ? 0 : l->matches[l->best].expects;
}

static u32 log_predict_byte(Log* l) {
  const u32 e = log_best(l) & 255, a = l->a;
  u32 votes = 0;
  for (int k = 0; k < kMatches; k++) {
    const LogMatch* m = &l->matches[k];
    l->byte.x[6 + k] = 0;
    if (m->expects == 0) continue;
    const bool agrees = m->expects == log_best(l);
    const int z = entry_s(&l->match[0][k][l->state[k]]) + entry_s(l->fields[k]);
    votes |= 1u << (agrees ? k : k + 6);
    l->byte.x[6 + k] = agrees ? z : z > 0 ? -z : 0;
  }
  const u32 h[6] = {hash(votes, log_bucket(l->matches[0].length)),
                    hash(l->column, e),
                    hash(a & 0xFFFF, e + 256 * votes),
                    hash(l->template, e + 256 * l->t),
                    hash(a, e),
                    hash(l->token, hash(l->column, e))};
  const u32 length = log_bucket(l->matches[l->best].length);
  return flag_predict(&l->byte, h, votes, hash(l->column, length + 256 * l->t));
}

static void log_contexts(Log* l) {
  const u32 a = l->a, c1 = a & 255;
  const LogMatch* m = l->matches;
  const size_t place = m[2].place;
  const u32 r = place == 0 ? 0 : l->text[place] + 256u * l->text[place + 1];
  const u32 xyz[kLogContexts][3] = {
      {a & 0xFFFF, 0, 0},
      {a & 0xFFFFFF, 0, 0},
      {a, 0, 0},
      {a, l->b8 & 0xFFFF, 0},
      {l->w, l->w1, c1},
      {l->template, l->token, 0},
      {l->column, l->token, 0},
      {l->column, r, l->compared},
      {l->column, m[4].expects + 512 * m[5].expects, l->compared},
      {l->v0, l->token, l->column},
      {l->v0, l->v1, l->token},
      {l->id, l->token, l->column},
      {l->above, l->token, l->column},
      {m[0].expects + 512 * m[2].expects + (m[3].expects << 18), 0, 0},
      {l->line, l->template, l->token},
      {l->follower, l->token, l->column},
  };
  for (u32 i = 0; i < kLogContexts; i++) {
    l->contexts[i] = hash(hash(xyz[i][0], xyz[i][1]), xyz[i][2] + i * 0x10001);
  }
  l->z[0] = hash(l->column, l->t);
  l->z[1] = hash(c1, 5);
  l->z[2] = hash(l->column + 77, l->compared + 65536 * (r & 255));
  l->z[3] = hash(l->template, l->t | 256 * c1);
  l->base[0] = 256 * c1;
  l->base[1] = hash(a & 0xFFFF, 1) >> 8;
  l->base[2] = hash(l->column, l->t) >> 8;
  l->rate = 200 + 32000 / (16 + l->hard++ / 1024);
  l->path = 1;
  l->bits = 0;
}

static void log_half(Log* l) {
  for (int i = 0; i < kLogContexts; i++) {
    const u32 g = hash(l->contexts[i], l->path);
    FastLine* line = &l->table[g >> (32 - l->lines)];
    l->slot[i] = line_find(line, g & 255);
  }
  for (int i = 0; i < 4; i++)
    l->line16[i] = l->counted[i][hash(l->z[i], l->path) >> 16];
}

/* Codes a bit, or, where there is no code, learns `bit`. */
static void log_bit(Log* l, Coder* coder, int bit) {
  const int bits = l->bits, seen = bits & 3,
            node = 1 << seen | (int)(l->path & ((1u << seen) - 1));
  i64 x[kLogInputs] = {0}, m[3];
  int s[kLogContexts];
  for (int i = 0; i < kLogContexts; i++) {
    s[i] = l->slot[i][node];
    if (s[i] == 0) continue;
    const Entry* e = &l->history[i][s[i]];
    const bool one_kind =
        histories[s[i]].n[0] == 0 || histories[s[i]].n[1] == 0;
    x[i] = entry_s(e);
    x[16 + i] = one_kind ? x[i] : entry_l(e);
  }
  for (int i = 0; i < 4; i++) {
    const Entry* e = &l->line16[i][node];
    x[32 + 2 * i] = entry_s(e);
    x[33 + 2 * i] = e->count < 4 ? 0 : ((int)entry_p(e) - 32768) >> 4;
  }
  u32 vote[kMatches] = {0}, f = 0;
  Entry* entry[kMatches];
  for (int k = 0; k < kMatches; k++) {
    const u32 e = l->matches[k].expects;
    if (e == 0 || e >> (8 - bits) != l->path || (l->denied && e == log_best(l)))
      continue;
    vote[k] = 1 + (e >> (7 - bits) & 1);
    entry[k] = &l->match[bits == 0 ? 1 : 2][k][l->state[k]];
    const int sign = vote[k] == 2 ? 1 : -1;
    x[40 + 3 * k] = sign * entry_s(entry[k]);
    x[41 + 3 * k] = sign * entry_l(entry[k]);
    x[42 + 3 * k] = sign * entry_s(l->fields[k]);
  }
  const u32 e = log_best(l);
  if (e != 0 && e >> (8 - bits) == l->path) {
    f = 1 + (e >> (7 - bits) & 1) + 2 * l->denied;
    if (!l->denied) x[58] = f == 2 ? l->byte.m : -l->byte.m;
  }
  x[59] = 256;
  i32* const sets[3] = {
      l->weights0[256 * vote[0] + l->path],
      l->weights1[((f * 3 + vote[0]) * 3 + vote[2]) * 8 + (u32)bits],
      l->weights2[8 * (hash(l->column, 7) >> 24) + (u32)bits]};
  for (int i = 0; i < 3; i++)
    m[i] = clamp(mix_of(x, sets[i], kLogInputs), -2047, 2047);
  i32* const final = l->final[(l->kind * 5 + f) * 8 + (u32)bits];
  const i64 mixed = clamp(mix_of(m, final, 3), -3071, 3071);
  i64 p = 2 * (i64)squash(mixed) + 4;
  u16* near[3];
  for (int r = 0; r < 3; r++) {
    p += 2 * refine(l->refined[r][(l->base[r] + l->path * 0x9E35) & 65535],
                    mixed, &near[r]);
  }
  if (coder) bit = coder_bit(coder, (u32)clamp(p >> 3, 1, 65535));

  const i64 top = 65536 * (i64)bit;
  for (int i = 0; i < 3; i++)
    train(x, sets[i], kLogInputs, (top - squash(m[i])) * l->rate >> 10);
  train(m, final, 3, (top - squash(mixed)) * 4 >> 5);
  for (int r = 0; r < 3; r++) refined_learns(near[r], bit);
  for (int i = 0; i < kLogContexts; i++) {
    entry_moves(&l->history[i][s[i]], bit, 255);
    l->slot[i][node] = next_state[s[i]][bit];
  }
  for (int i = 0; i < 4; i++) entry_updates(&l->line16[i][node], bit, 400);
  for (int k = 0; k < kMatches; k++) {
    if (vote[k] != 0) entry_updates(entry[k], vote[k] == 1 + (u32)bit, 255);
  }
  l->path = l->path << 1 | (u32)bit;
  l->bits++;
}

/* Whether what a flag tells comes; without a code, `comes` says so. */
static bool flag_asked(Coder* coder, u32 p, bool comes) {
  return coder ? coder_bit(coder, p) : comes;
}

static u32 log_hard(Log* l, Coder* coder, u32 c) {
  log_contexts(l);
  const u32 e = log_best(l), at = hash(l->column, l->t | 256 * l->kind) >> 20;
  const u32 h = e != 0 ? e >> 4 & 15 : l->halves[at];
  const u32 u = h + 16 * (e == 0) + 32 * l->denied + 64 * (h == l->halves[at]);
  const u32 hashes[6] = {hash(l->column, 256 * l->t + u),
                         hash(l->token, hash(l->column, u)),
                         hash(l->a & 0xFFFF, u),
                         hash(u, 7),
                         hash(l->template, 256 * l->kind + u),
                         hash(l->compared, u + 256 * e)};
  const u32 p =
      flag_predict(&l->half, hashes, u, hash(l->column, u + 256 * l->t));
  if (p > kSure && flag_asked(coder, p, c >> 4 == h)) {
    l->path = 16 + h;
    l->bits = 4;
  } else {
    log_half(l);
    for (int i = 7; i >= 4; i--) log_bit(l, coder, c >> i & 1);
  }
  flag_learn(&l->half, (l->path & 15) == h);
  l->halves[at] = l->path & 15;
  log_half(l);
  for (int i = 3; i >= 0; i--) log_bit(l, coder, c >> i & 1);
  return l->path & 255;
}

/* Codes a byte, or, where there is no code, learns c. */
static void log_byte(Log* l, Coder* coder, u32 c) {
  l->best = -1;
  l->denied = false;
  u32 most = 0;
  for (int k = 0; k < kMatches; k++) {
    const LogMatch* m = &l->matches[k];
    if (m->expects == 0) continue;
    l->state[k] = log_bucket(m->length) + 32 * (m->misses & 7) +
                  256 * (u32)min(ones(m->misses & 0xFFF8), 3);
    const u32 y = 4 * (u32)min((i64)m->length, 3) + (m->misses & 3) + 16 * l->t;
    l->fields[k] = &l->field[k][hash(l->column, y) >> 18];
    const u32 sum = l->match[0][k][l->state[k]].p + l->fields[k]->p;
    if (sum > most) {
      most = sum;
      l->best = k;
    }
  }
  if (l->best < 0) {
    c = log_hard(l, coder, c);
  } else {
    const u32 e = log_best(l) & 255, p = log_predict_byte(l);
    if (p > kSure && flag_asked(coder, p, c == e)) {
      c = e;
    } else {
      l->denied = p > kSure;
      c = log_hard(l, coder, c);
    }
    flag_learn(&l->byte, c == e);
  }
  for (int k = 0; k < kMatches; k++) {
    LogMatch* m = &l->matches[k];
    if (m->expects == 0) continue;
    const bool came = (m->expects & 255) == c;
    entry_updates(&l->match[0][k][l->state[k]], came, 255);
    entry_updates(l->fields[k], came, 255);
    m->misses = m->misses << 1 | !came;
  }
  log_take(l, c);
}

static void log_free(Log* l) {
  if (!l) return;
  free(l->table);
  free(l->text);
  for (int i = 0; i < 4; i++) free(l->counted[i]);
  for (int i = 0; i < 3; i++) free(l->refined[i]);
  for (int k = 0; k < 2; k++) free(l->index[k]);
  free(l);
}

static void fill_entries(Entry* entries, u32 p, size_t count) {
  for (size_t i = 0; i < count; i++) entries[i] = (Entry){p, 0};
}

static void fill_numbers(i32* numbers, i32 number, size_t count) {
  for (size_t i = 0; i < count; i++) numbers[i] = number;
}

static void flag_begin(Flag* f) {
  for (int i = 0; i < 6; i++) fill_entries(f->maps[i], 3145728, kFlagPlaces);
  for (int k = 0; k < 4096; k++) fill_numbers(f->sets[k], 6000, 16);
  fill_points(f->refined[0], 4096);
}

/* Null where there is no memory. */
static Log* log_new(int lines, size_t size) {
  Log* l = calloc(1, sizeof *l);
  if (!l) return NULL;
  l->lines = lines;
  l->b = (int)clamp(bit_length(size), 10, 20);
  l->table = calloc((size_t)1 << lines, sizeof(FastLine));
  l->text = calloc(size + 64, 1);
  bool ok = l->table && l->text;
  for (int i = 0; i < 4; i++) {
    l->counted[i] = malloc(65536 * sizeof *l->counted[i]);
    ok = ok && l->counted[i];
    for (int k = 0; ok && k < 65536; k++)
      fill_entries(l->counted[i][k], 1 << 21, 16);
  }
  for (int i = 0; i < 3; i++) {
    l->refined[i] = malloc(65536 * sizeof *l->refined[i]);
    ok = ok && l->refined[i];
    if (ok) fill_points(l->refined[i][0], 65536);
  }
  for (int k = 0; k < 2; k++) {
    l->index[k] = calloc((size_t)1 << l->b, sizeof(u32));
    ok = ok && l->index[k];
  }
  if (!ok) {
    log_free(l);
    return NULL;
  }
  for (int i = 0; i < kLogContexts; i++) {
    for (int s = 0; s < kStates; s++)
      l->history[i][s] = (Entry){first_guess[s] * 64, 0};
  }
  for (int k = 0; k < kMatches; k++) {
    for (u32 i = 0; i < 3 * 1024; i++)
      l->match[i / 1024][k][i % 1024] = lean(i & 31);
    fill_entries(l->field[k], 3145728, kFlagPlaces);
  }
  for (int k = 0; k < 768; k++) fill_numbers(l->weights0[k], 3000, 60);
  for (int k = 0; k < 360; k++) fill_numbers(l->weights1[k], 3000, 60);
  for (int k = 0; k < 2048; k++) fill_numbers(l->weights2[k], 3000, 60);
  for (int k = 0; k < 160; k++) fill_numbers(l->final[k], 21845, 3);
  flag_begin(&l->byte);
  flag_begin(&l->half);
  l->number = true;
  return l;
}

/* The last `learnt` bytes of `prior` are learnt, those before taken in. */
const char* spec_text_cm_log(const u8* coded, size_t coded_size, int lines,
                             const u8* prior, size_t prior_size, size_t learnt,
                             u8* out, size_t n) {
  make_tables();
  Log* l = log_new(lines, prior_size + n);
  if (!l) return kNoMemory;
  for (size_t i = 0; i < prior_size; i++) {
    if (i < prior_size - learnt) {
      log_take(l, prior[i]);
    } else {
      log_byte(l, NULL, prior[i]);
    }
  }
  Coder coder = coder_of(coded, coded_size);
  for (size_t i = 0; i < n; i++) log_byte(l, &coder, 0);
  memcpy(out, l->text + prior_size, n);
  log_free(l);
  return coder_ended(&coder) ? NULL : "text_cm: code is not as long as it says";
}

/* ---- 23-text_lm.md
 * ------------------------------------------------------------------------- */

enum {
  kRowLines = 61440,
  kHidden = 32,
  kFound = 192,
  kUnits = kFound + kHidden
};

/* The weights are little-endian in the file. */
typedef struct {
  const u8 *rows, *hidden, *hidden_bias, *output, *output_bias;
} Model;

static Model model_of(const u8* weights) {
  Model model = {.rows = weights};
  model.hidden = model.rows + (size_t)kRowLines * 64;
  model.hidden_bias = model.hidden + kHidden * kFound;
  model.output = model.hidden_bias + 2 * kHidden;
  model.output_bias = model.output + 2 * 256 * kUnits;
  return model;
}

static int signed_byte(u8 byte) { return byte < 128 ? byte : byte - 256; }
static int signed_pair(const u8* at) {
  return at[0] + 256 * signed_byte(at[1]);
}

typedef struct {
  Model model;
  u64 last;
  u32 shape, w, w1, w2, node;
  int units[kUnits];
} Language;

static void language_begin(Language* l) {
  const u32 last4 = (u32)l->last, before = (u32)(l->last >> 32);
  const u32 c1 = last4 & 255, c5 = before & 255, c6c5 = before & 0xFFFF;
  const u32 contexts[12][2] = {
      {c1, 0},
      {last4 & 0xFFFF, 0},
      {last4 & 0xFFFFFF, 0},
      {last4, 0},
      {last4, c5},
      {last4, c6c5},
      {l->w, c1},
      {l->w, l->w1},
      {l->w, l->w2},
      {l->w, l->w1 * 0x2F0B4C47u + l->w2},
      {l->shape, 0},
      {last4 & 0xFFFF00, 0},
  };
  memset(l->units, 0, sizeof l->units);
  for (u32 i = 0; i < 12; i++) {
    u64 x = ((u64)contexts[i][1] << 32) + contexts[i][0] +
            (i + 1) * 0x9E3779B97F4A7C15u;
    x *= 0xD6E8FEB86659FD93u;
    x = (x ^ x >> 32) * 0xD6E8FEB86659FD93u;
    const u64 h = x >> 32;
    const u8* row = l->model.rows + (h * kRowLines >> 32) * 64;
    for (int k = 0; k < 4; k++, row += 16) {
      if (row[0] != ((h & 255) | 1)) continue;
      l->units[16 * i] = 32;
      for (int j = 1; j < 16; j++)
        l->units[16 * i + (u32)j] = signed_byte(row[j]);
      break;
    }
  }
  for (int h = 0; h < kHidden; h++) {
    i64 sum = signed_pair(l->model.hidden_bias + 2 * h);
    for (int i = 0; i < kFound; i++) {
      sum += signed_byte(l->model.hidden[h * kFound + i]) * l->units[i];
    }
    l->units[kFound + h] = (int)clamp(sum >> 6, 0, 511);
  }
  l->node = 1;
}

static int output_weight(const Language* l, u32 node, u32 i) {
  return signed_pair(l->model.output + 2 * (node * kUnits + i));
}

static void language_scores(const Language* l, int scores[kExtra]) {
  static const u32 ends[] = {0, 64, 128, 192, 224};
  i64 whole = signed_pair(l->model.output_bias + 2 * l->node);
  for (int k = 1; k < kExtra; k++) {
    i64 sum = 0;
    for (u32 i = ends[k - 1]; i < ends[k]; i++)
      sum += output_weight(l, l->node, i) * l->units[i];
    whole += sum >> 5;
    scores[k] = (int)clamp(sum >> 5, -2047, 2047);
  }
  scores[0] = (int)clamp(whole, -2047, 2047);
}

static u32 kind_of(u32 c) {
  if (c >= 128) return 6;
  if (c >= '0' && c <= '9') return 3;
  if (c >= 'a' && c <= 'z') return 4;
  if (c >= 'A' && c <= 'Z') return 5;
  switch (c) {
    case 10:
      return 1;
    case ' ':
      return 2;
    case '.':
    case ',':
      return 7;
    case '<':
    case '>':
    case '&':
      return 8;
    case '(':
    case ')':
    case '[':
    case ']':
    case '{':
    case '}':
      return 9;
    case '"':
    case '\'':
      return 10;
    default:
      return 11;
  }
}

static void language_learn(Language* l, int bit) {
  l->node = 2 * l->node + (u32)bit;
  if (l->node < 256) return;
  const u32 c = l->node & 255, kind = kind_of(c);
  l->last = l->last << 8 | c;
  l->shape = l->shape << 4 | kind;
  if (kind >= 4 && kind <= 6) {
    const u32 x = (l->w + (kind == 5 ? c + 32 : c) + 1) * 0x2F0B4C47u;
    l->w = x ^ x >> 15;
  } else if (l->w != 0) {
    l->w2 = l->w1;
    l->w1 = l->w;
    l->w = 0;
  }
  language_begin(l);
}

static const char* lm_mixed(Language* l, const u8* coded, size_t coded_size,
                            int lines, const u8* prior, size_t prior_size,
                            u8* out, size_t n) {
  Max* m = max_new(lines, prior_size + n);
  if (!m) return kNoMemory;
  Coder coder = coder_of(coded, coded_size);
  for (size_t i = 0; i < 8 * (prior_size + n); i++) {
    int scores[kExtra];
    language_scores(l, scores);
    const u32 p = max_predict(m, scores);
    const int bit = i < 8 * prior_size ? prior[i / 8] >> (7 - i % 8) & 1
                                       : coder_bit(&coder, p);
    max_learn(m, bit);
    language_learn(l, bit);
  }
  memcpy(out, m->text + prior_size, n);
  max_free(m);
  return coder_ended(&coder) ? NULL : "text_lm: code is not as long as it says";
}

static const char* lm_alone(Language* l, const u8* coded, size_t coded_size,
                            u8* out, size_t n) {
  i32(*weights)[kUnits + 1] = malloc(256 * sizeof *weights);
  if (!weights) return kNoMemory;
  for (u32 node = 0; node < 256; node++) {
    for (u32 i = 0; i < kUnits; i++)
      weights[node][i] = output_weight(l, node, i) * 256;
    weights[node][kUnits] = signed_pair(l->model.output_bias + 2 * node) * 256;
  }
  Coder coder = coder_of(coded, coded_size);
  for (size_t i = 0; i < 8 * n; i++) {
    i32* weight = weights[l->node];
    i64 input[kUnits + 1], sum = 128;
    for (int k = 0; k < kUnits; k++) input[k] = l->units[k] * 8;
    input[kUnits] = 256;
    for (int k = 0; k <= kUnits; k++) sum += wrap(input[k] * weight[k]) >> 8;
    const u32 p = squash(wrap(sum) >> 8);
    const int bit = coder_bit(&coder, p);
    const i64 e = (65536 * (i64)bit - p) * 2560 >> 10;
    for (int k = 0; k <= kUnits; k++) {
      weight[k] = wrap(weight[k] + (i64)(wrap(input[k] * e + 32768) >> 16));
    }
    out[i / 8] = (u8)(out[i / 8] << 1 | bit);
    language_learn(l, bit);
  }
  free(weights);
  return coder_ended(&coder) ? NULL : "text_lm: code is not as long as it says";
}

/* `weights` is the file of weights. Alone: lines and prior_size are 0. */
const char* spec_text_lm(const u8* coded, size_t coded_size, const u8* weights,
                         int alone, int lines, const u8* prior,
                         size_t prior_size, u8* out, size_t n) {
  make_tables();
  Language* l = calloc(1, sizeof *l);
  if (!l) return kNoMemory;
  l->model = model_of(weights);
  language_begin(l);
  const char* why =
      alone ? lm_alone(l, coded, coded_size, out, n)
            : lm_mixed(l, coded, coded_size, lines, prior, prior_size, out, n);
  free(l);
  return why;
}
