#include "store/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "container/xxh3.h"

namespace zipllm::store {
namespace {

using ::testing::HasSubstr;

Sha256Digest DigestOf(std::string_view text) { return Sha256Of(AsBytes(text)); }

std::vector<uint8_t> BytesOf(std::string_view text) {
  return {text.begin(), text.end()};
}

// Whether `parse` refuses all that is cut from `bytes`, longer, or has one bit
// changed; not by a crash, nor by INTERNAL.
void ExpectRefusesDamage(const std::vector<uint8_t>& bytes,
                         const std::function<absl::Status(ByteSpan)>& parse) {
  ASSERT_TRUE(parse(bytes).ok()) << parse(bytes);
  const auto refused = [&](ByteSpan damaged) {
    // Cut and copied, so that ASan sees a read behind the end.
    const std::vector<uint8_t> copy(damaged.begin(), damaged.end());
    const absl::StatusCode code = parse(copy).code();
    return code == absl::StatusCode::kDataLoss ||
           code == absl::StatusCode::kUnimplemented;
  };
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_TRUE(refused(ByteSpan(bytes).first(size))) << "cut to " << size;
  }
  std::vector<uint8_t> longer = bytes;
  longer.push_back('\n');
  EXPECT_TRUE(refused(longer));
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::vector<uint8_t> flipped = bytes;
    flipped[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    EXPECT_TRUE(refused(flipped)) << "bit " << bit;
  }
}

// What comes before the hash at the end, with the hash that it should have: to
// get past the checksum.
std::vector<uint8_t> Hashed(ByteSpan covered) {
  std::vector<uint8_t> bytes(covered.begin(), covered.end());
  bytes.resize(bytes.size() + 8);
  StoreLe(&bytes[covered.size()], Xxh3(covered));
  return bytes;
}

// Whether `parse` stands damage that has a right checksum: any answer is right
// but a crash.
void ExpectStandsForgery(const std::vector<uint8_t>& bytes,
                         const std::function<absl::Status(ByteSpan)>& parse) {
  const ByteSpan covered = ByteSpan(bytes).first(bytes.size() - 8);
  for (size_t size = 9; size < covered.size(); ++size) {
    EXPECT_FALSE(parse(Hashed(covered.first(size))).ok()) << "cut to " << size;
  }
  for (size_t at = 0; at < covered.size(); ++at) {
    for (const int value : {0, 1, 0x7f, 0x80, 0xff}) {
      std::vector<uint8_t> changed(covered.begin(), covered.end());
      changed[at] = static_cast<uint8_t>(value);
      const absl::StatusCode code = parse(Hashed(changed)).code();
      EXPECT_TRUE(code == absl::StatusCode::kOk ||
                  code == absl::StatusCode::kDataLoss ||
                  code == absl::StatusCode::kUnimplemented);
    }
  }
}

TEST(Keys, OfPacks) {
  const std::string id = NewPackId();
  EXPECT_EQ(id.size(), 32u);
  EXPECT_NE(id, NewPackId());
  EXPECT_EQ(PackIdOf(PackKey(id)), id);
  const std::string known = "00112233445566778899aabbccddeeff";
  EXPECT_EQ(PackKey(known), "packs/00/" + known + ".zllm");
  for (const std::string& key : std::vector<std::string>{
           "packs/01/" + known + ".zllm", "packs/00/" + known,
           "packs/00/" + known + ".zllm2", "packs/" + known + ".zllm",
           "other/00/" + known + ".zllm", std::string("packs/"), std::string(),
           std::string("packs/00/00112233445566778899AABBCCDDEEFF.zllm")}) {
    EXPECT_EQ(PackIdOf(key), "") << key;
  }
  EXPECT_EQ(CondemnedKey(known), "condemned/" + known);
}

TEST(Keys, OfReferencesComeBack) {
  for (const ModelName& name :
       std::vector<ModelName>{{"gpt2", "main"},
                              {"org/model-7B_v1.5", "v1.0+x"},
                              {"a/b/c", "2024-01-01"},
                              {"with space/100% \xC3\xA9", "r:1"},
                              {".hidden/..x", ".r"},
                              {"~/\\", "\x7f\xff"}}) {
    const storage::Key key = ReferenceKey(name);
    for (const char c : key.substr(5)) {
      EXPECT_TRUE(std::isalnum(static_cast<unsigned char>(c)) ||
                  std::string_view("._-%+/").find(c) != std::string_view::npos)
          << key;
    }
    const auto back = ModelNameOf(key);
    ASSERT_TRUE(back.ok()) << key;
    EXPECT_EQ(*back, name) << key;
    EXPECT_EQ(*ModelName::Parse(name.Text()), name);
  }
  EXPECT_EQ(ReferenceKey({"org/model", "main"}), "refs/org%2Fmodel/main");
}

TEST(Keys, OthersAreNoReferences) {
  for (const std::string& key : std::vector<std::string>{
           "refs/a", "refs/a/b/c", "refs//b", "refs/a/", "refs/a%2fb/main",
           "refs/a%4/main", "refs/a%/main", "refs/a%41/main", "refs/a%00b/main",
           "refs/.a/main", "refs/%2E%2E/main", "refs/a/b%2Fc",
           "refs/a%40b/main", "refs/a b/main", "refs/a/%+1", "ref/a/b", ""}) {
    EXPECT_EQ(ModelNameOf(key).status().code(), absl::StatusCode::kDataLoss)
        << key;
  }
}

TEST(Keys, NamesAreParsed) {
  EXPECT_EQ(*ModelName::Parse("org/model"), (ModelName{"org/model", "main"}));
  EXPECT_EQ(*ModelName::Parse("m@r1"), (ModelName{"m", "r1"}));
  EXPECT_TRUE(ModelName::Parse(std::string(160, 'n')).ok());
  // A key has at most 255 bytes, of which an escaped one takes three.
  EXPECT_TRUE(ModelName::Parse(std::string(85, '\xff')).ok());
  for (const std::string& name : std::vector<std::string>{
           std::string(), std::string("@main"), std::string("m@"),
           std::string("a//b"), std::string("/a"), std::string("a/"),
           std::string("."), std::string("a/../b"), std::string("a@b@c"),
           std::string("a@b/c"), std::string("a\nb"), std::string("a\0b", 3),
           std::string("a@.."), std::string(161, 'n'), std::string(86, '\xff'),
           "a@" + std::string(81, 'r')}) {
    const absl::Status status = ModelName::Parse(name).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

TEST(Keys, OfObjects) {
  const Sha256Digest digest = DigestOf("abc");
  const std::string name =
      "zllmobj-"
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  EXPECT_EQ(ObjectEntryName(digest), name);
  EXPECT_EQ(ObjectOfEntry(name), digest);
  EXPECT_EQ(ObjectOfEntry(name + "0"), std::nullopt);
  EXPECT_EQ(ObjectOfEntry(name.substr(0, 71)), std::nullopt);
  EXPECT_EQ(ObjectOfEntry(name.substr(1)), std::nullopt);
  std::string upper = name;
  upper[8] = 'B';
  EXPECT_EQ(ObjectOfEntry(upper), std::nullopt);
}

StoreHeader AHeader() {
  StoreHeader header;
  header.id = "00112233445566778899aabbccddeeff";
  return header;
}

TEST(Header, ComesBack) {
  StoreHeader header = AHeader();
  EXPECT_EQ(WriteStoreHeader(header).substr(0, 67),
            "zipllm-store 1\nid 00112233445566778899aabbccddeeff\n"
            "read\nadd\ndelete\n");
  header.read = {"shiny"};
  header.remove = {"one", "two"};
  const auto back = ParseStoreHeader(AsBytes(WriteStoreHeader(header)));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->version, 1u);
  EXPECT_EQ(back->id, header.id);
  EXPECT_EQ(back->read, header.read);
  EXPECT_EQ(back->add, header.add);
  EXPECT_EQ(back->remove, header.remove);
}

TEST(Header, RefusesDamage) {
  StoreHeader header = AHeader();
  header.add = {"feature"};
  ExpectRefusesDamage(BytesOf(WriteStoreHeader(header)), [](ByteSpan bytes) {
    return ParseStoreHeader(bytes).status();
  });
}

TEST(Header, OfANewerVersionIsToldApart) {
  StoreHeader header = AHeader();
  header.version = 2;
  const absl::Status status =
      ParseStoreHeader(AsBytes(WriteStoreHeader(header))).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("version 2"));
}

TEST(Header, AFeatureStandsInTheWayOfItsOperationAlone) {
  StoreHeader header = AHeader();
  header.add = {"colours"};
  EXPECT_TRUE(CheckFeatures(header, Operation::kRead).ok());
  EXPECT_TRUE(CheckFeatures(header, Operation::kDelete).ok());
  const absl::Status status = CheckFeatures(header, Operation::kAdd);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"colours\""));
}

