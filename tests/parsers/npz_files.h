// Files of .npz made by hand.
#ifndef ZIPLLM_TESTS_PARSERS_NPZ_FILES_H_
#define ZIPLLM_TESTS_PARSERS_NPZ_FILES_H_

#include "parsers/files.h"

namespace zipllm::parsers {

/// A .npy of `count` elements of `element` bytes.
inline Bytes Npy(std::string_view descr, size_t count, size_t element) {
  std::string header = "{'descr': '" + std::string(descr) +
                       "', 'fortran_order': False, 'shape': (" +
                       std::to_string(count) + ",), }\n";
  Bytes file;
  PutText(&file, std::string_view("\x93NUMPY\x01\x00", 8));
  Put<uint16_t>(&file, static_cast<uint16_t>(header.size()));
  PutText(&file, header);
  file.resize(file.size() + count * element, 0x3F);
  return file;
}

/// Bytes before the elements of Npy's result.
inline size_t HeadOf(const Bytes& npy) { return 10 + npy[8] + (npy[9] << 8); }

/// Where a local header's sizes stand.
enum class Sizes { kPlain, kZip64, kBehind };

struct ZipMember {
  std::string name;
  Bytes data;
  Sizes sizes = Sizes::kPlain;
  uint16_t method = 0;
  uint16_t flags = 0;
};

/// Appends a member; returns where its data begins.
inline size_t AddMember(const ZipMember& member, Bytes* file) {
  const auto size = static_cast<uint32_t>(member.data.size());
  const bool zip64 = member.sizes == Sizes::kZip64;
  const bool behind = member.sizes == Sizes::kBehind;
  const uint32_t written = zip64 ? UINT32_MAX : behind ? 0 : size;
  PutText(file, "PK\x03\x04");
  Put<uint16_t>(file, 45);
  Put<uint16_t>(file, static_cast<uint16_t>(member.flags | (behind ? 8 : 0)));
  Put<uint16_t>(file, member.method);
  for (int i = 0; i < 8; ++i) Put<uint8_t>(file, 0x55);  // time, checksum
  Put<uint32_t>(file, written);
  Put<uint32_t>(file, written);
  Put<uint16_t>(file, static_cast<uint16_t>(member.name.size()));
  Put<uint16_t>(file, zip64 ? 26 : 0);
  PutText(file, member.name);
  if (zip64) {
    Put<uint16_t>(file, 0x7075);  // another field comes first
    Put<uint16_t>(file, 2);
    Put<uint16_t>(file, 0);
    Put<uint16_t>(file, 1);
    Put<uint16_t>(file, 16);
    Put<uint64_t>(file, size);
    Put<uint64_t>(file, size);
  }
  const size_t begin = file->size();
  file->insert(file->end(), member.data.begin(), member.data.end());
  return begin;
}

/// Appends what stands for the directory.
inline Bytes WithEnd(Bytes file) {
  PutText(&file, "PK\x01\x02 and so on");
  return file;
}

}  // namespace zipllm::parsers

#endif  // ZIPLLM_TESTS_PARSERS_NPZ_FILES_H_
