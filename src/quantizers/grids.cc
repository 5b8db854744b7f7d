#include "quantizers/grids.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "quantizers/dequantize_loops.h"

namespace zipllm::quantizers {
namespace {

#include "quantizers/grid_codes.inc"

template <int kSize, int kWidth, int kBits>
struct Points {
  uint8_t levels[kSize][8] = {};

  constexpr explicit Points(const uint16_t (&codes)[kSize]) {
    for (int i = 0; i < kSize; ++i) {
      for (int k = 0; k < kWidth; ++k) {
        levels[i][k] =
            static_cast<uint8_t>(codes[i] >> kBits * k & ((1 << kBits) - 1));
      }
    }
  }
};

struct Index {
  std::array<int16_t, 1 << 16> of;

  Index(const uint16_t* codes, int size) {
    of.fill(-1);
    for (int i = 0; i < size; ++i) of[codes[i]] = static_cast<int16_t>(i);
  }
};

template <const auto& kCodes, int kWidth, int kNumber, int kShells>
const Grid* GridOf() {
  constexpr int kSize = static_cast<int>(std::size(kCodes));
  constexpr int kBits = kWidth == 8 ? 2 : 3;
  static constexpr Points<kSize, kWidth, kBits> kPoints(kCodes);
  static const Index index(kCodes, kSize);
  static const Grid grid = {kSize,          kWidth,  kBits,  kBits == 2 ? 3 : 8,
                            kShells,        kNumber, kCodes, kPoints.levels,
                            index.of.data()};
  return &grid;
}

/// What the points of a type stand for.
template <const auto& kCodes, int kWidth, const auto& kValues>
struct PointNumbers {
  static constexpr int kSize = static_cast<int>(std::size(kCodes));
  int8_t of[kSize][8] = {};