Reference AReference() {
  return {DigestOf("manifest"), 1234, -5, 3, 99'999'999'999};
}

TEST(References, ComeBack) {
  const Reference reference = AReference();
  const auto back = ParseReference(AsBytes(WriteReference(reference)));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->manifest, reference.manifest);
  EXPECT_EQ(back->manifest_length, reference.manifest_length);
  EXPECT_EQ(back->created_seconds, reference.created_seconds);
  EXPECT_EQ(back->files, reference.files);
  EXPECT_EQ(back->plain_bytes, reference.plain_bytes);
}

TEST(References, RefuseDamage) {
  ExpectRefusesDamage(
      BytesOf(WriteReference(AReference())),
      [](ByteSpan bytes) { return ParseReference(bytes).status(); });
  Reference large = AReference();
  large.manifest_length = kMaxManifest + 1;
  EXPECT_FALSE(ParseReference(AsBytes(WriteReference(large))).ok());
}

TEST(Condemnations, ComeBackAndRefuseDamage) {
  Condemnation condemnation;
  condemnation.phase = Condemnation::Phase::kReaders;
  condemnation.since_seconds = 1'700'000'000;
  condemnation.blockers = {"one", "two"};
  const std::string text = WriteCondemnation(condemnation);
  const auto back = ParseCondemnation(AsBytes(text));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->phase, condemnation.phase);
  EXPECT_EQ(back->since_seconds, condemnation.since_seconds);
  EXPECT_EQ(back->blockers, condemnation.blockers);
  ExpectRefusesDamage(BytesOf(text), [](ByteSpan bytes) {
    return ParseCondemnation(bytes).status();
  });
}

