// What a store keeps beside packs (store/format.h). Input: a byte that says
// which format, plus 128 if the checksum is as it stands, else the right one is
// added; then the bytes. What is accepted is written again as it was.
#include <algorithm>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/hash.h"
#include "check.h"
#include "container/xxh3.h"
#include "store/format.h"

namespace zipllm::store {
namespace {

bool Refused(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsUnimplemented(status);
}

template <typename Parse, typename Write>
void CheckText(std::vector<uint8_t> bytes, bool add_checksum,
               const Parse& parse, const Write& write) {
  if (add_checksum) {
    uint64_t hash = Xxh3(bytes);
    std::ranges::reverse(
        MutableByteSpan(reinterpret_cast<uint8_t*>(&hash), sizeof hash));
    const std::string line =
        "check " + Hex({reinterpret_cast<const uint8_t*>(&hash), sizeof hash}) +
        "\n";
    bytes.insert(bytes.end(), line.begin(), line.end());
  }
  const auto parsed = parse(bytes);
  if (!parsed.ok()) {
    FUZZ_CHECK(Refused(parsed.status()));
    return;
  }
  FUZZ_CHECK(std::ranges::equal(AsBytes(write(*parsed)), bytes));
}

template <typename Parse, typename Write>
void CheckBinary(std::vector<uint8_t> bytes, bool add_checksum,
                 const Parse& parse, const Write& write) {
  if (add_checksum) {
    bytes.resize(bytes.size() + sizeof(uint64_t));
    const size_t covered = bytes.size() - sizeof(uint64_t);
    StoreLe(&bytes[covered], Xxh3(ByteSpan(bytes).first(covered)));
  }
  const auto parsed = parse(bytes);
  if (!parsed.ok()) {
    FUZZ_CHECK(Refused(parsed.status()));
    return;
  }
  // Unknown element types become "bytes"; all else stays.
  const std::vector<uint8_t> written = write(*parsed);
  const auto again = parse(written);
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(write(*again) == written);
  FUZZ_CHECK(written.size() == bytes.size());
}

void CheckKey(const std::string& key) {
  const absl::StatusOr<ModelName> name = ModelNameOf(key);
  if (name.ok()) {
    FUZZ_CHECK(ReferenceKey(*name) == key);
    FUZZ_CHECK(*ModelName::Parse(name->Text()) == *name);
  }
  const absl::StatusOr<ModelName> parsed = ModelName::Parse(key);
  if (parsed.ok()) {
    const absl::StatusOr<ModelName> back = ModelNameOf(ReferenceKey(*parsed));
    FUZZ_CHECK(back.ok() && *back == *parsed);
  }
  if (const std::string id = PackIdOf(key); !id.empty())
    FUZZ_CHECK(PackKey(id) == key);
  if (const auto object = ObjectOfEntry(key))
    FUZZ_CHECK(ObjectEntryName(*object) == key);
}

}  // namespace
}  // namespace zipllm::store

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace zipllm::store;  // NOLINT: the body of a fuzz target
  if (size == 0) return 0;
  const bool add_checksum = data[0] < 128;
  const std::vector<uint8_t> bytes(data + 1, data + size);
  switch (data[0] % 128) {
    case 0:
      CheckText(bytes, add_checksum, ParseStoreHeader, WriteStoreHeader);
      break;
    case 1:
      CheckText(bytes, add_checksum, ParseReference, WriteReference);
      break;
    case 2:
      CheckText(bytes, add_checksum, ParseCondemnation, WriteCondemnation);
      break;
    case 3:
      CheckText(bytes, add_checksum, ParseDamage, WriteDamage);
      break;
    case 4:
      CheckBinary(bytes, add_checksum, ParseManifest, WriteManifest);
      break;
    case 5:
      CheckBinary(bytes, add_checksum, ParseSketches, WriteSketches);
      break;
    case 6:
      CheckKey({bytes.begin(), bytes.end()});
      break;
    default:
      break;
  }
  return 0;
}
