// Trains the language model of codec 23 (src/codecs/text/lm.h) and writes its
// weights, rounded.
//
//   g++ -std=c++20 -O3 -march=native -ffast-math -I src tools/train/lm.cc \
//       src/codecs/text/cm_parts_decode.cc -o lm
//   ./lm MEGABYTES OUT NAME=SHARE...
//
// NAME is a text of one kind (corpus.py, prior.py), SHARE how much of what is
// read comes from it. First the contexts that are common are counted, and given
// the rows; then pieces of the texts are read in a random order, by AdaGrad
// with one rate for each row (Duchi, Hazan, Singer 2011). The last 5 % of each
// text are kept for the measure that is printed. One thread; about 5 us a byte.
#include "codecs/text/lm.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace lm = zipllm::codecs::lm;
using lm::kContexts, lm::kDirect, lm::kHidden, lm::kUnits, lm::kWidth;

namespace {

constexpr size_t kPiece = 16384;
constexpr size_t kRows = size_t{lm::kLines} * 4;
constexpr double kRowRate = 0.3;
constexpr double kOutputRate = 0.05;
constexpr double kHiddenRate = 0.02;
constexpr float kMaxScore = 12;

struct Text {
  std::string name;
  double share;
  std::vector<uint8_t> bytes;
  size_t Train() const { return bytes.size() / 20 * 19; }
};

struct Model {
  std::vector<uint8_t> checks = std::vector<uint8_t>(kRows + 4);
  // Row kRows is that of unknown contexts: zeros.
  std::vector<std::array<float, kWidth>> rows{kRows + 1};
  std::vector<float> row_squares = std::vector<float>(kRows + 1);
  std::array<std::array<float, kDirect>, kHidden> hidden;
  std::array<float, kHidden> hidden_bias{}, hidden_squares{};
  std::array<std::array<float, kUnits>, 256> output;
  std::array<float, 256> output_bias{}, output_squares{}, bias_squares{};

  uint32_t Find(uint32_t hash) const {
    const uint32_t line = lm::LineOf(hash) * 4;
    for (uint32_t i = line; i < line + 4; ++i) {
      if (checks[i] == lm::CheckOf(hash)) return i;
    }
    return kRows;
  }
};

class Trainer {
 public:
  Trainer(std::vector<Text> texts, double bytes)
      : texts_(std::move(texts)), total_(bytes) {
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < kRows; ++i) {
      for (float& x : m_->rows[i]) x = normal(random_) * 0.1f;
      m_->rows[i][0] = 1;
    }
    for (auto& row : m_->hidden) {
      for (float& x : row) x = normal(random_) * 0.15f;
    }
    for (auto& row : m_->output) {
      for (float& x : row) x = normal(random_) * 0.1f;
    }
  }

  /// Gives rows to contexts: the commonest first, without those that say hardly
  /// more than the shorter ones they are made of.
  void ChooseContexts(double bytes) {
    constexpr std::array<int, kContexts> kParent = {-1, -1, 1, 2, 3,  4,
                                                    1,  6,  6, 7, -1, -1};
    std::vector<uint16_t> counts(size_t{1} << 27);
    std::vector<bool> taken(counts.size());
    std::vector<std::pair<const uint8_t*, size_t>> pieces;
    for (double done = 0; done < bytes; done += kPiece) {
      pieces.push_back(Piece());
    }
    for (const auto& [data, size] : pieces) {
      lm::History history;
      for (size_t i = 0; i < size; ++i) {
        history.Add(data[i]);
        for (uint32_t hash : history.Hashes()) {
          uint16_t& count = counts[hash >> 5];
          count += count < 65535;
        }
      }
    }
    const auto least = std::max(3.0, bytes / 8e6);
    std::vector<std::tuple<uint32_t, uint32_t, size_t>> found;
    for (const auto& [data, size] : pieces) {
      lm::History history;
      for (size_t i = 0; i < size; ++i) {
        history.Add(data[i]);
        const auto hashes = history.Hashes();
        for (size_t k = 0; k < kContexts; ++k) {
          const uint32_t count = counts[hashes[k] >> 5];
          if (count < least || taken[hashes[k] >> 5]) continue;
          taken[hashes[k] >> 5] = true;
          if (kParent[k] >= 0) {
            const uint32_t parent = counts[hashes[kParent[k]] >> 5];
            if (parent < 65535 && count > 0.85 * parent) continue;
          }
          found.push_back({count, hashes[k], k});
        }
      }
    }
    std::sort(found.rbegin(), found.rend());
    std::array<size_t, kContexts> used{};
    uint32_t last = 0;
    for (const auto& [count, hash, k] : found) {
      if (m_->Find(hash) != kRows) continue;
      const uint32_t line = lm::LineOf(hash) * 4;
      for (uint32_t i = line; i < line + 4; ++i) {
        if (m_->checks[i] != 0) continue;
        m_->checks[i] = lm::CheckOf(hash);
        ++used[k];
        last = count;
        break;
      }
    }
    std::printf("contexts: %zu found, least count %u, rows of each kind:",
                found.size(), last);
    for (size_t n : used) std::printf(" %zu", n);
    std::printf("\n");
  }