TEST(Damages, ComeBackAndRefuseDamage) {
  Damage damage;
  damage.objects = {DigestOf("a"), DigestOf("b")};
  EXPECT_FALSE(ParseDamage(AsBytes(WriteDamage(damage))).ok());
  std::ranges::sort(damage.objects);
  const std::string text = WriteDamage(damage);
  const auto back = ParseDamage(AsBytes(text));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_FALSE(back->all);
  EXPECT_EQ(back->objects, damage.objects);
  ExpectRefusesDamage(BytesOf(text), [](ByteSpan bytes) {
    return ParseDamage(bytes).status();
  });
  damage.objects.resize(2000);
  const std::string many = WriteDamage(damage);
  EXPECT_LE(many.size(), kMaxSmallValue);
  EXPECT_TRUE(ParseDamage(AsBytes(many))->all);
}

Manifest::File AFile(const std::string& path) {
  Manifest::File file;
  file.entry.path = path;
  file.entry.has_metadata = true;
  file.entry.mode = 0644;
  file.entry.mtime_seconds = 1'700'000'000;
  file.entry.mtime_nanoseconds = 999'999'999;
  file.entry.size = 8 + 300 + 0 + 128 + 129;
  file.entry.sha256 = DigestOf(path);
  file.entry.layout.format = "safetensors";
  uint64_t offset = 0;
  const auto add = [&](const std::string& name, DType dtype,
                       std::vector<uint64_t> shape, uint64_t length) {
    file.entry.layout.segments.push_back({name, dtype, shape, offset, length});
    offset += length;
    Manifest::Part part;
    if (length <= kMaxLiteral) {
      part.literal.assign(length, static_cast<uint8_t>(offset));
    } else {
      part.object = DigestOf(name);
    }
    file.parts.push_back(part);
  };
  add("", DType::kBytes, {}, 8);
  add("a", DType::kBF16, {3, 50}, 300);
  add("none", DType::kF32, {0, 7}, 0);
  add("b", DType::kF32, {32}, 128);
  add("", DType::kBytes, {}, 129);
  return file;
}