  constexpr PointNumbers() {
    const Points<kSize, kWidth, kWidth == 8 ? 2 : 3> points(kCodes);
    for (int i = 0; i < kSize; ++i) {
      for (int k = 0; k < kWidth; ++k) of[i][k] = kValues[points.levels[i][k]];
    }
  }
};
template <const auto& kCodes, int kWidth, const auto& kValues>
constexpr PointNumbers<kCodes, kWidth, kValues> kNumbers;

// IQ1 counts in eighths, as what it is shifted by.
constexpr int8_t kIq1Values[8] = {-8, 0, 8};
constexpr int8_t kIq2Values[8] = {8, 25, 43};
constexpr int8_t kIq3XxsValues[8] = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr int8_t kIq3SValues[8] = {1, 3, 5, 7, 9, 11, 13, 15};

const std::array<GridType, 7>& AllTypes() {
  static const std::array<GridType, 7> types = {
      GridType{DType::kGgmlIQ1S, 50, 32, 32, 3, 32, false, true,
               GridOf<kCodesIq1, 8, 0, 3>(), kIq1Values,
               kNumbers<kCodesIq1, 8, kIq1Values>.of, 0.125f},
      GridType{DType::kGgmlIQ1M, 56, 32, 16, 3, 8, false, true,
               GridOf<kCodesIq1, 8, 0, 3>(), kIq1Values,
               kNumbers<kCodesIq1, 8, kIq1Values>.of, 0.125f},
      GridType{DType::kGgmlIQ2XXS, 66, 32, 32, 4, 8, true, false,
               GridOf<kCodesIq2Xxs, 8, 1, 2>(), kIq2Values,
               kNumbers<kCodesIq2Xxs, 8, kIq2Values>.of, 0.125f},
      GridType{DType::kGgmlIQ2XS, 74, 32, 16, 4, 8, true, false,
               GridOf<kCodesIq2Xs, 8, 2, 2>(), kIq2Values,
               kNumbers<kCodesIq2Xs, 8, kIq2Values>.of, 0.125f},
      GridType{DType::kGgmlIQ2S, 82, 32, 16, 4, 8, false, false,
               GridOf<kCodesIq2S, 8, 3, 1>(), kIq2Values,
               kNumbers<kCodesIq2S, 8, kIq2Values>.of, 0.125f},
      GridType{DType::kGgmlIQ3XXS, 98, 64, 32, 4, 8, true, false,
               GridOf<kCodesIq3Xxs, 4, 4, 2>(), kIq3XxsValues,
               kNumbers<kCodesIq3Xxs, 4, kIq3XxsValues>.of, 0.25f},
      GridType{DType::kGgmlIQ3S, 110, 64, 32, 4, 8, false, false,
               GridOf<kCodesIq3S, 4, 5, 3>(), kIq3SValues,
               kNumbers<kCodesIq3S, 4, kIq3SValues>.of, 1},
  };
  return types;
}

// ---- Fields ----

// Visit() meets the bits of each field, with an Io that reads them from a block
// or writes them to one of zeros: `width` (at most 9) bits from bit `shift` of
// byte `byte` on are bits [to, to + width) of the field.

struct Reader {
  const uint8_t* block;
  template <typename Field>
  void operator()(int byte, int shift, int width, Field* field,
                  int to = 0) const {
    byte += shift / 8;
    shift %= 8;
    uint32_t bits = block[byte];
    if (shift + width > 8) bits |= uint32_t{block[byte + 1]} << 8;
    bits = (bits >> shift & ((1u << width) - 1)) << to;
    *field = static_cast<Field>(to == 0 ? bits : *field | bits);
  }
};

struct Writer {
  uint8_t* block;
  template <typename Field>
  void operator()(int byte, int shift, int width, const Field* field,
                  int to = 0) const {
    byte += shift / 8;
    shift %= 8;
    const uint32_t bits = (uint32_t{*field} >> to & ((1u << width) - 1))
                          << shift;
    block[byte] = static_cast<uint8_t>(block[byte] | bits);
    if (shift + width > 8) {
      block[byte + 1] = static_cast<uint8_t>(block[byte + 1] | bits >> 8);
    }
  }
};

template <DType dtype, typename Io, typename Fields>
void Visit(const Io& io, Fields* f) {
  if constexpr (dtype != DType::kGgmlIQ1M) {
    io(0, 0, 8, &f->d);
    io(1, 0, 8, &f->d, 8);
  }
  if constexpr (dtype == DType::kGgmlIQ1S) {
    for (int i = 0; i < 32; ++i) {
      io(2 + i, 0, 8, &f->index[i]);
      io(34 + i / 4 * 2, i % 4 * 3, 3, &f->index[i], 8);
    }
    for (int g = 0; g < 8; ++g) {
      io(35 + 2 * g, 4, 3, &f->scale[g]);
      io(35 + 2 * g, 7, 1, &f->signs[g]);
    }
  } else if constexpr (dtype == DType::kGgmlIQ1M) {
    for (int i = 0; i < 32; ++i) {
      io(i, 0, 8, &f->index[i]);
      io(32 + i / 2, i % 2 * 4, 3, &f->index[i], 8);
      io(32 + i / 2, i % 2 * 4 + 3, 1, &f->signs[i]);
    }
    for (int g = 0; g < 16; ++g) {
      io(48 + g / 4 * 2, g % 4 * 3, 3, &f->scale[g]);
    }
    for (int i = 0; i < 4; ++i) io(49 + 2 * i, 4, 4, &f->d, 4 * i);
  } else if constexpr (dtype == DType::kGgmlIQ2XXS) {
    for (int g = 0; g < 8; ++g) {
      for (int k = 0; k < 4; ++k) {
        io(2 + 8 * g + k, 0, 8, &f->index[4 * g + k]);
        io(6 + 8 * g, 7 * k, 7, &f->signs[4 * g + k]);
      }
      io(9 + 8 * g, 4, 4, &f->scale[g]);
    }
  } else if constexpr (dtype == DType::kGgmlIQ2XS) {
    for (int i = 0; i < 32; ++i) {
      io(2 + 2 * i, 0, 9, &f->index[i]);
      io(3 + 2 * i, 1, 7, &f->signs[i]);
    }
    for (int g = 0; g < 16; ++g) io(66 + g / 2, g % 2 * 4, 4, &f->scale[g]);
  } else if constexpr (dtype == DType::kGgmlIQ2S) {
    for (int i = 0; i < 32; ++i) {
      io(2 + i, 0, 8, &f->index[i]);
      io(34 + i, 0, 8, &f->signs[i]);
      io(66 + i / 4, i % 4 * 2, 2, &f->index[i], 8);
    }
    for (int g = 0; g < 16; ++g) io(74 + g / 2, g % 2 * 4, 4, &f->scale[g]);
  } else if constexpr (dtype == DType::kGgmlIQ3XXS) {
    for (int i = 0; i < 64; ++i) io(2 + i, 0, 8, &f->index[i]);
    for (int g = 0; g < 8; ++g) {
      for (int k = 0; k < 4; ++k) {
        io(66 + 4 * g, 7 * k, 7, &f->signs[4 * g + k]);
      }
      io(69 + 4 * g, 4, 4, &f->scale[g]);
    }
  } else {  // IQ3_S
    for (int i = 0; i < 64; ++i) {
      io(2 + i, 0, 8, &f->index[i]);
      io(66 + i / 8, i % 8, 1, &f->index[i], 8);
    }
    for (int i = 0; i < 32; ++i) io(74 + i, 0, 8, &f->signs[i]);
    for (int g = 0; g < 8; ++g) io(106 + g / 2, g % 2 * 4, 4, &f->scale[g]);
  }
}

template <typename Io, typename Fields>
void VisitAny(DType dtype, const Io& io, Fields* fields) {
  switch (dtype) {
    case DType::kGgmlIQ1S:
      return Visit<DType::kGgmlIQ1S>(io, fields);
    case DType::kGgmlIQ1M:
      return Visit<DType::kGgmlIQ1M>(io, fields);
    case DType::kGgmlIQ2XXS:
      return Visit<DType::kGgmlIQ2XXS>(io, fields);
    case DType::kGgmlIQ2XS:
      return Visit<DType::kGgmlIQ2XS>(io, fields);
    case DType::kGgmlIQ2S:
      return Visit<DType::kGgmlIQ2S>(io, fields);
    case DType::kGgmlIQ3XXS:
      return Visit<DType::kGgmlIQ3XXS>(io, fields);
    default:
      return Visit<DType::kGgmlIQ3S>(io, fields);
  }
}

// ---- Numbers ----

/// By the signs of 8 weights: -1 for each that is negative.
struct Flips {
  int8_t of[256][8] = {};