  void Train(const std::string& out) {
    const auto begin = std::chrono::steady_clock::now();
    double done = 0;
    double bits = 0;
    double since = 0;
    for (size_t n = 1; done < total_; ++n) {
      const double part = done / total_;
      rate_ = static_cast<float>(part < 0.4 ? 1 : 1.03 - (part - 0.4) / 0.6);
      const auto [data, size] = Piece();
      bits += Read<true>(data, size);
      done += static_cast<double>(size);
      since += static_cast<double>(size);
      if (n % 512 == 0) {
        const std::chrono::duration<double> time =
            std::chrono::steady_clock::now() - begin;
        std::printf("%.1f MB %.0f s %.4f bits a byte\n", done / 1e6,
                    time.count(), bits / since);
        std::fflush(stdout);
        bits = since = 0;
        Save(out);
      }
    }
    Save(out);
    for (const Text& text : texts_) {
      const size_t size =
          std::min<size_t>(text.bytes.size() - text.Train(), 200000);
      std::printf("%s: %.4f\n", text.name.c_str(),
                  Read<false>(text.bytes.data() + text.Train(), size) /
                      static_cast<double>(size));
    }
  }

 private:
  std::pair<const uint8_t*, size_t> Piece() {
    double all = 0;
    for (const Text& text : texts_) all += text.share;
    double at = std::uniform_real_distribution<>(0, all)(random_);
    size_t k = 0;
    while (k + 1 < texts_.size() && at > texts_[k].share) {
      at -= texts_[k++].share;
    }
    const size_t size = std::min(kPiece, texts_[k].Train());
    std::uniform_int_distribution<size_t> place(0, texts_[k].Train() - size);
    return {texts_[k].bytes.data() + place(random_), size};
  }

  /// Returns the bits that the bytes cost.
  template <bool kTrain>
  double Read(const uint8_t* data, size_t size) {
    Model& m = *m_;
    lm::History history;
    std::array<uint32_t, kContexts> at;
    const auto look_up = [&] {
      const auto hashes = history.Hashes();
      for (uint32_t h : hashes) {
        __builtin_prefetch(&m.checks[lm::LineOf(h) * 4]);
      }
      for (size_t k = 0; k < kContexts; ++k) {
        at[k] = m.Find(hashes[k]);
        __builtin_prefetch(&m.rows[at[k]]);
        __builtin_prefetch(&m.row_squares[at[k]]);
      }
    };
    look_up();
    alignas(64) std::array<float, kUnits> x;
    alignas(64) std::array<float, kUnits> dx;
    double bits = 0;
    for (size_t i = 0; i < size; ++i) {
      for (size_t k = 0; k < kContexts; ++k) {
        std::copy_n(m.rows[at[k]].begin(), kWidth, x.begin() + k * kWidth);
      }
      float direct_squares = 0;
      for (size_t j = 0; j < kDirect; ++j) direct_squares += x[j] * x[j];
      for (size_t h = 0; h < kHidden; ++h) {
        float sum = m.hidden_bias[h];
        for (size_t j = 0; j < kDirect; ++j) sum += m.hidden[h][j] * x[j];
        x[kDirect + h] = std::clamp(sum, 0.f, 15.9f);
      }
      float squares = direct_squares;
      for (size_t j = kDirect; j < kUnits; ++j) squares += x[j] * x[j];
      squares /= kUnits;
      direct_squares /= kDirect;
      dx.fill(0);
      std::array<float, 8> errors;
      for (int b = 0; b < 8; ++b) {
        const uint32_t node = (256u | data[i]) >> (8 - b);
        const auto& w = m.output[node];
        float score = m.output_bias[node];
        for (size_t j = 0; j < kUnits; ++j) score += w[j] * x[j];
        score = std::clamp(score, -kMaxScore, kMaxScore);
        const bool bit = data[i] >> (7 - b) & 1;
        const float p = 1 / (1 + std::exp(-score));
        bits -= std::log2(bit ? p : 1 - p);
        errors[b] = static_cast<float>(bit) - p;
      }
      const std::array<uint32_t, kContexts> rows = at;
      history.Add(data[i]);
      look_up();
      if constexpr (!kTrain) continue;
      for (int b = 0; b < 8; ++b) {
        const uint32_t node = (256u | data[i]) >> (8 - b);
        auto& w = m.output[node];
        const float error = errors[b];
        m.output_squares[node] += error * error * squares;
        m.bias_squares[node] += error * error;
        const float rate = rate_ * static_cast<float>(kOutputRate);
        const float step =
            error * rate / std::sqrt(m.output_squares[node] + 1e-2f);
        for (size_t j = 0; j < kUnits; ++j) {
          dx[j] += error * w[j];
          w[j] += step * x[j];
        }
        m.output_bias[node] +=
            error * rate / std::sqrt(m.bias_squares[node] + 1);
      }
      for (size_t h = 0; h < kHidden; ++h) {
        if (x[kDirect + h] <= 0) continue;
        const float d = dx[kDirect + h];
        m.hidden_squares[h] += d * d * direct_squares;
        const float step = rate_ * static_cast<float>(kHiddenRate) * d /
                           std::sqrt(m.hidden_squares[h] + 1e-1f);
        for (size_t j = 0; j < kDirect; ++j) {
          dx[j] += d * m.hidden[h][j];
          m.hidden[h][j] += step * x[j];
        }
        m.hidden_bias[h] += step * 0.3f;
      }
      for (size_t k = 0; k < kContexts; ++k) {
        if (rows[k] == kRows) continue;
        const float* d = dx.data() + k * kWidth;
        float sum = 0;
        for (size_t j = 1; j < kWidth; ++j) sum += d[j] * d[j];
        m.row_squares[rows[k]] += sum / kWidth;
        const float step = rate_ * static_cast<float>(kRowRate) /
                           std::sqrt(m.row_squares[rows[k]] + 1e-3f);
        auto& row = m.rows[rows[k]];
        for (size_t j = 0; j < kWidth; ++j) {
          row[j] = std::clamp(row[j] + step * d[j], -3.96f, 3.96f);
        }
        row[0] = 1;
      }
    }
    return bits;
  }