Manifest ATree() {
  Manifest manifest;
  const auto other = [&](EntryKind kind, const std::string& path,
                         const std::string& target) {
    Manifest::File file;
    file.entry.kind = kind;
    file.entry.path = path;
    file.entry.has_metadata = true;
    file.entry.mode = 0755;
    file.entry.link_target = target;
    manifest.files.push_back(file);
  };
  other(EntryKind::kDirectory, "", "");
  manifest.files.push_back(AFile("model.safetensors"));
  other(EntryKind::kDirectory, "sub", "");
  other(EntryKind::kSymlink, "sub/link", "../model.safetensors");
  manifest.files.push_back(AFile("sub/again"));
  return manifest;
}

void ExpectEqual(const Manifest& a, const Manifest& b) {
  ASSERT_EQ(a.files.size(), b.files.size());
  for (size_t i = 0; i < a.files.size(); ++i) {
    const Entry& x = a.files[i].entry;
    const Entry& y = b.files[i].entry;
    EXPECT_EQ(x.kind, y.kind);
    EXPECT_EQ(x.path, y.path);
    EXPECT_EQ(x.has_metadata, y.has_metadata);
    EXPECT_EQ(x.mode, y.mode);
    EXPECT_EQ(x.mtime_seconds, y.mtime_seconds);
    EXPECT_EQ(x.mtime_nanoseconds, y.mtime_nanoseconds);
    EXPECT_EQ(x.link_target, y.link_target);
    EXPECT_EQ(x.size, y.size);
    EXPECT_EQ(x.sha256, y.sha256);
    EXPECT_EQ(x.layout.format, y.layout.format);
    ASSERT_EQ(x.layout.segments.size(), y.layout.segments.size());
    ASSERT_EQ(a.files[i].parts.size(), b.files[i].parts.size());
    for (size_t k = 0; k < x.layout.segments.size(); ++k) {
      const Segment& s = x.layout.segments[k];
      const Segment& t = y.layout.segments[k];
      EXPECT_EQ(s.name, t.name);
      EXPECT_EQ(s.dtype, t.dtype);
      EXPECT_EQ(s.shape, t.shape);
      EXPECT_EQ(s.offset, t.offset);
      EXPECT_EQ(s.length, t.length);
      EXPECT_EQ(a.files[i].parts[k].object, b.files[i].parts[k].object);
      EXPECT_EQ(a.files[i].parts[k].literal, b.files[i].parts[k].literal);
    }
  }
}

absl::Status ParseStatus(const Manifest& manifest) {
  return ParseManifest(WriteManifest(manifest)).status();
}

TEST(Manifests, ComeBack) {
  const Manifest tree = ATree();
  const auto back = ParseManifest(WriteManifest(tree));
  ASSERT_TRUE(back.ok()) << back.status();
  ExpectEqual(*back, tree);
  Manifest single;
  single.files.push_back(AFile("model.gguf"));
  const auto file = ParseManifest(WriteManifest(single));
  ASSERT_TRUE(file.ok()) << file.status();
  ExpectEqual(*file, single);
}