  constexpr Flips() {
    for (int signs = 0; signs < 256; ++signs) {
      for (int k = 0; k < 8; ++k) of[signs][k] = (signs >> k & 1) ? -1 : 0;
    }
  }
};
constexpr Flips kFlips;

float HalfNumber(uint16_t half) {
  uint8_t bytes[2];
  std::memcpy(bytes, &half, 2);
  return LoadF16(bytes);
}

/// To `codes`, what the elements of a block are in units of its scales: eighths
/// where the type shifts.
template <int kWidth>
void Codes(const GridType& type, const GridFields& fields, int8_t* codes) {
  for (int i = 0; i < kGridBlock / kWidth; ++i, codes += kWidth) {
    const int at = i * kWidth;
    const int8_t* numbers = type.numbers[fields.index[i] % type.grid->size];
    if (type.shifts) {
      const int shift = fields.signs[at / type.sign_group] != 0 ? -1 : 1;
      for (int k = 0; k < kWidth; ++k) {
        codes[k] = static_cast<int8_t>(numbers[k] + shift);
      }
    } else {
      const int8_t* flips = kFlips.of[fields.signs[at / 8]] + at % 8;
      for (int k = 0; k < kWidth; ++k) {
        codes[k] = static_cast<int8_t>((numbers[k] ^ flips[k]) - flips[k]);
      }
    }
  }
}

void Numbers(const GridType& type, const GridFields& fields, float* out) {
  int8_t codes[kGridBlock];
  if (type.grid->width == 8) {
    Codes<8>(type, fields, codes);
  } else {
    Codes<4>(type, fields, codes);
  }
  const float d = HalfNumber(fields.d) * type.unit;
  for (int g = 0; g < kGridBlock / 16; ++g) {
    const float unit =
        d * static_cast<float>(2 * fields.scale[16 * g / type.group] + 1);
    for (int i = 16 * g; i < 16 * (g + 1); ++i) {
      out[i] = unit * static_cast<float>(codes[i]);
    }
  }
}

void StepNumbers(const GridType& type, const GridFields& fields, float* out) {
  const float d = FloatOfBits(BitsOfFloat(HalfNumber(fields.d)) & 0x7fffffff);
  // Levels lie about evenly.
  const int last = type.grid->levels - 1;
  const float between = static_cast<float>(type.values[last] - type.values[0]) /
                        static_cast<float>(last);
  for (int i = 0; i < kGridBlock; ++i) {
    const auto scale = static_cast<float>(2 * fields.scale[i / type.group] + 1);
    out[i] = d * scale * type.unit * between;
  }
}

// ---- Neighbours ----

GridNeighbours MakeNeighbours(const Grid& grid) {
  constexpr int kFarthest = 4 * 7 * 7;
  GridNeighbours neighbours;
  const uint32_t mask = (1u << grid.bits) - 1;
  const uint32_t codes = 1u << grid.bits * grid.width;
  neighbours.start.resize(codes);
  // By coordinate: all points.
  std::vector<std::vector<uint8_t>> planes(static_cast<size_t>(grid.width));
  for (size_t k = 0; k < planes.size(); ++k) {
    for (int i = 0; i < grid.size; ++i) planes[k].push_back(grid.points[i][k]);
  }
  std::vector<uint8_t> far(static_cast<size_t>(grid.size));
  const auto level = [&](uint32_t code, int k) {
    return static_cast<int>(code >> grid.bits * k & mask);
  };
  for (uint32_t code = 0; code < codes; ++code) {
    bool is_off = grid.index[code] < 0;
    for (int k = 0; k < grid.width; ++k) is_off &= level(code, k) < grid.levels;
    if (!is_off) continue;
    std::fill(far.begin(), far.end(), uint8_t{0});
    for (int k = 0; k < grid.width; ++k) {
      const uint8_t* plane = planes[static_cast<size_t>(k)].data();
      for (size_t i = 0; i < far.size(); ++i) {
        const int step = plane[i] - level(code, k);
        far[i] = static_cast<uint8_t>(far[i] + step * step);
      }
    }
    std::array<uint16_t, kFarthest + 1> count{};
    for (const uint8_t distance : far) ++count[distance];
    // Where points of each distance go.
    neighbours.start[code] = static_cast<uint32_t>(neighbours.lists.size());
    std::array<uint16_t, kFarthest + 1> place{};
    int shells = 0;
    uint16_t total = 0;
    size_t end = 0;
    for (; end <= kFarthest && shells < grid.shells; ++end) {
      place[end] = total;
      total = static_cast<uint16_t>(total + count[end]);
      shells += count[end] != 0 ? 1 : 0;
    }
    constexpr size_t kMultiple = GridNeighbours::kMultiple;
    const size_t length = (total + kMultiple - 1) / kMultiple * kMultiple;
    neighbours.lists.push_back(static_cast<uint16_t>(length));
    const size_t first = neighbours.lists.size();
    neighbours.lists.resize(first + length);
    for (size_t i = 0; i < far.size(); ++i) {
      if (far[i] >= end) continue;
      neighbours.lists[first + place[far[i]]++] = grid.codes[i];
    }
    for (size_t i = total; i < length; ++i) {
      neighbours.lists[first + i] = neighbours.lists[first];
    }
  }
  return neighbours;
}

template <int kNumber>
const GridNeighbours& Neighbours(const Grid& grid) {
  static const GridNeighbours neighbours = MakeNeighbours(grid);
  return neighbours;
}

}  // namespace

const GridType* FindGridType(DType dtype) {
  for (const GridType& type : AllTypes()) {
    if (type.dtype == dtype) return &type;
  }
  return nullptr;
}

void UnpackGridBlock(const GridType& type, const uint8_t* block,
                     GridFields* fields) {
  VisitAny(type.dtype, Reader{block}, fields);
  if (type.even_signs) {
    for (uint8_t& signs : fields->signs) signs = EvenSigns(signs);
  }
}

void PackGridBlock(const GridType& type, const GridFields& fields,
                   uint8_t* block) {
  std::memset(block, 0, type.bytes);
  VisitAny(type.dtype, Writer{block}, &fields);
}

bool DequantizeGrids(DType dtype, bool steps, const uint8_t* blocks,
                     size_t count, float* out) {
  const GridType* type = FindGridType(dtype);
  if (type == nullptr) return false;
  for (size_t b = 0; b < count; ++b) {
    GridFields fields;
    UnpackGridBlock(*type, blocks + b * type->bytes, &fields);
    float* numbers = out + b * kGridBlock;
    steps ? StepNumbers(*type, fields, numbers)
          : Numbers(*type, fields, numbers);
    if ((fields.d & 0x7c00) == 0x7c00) OneNan(numbers, kGridBlock);
  }
  return true;
}

const GridNeighbours& NeighboursOf(const Grid& grid) {
  switch (grid.number) {
    case 0:
      return Neighbours<0>(grid);
    case 1:
      return Neighbours<1>(grid);
    case 2:
      return Neighbours<2>(grid);
    case 3:
      return Neighbours<3>(grid);
    case 4:
      return Neighbours<4>(grid);
    default:
      return Neighbours<5>(grid);
  }
}

}  // namespace zipllm::quantizers
