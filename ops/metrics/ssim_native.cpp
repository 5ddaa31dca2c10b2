// All-pairs SSIM with the uniform 7x7 window: k images against one tile of LANES pool images (the lanes of a vector).
//
// The arithmetic is that of ssim_kernel.py. Pixels are integers held in float32, so running sums of products stay
// integers below 2^24 and are exact: adding the row that enters a window and taking away the one that leaves it loses
// nothing. Two windows share one division: n1/d1 + n2/d2 = (n1 d2 + n2 d1) / (d1 d2).
//
// Layouts (float32, C order): x_* [k, c, ., .], y_pixels [c, h, w, LANES], y_level and y_spread [c, p, q, LANES],
// out [k, LANES]; p = h - 6, q = w - 6.

#include <cstring>
#include <vector>

constexpr int LANES = 16;
constexpr int WIN = 7;
typedef float vec __attribute__((vector_size(LANES * sizeof(float)), aligned(4)));

static inline vec load(const float *from) { return *reinterpret_cast<const vec *>(from); }

// Mean over windows of one image against the tile, channel by channel, row of windows by row of windows.
static vec score(const float *x_pixels, const float *x_level, const float *x_spread, const float *x_whole,
                 const float *x_rest, const float *x_energy, const float *y_pixels, const float *y_level,
                 const float *y_spread, int c, int h, int w, float half_c1, float half_c2, vec *column) {
    const int p = h - WIN + 1, q = w - WIN + 1;
    double total[LANES] = {0};
    for (int channel = 0; channel < c; ++channel) {
        const float *x = x_pixels + channel * h * w, *y = y_pixels + (long)channel * h * w * LANES;
        for (int j = 0; j < w; ++j) {
            vec sum = {0};
            for (int i = 0; i < WIN - 1; ++i) sum += x[i * w + j] * load(y + (long)(i * w + j) * LANES);
            column[j] = sum;  // sums of six rows: the seventh enters below
        }
        for (int i = 0; i < p; ++i) {
            const float *entering = x + (i + WIN - 1) * w, *leaving = x + (i - 1) * w;
            const float *y_in = y + (long)(i + WIN - 1) * w * LANES, *y_out = y + (long)(i - 1) * w * LANES;
            if (i == 0)
                for (int j = 0; j < w; ++j) column[j] += entering[j] * load(y_in + (long)j * LANES);
            else
                for (int j = 0; j < w; ++j)
                    column[j] += entering[j] * load(y_in + (long)j * LANES) - leaving[j] * load(y_out + (long)j * LANES);
            const long at = (long)(channel * p + i) * q;
            vec run = {0}, row = {0}, held_n = {0}, held_d = {0};
            for (int j = 0; j < WIN - 1; ++j) run += column[j];
            for (int j = 0; j < q; ++j) {
                run += column[j + WIN - 1];
                const long n = at + j;
                const vec level = load(y_level + n * LANES), spread = load(y_spread + n * LANES);
                const vec covariance = (run - x_whole[n] * level) - x_rest[n] * level;
                const vec top = (x_level[n] * level + half_c1) * (covariance + half_c2);
                const vec bottom = (level * level + x_energy[n]) * (spread + x_spread[n]);
                if (j & 1)
                    row += (held_n * bottom + top * held_d) / (held_d * bottom);
                else
                    held_n = top, held_d = bottom;
                run -= column[j];
            }
            if (q & 1) row += held_n / held_d;
            for (int lane = 0; lane < LANES; ++lane) total[lane] += row[lane];
        }
    }
    vec mean;
    for (int lane = 0; lane < LANES; ++lane) mean[lane] = (float)(4 * total[lane] / ((double)c * p * q));  // 2 x 2: halves of C1 and C2
    return mean;
}

extern "C" int lanes() { return LANES; }

extern "C" void score_tile(const float *x_pixels, const float *x_level, const float *x_spread, const float *x_whole,
                           const float *x_rest, const float *x_energy, const float *y_pixels, const float *y_level,
                           const float *y_spread, int k, int c, int h, int w, float half_c1, float half_c2,
                           float *out) {
    const long pixels = (long)c * h * w, windows = (long)c * (h - WIN + 1) * (w - WIN + 1);
    std::vector<float> memory((size_t)(w + 1) * LANES + LANES);
    vec *column = reinterpret_cast<vec *>(memory.data());
    for (int image = 0; image < k; ++image) {
        const long a = image * pixels, b = image * windows;
        const vec mean = score(x_pixels + a, x_level + b, x_spread + b, x_whole + b, x_rest + b, x_energy + b, y_pixels,
                               y_level, y_spread, c, h, w, half_c1, half_c2, column);
        std::memcpy(out + (long)image * LANES, &mean, sizeof(mean));
    }
}

// Mean SSIM of n aligned pairs, x and y uint8 [n, h, w, c] as they lie in memory → out float32 [n].
//
// Here the vector runs along a row of one image (its w c values, channels interleaved: a window's next column lies c
// values on), all sums are 32-bit integers and exact, and nothing is prepared for other pairs.
extern "C" void score_pairs(const unsigned char *x, const unsigned char *y, long n, int h, int w, int c, double c1,
                            double c2, float *out) {
    const int row = w * c, q = (w - WIN + 1) * c, p = h - WIN + 1;
    const float area_c1 = (float)(c1 * 2401), area_c2 = (float)(c2 * 2352);  // 49 x 49 C1, 49 x 48 C2
    std::vector<int> memory((size_t)row * 5);
    std::vector<double> totals(q);  // a column of windows each, so that they add up side by side
    int *sx = memory.data(), *sy = sx + row, *sxx = sy + row, *syy = sxx + row, *sxy = syy + row;
    for (long pair = 0; pair < n; ++pair) {
        const unsigned char *a = x + pair * h * row, *b = y + pair * h * row;
        std::memset(sx, 0, (size_t)row * 5 * sizeof(int));
        totals.assign(q, 0.0);
        for (int i = 0; i < h; ++i) {
            const unsigned char *a_in = a + (long)i * row, *b_in = b + (long)i * row;
            for (int j = 0; j < row; ++j) {
                const int u = a_in[j], v = b_in[j];
                sx[j] += u, sy[j] += v, sxx[j] += u * u, syy[j] += v * v, sxy[j] += u * v;
            }
            if (i < WIN - 1) continue;
            for (int j = 0; j < q; ++j) {
                int wx = 0, wy = 0, wxx = 0, wyy = 0, wxy = 0;
                for (int k = 0; k < WIN; ++k) {
                    const int at = j + k * c;
                    wx += sx[at], wy += sy[at], wxx += sxx[at], wyy += syy[at], wxy += sxy[at];
                }
                const int product = wx * wy, squares_x = wx * wx, squares_y = wy * wy;
                const float top = ((float)(2 * product) + area_c1) * ((float)(2 * (49 * wxy - product)) + area_c2);
                const float spread = (float)(49 * wxx - squares_x + 49 * wyy - squares_y);
                totals[j] += top / (((float)(squares_x + squares_y) + area_c1) * (spread + area_c2));
            }
            const unsigned char *a_out = a + (long)(i - WIN + 1) * row, *b_out = b + (long)(i - WIN + 1) * row;
            for (int j = 0; j < row; ++j) {
                const int u = a_out[j], v = b_out[j];
                sx[j] -= u, sy[j] -= v, sxx[j] -= u * u, syy[j] -= v * v, sxy[j] -= u * v;
            }
        }
        double total = 0;
        for (int j = 0; j < q; ++j) total += totals[j];
        out[pair] = (float)(total / ((double)p * q));
    }
}