TEST(Manifests, RefuseDamage) {
  const std::vector<uint8_t> bytes = WriteManifest(ATree());
  const auto parse = [](ByteSpan damaged) {
    return ParseManifest(damaged).status();
  };
  ExpectRefusesDamage(bytes, parse);
  ExpectStandsForgery(bytes, parse);
}

TEST(Manifests, AreTrees) {
  Manifest none;
  EXPECT_FALSE(ParseStatus(none).ok());
  for (const std::string& path :
       std::vector<std::string>{"", "a/b", "/etc/passwd", "..", "../x"}) {
    Manifest single;
    single.files.push_back(AFile(path));
    EXPECT_FALSE(ParseStatus(single).ok()) << path;
  }
  for (const std::string& path : std::vector<std::string>{
           "model.safetensors", "sub", "none/x", "sub/../x",
           "model.safetensors/x", "sub/link/x"}) {
    Manifest tree = ATree();
    tree.files.push_back(AFile(path));
    EXPECT_FALSE(ParseStatus(tree).ok()) << path;
  }
  Manifest tree = ATree();
  tree.files.erase(tree.files.begin());
  EXPECT_FALSE(ParseStatus(tree).ok());
}

TEST(Manifests, SegmentsTileTheirFile) {
  for (const uint64_t size : {uint64_t{564}, uint64_t{566}, UINT64_MAX}) {
    Manifest single;
    single.files.push_back(AFile("f"));
    single.files[0].entry.size = size;
    EXPECT_EQ(ParseStatus(single).code(), absl::StatusCode::kDataLoss);
  }
  // Together more than there can be, each for itself possible.
  Manifest tree = ATree();
  for (const size_t i : {size_t{1}, size_t{4}}) {
    Manifest::File& file = tree.files[i];
    file.entry.size = INT64_MAX;
    file.entry.layout.segments[1].length += INT64_MAX - 565;
  }
  EXPECT_EQ(ParseStatus(tree).code(), absl::StatusCode::kDataLoss);
}

TEST(Manifests, CountsAreBoundedByTheirBytes) {
  // A file of 2^60 segments in a manifest of few bytes.
  Buffer bytes;
  ByteWriter writer(&bytes);
  Manifest single;
  single.files.push_back(AFile("f"));
  const std::vector<uint8_t> whole = WriteManifest(single);
  // Magic, version, count, head, size, SHA-256, "safetensors".
  const size_t before_count =
      8 + 1 + 1 + (1 + 1 + 2 + 1 + 2 + 5 + 5) + 2 + 32 + 12;
  ASSERT_EQ(whole[before_count], 5) << "the number of segments";
  writer.Bytes(ByteSpan(whole).first(before_count));
  writer.Varint(uint64_t{1} << 60);
  EXPECT_EQ(ParseManifest(Hashed(bytes.span())).status().code(),
            absl::StatusCode::kDataLoss);
}

std::vector<TensorSketch> SomeSketches() {
  std::vector<TensorSketch> sketches(2);
  sketches[0].object = DigestOf("a");
  sketches[0].log2_elements = 12;
  sketches[0].bits = {1, 2, 3, 4, 5, 6, 7, UINT64_MAX};
  sketches[1].object = DigestOf("b");
  sketches[1].log2_elements = kNearSketch + 30;
  return sketches;
}

TEST(Sketches, ComeBack) {
  const auto back = ParseSketches(WriteSketches(SomeSketches()));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, SomeSketches());
  EXPECT_TRUE(ParseSketches(WriteSketches({})).ok());
}

TEST(Sketches, RefuseDamage) {
  const std::vector<uint8_t> bytes = WriteSketches(SomeSketches());
  const auto parse = [](ByteSpan damaged) {
    return ParseSketches(damaged).status();
  };
  ExpectRefusesDamage(bytes, parse);
  ExpectStandsForgery(bytes, parse);
  std::vector<TensorSketch> large = SomeSketches();
  large[0].log2_elements = 49;
  EXPECT_FALSE(ParseSketches(WriteSketches(large)).ok());
}

}  // namespace
}  // namespace zipllm::store