  static int Round(float x, float unit, int most) {
    return std::clamp(static_cast<int>(std::lround(x * unit)), -most, most);
  }

  void Save(const std::string& path) const {
    const Model& m = *m_;
    auto file = std::make_unique<lm::File>();
    size_t cut = 0;
    for (size_t i = 0; i < kRows; ++i) {
      uint8_t* row = &file->lines[i * kWidth];
      row[0] = m.checks[i];
      for (size_t j = 1; j < kWidth; ++j) {
        cut += std::abs(m.rows[i][j]) > 3.95f;
        row[j] = static_cast<uint8_t>(
            m.checks[i] == 0 ? 0 : Round(m.rows[i][j], 32, 127));
      }
    }
    for (size_t h = 0; h < kHidden; ++h) {
      for (size_t j = 0; j < kDirect; ++j) {
        file->hidden[h][j] =
            static_cast<int8_t>(Round(m.hidden[h][j], 64, 127));
      }
      file->hidden_bias[h] =
          static_cast<int16_t>(Round(m.hidden_bias[h], 2048, 32767));
    }
    for (size_t n = 0; n < 256; ++n) {
      for (size_t j = 0; j < kUnits; ++j) {
        file->output[n][j] = n == 0 ? int16_t{0}
                                    : static_cast<int16_t>(Round(
                                          m.output[n][j], 256, lm::kOutputMax));
      }
      file->output_bias[n] =
          static_cast<int16_t>(Round(m.output_bias[n], 256, 32767));
    }
    std::printf("  %.3f %% of row numbers at their bounds\n",
                100.0 * static_cast<double>(cut) / (kRows * 15));
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(file.get()), sizeof(*file));
  }

  std::vector<Text> texts_;
  double total_;
  std::mt19937_64 random_{1};
  std::unique_ptr<Model> m_ = std::make_unique<Model>();
  float rate_ = 1;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: lm MEGABYTES OUT NAME=SHARE...\n");
    return 2;
  }
  std::vector<Text> texts;
  for (int i = 3; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.rfind('=');
    Text text;
    text.name = argument.substr(0, equals);
    text.share = std::atof(argument.c_str() + equals + 1);
    std::ifstream in(text.name, std::ios::binary);
    text.bytes.assign(std::istreambuf_iterator<char>(in), {});
    if (text.bytes.size() < 100000) {
      std::fprintf(stderr, "%s: too short\n", text.name.c_str());
      return 1;
    }
    texts.push_back(std::move(text));
  }
  const double bytes = std::atof(argv[1]) * 1e6;
  Trainer trainer(std::move(texts), bytes);
  trainer.ChooseContexts(std::min(bytes * 2, 4e7));
  trainer.Train(argv[2]);
}
